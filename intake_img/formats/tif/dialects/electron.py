"""Electron microscopes: Zeiss SmartSEM, FEI and Thermo Fisher, TVIPS. Lengths become nanometres.

Sources: tifffile's parsers of the tags 34118, 34680, 34682 and 37706; the unnamed values of Zeiss as Gwyddion's
``zeiss.c`` knows them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from intake_img.errors import UnitsError
from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.facts import TiffFacts
from intake_img.model.units import convert, known_spacing

__all__ = ["fei", "tvips", "zeiss"]

_UNIT = "nm"
_SCREEN = 1024  # columns of the screen, to which Zeiss's sizes refer where they do not name the image


def _square(sizes: Mapping[str, float | None]) -> TiffFacts:
    """Return the facts of an image with pixel sizes, if known, in nm."""
    spacing = {a: v for a, v in sizes.items() if v is not None}
    return TiffFacts(spacing, dict.fromkeys(spacing, _UNIT))


def zeiss(view: View) -> TiffFacts:
    """Zeiss SmartSEM: the pixel size of the image with its unit, rounded; that of the screen, also exact.

    The exact size is used where it agrees with the rounded one of the image: a cropped image has another number of
    columns.
    """
    found = view.tif.sem_metadata or {}
    rounded = _zeiss_size(found.get("ap_image_pixel_size"))
    unnamed = found.get("", ())
    screen = _metres(unnamed[3]) if len(unnamed) > 3 else None
    screen = screen or _zeiss_size(found.get("ap_pixel_size"))
    exact = screen * _SCREEN / _columns(found, view.page.imagewidth) if screen else None
    close = rounded is None or (exact is not None and abs(exact - rounded) < 0.01 * rounded)
    size = exact if close else rounded
    return _square({"x": size, "y": size})


def _columns(found: Mapping[str, Any], default: int) -> int:
    """Return the number of columns that were stored, ``1024 * 768``."""
    entry = found.get("dp_image_store")
    stored = re.match(r"[1-9]\d{0,5}(?= \*)", str(entry[1])) if isinstance(entry, tuple) and len(entry) > 1 else None
    return int(stored[0]) if stored else default


def _zeiss_size(entry: Any) -> float | None:
    """Return a named size in nm: (title, number, unit)."""
    if not isinstance(entry, tuple) or len(entry) != 3:
        return None
    try:
        return known_spacing(convert(float(entry[1]), entry[2], _UNIT))
    except (UnitsError, TypeError, ValueError):
        return None


def fei(view: View) -> TiffFacts:
    """FEI and Thermo Fisher: metres, in the section of the scan or, in newer files, of the beam that was used."""
    found = view.tif.fei_metadata or {}
    beam = _section(found, "Beam")
    scan, column = str(beam.get("Scan", "EScan")), str(beam.get("Beam", "EBeam"))
    for section in ("Scan", scan, "EScan", "IScan"):
        sizes = {a: _metres(_section(found, section).get(k)) for a, k in (("x", "PixelWidth"), ("y", "PixelHeight"))}
        if all(sizes.values()):
            return _square(sizes)
    image = _section(found, "Image")
    fields = (("x", "HFW", "ResolutionX"), ("y", "VFW", "ResolutionY"))
    return _square({a: _ratio(_section(found, column).get(width), image.get(n)) for a, width, n in fields})


def _section(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = found.get(name)
    return section if isinstance(section, Mapping) else {}


def _metres(value: Any) -> float | None:
    size = known_spacing(value)
    return None if size is None else size * 1e9


def _ratio(width: Any, count: Any) -> float | None:
    whole, n = _metres(width), known_spacing(count)
    return whole / n if whole and n else None


def tvips(view: View) -> TiffFacts:
    """TVIPS EM-MENU: nanometres, in headers of version 2."""
    found = view.tif.tvips_metadata or {}
    return _square({axis: known_spacing(found.get(f"PixelSize{axis.upper()}")) for axis in "xy"})
