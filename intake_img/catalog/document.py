"""YAML of strangers as plain data: what is read is small, shallow, without tags, and cannot grow by its aliases.

Here alone it is known how YAML is parsed; what the data mean is for others to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from intake_img.errors import CatalogError
from intake_img.storage.files import File

__all__ = ["LOADER", "MAX_BYTES", "Document", "Where", "printable", "read_document"]

MAX_BYTES = 8 * 2**20
_MAX_DEPTH = 24
_MAX_NODES = 400_000  # with every alias counted as often as it is used
_MAX_ALIASES = 1000
_MAX_SCALAR = 2**16
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Where = tuple[str | int, ...]
"""Keys and indices that lead to a value."""


@dataclass(frozen=True)
class Document:
    """Plain data, and in which line of the text each value begins."""

    data: Any
    lines: Mapping[Where, int]
    text: str

    def line(self, where: Where) -> int:
        """Return the line of a value, or of the nearest one that encloses it."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def printable(text: str, limit: int = 300) -> str:
    """Return a text of somebody else for a terminal: in one line, of some length, and without control characters."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def read_document(file: File) -> Document:
    """Read a YAML file within strict limits.

    Parameters
    ----------
    file : File

    Raises
    ------
    CatalogError
        If it is too large or too deep, has tags, repeated keys or too many aliases, or is no YAML.
    FileNotFoundError
        If there is no such file.
    """
    text = _decoded(_limited(file), file)
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=LOADER)
        lines: dict[Where, int] = {}
        data = _Plain(lines).value(node, ()) if node is not None else None
    except CatalogError as exc:
        raise CatalogError(f"{file}: {exc}") from None
    except yaml.YAMLError as exc:
        raise CatalogError(f"{file} is no YAML: {' '.join(str(exc).split())[:300]}") from exc
    except (ValueError, OverflowError, RecursionError) as exc:
        raise CatalogError(f"{file} holds a value that cannot be read: {str(exc)[:200]}") from exc
    return Document(data, lines, text)


def _limited(file: File) -> bytes:
    if file.local:
        with open(file.path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    else:
        fs, path = file.filesystem()
        size = fs.info(path).get("size")
        raw = b" " * (MAX_BYTES + 1) if (size or 0) > MAX_BYTES else file.head(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise CatalogError(
            f"{file} has more than {MAX_BYTES // 2**20} MiB: that is no catalog; split it and nest the parts"
        )
    return raw


def _decoded(raw: bytes, file: File) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CatalogError(f"{file} is not UTF-8 text (byte {exc.start}): save it as UTF-8") from None


def _check_events(text: str) -> None:
    """Refuse what would be dangerous to compose: parsing is a loop, composing is recursive."""
    depth = aliases = documents = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=LOADER)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_SCALAR:
            raise CatalogError(f"line {line}: a text of {len(event.value)} characters; at most {_MAX_SCALAR} are read")
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _TAGS:
            raise CatalogError(f"line {line}: the tag {tag[:80]!r} is refused: tags can make any object")
        if depth > _MAX_DEPTH:
            raise CatalogError(f"line {line}: nested more than {_MAX_DEPTH} deep")
        if nodes > 2 * _MAX_NODES:
            raise CatalogError(f"line {line}: more than {_MAX_NODES} values")
        if aliases > _MAX_ALIASES:
            raise CatalogError(f"line {line}: more than {_MAX_ALIASES} aliases (*name)")
        if documents > 1:
            raise CatalogError(f"line {line}: a second document begins: a catalog is one")


class _Plain:
    """Makes plain data of YAML nodes; aliases are written out, and counted as such."""

    def __init__(self, lines: dict[Where, int]) -> None:
        self.lines = lines
        self.left = _MAX_NODES
        self.scalars = SafeConstructor()

    def value(self, node: yaml.Node, where: Where) -> Any:
        self.left -= 1
        line = node.start_mark.line + 1
        if self.left < 0:
            raise CatalogError(f"line {line}: the aliases (*name) multiply to more than {_MAX_NODES} values")
        if len(where) > _MAX_DEPTH:
            raise CatalogError(f"line {line}: an alias nests more than {_MAX_DEPTH} deep, or contains itself")
        self.lines.setdefault(where, line)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, k)) for k, item in enumerate(node.value)]
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in parts:
                    more = self.value(part, (*where, "<<"))
                    if not isinstance(more, dict):
                        raise CatalogError(f"line {line}: '<<' merges mappings only")
                    merged = {**more, **merged}
                continue
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or not isinstance(self.scalar(key_node), str):
                raise CatalogError(f"line {line}: keys are texts: put {str(key)[:40]!r} in quotes")
            if key in own:
                raise CatalogError(f"line {line}: the key {key[:80]!r} is there twice")
            self.lines[(*where, key)] = line
            own[key] = self.value(value_node, (*where, key))
        return {**{k: v for k, v in merged.items() if k not in own}, **own}

    def scalar(self, node: Any) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "value"):  # dates stay as they are written
            return node.value
        if kind in ("int", "float") and len(node.value) > 100:
            raise CatalogError(f"line {node.start_mark.line + 1}: a number of {len(node.value)} digits")
        if kind in ("int", "float", "bool", "null") and isinstance(node, yaml.ScalarNode):
            return getattr(self.scalars, f"construct_yaml_{kind}")(node)
        raise CatalogError(f"line {node.start_mark.line + 1}: a value of kind {kind[:40]!r} is refused")
