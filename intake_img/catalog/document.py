"""Untrusted YAML as plain data: size and depth are limited, tags are refused, and aliases cannot multiply data.

This module parses YAML; other modules interpret the data. The text is parsed once, by libyaml if PyYAML has it, and the
data are built during parsing.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent
from yaml.resolver import Resolver

from intake_img.catalog.plain_lines import LineReader
from intake_img.catalog.text_blocks import Block, Cut, cut, recognised
from intake_img.errors import CatalogError
from intake_img.storage.files import File
from intake_img.storage.remote import retried

__all__ = ["MAX_BYTES", "Document", "LazyFacts", "Where", "read_document", "spelled_out"]

MAX_BYTES = 32 * 2**20
"""The size of the largest catalog that is read, and so the largest that is written."""
_MAX_DEPTH = 24
_TOO_DEEP = f"nested more than {_MAX_DEPTH} deep"
_MAX_NODES = 4_000_000  # in the text
_MAX_COPIES = 400_000  # added by aliases, counted for each use
_MAX_ALIASES = 1000
_MAX_SCALAR = 2**16
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_REFUSED = (CatalogError, yaml.YAMLError, RecursionError, ValueError, OverflowError)

Where = tuple[str | int, ...]
"""Keys and indices that lead to a value."""


@dataclass(frozen=True)
class Document:
    """Plain data, and the text from which they were parsed.

    Entries of a catalog that were not parsed are `Block` objects in the data.
    """

    data: Any
    text: str
    cut: Cut | None = None

    @cached_property
    def node(self) -> Any:
        """The YAML nodes with their positions; made on demand, because this takes long."""
        return yaml.compose(self.text, Loader=_LOADER)

    def line(self, where: Where) -> int:
        """Return the line of the start of a value, or of the nearest enclosing value."""
        node, line = self.node, 1
        for step in where:
            found = _child(node, step)
            if found is None:
                break
            start, node = found
            line = start.start_mark.line + 1
        return line


def read_document(file: File) -> Document:
    """Read a YAML file within strict limits.

    Parameters
    ----------
    file : File

    Raises
    ------
    CatalogError
        If it is too large or too deep, has tags, repeated keys or too many aliases, or cannot be parsed.
    FileNotFoundError
        If there is no such file.
    """
    text = _decoded(_limited(file), file)
    try:
        with _no_collection():
            return _in_blocks(text) or Document(parse(text), text)
    except CatalogError as exc:
        raise CatalogError(f"{file}: {exc}") from None
    except RecursionError as exc:
        raise CatalogError(f"{file}: {_TOO_DEEP}") from exc
    except yaml.YAMLError as exc:
        if "nesting" in str(exc):  # new versions of PyYAML have their own limit, which may be reached first
            raise CatalogError(f"{file}{_place(exc)}: {_TOO_DEEP}") from exc
        raise CatalogError(f"{file} cannot be parsed as YAML: {' '.join(str(exc).split())[:300]}") from exc
    except (ValueError, OverflowError) as exc:
        raise CatalogError(f"{file} contains a value that cannot be read: {str(exc)[:200]}") from exc


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the search for cycles: plain data have none, and it takes half of the time for many entries."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def parse(text: str) -> Any:
    """Return the plain data of a text within the limits."""
    return _Builder(text).document()


class LazyFacts(Mapping[str, Any]):
    """The metadata of an entry, parsed on use.

    Parameters
    ----------
    text : str
        The text after ``scanned:``, in one line.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __getitem__(self, key: str) -> Any:
        if key != "scanned":
            raise KeyError(key)
        return copy.deepcopy(_facts(self.text))

    def lacks(self, word: str) -> bool:
        """True if it is certain, without parsing, that no text in the metadata contains a word."""
        if not word.isidentifier() or word in "true false none scanned" or "\\" in self.text:
            return False
        return re.fullmatch(r"e\d*", word) is None and word not in self.text.casefold()  # e: in numbers

    def __iter__(self) -> Iterator[str]:
        return iter(("scanned",))

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return repr(dict(self))


@lru_cache(maxsize=512)
def _facts(text: str) -> Any:
    return parse(text)


