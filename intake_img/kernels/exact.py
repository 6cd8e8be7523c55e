"""Exact sums, in groups: the same to the last bit for any order, any chunks and any offset.

Products of integers are added as integers, as Python integers if 63 bits might not suffice.

A float is an integer of 53 bits times a power of two. The integers of equal exponent are added as integers (in two
halves,
so that nothing overflows); totals are Python integers in units of `UNIT`. After Kulisch's long accumulator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = [
    "LOWEST",
    "ExactSum",
    "add",
    "add_products",
    "count_totals",
    "counts",
    "exact_sums",
    "grouped_sum",
    "products",
    "totals",
]

LOWEST = -1130
"""Totals are in units of ``2**LOWEST``, below the last bit of the smallest float."""
_BIAS = 1100
_SPAN = 2200

ExactSum = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sorted keys (group * span + exponent) and the sums, int64, of the upper and lower halves of the mantissas."""


def exact_sums(values: np.ndarray, group: np.ndarray | None = None) -> ExactSum:
    """Add values within groups, exactly.

    Parameters
    ----------
    values : ndarray of shape (N,), float, finite
    group : ndarray of shape (N,), int64, optional
    """
    if not len(values):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    high_sums: ExactSum | None = None
    for start in range(0, len(values), 1 << 24):  # 2**24 halves of 27 bits stay below 2**53
        part = slice(start, start + (1 << 24))
        mantissa, exponent = np.frexp(values[part].astype(np.float64))
        mantissa = np.ldexp(mantissa, 27)
        high = np.rint(mantissa)
        low = np.ldexp(mantissa - high, 27)
        key = exponent.astype(np.int64) + _BIAS
        if group is not None:
            key += group[part].astype(np.int64) * _SPAN
            keys, index = np.unique(key, return_inverse=True)
            sums = [np.bincount(index, weights=x, minlength=len(keys)) for x in (high, low)]
        else:
            sums = [np.bincount(key, weights=x, minlength=_SPAN) for x in (high, low)]
            keys = np.flatnonzero((sums[0] != 0) | (sums[1] != 0))
            sums = [s[keys] for s in sums]
        found = (keys, sums[0].astype(np.int64), sums[1].astype(np.int64))
        high_sums = found if high_sums is None else add([high_sums, found])
    assert high_sums is not None
    return high_sums


def add(parts: Sequence[ExactSum]) -> ExactSum:
    """Return the sum of sums."""
    keys, index = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
    sums = []
    for half in (1, 2):
        total = np.zeros(len(keys), np.int64)
        np.add.at(total, index, np.concatenate([p[half] for p in parts]))
        sums.append(total)
    return keys, sums[0], sums[1]


def totals(sums: ExactSum, groups: np.ndarray) -> np.ndarray:
    """Return the totals of the sorted `groups`: an object array of Python integers in units of ``2**LOWEST``."""
    out = np.zeros(len(groups), object)
    index = np.searchsorted(groups, sums[0] // _SPAN)
    for place, key, high, low in zip(index.tolist(), *(s.tolist() for s in sums), strict=True):
        shift = key % _SPAN - _BIAS - 54 - LOWEST
        out[place] += ((high << 27) + low) << shift
    return out


def counts(n: int, group: np.ndarray | None = None) -> ExactSum:
    """Return the number of pixels in each group, which can be added like sums."""
    if group is None:
        return np.zeros(1, np.int64), np.array([n]), np.zeros(1, np.int64)
    keys, number = np.unique(group, return_counts=True)
    return keys, number, np.zeros_like(number)


def count_totals(sums: ExactSum, groups: np.ndarray) -> np.ndarray:
    """Return the counts of the sorted `groups` as Python integers."""
    out = np.zeros(len(groups), object)
    out[np.searchsorted(groups, sums[0])] = sums[1].astype(object)
    return out


def products(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x*y rounded, and the rounding error: their sum is the exact product (Dekker 1971, Veltkamp's
    splitting).
    """
    product = x * y
    x1 = x * 134217729.0
    x1 = x1 - (x1 - x)
    y1 = y * 134217729.0
    y1 = y1 - (y1 - y)
    x2, y2 = x - x1, y - y1
    error = x2 * y2 - (((product - x1 * y1) - x2 * y1) - x1 * y2)
    return product, error


def grouped_sum(group: np.ndarray, ngroups: int, *factors: np.ndarray) -> np.ndarray:
    """Return the sum over rows of the product of integer factors, in each group, as Python integers.

    Parameters
    ----------
    group : ndarray of shape (R,), sorted
    ngroups : int
    *factors : ndarray of shape (R,), int64
    """
    totals = np.zeros(ngroups, object)
    add_products(totals, group, 1, *factors)
    return totals


def add_products(totals: np.ndarray, group: np.ndarray, scale: int, *factors: np.ndarray) -> None:
    """Add the products of integers, row by row, to the totals of their groups: Python integers, exact.

    Parameters
    ----------
    totals : ndarray of shape (G,), object
        Changed.
    group : ndarray of shape (R,), sorted
    scale : int
    *factors : ndarray of shape (R,), int64 or uint64
    """
    if not len(group):
        return
    factors = tuple(f.astype(object) if f.dtype == np.uint64 else f for f in factors)
    starts = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
    bound = len(group) * math.prod(max(1.0, float(max(f.max(), -f.min()))) for f in map(np.asarray, factors))
    if bound >= 2**62 and float(np.abs(math.prod(f.astype(float) for f in factors)).sum()) >= 2**62:
        factors = tuple(f.astype(object) for f in factors)
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    totals[group[starts]] += np.add.reduceat(product, starts).astype(object) * scale


def ratio(x: int, y: int) -> float:
    """Return x / y; NaN where y is 0."""
    try:
        return x / y
    except ZeroDivisionError:
        return math.nan


def root_ratio(x: int, y: int) -> float:
    """Return x / sqrt(y) of integers of any size, correctly rounded except for the last bit."""
    if y <= 0:
        return math.nan
    root = math.sqrt(x * x / y)
    return -root if x < 0 else root
