"""Indices of axes: the samples that keys select, selections of selections, and runs that are read together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Index", "Indices", "Run", "composed", "index_of", "runs_of", "settled", "span", "taken"]

Index = range | tuple[int, ...]
"""The selected samples of an axis, in order."""
Indices = tuple[Index, ...]


@dataclass(frozen=True)
class Run:
    """Samples that are read together.

    Parameters
    ----------
    source : slice
        The slice to read.
    target : slice
        Their indices among the selected samples.
    within : range or tuple of int
        Their indices in the slice that is read.
    """

    source: slice
    target: slice
    within: Index


def runs_of(index: Index, tile: int, spared: int) -> list[Run]:
    """Cut the selected samples of an axis into runs.

    Parameters
    ----------
    index : range or tuple of int
        Not empty.
    tile : int
        Length of a tile: samples of one tile are read together.
    spared : int
        How many unneeded samples may be read between two selected samples at a regular step.
    """
    if isinstance(index, range):
        if index.step == 1 or abs(index.step) < max(tile, spared + 1) or len(index) == 1:
            return [_run(index, 0)]
        return [_run(index[n : n + 1], n) for n in range(len(index))]
    runs: list[list[int]] = []
    for k in index:
        if runs and (k == runs[-1][-1] + 1 or k // tile == runs[-1][-1] // tile):
            runs[-1].append(k)
        else:
            runs.append([k])
    starts = np.cumsum([0, *map(len, runs)]).tolist()
    return [_run(tuple(run), start) for run, start in zip(runs, starts, strict=False)]


def _run(index: Index, start: int) -> Run:
    source, target = span(index), slice(start, start + len(index))
    low = source.start
    if isinstance(index, range):
        step = index.step if len(index) > 1 else 1
        return Run(source, target, range(index[0] - low, index[-1] - low + step, step))
    if list(index) == list(range(low, source.stop)):
        return Run(source, target, range(len(index)))
    return Run(source, target, tuple(k - low for k in index))


def span(index: Index) -> slice:
    """Return the range of an axis from the first to the last selected sample, in the order of the axis."""
    low, high = (min(index[0], index[-1]), max(index[0], index[-1])) if isinstance(index, range) else _ends(index)
    return slice(low, high + 1)


def _ends(index: tuple[int, ...]) -> tuple[int, int]:
    return min(index), max(index)


def taken(array: np.ndarray, indices: Sequence[Index]) -> np.ndarray:
    """Return the selected samples of an array: a view if all indices are ranges."""
    key: Any = (*(_slice(i) if isinstance(i, range) else slice(None) for i in indices), ...)
    found = array[key]
    for axis, index in enumerate(indices):
        if isinstance(index, tuple):
            found = np.take(found, np.asarray(index, np.intp), axis)
    return found


def _slice(index: range) -> slice:
    if not index:
        return slice(0, 0)
    stop = index[-1] + (1 if index.step > 0 else -1)
    return slice(index.start, stop if stop >= 0 else None, index.step)


def composed(first: Index, then: Index) -> Index:
    """Return the indices of a selection of a selection."""
    if isinstance(first, range) and isinstance(then, range):
        start = first.start + then.start * first.step
        return range(start, start + len(then) * first.step * then.step, first.step * then.step)
    return tuple(first[k] for k in then)


def index_of(key: Any, n: int) -> Index:
    """Return the samples that an integer, a slice or a list of integers or booleans selects of an axis."""
    if isinstance(key, slice):
        return range(n)[key]
    if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
        k = int(key)
        if not -n <= k < n:
            raise IndexError(f"index {k} is out of range for an axis of length {n}")
        return range(k % n, k % n + 1)
    array = np.asarray(key)
    if array.ndim != 1 or (array.dtype.kind not in "iub" and array.size):
        raise IndexError(f"expected an integer, a slice or a list of integers or booleans, got {key!r}")
    if array.dtype.kind == "b":
        if len(array) != n:
            raise IndexError(f"a mask of length {len(array)} does not fit an axis of length {n}")
        array = np.flatnonzero(array)
    if array.size and (array.min() < -n or array.max() >= n):
        raise IndexError(f"indices {key!r} are out of range for an axis of length {n}")
    return tuple(int(k) % n for k in array)


def settled(key: Any, n: int) -> Any:
    """Return the index of an axis of length `n`: a slice that selects nothing as ``slice(0, 0)``.

    xarray and dask take some of these with a negative step, as ``slice(-9, None, -1)``, for others.
    """
    return slice(0, 0) if isinstance(key, slice) and not range(n)[key] else key
