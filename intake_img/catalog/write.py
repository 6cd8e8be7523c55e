"""Catalogs as YAML: one clean entry for each source, and updates of a file that keep manual edits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from intake_img.catalog.document import MAX_BYTES, Document, LazyFacts, read_document, spelled_out
from intake_img.catalog.entry_names import unique_names
from intake_img.catalog.facts import sentence
from intake_img.catalog.scan import Scan
from intake_img.catalog.spelling import SCANNED, dump, entry_block, one_line
from intake_img.catalog.template import fill
from intake_img.catalog.unused import with_skipped
from intake_img.collections.sequence import FilePatternSource
from intake_img.errors import CatalogError, TargetExistsError
from intake_img.formats.arguments import driver_name, jinja_escaped
from intake_img.formats.source import ImageSource
from intake_img.model.record import plain
from intake_img.model.typed import Uri
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["Changes", "entries_of", "write_catalog"]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_HERE = "{{ CATALOG_DIR }}"


@dataclass
class Changes:
    """The result of `write_catalog`.

    Attributes
    ----------
    path : str
    added, refreshed, kept, missing : list of str
        Names of entries: new ones; entries whose facts changed; unchanged ones; entries whose file is missing, which
        are kept as well.
    roots : list of str
        Folders that `open_catalog` needs as ``roots=`` because they contain images outside of the catalog's folder;
        else empty.
    """

    path: str
    added: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)


Sources = Scan | ImageSource | Mapping[str, ImageSource | Mapping[str, Any]] | Iterable[ImageSource]
"""Images to enter: the result of a scan, or sources or entries, by name or not."""


def write_catalog(sources: Sources, path: Uri, *, overwrite: bool = False, update: bool = False) -> Changes:
    """Write a catalog of version 1.

    Parameters
    ----------
    sources : Scan, mapping of str to ImageSource or dict, or sequence of ImageSource
        The result of `scan`; or sources by name; or a list of sources, which get names. A dict is an entry in the form
        of a catalog.
    path : str or os.PathLike
        The YAML file. Local images below its folder, or near it, get relative paths.
    overwrite : bool
        Replace an existing file.
    update : bool
        Update an existing file instead: entries of the same files are kept, with their names, texts, comments and
        order; only the key ``scanned`` and descriptions that nobody changed are updated.

    Returns
    -------
    Changes

    Raises
    ------
    TargetExistsError
        If the file exists and neither `overwrite` nor `update` is given.
    CatalogError
        If the existing file to update is not a catalog, or the new one would be too large to be read again; the
        existing file is not changed.
    """
    target = File.parse(path)
    if overwrite and update:
        raise ValueError("overwrite replaces the file, update adds to it: give one of them")
    exists = target.exists()
    if exists and not (overwrite or update):
        raise TargetExistsError(
            f"{target} exists: choose another name, pass update=True to add to it, or overwrite=True"
        )
    entries = entries_of(sources, target.parent)
    skipped = sources.unused.facts(target.parent.path) if isinstance(sources, Scan) and target.local else None
    if exists and update:
        text, changes = _updated(entries, target)
        text = with_skipped(text, skipped)
    else:
        text, changes = with_skipped(_fresh(entries), skipped), Changes(str(target), added=list(entries))
    if len(text.encode()) > MAX_BYTES:
        raise CatalogError(
            f"a catalog of {len(entries)} entries takes {len(text.encode()) / 2**20:.0f} MiB, and more than "
            f"{MAX_BYTES // 2**20} MiB are not read again: write one for each folder, and nest them"
        )
    with (
        replacing(target, overwrite=overwrite or update) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as stream,
    ):
        stream.write(text)
    changes.roots = _roots(entries, target)
    return changes


def _roots(entries: Mapping[str, Any], target: File) -> list[str]:
    """Return the folders that contain all images, if some of them lie outside of the catalog's folder."""
    if not target.local:
        return []
    home = os.path.realpath(target.parent.path)
    keys = (key for entry in entries.values() for key in _key(entry, target).split("\n"))
    folders = {os.path.realpath(os.path.dirname(re.split(r"[{}*?\[]", key)[0])) for key in keys if os.path.isabs(key)}
    outside = [f for f in folders if os.path.commonpath([home, f]) != home]
    return [home, os.path.commonpath(outside)] if outside else []


def _fresh(entries: Mapping[str, Any]) -> str:
    head = dump({"metadata": {"version": 1}})
    if not entries:
        return head + "sources: {}\n"
    return head + "sources:\n" + "".join(entry_block(name, entry, "  ") for name, entry in entries.items())


# entries