def spelled_out(entry: Any) -> Any:
    """Return the plain data of an entry, also if it is a `Block`."""
    if not isinstance(entry, Block):
        return entry
    data: dict[str, Any] = {"driver": entry.driver, "args": {"uri": entry.uri}}
    if entry.description:
        data["description"] = entry.description
    if entry.facts:
        data["metadata"] = LazyFacts(entry.facts)
    return data


def _in_blocks(text: str) -> Document | None:
    """Return a catalog read entry by entry; None if it must be parsed completely, also for error messages."""
    pieces = cut(text)
    if pieces is None:
        return None
    lines = LineReader(parse, _REFUSED)
    try:
        before, after = parse(pieces.before) or {}, parse(pieces.after) or {}
        entries = [recognised(block) or lines.entry(block) or _single(parse(block)) for _, block in pieces.blocks]
        for pattern in {entry.pattern for _, entry in entries if isinstance(entry, Block)} - {""}:
            parse(pattern)
    except _REFUSED:
        return None
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return None
    data = {**before, "sources": dict(entries), **after}
    apart = len(before) + len(after) + 1 == len(data) and len(data["sources"]) == len(entries)
    return Document(data, text, pieces) if apart else None


def _single(data: Any) -> tuple[str, Any]:
    if not isinstance(data, dict) or len(data) != 1:
        raise CatalogError("expected one entry")
    return next(iter(data.items()))


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    """Return the node at the start of a value of a mapping or sequence, and the node of the value."""
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in node.value if pair[0].value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return (node.value[step],) * 2
    return None


def _place(exc: yaml.YAMLError) -> str:
    mark = getattr(exc, "problem_mark", None)
    return f", line {mark.line + 1}" if mark is not None else ""


