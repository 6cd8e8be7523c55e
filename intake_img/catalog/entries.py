"""The entries of a validated catalog, and the catalog as a mapping: sources are made on access.

An entry never leads out of the jail, whatever the values of its parameters are.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any
from urllib.parse import quote

from intake_img.catalog.document import LazyFacts
from intake_img.catalog.gallery import GalleryRow, gallery
from intake_img.catalog.jail import admit
from intake_img.catalog.template import Parameter, fill, names_in
from intake_img.catalog.unused import counted
from intake_img.collections.plates.source import PlateSource
from intake_img.collections.sequence import DirectorySource, FilePatternSource, ImageListSource
from intake_img.errors import CatalogError, IntakeImgError
from intake_img.formats.arguments import ENTRY_POINTS
from intake_img.formats.registry import ImgSource, formats
from intake_img.formats.source import ImageSource
from intake_img.model.text import escaped, printable
from intake_img.storage.files import File
from intake_img.storage.jail import Jail

__all__ = ["MAX_LOADS", "NESTED", "TABLE", "Entry", "SafeCatalog", "image_drivers", "options_of", "parameters_in"]

NESTED = "yaml_file_cat"
"""Intake's name of the driver of a nested catalog."""
TABLE = "image_table"
"""Name of the driver of a table of images, which is declared as an entry point."""
MAX_LOADS = 1000
"""How many files of nested catalogs are read in one walk."""


@cache
def image_drivers() -> Mapping[str, Any]:
    """Return the drivers that a catalog may name: drivers of formats, and of many files."""
    points = importlib.metadata.entry_points(group=ENTRY_POINTS, name=TABLE)
    tables = [point.load() for point in points if point.value.startswith("intake_img.")]
    several: tuple[Any, ...] = (ImgSource, *_SEQUENCES, *tables)
    return {**{name: f.source for name, f in formats().items()}, **{cls.name: cls for cls in several}}


