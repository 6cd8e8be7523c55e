"""The search index: one SQLite file with a full-text table, filled in the background and kept between runs.

Lists, searches and facets use only the index; no image is opened for them.

References
----------
.. [1] SQLite FTS5, https://www.sqlite.org/fts5.html
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from intake_img.portal.facets import Columns, FacetColumns
from intake_img.portal.filling import channel_names, mark_of, row_of, with_parts, words_of
from intake_img.portal.library import LibraryItem

__all__ = ["ROW", "Hits", "Index", "Query"]

ROW = (
    "id",
    "name",
    "folder",
    "description",
    "format",
    "axes",
    "shape",
    "channels",
    "dtype",
    "bytes",
    "pixel_um",
    "date",
    "plate",
    "error",
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT, folder TEXT, description TEXT, format TEXT, axes TEXT,
    shape TEXT, channels TEXT, dtype TEXT, bytes INTEGER, pixel_um REAL, date TEXT, plate TEXT, error TEXT,
    size TEXT, pixel TEXT, year TEXT, stamp TEXT, position INTEGER
);
CREATE INDEX IF NOT EXISTS by_position ON entries (position);
CREATE INDEX IF NOT EXISTS by_folder ON entries (folder);
CREATE INDEX IF NOT EXISTS by_name ON entries (name COLLATE NOCASE, position);
CREATE INDEX IF NOT EXISTS by_size ON entries (bytes DESC, position);
CREATE INDEX IF NOT EXISTS by_date ON entries (date DESC, position);
CREATE INDEX IF NOT EXISTS by_pixel ON entries (pixel_um, position);
CREATE INDEX IF NOT EXISTS unopened ON entries (position) WHERE axes IS NULL AND error IS NULL;
CREATE INDEX IF NOT EXISTS by_plate ON entries (plate);
CREATE INDEX IF NOT EXISTS by_format ON entries (format);
CREATE TABLE IF NOT EXISTS channel (
    name TEXT NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (name, entry)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_entry ON channel (entry);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    name, description, header, tokenize = "unicode61 remove_diacritics 2", prefix = '2 3'
);
"""
_VERSION = 5
_FILLED = (
    *("key", "id", "name", "folder", "description", "format", "axes", "shape", "dtype", "bytes", "pixel_um", "date"),
    *("plate", "size", "pixel", "year", "stamp", "position"),
)
_COLUMNS = {
    "format": "format",
    "axes": "axes",
    "pixel": "pixel",
    "size": "size",
    "year": "year",
    "dtype": "dtype",
    "plate": "plate",
}
_SORTS = {
    "catalog": "position",
    "name": "name COLLATE NOCASE",
    "size": "bytes DESC",
    "date": "date DESC",
    "pixel": "pixel_um",
}


def _nothing(_: LibraryItem) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Query:
    """A query: words, values of facets, a folder, and the page of the result."""

    FACETS: ClassVar[tuple[str, ...]] = ("format", "channel", "axes", "pixel", "size", "dtype", "year", "plate")
    SORTS: ClassVar[tuple[str, ...]] = tuple(_SORTS)

    words: tuple[str, ...] = ()
    facets: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    sort: str = "catalog"
    offset: int = 0
    limit: int = 60

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Query:
        """Return the query for URL parameters; invalid parameters are ignored."""
        facets = tuple((f, given[f][:200]) for f in cls.FACETS if given.get(f))
        sort = given.get("sort", "catalog")
        return cls(
            tuple(tokens(given.get("q", "")[:200])[:12]),
            facets,
            given.get("folder", "")[:400],
            sort if sort in cls.SORTS else "catalog",
            _number(given.get("offset"), 0, 10**6),
            max(1, _number(given.get("limit"), 60, 500)),
        )


@dataclass(frozen=True)
class Hits:
    """A page of entries, and the total number."""

    rows: list[dict[str, Any]]
    total: int


