"""Arguments of processing: scalars for all spatial axes, sequences, mappings by axis name, units.

Invalid arguments raise an error here, before a graph is made; it names the argument, the given value and the allowed
values.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.variables import lacking_plane, spatial_axes
from intake_img.errors import AxesError, warn
from intake_img.model.axes import spell

__all__ = [
    "Keys",
    "axis_names",
    "choice",
    "data_type",
    "flag",
    "integer",
    "mapping",
    "named",
    "neighbourhood",
    "number",
    "per_axis",
    "space",
    "warn_of_negative",
]


@dataclass(frozen=True)
class Keys:
    """Axes that the mapping given as an argument names."""

    argument: str
    axes: tuple[Any, ...]


def named(dims: Any, argument: str, value: Any) -> Any:
    """The axes of a neighbourhood: the requested ones, or the axes that a mapping names."""
    return Keys(argument, tuple(value)) if dims is None and isinstance(value, Mapping) and value else dims


def flag(name: str, value: Any) -> bool:
    """Return `value` as bool; only True and False are accepted."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} ({type(value).__name__}): expected True or False")
    return bool(value)


def data_type(name: str, value: Any, kinds: str = "biufc") -> np.dtype:
    """Return `value` as a numeric dtype of one of some kinds."""
    try:
        dtype = np.dtype(value)
    except TypeError as exc:
        raise TypeError(f"{name}={value!r}: expected a dtype such as 'uint16' or float ({exc})") from exc
    if dtype.kind not in kinds:
        raise TypeError(f"{name}={value!r}: expected a dtype of numbers, one of the kinds {', '.join(kinds)}")
    return dtype


def mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """Return `value` if it is a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}={value!r} ({type(value).__name__}): expected a mapping")
    return value


def axis_names(name: str, value: Any) -> tuple[str, ...]:
    """Return the names of axes: a sequence of names, or a text, whose letters are axes unless it is a name itself."""
    names = tuple(value) if isinstance(value, (str, Sequence, set, frozenset)) else ()
    if not isinstance(value, (str, Sequence, set, frozenset)) or not all(isinstance(n, str) for n in names):
        raise TypeError(
            f"{name}={value!r} ({type(value).__name__}): expected names of axes, such as 'yx' or ['y', 'x']"
        )
    return names


def integer(name: str, value: Any, minimum: int | None = None) -> int:
    """Return `value` as int; bools and floats are a TypeError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r} ({type(value).__name__}): expected an integer")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name}={value!r}: expected an integer of at least {minimum}")
    return int(value)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> float:
    """Return `value` as float: a finite number from `low` (or above it, if `above`) to `high`.

    Integers that float64 would round stay integers.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, np.number)):
        raise TypeError(f"{name}={value!r} ({type(value).__name__}): expected a number")
    real = float(value)
    if not math.isfinite(real) or not low <= real <= high or (above and real == low):
        bounds = f" {'above' if above else 'of at least'} {low:g}" if low > -math.inf else ""
        bounds += f"{' and' if bounds else ' of'} at most {high:g}" if high < math.inf else ""
        raise ValueError(f"{name}={value!r}: expected a finite number{bounds}")
    return int(value) if isinstance(value, numbers.Integral) and int(value) != real else real


def choice(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """Return `value` if it is one of `allowed`."""
    if not any(value is a or (isinstance(a, type(value)) and value == a) for a in allowed):
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, allowed))}")
    return value


def space(array: xr.DataArray) -> tuple[str, ...]:
    """Return the spatial axes of an image, in the order ``z y x``.

    Raises
    ------
    AxesError
        If it has none, or its plane axes have other names (``row``, ``col``; ``lat``, ``lon``): a result along only
        ``z`` would be wrong.
    """
    if said := lacking_plane(array):
        raise AxesError(f"{said}; or name the axes to work on (dims=, or a mapping by axis name)")
    return spatial_axes(array)


def neighbourhood(array: xr.DataArray, dims: str | Sequence[str] | Keys | None) -> tuple[str, ...]:
    """Return the spatial axes of a neighbourhood, in the order ``z y x``: all, or the named ones."""
    present = spatial_axes(array) if dims is not None else space(array)
    if not present:
        space(array)  # raises
    if dims is None:
        return present
    if isinstance(dims, Keys):
        if unknown := [a for a in dims.axes if a not in present]:
            raise AxesError(
                f"{dims.argument} names the axis {unknown[0]!r}: expected some of {', '.join(map(repr, present))}"
            )
        return tuple(d for d in present if d in dims.axes)
    wanted = axis_names("dims", dims)
    if not wanted or len(set(wanted)) != len(wanted) or any(d not in present for d in wanted):
        raise AxesError(f"dims={dims!r}: expected some of the spatial axes {', '.join(map(repr, present))}, each once")
    return tuple(d for d in present if d in wanted)


def per_axis(
    name: str, value: Any, axes: Sequence[str], absent: Any, check: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Return a value for each axis.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : scalar, sequence or mapping
        One for all axes, one for each in their order, or some by name.
    axes : sequence of str
    absent : object
        The value for axes that a mapping does not name.
    check : callable
        ``check(name, value)`` returns the value, or raises.
    """
    if isinstance(value, Mapping):
        if unknown := [a for a in value if a not in axes]:
            raise AxesError(f"{name} names the axis {unknown[0]!r}: expected some of {', '.join(map(repr, axes))}")
        return {a: check(f"{name}[{a!r}]", value[a]) if a in value else absent for a in axes}
    if isinstance(value, np.ndarray) and value.ndim == 0 and not hasattr(value, "unit"):
        value = value.item()
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str) and bool(getattr(value, "ndim", True)):
        if len(value) != len(axes):
            count = f"{len(value)} value{'s' * (len(value) != 1)}"
            raise ValueError(
                f"{name}={value!r} has {count}: expected one for each of the axes {spell(tuple(axes))!r}, "
                f"one for all, or a mapping by name"
            )
        return {a: check(f"{name}[{a!r}]", v) for a, v in zip(axes, value, strict=True)}
    return {a: check(name, value) for a in axes}


def warn_of_negative(name: str, labels: np.ndarray) -> None:
    """Warn of labels below 0, which are not regions and have no row in a table."""
    found = np.unique(labels[labels < 0])
    if len(found):
        shown = ", ".join(map(str, found[-3:][::-1].tolist())) + (", ..." if len(found) > 3 else "")
        warn(
            f"{name} contains numbers below 0 ({shown}): as in scikit-image they belong to no region, and have no row; "
            "give them numbers above 0 if they are regions"
        )
