"""Whether two images, of two files or scenes, have the same spacing, units, origin and channel names."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import UnitsError
from intake_img.model.axes import check_axes
from intake_img.model.units import canonical, convert, known_spacing

if TYPE_CHECKING:
    from intake_img.model.image import Image
    from intake_img.model.variables import Coordinate

__all__ = ["OVERRULED", "REMEDY", "CommonFacts", "Spaced", "disagreement", "facts_of", "overruled_axes", "silent_on"]

OVERRULED = ("spacing", "spacing_units", "origin", "coords")
REMEDY = {
    "spacing": "{'spacing': {...}}",
    "unit": "{'spacing_units': {...}}",
    "origin": "{'origin': {...}}",
    "channel": "{'coords': {'c': [...]}}",
}

_TOLERANCE = 1e-6  # relative, of the spacing


@dataclass(frozen=True)
class Spaced:
    """Spacing of an axis, its unit, and the position of its first sample; None where unknown."""

    spacing: float
    unit: str | None
    origin: float | None


@dataclass(frozen=True)
class CommonFacts:
    """What files of one image must have in common, besides axes, shape and dtype.

    Parameters
    ----------
    axes : mapping of str to Spaced
        For the axes whose spacing is known.
    channels : tuple of str, optional
        Names along ``c``.
    """

    axes: Mapping[str, Spaced] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None


def facts_of(image: Image, axes: Collection[str]) -> CommonFacts:
    """Return the facts of an image along some of its axes.

    The start of a time axis is not among them: it differs from file to file.
    """
    known = {a: found for a in axes if a not in "ics" and (found := _spaced(image, a)) is not None}
    c = image.coords.get("c")
    named = c is not None and "c" in axes and c.axes == ("c",)
    return CommonFacts(known, tuple(map(str, c.values.tolist())) if c is not None and named else None)


def _spaced(image: Image, axis: str) -> Spaced | None:
    c = image.coords.get(axis)
    if c is None:
        step, origin = known_spacing(image.spacing.get(axis)), float(image.origin.get(axis) or 0.0)
    elif c.axes != (axis,) or c.values.dtype.kind not in "iuf" or not c.values.size:
        return None
    else:
        step, origin = known_spacing(_step(c, axis)), float(c.values[0])
    unit = canonical((c.attrs.get("units") if c is not None else None) or image.units.get(axis))
    return None if step is None else Spaced(step, unit, None if axis == "t" else origin)


def _step(c: Coordinate, axis: str) -> Any:
    stated = c.attrs.get("spacing")
    if stated is not None or axis == "t" or c.values.size < 2:  # times that were measured are never quite even
        return stated
    return abs(float(c.values[-1]) - float(c.values[0])) / (c.values.size - 1)


def overruled_axes(overrides: Mapping[str, Any], axes: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return for each kind of fact the axes, as files call them, for which the user's metadata replace it.

    Parameters
    ----------
    overrides : mapping
        The option ``metadata``: ``axes``, ``spacing``, ``spacing_units``, ``origin``, ``coords``.
    axes : sequence of str
        The file's own names of the axes.
    """
    given = dict(overrides)
    named = dict(zip(check_axes(given["axes"]), axes, strict=False)) if "axes" in given else {}
    if isinstance(given.get("spacing_units"), str):
        given["spacing_units"] = "zyx"
    return {k: frozenset(named.get(a, a) for a in given.get(k, ())) for k in OVERRULED}


def disagreement(
    mine: CommonFacts, theirs: CommonFacts, overruled: Mapping[str, Collection[str]]
) -> tuple[str, str, str] | None:
    """Return the first fact that two files state differently, and what each of them says.

    Parameters
    ----------
    mine, theirs : CommonFacts
    overruled : mapping
        Axes for which ``"spacing"``, ``"spacing_units"``, ``"origin"`` or ``"coords"`` do not matter.
    """
    for axis in [a for a in mine.axes if a in theirs.axes and a not in overruled["coords"]]:
        a, b = mine.axes[axis], theirs.axes[axis]
        if axis in overruled["spacing_units"]:  # then the numbers are meant in the unit that was given
            a, b = replace(a, unit=None), replace(b, unit=None)
        for what, same in _SAME.items():
            if axis not in overruled[what] and not same(a, b):
                return f"{_WORDS[what]} of {axis}", _shown(a, what), _shown(b, what)
    both = mine.channels is not None and theirs.channels is not None
    if both and mine.channels != theirs.channels and "c" not in overruled["coords"]:
        return "channel names", str(list(mine.channels or ())), str(list(theirs.channels or ()))
    return None


def silent_on(mine: CommonFacts, theirs: CommonFacts, overruled: Mapping[str, Collection[str]]) -> Sequence[str]:
    """Return what one of two files states and the other does not."""
    given = {*overruled["spacing"], *overruled["coords"]}
    spaced = sorted((set(mine.axes) ^ set(theirs.axes)) - given)
    both = sorted((set(mine.axes) & set(theirs.axes)) - {*overruled["spacing_units"], *overruled["coords"]})
    units = [a for a in both if (mine.axes[a].unit is None) != (theirs.axes[a].unit is None)]
    channels = (mine.channels is None) != (theirs.channels is None) and "c" not in overruled["coords"]
    named = ["the channel names"] if channels else []
    return [*(f"the spacing of {a}" for a in spaced), *(f"the unit of {a}" for a in units), *named]


def _in_unit_of(mine: Spaced, theirs: Spaced, value: float) -> float:
    if mine.unit == theirs.unit or mine.unit is None or theirs.unit is None:
        return value
    try:
        return convert(value, theirs.unit, mine.unit)
    except UnitsError:
        return math.nan


def _same_spacing(a: Spaced, b: Spaced) -> bool:
    return math.isclose(a.spacing, _in_unit_of(a, b, b.spacing), rel_tol=_TOLERANCE)


def _same_unit(a: Spaced, b: Spaced) -> bool:
    return a.unit == b.unit or a.unit is None or b.unit is None or _same_spacing(a, b)


def _same_origin(a: Spaced, b: Spaced) -> bool:
    if a.origin is None or b.origin is None:
        return True
    return bool(np.isclose(a.origin, _in_unit_of(a, b, b.origin), rtol=_TOLERANCE, atol=_TOLERANCE * a.spacing))


_SAME: dict[str, Callable[[Spaced, Spaced], bool]] = {
    "spacing_units": _same_unit,
    "spacing": _same_spacing,
    "origin": _same_origin,
}
_WORDS = {"spacing_units": "unit", "spacing": "spacing", "origin": "origin"}


def _shown(facts: Spaced, what: str) -> str:
    unit = f" {facts.unit}" if facts.unit else ""
    shown = {"spacing_units": facts.unit, "spacing": f"{facts.spacing:.10g}{unit}", "origin": f"{facts.origin}{unit}"}
    return str(shown[what])
