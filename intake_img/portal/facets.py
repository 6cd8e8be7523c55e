"""Facets of entries and counts of their values: columns of the index as numbers in memory.

SQLite needs a pass over the found rows for each facet; here each facet is one `numpy.bincount`. Sets of entries are
bool arrays indexed by key.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Columns", "FacetColumns"]

_SMALL = 5000  # up to this many entries, columns are read again on each request after a change
_PAUSE = 20  # for more, they are read again after this many times the duration of reading
_MOST = 60  # number of values of a facet to count, more than there are formats


class Columns:
    """The columns of the facets at one moment.

    Parameters
    ----------
    keys : ndarray
        The entries.
    values : mapping of str to sequence
        For each facet, and each further column, a value for each entry.
    channels : sequence of (int, str)
        The key of an entry, and the name of one of its channels.
    order_of : callable
        Returns all keys in an SQL order.
    """

    def __init__(
        self,
        keys: np.ndarray,
        values: Mapping[str, Sequence[Any]],
        channels: Sequence[tuple[int, str]],
        order_of: Callable[[str], np.ndarray],
    ) -> None:
        self.size = int(keys.max(initial=-1)) + 1
        self.everything = np.zeros(self.size, bool)
        self.everything[keys] = True
        self.everything.flags.writeable = False
        self._codes = {facet: self._coded(keys, column) for facet, column in values.items()}
        entries = np.fromiter((entry for entry, _ in channels), int, len(channels))
        codes, names = _numbered([name for _, name in channels])
        inside = entries < self.size
        self._channels = entries[inside], codes[inside], names
        self._order_of = order_of
        self.orders: dict[str, np.ndarray] = {}

    def _coded(self, keys: np.ndarray, values: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
        codes, distinct = _numbered(values, "")
        out = np.zeros(self.size, np.int32)  # 0: no value
        out[keys] = codes
        return out, distinct

    def having(self, facet: str, values: Callable[[Any], bool]) -> np.ndarray:
        """Return the entries whose value of a facet, or of a further column, fulfils a condition."""
        if facet == "channel":
            entries, codes, names = self._channels
            found = np.zeros(self.size, bool)
            found[entries[np.array([values(n) for n in names], bool)[codes]]] = True
            return found
        codes, distinct = self._codes[facet]
        return np.array([values(v) for v in distinct], bool)[codes] & self.everything

    def ordered(self, chosen: np.ndarray, order: str) -> np.ndarray:
        """Return the keys of some entries in an SQL order."""
        if order not in self.orders:
            keys = self._order_of(order)
            self.orders[order] = keys[keys < self.size]  # newer entries
        keys = self.orders[order]
        return keys[chosen[keys]]

    def counts(self, chosen: np.ndarray, facets: Iterable[str]) -> dict[str, list[list[Any]]]:
        """Return for each facet its most frequent values and their counts among some entries."""
        return {facet: self._counted(chosen, facet) for facet in facets}

    def _counted(self, chosen: np.ndarray, facet: str) -> list[list[Any]]:
        entries, names, named = self._channels
        if facet == "channel":
            codes, values = names[chosen[entries]], named
        else:
            codes, values = self._codes[facet][0][chosen], self._codes[facet][1]
        counts = np.bincount(codes, minlength=len(values))
        there = [(-int(n), v) for n, v in zip(counts, values, strict=True) if n and v not in ("", None)]
        return [[v, -n] for n, v in sorted(there)[:_MOST]]


class FacetColumns:
    """The current columns of the facets, which are read again when the database changes.

    Parameters
    ----------
    connection : sqlite3.Connection
        A separate connection, used under a lock.
    columns : mapping of str to str
        The column of each facet, except ``channel``, and further columns.
    later : callable, optional
        Schedules a function; by default it is called immediately.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        columns: Mapping[str, str],
        later: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self._db, self._columns = connection, dict(columns)
        self._lock = threading.RLock()
        self._version: Any = None
        self._next, self._later, self._awaited = 0.0, later, False
        self._held = Columns(np.empty(0, int), {f: [] for f in columns}, [], self._order)

    def current(self) -> Columns:
        """Return the columns; for many entries they may be some seconds old."""
        if self._held.size <= _SMALL:
            self.refresh()
        elif time.monotonic() >= self._next and not self._awaited:
            self._awaited = True
            (self._later or _now)(self._catch_up)
        return self._held

    def _catch_up(self) -> None:
        try:
            self.refresh()
        finally:
            self._awaited = False

    def refresh(self, orders: Iterable[str] = ()) -> None:
        """Read changes, and prepare the given orders and the orders that were requested before.

        Parameters
        ----------
        orders : iterable of str
            As in `Columns.ordered`.
        """
        with self._lock:
            begun = time.monotonic()
            version = (self._db.execute("PRAGMA data_version").fetchone()[0], self._db.total_changes)
            if version != self._version:
                fresh = self._read()
                for order in list(self._held.orders) if fresh.size > _SMALL else ():
                    fresh.ordered(fresh.everything, order)
                self._held, self._version = fresh, version
                self._next = time.monotonic() + _PAUSE * (time.monotonic() - begun)
            for order in orders:
                self._held.ordered(self._held.everything, order)

    def _read(self) -> Columns:
        rows = self._rows(f"SELECT key, {', '.join(self._columns.values())} FROM entries")
        keys, *values = zip(*rows, strict=True) if rows else [()] * (1 + len(self._columns))
        channels = self._rows("SELECT entry, name FROM channel")
        named = dict(zip(self._columns, values, strict=True))
        return Columns(np.fromiter(keys, int, len(keys)), named, channels, self._order)

    def _order(self, order: str) -> np.ndarray:
        rows = self._rows(f"SELECT key FROM entries ORDER BY {order}")
        return np.fromiter((key for (key,) in rows), int, len(rows))

    def _rows(self, statement: str) -> list[Any]:
        with self._lock:
            cursor = self._db.cursor()
            cursor.row_factory = None  # type: ignore[assignment]
            return cursor.execute(statement).fetchall()


def _now(work: Callable[[], None]) -> None:
    work()


def _numbered(values: Sequence[Any], *first: Any) -> tuple[np.ndarray, list[Any]]:
    """Return the number of each value, and the distinct values by their number."""
    distinct = list(dict.fromkeys((*first, *dict.fromkeys(values))))
    numbers = {v: k for k, v in enumerate(distinct)}
    return np.fromiter(map(numbers.__getitem__, values), int, len(values)), distinct
