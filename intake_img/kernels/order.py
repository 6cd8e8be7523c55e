"""Order statistics of boxes: extrema and ranks, by vectorised comparisons of arrays.

`scipy.ndimage` sorts the window of every pixel. Here shifted copies of the image are compared with each other: extrema
by doubling the window along each axis, ranks by a sorting network [1]_ pruned to the requested rank. Only values are
moved, so the results are bit-identical to scipy's. Inputs where the order of comparisons matters (NaN, negative zeros)
and large windows are handled by scipy.

scipy compares in float64, which rounds integers beyond 2**53. For these the filters act on the ranks of the values
among all values of the image, and ranks are mapped back to values.

References
----------
.. [1] K. E. Batcher, "Sorting networks and their applications", AFIPS 1968; D. E. Knuth, The Art of Computer
   Programming, volume 3, algorithm 5.2.2M.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.kernels import compiled
from intake_img.kernels.local_filters import padded, slabs, windowed

__all__ = ["FILTERS", "network", "ranked"]

LARGEST = 121
"""Pixels of the largest window whose ranks a network finds."""
CACHE = 2**19
"""Bytes that a sorting network processes together."""


def _simple(image: np.ndarray, output: np.ndarray, mode: str, cval: float) -> bool:
    """Whether comparing arrays gives the same result as scipy."""
    dtype = image.dtype
    if dtype.kind not in "biuf" or not image.size:
        return False
    if not np.can_cast(dtype, output.dtype, "safe"):
        return False
    if mode == "constant":
        if dtype.kind == "f":
            if cval == 0 and math.copysign(1, cval) < 0:
                return False
        elif not (float(cval).is_integer() and _held(cval, dtype)):
            return False
    if dtype.kind != "f":
        return True
    if np.isnan(np.min(image)):
        return False
    bits = image.view(f"{image.dtype.byteorder}i{image.dtype.itemsize}")  # -0.0: the smallest integer
    return bool(np.min(bits) > np.iinfo(bits.dtype).min)


def _rounded(image: np.ndarray) -> bool:
    """Whether float64 cannot represent all values of an integer image."""
    wide = image.dtype.kind in "iu" and image.dtype.itemsize == 8 and image.size > 0
    return wide and max(int(image.max()), -int(image.min())) > 2**53


def _by_scipy(name: str, image: np.ndarray, output: np.ndarray, *first: Any, cval: float, **options: Any) -> None:
    """Call a filter of scipy that selects values; with ranks of values if float64 would round the values."""
    if not _rounded(image):
        windowed(name, image, *first, output=output, cval=cval, **options)
        return
    info = np.iinfo(image.dtype)
    beyond = min(max(int(cval), int(info.min)), int(info.max))  # a fraction does not change the order
    values, rank = np.unique(np.append(image.ravel(), image.dtype.type(beyond)), return_inverse=True)
    ranks = rank[:-1].reshape(image.shape).astype(np.float64)
    output[...] = values[windowed(name, ranks, *first, cval=float(rank[-1]), **options).astype(np.intp)]


def _held(value: float, dtype: np.dtype) -> bool:
    if dtype.kind == "b":
        return value in (0, 1)
    info = np.iinfo(dtype)
    return bool(info.min <= value <= info.max)


def _origins(origin: int | Sequence[int], ndim: int) -> list[int]:
    return [origin] * ndim if isinstance(origin, (int, np.integer)) else list(origin)


# extrema


def _extremum(
    compare: np.ufunc,
    image: np.ndarray,
    output: np.ndarray,
    size: Sequence[int],
    mode: str,
    cval: float,
    origins: Sequence[int],
) -> None:
    """Fill `output` with the extremum of a box, axis by axis."""
    current: Any = image
    for axis, (n, origin) in enumerate(zip(size, origins, strict=True)):
        if axis == image.ndim - 2 and compiled.extremum(compare, current, output, size[-2:], mode, cval, origins[-2:]):
            return
        if n > 1:
            before = n // 2 + origin
            reach = [(0, 0)] * image.ndim
            reach[axis] = (before, n - 1 - before)
            made = np.empty(image.shape, image.dtype)
            for part in slabs(image.shape, axis):
                made[part] = _run_of(compare, padded(current[part], reach, mode, cval), n, axis)
            current = made
    output[...] = current


def _run_of(compare: np.ufunc, padded: np.ndarray, n: int, axis: int) -> np.ndarray:
    """Return the extremum of every n neighbours along an axis."""

    def cut(start: int, stop: int) -> tuple[slice, ...]:
        return (slice(None),) * axis + (slice(start, stop),)

    length, width = padded.shape[axis] - n + 1, 1
    while 2 * width <= n:
        padded = compare(padded[cut(0, padded.shape[axis] - width)], padded[cut(width, padded.shape[axis])])
        width *= 2
    if width < n:
        padded = compare(padded[cut(0, length)], padded[cut(n - width, n - width + length)])
    return padded


# ranks


@functools.lru_cache(maxsize=64)
def network(n: int, rank: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return the comparisons that bring the value of a rank among n to position `rank`.

    Returns
    -------
    tuple of (i, j, low, high)
        In order: the smaller of the values at i and j goes to i if `low`, the larger to j if `high`.

    Examples
    --------
    >>> network(3, 1)
    ((0, 2, True, True), (0, 1, False, True), (1, 2, True, False))
    """
    if rank in (0, n - 1):
        chain = [(k, k + 1, False, True) for k in range(n - 1)]
        return tuple(chain if rank else [(n - 2 - k, n - 1 - k, True, False) for k in range(n - 1)])
    pairs = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0 and n > 1:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    wanted, kept = {rank}, []
    for i, j in reversed(pairs):
        if i in wanted or j in wanted:
            kept.append((i, j, i in wanted, j in wanted))
            wanted |= {i, j}
    return tuple(reversed(kept))


