"""Sums over regions of a joint histogram, from running sums along its runs of equal (group, a).

For any thresholds, a region covers a contiguous range of rows of each run: with running sums of the counts, of b and of
b squared, the cost grows with the number of runs, not of rows. A table is processed in strips, so that it may be large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intake_img.kernels.exact import add_products
from intake_img.kernels.tables import Table

__all__ = ["RowRuns", "Rows", "region_sums", "strips"]

_STRIP = 2**20
"""Rows that are processed together."""

Rows = tuple[np.ndarray, np.ndarray]
"""First row of each run that belongs to a region, and the row after the last."""


@dataclass(frozen=True)
class RowRuns:
    """Runs of rows with equal (group, a).

    Parameters
    ----------
    rows : Table
        All rows of these runs.
    first, stop : ndarray of shape (R,), int64
        Start and end of each run.
    """

    rows: Table
    first: np.ndarray
    stop: np.ndarray

    @cached_property
    def group(self) -> np.ndarray:
        return self.rows.group[self.first]

    @cached_property
    def a(self) -> np.ndarray:
        return self.rows.a[self.first].astype(np.int64)

    def all(self) -> Rows:
        return self.first, self.stop

    def none(self) -> Rows:
        return self.first, self.first

    def where(self, chosen: np.ndarray, rows: Rows, others: Rows) -> Rows:
        """Rows in the chosen runs, and `other` in the other runs."""
        return np.where(chosen, rows[0], others[0]), np.where(chosen, rows[1], others[1])

    def above(self, t: np.ndarray) -> np.ndarray:
        """First row of each run where b > t; t of shape (R,). Nothing is above NaN."""
        return self._first(lambda b, at: ~(b > t[at]))

    def at_least(self, t: np.ndarray) -> np.ndarray:
        """First row of each run where b >= t."""
        return self._first(lambda b, at: ~(b >= t[at]))

    def below(self, t: np.ndarray) -> np.ndarray:
        """Row after the last of each run where b < t."""
        return self._first(lambda b, at: b < t[at])

    def _first(self, further: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """First row of each run for which `further` is False, which is so for all after it: by bisection."""
        low, high = self.first.copy(), self.stop.copy()
        at = np.arange(len(low))
        while len(at := at[low[at] < high[at]]):
            middle = (low[at] + high[at]) // 2
            on = further(self.rows.b[middle], at)
            low[at[on]] = middle[on] + 1
            high[at[~on]] = middle[~on]
        return low


def strips(table: Table) -> Iterator[RowRuns]:
    """Iterate over the runs of a table of integers, some rows at a time."""
    first = 0
    while first < len(table):
        stop = min(first + _STRIP, len(table))
        while stop < len(table) and (same := _same(table, stop)):
            stop += same
        rows = table.select(slice(first, stop))
        change = (rows.a[1:] != rows.a[:-1]) | (rows.group[1:] != rows.group[:-1])
        starts = np.concatenate([[0], np.flatnonzero(change) + 1])
        yield RowRuns(rows, starts, np.append(starts[1:], len(rows)))
        first = stop


def _same(table: Table, row: int) -> int:
    """How many of the next rows belong to the run of the preceding row."""
    part = slice(row, row + _STRIP)
    same = (table.a[part] == table.a[row - 1]) & (table.group[part] == table.group[row - 1])
    return len(same) if same.all() else int(same.argmin())


def region_sums(
    table: Table, need: Mapping[str, tuple[str, ...]], region: Callable[[RowRuns, str], Rows]
) -> dict[tuple[str, str], np.ndarray]:
    """Return sums over regions, exact.

    Parameters
    ----------
    table : Table
        A table of integers.
    need : mapping of str to tuple of str
        Region to sums among ``n a b aa bb ab``.
    region : callable
        ``(runs, name) -> rows`` for the region of that name.

    Returns
    -------
    dict of (str, str) to ndarray of shape (G,), object
        (region, sum) to Python integers.
    """
    out = {(name, sums): np.zeros(table.ngroups, object) for name, of in need.items() for sums in of}
    squares = any("bb" in of for of in need.values())
    most = int(table.count.sum(dtype=np.int64)) if len(table) else 0
    largest = max(abs(int(table.b.min())), abs(int(table.b.max()))) if len(table) else 0
    for run in strips(table):
        running = _Running(run.rows, squares, halves=most * largest**2 >= 2**63)
        for name, of in need.items():
            found = running.between(*region(run, name), of)
            for sums in of:
                factors = [run.a] * sums.count("a")
                for scale, inner in found[sums.replace("a", "") or "n"]:
                    add_products(out[name, sums], run.group, scale, inner, *factors)
    return out


class _Running:
    """Running sums of the counts, of counts times b, and of counts times b squared; in two halves if they may exceed 63
    bits. An intermediate overflow of 64 bits cancels in differences."""

    def __init__(self, rows: Table, squares: bool, halves: bool) -> None:
        b = rows.b.astype(np.int64)
        count = rows.count.astype(np.int64, copy=False)
        self.n, self.b = _cumulative(count), _cumulative(count * b)
        parts = [(256, b >> 8), (1, b & 255)] if halves else [(1, b)]
        self.bb = [(scale, _cumulative(count * b * part)) for scale, part in parts] if squares else []

    def between(
        self, low: np.ndarray, high: np.ndarray, of: tuple[str, ...]
    ) -> dict[str, list[tuple[int, np.ndarray]]]:
        wanted = {sums.replace("a", "") or "n" for sums in of}
        sums = {"n": [(1, self.n)], "b": [(1, self.b)], "bb": self.bb}
        return {k: [(scale, x[high] - x[low]) for scale, x in sums[k]] for k in wanted}


def _cumulative(values: np.ndarray) -> np.ndarray:
    out = np.empty(len(values) + 1, np.int64)
    out[0] = 0
    np.cumsum(values, out=out[1:])
    return out
