"""What a scan remembers in a file, so that the next one looks again only at what changed.

An SQLite file contains what was seen of each file and series, with what they looked like then. It is written while the
scan goes on: one that was stopped goes on where it was. At the end it has the result as well, with the names, sizes
and times of everything in the folders: while these are the same, so is the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from intake_img.catalog.inspections import Inspection
from intake_img.errors import CatalogError

__all__ = ["Remembered", "ScanMemory", "digest"]

_TABLES = {
    "context": ("text text",),
    "looks": ("path text primary key", "stamp text", "look text"),
    "results": ("what text primary key", "content text"),
    "images": ("number integer primary key", "name text", "path text", "driver text", "options text", "facts text"),
}
_SECONDS = 2  # after which what was seen is safe on disk


def digest(content: Any) -> str:
    """Return a short text that shows whether lists of names, sizes and times are the same."""
    return hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise CatalogError(f"{path} cannot be used as the memory of a scan: {exc}") from exc


class ScanMemory:
    """The memory of a scan of one folder.

    Parameters
    ----------
    path : str
        Of the SQLite file, which is made if there is none.
    context : mapping
        The folder, the options of the scan, and the formats there are: with others, all is forgotten.
    """

    def __init__(self, path: str, context: Mapping[str, Any]) -> None:
        self.path, self._lock, self._saved = path, threading.Lock(), time.monotonic()
        with _told(self.path):
            self._base = sqlite3.connect(path, check_same_thread=False)
        try:
            with _told(self.path):
                self._begin(json.dumps(context))
        except CatalogError:
            self._base.close()
            raise

    def _begin(self, context: str) -> None:
        """Make the tables, or forget what they have of another context; another database is left as it is."""
        listed = (
            "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite#_%' escape '#'"
        )
        for (name,) in self._base.execute(listed).fetchall():
            own = [column.split()[0] for column in _TABLES.get(name, ())]
            if not own or own != [row[1] for row in self._base.execute(f"pragma table_info({name})")]:
                raise CatalogError(f"{self.path} is not the memory of a scan but another database: choose another name")
        for name, columns in _TABLES.items():
            self._base.execute(f"create table if not exists {name} ({', '.join(columns)})")
        if self._base.execute("select text from context").fetchone() != (context,):
            with self._base:
                for name in _TABLES:
                    self._base.execute(f"delete from {name}")
                self._base.execute("insert into context values (?)", (context,))

    def close(self) -> None:
        """Save what is new."""
        try:
            with _told(self.path):
                self._base.commit()
        finally:
            self._base.close()

    # single files and series

    @cached_property
    def _known(self) -> dict[str, tuple[str, str]]:
        with _told(self.path):
            rows = self._base.execute("select path, stamp, look from looks").fetchall()
        return {path: (stamp, text) for path, stamp, text in rows}

    def known(self, path: str, stamp: str | None) -> Inspection | None:
        """Return what was seen of a file, if it looks as it did then."""
        with self._lock:
            known, text = self._known.get(path, ("", ""))
        return Inspection(**json.loads(text)) if stamp is not None and known == stamp else None

    def note(self, path: str, stamp: str | None, seen: Inspection) -> None:
        """Remember what is seen of a file."""
        if stamp is None:
            return
        with self._lock, _told(self.path):
            self._base.execute("insert or replace into looks values (?, ?, ?)", (path, stamp, json.dumps(vars(seen))))
            if time.monotonic() - self._saved > _SECONDS:
                self._base.commit()
                self._saved = time.monotonic()

    # the whole

    def result(self, what: str) -> Any:
        """Return a part of the last result; None if there is none."""
        with _told(self.path):
            found = self._base.execute("select content from results where what = ?", (what,)).fetchone()
        return None if found is None else json.loads(found[0])

    def finish(
        self, results: Mapping[str, Any], images: Iterable[tuple[str, str, str, Any, Any]], seen: Iterable[str]
    ) -> None:
        """Remember the result, and forget files that are gone.

        Parameters
        ----------
        results : mapping of str to JSON
        images : iterable of tuple
            Name, path, driver, options and facts of each.
        seen : iterable of str
            What `known` and `note` were asked for.
        """
        rows = ((k, *image[:3], json.dumps(image[3]), json.dumps(image[4])) for k, image in enumerate(images))
        kept = set(seen)
        with _told(self.path), self._base:
            gone = [(path,) for path in self._known if path not in kept]
            self._base.executemany("delete from looks where path = ?", gone)
            self._base.execute("delete from results")
            self._base.execute("delete from images")
            texts = [(what, json.dumps(content)) for what, content in results.items()]
            self._base.executemany("insert into results values (?, ?)", texts)
            self._base.executemany("insert into images values (?, ?, ?, ?, ?, ?)", rows)


class Remembered(Mapping[str, Any]):
    """A column of the images of the last result by their names, read when it is first needed.

    Parameters
    ----------
    path : str
        Of the memory.
    tree : str
        The state of the folders; see `intake_img.catalog.remembered.State`.
    count : int
    make : callable
        ``(name, path, driver, options, facts) -> value``.
    """

    def __init__(self, path: str, tree: str, count: int, make: Any) -> None:
        self._path, self._tree, self._count, self._make = path, tree, count, make
        self._values: dict[str, Any] = {}

    @cached_property
    def _rows(self) -> dict[str, tuple[Any, ...]]:
        with _told(self._path), contextlib.closing(sqlite3.connect(self._path)) as base:
            state = base.execute("select content from results where what = 'state'").fetchone()
            if state is None or json.loads(state[0])["tree"] != self._tree:
                raise CatalogError(f"{self._path} remembers another scan by now: scan again")
            columns = "select name, path, driver, options, facts from images order by number"
            return {row[0]: (*row[:3], json.loads(row[3]), json.loads(row[4])) for row in base.execute(columns)}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = self._make(*self._rows[name])
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return self._count
