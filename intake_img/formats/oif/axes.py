"""Axes from the settings of FluoView: positions, units, channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.formats.oif.fluoview import Settings, number
from intake_img.formats.oif.plane_files import Group
from intake_img.model.image import Coordinate
from intake_img.model.units import known_spacing, parse_unit

__all__ = ["axis_facts", "letter_of", "planned"]

_SIDES = {"X": "Width", "Y": "Height"}


def letter_of(axis: str) -> str:
    """Return the letter of an axis; rotation is ``r``, as elsewhere."""
    return {"A": "r"}.get(axis, axis.lower())


def axis_facts(main: Settings, group: Group, within: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return spacing, units, origin and coordinates for `Image.single`.

    Parameters
    ----------
    main : Settings
        Of the acquisition.
    group : Group
    within : str
        Axes of a plane; of the overview of a line scan the settings say nothing.
    sizes : mapping of str to int
        Length of each axis.
    """
    facts: dict[str, Any] = {"spacing": {}, "units": {}, "origin": {}, "coords": {}}
    if not group.reference:
        for axis in within:
            _add_axis(facts, main, axis, tuple(range(1, sizes[letter_of(axis)] + 1)))
        for axis, numbers in zip(group.letters, group.numbers, strict=True):
            if axis != "C":
                _add_axis(facts, main, axis, numbers)
    if "C" in group.letters:
        facts["coords"] |= _channels(main, group.numbers[group.letters.index("C")])
    return facts


def planned(main: Settings, axis: str) -> int:
    """Return how many planes, rows or columns along an axis the settings state; 0 if they do not."""
    size = number(_section(main, axis).get("MaxSize"))
    return int(size) if 0 <= size < 2**31 else 0


def _add_axis(facts: dict[str, Any], main: Settings, axis: str, numbers: tuple[int, ...]) -> None:
    """Add what is known of an axis. The positions are those of all that was planned, from number 1."""
    letter, image = letter_of(axis), main.get("Reference Image Parameter", {})
    side = _SIDES.get(axis)
    if side and (step := known_spacing(number(image.get(f"{side}ConvertValue")))) is not None:
        unit = image.get(f"{side}Unit", "um")
        if (known := parse_unit(unit)) is not None and known.dimension == "length":
            facts["spacing"][letter], facts["units"][letter] = step, unit
            return
    section = _section(main, axis)
    start, stop = number(section.get("StartPosition")), number(section.get("EndPosition"))
    unit = section.get("PixUnit") or section.get("UnitName") or ""
    count, places = planned(main, axis), np.asarray(numbers) - 1
    if places.min() < 0 or places.max() >= count:
        count, places = len(numbers), np.arange(len(numbers))
    if count < 2 or start == stop or not math.isfinite(stop - start) or parse_unit(unit) is None:
        return
    facts["units"][letter] = unit
    step = (stop - start) / (count - 1)
    if step > 0 and (np.diff(places) == 1).all():
        facts["spacing"][letter], facts["origin"][letter] = step, start + step * float(places[0])
    else:
        facts["coords"][letter] = Coordinate((letter,), start + step * places)


def _section(main: Settings, axis: str) -> Mapping[str, str]:
    sections = (v for k, v in main.items() if k.startswith("Axis ") and k.endswith(" Parameters Common"))
    return next((s for s in sections if s.get("AxisCode") == axis), {})


def _channels(main: Settings, numbers: tuple[int, ...]) -> dict[str, Coordinate]:
    """Names of dyes where each channel has one of its own, else of channels; wavelengths in nm."""
    every = [main.get(f"Channel {n} Parameters", {}) for n in numbers]
    dyes = ["" if (dye := c.get("DyeName", "")) == "None" else dye for c in every]
    names = next((v for v in (dyes, [c.get("CH Name", "") for c in every]) if all(v) and len(set(v)) == len(v)), None)
    if names is None:
        return {}
    attrs = {}
    for key, name in (("emission_wavelength", "EmissionWavelength"), ("excitation_wavelength", "ExcitationWavelength")):
        waves = [number(c.get(name)) for c in every]
        if all(w > 0 for w in waves):
            attrs[key] = waves
    return {"c": Coordinate(("c",), np.asarray(names), attrs)}