def entries_of(sources: Any, folder: File) -> dict[str, dict[str, Any]]:
    """Return sources as entries of a catalog in a folder, by name."""
    facts = sources.facts if isinstance(sources, Scan) else {}
    if isinstance(sources, ImageSource):
        sources = [sources]
    if not isinstance(sources, Mapping):
        listed = list(sources)
        sources = dict(zip(_names(listed), listed, strict=True))
    entries = {}
    for name, source in sources.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"expected texts as names of entries, got {name!r}")
        entries[name] = _entry(source, folder, facts.get(name))
    return entries


def _names(sources: Iterable[Any]) -> list[str]:
    for source in sources:
        if not isinstance(source, ImageSource):
            raise TypeError(f"expected sources, got {type(source).__name__}; give other entries by name, in a mapping")
    given = [str(s.__dict__.get("name") or os.path.basename(s.uri.rstrip("/"))) for s in sources]
    return unique_names(given)


def _entry(source: Any, folder: File, facts: Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(source, Mapping):
        if not isinstance(source.get("driver"), str):
            raise CatalogError(f"an entry of a catalog needs a driver, got {dict(source)!r}")
        return plain(dict(source), strict=True)
    if not isinstance(source, ImageSource):
        raise TypeError(f"expected a source or an entry as a dict, got {type(source).__name__}")
    arguments = source.arguments()
    metadata = arguments.pop("metadata", None) or {}
    uri = arguments.pop("uri")
    if isinstance(uri, list):
        arguments = {"uri": [_relative(u, folder) for u in uri], **jinja_escaped(plain(arguments, strict=True))}
    else:
        pattern = isinstance(source, FilePatternSource)
        arguments = {"uri": _relative(uri, folder, pattern), **jinja_escaped(plain(arguments, strict=True))}
    cls: Any = type(source)
    entry: dict[str, Any] = {"driver": _driver(cls)}
    if source.description:
        entry["description"] = source.description
    entry["args"] = arguments
    if facts:
        metadata = {**metadata, SCANNED: dict(facts)}
    if metadata:
        entry["metadata"] = plain(metadata, strict=True)
    return entry


@cache
def _driver(cls: Any) -> str:
    return driver_name(cls)


def _relative(uri: str, folder: File, pattern: bool = False) -> str:
    """Return a path relative to the catalog's folder, if it is below it or near; else unchanged."""
    if pattern and re.search(r"[{}*?\[]", folder.path):  # in a pattern, the folder's name would be interpreted
        return str(jinja_escaped(uri))
    if "://" in uri or not folder.local:
        beginning = folder.path.rstrip("/") + "/"
        if not folder.local and uri.startswith(beginning):
            return f"{_HERE}/{jinja_escaped(uri[len(beginning) :])}"
        return str(jinja_escaped(uri))
    relative = os.path.relpath(uri, folder.path).replace(os.sep, "/")
    if relative.startswith("../../../"):
        return str(jinja_escaped(uri))
    return f"{_HERE}/{jinja_escaped(relative)}"


# changes to an existing catalog


def _updated(entries: Mapping[str, dict[str, Any]], target: File) -> tuple[str, Changes]:
    document = read_document(target)
    old = document.data
    if not isinstance(old, dict) or not isinstance(old.get("sources") or {}, dict):
        raise CatalogError(f"{target} is not a catalog of version 1: choose another name, or pass overwrite=True")
    text = document.text
    changes = Changes(str(target))
    sources = {name: spelled_out(entry) for name, entry in (old.get("sources") or {}).items()}
    by_file: dict[str, list[str]] = {}
    for name, entry in sources.items():
        by_file.setdefault(_key(entry, target), []).append(name)
    new: list[tuple[str | None, str, dict[str, Any]]] = []  # after which entry, name, entry
    edits: list[tuple[int, int, str]] = []
    before: str | None = None
    nodes = _Places(document)
    found: set[str] = set()
    for name, entry in entries.items():
        same = by_file.get(_key(entry, target), [])
        if not same:
            new.append((before, name, entry))
            continue
        found.update(same)
        before = same[-1]
        for each in same:
            changed = _refresh(sources[each], nodes, each, entry)
            edits += changed
            (changes.refreshed if changed else changes.kept).append(each)
    folder_of = lambda name: _key(sources[name], target)  # noqa: E731
    for name in sources:
        if name not in found:
            (changes.kept if _exists(folder_of(name)) else changes.missing).append(name)
    names: list[str] = []
    for _, name, _ in new:
        taken = {*sources, *names}
        free = (n for n in (name, *(f"{name}_{k}" for k in range(2, len(taken) + 3))) if n not in taken)
        names.append(next(free))
    changes.added = names
    named = [(after, name, entry) for (after, _, entry), name in zip(new, names, strict=True)]
    if named and not nodes:
        return _firstentries_of(document, {name: entry for _, name, entry in named}), changes
    edits += _insertions(text, nodes, named)
    for start, stop, piece in sorted(edits, key=lambda e: e[:2], reverse=True):
        text = text[:start] + piece + text[stop:]
    return text, changes


def _exists(uri: str) -> bool:
    """True unless it is certain that a local file is missing; patterns and URLs are assumed to exist."""
    return not os.path.isabs(uri) or bool(re.search(r"[{}*?\[]", uri)) or os.path.exists(uri)


def _key(entry: Any, target: File) -> str:
    """Return the absolute URI of an entry, with the defaults of its parameters."""
    if not isinstance(entry, dict) or not isinstance(entry.get("args"), dict):
        return ""
    uri = entry["args"].get("uri")
    values: dict[str, Any] = {"CATALOG_DIR": target.parent.path.rstrip("/") + "/"}
    parameters = entry.get("parameters")
    for name, spec in parameters.items() if isinstance(parameters, dict) else ():
        values[name] = spec.get("default", "") if isinstance(spec, dict) else ""
    try:
        filled = fill(uri, values)
        return "\n".join(File.parse(u).path for u in (filled if isinstance(filled, list) else [filled]))
    except (CatalogError, TypeError, ValueError):
        return ""


class _Places(Mapping[str, tuple[int, Any, Any]]):
    """Positions of the entries in the text: an offset, and the nodes of key and value relative to it.

    Making nodes takes long: for a text that is cut into blocks, only the requested ones are made.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        sources = document.data.get("sources") or {}
        self.blocks = dict(zip(sources, document.cut.blocks, strict=True)) if document.cut else {}
        node = None if self.blocks else _child(document.node, "sources")
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        self.nodes = {key.value: (0, key, value) for key, value in pairs}

    def __getitem__(self, name: str) -> tuple[int, Any, Any]:
        if name not in self.nodes:
            at, text = self.blocks[name]
            key, value = yaml.compose(text, Loader=_LOADER).value[0]  # type: ignore[union-attr]
            self.nodes[name] = at, key, value
        return self.nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.blocks or self.nodes)

    def __len__(self) -> int:
        return len(self.blocks or self.nodes)


def _child(node: Any, key: str) -> Any:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((v for k, v in node.value if k.value == key), None)


def _end(node: Any) -> int:
    """Return the end of a value in the text: the end mark of a block would include the comments after it."""
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False) or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _refresh(old: Mapping[str, Any], places: _Places, name: str, new: Mapping[str, Any]) -> list[tuple[int, int, str]]:
    """Return the edits that update the facts, and a description that nobody changed."""
    metadata = old.get("metadata")
    after = (new.get("metadata") or {}).get(SCANNED)
    if after is not None and isinstance(metadata, LazyFacts) and metadata.text == one_line(after):
        return []
    before = metadata.get(SCANNED) if isinstance(metadata, Mapping) else None
    if not isinstance(before, dict) or after is None or before == after:
        return []
    at, _, node = places[name]
    edits = []
    facts = _child(_child(node, "metadata"), SCANNED)
    edits.append((at + facts.start_mark.index, at + _end(facts), one_line(after)))
    try:
        ours = old.get("description") == sentence(before)
    except (KeyError, TypeError, ValueError, AttributeError):
        ours = False
    text = _child(node, "description")
    if ours and text is not None and text.style in (None, "", "'", '"'):
        edits.append((at + text.start_mark.index, at + _end(text), one_line(sentence(after))))
    return edits


def _insertions(
    text: str, places: _Places, new: Iterable[tuple[str | None, str, dict[str, Any]]]
) -> list[tuple[int, int, str]]:
    if not places:
        return []
    offset, first, _ = places[next(iter(places))]
    column = first.start_mark.column
    pieces: dict[int, str] = {}
    for after, name, entry in new:
        if after is None:
            at = text.rfind("\n", 0, offset + first.start_mark.index) + 1
        else:
            start, _, value = places[after]
            end = text.find("\n", start + _end(value) - 1)
            at = len(text) if end < 0 else end + 1
        pieces[at] = pieces.get(at, "") + entry_block(name, entry, " " * column)
    missing = "" if text.endswith("\n") else "\n"
    return [(at, at, (missing if at == len(text) else "") + piece) for at, piece in pieces.items()]


def _firstentries_of(document: Document, entries: Mapping[str, Any]) -> str:
    """Put entries into a catalog that has none."""
    text = document.text
    block = "sources:\n" + "".join(entry_block(name, entry, "  ") for name, entry in entries.items())
    if "sources" not in document.data:
        return text.rstrip("\n") + "\n" + block
    key, value = next((k, v) for k, v in document.node.value if k.value == "sources")
    end = max(_end(value), text.find(":", key.end_mark.index) + 1)
    return text[: key.start_mark.index] + block.rstrip("\n") + text[end:]
