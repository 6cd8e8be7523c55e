"""Lengths in physical units: this module converts the lengths and positions of an image.

A *length* (a size, a distance, a radius) is in the **common unit** of the image: the unit of ``x``; if ``x`` has none,
that of ``y``, then of ``z``. A bare number is a length in the common unit, whatever the units of the other axes are. A
*position* (a value on a coordinate, as in ``ds.sel``, or in a table of blobs) is in the unit of its own axis. Both may
state their unit: ``"3 µm"``, ``"300 nm"``, a quantity of pint or astropy. An axis with a coordinate but without a unit
is taken to be in the common unit. Lengths along axes that are not space (``t``) are in the unit of their axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, integer, number, per_axis
from intake_img.accessor.variables import spatial_axes
from intake_img.errors import UnitsError
from intake_img.model.axes import SPATIAL
from intake_img.model.datasets import spacing_of
from intake_img.model.units import PIXEL, Quantity, convert, has_unit, parse_unit, quantity, symbol

__all__ = ["common_unit", "in_common", "length", "pixels", "position", "step_of", "unit_of", "voxel_size"]


def unit_of(array: xr.DataArray | xr.Dataset, axis: str) -> str | None:
    """Return the symbol of the unit of an axis; None if it has none."""
    return symbol(array[axis].attrs.get("units")) if axis in array.dims and axis in array.coords else None


def common_unit(array: xr.DataArray | xr.Dataset) -> str | None:
    """Return the unit of lengths in space: the unit of ``x``, else of ``y``, else of ``z``.

    Examples
    --------
    >>> z = xr.Variable("z", [0.0, 500.0], {"units": "nm"})
    >>> x = xr.Variable("x", [0.0, 0.1], {"units": "micron"})
    >>> common_unit(xr.DataArray([[0, 1], [2, 3]], dims=("z", "x"), coords={"z": z, "x": x}))
    'µm'
    """
    return next((unit for axis in reversed(SPATIAL) if (unit := unit_of(array, axis))), None)


def in_common(array: xr.DataArray, axis: str, values: Any) -> Any:
    """Convert values of the coordinate of an axis to the common unit; values of a non-spatial axis are returned as
    given.

    Raises
    ------
    UnitsError
        If the unit of the axis does not convert, or it has no coordinate and so counts pixels.
    """
    if axis not in SPATIAL:
        return values
    unit, to = unit_of(array, axis), common_unit(array)
    if unit is None and (axis in array.coords or array.sizes[axis] <= 1):
        return values
    return _converted(f"axis {axis!r}", values, unit or PIXEL, to or PIXEL)


def step_of(array: xr.DataArray, axis: str) -> float:
    """Return the spacing of an axis in the common unit; for a non-spatial axis, in its own unit.

    Raises
    ------
    ValueError
        If it is not known.
    UnitsError
        If the unit of the axis does not convert to the common unit.
    """
    step = spacing_of(array[axis]) if axis in array.coords else None
    if step is None:
        hint = _flip(array, axis) or f"load with metadata={{'spacing': {{{axis!r}: ...}}}}"
        raise ValueError(
            f"units='physical': the spacing of axis {axis!r} is not known; give pixels (units='pixel'), or {hint}"
        )
    return in_common(array, axis, step)


def voxel_size(array: xr.DataArray, axis: str) -> float:
    """Return `step_of`, or 1 if no spatial axis has a unit, or the axis is one pixel long.

    Raises
    ------
    UnitsError
        If the spacing of the axis is not known and another axis has a unit: pixels do not convert to lengths.
    """
    step = spacing_of(array[axis]) if axis in array.coords else None
    if step is not None:
        return in_common(array, axis, step)
    unit = common_unit(array) if axis in SPATIAL else None
    if unit in (None, PIXEL) or array.sizes[axis] <= 1:
        return 1.0
    hint = _flip(array, axis) or f"load with metadata={{'spacing': {{{axis!r}: ...}}}}"
    raise UnitsError(
        f"axis {axis!r} has no even spacing and counts pixels, but lengths are in {unit!r}: {hint}, or drop the "
        "coordinates of the other axes to count pixels"
    )


def _flip(array: xr.DataArray, axis: str) -> str | None:
    """Return the advice for an axis whose coordinate decreases, None for any other."""
    if axis not in array.coords or spacing_of(array[axis][::-1]) is None or array.sizes[axis] < 2:
        return None
    return f"flip it, since its coordinate decreases: .isel({axis}=slice(None, None, -1))"


def length(name: str, value: Any, array: xr.DataArray, axis: str | None = None, minimum: float | None = 0) -> float:
    """Return a length in the common unit (along a non-spatial axis, in its unit).

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    value : float, str or quantity
        A bare number is in the common unit already.
    array : xarray.DataArray
    axis : str, optional
        The axis of the length; by default it applies to all spatial axes, and pixels are refused if one of them has a
        coordinate.
    minimum : float, optional

    Raises
    ------
    UnitsError
        If its unit does not convert.
    """
    found = _checked(name, value, minimum)
    if found.unit is None:
        return found.value
    if found.unit == PIXEL and axis in (None, *SPATIAL) and not any(a in array.coords for a in spatial_axes(array)):
        return found.value  # lengths are in pixels
    if found.unit == PIXEL and axis is not None:
        return found.value * step_of(array, axis)
    unit = common_unit(array) if axis is None or axis in SPATIAL else unit_of(array, axis)
    return _converted(f"{name}={value!s}", found.value, found.unit, unit)


def position(name: str, value: Any, array: xr.DataArray | xr.Dataset, axis: str) -> float:
    """Return a value on the coordinate of an axis; a bare number is in the unit of the axis."""
    found = _checked(name, value, None)
    if found.unit is None:
        return found.value
    unit = symbol(array[axis].attrs.get("units")) if axis in array.coords else None
    return _converted(f"{name}={value!s}", found.value, found.unit, unit)


def pixels(
    name: str,
    value: Any,
    array: xr.DataArray,
    axes: Sequence[str],
    *,
    units: str,
    absent: Any,
    whole: bool,
    rounding: str = "nearest",
) -> dict[str, Any]:
    """Return lengths in pixels for each axis.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    value : scalar, sequence or mapping
        See `per_axis`. A length with a unit is read in that unit, whatever `units` is.
    array : xarray.DataArray
    axes : sequence of str
    units : {"pixel", "physical"}
        Whether bare numbers are pixels, or lengths in the common unit.
    absent : object
        The value for axes that a mapping does not name.
    whole : bool
        Expect integer numbers of pixels, and round lengths; only a length of 0 becomes 0.
    rounding : {"nearest", "up", "odd"}
        To the nearest number, the next larger, or the nearest odd one.
    """
    choice("units", units, ("pixel", "physical"))
    many = list(value) if has_unit(value) and not isinstance(value, str) and np.ndim(value) else value

    def one(argument: str, v: Any) -> Quantity:
        if has_unit(v) or units == "physical":
            return _checked(argument, v, 0)
        return Quantity(integer(argument, v, 0) if whole else number(argument, v, 0), PIXEL)

    found = per_axis(name, many, axes, None, one)
    round_ = _ROUNDED[rounding] if whole else None
    return {a: absent if q is None else _counted(f"{name}[{a!r}]", q, array, a, round_) for a, q in found.items()}


_ROUNDED: dict[str, Callable[[float], int]] = {
    "nearest": round,
    "up": lambda n: math.ceil(n - 1e-9),
    "odd": lambda n: 2 * round((n - 1) / 2) + 1,
}


def _counted(name: str, found: Quantity, array: xr.DataArray, axis: str, rounded: Callable[[float], int] | None) -> Any:
    whole = rounded is not None
    if found.unit == PIXEL:
        if whole and found.value != int(found.value):
            raise ValueError(f"{name}={found.value:g} px: expected a whole number of pixels")
        return int(found.value) if whole else found.value
    unit = common_unit(array) if axis in SPATIAL else unit_of(array, axis)
    given = (
        found.value
        if found.unit is None
        else _converted(f"{name}={found.value:g} {found.unit}", found.value, found.unit, unit)
    )
    count = given / step_of(array, axis)
    if rounded is None:
        return count
    return max(1, rounded(count)) if count else 0


def _checked(name: str, value: Any, minimum: float | None) -> Quantity:
    low = -math.inf if minimum is None else minimum
    if not has_unit(value):
        return Quantity(number(name, value, low), None)
    try:
        found = quantity(value)
    except TypeError as exc:
        raise TypeError(f"{name}={exc}") from exc
    return Quantity(number(name, found.value, low), found.unit)


def _converted(what: str, values: Any, unit: str | None, to: str | None) -> Any:
    if unit == to:
        return values
    try:
        if unit and to:
            return convert(values, unit, to)
    except UnitsError:
        pass
    asked = parse_unit(to)
    if asked and not what.startswith("axis"):
        advice = f"give a {asked.dimension}, such as '3 {asked.symbol}'"
    else:
        known = "'spacing_units': {'y': 'µm', 'x': 'µm'}"
        advice = f"if you know them, imload(..., metadata={{'spacing': {{'y': 0.1, 'x': 0.1}}, {known}}})"
    raise UnitsError(
        f"{what} is {_said(unit)}, but the lengths of the image are {_said(to)}: these do not convert; {advice}"
    )


def _said(unit: str | None) -> str:
    return "in pixels ('px')" if unit == PIXEL else f"in {unit!r}" if unit else "without a unit"
