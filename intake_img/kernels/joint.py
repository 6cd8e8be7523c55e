"""Joint histograms of two channels: each distinct (label, a, b) once, with its number of pixels.

For integer images the joint histogram is a sufficient statistic of every pixel measure of colocalization, and adding
histograms of chunks is exact in any order. A chunk is counted into packed keys; `merge` adds them; `unpack` makes the
`Table` that the measures read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = [
    "ROOM",
    "Counter",
    "Levels",
    "Packed",
    "Pixels",
    "Table",
    "code_of",
    "count_pairs",
    "labels_of",
    "merge",
    "select",
    "table_of",
    "unpack",
]

Packed = tuple[np.ndarray, np.ndarray]
"""Sorted unsigned keys ``label << 2*bits | a << bits | b`` and the number of pixels of each."""

_STRIP = 2**20
"""Rows, or cells, that are gone through at once."""
_MOST_LEVELS = 2**20
"""Grey levels that are looked up."""


@dataclass(frozen=True)
class Levels:
    """The grey levels of a channel: level ``low + k`` has ``count[k]`` pixels."""

    low: int
    count: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, count: np.ndarray) -> Levels | None:
        """Count the pixels of each level, of rows with so many pixels; None for floats and a wide range."""
        low = int(values.min())
        span = int(values.max()) - low + 1
        if values.dtype.kind == "f" or span > _MOST_LEVELS:
            return None
        found = np.zeros(span)
        for k in range(0, len(values), _STRIP):  # whole numbers below 2**53
            rows = slice(k, k + _STRIP)
            found += np.bincount(values[rows] - values.dtype.type(low), weights=count[rows], minlength=len(found))
        return cls(low, found.astype(np.int64))

    @cached_property
    def twice_midranks(self) -> np.ndarray:
        """Twice the mid-rank of each level, less n + 1."""
        return 2 * (np.cumsum(self.count) - self.count) + self.count - int(self.count.sum())

    @cached_property
    def dense_ranks(self) -> np.ndarray:
        """Rank of each level among those that occur, from 0."""
        return np.cumsum(self.count > 0) - 1


@dataclass(frozen=True)
class Table:
    """Distinct (group, a, b) with their number of pixels, sorted in this order.

    Parameters
    ----------
    group : ndarray of shape (K,), integers
        Number of the group (label, region), 0 to `ngroups` - 1.
    a, b : ndarray of shape (K,), int32, int64 or float64
        Grey values of the two channels.
    count : ndarray of shape (K,), int64
        Number of pixels; 1 throughout for floats, whose rows are pixels.
    ngroups : int
    """

    group: np.ndarray
    a: np.ndarray
    b: np.ndarray
    count: np.ndarray
    ngroups: int

    def __len__(self) -> int:
        return len(self.count)

    def select(self, keep: np.ndarray | slice) -> Table:
        """Return the rows where `keep` is True, or those of a slice, without copying them; with the same groups."""
        return Table(self.group[keep], self.a[keep], self.b[keep], self.count[keep], self.ngroups)

    @cached_property
    def by_b(self) -> np.ndarray:
        """Order of the rows by (group, b, a)."""
        if self.b.dtype.kind == "f" or not len(self) or self.ngroups > 2**16:
            return np.lexsort((self.a, self.b, self.group))
        low = int(self.b.min())
        if int(self.b.max()) - low >= 2**16:
            return np.lexsort((self.a, self.b, self.group))
        order = np.argsort((self.b - low).astype(np.uint16), kind="stable")  # by radix: rows are sorted by a already
        if self.ngroups > 1:
            order = order[np.argsort(self.group[order].astype(np.uint16), kind="stable")]
        return order

    @cached_property
    def levels(self) -> tuple[Levels, Levels] | None:
        """Grey levels of both channels; None for floats, several groups, integers of a wide range."""
        if self.ngroups != 1 or self.a.dtype.kind == "f" or not len(self):
            return None
        a, b = Levels.of(self.a, self.count), Levels.of(self.b, self.count)
        return None if a is None or b is None else (a, b)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the groups that have rows start."""
        return np.concatenate([[0], np.flatnonzero(np.diff(self.group)) + 1]) if len(self) else np.empty(0, np.int64)

    def of_group(self, number: int) -> Table:
        """Return the rows of one group, as the only group."""
        part = slice(*np.searchsorted(self.group, [number, number + 1]))
        return Table(np.zeros(part.stop - part.start, np.int64), self.a[part], self.b[part], self.count[part], 1)