@dataclass(frozen=True, eq=False)
class Entry:
    """An entry of a catalog: an image, or a nested catalog. Calling it makes the source.

    Parameters
    ----------
    name, description, driver : str
    args, metadata : mapping
    parameters : mapping of str to Parameter
    file : File
        The catalog.
    jail : Jail
    chain : tuple of str
        The catalogs that led here.
    load : callable, optional
        Opens a nested catalog, given its file, the jail and the chain.
    """

    name: str
    driver: str
    description: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    file: File = field(default_factory=lambda: File(""))
    jail: Jail = field(default_factory=lambda: Jail(()))
    chain: tuple[str, ...] = ()
    load: Callable[[File, Jail, tuple[str, ...]], Any] | None = None

    def __call__(self, **given: Any) -> Any:
        """Return the source, or the nested catalog.

        Parameters
        ----------
        **given
            Values of the parameters, and options of the driver that replace the entry's.

        Raises
        ------
        CatalogError
            If a value, or a file of the entry, is not allowed.
        """
        source = self.resolved(given)
        if isinstance(source, File):
            if self.load is None:
                raise CatalogError(f"the nested catalog {self.name!r} was not read from a file: open {source} itself")
            return self.load(source, self.jail, self.chain)
        source.name, source.description = self.name, self.description  # type: ignore[misc]
        source._entry, source._passed_kwargs = self, list(given)
        return source

    get = __call__

    def lacking(self) -> list[str]:
        """Return the parameters without a default: the entry needs a value for each."""
        return [n for n in parameters_in(self.args) if n in self.parameters and self.parameters[n].default is None]

    def describe(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        return {
            "name": self.name,
            "description": self.description,
            "driver": self.driver,
            "args": dict(self.args),
            "metadata": dict(self.metadata),
            "parameters": {n: p.describe() for n, p in self.parameters.items()},
        }

    def __repr__(self) -> str:
        return f"<Entry {self.name!r}: {self.driver}{', ' + printable(self.description) if self.description else ''}>"

    def resolved(self, given: Mapping[str, Any]) -> Any:
        """Return the unopened source with all values filled in; for a nested catalog its `File`."""
        values = self._values(given)
        free = parameters_in(self.args)
        values |= {k: v for k, v in given.items() if k in free and k not in self.parameters and k != "CATALOG_DIR"}
        own = {k: v for k, v in given.items() if k not in values or (k in self.parameters and k not in free)}
        if self.driver == NESTED:
            if own:
                raise CatalogError(f"the nested catalog {self.name!r} has no parameter {next(iter(own))!r}")
            return self.files(self._uri(values))[0]
        cls = image_drivers()[self.driver]
        if unknown := [k for k in own if k not in options_of(cls)]:
            listed = ", ".join([*self.parameters, *sorted(options_of(cls))])
            raise CatalogError(f"{self.name!r} has no parameter or option {unknown[0]!r}; it has {listed}")
        uri = own.pop("uri") if "uri" in own else self._uri(values)
        files = self.files(uri)
        options = fill({k: v for k, v in self.args.items() if k != "uri"}, values)
        return self._made(cls, files if isinstance(uri, (list, tuple)) else files[0], {**options, **own})

    def admitted(self, folder: Callable[[str], str]) -> None:
        """Check the files of the entry with the defaults of its parameters; no source is made.

        Parameters
        ----------
        folder : callable
            See `intake_img.storage.jail.Jail.check`.

        Raises
        ------
        CatalogError
            If the catalog may not name a file.
        """
        self.files(self._uri(self._values({})), folder)

    def _uri(self, values: Mapping[str, Any]) -> Any:
        uri = fill(self.args["path" if self.driver == NESTED else "uri"], values)
        return self._quoted(uri) if self.file.web else uri  # web servers expect percent-encoded names

    def files(self, uri: Any, folder: Callable[[str], str] = os.path.realpath) -> list[File]:
        """Return the files of a URI, or of a list of URIs, if the driver accepts them and they may be opened."""
        many = isinstance(uri, (list, tuple))
        if self.driver != NESTED:
            cls = image_drivers()[self.driver]
            if (many and not (uri and cls in (ImageListSource, ImgSource))) or (cls is ImageListSource and not many):
                wanted = "a list of paths" if cls is ImageListSource else "one path"
                raise CatalogError(f"uri: the driver {self.driver!r} takes {wanted}")
        pattern = self.driver in (FilePatternSource.name, ImgSource.name)
        return [admit(self.jail, one, pattern, folder) for one in (uri if many else [uri])]

    def _values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of all parameters that are given or have a default value."""
        values: dict[str, Any] = {"CATALOG_DIR": self.file.parent.path.rstrip("/") + "/"}
        for name, parameter in self.parameters.items():
            if name in given or parameter.default is not None:
                values[name] = parameter.validate(given.get(name, parameter.default))
        return values

    def _quoted(self, uri: Any) -> Any:
        """Return a URI whose part after the folder of the catalog is percent-encoded."""
        if isinstance(uri, list):
            return [self._quoted(one) for one in uri]
        folder = self.file.parent.path.rstrip("/") + "/"
        if not isinstance(uri, str) or not uri.startswith(folder):
            return uri
        wild = "{}*?[]" if self.driver == FilePatternSource.name else ""
        return folder + quote(uri[len(folder) :], safe=f"/:@{wild}")

    def _made(self, cls: type[ImageSource], files: File | list[File], args: dict[str, Any]) -> ImageSource:
        args = {"metadata": dict(self.metadata), **args}
        for options in (args, args.get("member_options") or {}):
            conf = options.get("conf", "")
            if not isinstance(conf, str) or re.search(r"[/\\]", conf):
                raise CatalogError(f"conf: expected the name of a file beside the image, got {conf!r}")
        every = files if isinstance(files, list) else [files]
        if remote := next((f for f in every if not f.local), None):
            args["storage_options"] = {**(args.get("storage_options") or {}), **remote.storage_options}
        try:
            return cls(files, **args)
        except IntakeImgError:
            raise
        except (TypeError, ValueError, OverflowError, AttributeError) as exc:
            raise CatalogError(f"args: the driver {self.driver!r} refuses them: {str(exc)[:200]}") from exc


class SafeCatalog(Mapping[str, Any]):
    """The entries of a catalog: a mapping of names to sources and nested catalogs, which are made on access.

    ``catalog["name"]``, ``catalog.name`` and, for nested ones, ``catalog["sub.name"]`` or ``catalog["sub", "name"]``
    return a source with the default parameters. ``catalog.entries["name"](position=1)``, or
    ``catalog.name(position=1)``, return one with other values.

    Parameters
    ----------
    entries : mapping of str to Entry
    file : File
        The file of the catalog.
    name, description : str
    metadata : mapping
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        file: File,
        name: str = "",
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.entries = dict(entries)
        self.file = file
        self.name = name or re.sub(r"\.ya?ml$", "", file.name, flags=re.I)
        self.description = description
        self.metadata = dict(metadata or {})

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, tuple):
            found: Any = self
            for part in name:
                found = found[part]
            return found
        if name in self.entries:
            return self.entries[name]()
        head, dot, rest = name.partition(".") if isinstance(name, str) else ("", "", "")
        if dot and head in self.entries and self.entries[head].driver == NESTED:
            return self.entries[head]()[rest]
        import difflib

        close = difflib.get_close_matches(str(name), self.entries, 3)
        hint = f"; did you mean {', '.join(close)}?" if close else f"; there are {', '.join(list(self.entries)[:10])}"
        raise KeyError(f"the catalog {self.file} has no entry {name!r}{hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        if name in self.entries:
            return True
        try:
            return self[name] is not None if isinstance(name, (str, tuple)) else False
        except KeyError:
            return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "entries" or name not in self.entries:
            raise AttributeError(f"{type(self).__name__} has no attribute and no entry {name!r}")
        return self[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(n for n in self.entries if n.isidentifier())})

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.entries)

    def __repr__(self) -> str:
        wide = max((len(n) for n in self.entries), default=0)
        rows = [
            f"  {escaped(name):<{wide}}  {e.driver:<11}  {printable(e.description)}".rstrip()
            for name, e in self.entries.items()
        ]
        more = [f"  … and {len(rows) - 40} more"] if len(rows) > 40 else []
        count = f"{len(rows)} entr{'y' if len(rows) == 1 else 'ies'}"
        counts = ", ".join(filter(None, [count, counted(self.metadata)]))
        return "\n".join([f"<catalog {self.name!r}: {counts}>", *rows[:40], *more])

    def _repr_html_(self) -> str:
        rows = (
            GalleryRow(name, e.driver, e.description, f"catalog[{name!r}]", None if e.driver == NESTED else e)
            for name, e in self.entries.items()
        )
        count = f"{len(self)} entr{'y' if len(self) == 1 else 'ies'}"
        count = ", ".join(filter(None, [count, counted(self.metadata)]))
        head = f"<b>{escape(escaped(self.name))}</b>: {count} {escape(printable(self.description))}"
        return gallery(head, rows, len(self))

    def walk(self, depth: int = 5) -> dict[str, Entry]:
        """Return all entries; entries of nested catalogs have dotted names.

        Parameters
        ----------
        depth : int
            Levels of nested catalogs to visit; 1 is only this catalog. A file that is nested several times is visited
            once, where it occurs first.
        """
        visited = {self.file.identity}
        levels: list[dict[str, SafeCatalog]] = [{"": self}]
        for _ in range(depth - 1):
            below: dict[str, SafeCatalog] = {}
            for prefix, catalog in levels[-1].items():
                below |= {f"{prefix}{name}.": nested for name, nested in catalog.nested(visited)}
            if not below:
                break
            levels.append(below)
        opened = {prefix: catalog for level in levels for prefix, catalog in level.items()}
        found: dict[str, Entry] = {}
        self._collect("", opened, found)
        return found

    def nested(self, visited: set[str]) -> Iterator[tuple[str, SafeCatalog]]:
        """Yield the catalogs nested in this one, except the visited ones, and add them to `visited`."""
        for name, entry in self.entries.items():
            if entry.driver != NESTED:
                continue
            key = entry.resolved({}).identity
            if key in visited and key not in entry.chain:
                continue
            visited.add(key)
            if len(visited) > MAX_LOADS:
                raise CatalogError(f"{self.file}: more than {MAX_LOADS} catalogs in all: give a smaller depth")
            yield name, entry()

    def _collect(self, prefix: str, opened: Mapping[str, SafeCatalog], found: dict[str, Entry]) -> None:
        for name, entry in self.entries.items():
            found[prefix + name] = entry
            below = f"{prefix}{name}."
            if below in opened:
                opened[below]._collect(below, opened, found)

    def search(self, text: str, depth: int = 5) -> SafeCatalog:
        """Return the entries that contain all words in their name, description, driver or metadata; case is ignored.

        Parameters
        ----------
        text : str
            Words.
        depth : int
            Levels of nested catalogs to search.
        """
        words = text.casefold().split()
        found = {n: e for n, e in self.walk(depth).items() if _mentions(n, e, words)}
        return SafeCatalog(found, self.file, f"{self.name}: {text}", self.description, self.metadata)


