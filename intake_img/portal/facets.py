"""Which entries have some values, and counts of values among them: columns of the index as numbers in memory.

SQLite needs a pass over the rows found for each facet; here each is one `numpy.bincount`. Entries are sets of keys, as
arrays of bool with a place for each key.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["FacetColumns"]

_SMALL = 5000  # entries whose columns are read again after every change
_PAUSE = 20  # of more, the columns are read again after this many times the time that it took


class FacetColumns:
    """The columns of the facets, read again when the database changes.

    Parameters
    ----------
    connection : sqlite3.Connection
        One of its own: used under a lock.
    columns : mapping of str to str
        The column of each facet, beside ``channel``, and others to ask for.
    most : int
        Values of a facet that are returned.
    """

    def __init__(self, connection: sqlite3.Connection, columns: Mapping[str, str], most: int = 40) -> None:
        self._db, self._columns, self._most = connection, dict(columns), most
        self._lock = threading.Lock()
        self._version: Any = None
        self._next = 0.0
        self._size = 0
        self._orders: dict[str, np.ndarray] = {}
        self._there = np.zeros(0, bool)
        self._codes: dict[str, tuple[np.ndarray, list[Any]]] = {}
        self._channels: tuple[np.ndarray, np.ndarray, list[str]] = (np.empty(0, int), np.empty(0, int), [])

    def refreshed(self) -> int:
        """Read what changed, and return the number of keys; call it first."""
        with self._lock:
            self._refresh()
        return self._size

    def having(self, facet: str, values: Callable[[Any], bool]) -> np.ndarray:
        """Return the entries of which a value of a facet, or a column that was named, fulfils a condition."""
        if facet == "channel":
            entries, codes, names = self._channels
            found = np.zeros(self._size, bool)
            found[entries[np.array([values(n) for n in names], bool)[codes]]] = True
            return found
        codes, distinct = self._codes[facet]
        return np.array([values(v) for v in distinct], bool)[codes] & self._there

    def everything(self) -> np.ndarray:
        """Return all entries."""
        return self._there

    def ordered(self, chosen: np.ndarray, order: str) -> np.ndarray:
        """Return the keys of some entries in the order that SQL says."""
        with self._lock:
            if order not in self._orders:
                rows = self._db.execute(f"SELECT key FROM entries ORDER BY {order}").fetchall()
                self._orders[order] = np.fromiter((r[0] for r in rows), int, len(rows))
            keys = self._orders[order]
        keys = keys[keys < len(chosen)]
        return keys[chosen[keys]]

    def counts(self, chosen: np.ndarray, facets: Iterable[str]) -> dict[str, list[list[Any]]]:
        """Return for each facet its most frequent values and their counts among some entries."""
        entries, names, named = self._channels
        found = {}
        for facet in facets:
            code, values = (names[chosen[entries]], named) if facet == "channel" else self._of(chosen, facet)
            found[facet] = self._listed(np.bincount(code, minlength=len(values)), values)
        return found

    def _of(self, chosen: np.ndarray, facet: str) -> tuple[np.ndarray, list[Any]]:
        codes, values = self._codes[facet]
        return codes[chosen], values

    def _listed(self, counts: np.ndarray, values: list[Any]) -> list[list[Any]]:
        there = [(-int(n), v) for n, v in zip(counts, values, strict=True) if n and v not in ("", None)]
        return [[v, -n] for n, v in sorted(there)[: self._most]]

    def _refresh(self) -> None:
        version = (self._db.execute("PRAGMA data_version").fetchone()[0], self._db.total_changes)
        if version == self._version or (self._size > _SMALL and time.monotonic() < self._next):
            return
        begun = time.monotonic()
        rows = self._db.execute(f"SELECT key, {', '.join(self._columns.values())} FROM entries").fetchall()
        keys = np.fromiter((r[0] for r in rows), int, len(rows))
        self._size, self._orders = int(keys.max(initial=-1)) + 1, {}
        self._there = np.zeros(self._size, bool)
        self._there[keys] = True
        self._codes = {f: self._coded(keys, [r[k] for r in rows]) for k, f in enumerate(self._columns, 1)}
        pairs = self._db.execute("SELECT entry, name FROM channel").fetchall()
        entries = np.fromiter((p[0] for p in pairs), int, len(pairs))
        codes, names = _numbered([p[1] for p in pairs])
        inside = entries < self._size
        self._channels = entries[inside], codes[inside], names
        self._version = version
        self._next = time.monotonic() + _PAUSE * (time.monotonic() - begun)

    def _coded(self, keys: np.ndarray, values: list[Any]) -> tuple[np.ndarray, list[Any]]:
        codes, distinct = _numbered(values, [""])
        out = np.zeros(self._size, np.int32)  # 0: nothing is said
        out[keys] = codes
        return out, distinct


def _numbered(values: list[Any], first: list[Any] | None = None) -> tuple[np.ndarray, list[Any]]:
    """Return the number of each value, and the distinct values by their number."""
    numbers: dict[Any, int] = {v: k for k, v in enumerate(first or [])}
    codes = np.fromiter((numbers.setdefault(v, len(numbers)) for v in values), int, len(values))
    return codes, list(numbers)
