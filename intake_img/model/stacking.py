"""Images of equal axes and shapes, such as the scenes of a file or the fields of a plate, as one image along ``i``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.errors import AxesError, warn
from intake_img.model.agreement import OVERRULED, REMEDY, disagreement, facts_of, silent_on
from intake_img.model.axes import spell
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import stack

__all__ = ["stacked"]

_LABELLED = ("t", "c")  # axes of which the first image's coordinate is kept where others differ
_NOTHING: dict[str, Collection[str]] = dict.fromkeys(OVERRULED, ())


def stacked(images: Sequence[Image], overruled: Mapping[str, Collection[str]] = _NOTHING) -> Image:
    """Return images of equal axes and shapes as one, with the names of their scenes along ``i``.

    Parameters
    ----------
    images : sequence of Image
        Their spacing, units and channel names agree. Positions on the stage may differ: the stack has none then.
    overruled : mapping
        Axes whose facts (``"spacing"``, ``"spacing_units"``, ``"coords"``) the user states, so that they may differ.

    Returns
    -------
    Image
        Attributes and coordinates that all images share stay as they are. Further coordinates that differ (exposure
        times, say) and attributes that differ, if they are text or numbers, lie along ``i``. Where the times of the
        frames differ, ``t`` has those of the first image and the coordinate ``time`` (i, t) those of each.

    Raises
    ------
    AxesError
        If the images differ in axes, shapes, variables, spacing, units or channel names, or have an axis ``i``.
    """
    first = images[0]
    if "i" in first.sizes:
        raise AxesError("scenes cannot be stacked on 'i': the images have an axis 'i' already")
    for other in images[1:]:
        _check_variables(first, other)
        _check_facts(first, other, overruled)
    # positions of a scene on the stage differ: they cannot be coordinates of the stack
    origin = {a: o for a, o in first.origin.items() if all(im.origin.get(a) == o for im in images)}
    coords = dict(_coordinates(images))
    spaced = facts_of(first, set(first.coords) - set(coords)).axes
    names = Coordinate(("i",), np.asarray([im.scene for im in images]))
    return replace(
        first,
        variables={name: _variable(name, images) for name in first.variables},
        coords={**_along(images), **coords, "i": names},
        spacing={**first.spacing, **{a: s.spacing for a, s in spaced.items()}},
        units={**first.units, **{a: s.unit for a, s in spaced.items() if s.unit}},
        origin=origin,
        attrs=_shared([im.attrs for im in images]),
        scene="all",
    )


def _check_variables(first: Image, other: Image) -> None:
    for name in {**first.variables, **other.variables}:
        v, w = first.variables.get(name), other.variables.get(name)
        if v is None or w is None or w.axes != v.axes or w.pixels.shape != v.pixels.shape:
            raise AxesError(
                f"scenes cannot be stacked: {name!r} of {first.scene!r} is {_shown(v)}, of {other.scene!r} {_shown(w)}"
                "; load them one by one with scene="
            )


def _shown(v: Variable | None) -> str:
    return "missing" if v is None else f"{spell(v.axes)} {v.pixels.shape}"


def _check_facts(first: Image, other: Image, overruled: Mapping[str, Collection[str]]) -> None:
    axes = tuple(first.sizes)
    known = {**overruled, "origin": axes}
    ours, others = facts_of(first, axes), facts_of(other, axes)
    if lost := silent_on(ours, others, known):
        warn(
            f"scenes {first.scene!r} and {other.scene!r} do not state the same of the image: only one of them knows "
            f"{' and '.join(lost)}; the stack has what the first one states"
        )
    if (found := disagreement(ours, others, known)) is not None:
        what, mine, theirs = found
        raise AxesError(
            f"scenes cannot be stacked: the {what} is {mine} in {first.scene!r}, but {theirs} in {other.scene!r}; load "
            f"them one by one with scene=, or give the correct value with metadata={REMEDY[what.split()[0]]}"
        )


def _variable(name: str, images: Sequence[Image]) -> Variable:
    each = [im.variables[name] for im in images]
    dtype = np.result_type(*{v.pixels.dtype for v in each})
    pixels = stack([v.pixels.astype(dtype) for v in each])
    return Variable(pixels, ("i", *each[0].axes), _shared([v.attrs for v in each]))


def _coordinates(images: Sequence[Image]) -> Iterator[tuple[str, Coordinate]]:
    """Yield the coordinates that all images have: as they are, or along ``i`` where they differ.

    Of an axis in space that starts elsewhere in each image, only the spacing is kept.
    """
    for name, c in images[0].coords.items():
        each = [im.coords[name] for im in images if name in im.coords]
        if len(each) < len(images) or any(o.axes != c.axes or o.values.shape != c.values.shape for o in each):
            continue
        attrs = _shared([o.attrs for o in each])
        equal = all(np.array_equal(o.values, c.values) for o in each)
        if equal or name in _LABELLED:
            yield name, replace(c, attrs=attrs)
        if not equal and (name == "t" or name not in images[0].sizes):
            values = np.stack([o.values for o in each])
            yield "time" if name == "t" else name, Coordinate(("i", *c.axes), values, attrs)


def _shared(attrs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = attrs
    return {k: v for k, v in first.items() if all(k in o and _same(o[k], v) for o in others)}


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)


def _along(images: Sequence[Image]) -> dict[str, Coordinate]:
    """Return the attributes that differ and are text or numbers, as coordinates along ``i``."""
    found = {}
    for name in images[0].attrs:
        values = [im.attrs.get(name) for im in images]
        alike = {type(v) for v in values} in ({str}, {int}, {float})
        if alike and len(set(values)) > 1 and name not in images[0].sizes:
            found[name] = Coordinate(("i",), np.asarray(values))
    return found
