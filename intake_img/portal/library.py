"""The entries of the portal by name: entries of untrusted catalogs; nested catalogs become folders.

The portal opens only entries of this table; no path of a request ever reaches a file system.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intake_img.catalog import Entry, ImageTable, open_catalog, open_table, scan, write_catalog
from intake_img.errors import CatalogError, IntakeImgError
from intake_img.storage.files import File

__all__ = ["Folder", "Library", "LibraryItem", "RowEntry", "slug"]

_NESTED, _TABLE = "yaml_file_cat", "image_table"
_TABLES = r"\.(parquet|sqlite3?|db)$"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_DOTS = re.compile(r"^\.+|\.{2,}|\.(?=zarr\b|$)")
_DEPTH = 6
_MOST = 1_000_000


@dataclass(eq=False, slots=True)  # not frozen: there may be many, and frozen ones take twice as long to make
class LibraryItem:
    """An entry that is an image; read-only.

    Parameters
    ----------
    id : str
        Its name in URLs: the names of its catalogs and its own, separated by ``/``.
    name : str
        The name in the catalog.
    folder : str
        The id of its catalog.
    entry : Entry or RowEntry
    """

    id: str
    name: str
    folder: str
    entry: Entry | RowEntry

    @property
    def description(self) -> str:
        return self.entry.description

    @property
    def driver(self) -> str:
        return self.entry.driver


@dataclass(eq=False, slots=True)
class RowEntry:
    """The row of a table of images, with the data for lists; it is checked and opened when it is called.

    Read-only.

    Parameters
    ----------
    table : ImageTable
    name : str
    cells : mapping
        Cells of all columns.
    """

    table: ImageTable
    name: str
    cells: Mapping[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        """The cells that are not empty."""
        return {k: v for k, v in self.cells.items() if v is not None and v == v and k != "text"}

    @property
    def description(self) -> str:
        return _text(self.cells.get("description"))

    @property
    def driver(self) -> str:
        return _text(self.cells.get("driver"))

    @property
    def args(self) -> Mapping[str, Any]:
        row = self.row
        return {k: row[k] for k in ("uri", "scene", "options") if k in row}

    @property
    def metadata(self) -> Mapping[str, Any]:
        return {k: v for k, v in self.row.items() if k not in ("name", "description", "driver", *self.args)}

    def __call__(self) -> Any:
        """Return the source of the image.

        Raises
        ------
        CatalogError
            If the row is refused.
        """
        return self.table[self.name]


@dataclass(frozen=True)
class Folder:
    """A catalog: its name, its description, the ids of its nested catalogs, and its images."""

    id: str
    name: str
    description: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, LibraryItem] = field(default_factory=dict)


def slug(name: str) -> str:
    """Return a name as a segment of a URL: all characters except letters, digits, ``_``, ``-`` and ``.`` become
    ``~hex``.

    Examples
    --------
    >>> slug("cells 1.tif"), slug("../a.zarr"), slug("µ")
    ('cells~201.tif', '~2e~2e~2fa~2ezarr', '~c2~b5')
    """
    text = _UNSAFE.sub(lambda m: _escaped(m[0]), name)
    text = _DOTS.sub(lambda m: "~2e" * len(m[0]), text)
    return text[:200] or "~"


def _escaped(text: str) -> str:
    return "".join(f"~{b:02x}" for b in text.encode("utf-8", "replace"))


class Library:
    """All served catalogs, which are read again when they change.

    Parameters
    ----------
    places : sequence of str or os.PathLike
        Catalogs (YAML), tables of images (Parquet, SQLite), folders of images, or single images.
    work : Path
        A folder for the catalogs made from folders.
    roots, schemes
        As in `intake_img.catalog.open_catalog`.
    patient : bool
        Whether catalogs that cannot be read are without entries until they can; else the first reading raises.
    """

    def __init__(
        self,
        places: Sequence[Any],
        work: Path,
        *,
        roots: Iterable[str] | None = None,
        schemes: Iterable[str] = (),
        patient: bool = False,
    ) -> None:
        self._patient = patient
        self._roots, self._schemes = None if roots is None else tuple(roots), tuple(schemes)
        self._work = work
        self._lock = threading.Lock()
        self._looked = 0.0
        self.generation = 0
        self.problems: dict[str, str] = {}
        self.folders: dict[str, Folder] = {}
        self.items: dict[str, LibraryItem] = {}
        made = [self._catalog(p) for p in places]
        used: set[str] = set()
        prefixes = [_unused(slug(_title(p)), used) for p, _ in made]
        self._catalogs = [(prefix if len(made) > 1 else "", *one) for prefix, one in zip(prefixes, made, strict=True)]
        self._stamps: dict[str, Any] = {}
        self.places = tuple(path for _, path, _ in self._catalogs)
        self.load()

    def load(self) -> None:
        """Read the catalogs; catalogs that cannot be read now keep their previous entries."""
        found = _Reading(self._roots, self._schemes)
        before = {p: _stamp(p) for p in (*self.places, *self._stamps)}  # files may change while they are read
        problems = {}
        for prefix, path, roots in self._catalogs:
            try:
                found.catalog(prefix, path, roots)
            except (IntakeImgError, OSError) as exc:
                if self.generation == 0 and not self._patient:
                    raise
                problems[os.path.basename(path)] = str(exc)
                self._keep(prefix, path, found)
        if len(self._catalogs) > 1:
            found.folders[""] = Folder("", "", "", {prefix: prefix for prefix, _, _ in self._catalogs})
        self.folders, self.items, self.problems = found.folders, found.items, problems
        self._stamps = {p: before[p] if p in before else _stamp(p) for p in found.files}
        self.generation += 1

    def _keep(self, prefix: str, path: str, found: _Reading) -> None:
        found.files += [path, *self._stamps]  # all that may be mended
        found.folders[prefix] = Folder(prefix, _title(path), "", {})
        found.folders |= {k: f for k, f in self.folders.items() if _below(k, prefix)}
        found.items |= {k: i for k, i in self.items.items() if _below(k, prefix)}

    def refresh(self, seconds: float = 2.0) -> bool:
        """Read the catalogs again if one of their files changed; check at most every few seconds."""
        with self._lock:
            if time.monotonic() - self._looked < seconds:
                return False
            self._looked = time.monotonic()
            if all(_stamp(p) == stamp for p, stamp in self._stamps.items()):
                return False
            self.load()
            return True

    def _catalog(self, place: Any) -> tuple[str, list[str] | None]:
        """Return a catalog and its allowed roots; for a folder or an image, a catalog is written."""
        text = os.fspath(place)
        if re.search(r"\.ya?ml$|" + _TABLES, text, re.I):
            return File.parse(text).path, None
        path = os.path.abspath(os.path.expanduser(text))
        if not os.path.exists(path):
            known = "a catalog (.yml), a table (.parquet, .sqlite), a folder of images, or an image"
            raise FileNotFoundError(f"{text}: expected {known}")
        self._work.mkdir(parents=True, exist_ok=True)
        target = self._work / f"{slug(os.path.basename(path.rstrip('/')) or 'images')}.yml"
        if os.path.isdir(path) and not path.endswith(".zarr"):
            sources: Any = scan(path)
            root = path
        else:
            from intake_img.formats.registry import autodetect

            sources, root = [autodetect(path)], os.path.dirname(path)
        write_catalog(sources, target, overwrite=True)
        return str(target), [root, str(self._work)]


class _Reading:
    """Catalogs while they are read."""

    def __init__(self, roots: Sequence[str] | None, schemes: Sequence[str]) -> None:
        self.roots, self.schemes = roots, schemes
        self.folders: dict[str, Folder] = {}
        self.items: dict[str, LibraryItem] = {}
        self.files: list[str] = []

    def catalog(self, prefix: str, path: str, roots: Sequence[str] | None) -> None:
        if re.search(_TABLES, path, re.I):
            table = open_table(path, roots=roots or self.roots or (), schemes=self.schemes)
            return self._rows(prefix, _title(path), table)
        catalog = open_catalog(path, roots=roots or self.roots, schemes=self.schemes)
        self._add(prefix, catalog, _DEPTH)

    def _rows(self, prefix: str, title: str, table: ImageTable) -> None:
        self.files.append(table.file.path)
        items: dict[str, LibraryItem] = {}
        used: set[str] = set()
        for row in table.images.rows():
            name = str(row["name"])
            own = _unused(slug(name), used)
            place = f"{prefix}/{own}" if prefix else own
            items[name] = self.items[place] = LibraryItem(place, name, prefix, RowEntry(table, name, row))
        self._bounded()
        self.folders[prefix] = Folder(prefix, title, "", {}, items)

    def _bounded(self) -> None:
        if len(self.items) > _MOST:
            raise CatalogError(f"more than {_MOST} entries in all: serve fewer catalogs at once")

    def _add(self, prefix: str, catalog: Any, depth: int) -> None:
        self.files.append(catalog.file.path)
        folders: dict[str, str] = {}
        items: dict[str, LibraryItem] = {}
        used: set[str] = set()
        for name, entry in catalog.entries.items():
            own = _unused(slug(name), used)
            place = f"{prefix}/{own}" if prefix else own
            if entry.driver == _TABLE:
                self._rows(place, name, entry())
                folders[name] = place
            elif entry.driver != _NESTED:
                items[name] = self.items[place] = LibraryItem(place, name, prefix, entry)
            elif depth > 1 and entry.resolved({}).identity not in entry.chain:
                self._add(place, entry(), depth - 1)
                folders[name] = place
            self._bounded()
        self.folders[prefix] = Folder(prefix, catalog.name, catalog.description, folders, items)


def _text(cell: Any) -> str:
    return str(cell) if cell and cell == cell else ""


def _title(path: str) -> str:
    """Return the name of a file without its extension."""
    return re.sub(r"\.ya?ml$|" + _TABLES, "", os.path.basename(path), flags=re.I)


def _unused(name: str, used: set[str]) -> str:
    n, one = 2, name
    while one in used:
        one, n = f"{name}~{n}", n + 1
    used.add(one)
    return one


def _below(key: str, prefix: str) -> bool:
    return not prefix or key == prefix or key.startswith(prefix + "/")


def _stamp(path: str) -> Any:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
