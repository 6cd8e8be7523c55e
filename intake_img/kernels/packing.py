"""Histograms of pairs as packed keys: counting the pixels of chunks, adding histograms, unpacking to a table.

`intake_img.kernels.joint.Counter` chooses the counting method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.kernels.tables import Table

__all__ = [
    "Box",
    "Packed",
    "Pixels",
    "box_of",
    "code_of",
    "codes_of",
    "count_dense",
    "count_sorted",
    "distinct",
    "labels_of",
    "merge",
    "packed_cells",
    "select",
    "unpack",
    "widened",
]

Packed = tuple[np.ndarray, np.ndarray]
"""Sorted unsigned keys ``label << 2*bits | a << bits | b`` and the number of pixels of each."""
Pixels = tuple[np.ndarray, np.ndarray, Any]
"""Grey values of two channels and labels, one-dimensional."""
Box = tuple[int, int, int, int]
"""Lowest a, number of values of a, lowest b, number of values of b."""
_STRIP = 2**20
"""Cells that are gone through in one step."""
_SLICE = 2**17


def code_of(dtype: np.dtype) -> tuple[int, int]:
    """Return (lowest value, bits) for packing grey values of a dtype; wide integers are tried as 16 bits.

    Raises
    ------
    TypeError
        For floats, which cannot be packed.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind not in "iu":
        raise TypeError(f"expected integers, got {dtype}")
    if dtype.itemsize > 2:
        return 0, 16
    return (int(np.iinfo(dtype).min), 8 * dtype.itemsize)


def select(a: np.ndarray, b: np.ndarray, labels: np.ndarray | None = None, keep: np.ndarray | None = None) -> Pixels:
    """Return the valid pixels of a chunk, as one-dimensional arrays; views if all are valid.

    Parameters
    ----------
    a, b : ndarray, same shape
    labels : ndarray of integers, same shape, optional
        Pixels of label 0 and below are left out.
    keep : ndarray of bool, same shape, optional
        Pixels to count.
    """
    a, b = a.ravel(), b.ravel()
    if labels is not None:
        labels = labels.ravel()
        keep = (labels > 0) if keep is None else (labels > 0) & keep.ravel()
    if keep is None:
        return a, b, labels
    keep = keep.ravel()
    return a[keep], b[keep], None if labels is None else labels[keep]


def codes_of(values: np.ndarray, low: int, bits: int) -> np.ndarray | None:
    """Grey values as unsigned integers of the given number of bits; None if one does not fit."""
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.itemsize > 2:
        fits = values.min() >= 0 and values.max() < 1 << bits
        return values.astype(np.uint16) if fits else None
    if values.dtype.kind == "u":
        return values
    unsigned = np.dtype(f"u{values.dtype.itemsize}")  # adding the lowest value flips the sign bit
    return values.view(unsigned) ^ unsigned.type(-low)


def count_sorted(parts: Sequence[Pixels], bits: int) -> Packed:
    tops = [0 if labels is None else int(labels.max()).bit_length() for a, _, labels in parts if len(a)]
    if max(tops) > 32:
        raise ValueError(f"labels of {max(tops)} bits: expected less than {2**32}")
    kind = np.uint32 if 2 * bits + max(tops) <= 32 else np.uint64
    keys: Any = np.empty(sum(len(a) for a, _, _ in parts), kind)
    first = 0
    for a, b, labels in parts:
        for k in range(0, len(a), _SLICE):
            own = keys[first + k : first + min(k + _SLICE, len(a))]
            np.copyto(own, a[k : k + _SLICE])
            own <<= kind(bits)
            own |= b[k : k + _SLICE]
            if labels is not None:
                own |= np.left_shift(labels[k : k + _SLICE], kind(2 * bits), dtype=kind, casting="unsafe")
        first += len(a)
    if 2 * bits + max(tops) <= 20:
        counts = np.bincount(keys)
        found = np.flatnonzero(counts)
        return found.astype(np.uint32), counts[found]
    keys.sort()
    return _run_lengths(keys)


def _run_lengths(keys: np.ndarray) -> Packed:
    starts = np.flatnonzero(keys[1:] != keys[:-1])
    starts += 1
    starts = np.concatenate([[0], starts])
    counts = np.empty(len(starts), np.uint32 if len(keys) < 2**32 else np.int64)
    np.subtract(starts[1:], starts[:-1], out=counts[:-1], casting="unsafe")
    counts[-1] = len(keys) - starts[-1]
    return keys[starts], counts


