"""The schema of catalogs of images, version 1; anything else is a problem with its line and reason."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from intake_img.catalog.document import Document, LazyFacts, Where, read_document, spelled_out
from intake_img.catalog.entries import NESTED, Entry, SafeCatalog, image_drivers, options_of, parameters_in
from intake_img.catalog.intake2_yaml import as_version_1
from intake_img.catalog.template import Parameter
from intake_img.catalog.text_blocks import Block
from intake_img.errors import CatalogError, IntakeImgError
from intake_img.model.text import escaped, printable
from intake_img.storage.files import File
from intake_img.storage.jail import Jail

__all__ = ["CatalogReader", "Problem", "load", "read"]

_TOP = ("metadata", "sources", "name", "description", "version")
_ENTRY = ("description", "driver", "args", "metadata", "parameters", "direct_access")
_NOTHING: Mapping[str, Callable[[Any], bool]] = {  # keys that Intake's own save() adds, if they request nothing
    "cache": lambda value: value in (None, []),
    "catalog_dir": lambda value: isinstance(value, str),
    "getenv": lambda value: isinstance(value, bool),
    "getshell": lambda value: isinstance(value, bool),
    "name": lambda value: isinstance(value, str),
}
_HERE = "{{ CATALOG_DIR }}"
_CLOSER = re.compile(r"//|/\.\.?(?:/|$)|/$|[*?\[]")  # characters with a special meaning in paths
_MAX_CHAIN = 8
_WHY = {
    "cls": "it names a class to be made",
    "plugins": "it imports modules",
    "cache": "it writes files",
    "remote": "it asks a server",
}


@dataclass(frozen=True)
class Problem:
    """A reason to refuse a catalog: its file, line, key and text."""

    file: str
    line: int
    where: str
    reason: str

    def __str__(self) -> str:
        where = f"{printable(self.where, 200)}: " if self.where else ""
        return f"{escaped(self.file)}, line {self.line}: {where}{printable(self.reason, 600)}"


def load(file: File, jail: Jail, chain: tuple[str, ...]) -> SafeCatalog:
    reader = read(file, jail, chain)
    if reader.problems:
        shown = "; ".join(str(p) for p in reader.problems[:5])
        more = f"; and {len(reader.problems) - 5} more" if len(reader.problems) > 5 else ""
        raise CatalogError(f"{shown}{more}")
    return SafeCatalog(reader.entries, file, reader.name, reader.description, reader.metadata)


def read(file: File, jail: Jail, chain: tuple[str, ...]) -> CatalogReader:
    key = file.identity
    if key in chain:
        raise CatalogError(f"{file} contains itself, through nested catalogs")
    if len(chain) >= _MAX_CHAIN:
        raise CatalogError(f"{file}: catalogs are nested more than {_MAX_CHAIN} deep")
    return CatalogReader(read_document(file), file, jail, (*chain, key))


class CatalogReader:
    """Checks the data of a catalog, makes its entries, and collects all problems."""

    def __init__(self, document: Document, file: File, jail: Jail, chain: tuple[str, ...]) -> None:
        self.document, self.file, self.jail, self.chain = document, file, jail, chain
        self.problems: list[Problem] = []
        self.entries: dict[str, Entry] = {}
        self.tried: set[str] = set()
        self.valid: set[Any] = set()
        self.home = file.parent.path.rstrip("/")
        self.folder = cache(os.path.realpath)
        self.inside = cache(self.allowed)
        self.metadata: dict[str, Any] = {}
        top = document.data
        if not isinstance(top, dict):
            self.problem((), "expected a catalog: a mapping with the key 'sources'")
            return
        if top.get("version") == 2:
            try:
                top = as_version_1(top)
            except CatalogError as exc:
                self.problem(("entries",), exc)
                return
        self.known(top, _TOP, ())
        self.metadata = self.mapping(top, "metadata", ())
        self.name, self.description = self.text(top, "name", ()), self.text(top, "description", ())
        version = self.metadata.get("version", top.get("version", 1))
        if version != 1:
            self.problem(("metadata", "version"), f"version {version!r}: only catalogs of version 1 are read")
            return
        if "sources" not in top:
            self.problem((), "the key 'sources' is missing")
        shared = self.parameters(self.metadata, ("metadata",))
        self.metadata.pop("parameters", None)
        for name, spec in self.mapping(top, "sources", ()).items():
            if shared or not self.like_others(name, spec):
                self.entry(name, spelled_out(spec), shared)

    name = description = ""

    def problem(self, where: Where, reason: object) -> None:
        line = self.document.line(where)
        self.problems.append(Problem(str(self.file), line, ".".join(map(str, where)), str(reason)))

    def problem_of(self, name: str, reason: str) -> Problem:
        """Return a problem of an entry that is found later."""
        where = ("sources", name)
        return Problem(str(self.file), self.document.line(where), ".".join(where), reason)

    def known(self, data: Mapping[str, Any], keys: tuple[str, ...], where: Where) -> None:
        for key in data:
            if key not in keys:
                why = f" ({_WHY[key]})" if key in _WHY else ""
                self.problem((*where, key), f"this key is refused{why}; expected {', '.join(keys)}")

    def mapping(self, data: Mapping[str, Any], key: str, where: Where) -> dict[str, Any]:
        value = data.get(key)
        if value is not None and not isinstance(value, Mapping):
            self.problem((*where, key), f"expected a mapping, got {str(value)[:60]!r}")
        return dict(value) if isinstance(value, Mapping) else {}

    def text(self, data: Mapping[str, Any], key: str, where: Where) -> str:
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            self.problem((*where, key), f"expected a text, got {str(value)[:60]!r}")
        return value if isinstance(value, str) else ""

    def parameters(self, data: Mapping[str, Any], where: Where) -> dict[str, Parameter]:
        found = {}
        for name, spec in self.mapping(data, "parameters", where).items():
            here = (*where, "parameters", name)
            if not isinstance(spec, dict):
                self.problem(here, f"expected a mapping, got {str(spec)[:60]!r}")
                continue
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.A) or name == "CATALOG_DIR":
                self.problem(here, "the name of a parameter has letters, digits and '_'")
                continue
            for key in ("description", "type"):
                if key not in spec:
                    self.problem(here, f"{key!r} is missing: Intake wants it for each parameter")
            try:
                found[name] = Parameter.of(name, spec)
            except CatalogError as exc:
                self.problem(here, exc)
        return found

    def like_others(self, name: str, spec: Any) -> bool:
        """Make an entry; of entries that differ only in names, texts and paths, one is checked, and all paths.

        False if the entry must be checked by itself.
        """
        found = _known_form(name, spec)
        if found is None:
            return False
        kind, args, metadata = found
        if kind not in self.valid:
            before = len(self.problems)
            self.entry(name, spelled_out(spec), {})
            if len(self.problems) == before:
                self.valid.add(kind)
            return True
        driver, text = (spec.driver, spec.description) if isinstance(spec, Block) else _head(spec)
        entry = Entry(name, driver, text, args, metadata, {}, self.file, self.jail, self.chain, load)
        self.entries[name] = entry
        self.check_place(entry)
        return True

    def check_place(self, entry: Entry) -> None:
        """Check the file of an entry below the folder of the catalog."""
        if self.file.local and self.plain_file(self.home + entry.args["uri"].removeprefix(_HERE)):
            return
        try:
            entry.admitted(self.folder)
        except (IntakeImgError, ValueError, TypeError) as exc:
            self.problem(("sources", entry.name, "args"), exc)

    def plain_file(self, path: str) -> bool:
        """True if the path is an allowed file or does not exist; False if it needs a closer check."""
        folder, _, name = path.rpartition("/")
        if _CLOSER.search(path, len(self.home)) or not (real := self.inside(folder)):
            return False
        try:
            mode = os.lstat(f"{real}/{name}").st_mode
        except OSError:
            return True
        return stat.S_ISREG(mode) or stat.S_ISDIR(mode)

    def allowed(self, folder: str) -> str:
        """Return the real path of a folder, if files in it may be opened."""
        real = self.folder(folder)
        return real if self.jail.below(real) else ""

    def entry(self, name: str, spec: Any, shared: Mapping[str, Parameter]) -> None:
        where: Where = ("sources", name)
        if not isinstance(spec, dict):
            self.problem(where, f"expected a mapping, got {str(spec)[:60]!r}")
            return
        before = len(self.problems)
        if not name.isprintable() or not name.strip() or len(name) > 200:
            self.problem(where, "names of entries are printable texts of at most 200 characters")
        self.known({k: v for k, v in spec.items() if not (k in _NOTHING and _NOTHING[k](v))}, _ENTRY, where)
        driver = self.driver(spec.get("driver"), where)
        args = self.mapping(spec, "args", where)
        entry = Entry(
            name,
            driver,
            self.text(spec, "description", where),
            args,
            self.mapping(spec, "metadata", where),
            {**shared, **self.parameters(spec, where)},
            self.file,
            self.jail,
            self.chain,
            load,
        )
        if driver:
            self.arguments(entry, where)
        if len(self.problems) == before:
            self.try_out(entry, where)
        self.entries[name] = entry

    def driver(self, driver: Any, where: Where) -> str:
        if isinstance(driver, str) and (driver in image_drivers() or driver == NESTED):
            return driver
        known = (*image_drivers(), NESTED)
        why = (
            "a driver given by its path imports code"
            if isinstance(driver, str) and re.search("[.:]", driver)
            else ("missing or unknown" if driver is None or isinstance(driver, str) else "expected a name")
        )
        self.problem((*where, "driver"), f"{str(driver)[:60]!r} is refused ({why}); expected one of {', '.join(known)}")
        return ""

    def arguments(self, entry: Entry, where: Where) -> None:
        args, where = entry.args, (*where, "args")
        nested = entry.driver == NESTED
        options = {"path"} if nested else options_of(image_drivers()[entry.driver])
        first = "path" if nested else "uri"
        if first not in args:
            self.problem(where, f"{first!r} is missing")
        if nested and not isinstance(args.get(first, ""), str):
            self.problem((*where, first), "expected a text")
        for key, value in args.items():
            if key not in options:
                self.problem(
                    (*where, key),
                    f"the driver {entry.driver!r} has no such option; it has {', '.join(sorted(options))}",
                )
            if key == "cache" and value is not None:
                self.problem((*where, key), "refused: it writes files; give cache= when you open the image")
            self.templates(value, entry, (*where, key))
        members = args.get("member_options") or {}
        if not isinstance(members, dict) or "storage_options" in members:
            self.problem((*where, "member_options"), "expected a mapping, without storage_options")
        storage = args.get("storage_options") or {}
        if not isinstance(storage, dict) or set(storage) - {"anon"} or not isinstance(storage.get("anon", True), bool):
            self.problem(
                (*where, "storage_options"),
                "only 'anon: true' may be given: other options can lead anywhere; pass storage_options to open_catalog",
            )

    def templates(self, value: Any, entry: Entry, where: Where) -> None:
        try:
            names = parameters_in(value)
        except CatalogError as exc:
            self.problem(where, exc)
            return
        for name, default in names.items():
            if default is None and name != "CATALOG_DIR" and name not in entry.parameters:
                listed = ", ".join(["CATALOG_DIR", *entry.parameters])
                self.problem(where, f"there is no parameter {name!r}; there are {listed}")

    def opened(self) -> list[Problem]:
        """Return a problem for each image that does not open with the defaults of its parameters."""
        before, self.problems = self.problems, []
        for name, entry in self.entries.items():
            if entry.driver != NESTED and not entry.lacking():
                self.try_open(entry, ("sources", name))
        found, self.problems = self.problems, before
        return found

    def unopened(self) -> dict[str, str]:
        """Return the images that `opened` does not open, and the reasons."""
        images = {name: entry for name, entry in self.entries.items() if entry.driver != NESTED}
        if self.problems:
            return dict.fromkeys(images, "the catalog has problems, which come first")
        return {
            name: f"it needs a value of {', '.join(map(repr, lacking))}"
            for name, entry in images.items()
            if (lacking := entry.lacking())
        }

    def try_open(self, entry: Entry, where: Where) -> None:
        source = None
        try:
            source = entry()
            source.discover()
            for name, why in getattr(source, "unreadable", tuple)():
                self.problem(where, f"{name!r} does not open: {why}")
        except Exception as exc:  # a failure of one file must not hide the others
            self.problem(where, f"it does not open: {str(exc) or type(exc).__name__}")
        finally:
            if source is not None:
                source.close()

    def try_out(self, entry: Entry, where: Where) -> None:
        """Fill in the defaults and check the files of the entry; nothing is opened.

        A source is made once for all entries with the same options: this takes long, and only the options can be wrong.
        """
        if entry.lacking():
            return  # checked when a value is given
        options = {**entry.args, "uri": type(entry.args.get("uri"))}
        key = repr((entry.driver, options, entry.parameters))
        try:
            if key in self.tried:
                entry.admitted(self.folder)
            else:
                entry.resolved({})
                self.tried.add(key)
        except (IntakeImgError, ValueError, TypeError) as exc:
            self.problem((*where, "args"), exc)


_COMMON = {"driver", "description", "args", "metadata"}
_BELOW = re.compile(r"\{\{ CATALOG_DIR \}\}/[^'{}\\\n]{1,1000}")


def _known_form(name: str, spec: Any) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]] | None:
    """Return the kind, arguments and metadata of an entry of one file below the folder of the catalog, else None.

    Entries of the same kind are all valid if one of them is, apart from their paths.
    """
    if isinstance(spec, Block):
        return spec.kind, {"uri": spec.uri}, LazyFacts(spec.facts) if spec.facts else {}
    if not isinstance(spec, dict) or not _COMMON.issuperset(spec) or not 0 < len(name) <= 200:
        return None
    args, metadata = spec.get("args"), spec.get("metadata", {})
    text = spec.get("description", "")
    if not (isinstance(args, dict) and isinstance(metadata, dict) and isinstance(text, str)):
        return None
    uri = args.get("uri")
    if not (isinstance(uri, str) and _BELOW.fullmatch(uri) and name.isprintable() and name.strip()):
        return None
    return repr((spec.get("driver"), {**args, "uri": ""})), args, metadata


def _head(spec: Mapping[str, Any]) -> tuple[str, str]:
    return spec["driver"], spec.get("description", "")
