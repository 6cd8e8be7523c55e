"""Medians and extrema of planes, and of masks, by OpenCV, in the cases where its results are bit-identical to scipy's.

Planes are padded before they are passed to OpenCV, unless its own edge rule is the requested one. Small windows are
processed in parts of planes that are too small for OpenCV's own threads: parallelism is left to dask, and no setting of
OpenCV is changed.

Every function returns whether it has filled `output`; if not, the caller uses another method. Callers handle NaN and
negative zeros, for which the order of comparisons matters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["extremum", "masked_extremum", "median", "opencv", "readable"]

PART = 3 * 2**15
"""Pixels of a part: less than what OpenCV divides among threads."""
LEVELS = 4
"""A median of 8 bits takes scipy's time for this many pixels of a window."""
FEW = 121
"""Pixels of windows whose medians a network finds, in half of scipy's time."""
LARGEST = 63
"""Pixels along an axis of the largest box whose extrema OpenCV finds sooner than comparisons of whole arrays."""
TYPES = (np.dtype("u1"), np.dtype("u2"), np.dtype("i2"), np.dtype("f4"))
"""What the filters of OpenCV take, and scipy as well."""
BORDERS = {"reflect": 2, "mirror": 4, "nearest": 1, "wrap": 3, "constant": 0}
"""Modes of scipy as ``cv2.BORDER_REFLECT``, ``_REFLECT_101``, ``_REPLICATE``, ``_WRAP`` and ``_CONSTANT``."""

Span = tuple[int, int]


