"""Distinct pairs of grey values with their numbers of pixels, from which all pixel measures are made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intake_img.kernels.wide import offsets

__all__ = ["Levels", "Table", "table_of"]

_STRIP = 2**20
"""Rows that are gone through in one step."""
_MOST_LEVELS = 2**20
"""Grey levels that are looked up."""


@dataclass(frozen=True)
class Levels:
    """The grey levels of a channel: level ``low + k`` has ``count[k]`` pixels."""

    low: int
    count: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, count: np.ndarray) -> Levels | None:
        """Count the pixels of each level, of rows with this many pixels; None for floats and a wide range."""
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
    a, b : ndarray of shape (K,), int32, int64, uint64 (values from 2**63 on) or float64
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
    def by_pixel(self) -> bool:
        """Whether sums are made pixel by pixel: of floats, and of integers whose squares may not fit into 63 bits."""
        if self.a.dtype.kind == "f":
            return True
        wide = [x for x in (self.a, self.b) if x.dtype.itemsize > 4 and len(x)]
        return any(max(int(x.max()), -int(x.min())) > 2**16 for x in wide)

    def pixels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a, b and the group of every pixel."""
        if not (self.count > 1).any():
            return self.a, self.b, self.group
        rows = np.repeat(np.arange(len(self)), self.count)
        return self.a[rows], self.b[rows], self.group[rows]

    def relative(self) -> tuple[Table, tuple[int, int]]:
        """Return the table of integers less the lowest value of each channel, and these values."""
        base = int(self.a.min()), int(self.b.min())
        a, b = (_signed(offsets(x, low)) for x, low in zip((self.a, self.b), base, strict=True))
        return Table(self.group, a, b, self.count, self.ngroups), base

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
        if self.ngroups != 1 or not len(self) or not all(x.dtype.kind == "i" for x in (self.a, self.b)):
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


def table_of(a: np.ndarray, b: np.ndarray, group: np.ndarray | None = None, ngroups: int = 1) -> Table:
    """Return the table of pixels, of any dtype; for floats each pixel is a row."""
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    if group is None:
        group = np.zeros(a.shape, np.int64)
    order = np.lexsort((b, a, group))
    group, a, b = group[order], a[order], b[order]
    if "f" in (a.dtype.kind, b.dtype.kind):
        return Table(group, a.astype(float), b.astype(float), np.ones(len(a), np.int64), ngroups)
    a, b = _signed(a), _signed(b)
    if not len(a):
        return Table(group, a, b, np.empty(0, np.int64), ngroups)
    change = (group[1:] != group[:-1]) | (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    return Table(group[starts], a[starts], b[starts], np.diff(starts, append=len(a)), ngroups)


def _signed(values: np.ndarray) -> np.ndarray:
    """Integers as int64, or as uint64 where int64 cannot represent them."""
    wide = values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63
    return values if wide else values.astype(np.int64)
