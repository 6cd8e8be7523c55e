"""Gatan DigitalMicrograph: calibrations in private tags of the TIFF files that it exports.

Source: RosettaSciIO's ``tiff`` reader, which lists the tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.facts import TiffFacts
from intake_img.model.units import known_spacing, parse_unit
from intake_img.model.untrusted import finite

if TYPE_CHECKING:
    import tifffile

__all__ = ["gatan", "gatan_tags", "has_gatan_tags"]

_AXES = ("x", "y", "stack")
_FIELDS = {"unit": 65003, "origin": 65006, "scale": 65009}  # of x; those of y and of the stack follow
_INTENSITY = {"unit": 65022, "origin": 65024, "scale": 65025}


def has_gatan_tags(page: tifffile.TiffPage) -> bool:
    return 65009 in page.tags and 65010 in page.tags


def gatan_tags(page: tifffile.TiffPage) -> dict[str, dict[str, Any]]:
    """Return unit, origin and scale of each axis, and of the intensity, as far as they are there."""
    codes = {a: {name: code + k for name, code in _FIELDS.items()} for k, a in enumerate(_AXES)}
    found = {
        a: {name: page.tags.valueof(code) for name, code in tags.items() if code in page.tags}
        for a, tags in {**codes, "intensity": _INTENSITY}.items()
    }
    return {a: values for a, values in found.items() if values}


def gatan(view: View) -> TiffFacts:
    """Axes with a unit of length or time; a stack is along t or z by its unit."""
    spacing: dict[str, float] = {}
    units: dict[str, str] = {}
    origin: dict[str, float] = {}
    lead = None
    for name, tags in gatan_tags(view.page).items():
        scale, unit, axis = known_spacing(tags.get("scale")), parse_unit(tags.get("unit")), name
        if scale is None or unit is None or name == "intensity":
            continue
        if name == "stack":
            axis = "t" if unit.dimension == "time" else "z"
            lead = ((axis.upper(), view.stack),)
        spacing[axis], units[axis] = scale, unit.symbol
        if start := finite(tags.get("origin")):
            origin[axis] = start
    return TiffFacts(spacing, units, origin, lead=lead)
