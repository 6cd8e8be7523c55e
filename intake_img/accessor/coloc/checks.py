"""Checks of arguments: each function returns the value, or raises an error with the argument's name, the given value
and the allowed values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.accessor.arguments import number
from intake_img.errors import AxesError

__all__ = ["at_places", "bounds_of", "known", "listed", "region"]


def known(name: str, options: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """Options by name."""
    if not isinstance(options, Mapping):
        raise TypeError(f"{name}={options!r}: expected a mapping with names among {', '.join(allowed)}")
    if unknown := [k for k in options if k not in allowed]:
        raise TypeError(f"{name} has no {unknown[0]!r}: expected names among {', '.join(allowed)}")
    return dict(options)


def listed(name: str, values: Any) -> list[Any]:
    """A list of channels; one channel is a list of one."""
    if isinstance(values, (str, int, np.integer)):
        return [values]
    if isinstance(values, (Mapping, float)) or not hasattr(values, "__iter__"):
        raise TypeError(f"{name}={values!r}: expected a list of channels")
    return list(values)


def bounds_of(name: str, bounds: Any) -> tuple[Any, Any]:
    """(low, high) of a slice or a pair; None is open."""
    pair = (bounds.start, bounds.stop) if isinstance(bounds, slice) else bounds
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"{name}: {bounds!r}: expected (low, high), where None is open")
    low, high = (None if v is None else number(name, v) for v in pair)
    return low, high


def region(roi: Any, axes: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """A half-open region, ``{axis: (low, high)}``."""
    if roi is None:
        return {}
    if not isinstance(roi, Mapping):
        raise TypeError(f"roi={roi!r}: expected a mapping of axes to (low, high)")
    if unknown := [a for a in roi if a not in axes]:
        raise AxesError(f"roi names the axis {unknown[0]!r}: expected axes among {', '.join(axes)}")
    return {a: bounds_of(f"roi[{a!r}]", b) for a, b in roi.items()}


def at_places(at: Any, sizes: Mapping[str, int]) -> dict[str, int]:
    """Indices on kept axes."""
    if at is None:
        return {}
    if not isinstance(at, Mapping):
        raise TypeError(f"at={at!r}: expected a mapping of axes to indices")
    for axis, index in at.items():
        if axis not in sizes:
            raise AxesError(f"at names the axis {axis!r}: expected axes among {', '.join(sizes) or 'none'}")
        if not isinstance(index, (int, np.integer)) or not -sizes[axis] <= index < sizes[axis]:
            raise ValueError(f"at[{axis!r}]={index!r}: expected an index below {sizes[axis]}")
    return {a: int(k) % sizes[a] for a, k in at.items()}