class Index:
    """The index of a library.

    Parameters
    ----------
    path : Path
        File of the database; an unusable file is replaced, in memory if the folder is not writable.
    later : callable, optional
        Schedules slow functions, to keep searches fast; by default they are called immediately.
    """

    def __init__(self, path: Path, later: Callable[[Callable[[], None]], Any] | None = None) -> None:
        self.path = path
        self._local = threading.local()
        self._writing = threading.Lock()
        self._memory: sqlite3.Connection | None = None
        self._opened: list[sqlite3.Connection] = []  # shared by all threads
        self.close = weakref.finalize(self, _close_all, self._opened)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare(self._connection())
        except (sqlite3.Error, OSError):
            self._local = threading.local()
            with contextlib.suppress(OSError):
                path.unlink()
            try:
                self._prepare(self._connection())
            except (sqlite3.Error, OSError):
                self._memory = self._connected(":memory:")
                self._prepare(self._memory)

        beside = self._connected(self.path) if self._memory is None else self._memory
        self._columns = FacetColumns(beside, {**_COLUMNS, "folder": "folder"}, later)

    def _connection(self) -> sqlite3.Connection:
        if self._memory is not None:
            return self._memory
        if getattr(self._local, "connection", None) is None:
            self._local.connection = self._connected(self.path)
            self._local.connection.execute("PRAGMA journal_mode = WAL")
            self._local.connection.execute("PRAGMA synchronous = NORMAL")
        return self._local.connection

    def _connected(self, path: Path | str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        self._opened.append(connection)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
            for table in ("entries", "channel", "words"):
                connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.commit()

    # filling

    def listing(
        self,
        items: Iterable[LibraryItem],
        facts_of: Callable[[LibraryItem], Mapping[str, Any]] = _nothing,
        step: int = 2000,
    ) -> Iterator[list[str]]:
        """Update the index to exactly these entries, in steps that are visible immediately; the last removes old ones.

        Parameters
        ----------
        items : iterable of LibraryItem
        facts_of : callable
            Returns the data of an entry that are known without opening it, as for `describe`.
        step : int
            Entries in a step.

        Yields
        ------
        list of str
            The ids of new and changed entries among the next `step` entries.
        """
        rows = self._connection().execute("SELECT id, key, stamp, position FROM entries")
        there = {row["id"]: (row["stamp"], row["key"], row["position"]) for row in rows}
        numbered = enumerate(items)
        while some := list(itertools.islice(numbered, step)):
            with self._writing, self._connection() as db:
                db.execute("BEGIN IMMEDIATE")
                wanted = self._moved(db, there, some)
                self._insert(db, wanted, facts_of)
            yield [item.id for _, _, item in wanted]
        with self._writing, self._connection() as db:
            self._remove(db, [key for _, key, _ in there.values()])

    def _moved(self, db: sqlite3.Connection, there: dict[str, Any], some: Sequence[tuple[int, Any]]) -> list[Any]:
        """Remove some entries from `there`; return the entries to insert; changed ones have been deleted."""
        wanted, gone, moved = [], [], []
        for position, item in some:
            mark, (stamp, key, before) = mark_of(item), there.pop(item.id, ("", None, position))
            if stamp != mark:
                wanted.append((position, mark, item))
                gone += [row["key"] for row in db.execute("SELECT key FROM entries WHERE id = ?", (item.id,))]
            elif position != before:
                moved.append((position, key))
        self._remove(db, gone)
        db.executemany("UPDATE entries SET position = ? WHERE key = ?", moved)
        return wanted

    def _insert(
        self, db: sqlite3.Connection, some: Sequence[Any], facts_of: Callable[[Any], Mapping[str, Any]]
    ) -> None:
        first = 1 + (db.execute("SELECT max(key) FROM entries").fetchone()[0] or 0)
        rows, words, channels = [], [], []
        for key, (position, mark, item) in enumerate(some, first):
            row = {**row_of(item), **(facts := facts_of(item)), "key": key, "stamp": mark, "position": position}
            names = channel_names(facts) if facts else None
            rows.append([*(row.get(c) for c in _FILLED), None if names is None else json.dumps(names)])
            words.append((key, *words_of(item)))
            channels += [(n, key) for n in names or ()]
        marks = ", ".join("?" * (len(_FILLED) + 1))
        db.executemany(f"INSERT INTO entries ({', '.join(_FILLED)}, channels) VALUES ({marks})", rows)
        db.executemany("INSERT INTO words (rowid, name, description, header) VALUES (?, ?, ?, ?)", words)
        db.executemany("INSERT OR IGNORE INTO channel VALUES (?, ?)", channels)

    def _remove(self, db: sqlite3.Connection, keys: Sequence[int]) -> None:
        for statement in (
            "DELETE FROM entries WHERE key = ?",
            "DELETE FROM words WHERE rowid = ?",
            "DELETE FROM channel WHERE entry = ?",
        ):
            db.executemany(statement, [(k,) for k in keys])

    def describe(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add the data of an opened entry: its axes, shape, channels, pixel size, header; or its ``error``."""
        with self._writing:
            db = self._connection()
            row = db.execute("SELECT key FROM entries WHERE id = ?", (name,)).fetchone()
            if row is None:
                return
            self._write_facts(db, row["key"], facts)
            db.commit()

    def _write_facts(self, db: sqlite3.Connection, key: int, facts: Mapping[str, Any]) -> None:
        columns = [c for c in facts if c not in ("header", "channels")]
        names = channel_names(facts)
        settings = ", ".join([*(f"{c} = ?" for c in columns), "channels = ?"])
        values = [*(facts[c] for c in columns), json.dumps(names)]
        db.execute(f"UPDATE entries SET {settings} WHERE key = ?", (*values, key))
        db.execute("DELETE FROM channel WHERE entry = ?", (key,))
        db.executemany("INSERT OR IGNORE INTO channel VALUES (?, ?)", [(n, key) for n in names])
        if "header" in facts:
            db.execute("UPDATE words SET header = ? WHERE rowid = ?", (with_parts(facts["header"]), key))

    def undescribed(self) -> list[str]:
        """Return the ids of the entries that were never opened, in the order of the list."""
        rows = self._connection().execute(
            "SELECT id FROM entries WHERE axes IS NULL AND error IS NULL ORDER BY position"
        )
        return [row["id"] for row in rows]

    # asking

    def search(self, query: Query, visible: tuple[str, ...] | None = None) -> Hits:
        """Return a page of the entries of a query.

        Parameters
        ----------
        query : Query
        visible : tuple of str, optional
            Patterns of the visible ids, as in `tokens.Visitor`; all by default.
        """
        columns, chosen = self._chosen(query, visible)
        keys = columns.ordered(chosen, f"{_SORTS[query.sort]}, position")
        page = keys[query.offset : query.offset + query.limit].tolist()
        listed = ", ".join(("key", *ROW))
        marks = ", ".join("?" * len(page))
        rows = self._connection().execute(f"SELECT {listed} FROM entries WHERE key IN ({marks})", page)
        found = {row["key"]: _row(row) for row in rows}
        return Hits([found[k] for k in page if k in found], len(keys))

    def _chosen(self, query: Query, visible: tuple[str, ...] | None) -> tuple[Columns, np.ndarray]:
        """Return the current columns, and the entries of a query."""
        columns = self._columns.current()
        chosen = columns.everything.copy()
        for facet, value in query.facets:
            chosen &= columns.having(facet, lambda v, value=value: str(v) == value)  # type: ignore[misc]
        if query.folder:
            chosen &= columns.having("folder", lambda v: _below(str(v), query.folder))
        if query.words:
            chosen &= self._keys("SELECT rowid FROM words WHERE words MATCH ?", [_match(query.words)], columns.size)
        if visible is not None:
            clause, values = _seen(visible)
            chosen &= self._keys(f"SELECT key FROM entries WHERE {clause}", values, columns.size)
        return columns, chosen

    def _keys(self, statement: str, values: Sequence[Any], size: int) -> np.ndarray:
        cursor = self._connection().cursor()
        cursor.row_factory = None  # type: ignore[assignment]
        rows = cursor.execute(statement, values).fetchall()
        keys = np.fromiter((r[0] for r in rows), int, len(rows))
        found = np.zeros(size, bool)
        found[keys[keys < size]] = True
        return found

    def refresh(self, complete: bool = False) -> None:
        """Read recent changes; `complete` prepares all orders too. Takes time for many entries."""
        self._columns.refresh([f"{order}, position" for order in _SORTS.values()] if complete else [])

    def everything(self, query: Query, visible: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
        """Return all entries of a query, at most 100 000."""
        columns, chosen = self._chosen(query, visible)
        keys = columns.ordered(chosen, "position, position")[:100_000].tolist()
        found: list[dict[str, Any]] = []
        for k in range(0, len(keys), 500):
            some = keys[k : k + 500]
            marks = ", ".join("?" * len(some))
            statement = f"SELECT {', '.join(ROW)} FROM entries WHERE key IN ({marks}) ORDER BY position"
            found += map(_row, self._connection().execute(statement, some))
        return found

    def facets(self, query: Query, visible: tuple[str, ...] | None = None) -> dict[str, list[list[Any]]]:
        """Return for each facet its most frequent values and their counts."""
        columns, chosen = self._chosen(query, visible)
        return columns.counts(chosen, Query.FACETS)

    def row(self, name: str) -> dict[str, Any] | None:
        """Return one entry."""
        found = self._connection().execute(f"SELECT {', '.join(ROW)} FROM entries WHERE id = ?", (name,)).fetchone()
        return None if found is None else _row(found)

    def count(self) -> int:
        """Return the number of opened and described entries."""
        all_, rest = (
            self._connection().execute(f"SELECT count(*) FROM entries {only}").fetchone()[0]
            for only in ("", "WHERE axes IS NULL AND error IS NULL")
        )
        return all_ - rest


def _match(words: Sequence[str]) -> str:
    """Return an FTS5 query for words: all must occur, and the last may be a prefix."""
    return " ".join('"' + w.replace('"', '""') + '"' for w in words) + "*"


def _below(folder: str, place: str) -> bool:
    return folder == place or folder.startswith(place + "/")


def _seen(visible: Sequence[str]) -> tuple[str, list[str]]:
    """Return the condition that an entry's id matches a pattern."""
    patterns = [p for v in visible for p in (v, f"{v}/*")]
    return " OR ".join(["id GLOB ?"] * len(patterns)) or "0", patterns


def _row(row: sqlite3.Row) -> dict[str, Any]:
    found = {c: row[c] for c in ROW}
    found["channels"] = json.loads(row["channels"] or "[]")
    return found


def tokens(text: str) -> list[str]:
    """Return the words of a text; names in camel case and with ``_`` are split too."""
    return re.findall(r"\w+", text.replace("_", " "))


def _number(text: str | None, default: int, most: int) -> int:
    return min(int(text), most) if text and text.isascii() and text.isdigit() and len(text) < 9 else default


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