def _limited(file: File) -> bytes:
    if file.local:
        with open(file.path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    else:
        fs, path = file.filesystem()
        size = retried(file.path, lambda: fs.info(path)).get("size")
        raw = b" " * (MAX_BYTES + 1) if (size or 0) > MAX_BYTES else file.head(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise CatalogError(
            f"{file} has more than {MAX_BYTES // 2**20} MiB: too large for a catalog; split it into nested ones"
        )
    return raw


def _decoded(raw: bytes, file: File) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CatalogError(f"{file} is not UTF-8 text (byte {exc.start}): save it as UTF-8") from None


@dataclass(frozen=True)
class _Anchored:
    """A value with an anchor: its number of values and its depth."""

    value: Any
    size: int
    height: int


class _Builder:
    """Builds plain data from the events of the parser, and stops at anything that is refused.

    Aliases are expanded. All of their values are counted before they are copied.
    """

    def __init__(self, text: str) -> None:
        self.loader = _LOADER(text)
        self.next = self.loader.get_event
        self.resolve = Resolver().resolve
        self.scalars = SafeConstructor()
        self.plain: dict[str, Any] = {}  # values of unquoted texts
        self.anchors: dict[str, _Anchored | None] = {}  # None: not complete yet
        self.size = self.deepest = self.aliases = self.copies = 0

    def document(self) -> Any:
        """Return the only document, None if there is none."""
        try:
            self.next()
            if isinstance(self.next(), yaml.StreamEndEvent):
                return None
            data = self.value(self.next(), 0)
            self.next()
            if not isinstance(event := self.next(), yaml.StreamEndEvent):
                raise CatalogError(f"{_line(event)}: a second document begins: a catalog is one")
            return data
        finally:
            self.loader.dispose()

    def value(self, event: Any, depth: int) -> Any:
        self.size += 1
        if self.size > _MAX_NODES:
            raise CatalogError(f"{_line(event)}: more than {_MAX_NODES} values")
        if event.anchor is None:
            return self.scalar(event) if type(event) is ScalarEvent else self.collection(event, depth + 1)
        return self.alias(event, depth) if type(event) is AliasEvent else self.anchored(event, depth)

    def anchored(self, event: Any, depth: int) -> Any:
        if event.anchor in self.anchors:
            raise CatalogError(f"{_line(event)}: the anchor &{event.anchor[:80]} is there twice")
        self.anchors[event.anchor] = None
        size, deepest, self.deepest = self.size, self.deepest, depth
        value = self.scalar(event) if isinstance(event, ScalarEvent) else self.collection(event, depth + 1)
        self.anchors[event.anchor] = _Anchored(value, self.size - size + 1, self.deepest - depth)
        self.deepest = max(self.deepest, deepest)
        return value

    def alias(self, event: Any, depth: int) -> Any:
        self.aliases += 1
        if self.aliases > _MAX_ALIASES:
            raise CatalogError(f"{_line(event)}: more than {_MAX_ALIASES} aliases (*name)")
        if event.anchor not in self.anchors:
            raise CatalogError(f"{_line(event)}: the alias *{event.anchor[:80]} is not defined")
        found = self.anchors[event.anchor]
        if found is None or depth + found.height > _MAX_DEPTH:
            raise CatalogError(f"{_line(event)}: an alias nests more than {_MAX_DEPTH} deep, or contains itself")
        self.copies += found.size
        if self.copies > _MAX_COPIES:
            raise CatalogError(f"{_line(event)}: the aliases (*name) multiply to more than {_MAX_COPIES} values")
        self.size += found.size
        self.deepest = max(self.deepest, depth + found.height)
        return copy.deepcopy(found.value)

    def collection(self, event: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise CatalogError(f"{_line(event)}: {_TOO_DEEP}")
        _check_tag(event)
        self.deepest = max(self.deepest, depth)
        return self.mapping(depth) if type(event) is MappingStartEvent else self.sequence(depth)

    def sequence(self, depth: int) -> list[Any]:
        items = []
        while type(event := self.next()) is not SequenceEndEvent:
            items.append(self.value(event, depth))
        return items

    def mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while type(event := self.next()) is not MappingEndEvent:
            if type(event) is ScalarEvent and event.value == "<<" and event.implicit[0]:
                merged = {**self.merge(event, depth), **merged}
                continue
            key = self.key(event, depth)
            if key in own:
                raise CatalogError(f"{_line(event)}: the key {key[:80]!r} is there twice")
            own[key] = self.value(self.next(), depth)
        return {**{k: v for k, v in merged.items() if k not in own}, **own} if merged else own

    def key(self, event: Any, depth: int) -> str:
        key = self.value(event, depth)
        if not isinstance(key, str):
            raise CatalogError(f"{_line(event)}: keys are texts: put {getattr(event, 'value', '')[:40]!r} in quotes")
        return key

    def merge(self, event: Any, depth: int) -> dict[str, Any]:
        """Return the merged mappings after ``<<``; the first mapping that has a key takes precedence."""
        value = self.value(self.next(), depth)
        merged: dict[str, Any] = {}
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise CatalogError(f"{_line(event)}: '<<' merges mappings only")
            merged = {**part, **merged}
        return merged

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.implicit[0] and text in self.plain:
            return self.plain[text]
        if len(text) > _MAX_SCALAR:
            raise CatalogError(f"{_line(event)}: a text of {len(text)} characters; at most {_MAX_SCALAR} are read")
        if event.implicit[0]:
            value = self.plain[text] = self.resolved(event, self.resolve(yaml.ScalarNode, text, (True, False)))
            return value
        _check_tag(event)
        return text if event.tag is None else self.resolved(event, event.tag)

    def resolved(self, event: Any, tag: str) -> Any:
        kind = tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "value"):  # dates stay texts
            return event.value
        if kind in ("int", "float") and len(event.value) > 100:
            raise CatalogError(f"{_line(event)}: a number of {len(event.value)} digits")
        if kind in ("int", "float", "bool", "null"):
            return getattr(self.scalars, f"construct_yaml_{kind}")(yaml.ScalarNode(tag, event.value))
        raise CatalogError(f"{_line(event)}: a value of kind {kind[:40]!r} is refused")


def _check_tag(event: Any) -> None:
    if event.tag is not None and event.tag not in _TAGS:
        raise CatalogError(f"{_line(event)}: the tag {event.tag[:80]!r} is refused: tags can make any object")


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "line 1"
