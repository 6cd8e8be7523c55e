"""Blocks of pixels made one: mean, mode or first of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["coarsened"]


def coarsened(array: np.ndarray, factors: Sequence[int], method: str) -> np.ndarray:
    """Return one pixel for each block of ``factors`` pixels; what is left over at the end of an axis is left out.

    Parameters
    ----------
    array : ndarray
    factors : sequence of int
        Size of the blocks along each axis.
    method : {"mean", "mode", "nearest"}
        Means of integers are rounded to the nearest, halves to even. The mode is the most frequent value, of equally
        frequent ones the least. ``nearest`` is the first pixel of a block.

    Examples
    --------
    >>> coarsened(np.array([[1, 2, 7], [2, 5, 7]], "u1"), (2, 2), "mean")
    array([[2]], dtype=uint8)
    """
    counts = [n // f for n, f in zip(array.shape, factors, strict=True)]
    kept = array[tuple(slice(0, c * f) for c, f in zip(counts, factors, strict=True))]
    if method == "nearest":
        return np.ascontiguousarray(kept[tuple(slice(None, None, f) for f in factors)])
    split = kept.reshape([n for pair in zip(counts, factors, strict=True) for n in pair])
    inner = tuple(range(1, 2 * array.ndim, 2))
    if method == "mean":
        if array.dtype.kind in "fc":
            return split.mean(axis=inner, dtype=array.dtype)
        return np.rint(split.mean(axis=inner, dtype=np.float64)).astype(array.dtype)
    flat = np.moveaxis(split, inner, range(-array.ndim, 0)).reshape(*counts, -1)
    return _mode(flat)


def _mode(values: np.ndarray) -> np.ndarray:
    """Return the most frequent value along the last axis, of equally frequent ones the least."""
    ordered = np.sort(values, axis=-1)
    best, best_run = ordered[..., 0].copy(), np.ones(ordered.shape[:-1], int)
    run = best_run.copy()
    for k in range(1, ordered.shape[-1]):
        run = np.where(ordered[..., k] == ordered[..., k - 1], run + 1, 1)
        better = run > best_run
        best, best_run = np.where(better, ordered[..., k], best), np.where(better, run, best_run)
    return best
