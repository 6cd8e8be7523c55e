"""Label images as runs of pixels along the last axis, for computing sums over regions without a loop over pixels.

All sums over regions (numbers of pixels, bounding boxes, moments) follow from the starts and lengths of runs. Sums are
integers, so the sums of chunks add up exactly to the sums of the complete image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

__all__ = ["Powers", "Runs", "Sums", "added", "find_runs", "merged", "negative", "region_sums"]

Powers = tuple[int, ...]
"""The exponent of the coordinate along each axis."""
_SAFE = 2.0**62


@dataclass(frozen=True)
class Runs:
    """Runs of pixels with the same label above 0, in C order.

    Parameters
    ----------
    shape : tuple of int
        Shape of the label image.
    start : ndarray of shape (R,), int64
        Index of the first pixel of each run in the flat image.
    length : ndarray of shape (R,), int64
    ids : ndarray of shape (K,), int64 or uint64
        The labels, sorted.
    index : ndarray of shape (R,), int64
        Index in `ids` of the label of each run.
    """

    shape: tuple[int, ...]
    start: np.ndarray
    length: np.ndarray
    ids: np.ndarray
    index: np.ndarray

    def mask(self) -> np.ndarray:
        """Return which pixels of the flat image belong to a run."""
        edges = np.zeros(math.prod(self.shape) + 1, np.int8)
        np.add.at(edges, self.start, 1)
        np.subtract.at(edges, self.start + self.length, 1)
        return np.cumsum(edges[:-1], dtype=np.int8).view(bool)


@dataclass(frozen=True)
class Sums:
    """Sums over the pixels of regions.

    Parameters
    ----------
    ids : ndarray of shape (K,)
        Labels, sorted.
    low, high : ndarray of shape (K, n), int64
        Bounding boxes, half open.
    moments : dict of Powers to ndarray of shape (K,), int64 or Python integers
        Sums of powers of the coordinates, counted in pixels from `low`.
    """

    ids: np.ndarray
    low: np.ndarray
    high: np.ndarray
    moments: dict[Powers, np.ndarray]


def find_runs(labels: np.ndarray) -> Runs:
    """Return the runs of a label image.

    Parameters
    ----------
    labels : ndarray of integers
        Only numbers above 0 are regions.
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    change = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[:: max(1, labels.shape[-1])] = True  # the first pixel of each line
    start = np.flatnonzero(change)
    length = np.diff(start, append=flat.size)
    label = flat[start]
    kept = np.flatnonzero(label > 0)
    ids, index = np.unique(label[kept], return_inverse=True)
    wide = np.uint64 if labels.dtype == np.uint64 else np.int64
    return Runs(labels.shape, start[kept], length[kept], ids.astype(wide), index)


def negative(labels: np.ndarray) -> np.ndarray:
    """Return the numbers below 0 of a label image, sorted."""
    if labels.dtype.kind == "u" or not labels.size or labels.min() >= 0:
        return np.empty(0, np.int64)
    return np.unique(labels[labels < 0]).astype(np.int64)


def region_sums(runs: Runs, start: Sequence[int], powers: Iterable[Powers]) -> Sums:
    """Return bounding boxes and moments of the regions of a chunk.

    Parameters
    ----------
    runs : Runs
    start : sequence of int
        Position of the chunk in the image.
    powers : iterable of Powers
        With all exponents at most 3.
    """
    n = len(runs.ids)
    first = np.stack(np.unravel_index(runs.start, runs.shape)).astype(np.int64)
    last = first.copy()
    last[-1] += runs.length - 1
    low, high = np.full((len(first), n), np.iinfo(np.int64).max), np.full((len(first), n), -1, np.int64)
    for axis in range(len(first)):
        np.minimum.at(low[axis], runs.index, first[axis])
        np.maximum.at(high[axis], runs.index, last[axis])
    at = first - low[:, runs.index]
    moments = _moments(runs, at, (high - low + 1).max(axis=1, initial=1), powers)
    offset = np.asarray(start, np.int64)
    return Sums(runs.ids, low.T + offset, high.T + offset + 1, moments)


def _moments(runs: Runs, at: np.ndarray, extent: np.ndarray, powers: Iterable[Powers]) -> dict[Powers, np.ndarray]:
    most = 4.0 * max(int(runs.length.sum()), int(extent[-1]))
    found = {}
    for power in powers:
        wide = most * math.prod(float(e) ** p for e, p in zip(extent, power, strict=True)) >= _SAFE
        place, length = (at.astype(object), runs.length.astype(object)) if wide else (at, runs.length)
        terms = _power_sum(place[-1] + length, power[-1]) - _power_sum(place[-1], power[-1])
        for axis, p in enumerate(power[:-1]):
            if p:
                terms = terms * place[axis] ** p
        found[power] = added(runs.index, terms, len(runs.ids))
    return found


def _power_sum(n: np.ndarray, power: int) -> np.ndarray:
    """Return 0^p + 1^p + ... + (n-1)^p."""
    if power == 0:
        return n
    if power == 2:
        return n * (n - 1) * (2 * n - 1) // 6
    half = n * (n - 1) // 2
    return half if power == 1 else half * half


def added(index: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Return the sums of integers in each of n groups."""
    total = np.zeros(n, values.dtype if values.dtype.kind in "uO" else np.int64)
    np.add.at(total, index, values)
    return total


def merged(parts: Sequence[Sums]) -> Sums:
    """Return the sums of all chunks of an image."""
    ids, index = np.unique(np.concatenate([p.ids for p in parts]), return_inverse=True)
    lows, highs = (np.concatenate([getattr(p, name) for p in parts]) for name in ("low", "high"))
    low, high = np.full((len(ids), lows.shape[1]), np.iinfo(np.int64).max), np.zeros((len(ids), lows.shape[1]), int)
    np.minimum.at(low, index, lows)
    np.maximum.at(high, index, highs)
    own = {p: np.concatenate([part.moments[p] for part in parts]) for p in parts[0].moments}
    if len(ids) == len(index):  # no region spans two chunks
        order = np.argsort(index)
        return Sums(ids, low, high, {p: m[order] for p, m in own.items()})
    shift = lows - low[index]
    extent = (high - low).max(axis=0, initial=1)
    moments = {p: added(index, _shifted(own, p, shift, extent), len(ids)) for p in own}
    return Sums(ids, low, high, moments)


def _shifted(own: dict[Powers, np.ndarray], power: Powers, shift: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Return moments about another origin, by the binomial theorem."""
    pixels = float(own[(0,) * len(power)].sum())
    wide = 8 * pixels * math.prod(float(e) ** p for e, p in zip(extent, power, strict=True)) >= _SAFE
    shift = shift.astype(object) if wide else shift
    total: np.ndarray = np.zeros(len(shift), object if wide else np.int64)
    for lower in product(*[range(p + 1) for p in power]):
        factor = math.prod(math.comb(p, k) for p, k in zip(power, lower, strict=True))
        term = own[lower] * factor
        for axis, (p, k) in enumerate(zip(power, lower, strict=True)):
            if p > k:
                term = term * shift[:, axis] ** (p - k)
        total = total + term
    return total
