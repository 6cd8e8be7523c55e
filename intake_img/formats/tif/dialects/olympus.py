"""Olympus: SIS (analySIS, cell^F and similar programs) and Fluoview.

No specification of SIS is published; what tifffile reads of it is used, and what has a unit that is not known (the
positions of ``[Z]``) stays in the header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.facts import TiffFacts
from intake_img.model.image import Coordinate
from intake_img.model.units import known_spacing, parse_unit

if TYPE_CHECKING:
    import tifffile

__all__ = ["fluoview", "sis", "sis_of"]

_DIMENSIONS = {"length": {"X": "x", "Y": "y", "Z": "z"}, "time": {"T": "t", "TIME": "t"}}


def sis_of(page: tifffile.TiffPage) -> dict[str, Any]:
    """Return the metadata of a page: a file may begin with a preview that has none."""
    return {**page.tags.valueof(33471, {}), **page.tags.valueof(33560, {})}


def sis(view: View) -> TiffFacts:
    """Sizes of pixels are in metres; times have no unit."""
    found = sis_of(view.page)
    sizes = {axis: known_spacing(found.get(f"pixelsize{axis}")) for axis in "xy"}
    spacing = {axis: 1e6 * size for axis, size in sizes.items() if size is not None}
    bands = found.get("Band")
    names = [str(band.get("BandName") or "").strip() for band in bands] if isinstance(bands, list) else []
    count = view.sizes.get("c", 1)
    return TiffFacts(
        spacing,
        dict.fromkeys(spacing, "µm"),
        {},
        names if len(names) == count and all(names) else None,
        {},
        _times(found, view),
    )


def _times(found: Mapping[str, Any], view: View) -> Coordinate | None:
    section = found.get("Time")
    values = np.asarray(section.get("TimePos", ()) if isinstance(section, Mapping) else (), dtype=float)
    count = view.sizes.get("t", 1)
    rising = values.shape == (count,) and count > 1 and (np.diff(values) > 0).all()
    return Coordinate(("t",), values - values[0]) if rising else None


def fluoview(view: View) -> TiffFacts:
    """Fluoview's header: for each dimension its name, size, origin, resolution and unit."""
    spacing: dict[str, float] = {}
    units: dict[str, str] = {}
    origin: dict[str, float] = {}
    for name, _, start, step, unit in (view.tif.fluoview_metadata or {}).get("Dimensions", ()):
        known, length = parse_unit(unit), known_spacing(step)
        axis = _DIMENSIONS[known.dimension].get(str(name).upper()) if known is not None else None
        if axis is None or known is None or length is None:
            continue
        spacing[axis], units[axis] = length, known.symbol
        if np.isfinite(start) and start:
            origin[axis] = float(start)
    return TiffFacts(spacing, units, origin)