def code_of(dtype: np.dtype) -> tuple[int, int]:
    """Return (lowest value, bits) by which grey values of a dtype are packed; wide integers are tried as 16 bits.

    Raises
    ------
    TypeError
        For floats, which are not packed.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind not in "iu":
        raise TypeError(f"expected integers, got {dtype}")
    if dtype.itemsize > 2:
        return 0, 16
    return (int(np.iinfo(dtype).min), 8 * dtype.itemsize)


Pixels = tuple[np.ndarray, np.ndarray, Any]
"""Grey values of two channels and labels, one-dimensional."""


def select(a: np.ndarray, b: np.ndarray, labels: np.ndarray | None = None, keep: np.ndarray | None = None) -> Pixels:
    """Return the pixels of a chunk that count, as one-dimensional arrays; views where all do.

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


ROOM = 2**24
"""Cells of an array in which all pairs are counted, however many there are."""


class Counter:
    """Counts the distinct pairs of grey values in chunks, one after the other.

    Grey values that lie close together are counted in a two-dimensional array, all others, and pixels with labels, by
    sorting.

    Parameters
    ----------
    dtype : dtype of integers
        Of the grey values.
    size : int
        Number of pixels that are expected: an array may have a few times as many cells.
    most : int, optional
        Distinct pairs that are counted at most, where they do not lie within an array of `ROOM` cells.
    cells : int
        Larger arrays are not kept from chunk to chunk.
    levels : int, optional
        Count bins of 2**shift grey levels in place of grey values, the narrowest of which there are at most so many in
        each channel: always few enough. Keys are those of 16 bits.
    """

    def __init__(self, dtype: np.dtype, size: int, most: int | None = None, cells: int = 2**25,
                 levels: int | None = None) -> None:  # fmt: skip
        self.low, self.value_bits = code_of(dtype)
        self.bits = 16 if levels else self.value_bits
        self.size, self.most, self.most_cells, self.levels = size, most, cells, levels
        self.failed = self.labelled = self.spent = False
        self.shifts = (0, 0)
        self.pixels = self._in_cells = 0
        self._seen = 2**22
        self._box: Box | None = None
        self._cells: Any = None
        self._sparse: list[Packed] = []

    def add(self, parts: Sequence[Pixels]) -> None:
        """Count pixels.

        Parameters
        ----------
        parts : sequence of (a, b, labels or None)
            See `select`.
        """
        if self.failed:
            return
        codes: Any = [
            (_codes(a, self.low, self.value_bits), _codes(b, self.low, self.value_bits), c)
            for a, b, c in parts
            if len(a)
        ]
        if not codes:
            return
        if any(a is None or b is None for a, b, _ in codes):
            self._fail()
            return
        if self.levels:
            codes = self._shifted(codes)
        more = sum(len(a) for a, _, _ in codes)
        self.pixels += more
        self._in_cells += more
        if self._in_cells >= 2**32:  # more than a cell counts
            self.settle()
            self._in_cells = more
        if codes[0][2] is not None or self.bits == 1:
            self.labelled = codes[0][2] is not None
            for part in codes:
                self._keep(_count_sorted([part], self.bits))
            return
        box, whole = self._fit(codes)
        if box is None:
            self._keep(_count_sorted(codes, self.bits))
        else:
            self._count(codes, box, whole)

    def absorb(self, other: Counter) -> None:
        """Add what another counter of the same kind has counted, which is of no use then.

        Raises
        ------
        RuntimeError
            If it was absorbed before.
        """
        if other.spent:
            raise RuntimeError("what was counted is already part of a sum, and would be counted twice: repeat")
        other.spent = True
        if self.failed or other.failed:
            self._fail()
            return
        widest = max(self.shifts[0], other.shifts[0]), max(self.shifts[1], other.shifts[1])
        self._widen(widest)
        other._widen(widest)
        self.labelled |= other.labelled
        self.pixels += other.pixels
        if other._box is not None:
            a, height, b, width = other._box
            box = other._box
            if self._box is not None:
                own = [(self._box[0], sum(self._box[:2]) - 1), (self._box[2], sum(self._box[2:]) - 1)]
                mine = self._wider(own, [(a, a + height - 1), (b, b + width - 1)], max(ROOM, self.most_cells), (0,))
            else:
                mine = box
            if mine is None:
                other.settle()
            else:
                self._grow(mine)
                self._in_cells += other._in_cells
                if self._in_cells >= 2**32 and self._cells.dtype == np.uint32:
                    self._cells = self._cells.astype(np.int64)
                inner = self._cells.reshape(mine[1], mine[3])
                inner[a - mine[0] : a - mine[0] + height, b - mine[2] : b - mine[2] + width] += other._cells.reshape(
                    height, width
                )
        for packed in other._sparse:
            self._keep(packed)
        other._sparse, other._box, other._cells = [], None, None

    def settle(self) -> None:
        """Keep what was counted in less memory than an array of all pairs."""
        if self._box is not None and not self.failed:
            self._keep(self._in_array())
        self._box = self._cells = None
        self._in_cells = 0

    def packed(self) -> Packed | None:
        """Return (keys, counts); None if a value does not fit into a key (integers wider than 16 bits), or if there are
        more pairs than there may be.
        """
        self.settle()
        if self.failed:
            return None
        found = merge(self._sparse, 0 if self.labelled else self.bits)
        if self._too_many(found[0]):
            self._fail()
            return None
        self._sparse = [found]
        return found

    def _in_array(self) -> Packed:
        assert self._box is not None
        low_a, _, low_b, width = self._box
        return _packed(self._cells, low_a, low_b, width, self.bits)

    def _fail(self) -> None:
        self.failed = True
        self._sparse, self._box, self._cells = [], None, None

    def _too_many(self, keys: np.ndarray) -> bool:
        """The same for any part of the pixels, or else for all."""
        if self.most is None or len(keys) <= self.most:
            return False
        if self.labelled:
            return True
        b = keys & keys.dtype.type((1 << self.bits) - 1)
        rows = (int(keys[-1]) >> self.bits) - (int(keys[0]) >> self.bits) + 1
        return rows * (int(b.max()) - int(b.min()) + 1) > ROOM

    def _keep(self, packed: Packed) -> None:
        """Keep a histogram; merge as many at a time as may be held twice."""
        most = self.most or 2**23
        if self._sparse and sum(len(keys) for keys, _ in (*self._sparse, packed)) > 2 * most:
            if self.most is not None and self._too_many(_distinct([keys for keys, _ in self._sparse])):
                self._fail()
                return
            self._sparse = [merge(self._sparse, 0 if self.labelled else self.bits)]
        self._sparse.append(packed)

    def _shifted(self, codes: Any) -> Any:
        """Bins of grey values; wider ones from now on if there are too many."""
        assert self.levels is not None
        shifts = list(self.shifts)
        for k in (0, 1):
            top = max(int(part[k].max()) for part in codes)
            while top >> shifts[k] >= self.levels:
                shifts[k] += 1
        self._widen((shifts[0], shifts[1]))
        first, second = (np.uint16(s) for s in shifts)
        return [(a.astype(np.uint16, copy=False) >> first, b.astype(np.uint16, copy=False) >> second, labels)
                for a, b, labels in codes]  # fmt: skip

    def _widen(self, shifts: tuple[int, int]) -> None:
        if shifts != self.shifts:
            self.settle()
            self._sparse = [_widened(packed, self.shifts, shifts) for packed in self._sparse]
            self.shifts = shifts

    def _fit(self, parts: Sequence[Pixels]) -> tuple[Box | None, bool]:
        """Return the array to count in and True if it holds all pixels, False if a few lie outside; None for no array.

        An array that is there grows where that leaves it small enough.
        """
        if self.levels:
            return (0, self.levels, 0, self.levels), True
        most = max(min(_CELLS * max(self.size, sum(len(a) for a, _, _ in parts)), max(self.most_cells, 2**25)), 2**16)
        box = self._box
        lows = [0 if box and not box[2 * k] else min(int(p[k].min()) for p in parts) for k in (0, 1)]
        ranges = [(low, max(int(p[k].max()) for p in parts)) for k, low in enumerate(lows)]
        if box is None:
            if (whole := self._wider(ranges, ranges, most)) is not None:
                return whole, True
            samples = [np.sort(np.concatenate([p[k][::61] for p in parts])) for k in (0, 1)]
            few = len(samples[0]) // 400
            return _box_of([(int(s[few]), int(s[-1 - few])) for s in samples], most), False
        mine = [(box[0], box[0] + box[1] - 1), (box[2], box[2] + box[3] - 1)]
        if all(a <= low and high <= b for (low, high), (a, b) in zip(ranges, mine, strict=True)):
            return box, True
        if (grown := self._wider(mine, ranges, most)) is not None:
            return grown, True
        return box, False

    def _wider(
        self,
        mine: Sequence[tuple[int, int]],
        ranges: Sequence[tuple[int, int]],
        most: int,
        shares: Sequence[int] = (8, 0),
    ) -> Box | None:
        """Return an array that holds `mine` and `ranges`, where there is room an eighth more than it must."""
        for share in shares:
            wider = []
            for (a, b), (low, high) in zip(mine, ranges, strict=True):
                more = (max(b, high) - min(a, low)) // share if share else 0
                first = a if low > a else max(0, min(low, a) - more)
                last = b if high < b else min((1 << self.bits) - 1, max(high, b) + more)
                wider.append((0 if 16 * first <= last else first, last))  # from 0 on nothing need be subtracted
            if (found := _box_of(wider, most)) is not None:
                return found
        return None

    def _grow(self, box: Box) -> None:
        """Have an array of this size, with what was counted before."""
        low_a, height, low_b, width = box
        if box != self._box:
            before = np.uint32 if self._cells is None else self._cells.dtype
            cells = np.zeros(height * width, before)
            if self._box is not None:
                a, h, b, w = self._box
                inner = cells.reshape(height, width)[a - low_a : a - low_a + h, b - low_b : b - low_b + w]
                inner[...] = self._cells.reshape(h, w)
            self._box, self._cells = box, cells
        elif not self._cells.flags.writeable:  # it came from another process
            self._cells = self._cells.copy()

    def _count(self, parts: Sequence[Pixels], box: Box, whole: bool) -> None:
        """Count in an array, a slice that fits a cache at a time; pixels outside of it are sorted."""
        if self._cells is not None and self._cells.dtype != np.uint32:
            self.settle()
        self._grow(box)
        outside = _count_dense(parts, box, whole, self._cells)
        if outside:
            self._keep(_count_sorted(outside, self.bits))
            if self.failed:
                return
        if self.most is not None and len(self._cells) > ROOM and self.pixels >= 2 * self._seen:
            self._seen = self.pixels
            if np.count_nonzero(self._cells) > self.most and self._too_many(self._in_array()[0]):
                self._fail()
                return
        if len(self._cells) > self.most_cells:
            self.settle()