@functools.cache
def opencv() -> ModuleType | None:
    """Return the module ``cv2``; None if it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def median(image: np.ndarray, output: np.ndarray, size: Sequence[int], mode: str, cval: float) -> bool:
    """Take medians of centred square boxes of planes; boxes of 7 and more pixels only for 8 and 16 bits."""
    cv2, side = opencv(), size[-1]
    square = len(size) > 1 and list(size) == [1] * (len(size) - 2) + [side, side]
    if cv2 is None or not square or image.dtype not in TYPES or math.isnan(cval):
        return False
    reach = (side // 2, side // 2)
    if side in (3, 5) and (mode == "nearest" or (mode == "reflect" and side == 3)):  # as OpenCV extends edges
        for place in np.ndindex(image.shape[:-2]):
            _into(cv2.medianBlur, readable(image[place]), side, output[place])
    elif side in (3, 5):
        _planes(image, output, lambda part: cv2.medianBlur(part, side), (reach, reach), mode, cval, PART)
    elif image.dtype.kind == "u" and side % 2 and 5 < side < 256:
        if image.dtype == np.uint16 and side**2 <= FEW and np.ptp(image) >> 8 > side**2 // (2 * LEVELS):
            return False
        large = cv2.medianBlur if image.dtype == np.uint8 else _wide_median
        _planes(image, output, lambda part: large(part, side), (reach, reach), mode, cval, None)
    else:
        return False
    return True


def _into(func: Callable[..., np.ndarray], plane: np.ndarray, side: int, target: np.ndarray) -> None:
    """Fill `target`, directly if OpenCV accepts its memory layout."""
    if target.strides[1] == target.itemsize and target.strides[0] >= target.shape[1] * target.itemsize:
        func(plane, side, dst=target)
    else:
        target[...] = func(plane, side)


def _wide_median(image: np.ndarray, side: int) -> np.ndarray:
    """Return medians of 16-bit data from medians of 8-bit data.

    A median commutes with non-decreasing functions of the values. The upper byte of the median is the median of the
    upper bytes; where that is h, the lower byte is the median of the values minus ``256 h``, clipped to a byte. If
    there are too many such h for this to be faster, scipy is used.
    """
    from scipy import ndimage

    cv2: Any = opencv()
    upper = cv2.medianBlur((image >> 8).astype(np.uint8), side)
    levels = np.flatnonzero(np.bincount(upper.ravel(), minlength=256))
    if len(levels) > side**2 // LEVELS:
        return ndimage.median_filter(image, side)
    found = upper.astype(np.uint16) << 8
    for level in levels.tolist():
        here = upper == level
        box = _around(here, side // 2)
        values = image[box]
        low = np.uint16(level << 8)
        clipped = np.clip(values, low, low + np.uint16(255)) - low
        found[box] += np.where(here[box], cv2.medianBlur(clipped.astype(np.uint8), side), 0).astype(np.uint16)
    return found


def _around(mask: np.ndarray, reach: int) -> tuple[slice, ...]:
    """Return the bounding box of all true pixels, extended by `reach` pixels on all sides."""
    lines = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
    return tuple(slice(max(0, int(k[0]) - reach), int(k[-1]) + reach + 1) for k in lines)


def extremum(
    compare: np.ufunc,
    image: np.ndarray,
    output: np.ndarray,
    size: Sequence[int],
    mode: str,
    cval: float,
    origins: Sequence[int],
) -> bool:
    """Take the extremum (`numpy.minimum` or `numpy.maximum`) of boxes of planes, given by their two last axes."""
    cv2 = opencv()
    if cv2 is None or max(size) > LARGEST or image.dtype not in TYPES or math.isnan(cval):
        return False
    reach = [_reach(n, o) for n, o in zip(size, origins, strict=True)]
    window, anchor = np.ones(size, np.uint8), (reach[1][0], reach[0][0])
    func = cv2.erode if compare is np.minimum else cv2.dilate
    if mode == "wrap":
        _planes(image, output, lambda part: func(part, window, anchor=anchor), reach, mode, cval, PART)
        return True
    border = {"borderType": BORDERS[mode], "borderValue": float(cval)}
    more = max(*reach[0], 0) + 1  # a reflected edge needs as many lines inside as outside
    rows = max(2 * more + 8, PART // image.shape[-1] - 2 * more)
    for place in np.ndindex(image.shape[:-2]):
        plane, target = readable(image[place]), output[place]
        for start in range(0, len(plane), rows):
            first, stop = max(0, start - more), min(start + rows, len(plane))
            found = func(plane[first : stop + more], window, anchor=anchor, **border)
            target[start:stop] = found[start - first : stop - first]
    return True


def masked_extremum(mask: np.ndarray, structure: np.ndarray, erode: bool) -> np.ndarray | None:
    """Erode or dilate the planes of a mask, given by its two last axes; None if the structure spans several planes.

    Pixels beyond the edge are ignored. The lengths of the structure are odd, and it is symmetric.
    """
    cv2 = opencv()
    if cv2 is None or mask.ndim < 2 or any(n != 1 for n in structure.shape[:-2]) or not mask.size:
        return None
    window = np.ascontiguousarray(structure.reshape(structure.shape[-2:])).view(np.uint8)
    func, beyond = (cv2.erode, 255) if erode else (cv2.dilate, 0)
    out = np.empty(mask.shape, bool)
    for place in np.ndindex(mask.shape[:-2]):
        plane = np.ascontiguousarray(mask[place]).view(np.uint8)
        out[place] = func(plane, window, borderType=cv2.BORDER_CONSTANT, borderValue=beyond)
    return out


def _reach(n: int, origin: int) -> Span:
    before = n // 2 + origin
    return before, n - 1 - before


def _planes(
    image: np.ndarray,
    output: np.ndarray,
    func: Callable[[np.ndarray], np.ndarray],
    reach: Sequence[Span],
    mode: str,
    cval: float,
    part: int | None,
) -> None:
    """Filter each padded plane, in parts of this many pixels."""
    height, width = image.shape[-2:]
    around = sum(reach[0])
    rows = height if part is None else max(around + 8, part // (width + sum(reach[1])) - around)
    for place in np.ndindex(image.shape[:-2]):
        surrounded = _surrounded(readable(image[place]), reach, mode, float(cval))
        target, left = output[place], reach[1][0]
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            wide, first = surrounded(start, stop)
            target[start:stop] = func(wide)[first : first + stop - start, left : left + width]


def _surrounded(
    plane: np.ndarray, reach: Sequence[Span], mode: str, cval: float
) -> Callable[[int, int], tuple[np.ndarray, int]]:
    """Return a function that gives some lines of a plane with their padding, and their start in it."""
    cv2: Any = opencv()
    (above, below), sides, height = reach[0], reach[1], len(plane)
    more = max(above, below) + 1  # a reflected edge needs as many lines inside as outside

    def periodic(start: int, stop: int) -> tuple[np.ndarray, int]:
        return whole[start : stop + above + below], above

    def other(start: int, stop: int) -> tuple[np.ndarray, int]:
        first, last = max(0, start - more), min(height, stop + more)
        top, bottom = max(0, above - start), max(0, stop + below - height)
        lines = cv2.copyMakeBorder(plane[first:last], top, bottom, *sides, BORDERS[mode], value=cval)
        return lines, start - first + top

    if mode != "wrap":
        return other
    whole = cv2.copyMakeBorder(plane, above, below, *sides, BORDERS[mode])
    return periodic


def readable(plane: np.ndarray) -> np.ndarray:
    """Return a plane with a memory layout that OpenCV accepts."""
    step, unit = plane.strides
    return plane if unit == plane.itemsize and step >= plane.shape[1] * unit else np.ascontiguousarray(plane)
