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

__all__ = ["Packed", "Table", "code_of", "count_pairs", "labels_of", "merge", "table_of", "unpack"]

Packed = tuple[np.ndarray, np.ndarray]
"""Sorted unsigned keys ``label << 2*bits | a << bits | b`` and the number of pixels of each."""


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

    def select(self, keep: np.ndarray) -> Table:
        """Return the rows where `keep` is True, with the same groups."""
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


def count_pairs(
    a: np.ndarray, b: np.ndarray, labels: np.ndarray | None = None, keep: np.ndarray | None = None
) -> Packed | None:
    """Count the distinct pairs of grey values in a chunk.

    Parameters
    ----------
    a, b : ndarray of integers, same shape and dtype
    labels : ndarray of integers, same shape, optional
        Pixels of label 0 and below are left out.
    keep : ndarray of bool, same shape, optional
        Pixels to count.

    Returns
    -------
    (keys, counts), or None if a value does not fit into the packed key (integers wider than 16 bits).
    """
    low, bits = code_of(a.dtype)
    a, b = a.ravel(), b.ravel()
    if labels is not None:
        labels = labels.ravel()
        keep = (labels > 0) if keep is None else (labels > 0) & keep.ravel()
    if keep is not None:
        keep = keep.ravel()
        a, b = a[keep], b[keep]
        labels = None if labels is None else labels[keep]
    if not len(a):
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    if a.dtype.itemsize > 2 and (min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= 1 << bits):
        return None
    if a.dtype.kind == "i" and a.dtype.itemsize <= 2:  # adding the lowest value flips the sign bit
        unsigned = np.dtype(f"u{a.dtype.itemsize}")
        a, b = a.view(unsigned) ^ unsigned.type(-low), b.view(unsigned) ^ unsigned.type(-low)
    top = 0 if labels is None else int(labels.max()).bit_length()
    if top > 32:
        raise ValueError(f"labels go up to {int(labels.max())}: expected less than {2**32}")  # type: ignore[union-attr]
    kind = np.uint32 if 2 * bits + top <= 32 else np.uint64
    keys = np.left_shift(a, kind(bits), dtype=kind, casting="unsafe")
    np.bitwise_or(keys, b, out=keys, casting="unsafe")
    if labels is not None:
        keys |= np.left_shift(labels, kind(2 * bits), dtype=kind, casting="unsafe")
    if 2 * bits + top <= 20:
        counts = np.bincount(keys)
        found = np.flatnonzero(counts)
        return found.astype(np.uint32), counts[found]
    keys.sort()
    return _run_lengths(keys)


def _run_lengths(keys: np.ndarray) -> Packed:
    new = np.empty(len(keys), bool)
    new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    found = keys[new]
    counts = np.empty(len(starts), np.uint32 if len(keys) < 2**32 else np.int64)
    np.subtract(starts[1:], starts[:-1], out=counts[:-1], casting="unsafe")
    counts[-1] = len(keys) - starts[-1]
    return found, counts


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
    keys = np.concatenate([p[0] for p in parts])
    counts = np.concatenate([p[1] for p in parts])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
    return keys[starts], np.add.reduceat(counts[order].astype(np.int64), starts)


_STRIP = 2**20


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
        found = np.flatnonzero(cells)
        a, b = np.divmod(found, width)
        keys_found.append((((a + first) << bits) | (b + low_b)).astype(np.uint32))
        counts_found.append(cells[found])
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
    a = ((keys >> kind(bits)) & kind((1 << bits) - 1)).astype(np.int32) + np.int32(low)
    b = (keys & kind((1 << bits) - 1)).astype(np.int32) + np.int32(low)
    if labels is None:
        return Table(np.zeros(len(keys), np.int8), a, b, counts, 1)
    group = np.searchsorted(labels, (keys >> np.uint64(2 * bits)).astype(np.int64))
    return Table(group, a, b, counts, len(labels))


def labels_of(packed: Packed, dtype: np.dtype) -> np.ndarray:
    """Return the sorted labels that occur."""
    return np.unique(packed[0].astype(np.uint64) >> np.uint64(2 * code_of(dtype)[1])).astype(np.int64)


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
