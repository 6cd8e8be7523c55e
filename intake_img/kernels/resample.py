"""Downsampling by blocks of pixels (mean, mode or first pixel), and resampling with the results of scikit-image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from intake_img.kernels.each_image import roomy

__all__ = ["coarsened", "exact_means", "nearest", "resized", "rounded"]

SLAB = 2**16
"""Pixels of a result that are computed together, so that the sums stay in the cache of the processor."""


def coarsened(array: np.ndarray, factors: Sequence[int], method: str) -> np.ndarray:
    """Return one pixel for each block of ``factors`` pixels; a remainder at the end of an axis is dropped.

    Parameters
    ----------
    array : ndarray
    factors : sequence of int
        Size of the blocks along each axis.
    method : {"mean", "mode", "nearest"}
        Means of integers are exact, rounded half to even; means of floats do not overflow unless the mean itself does.
        The mode is the most frequent value, among equally frequent values the smallest. ``nearest`` is the first pixel
        of a block.

    Examples
    --------
    >>> coarsened(np.array([[1, 2, 7], [2, 5, 7]], "u1"), (2, 2), "mean")
    array([[2]], dtype=uint8)
    """
    counts = [n // f for n, f in zip(array.shape, factors, strict=True)]
    kept = array[tuple(slice(0, c * f) for c, f in zip(counts, factors, strict=True))]
    if method == "nearest":
        return np.ascontiguousarray(kept[tuple(slice(None, None, f) for f in factors)])
    if method == "mean" and (floats := _adds_in(kept, factors)):
        return _means_of_slabs(kept, factors, np.dtype(floats))
    split, inner = _split(kept, factors), tuple(range(1, 2 * array.ndim, 2))
    if method == "mean":
        return _means(split, inner)
    flat = np.moveaxis(split, inner, range(-array.ndim, 0)).reshape(*counts, -1)
    return _mode(flat)


def nearest(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the nearest pixels of an image on a grid of another shape, like `skimage.transform.resize`.

    Pixels are only copied, never converted: labels and 64-bit integers keep their exact values.
    """
    from skimage.transform import resize

    places = [
        np.rint(resize(np.arange(float(n)), (m,), order=0, preserve_range=True, anti_aliasing=False)).astype(np.intp)
        for n, m in zip(image.shape, shape, strict=True)
    ]
    return image[np.ix_(*places)]


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return floats as integers, rounded to the nearest and clipped to the range of the dtype.

    Examples
    --------
    >>> rounded(np.array([2.6, -3.0, 1e30]), np.dtype("u8"))
    array([                   3,                    0, 18446744073709551615], dtype=uint64)
    """
    info = np.iinfo(dtype)
    made = np.rint(values)
    above = made >= float(info.max)  # it may exceed the range of the dtype: 2.0**63
    return np.where(above, info.max, np.where(above, 0, np.maximum(made, info.min)).astype(dtype)).astype(dtype)


def _adds_in(kept: np.ndarray, factors: Sequence[int]) -> Any:
    """Return the dtype in which sums of a few neighbours, axis by axis, give the means of `numpy.mean`; None if none
    does."""
    dtype, n = kept.dtype, math.prod(factors)
    if dtype.kind == "f":
        return dtype if _added_last_axis_first(kept, factors) else None
    if dtype.kind not in "biu":
        return None
    largest = n * (1 if dtype.kind == "b" else max(np.iinfo(dtype).max, -int(np.iinfo(dtype).min)))
    if largest <= 2**24 and n & (n - 1) == 0:  # sums are exact, and so is the division by a power of 2
        return np.float32
    return np.float64 if largest <= 2**53 else None


def _added_last_axis_first(kept: np.ndarray, factors: Sequence[int]) -> bool:
    """Whether numpy sums floats of blocks of planes along x, then y; it sums eight and more values in another order."""
    if kept.dtype not in (np.float32, np.float64) or any(f > 1 for f in factors[:-2]):
        return False
    if min(n // f for n, f in zip(kept.shape, factors, strict=True)) < 2 or not max(factors[-2:]) < 8:
        return False
    in_order = kept.strides == tuple(sorted(kept.strides, reverse=True))
    return in_order and kept.strides[-1] == kept.itemsize and factors[-1] > 1


def _means_of_slabs(kept: np.ndarray, factors: Sequence[int], floats: np.dtype) -> np.ndarray:
    out = np.empty([k // f for k, f in zip(kept.shape, factors, strict=True)], kept.dtype)
    for part in _slabs(out.shape):
        values = kept[tuple(slice(s.start * f, s.stop * f) for s, f in zip(part, factors, strict=True))]
        out[part] = _slab_means(values, factors, floats)
    return out


def _slab_means(values: np.ndarray, factors: Sequence[int], floats: np.dtype) -> np.ndarray:
    n, total = math.prod(factors), values
    with np.errstate(over="ignore", invalid="ignore"):
        for axis in reversed(range(values.ndim)):
            total = _added(total, factors[axis], axis, floats)
        mean = np.divide(total, n, dtype=floats)
        if values.dtype.kind != "f":
            return np.rint(mean, out=mean)
        return mean if np.isfinite(mean).all() else _where_sums_overflow(mean, _split(values, factors))


def _added(values: np.ndarray, factor: int, axis: int, dtype: np.dtype) -> np.ndarray:
    """Return sums of `factor` neighbours along an axis."""
    if factor == 1:
        return values
    every = [values[(slice(None),) * axis + (slice(k, None, factor),)] for k in range(factor)]
    total = np.add(every[0], every[1], dtype=dtype)
    for more in every[2:]:
        np.add(total, more, out=total)
    return total


def _slabs(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Cut an array into parts of about `SLAB` pixels, along its first axes."""
    rest = math.prod(shape[1:])
    whole = tuple(slice(0, n) for n in shape[1:])
    step = max(1, SLAB // max(1, rest))
    for start in range(0, shape[0] if shape else 0, step):
        own = slice(start, min(start + step, shape[0]))
        if rest > 2 * SLAB and len(shape) > 2:
            yield from ((own, *part) for part in _slabs(shape[1:]))
        else:
            yield (own, *whole)


def resized(image: np.ndarray, shape: Sequence[int], order: int, smooth: bool) -> np.ndarray:
    """Return an image on a grid of another shape, bit-identical to `skimage.transform.resize` [1]_.

    Parameters
    ----------
    image : ndarray
    shape : sequence of int
    order : int
        Order of the spline, 1 to 5.
    smooth : bool
        Whether to apply a Gaussian first, with a sigma of half the factor minus one, in pixels.

    Returns
    -------
    ndarray of float32, if the image is float16 or float32, else of float64

    References
    ----------
    .. [1] skimage/transform/_warps.py, ``resize`` with ``mode="reflect"`` and ``preserve_range=True``
    """
    from scipy import ndimage

    factors = [n / m for n, m in zip(image.shape, shape, strict=True)]
    source: np.ndarray = roomy(image.shape, np.dtype(np.float32 if image.dtype in (np.float16, np.float32) else float))
    source[...] = image
    if smooth:
        ndimage.gaussian_filter(source, [max(0.0, (f - 1) / 2) for f in factors], output=source, mode="mirror")
    if order == 1 and all(f % 2 == 0 for f in factors):
        made = _midpoints(source, [int(f) for f in factors])
    else:
        made = ndimage.zoom(source, [1 / f for f in factors], order=order, mode="mirror", grid_mode=True)
    low, high = np.min(image), np.max(image)
    if np.isnan(low):
        low, high = np.nanmin(image), np.nanmax(image)
    return np.clip(made, low, high, out=made)


def _midpoints(image: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Return the linear interpolation at points halfway between pixels."""
    corners = [(slice(f // 2 - 1, None, f), slice(f // 2, None, f)) for f in factors]
    total = sum(image[place].astype(np.float64) * 0.5**image.ndim for place in product(*corners))
    return np.asarray(total).astype(image.dtype, copy=False)


def _means(split: np.ndarray, inner: tuple[int, ...]) -> np.ndarray:
    dtype = split.dtype
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return exact_means(split, inner)
    if dtype.kind not in "fc":
        return np.rint(split.mean(axis=inner, dtype=np.float64)).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        made = split.mean(axis=inner, dtype=np.float32 if dtype == np.float16 else dtype).astype(dtype)
        return made if np.isfinite(made).all() else _where_sums_overflow(made, split)


def _where_sums_overflow(means: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Return means; means that are not finite are computed again, with the division first."""
    inner = tuple(range(1, split.ndim, 2))
    divided = (split / math.prod(split.shape[k] for k in inner)).sum(axis=inner).astype(means.dtype)
    return np.where(np.isfinite(means), means, divided)


def _split(kept: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Return an array in which each axis is replaced by an axis of blocks and an axis within a block."""
    return kept.reshape([n for k, f in zip(kept.shape, factors, strict=True) for n in (k // f, f)])


def exact_means(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return means of 64-bit integers, rounded half to even, without floats or overflow.

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
    """Return the most frequent value along the last axis, among equally frequent values the smallest."""
    ordered = np.sort(values, axis=-1)
    best, best_run = ordered[..., 0].copy(), np.ones(ordered.shape[:-1], int)
    run = best_run.copy()
    for k in range(1, ordered.shape[-1]):
        run = np.where(ordered[..., k] == ordered[..., k - 1], run + 1, 1)
        better = run > best_run
        best, best_run = np.where(better, ordered[..., k], best), np.where(better, run, best_run)
    return best