def _mentions(name: str, entry: Entry, words: Iterable[str]) -> bool:
    text = "\n".join([name, entry.description, entry.driver, str(entry.args.get("uri", ""))]).casefold()
    words = [word for word in words if word not in text]
    if not words:
        return True
    metadata = entry.metadata
    if isinstance(metadata, LazyFacts) and any(metadata.lacks(word) for word in words):
        return False
    text = str(dict(metadata)).casefold()
    return all(word in text for word in words)


def parameters_in(value: Any) -> dict[str, str | None]:
    """Return the parameters that texts in plain data name; parameters without an inline default come first."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list):
        return names_in(value) if isinstance(value, str) else {}
    found: dict[str, str | None] = {}
    for one in value:
        for name, default in parameters_in(one).items():
            found[name] = default if found.get(name, "") is not None else None
    return found


_SEQUENCES = (FilePatternSource, DirectorySource, ImageListSource, PlateSource)


@cache
def options_of(cls: Any) -> frozenset[str]:
    """Return the keywords of a driver; the driver ``img`` accepts those of all formats and sequences."""
    several = (*_SEQUENCES, *(f.source for f in formats().values())) if cls is ImgSource else ()
    every = [p for one in (cls, *several) for p in inspect.signature(one).parameters.values()]
    return frozenset(p.name for p in every if p.kind is not p.VAR_KEYWORD)
