"""Axes of TIA images, from the series and from the ``.emi`` file beside it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from intake_img.formats.tia.ser import Calibration, TiaSeries
from intake_img.model.image import Coordinate
from intake_img.model.units import known_spacing, parse_unit
from intake_img.model.untrusted import xml_root

__all__ = ["axis_facts", "conditions", "letters_of"]

_OBJECT = re.compile(rb"<ObjectInfo>.*?</ObjectInfo>", re.DOTALL)
_PRIVATE = ("User",)
_METRES = ("m", "meter", "meters", "metre", "metres")


def conditions(data: bytes, number: int) -> dict[str, str]:
    """Return what the XML in an ``.emi`` file says of the microscope for series `number`, without names of people."""
    found = _OBJECT.findall(data)
    if not found:
        return {}
    root = xml_root(found[min(number, len(found) - 1)].decode("utf-8", "replace"), "the XML of its .emi file")
    entries = ((d.findtext("Label"), d.findtext("Value"), d.findtext("Unit")) for d in root.iter("Data"))
    return {
        label: f"{value or ''} {unit or ''}".strip()
        for label, value, unit in entries
        if label and label not in _PRIVATE
    }


def letters_of(series: TiaSeries) -> list[str]:
    """Return a letter for each axis of the array, outermost first."""
    own = ["y", "x"] if series.images else ["l"]
    spatial, spare = iter([] if series.images else ["x", "y", "z"]), iter("ijkn")
    outer: list[str] = []
    for dimension in series.dimensions:  # the one that runs fastest first
        known = parse_unit(dimension.unit)
        lengths = dimension.unit.lower() in _METRES or (known is not None and known.dimension == "length")
        time = known is not None and known.dimension == "time" and "t" not in outer
        outer.append("t" if time else next(spatial, "") if lengths else "")
        outer[-1] = outer[-1] or next(spare)
    return outer[::-1] + own


def axis_facts(series: TiaSeries, letters: list[str], shape: tuple[int, ...], diffraction: bool) -> dict[str, Any]:
    """Return spacing, units, origin and coordinates for `Image.single`.

    Parameters
    ----------
    series : TiaSeries
    letters : list of str
    shape : tuple of int
    diffraction : bool
        Whether the microscope was in diffraction mode, so that axes of images are in 1/m. Whoever does not know may say
        False: nothing else has a pixel of more than a metre.
    """
    facts: dict[str, Any] = {"spacing": {}, "units": {}, "origin": {}, "coords": {}}
    own = series.calibrations[::-1]
    outer = [d.calibration for d in series.dimensions[::-1]]
    units = [d.unit for d in series.dimensions[::-1]]
    for letter, size, calibration, unit in zip(letters, shape, [*outer, *own], [*units, *[""] * len(own)], strict=True):
        if letter in "yx" and series.images:
            reciprocal = diffraction or abs(calibration.delta) > 1
            _add(facts, letter, size, calibration, *(("1/nm", 1e9) if reciprocal else ("nm", 1e-9)))
        elif letter == "l":
            _add(facts, letter, size, calibration, "eV", 1.0)
        elif unit.lower() in _METRES:
            _add(facts, letter, size, calibration, "nm", 1e-9)
        elif letter == "t":
            _add(facts, letter, size, calibration, unit, 1.0)
    return facts


def _add(facts: dict[str, Any], letter: str, size: int, calibration: Calibration, unit: str, worth: float) -> None:
    step, origin = calibration.delta / worth, calibration.origin / worth
    if known_spacing(abs(step)) is None or not np.isfinite(origin):
        return
    facts["units"][letter] = unit
    if step > 0:
        facts["spacing"][letter], facts["origin"][letter] = step, origin
    else:  # scans that ran backwards
        facts["coords"][letter] = Coordinate((letter,), origin + step * np.arange(size))
