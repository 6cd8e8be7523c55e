"""Blocks of pixels made one: mean, mode or first of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["coarsened", "exact_means", "nearest", "rounded"]


def coarsened(array: np.ndarray, factors: Sequence[int], method: str) -> np.ndarray:
    """Return one pixel for each block of ``factors`` pixels; what is left over at the end of an axis is left out.

    Parameters
    ----------
    array : ndarray
    factors : sequence of int
        Size of the blocks along each axis.
    method : {"mean", "mode", "nearest"}
        Means of integers are exact, rounded to the nearest, halves to even; those of floats do not overflow where the
        mean itself does not. The mode is the most frequent value, of equally
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
        return _means(split, inner)
    flat = np.moveaxis(split, inner, range(-array.ndim, 0)).reshape(*counts, -1)
    return _mode(flat)


def nearest(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the nearest pixels of an image on a grid of another shape, as `skimage.transform.resize` finds them.

    Pixels are only moved, never converted: labels and integers of 64 bits stay as they are.
    """
    from skimage.transform import resize

    places = [
        np.rint(resize(np.arange(float(n)), (m,), order=0, preserve_range=True, anti_aliasing=False)).astype(np.intp)
        for n, m in zip(image.shape, shape, strict=True)
    ]
    return image[np.ix_(*places)]


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return floats as integers, rounded to the nearest; what the dtype does not hold becomes its least or greatest.

    Examples
    --------
    >>> rounded(np.array([2.6, -3.0, 1e30]), np.dtype("u8"))
    array([                   3,                    0, 18446744073709551615], dtype=uint64)
    """
    info = np.iinfo(dtype)
    made = np.rint(values)
    above = made >= float(info.max)  # which may be more than the dtype holds: 2.0**63
    return np.where(above, info.max, np.where(above, 0, np.maximum(made, info.min)).astype(dtype)).astype(dtype)


def _means(split: np.ndarray, inner: tuple[int, ...]) -> np.ndarray:
    dtype = split.dtype
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return exact_means(split, inner)
    if dtype.kind not in "fc":
        return np.rint(split.mean(axis=inner, dtype=np.float64)).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        made = split.mean(axis=inner, dtype=np.float32 if dtype == np.float16 else dtype).astype(dtype)
        if not np.isfinite(made).all():  # sums that overflow: divide first
            divided = (split / math.prod(split.shape[k] for k in inner)).sum(axis=inner).astype(dtype)
            made = np.where(np.isfinite(made), made, divided)
    return made


def exact_means(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return means of integers of 64 bits, rounded to the nearest, halves to even, without floats or overflow.

    With ``x = q n + r`` the sum of n values is ``n sum(q) + sum(r)``; neither sum leaves the range of the values.

    Examples
    --------
    >>> exact_means(np.array([2**63 - 1, 2**63 - 3]), (0,)) == 2**63 - 2
    np.True_
    """
    n = values.dtype.type(math.prod(values.shape[k] for k in axes))
    quotients, rests = np.divmod(values, n)
    more, rest = np.divmod(rests.sum(axis=axes, dtype=values.dtype), n)
    floor = quotients.sum(axis=axes, dtype=values.dtype) + more
    up = (rest > n - rest) | ((rest == n - rest) & (floor % 2 == 1))
    return floor + up.astype(values.dtype)


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
