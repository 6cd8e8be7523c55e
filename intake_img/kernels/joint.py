"""Joint histograms of two channels: each distinct (label, a, b) once, with its number of pixels.

For integer images the joint histogram is a sufficient statistic of every pixel measure of colocalization, and adding
histograms of chunks is exact in any order. A `Counter` counts chunk by chunk, in an array or by sorting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.kernels.packing import (
    Box,
    Packed,
    Pixels,
    box_of,
    code_of,
    codes_of,
    count_dense,
    count_sorted,
    distinct,
    merge,
    packed_cells,
    widened,
)

__all__ = [
    "DENSE_CELLS",
    "Counter",
]

DENSE_CELLS = 2**24
"""Cells of an array in which all pairs are counted, however many there are."""
_CELLS = 3
"""Up to this many cells of an array for each pixel, counting is cheaper than sorting."""


class Counter:
    """Counts the distinct pairs of grey values in chunks, one after the other.

    Grey values in a small range are counted in a two-dimensional array; all others, and pixels with labels, by sorting.

    Parameters
    ----------
    dtype : dtype of integers
        Dtype of the grey values.
    size : int
        Expected number of pixels: an array may have a few times as many cells.
    most : int, optional
        The largest number of distinct pairs, if they do not lie within an array of `DENSE_CELLS` cells.
    cells : int
        Larger arrays are not kept between chunks.
    levels : int, optional
        Count bins of 2**shift grey levels instead of grey values, with the smallest shift that gives at most this many
        bins in each channel. Keys have 16 bits.
    """

    def __init__(
        self, dtype: np.dtype, size: int, most: int | None = None, cells: int = 2**25, levels: int | None = None
    ) -> None:
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
            (codes_of(a, self.low, self.value_bits), codes_of(b, self.low, self.value_bits), c)
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
        if self._in_cells >= 2**32:  # more than a cell can count
            self.settle()
            self._in_cells = more
        if codes[0][2] is not None or self.bits == 1:
            self.labelled = codes[0][2] is not None
            for part in codes:
                self._keep(count_sorted([part], self.bits))
            return
        box, whole = self._fit(codes)
        if box is None:
            self._keep(count_sorted(codes, self.bits))
        else:
            self._count(codes, box, whole)

    def absorb(self, other: Counter) -> None:
        """Add the counts of another counter of the same kind, which must not be used afterwards.

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
                most = max(DENSE_CELLS, self.most_cells)
                mine = self._wider(own, [(a, a + height - 1), (b, b + width - 1)], most, (0,))
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
        """Convert the counts to a form that needs less memory than an array of all pairs."""
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
        return packed_cells(self._cells, low_a, low_b, width, self.bits)

    def _fail(self) -> None:
        self.failed = True
        self._sparse, self._box, self._cells = [], None, None

    def _too_many(self, keys: np.ndarray) -> bool:
        """The same for any subset of the pixels, or else for all."""
        if self.most is None or len(keys) <= self.most:
            return False
        if self.labelled:
            return True
        b = keys & keys.dtype.type((1 << self.bits) - 1)
        rows = (int(keys[-1]) >> self.bits) - (int(keys[0]) >> self.bits) + 1
        return rows * (int(b.max()) - int(b.min()) + 1) > DENSE_CELLS

    def _keep(self, packed: Packed) -> None:
        """Keep a histogram; merge as many at a time as fit into memory twice."""
        most = self.most or 2**23
        if self._sparse and sum(len(keys) for keys, _ in (*self._sparse, packed)) > 2 * most:
            if self.most is not None and self._too_many(distinct([keys for keys, _ in self._sparse])):
                self._fail()
                return
            self._sparse = [merge(self._sparse, 0 if self.labelled else self.bits)]
        self._sparse.append(packed)

    def _shifted(self, codes: Any) -> Any:
        """Bins of grey values; they become wider from now on if there are too many."""
        assert self.levels is not None
        shifts = list(self.shifts)
        for k in (0, 1):
            top = max(int(part[k].max()) for part in codes)
            while top >> shifts[k] >= self.levels:
                shifts[k] += 1
        self._widen((shifts[0], shifts[1]))
        first, second = (np.uint16(s) for s in shifts)
        return [
            (a.astype(np.uint16, copy=False) >> first, b.astype(np.uint16, copy=False) >> second, labels)
            for a, b, labels in codes
        ]

    def _widen(self, shifts: tuple[int, int]) -> None:
        if shifts != self.shifts:
            self.settle()
            self._sparse = [widened(packed, self.shifts, shifts) for packed in self._sparse]
            self.shifts = shifts

    def _fit(self, parts: Sequence[Pixels]) -> tuple[Box | None, bool]:
        """Return the array for counting and True if it covers all pixels, False if a few lie outside; None for no
        array.

        An existing array is enlarged if it stays small enough.
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
            return box_of([(int(s[few]), int(s[-1 - few])) for s in samples], most), False
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
        """Return an array that covers `mine` and `ranges`, with a margin of an eighth if possible."""
        for share in shares:
            wider = []
            for (a, b), (low, high) in zip(mine, ranges, strict=True):
                more = (max(b, high) - min(a, low)) // share if share else 0
                first = a if low > a else max(0, min(low, a) - more)
                last = b if high < b else min((1 << self.bits) - 1, max(high, b) + more)
                wider.append((0 if 16 * first <= last else first, last))  # starting from 0 avoids a subtraction
            if (found := box_of(wider, most)) is not None:
                return found
        return None

    def _grow(self, box: Box) -> None:
        """Allocate an array of this size, and copy existing counts."""
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
        """Count in an array, in slices that fit into a CPU cache; pixels outside of it are sorted."""
        if self._cells is not None and self._cells.dtype != np.uint32:
            self.settle()
        self._grow(box)
        outside = count_dense(parts, box, whole, self._cells)
        if outside:
            self._keep(count_sorted(outside, self.bits))
            if self.failed:
                return
        if self.most is not None and len(self._cells) > DENSE_CELLS and self.pixels >= 2 * self._seen:
            self._seen = self.pixels
            if np.count_nonzero(self._cells) > self.most and self._too_many(self._in_array()[0]):
                self._fail()
                return
        if len(self._cells) > self.most_cells:
            self.settle()
