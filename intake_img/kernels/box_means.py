"""Means over boxes of pixels, axis by axis, in parts of planes that fit into the CPU cache.

Each mean depends only on its own window. Sums of integers are exact; each mean is truncated towards zero, as in
`scipy.ndimage.uniform_filter`. Sums of floats are exact if all values are multiples of one power of two and the
largest is not too large: then a running sum gives the same bits as a separate sum for each window, and is used. NaN,
infinities and negative zeros are summed window by window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intake_img.kernels import compiled

__all__ = ["PADS", "float_means", "integer_means"]

PADS = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap", "constant": "constant"}
"""Names of scipy's modes for `numpy.pad`."""
PART = 2**17
"""Pixels of a plane that are averaged together."""
INTEGERS = tuple(np.dtype(t) for t in ("u1", "u2", "u4", "i1", "i2", "i4"))
SUMMED = tuple(np.dtype(t) for t in ("u1", "u2", "i2", "f4"))
"""What OpenCV sums in float64."""
FLOAT = np.dtype("f4")

Means = Callable[[np.ndarray, int, int, np.ndarray], None]
"""``means(values, n, axis, out)`` fills `out` with the mean of every n neighbours along an axis of a plane."""


def integer_means(
    image: np.ndarray, output: np.ndarray, size: Sequence[int], mode: str, cval: float, origins: Sequence[int]
) -> bool:
    """Average integers of at most 32 bits over boxes; return False for others, and for a `cval` that they cannot hold.

    Parameters
    ----------
    image, output : ndarray
        Of the same shape and dtype.
    size, origins : sequence of int
        For each axis, as in `scipy.ndimage.uniform_filter`.
    mode, cval
        As in scipy.
    """
    if image.dtype not in INTEGERS or image.dtype != output.dtype or not _holds(image.dtype, mode, cval):
        return False
    bounds = [int(image.min()), int(image.max()), int(cval) if mode == "constant" else 0]
    largest = max(size, default=1) * max(max(bounds), -min(bounds))
    dtype = next(d for k in (2, 4, 8) if largest <= np.iinfo(d := np.dtype(f"{image.dtype.kind}{k}")).max)
    means = _unsigned_means if dtype.kind == "u" else _signed_means
    _box_means(image, output, size, mode, cval, origins, functools.partial(means, dtype))
    return True


def float_means(
    image: np.ndarray, output: np.ndarray, size: Sequence[int], mode: str, cval: float, origins: Sequence[int]
) -> bool:
    """Average over boxes, in float32; return False for other dtypes, and for a `cval` that they cannot hold.

    Parameters
    ----------
    image : ndarray
        float32, or integers of 8 or 16 bits.
    output : ndarray of float32
    size, origins, mode, cval
        As in `integer_means`.
    """
    held = all(_holds(d, mode, cval) for d in (image.dtype, output.dtype))
    if image.dtype not in SUMMED or output.dtype != FLOAT or not held or compiled.opencv() is None:
        return False
    _box_means(image, output, size, mode, cval, origins, _float_means)
    return True


def _holds(dtype: np.dtype, mode: str, cval: float) -> bool:
    if mode != "constant":
        return True
    if dtype.kind == "f":
        return float(dtype.type(cval)) == cval
    info = np.iinfo(dtype)
    return float(cval).is_integer() and bool(info.min <= cval <= info.max)


# planes


