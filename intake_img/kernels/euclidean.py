"""Exact Euclidean distances, axis by axis: each pass needs complete lines along one axis, and nothing around them.

The squared distance to the nearest background is the least sum of squares of steps along the axes, so that it is found
by one pass along each axis [1]_: the first finds the nearest background of each line; a further one takes, for each
pixel, the least of the results of its line, each plus the square of how far it is.

References
----------
.. [1] P. F. Felzenszwalb, D. P. Huttenlocher: Distance transforms of sampled functions. Theory of Computing 8, 415-428
   (2012), doi:10.4086/toc.2012.v008a019
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

__all__ = ["distances", "further_pass", "kind_of_squares", "line_distances", "rooted", "squares"]

FAR = 2**30
"""Stands for no background in squares of 32 bits."""
TILE = 2**15
"""Pixels that are compared together: they stay in the cache of a core."""
WIDTH = 16
"""Lines of a tile at least."""
NEAR = 160
"""Up to so many pixels away all results of a line are compared; beyond that, those that can be the least."""
FEW, MANY = 64, 0.25
"""Lines in which a larger share of pixels has no background so near are not compared further."""
SHARE = 0.125
"""Lines in which a smaller share of pixels has results of earlier passes are not compared."""
SMALL = 2**13
"""Pixels of an image whose distances, if squares are whole, scipy has found sooner."""
NARROW = 512
"""Lines that are not searched pixel by pixel: there are too few of them at each."""
LINES = 2**18
"""Pixels of lines that are searched together."""


def distances(mask: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """Return the Euclidean distance of each pixel of an image to the nearest background; infinite if there is none.

    Parameters
    ----------
    mask : ndarray of bool
    steps : sequence of float
        The distance of neighbours along each axis.

    Returns
    -------
    ndarray of float64
        Rounded as by `scipy.ndimage.distance_transform_edt`. Where several pixels of the background are equally far but
        for rounding, this is the least of the rounded distances, which scipy may exceed by the last bit.
    """
    kind = kind_of_squares(mask.shape, steps)
    if not mask.size:
        return np.zeros(mask.shape)
    if mask.size <= SMALL and kind.kind == "i" and not mask.all():
        from scipy import ndimage

        return ndimage.distance_transform_edt(mask)
    found = squares(line_distances(mask), mask.shape[0], steps[0], kind)
    for axis in range(1, mask.ndim):
        found = further_pass(found, axis, steps[axis])
    return rooted(found)


def kind_of_squares(shape: Sequence[int], steps: Sequence[float]) -> np.dtype:
    """Return the dtype of squared distances in an image: of pixels whole numbers, if 32 bits hold them."""
    whole = all(s == 1 for s in steps) and sum(n * n for n in shape) < FAR
    return np.dtype(np.int32 if whole else np.float64)


def line_distances(mask: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the distance in pixels to the nearest background along an axis; its length where there is none."""
    n = mask.shape[axis]
    out = np.empty(mask.shape, np.min_scalar_type(2 * n))
    lines, found = np.moveaxis(mask, axis, 0), np.moveaxis(out, axis, 0)
    if lines.size < NARROW * n:
        found[...] = _narrow_lines(lines)
        return out
    away = np.full(lines.shape[1:], n, out.dtype)
    for k in range(n):
        away += 1
        away *= lines[k, ...]
        np.minimum(away, n, out=found[k, ...])
    away[...] = n
    for k in reversed(range(n)):
        away += 1
        away *= lines[k, ...]
        np.minimum(found[k, ...], away, out=found[k, ...])
    return out


def _narrow_lines(lines: np.ndarray) -> np.ndarray:
    """Return the distance in pixels to the nearest background along axis 0."""
    n = len(lines)
    at = np.arange(n, dtype=np.int32).reshape(-1, *(1,) * (lines.ndim - 1))
    before = at - np.maximum.accumulate(np.where(lines, -n, at), axis=0)
    after = np.minimum.accumulate(np.where(lines, 2 * n, at)[::-1], axis=0)[::-1] - at
    return np.minimum(np.minimum(before, after), n)


def squares(pixels: np.ndarray, n: int, step: float, kind: np.dtype) -> np.ndarray:
    """Return squared distances from what `line_distances` found of an axis of length `n`."""
    if kind.kind == "i":
        found = pixels.astype(kind)
        found *= found
        found[pixels == n] = FAR
        return found
    found = pixels.astype(kind)
    found *= step
    found *= found
    found[pixels == n] = np.inf
    return found


def rooted(found: np.ndarray) -> np.ndarray:
    """Return distances, float64, from squared ones."""
    if found.dtype.kind == "f":
        return np.sqrt(found)
    out = np.sqrt(found, dtype=np.float64)
    if found.size and found.max() >= FAR:
        out[found >= FAR] = np.inf
    return out