def ranked(
    image: np.ndarray, output: np.ndarray, window: np.ndarray, rank: int, mode: str, cval: float, origins: Sequence[int]
) -> None:
    """Fill `output` with the value of a rank in the window around each pixel.

    Parameters
    ----------
    image, output : ndarray
    window : ndarray of bool
        The neighbourhood, with one axis for each axis of the image.
    rank : int
        0 is the smallest.
    mode, cval, origins
        As in `scipy.ndimage.rank_filter`.
    """
    offsets = np.argwhere(window)
    before = [n // 2 + o for n, o in zip(window.shape, origins, strict=True)]
    reach = [(b, n - 1 - b) for b, n in zip(before, window.shape, strict=True)]
    surrounded = padded(image, reach, mode, cval)
    steps = network(len(offsets), rank)
    line = max(1, math.prod(image.shape[1:])) * image.dtype.itemsize * (len(offsets) + 1)
    rows = max(1, CACHE // line)
    for start in range(0, image.shape[0], rows):
        n = min(rows, image.shape[0] - start)
        held = np.empty((len(offsets) + 1, n, *image.shape[1:]), image.dtype)
        for k, offset in enumerate(offsets):
            shift = tuple(slice(o, o + m) for o, m in zip(offset[1:], image.shape[1:], strict=True))
            held[k] = surrounded[(slice(start + offset[0], start + offset[0] + n), *shift)]
        output[start : start + n] = _selected(list(held), steps, rank)


def _selected(values: list[np.ndarray], steps: Sequence[tuple[int, int, bool, bool]], rank: int) -> np.ndarray:
    """Run a network; the last of `values` is work space."""
    *values, spare = values
    for i, j, low, high in steps:
        a, b = values[i], values[j]
        if low and high:
            np.minimum(a, b, out=spare)
            np.maximum(a, b, out=b)
            values[i], spare = spare, a
        elif low:
            np.minimum(a, b, out=a)
        else:
            np.maximum(a, b, out=b)
    return values[rank]


# filters, by scipy's names


def ranking_filter(
    image: np.ndarray,
    output: np.ndarray,
    *,
    name: str,
    mode: str,
    cval: float,
    origin: Any,
    size: Any = None,
    footprint: Any = None,
    **given: Any,
) -> None:
    """See the filter of this name in `scipy.ndimage`: medians, ranks (`rank`) and percentiles (`percentile`)."""
    window = np.ones(size, bool) if footprint is None else footprint
    n = int(window.sum())
    rank = _rank(n, **given)
    centred = footprint is None and name == "median_filter" and not any(_origins(origin, image.ndim))
    simple = (n <= LARGEST or centred) and _simple(image, output, mode, cval)
    if simple and centred and compiled.median(image, output, size, mode, cval):
        return
    origins = _origins(origin, image.ndim)
    if simple and n <= LARGEST:
        ranked(image, output, window, rank, mode, cval, origins)
        return
    if image.ndim == 1:  # for single lines scipy ignores holes in the footprint
        image, output, window, origins = image[None], output[None], window[None], [0, *origins]
    _by_scipy(name, image, output, *given.values(), footprint=window, mode=mode, cval=cval, origin=origins)


def _rank(n: int, rank: int | None = None, percentile: float | None = None) -> int:
    """Return the rank among `n` values: the given one, that of a percentile, or that of the median."""
    if rank is not None:
        return rank + n if rank < 0 else rank
    if percentile is None:
        return n // 2
    percent = percentile + 100.0 if percentile < 0 else percentile
    return n - 1 if percent == 100.0 else int(float(n) * percent / 100.0)  # as scipy counts


STAGES: dict[str, tuple[np.ufunc, ...]] = {
    "minimum_filter": (np.minimum,),
    "maximum_filter": (np.maximum,),
    "grey_erosion": (np.minimum,),
    "grey_dilation": (np.maximum,),
    "grey_opening": (np.minimum, np.maximum),
    "grey_closing": (np.maximum, np.minimum),
    "white_tophat": (np.minimum, np.maximum),
    "black_tophat": (np.maximum, np.minimum),
}
"""The extrema that each filter takes, one after the other."""


def extreme_filter(
    image: np.ndarray,
    output: np.ndarray,
    *,
    name: str,
    mode: str,
    cval: float,
    origin: Any,
    size: Any = None,
    footprint: Any = None,
) -> None:
    """See the filter of this name in `scipy.ndimage`, one of `STAGES`."""
    if size is None or not _simple(image, output, mode, cval) or (name.endswith("hat") and image.dtype != output.dtype):
        given = {"size": size} if footprint is None else {"footprint": footprint}
        given |= {"mode": mode, "cval": cval, "origin": origin}
        picks = f"grey_{'opening' if name[0] == 'w' else 'closing'}" if name.endswith("hat") else name
        if picks == name or not _rounded(image):
            _by_scipy(name, image, output, **given)
            return
        picked = np.empty_like(image)
        _by_scipy(picks, image, picked, **given)
        output[...] = image - picked if name == "white_tophat" else picked - image
        return
    origins = _origins(origin, image.ndim)
    mirrored = [-o - (n % 2 == 0) for o, n in zip(origins, size, strict=True)]
    made = image
    stages = STAGES[name]
    for k, compare in enumerate(stages):
        last = k == len(stages) - 1
        target = output if last else np.empty(image.shape, image.dtype)
        turned = compare is np.maximum and name != "maximum_filter"
        _extremum(compare, made, target, size, mode, cval, mirrored if turned else origins)
        made = target
    if name.endswith("hat"):
        low, high = (output, image) if name == "white_tophat" else (image, output)
        (np.logical_xor if image.dtype.kind == "b" else np.subtract)(high, low, out=output)


FILTERS: dict[str, Any] = {
    **{
        name: functools.partial(ranking_filter, name=name)
        for name in ("median_filter", "rank_filter", "percentile_filter")
    },
    **{name: functools.partial(extreme_filter, name=name) for name in STAGES},
}
"""Filters of this module by scipy's names."""
