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

from intake_img.kernels import envelopes

__all__ = ["distances", "further_pass", "kind_of_squares", "line_distances", "rooted", "squares"]

FAR, SHORT = 2**30, 2**15
"""Stands for no background in squares of 32 bits; for that and for larger squares, in those of 16 bits."""
TILE = 2**15
"""Pixels that are compared together: they stay in the cache of a core."""
WIDTH = 16
"""Lines of a tile at least."""
NEAR = {16: 0.8, 32: 0.6, 64: 0.4, 160: 0}
"""All results of a line up to this many pixels away are compared, unless no background is so near for a larger share of
its pixels: then only results that can be the least are compared."""
SHARE, COMMON = 0.4, 0.6
"""Lines in which a smaller share of pixels has results of earlier passes are not compared; the latter of whole numbers.
"""
SMALL = 2**13
"""Pixels of an image whose distances, if squares are whole, scipy has found sooner."""
NARROW = 512
"""Lines that are not searched pixel by pixel: there are too few of them at each."""
LINES, ENVELOPES = 2**18, 2**21
"""Pixels of lines that are searched together; whose envelopes are found together."""
SPARSE = 24
"""So few values of a line are compared with all of its pixels."""
BLOCK, SEVERAL = 8, 9
"""Pixels of a block; no more values than this many are compared with all of them. A power of 2, at least 2."""


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
    """Return the dtype of squared distances in an image: of pixels whole numbers, if 32 bits represent them."""
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
    out, far = np.empty_like(found), np.zeros((before, after), bool)
    sources, targets = (v.reshape(before, n, after) for v in (found, out))
    width = min(after, max(WIDTH, TILE // n))
    count = max(1, TILE // (n * width))
    for a, b in product(range(0, before, count), range(0, after, width)):
        source, target = (np.moveaxis(v[a : a + count, :, b : b + width], 1, 0) for v in (sources, targets))
        own, others = _near(np.ascontiguousarray(source).reshape(n, -1), step)
        target[...] = own.reshape(target.shape)
        far[a : a + count, b : b + width] = others.reshape(target.shape[1:])
    places, most = np.argwhere(far), max(1, (ENVELOPES if found.dtype.kind == "i" else LINES) // n)
    for k in range(0, len(places), most):
        i, j = places[k : k + most].T
        if found.dtype.kind == "i":
            targets[i, :, j] = envelopes.least(sources[i, :, j], FAR)
        else:
            targets[i, :, j] = _least(sources[i, :, j], targets[i, :, j], step)
    return out


def _near(lines: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Compare pixels of lines with all that are near; return the least, and in which lines others may be the least.

    Which lines these are depends on nothing but themselves: those with little background, and with much of it far away.
    """
    share = SHARE if lines.dtype.kind == "f" else COMMON
    far = np.count_nonzero(lines < _far(lines.dtype), axis=0) < share * len(lines)
    if lines.dtype.kind == "i" and (len(lines) > max(NEAR) or lines.max() < SHORT):
        lines = np.minimum(lines, SHORT).astype(np.uint16)  # numpy works on twice as many of 16 bits
    out = lines.copy()
    _compare(lines, out, far, step)
    if lines.dtype == np.uint16:
        far |= (out == SHORT).any(axis=0)
    return out, far


def _compare(lines: np.ndarray, out: np.ndarray, far: np.ndarray, step: float) -> None:
    """Compare pixels with others nearer and nearer than which no others can be the least; mark lines that are left."""
    n, spare, least, k = len(lines), np.empty_like(lines), lines.min(), 1
    while k < n and _most(out, far, least) > least + _square(k, step, lines.dtype):
        some = range(k, min(k + 4, n))
        for k in some:
            away = _square(k, step, lines.dtype)
            moved = np.add(lines[:-k], away, out=spare[k:])
            np.minimum(out[k:], moved, out=out[k:])
            moved = np.add(lines[k:], away, out=spare[k:])
            np.minimum(out[:-k], moved, out=out[:-k])
        if k in NEAR:
            far |= np.count_nonzero(out > away, axis=0) > NEAR[k] * n
        k += 1


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
    """Return, for each pixel of lines along axis 1, the least of their values, each plus the square of its distance.

    Not all pixels are compared. Where the least of a pixel lies moves on from pixel to pixel: of pixels between two
    others it lies between theirs. So pixels are halved again and again, and few of the values are compared with each;
    in the end, with all pixels of a block.

    Parameters
    ----------
    lines : ndarray of shape (m, n)
    bound : ndarray of shape (m, n)
        That the result does not exceed.
    step : float
    """
    some = (lines < _far(lines.dtype)).any(axis=1)
    if not some.all():
        out = lines.copy()
        if some.any():
            out[some] = _least(lines[some], bound[some], step)
        return out
    there = np.flatnonzero((lines < _far(lines.dtype)).any(axis=0))
    if len(there) <= SPARSE:
        return _least_of_few(lines, there, step)
    search = _Search(lines, bound, there, step)
    stride = max(BLOCK, 1 << (lines.shape[1].bit_length() - 1))
    while stride >= BLOCK:
        at = np.arange(stride - 1, lines.shape[1], 2 * stride)
        search.look(np.repeat(np.arange(len(lines)), len(at)), np.tile(at, len(lines)), stride)
        stride //= 2
    search.fill()
    return search.out[:, : lines.shape[1]]


def _least_of_few(lines: np.ndarray, there: np.ndarray, step: float) -> np.ndarray:
    """Return what `_least` does, where only pixels that are `there` have values."""
    out, spare = lines.copy(), np.empty_like(lines)
    for k in there.tolist():
        away = (np.arange(lines.shape[1]) - k) * step
        np.add(lines[:, k, None], (away * away).astype(lines.dtype), out=spare)
        np.minimum(out, spare, out=out)
    return out


class _Search:
    """The least values of lines, and where they lie among the pixels that are `there`; see `_least`."""

    def __init__(self, lines: np.ndarray, bound: np.ndarray, there: np.ndarray, step: float) -> None:
        (m, n), self.there, self.step = lines.shape, there, step
        self.sites = np.tile(there, m)
        self.values, self.before = np.ascontiguousarray(lines[:, there]), np.searchsorted(there, np.arange(n + 1))
        least = self.values.min(axis=1, keepdims=True)
        nearer = np.zeros(bound.shape)
        np.subtract(bound, least, out=nearer, where=bound > least)
        self.reach = np.minimum(np.sqrt(nearer) / step, n).astype(np.int64) + 1
        self.starts = np.arange(0, n, BLOCK)
        self.out = np.empty((m, len(self.starts) * BLOCK), lines.dtype)
        self.where = np.zeros((m, n + 1), np.int64)  # at the end that of a pixel beyond the image
        self.where[:, n] = len(there) - 1

    def look(self, line: np.ndarray, at: np.ndarray, stride: int) -> None:
        """Find the least values of the pixels `at`, of those between those of pixels at a distance of `stride`."""
        n, there = self.where.shape[1] - 1, self.values.shape[1]
        own, row = line * (n + 1), line * there
        reach = self.reach.take(line * n + at)
        first = np.where(at < stride, 0, self.where.take(own + np.maximum(at - stride, 0)))
        first = np.maximum(first, self.before.take(np.maximum(at - reach, 0)))
        last = np.minimum(self.where.take(own + np.minimum(at + stride, n)), self._last(np.minimum(at + reach + 1, n)))
        count = np.maximum(last - first, 0) + 1
        ends = np.cumsum(count)
        starts = ends - count
        places = np.arange(ends[-1]) + np.repeat(row + first - starts, count)
        away = (np.repeat(at, count) - self.sites.take(places)) * self.step
        away *= away
        values = self.values.take(places) + away.astype(self.values.dtype, copy=False)
        self.out[line, at] = least = np.minimum.reduceat(values, starts)
        if stride > 1:
            hits = np.flatnonzero(values == np.repeat(least, count))
            self.where[line, at] = places[hits[np.searchsorted(hits, starts)]] - row

    def _last(self, at: np.ndarray) -> np.ndarray:
        """Return the last of those that are there before a pixel."""
        return self.before.take(at) - 1

    def fill(self) -> None:
        """Find the least values of all pixels, of which those at the end of each block are known."""
        n = self.where.shape[1] - 1
        first = np.where(self.starts == 0, 0, self.where[:, self.starts - 1])
        last = np.maximum(first, self.where[:, np.minimum(self.starts + BLOCK - 1, n)])
        few = last - first < SEVERAL
        self._compare(few, first[few], last[few])
        line, block = np.nonzero(~few)
        stride = BLOCK // 2
        while stride and len(line):
            at = self.starts[block][:, None] + np.arange(stride - 1, BLOCK - 1, 2 * stride)
            there = at < n
            self.look(np.broadcast_to(line[:, None], at.shape)[there], at[there], stride)
            stride //= 2

    def _compare(self, few: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
        """Compare the pixels of some blocks with all values from the first to the last."""
        line, block = np.nonzero(few)
        start = self.starts[block]
        best = self._seen(line, start, first)
        for k in range(1, SEVERAL):
            more = np.flatnonzero(last - first >= k)
            if not len(more):
                break
            best[more] = np.minimum(best[more], self._seen(line[more], start[more], first[more] + k))
        self.out.reshape(*few.shape, BLOCK)[few] = best

    def _seen(self, line: np.ndarray, start: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return a value plus the squares of the distances of the pixels of a block."""
        away = ((start - self.there[place])[:, None] + np.arange(BLOCK)) * self.step
        away *= away
        return self.values[line, place][:, None] + away.astype(self.values.dtype, copy=False)