def further_pass(found: np.ndarray, axis: int, step: float) -> np.ndarray:
    """Return squared distances after a pass along one more axis.

    Parameters
    ----------
    found : ndarray
        Squared distances by steps along other axes.
    axis : int
    step : float
        The distance of neighbours along the axis.
    """
    if not found.size:
        return found
    n, before, after = found.shape[axis], math.prod(found.shape[:axis]), math.prod(found.shape[axis + 1 :])
    out = np.empty_like(found)
    sources, targets = (v.reshape(before, n, after) for v in (found, out))
    width = min(after, max(WIDTH, TILE // n))
    count = max(1, TILE // (n * width))
    for a, b in product(range(0, before, count), range(0, after, width)):
        source, target = (np.moveaxis(v[a : a + count, :, b : b + width], 1, 0) for v in (sources, targets))
        target[...] = _passed(np.ascontiguousarray(source).reshape(n, -1), step).reshape(target.shape)
    return out


def _passed(lines: np.ndarray, step: float) -> np.ndarray:
    """Return, for each pixel of lines along axis 0, the least of their values, each plus the square of its distance."""
    out, n = lines.copy(), len(lines)
    chosen, most = np.flatnonzero(_near(lines, out, step)), max(1, LINES // n)
    for k in range(0, len(chosen), most):
        own = chosen[k : k + most]
        out[:, own] = _least(lines[:, own].T, out[:, own].T, step).T
    return out


def _near(lines: np.ndarray, out: np.ndarray, step: float) -> np.ndarray:
    """Compare pixels of lines with all that are near; return in which lines others may be the least.

    Which lines these are depends on nothing but themselves: those with little background, and with much of it far away.
    """
    n = len(lines)
    far = np.count_nonzero(lines < _far(lines.dtype), axis=0) < SHARE * n
    spare, least, k = np.empty_like(lines), lines.min(), 1
    while k < n and _most(out, far, least) > least + _square(k, step, lines.dtype):
        some = range(k, min(k + 4, n))
        for k in some:
            away = _square(k, step, lines.dtype)
            moved = np.add(lines[:-k], away, out=spare[k:])
            np.minimum(out[k:], moved, out=out[k:])
            moved = np.add(lines[k:], away, out=spare[k:])
            np.minimum(out[:-k], moved, out=out[:-k])
        if k in (FEW, NEAR):
            far |= np.count_nonzero(out > away, axis=0) > (MANY * n if k == FEW else 0)
        k += 1
    return far


def _most(lines: np.ndarray, left_out: np.ndarray, least: Any) -> Any:
    if left_out.any():
        return lines.max(axis=0)[~left_out].max(initial=least)
    return lines.max()


def _far(dtype: np.dtype) -> float:
    """Return the square that stands for no background."""
    return np.inf if dtype.kind == "f" else FAR


def _square(k: int, step: float, dtype: np.dtype) -> Any:
    away = k * step
    return dtype.type(away * away)


def _least(lines: np.ndarray, bound: np.ndarray, step: float) -> np.ndarray:
    """Return what `_passed` does, of lines along axis 1, without comparing all pixels.

    Where the least of a pixel lies moves on from pixel to pixel: of pixels between two others it lies between theirs.
    So pixels are halved again and again, and few of the values are compared with each.

    Parameters
    ----------
    lines : ndarray of shape (m, n)
    bound : ndarray of shape (m, n)
        That the result does not exceed.
    step : float
    """
    finite = (lines < _far(lines.dtype)).any(axis=0)
    there, before = np.flatnonzero(finite), np.concatenate([[0], np.cumsum(finite)])
    if not len(there):
        return lines
    (m, n), out = lines.shape, np.empty_like(lines)
    reach = np.minimum(np.sqrt(bound.astype(np.float64)) / step, n).astype(np.int64) + 1
    where = np.zeros((m, n + 1), np.int64)  # among those there; at the end that of a pixel beyond the image
    where[:, n] = len(there) - 1
    stride = 1 << (n.bit_length() - 1)
    while stride:
        at = np.arange(stride - 1, n, 2 * stride)
        first = np.maximum(np.where(at < stride, 0, where[:, at - stride]), before[np.maximum(at - reach[:, at], 0)])
        last = np.minimum(where[:, np.minimum(at + stride, n)], before[np.minimum(at + reach[:, at] + 1, n)] - 1)
        found, where[:, at] = _least_of(lines[:, there], there, at, first, np.maximum(first, last), step)
        out[:, at] = found
        stride //= 2
    return out


def _least_of(
    lines: np.ndarray, there: np.ndarray, at: np.ndarray, first: np.ndarray, last: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least values at the pixels `at`, and of which of those that are `there`, from `first` to `last`."""
    count = (last - first + 1).ravel()
    ends = np.cumsum(count)
    line = np.arange(len(lines))[:, None] * len(there)
    places = np.arange(ends[-1]) + np.repeat((first + line).ravel() - (ends - count), count)
    away = (np.repeat(np.tile(at, len(lines)), count) - np.tile(there, len(lines))[places]) * step
    values = lines.ravel()[places] + (away * away).astype(lines.dtype)
    least = np.minimum.reduceat(values, ends - count)
    hits = np.flatnonzero(values == np.repeat(least, count))
    chosen = places[hits[np.searchsorted(hits, ends - count)]]
    return least.reshape(first.shape), chosen.reshape(first.shape) - line
