"""Catalogs as YAML: one clean entry for each source, and changes to a file that leave alone what people wrote in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from intake_img.catalog.document import MAX_BYTES, Document, read_document
from intake_img.catalog.facts import sentence
from intake_img.catalog.names import unique_names
from intake_img.catalog.scan import Scan
from intake_img.catalog.template import fill
from intake_img.collections.sequence import FilePatternSource
from intake_img.errors import CatalogError, TargetExistsError
from intake_img.formats.arguments import driver_name, jinja_escaped
from intake_img.formats.source import ImageSource
from intake_img.model.record import plain
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["Changes", "write_catalog"]

SCANNED = "scanned"
"""The key of the metadata under which stands what the header says; a later scan writes it anew, and nothing else."""
_HERE = "{{ CATALOG_DIR }}"


@dataclass
class Changes:
    """What `write_catalog` did.

    Attributes
    ----------
    path : str
    added, refreshed, kept, missing : list of str
        Names of entries: new ones; those whose facts changed; those left as they were; those whose file is not found
        any more, which stay as well.
    roots : list of str
        Folders that `open_catalog` needs as ``roots=`` because images do not lie below the catalog's folder; else
        empty.
    """

    path: str
    added: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)


def write_catalog(sources: Any, path: Any, *, overwrite: bool = False, update: bool = False) -> Changes:
    """Write a catalog of version 1.

    Parameters
    ----------
    sources : Scan, mapping of str to ImageSource or dict, or sequence of ImageSource
        What `scan` found; or sources by name; or sources, which get names. A dict is an entry as it stands in a
        catalog.
    path : str or os.PathLike
        The YAML file. Local images below its folder, or near it, are named relative to it.
    overwrite : bool
        Replace an existing file.
    update : bool
        Add to an existing file instead: entries that name the same files stay, with their names, texts, comments and
        order; only what the key ``scanned`` holds is brought up to date, and descriptions that nobody changed.

    Returns
    -------
    Changes

    Raises
    ------
    TargetExistsError
        If the file exists and neither `overwrite` nor `update` is given.
    CatalogError
        If the existing file, that is to be updated, is not a catalog, or the new one would be too large to be read
        again; what is there is left as it is.
    """
    target = File.parse(path)
    if overwrite and update:
        raise ValueError("overwrite replaces the file, update adds to it: give one of them")
    exists = target.exists()
    if exists and not (overwrite or update):
        raise TargetExistsError(
            f"{target} exists: choose another name, pass update=True to add to it, or overwrite=True"
        )
    entries = _entries(sources, target.parent)
    if exists and update:
        text, changes = _updated(entries, target)
    else:
        text, changes = _fresh(entries), Changes(str(target), added=list(entries))
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
    """Return the folders that hold all images, if some of them lie outside of the catalog's folder."""
    if not target.local:
        return []
    home = os.path.realpath(target.parent.path)
    keys = (key for entry in entries.values() for key in _key(entry, target).split("\n"))
    folders = {os.path.realpath(os.path.dirname(re.split(r"[{}*?\[]", key)[0])) for key in keys if os.path.isabs(key)}
    outside = [f for f in folders if os.path.commonpath([home, f]) != home]
    return [home, os.path.commonpath(outside)] if outside else []


def _fresh(entries: Mapping[str, Any]) -> str:
    head = _dump({"metadata": {"version": 1}})
    if not entries:
        return head + "sources: {}\n"
    return head + "sources:\n" + "".join(_block(name, entry, "  ") for name, entry in entries.items())


# entries


def _entries(sources: Any, folder: File) -> dict[str, dict[str, Any]]:
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
    """Return a path as seen from the catalog's folder, if it is below it or near; else as it is."""
    if pattern and re.search(r"[{}*?\[]", folder.path):  # in a pattern, the folder's name would not stand for itself
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


# text