def box_of(ranges: Sequence[tuple[int, int]], most: int) -> Box | None:
    """Return the array for ranges of grey values, None if it would have more than `most` cells."""
    (low_a, high_a), (low_b, high_b) = ranges
    height, width = high_a - low_a + 1, high_b - low_b + 1
    return (low_a, height, low_b, width) if height * width <= most else None


def count_dense(parts: Sequence[Pixels], box: Box, whole: bool, cells: np.ndarray) -> list[Pixels]:
    """Add pixels to the cells of an array; return the pixels outside of it."""
    low_a, height, low_b, width = box
    rows, columns, ones = np.empty(_SLICE, np.int32), np.empty(_SLICE, np.int32), np.ones(_SLICE, np.uint32)
    outside: list[Pixels] = []
    for a, b, _ in parts:
        for k in range(0, len(a), _SLICE):
            x, y = a[k : k + _SLICE], b[k : k + _SLICE]
            if not whole:
                beyond = (x - x.dtype.type(low_a) >= height) | (y - y.dtype.type(low_b) >= width)  # lower wraps around
                outside.append((x[beyond], y[beyond], None))
                x, y = x[~beyond], y[~beyond]
            row, column = rows[: len(x)], columns[: len(x)]
            np.copyto(row, x)
            np.copyto(column, y)
            if low_a:
                row -= np.int32(low_a)
            if low_b:
                column -= np.int32(low_b)
            _increment(cells, height, width, row, column, ones[: len(x)])
    return [part for part in outside if len(part[0])]


def _increment_slowly(
    cells: np.ndarray, height: int, width: int, row: np.ndarray, column: np.ndarray, ones: np.ndarray
) -> None:
    np.add.at(cells, row.astype(np.intp) * width + column, np.uint32(1))


def _increment_by_scipy(
    cells: np.ndarray, height: int, width: int, row: np.ndarray, column: np.ndarray, ones: np.ndarray
) -> None:
    sparse._sparsetools.coo_todense(height, width, len(row), row, column, ones, cells, 0)


try:  # scipy's conversion of sparse to dense matrices adds to an array; unlike numpy's add.at it releases the GIL
    from scipy import sparse

    _tried = np.ones(6, np.uint32)
    _increment_by_scipy(_tried, 2, 3, np.array([1, 0, 1], np.int32), np.array([2, 0, 2], np.int32), _tried[:3].copy())
    _increment = _increment_by_scipy if _tried.tolist() == [2, 1, 1, 1, 1, 3] else _increment_slowly
except (ImportError, AttributeError, TypeError, ValueError):  # not part of scipy's public interface
    _increment = _increment_slowly


def packed_cells(cells: np.ndarray, low_a: int, low_b: int, width: int, bits: int) -> Packed:
    """Keys and counts of the cells that are not empty."""
    keys_found: list[Any] = [np.empty(0, np.uint32)]
    counts_found: list[Any] = [cells[:0]]
    for first in range(0, len(cells), _STRIP):
        part = cells[first : first + _STRIP]
        found = np.flatnonzero(part != 0)  # scanning bool is several times as fast as numbers
        keys = found.astype(np.uint32)
        keys += np.uint32(first)
        row = keys // np.uint32(width)
        keys -= row * np.uint32(width)
        keys += np.uint32(low_b)
        row += np.uint32(low_a)
        row <<= np.uint32(bits)
        keys |= row
        keys_found.append(keys)
        counts_found.append(part[found])
    return np.concatenate(keys_found), np.concatenate(counts_found)


