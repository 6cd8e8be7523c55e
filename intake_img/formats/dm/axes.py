"""Axes of a DigitalMicrograph image: letters by their units, and calibrations.

A calibration has a scale, a unit, and an origin in pixels: value = (index - origin) * scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.formats.dm.tags import Short, members
from intake_img.model.image import Coordinate
from intake_img.model.units import known_spacing, parse_unit

__all__ = ["axis_facts", "letters"]

_ENERGIES = ("ev", "kev", "ev/ch")
_SPATIAL = "xyz"
_SPARE = "ijkmn"


def letters(tags: Mapping[str, Any], count: int) -> list[str]:
    """Return a letter for each axis, the one that runs fastest first."""
    units = [_calibration(tags, k)[2] for k in range(count)]
    found = [_special(unit) for unit in units]
    energy = 0 if count < 3 else count - 1  # it runs slowest beside x and y
    if "l" not in found and not units[energy] and _format(tags).startswith("Spectrum"):
        found[energy] = "l"
    spare = iter(_SPATIAL + _SPARE)
    seen: list[str] = []
    for letter in found:
        seen.append(letter if letter and letter not in seen else next(spare))
    return seen


def _special(unit: str) -> str | None:
    if unit.lower() in _ENERGIES:
        return "l"
    known = parse_unit(unit)
    return "t" if known is not None and known.dimension == "time" else None


def _format(tags: Mapping[str, Any]) -> str:
    image_tags = dict(tags["ImageTags"]) if isinstance(tags.get("ImageTags"), list) else {}
    meta = dict(image_tags["Meta Data"]) if isinstance(image_tags.get("Meta Data"), list) else {}
    return meta["Format"].text if isinstance(meta.get("Format"), Short) else ""


def axis_facts(tags: Mapping[str, Any], axes: Sequence[str], sizes: Sequence[int]) -> dict[str, Any]:
    """Return spacing, units, origin and coordinates for `Image.single`; a scale of 1 without a unit is unknown."""
    facts: dict[str, Any] = {"spacing": {}, "units": {}, "origin": {}, "coords": {}}
    for k, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        scale, origin, unit = _calibration(tags, k)
        if known_spacing(abs(scale)) is None or not np.isfinite(origin) or (scale == 1.0 and not unit):
            continue
        if unit:
            facts["units"][axis] = unit
        if scale > 0:
            facts["spacing"][axis], facts["origin"][axis] = scale, -origin * scale
        else:
            facts["coords"][axis] = Coordinate((axis,), (np.arange(size) - origin) * scale)
    return facts


def _calibration(tags: Mapping[str, Any], number: int) -> tuple[float, float, str]:
    """Scale, origin and unit of an axis."""
    data = dict(tags["ImageData"])
    calibrations = dict(data["Calibrations"]) if isinstance(data.get("Calibrations"), list) else {}
    every = members(calibrations.get("Dimension"))
    facts = dict(every[number]) if number < len(every) else {}
    unit = facts["Units"].text.strip() if isinstance(facts.get("Units"), Short) else ""
    scale, origin = (_number(facts.get(name)) for name in ("Scale", "Origin"))
    return scale, origin, unit


def _number(value: Any) -> float:
    """A float32 as the decimal that it stands for."""
    return float(str(np.float32(value))) if isinstance(value, (int, float)) else float("nan")
