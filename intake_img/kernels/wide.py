"""Integers of 64 bits, beyond float64's precision: split into floats that add up exactly, and compared as integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Bound", "above", "at_least", "below", "beyond_floats", "bound", "offsets", "parts"]


def beyond_floats(values: np.ndarray) -> bool:
    """Return whether some of the integers may be rounded as float64."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or not values.size:
        return False
    return max(int(values.max()), -int(values.min())) > 2**53


def parts(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return float64 arrays whose exact sum is the values: one array, or two of wide integers.

    Parameters
    ----------
    values : ndarray of integers or floats

    Examples
    --------
    >>> high, low = parts(np.array([2**62 + 1, -(2**60) - 1]))
    >>> [int(h) + int(k) for h, k in zip(high, low)] == [2**62 + 1, -(2**60) - 1]
    True
    """
    if not beyond_floats(values):
        return (values.astype(np.float64),)
    half = values.dtype.type(32)
    return (values >> half).astype(np.float64) * 2.0**32, (values & values.dtype.type(2**32 - 1)).astype(np.float64)


def offsets(values: np.ndarray, base: int) -> np.ndarray:
    """Return integers less a base that is at most the lowest of them: uint64, exact.

    Parameters
    ----------
    values : ndarray of int64 or uint64
    base : int
        At most the lowest of the values.
    """
    with np.errstate(over="ignore"):
        return (values - values.dtype.type(base)).view(np.uint64)


@dataclass(frozen=True)
class Bound:
    """Thresholds that integers of 64 bits are compared with as integers.

    Parameters
    ----------
    floor, ceil : ndarray of the dtype of the values
        The whole numbers at or below, and at or above, each threshold, within the range of the dtype.
    over, under : ndarray of bool
        Thresholds above and below the range of the dtype; NaN is over.
    """

    floor: np.ndarray
    ceil: np.ndarray
    over: np.ndarray
    under: np.ndarray

    def __getitem__(self, rows: Any) -> Bound:
        return Bound(self.floor[rows], self.ceil[rows], self.over[rows], self.under[rows])


def bound(thresholds: Any, dtype: np.dtype) -> Any:
    """Return thresholds as what values of a dtype are compared with: a `Bound` for integers of 64 bits, else floats.

    Parameters
    ----------
    thresholds : float, or ndarray of float64 or of Python numbers, of any shape
    dtype : dtype
    """
    given = np.atleast_1d(np.asarray(thresholds))
    if dtype.kind not in "iu" or dtype.itemsize < 8:
        return given.astype(np.float64)
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    numbers = given.ravel().tolist()
    over = np.array([math.isnan(t) or t > high for t in numbers], bool)
    under = np.array([t < low for t in numbers], bool)
    floor, ceil = (
        np.array([_whole(t, rounding, low, high) for t in numbers], dtype) for rounding in (math.floor, math.ceil)
    )
    return Bound(*(part.reshape(given.shape) for part in (floor, ceil, over, under)))


def _whole(threshold: float | int, rounding: Callable[[Any], int], low: int, high: int) -> int:
    if math.isnan(threshold) or threshold > high:
        return high
    return low if threshold < low else rounding(threshold)


def above(values: np.ndarray, threshold: Any) -> np.ndarray:
    """Return where values > threshold."""
    if not isinstance(threshold, Bound):
        return values > threshold
    return ((values > threshold.floor) | threshold.under) & ~threshold.over


def at_least(values: np.ndarray, threshold: Any) -> np.ndarray:
    """Return where values >= threshold."""
    if not isinstance(threshold, Bound):
        return values >= threshold
    return (values >= threshold.ceil) & ~threshold.over


def below(values: np.ndarray, threshold: Any) -> np.ndarray:
    """Return where values < threshold."""
    if not isinstance(threshold, Bound):
        return values < threshold
    return ((values < threshold.ceil) | threshold.over) & ~threshold.under