def distinct(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Sorted distinct keys; `numpy.unique`, which hashes, takes 30 times as long here."""
    keys = np.concatenate(parts)
    keys.sort()
    return keys[_new(keys)]


def widened(packed: Packed, old: tuple[int, int], new: tuple[int, int]) -> Packed:
    """The same pixels in wider bins; keys of 16 bits."""
    keys, counts = packed
    if not len(keys):
        return packed
    kind, more = keys.dtype.type, [n - o for n, o in zip(new, old, strict=True)]
    mask = kind(0xFFFF)
    a, b = (keys >> kind(16)) & mask, keys & mask
    wide = (keys & ~kind(0xFFFFFFFF)) | (a >> kind(more[0])) << kind(16) | b >> kind(more[1])
    return _summed(wide, counts)


def merge(parts: Sequence[Packed], bits: int = 0) -> Packed:
    """Return the sum of histograms.

    Parameters
    ----------
    parts : sequence of (keys, counts)
    bits : int
        Bits of a grey value, if there are no labels: keys in a small range are then added in one array.
    """
    parts = [p for p in parts if len(p[0])]
    if not parts:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    if len(parts) == 1:
        return parts[0]
    if bits and (dense := _merge_dense(parts, bits)):
        return dense
    return _summed(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _summed(keys: np.ndarray, counts: np.ndarray) -> Packed:
    """Sort keys, and add the counts of equal keys."""
    if keys.dtype == np.uint32 and counts.dtype == np.uint32:  # sorted together, which is much faster than with argsort
        both = (keys.astype(np.uint64) << np.uint64(32)) | counts
        both.sort()
        keys, counts = (both >> np.uint64(32)).astype(np.uint32), both & np.uint64(2**32 - 1)
    else:
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(_new(keys))
    return keys[starts], np.add.reduceat(counts.astype(np.int64, copy=False), starts)


def _new(keys: np.ndarray) -> np.ndarray:
    """Where sorted keys, at least one, differ from the preceding key."""
    return np.append(True, keys[1:] != keys[:-1])


def _merge_dense(parts: Sequence[Packed], bits: int) -> Packed | None:
    """The same in a two-dimensional array of grey values, in strips that fit into a CPU cache; None if it is too
    sparse.
    """
    mask = np.uint32((1 << bits) - 1)
    low_a, high_a = min(int(p[0][0]) for p in parts) >> bits, max(int(p[0][-1]) for p in parts) >> bits
    low_b = min(int((p[0] & mask).min()) for p in parts)
    width = max(int((p[0] & mask).max()) for p in parts) - low_b + 1
    if (high_a - low_a + 1) * width > 32 * sum(len(p[0]) for p in parts):
        return None
    few = sum(int(p[1].sum(dtype=np.int64)) for p in parts) < 2**32
    rows = max(1, _STRIP // width)
    firsts = np.arange(low_a, high_a + 1, rows)
    edges = [np.append(np.searchsorted(p[0], (firsts << bits).astype(np.uint32)), len(p[0])) for p in parts]
    keys_found, counts_found = [], []
    for n, first in enumerate(firsts.tolist()):
        cells: Any = np.zeros(rows * width, np.uint32 if few else np.int64)
        for (keys, counts), edge in zip(parts, edges, strict=True):
            own = slice(edge[n], edge[n + 1])
            at = ((keys[own] >> np.uint32(bits)) - np.uint32(first)) * np.uint32(width)
            at += keys[own] & mask
            at -= np.uint32(low_b)
            cells[at] += counts[own].astype(cells.dtype, copy=False)  # keys of one part are distinct
        keys, counts = packed_cells(cells, first, low_b, width, bits)
        keys_found.append(keys)
        counts_found.append(counts)
    return np.concatenate(keys_found), np.concatenate(counts_found)


def unpack(packed: Packed, dtype: np.dtype, labels: np.ndarray | None = None) -> Table:
    """Return the table of packed keys.

    Parameters
    ----------
    packed : (keys, counts)
    dtype : dtype
        Dtype of the image.
    labels : ndarray of int64, optional
        Sorted labels that become the groups; without, all is one group.
    """
    low, bits = code_of(dtype)
    keys, counts = packed[0], packed[1].astype(np.int64)
    if labels is not None:
        keys = keys.astype(np.uint64)
    kind = np.uint32 if labels is None and keys.dtype.itemsize == 4 else np.uint64
    codes = keys >> kind(bits), keys.copy()
    for code in codes:
        code &= kind((1 << bits) - 1)
    a, b = (code.view(np.int32) if kind is np.uint32 else code.astype(np.int32) for code in codes)
    if low:
        a += np.int32(low)
        b += np.int32(low)
    if labels is None:
        return Table(np.zeros(len(keys), np.int8), a, b, counts, 1)
    group = np.searchsorted(labels, (keys >> np.uint64(2 * bits)).astype(np.int64))
    return Table(group, a, b, counts, len(labels))


def labels_of(packed: Packed, dtype: np.dtype) -> np.ndarray:
    """Return the sorted labels that occur."""
    labels = (packed[0].astype(np.uint64) >> np.uint64(2 * code_of(dtype)[1])).astype(np.int64)
    return labels[_new(labels)] if len(labels) else labels