def _distinct(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Sorted distinct keys; `numpy.unique`, which hashes, takes 30 times as long for so many."""
    keys = np.concatenate(parts)
    keys.sort()
    return keys[_new(keys)]


def count_pairs(parts: Sequence[Pixels], dtype: np.dtype) -> Packed | None:
    """Count the distinct pairs of grey values in chunks, all at once; see `Counter`."""
    counter = Counter(dtype, sum(len(a) for a, _, _ in parts))
    counter.add(parts)
    return counter.packed()


def _widened(packed: Packed, old: tuple[int, int], new: tuple[int, int]) -> Packed:
    """The same pixels in wider bins; keys of 16 bits."""
    keys, counts = packed
    if not len(keys):
        return packed
    kind, more = keys.dtype.type, [n - o for n, o in zip(new, old, strict=True)]
    mask = kind(0xFFFF)
    a, b = (keys >> kind(16)) & mask, keys & mask
    wide = (keys & ~kind(0xFFFFFFFF)) | (a >> kind(more[0])) << kind(16) | b >> kind(more[1])
    return _summed(wide, counts)


def _codes(values: np.ndarray, low: int, bits: int) -> np.ndarray | None:
    """Grey values as unsigned integers of the given bits; None if one does not fit."""
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.itemsize > 2:
        fits = values.min() >= 0 and values.max() < 1 << bits
        return values.astype(np.uint16) if fits else None
    if values.dtype.kind == "u":
        return values
    unsigned = np.dtype(f"u{values.dtype.itemsize}")  # adding the lowest value flips the sign bit
    return values.view(unsigned) ^ unsigned.type(-low)


def _count_sorted(parts: Sequence[Pixels], bits: int) -> Packed:
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


Box = tuple[int, int, int, int]
"""Lowest a, number of values of a, lowest b, number of values of b."""
_SLICE = 2**17
_CELLS = 3
"""So many cells of an array to a pixel are cheaper than sorting."""


def _box_of(ranges: Sequence[tuple[int, int]], most: int) -> Box | None:
    """Return the array for ranges of grey values, None if it had more cells than `most`."""
    (low_a, high_a), (low_b, high_b) = ranges
    height, width = high_a - low_a + 1, high_b - low_b + 1
    return (low_a, height, low_b, width) if height * width <= most else None


def _count_dense(parts: Sequence[Pixels], box: Box, whole: bool, cells: np.ndarray) -> list[Pixels]:
    """Add pixels to the cells of an array; return those that lie outside of it."""
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


def _increment_slowly(cells: np.ndarray, height: int, width: int, row: np.ndarray, column: np.ndarray,
                      ones: np.ndarray) -> None:  # fmt: skip
    np.add.at(cells, row.astype(np.intp) * width + column, np.uint32(1))


def _increment_by_scipy(cells: np.ndarray, height: int, width: int, row: np.ndarray, column: np.ndarray,
                        ones: np.ndarray) -> None:  # fmt: skip
    coo_todense(height, width, len(row), row, column, ones, cells, 0)


try:  # what makes a sparse matrix dense adds to an array; unlike numpy's add.at it lets other threads run meanwhile
    from scipy.sparse._sparsetools import coo_todense

    _tried = np.ones(6, np.uint32)
    _increment_by_scipy(_tried, 2, 3, np.array([1, 0, 1], np.int32), np.array([2, 0, 2], np.int32), _tried[:3].copy())
    _increment = _increment_by_scipy if _tried.tolist() == [2, 1, 1, 1, 1, 3] else _increment_slowly
except (ImportError, TypeError, ValueError):  # it is no part of scipy's public interface
    _increment = _increment_slowly


def _packed(cells: np.ndarray, low_a: int, low_b: int, width: int, bits: int) -> Packed:
    """Keys and counts of the cells that are not empty."""
    keys_found: list[Any] = [np.empty(0, np.uint32)]
    counts_found: list[Any] = [cells[:0]]
    for first in range(0, len(cells), _STRIP):
        part = cells[first : first + _STRIP]
        found = np.flatnonzero(part != 0)  # bool is scanned several times as fast as numbers
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


def merge(parts: Sequence[Packed], bits: int = 0) -> Packed:
    """Return the sum of histograms.

    Parameters
    ----------
    parts : sequence of (keys, counts)
    bits : int
        Those of a grey value, where there are no labels: keys that lie close are then added in an array of all.
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
    """Sort keys, and add the counts of equal ones."""
    if keys.dtype == np.uint32 and counts.dtype == np.uint32:  # together, which is much faster than by an order
        both = (keys.astype(np.uint64) << np.uint64(32)) | counts
        both.sort()
        keys, counts = (both >> np.uint64(32)).astype(np.uint32), both & np.uint64(2**32 - 1)
    else:
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(_new(keys))
    return keys[starts], np.add.reduceat(counts.astype(np.int64, copy=False), starts)


def _new(keys: np.ndarray) -> np.ndarray:
    """Where sorted keys, at least one, differ from the one before."""
    return np.append(True, keys[1:] != keys[:-1])


def _merge_dense(parts: Sequence[Packed], bits: int) -> Packed | None:
    """The same in a two-dimensional array of grey values, a strip that fits a cache at a time; None if it is too
    empty.
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
        keys, counts = _packed(cells, first, low_b, width, bits)
        keys_found.append(keys)
        counts_found.append(counts)
    return np.concatenate(keys_found), np.concatenate(counts_found)


def unpack(packed: Packed, dtype: np.dtype, labels: np.ndarray | None = None) -> Table:
    """Return the table of packed keys.

    Parameters
    ----------
    packed : (keys, counts)
    dtype : dtype
        That of the image.
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


def table_of(a: np.ndarray, b: np.ndarray, group: np.ndarray | None = None, ngroups: int = 1) -> Table:
    """Return the table of pixels, of any dtype; for floats each pixel is a row."""
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    if group is None:
        group = np.zeros(a.shape, np.int64)
    order = np.lexsort((b, a, group))
    group, a, b = group[order], a[order], b[order]
    if np.result_type(a, b).kind == "f":
        return Table(group, a.astype(float), b.astype(float), np.ones(len(a), np.int64), ngroups)
    a, b = a.astype(np.int64), b.astype(np.int64)
    if not len(a):
        return Table(group, a, b, np.empty(0, np.int64), ngroups)
    change = (np.diff(group) != 0) | (np.diff(a) != 0) | (np.diff(b) != 0)
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    return Table(group[starts], a[starts], b[starts], np.diff(starts, append=len(a)), ngroups)
