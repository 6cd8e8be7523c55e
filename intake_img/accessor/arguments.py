"""How the arguments of processing are read: scalars for all spatial axes, sequences, mappings by axis name, units.

Everything wrong is refused here, before a graph is made, by a sentence that names the argument, what was given and
what is allowed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.variables import spatial_axes, step_of
from intake_img.axes import spell
from intake_img.errors import AxesError

__all__ = ["choice", "integer", "neighbourhood", "number", "per_axis", "pixels"]


def integer(name: str, value: Any, minimum: int | None = None) -> int:
    """Return `value` as int; bools and floats are a TypeError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r} ({type(value).__name__}): expected an integer")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name}={value!r}: expected an integer of at least {minimum}")
    return int(value)


def number(name: str, value: Any, minimum: float | None = None, maximum: float | None = None) -> float:
    """Return `value` as float; anything but a finite real number is refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, np.number)):
        raise TypeError(f"{name}={value!r} ({type(value).__name__}): expected a number")
    real = float(value)
    low = -math.inf if minimum is None else minimum
    high = math.inf if maximum is None else maximum
    if not math.isfinite(real) or not low <= real <= high:
        bounds = f" from {low:g} to {high:g}" if high < math.inf else f" of at least {low:g}" if low > -math.inf else ""
        raise ValueError(f"{name}={value!r}: expected a finite number{bounds}")
    return real


def choice(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """Return `value` if it is one of `allowed`."""
    if not any(value is a or (isinstance(a, type(value)) and value == a) for a in allowed):
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, allowed))}")
    return value


def neighbourhood(array: xr.DataArray, dims: str | Sequence[str] | None, name: str = "dims") -> tuple[str, ...]:
    """Return the spatial axes that form a neighbourhood, in the order ``z y x``: all, or those named."""
    present = spatial_axes(array)
    if not present:
        raise AxesError(f"the array has axes {spell(tuple(map(str, array.dims)))!r}: none of them is space (z, y, x)")
    if dims is None:
        return present
    wanted = tuple(dims)
    if not wanted or len(set(wanted)) != len(wanted) or any(d not in present for d in wanted):
        raise AxesError(
            f"{name}={dims!r}: expected some of the spatial axes {', '.join(map(repr, present))}, each once"
        )
    return tuple(d for d in present if d in wanted)


def per_axis(
    name: str, value: Any, axes: Sequence[str], absent: Any, check: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Return a value for each axis.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    value : scalar, sequence or mapping
        One for all axes, one for each in their order, or some by name.
    axes : sequence of str
    absent : object
        Stands for axes that a mapping does not name.
    check : callable
        ``check(name, value)`` returns the value, or raises.
    """
    if isinstance(value, Mapping):
        if unknown := [a for a in value if a not in axes]:
            raise AxesError(f"{name} names the axis {unknown[0]!r}: expected some of {', '.join(map(repr, axes))}")
        return {a: check(f"{name}[{a!r}]", value[a]) if a in value else absent for a in axes}
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        if len(value) != len(axes):
            raise ValueError(
                f"{name}={value!r} has {len(value)} values: expected one for each of the axes {spell(tuple(axes))!r}, "
                f"one for all, or a mapping by name"
            )
        return {a: check(f"{name}[{a!r}]", v) for a, v in zip(axes, value, strict=True)}
    return {a: check(name, value) for a in axes}


def pixels(name: str, value: Any, array: xr.DataArray, axes: Sequence[str], *, units: str, absent: float,
           whole: bool) -> dict[str, Any]:  # fmt: skip
    """Return lengths in pixels for each axis; physical ones are divided by the spacing (and rounded if `whole`)."""
    choice("units", units, ("pixel", "physical"))
    if units == "pixel":
        check: Callable[[str, Any], Any] = (lambda n, v: integer(n, v, 0)) if whole else (lambda n, v: number(n, v, 0))
        return per_axis(name, value, axes, absent, check)
    lengths = per_axis(name, value, axes, None, lambda n, v: number(n, v, 0))
    found = {a: v if v is None else v / step_of(array, a) for a, v in lengths.items()}
    if whole:
        return {a: absent if v is None else round(v) if v == 0 else max(1, round(v)) for a, v in found.items()}
    return {a: absent if v is None else v for a, v in found.items()}