def _box_means(
    image: np.ndarray,
    output: np.ndarray,
    size: Sequence[int],
    mode: str,
    cval: float,
    origins: Sequence[int],
    means: Means,
) -> None:
    """Average along each axis in turn, as scipy does; the last two axes together."""
    before = [n // 2 + o for n, o in zip(size, origins, strict=True)]
    current = image
    for axis in range(image.ndim - 2):
        if size[axis] > 1:
            made = np.empty(image.shape, output.dtype)
            planes = (math.prod(image.shape[:axis]), image.shape[axis], -1)
            for source, target in zip(current.reshape(planes), made.reshape(planes), strict=True):
                _plane(source, target, (size[axis], 1), (before[axis], 0), mode, cval, means)
            current = made
    if image.ndim == 1:
        current, output, size, before = current[None], output[None], [1, *size], [0, *before]
    for place in np.ndindex(image.shape[:-2]):
        _plane(current[place], output[place], size[-2:], before[-2:], mode, cval, means)


def _plane(
    source: np.ndarray,
    target: np.ndarray,
    size: Sequence[int],
    before: Sequence[int],
    mode: str,
    cval: float,
    means: Means,
) -> None:
    height, width = source.shape
    if size[1] == 1 and width > PART // 16:
        for start in range(0, width, PART // 16):
            here = (slice(None), slice(start, start + PART // 16))
            _plane(source[here], target[here], size, before, mode, cval, means)
        return
    rows, columns = (_extended(k, n, b, mode) for k, n, b in zip(source.shape, size, before, strict=True))
    left, right = slice(0, before[1]), slice(before[1] + width, None)
    step = max(PART // width, 2 * size[0], 1)
    wide = np.empty((min(step, height), len(columns)), target.dtype)
    for start in range(0, height, step):
        stop = min(start + step, height)
        low, high = start - before[0], stop + size[0] - 1 - before[0]
        edge = low < 0 or high > height
        lines = _taken(source, rows[start : stop + size[0] - 1], cval) if edge else source[low:high]
        part = wide[: stop - start]
        inner = part[:, left.stop : right.start] if size[1] > 1 else target[start:stop]
        if size[0] > 1:
            means(lines, size[0], 0, inner)
        else:
            inner[...] = lines
        if size[1] > 1:
            for side in (left, right):
                part[:, side] = _taken(inner.T, columns[side], cval).T
            means(part, size[1], 1, target[start:stop])


def _extended(length: int, n: int, before: int, mode: str) -> np.ndarray:
    """Return which pixels lie on an axis with its extension; -1 where there is none."""
    pad: Any = np.pad
    more = {"constant_values": -1} if mode == "constant" else {}
    return pad(np.arange(length), (before, n - 1 - before), PADS[mode], **more)


def _taken(plane: np.ndarray, rows: np.ndarray, cval: float) -> np.ndarray:
    """Return some rows, and `cval` for those that are -1."""
    lines = plane[rows]
    if (beyond := rows < 0).any():
        lines[beyond] = plane.dtype.type(cval)
    return lines


# means along an axis


def _sums(dtype: np.dtype, values: np.ndarray, n: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of every n neighbours, and the array whose memory it uses: sums of 2, 4, 8 ... neighbours, and of
    those that together are n.
    """
    rows, width = values.shape
    held = values.astype(dtype, copy=False)
    if axis == 1:  # one long line is added sooner than many short ones; sums across the ends of lines are left out
        held = held.reshape(-1)
    length = len(held) - n + 1
    total, done, step = np.zeros((), dtype), 0, 1
    while True:
        if n & step:
            here = held[done : done + length]
            total = total + here if done else here
            done += step
        if done == n:
            break
        held = held[:-step] + held[step:]
        step *= 2
    if axis == 0:
        return total, total
    item = dtype.itemsize
    return np.lib.stride_tricks.as_strided(total, (rows, width - n + 1), (width * item, item)), total


def _unsigned_means(dtype: np.dtype, values: np.ndarray, n: int, axis: int, out: np.ndarray) -> None:
    sums, memory = _sums(dtype, values, n, axis)
    np.floor_divide(memory, dtype.type(n), out=memory)
    out[...] = sums


def _signed_means(dtype: np.dtype, values: np.ndarray, n: int, axis: int, out: np.ndarray) -> None:
    wide: Any = np.float32 if dtype.itemsize == 2 else np.float64
    out[...] = _sums(dtype, values, n, axis)[0].astype(wide) / wide(n)  # no quotient is rounded up to an integer


def _float_means(values: np.ndarray, n: int, axis: int, out: np.ndarray) -> None:
    from scipy import ndimage

    cv2: Any = compiled.opencv()
    if values.dtype.kind != "f" or _exact(values, n):
        box = (1, n) if axis == 0 else (n, 1)
        sums = cv2.boxFilter(compiled.readable(values), cv2.CV_64F, box, normalize=False)
    else:
        sums = ndimage.correlate1d(values, np.ones(n), axis, np.float64)
    inner = slice(n // 2, n // 2 + out.shape[axis])
    np.divide(sums[inner] if axis == 0 else sums[:, inner], n, out=out, casting="same_kind")


def _exact(values: np.ndarray, n: int) -> bool:
    """Whether float64 represents every sum of n + 1 of these float32 values, and none is -0.0.

    The values are multiples of the last bit of the smallest that is not 0.
    """
    bits = values.view(np.int32)
    low, high = int(bits.min()), int(bits.max())
    if low < 0:
        if low == np.iinfo(np.int32).min:
            return False
        bits = bits & np.int32(0x7FFFFFFF)
        low, high = int(bits.min()), int(bits.max())
    if high >= 0x7F800000:
        return False
    if low == 0:  # 0 - 1 becomes the largest
        low = (int((bits.view(np.uint32) - np.uint32(1)).min()) + 1) % 2**32
    exponents = (max(low >> 23, 1), max(high >> 23, 1))
    return not low or exponents[1] - exponents[0] + 24 + (n + 1).bit_length() <= 53
