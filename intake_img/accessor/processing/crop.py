"""Regions by axis name, in pixels or in the units of the coordinates, as ranges of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, number
from intake_img.accessor.lengths import position
from intake_img.errors import AxesError
from intake_img.model.axes import spell
from intake_img.model.units import has_unit

__all__ = ["as_region", "window"]


def as_region(crd: Any, region: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    """Return a region by axis name, from ``(x_min, x_max, y_min, y_max)`` or a mapping."""
    if crd is not None and region is not None:
        raise ValueError(f"crd={crd!r} and region={region!r}: give one of them")
    if crd is not None:
        if isinstance(crd, (Mapping, str, bytes)) or not hasattr(crd, "__len__") or len(crd) != 4:
            raise ValueError(f"crd={crd!r}: expected (x_min, x_max, y_min, y_max); other axes with region=")
        for k, limit in enumerate(crd):
            if limit is not None and not has_unit(limit):
                number(f"crd[{k}]", limit)
        if any(None not in pair and not any(map(has_unit, pair)) and pair[0] > pair[1] for pair in (crd[:2], crd[2:])):
            raise ValueError(f"crd={crd!r}: a minimum must not be greater than its maximum")
        return {"x": (crd[0], crd[1]), "y": (crd[2], crd[3])}
    if region is None:
        return {}
    if not isinstance(region, Mapping):
        raise TypeError(f"region={region!r}: expected a mapping such as {{'x': (0, 100)}}")
    for axis, limits in region.items():
        if isinstance(limits, (str, bytes)) or not hasattr(limits, "__len__") or len(limits) != 2:
            raise ValueError(f"region[{axis!r}]={limits!r}: expected (low, high)")
    return {str(a): (v[0], v[1]) for a, v in region.items()}


def window(array: xr.DataArray | xr.Dataset, axis: str, limits: tuple[Any, Any], system: str) -> tuple[int, int]:
    """Return the pixels whose centre lies between two positions, as a half-open range.

    Parameters
    ----------
    array : xarray.DataArray or Dataset
    axis : str
    limits : (low, high)
        None leaves a side open. A value with a unit (``"3 µm"``) is a physical position, whatever `system` is.
    system : {"pixel", "physical"}
        The meaning of bare numbers. In pixels, pixel k extends from k to k + 1, so that integers act as in a slice. In
        physical coordinates (numbers in the unit of the axis) the region has the pixels whose coordinate lies within
        the limits, including both ends.

    Raises
    ------
    ValueError
        If the region is empty, the limits are in the wrong order, or the axis has no coordinate.
    """
    choice("coordinate_system", system, ("pixel", "physical"))
    if axis not in array.dims:
        raise AxesError(f"the region names the axis {axis!r}, but the image has {spell(tuple(map(str, array.dims)))!r}")
    n = array.sizes[axis]
    names = f"region (crd=, region=) {axis!r}"
    physical = [v is not None and (has_unit(v) or system == "physical") for v in limits]
    low, high = (_limit(names, v, array, axis) for v in limits)
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    if physical[0] == physical[1] and low > high:
        raise ValueError(f"region[{axis!r}]={limits!r}: the first must not be greater than the second")
    centres = _coordinate(array, axis) if any(physical) else np.arange(n) + 0.5
    slack = 1e-9 * float(np.abs(np.diff(centres)).min()) if n > 1 and any(physical) else 0.0
    above = centres >= low - slack if physical[0] else np.arange(n) + 0.5 >= low
    below = centres <= high + slack if physical[1] else np.arange(n) + 0.5 < high
    inside = np.flatnonzero(above & below)
    if not inside.size:
        reach = f"{centres.min() if n else 0:g} to {centres.max() if n else 0:g}"
        raise ValueError(
            f"the region (crd=, region=) {axis!r}: {limits!r} contains no pixel: their centres lie from {reach} "
            f"({system})"
        )
    if inside[-1] - inside[0] + 1 != inside.size:
        raise ValueError(f"region[{axis!r}]={limits!r} is not one range of pixels: the coordinate is not sorted")
    return int(inside[0]), int(inside[-1]) + 1


def _limit(name: str, value: Any, array: xr.DataArray | xr.Dataset, axis: str) -> float | None:
    if value is None:
        return None
    return position(name, value, array, axis) if has_unit(value) else number(name, value)


def _coordinate(array: xr.DataArray | xr.Dataset, axis: str) -> np.ndarray:
    if axis not in array.coords or array[axis].dtype.kind not in "iuf":
        raise ValueError(
            f"coordinate_system='physical': axis {axis!r} has no coordinate; give pixels (coordinate_system='pixel')"
        )
    return array[axis].values.astype(float)
