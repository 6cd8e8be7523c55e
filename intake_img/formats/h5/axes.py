"""Axes: positions along an axis as spacing and origin, and names of dimensions as letters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.formats.h5.tree import attribute, attributes_of, text_of
from intake_img.model.image import Coordinate
from intake_img.model.units import canonical, known_spacing

__all__ = ["AxisFacts", "letters_of", "scales_of"]

_LETTERS = {
    "time": "t",
    "frame": "t",
    "frames": "t",
    "channel": "c",
    "channels": "c",
    "depth": "z",
    "energy": "l",
    "wavelength": "l",
    "emission": "l",
    "excitation": "e",
}
_SCALE = 2**20  # values along an axis that are read before a pixel is asked for


@dataclass
class AxisFacts:
    """What a file says of its axes, as `Image` takes it."""

    axes: tuple[str, ...]
    spacing: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
    coords: dict[str, Coordinate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.axes = tuple(self.axes)

    @property
    def facts(self) -> dict[str, Any]:
        """Keywords of `Image`."""
        return {"spacing": self.spacing, "units": self.units, "origin": self.origin, "coords": self.coords}

    def step(self, axis: str, spacing: Any, unit: Any, origin: Any = 0.0) -> None:
        """Note the spacing of an axis, if it is one."""
        if axis not in self.axes or (known := known_spacing(spacing)) is None:
            return
        self.spacing[axis] = known
        if (symbol := canonical(unit)) is not None:
            self.units[axis] = symbol
        if isinstance(origin, (int, float)) and math.isfinite(origin) and origin:
            self.origin[axis] = float(origin)

    def positions(self, axis: str, values: np.ndarray, unit: Any = None) -> None:
        """Note the positions along an axis: as spacing and origin where they are even, else one by one."""
        if values.dtype.kind in "SUO":
            self.coords[axis] = Coordinate((axis,), np.asarray([text_of(v) for v in values.tolist()]))
            return
        if (step := _even(values)) is not None:
            self.step(axis, step, unit, float(values[0]))
        elif values.size > 1 and np.isfinite(values).all() and np.unique(values).size == values.size:
            symbol = canonical(unit)
            self.coords[axis] = Coordinate((axis,), values, {"units": symbol} if symbol else {})


def _even(values: np.ndarray) -> float | None:
    """The step between positions that rise evenly, within the accuracy of their type."""
    if values.size < 2 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return None
    exact = values.astype(float)
    step = float(exact[-1] - exact[0]) / (values.size - 1)
    least = np.finfo(values.dtype).eps if values.dtype.kind == "f" else np.finfo(float).eps
    tolerance = 1e-6 * abs(step) + 4 * float(least) * float(np.abs(exact).max())
    even = step > 0 and bool((np.abs(np.diff(exact) - step) <= tolerance).all())
    return float(f"{step:.{8 if least > 1e-10 else 14}g}") if even else None


def letters_of(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return a letter for each name of a dimension, the name itself where it has none; None if they do not name all.

    Examples
    --------
    >>> letters_of(["time", "Z", "detector"])
    ('t', 'z', 'detector')
    >>> letters_of(["y", ""]) is None
    True
    """
    found = []
    for name in names:
        lower = name.strip().lower()
        found.append(lower if len(lower) == 1 and lower.isalpha() else _LETTERS.get(lower, name.strip()))
    return tuple(found) if all(found) and len(set(found)) == len(found) else None


def scales_of(dataset: Any, names: Sequence[str] = ()) -> list[tuple[str, Mapping[str, Any]]]:
    """Return, for each axis of a dataset, the name of the dimension and its scale, if there is one.

    Parameters
    ----------
    dataset : h5py.Dataset
    names : sequence of str
        Further attributes of the scales.

    Returns
    -------
    list of (str, dict)
        The name may be empty; the dict contains ``values``, ``unit`` and ``attributes``, or nothing.
    """
    return [_scale(dataset, k, names) for k in range(len(dataset.shape))]


def _scale(dataset: Any, axis: int, names: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    try:
        dimension = dataset.dims[axis]
        label, scale = dimension.label, dimension[0] if len(dimension) else None
        if scale is None:
            return label, {}
        name = label or text_of(attribute(scale, "NAME")) or scale.name.rpartition("/")[2]
        if name.startswith("This is a netCDF dimension"):  # but not a variable: only its name is meant
            return scale.name.rpartition("/")[2], {}
        name = name.rpartition("/")[2]
        if scale.shape != (dataset.shape[axis],) or scale.size > _SCALE or scale.dtype.kind not in "iufSO":
            return name, {}
        unit, attributes = text_of(attribute(scale, "units")), attributes_of(scale, names) if names else {}
        return name, {"values": scale[()], "unit": unit, "attributes": attributes}
    except (KeyError, OSError, RuntimeError, TypeError, ValueError):  # of damaged files
        return "", {}
