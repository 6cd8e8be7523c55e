"""Uncompressed arrays in files: a region is read without reading the rest.

Contiguous regions are read directly into the result; others are gathered from a window of a memory map or, for remote
files, from merged byte ranges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader

__all__ = ["map_raw", "read_raw"]

_SMALL = 2**18  # bytes


def read_raw(
    source: ByteReader, offset: int, dtype: np.dtype, shape: Sequence[int], region: Region, out: np.ndarray
) -> None:
    """Fill `out` with a region of a C-ordered array.

    Parameters
    ----------
    source : ByteReader
    offset : int
        Start of the array, in bytes.
    dtype : numpy.dtype
        The dtype in the file, with its byte order.
    shape : sequence of int
        Shape of the complete array.
    region : tuple of slice
        The region to read.
    out : ndarray
        An array of the shape of `region`; it is filled in place, and values are converted to its dtype.

    Raises
    ------
    FormatError
        If the region reaches beyond the end of the file.
    """
    if 0 in out.shape:
        return
    item = dtype.itemsize
    strides = [item * math.prod(shape[k + 1 :]) for k in range(len(shape))]
    first = offset + sum(s.start * step for s, step in zip(region, strides, strict=True))
    last = offset + sum((s.stop - 1) * step for s, step in zip(region, strides, strict=True)) + item
    contiguous = last - first == out.size * item
    if contiguous and out.flags.c_contiguous and dtype == out.dtype:
        source.read_into(first, out.reshape(-1).view(np.uint8).data)
    elif source.maps and last - first <= _SMALL:  # one read costs less than a memory map
        flat = np.frombuffer(source.ranges([first], [last - first])[0], np.uint8)
        out[...] = np.ndarray(out.shape, dtype, flat, 0, strides)
    elif contiguous or source.maps or last - first <= max(4 * out.size * item, source.slack):
        with source.window(first, last - first) as window:
            flat = np.frombuffer(window, np.uint8)
            view = np.ndarray(out.shape, dtype, flat, 0, strides)
            out[...] = view
            del view, flat
    elif source.slack:
        axis = next(k for k, n in enumerate(out.shape) if n > 1)
        for n, k in enumerate(range(region[axis].start, region[axis].stop)):
            one = (*region[:axis], slice(k, k + 1), *region[axis + 1 :])
            read_raw(source, offset, dtype, shape, one, out[(slice(None),) * axis + (slice(n, n + 1),)])
    else:
        _gather(source, first, dtype, strides, out)


def map_raw(source: ByteReader, offset: int, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray | None:
    """Return a C-ordered array of a local file, memory-mapped and read-only; None if that is not possible."""
    if (mapped := source.mapped()) is None or offset < 0 or offset + dtype.itemsize * math.prod(shape) > source.size:
        return None
    return np.ndarray(tuple(shape), dtype, mapped, offset)


def _gather(source: ByteReader, first: int, dtype: np.dtype, strides: list[int], out: np.ndarray) -> None:
    run = len(strides)  # axes from `run` on are contiguous in the file
    while run > 0 and strides[run - 1] == dtype.itemsize * math.prod(out.shape[run:]):
        run -= 1
    lead = out.shape[:run]
    places = list(product(*map(range, lead)))
    offsets = [first + sum(i * step for i, step in zip(place, strides, strict=False)) for place in places]
    count = math.prod(out.shape[run:]) * dtype.itemsize
    for place, data in zip(places, source.ranges(offsets, [count] * len(offsets)), strict=True):
        out[place] = np.frombuffer(data, dtype).reshape(out.shape[run:])