_SAFE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_SAFE):
    """Lists and the facts of a scan stand in one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Line(dict):  # type: ignore[type-arg]
    """A mapping to be written in one line."""


_Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=_flat(v)))
_Dumper.add_representer(_Line, lambda d, v: d.represent_mapping("tag:yaml.org,2002:map", v.items(), flow_style=True))


def _flat(values: list[Any]) -> bool:
    return not any(isinstance(v, (dict, list)) for v in values) and len(str(values)) < 90


def _dump(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False, width=10**6)


def _block(name: str, entry: Mapping[str, Any], indent: str) -> str:
    entry = dict(entry)
    metadata = entry.get("metadata") or {}
    if SCANNED in metadata:
        entry["metadata"] = {**metadata, SCANNED: _Line(metadata[SCANNED])}
    return "".join(indent + line for line in _dump({name: entry}).splitlines(keepends=True))


def _line(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = _dump(_Line(value) if isinstance(value, dict) else [value]).rstrip("\n")
    return text if isinstance(value, dict) else text[1:-1]


# changes to an existing catalog


def _updated(entries: Mapping[str, dict[str, Any]], target: File) -> tuple[str, Changes]:
    document = read_document(target)
    old = document.data
    if not isinstance(old, dict) or not isinstance(old.get("sources") or {}, dict):
        raise CatalogError(f"{target} is no catalog of version 1: choose another name, or pass overwrite=True")
    text = document.text
    changes = Changes(str(target))
    sources = old.get("sources") or {}
    by_file: dict[str, list[str]] = {}
    for name, entry in sources.items():
        by_file.setdefault(_key(entry, target), []).append(name)
    new: list[tuple[str | None, str, dict[str, Any]]] = []  # after which entry, name, entry
    edits: list[tuple[int, int, str]] = []
    before: str | None = None
    nodes = _source_nodes(document.node)
    found: set[str] = set()
    for name, entry in entries.items():
        same = by_file.get(_key(entry, target), [])
        if not same:
            new.append((before, name, entry))
            continue
        found.update(same)
        before = same[-1]
        for each in same:
            changed = _refresh(sources[each], nodes[each][1], entry)
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
        return _first_entries(document, {name: entry for _, name, entry in named}), changes
    edits += _insertions(text, nodes, named)
    for start, stop, piece in sorted(edits, key=lambda e: e[:2], reverse=True):
        text = text[:start] + piece + text[stop:]
    return text, changes


def _exists(uri: str) -> bool:
    """True unless it is certain that a local file is gone; patterns and URLs get the benefit of the doubt."""
    return not os.path.isabs(uri) or bool(re.search(r"[{}*?\[]", uri)) or os.path.exists(uri)


def _key(entry: Any, target: File) -> str:
    """Return what an entry names: its URI, absolute, with the defaults of its parameters."""
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


def _source_nodes(root: Any) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    node = _child(root, "sources")
    return {k.value: (k, v) for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}


def _child(node: Any, key: str) -> Any:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((v for k, v in node.value if k.value == key), None)


def _end(node: Any) -> int:
    """Return where a value ends in the text: a block's own mark would include the comments after it."""
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False) or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _refresh(old: Mapping[str, Any], node: yaml.Node, new: Mapping[str, Any]) -> list[tuple[int, int, str]]:
    """Return the edits that bring facts and a description that nobody changed up to date."""
    metadata = old.get("metadata")
    before = metadata.get(SCANNED) if isinstance(metadata, dict) else None
    after = (new.get("metadata") or {}).get(SCANNED)
    if not isinstance(before, dict) or after is None or before == after:
        return []
    edits = []
    facts = _child(_child(node, "metadata"), SCANNED)
    edits.append((facts.start_mark.index, _end(facts), _line(after)))
    try:
        ours = old.get("description") == sentence(before)
    except (KeyError, TypeError, ValueError, AttributeError):
        ours = False
    text = _child(node, "description")
    if ours and text is not None and text.style in (None, "", "'", '"'):
        edits.append((text.start_mark.index, _end(text), _line(sentence(after))))
    return edits


def _insertions(text: str, nodes: Mapping[str, tuple[yaml.Node, yaml.Node]],
                new: Iterable[tuple[str | None, str, dict[str, Any]]]) -> list[tuple[int, int, str]]:  # fmt: skip
    if not nodes:
        return []
    first = next(iter(nodes.values()))[0]
    column = first.start_mark.column
    pieces: dict[int, str] = {}
    for after, name, entry in new:
        if after is None:
            at = text.rfind("\n", 0, first.start_mark.index) + 1
        else:
            end = text.find("\n", _end(nodes[after][1]) - 1)
            at = len(text) if end < 0 else end + 1
        pieces[at] = pieces.get(at, "") + _block(name, entry, " " * column)
    missing = "" if text.endswith("\n") else "\n"
    return [(at, at, (missing if at == len(text) else "") + piece) for at, piece in pieces.items()]


def _first_entries(document: Document, entries: Mapping[str, Any]) -> str:
    """Put entries into a catalog that has none."""
    text = document.text
    block = "sources:\n" + "".join(_block(name, entry, "  ") for name, entry in entries.items())
    if "sources" not in document.data:
        return text.rstrip("\n") + "\n" + block
    key, value = next((k, v) for k, v in document.node.value if k.value == "sources")
    end = max(_end(value), text.find(":", key.end_mark.index) + 1)
    return text[: key.start_mark.index] + block.rstrip("\n") + text[end:]
