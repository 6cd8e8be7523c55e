"""YAML of strangers as plain data: what is read is small, shallow, without tags, and cannot grow by its aliases.

Here alone it is known how YAML is parsed; what the data mean is for others to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from intake_img.errors import CatalogError
from intake_img.storage.files import File
from intake_img.storage.remote import retried

__all__ = ["LOADER", "MAX_BYTES", "Document", "Where", "read_document"]

MAX_BYTES = 32 * 2**20
"""The size of the largest catalog that is read, and so the largest that is written."""
_MAX_DEPTH = 24
_TOO_DEEP = f"nested more than {_MAX_DEPTH} deep"
_MAX_NODES = 4_000_000  # that stand in the text
_MAX_COPIES = 400_000  # that aliases add, each counted as often as it is used
_MAX_ALIASES = 1000
_MAX_SCALAR = 2**16
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Where = tuple[str | int, ...]
"""Keys and indices that lead to a value."""


@dataclass(frozen=True)
class Document:
    """Plain data, and the nodes of YAML that they were made of."""

    data: Any
    node: Any
    text: str

    def line(self, where: Where) -> int:
        """Return the line in which a value begins, or the nearest one that encloses it."""
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
        nodes = _check_events(text)
        node = yaml.compose(text, Loader=LOADER)
        data = _Plain(nodes + _MAX_COPIES).value(node, 0) if node is not None else None
    except CatalogError as exc:
        raise CatalogError(f"{file}: {exc}") from None
    except RecursionError as exc:
        raise CatalogError(f"{file}: {_TOO_DEEP}") from exc
    except yaml.YAMLError as exc:
        if "nesting" in str(exc):  # new versions of PyYAML have a limit of their own and may be the first to see it
            raise CatalogError(f"{file}{_place(exc)}: {_TOO_DEEP}") from exc
        raise CatalogError(f"{file} cannot be parsed as YAML: {' '.join(str(exc).split())[:300]}") from exc
    except (ValueError, OverflowError) as exc:
        raise CatalogError(f"{file} holds a value that cannot be read: {str(exc)[:200]}") from exc
    return Document(data, node, text)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    """Return the node that marks where a value of a mapping or sequence begins, and that of the value."""
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
            f"{file} has more than {MAX_BYTES // 2**20} MiB: that is no catalog; split it and nest the parts"
        )
    return raw


def _decoded(raw: bytes, file: File) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CatalogError(f"{file} is not UTF-8 text (byte {exc.start}): save it as UTF-8") from None


def _check_events(text: str) -> int:
    """Refuse what would be dangerous to compose: parsing is a loop, composing is recursive. Return a count of nodes."""
    depth = aliases = documents = nodes = 0
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
            raise CatalogError(f"line {line}: {_TOO_DEEP}")
        if nodes > 2 * _MAX_NODES:
            raise CatalogError(f"line {line}: more than {_MAX_NODES} values")
        if aliases > _MAX_ALIASES:
            raise CatalogError(f"line {line}: more than {_MAX_ALIASES} aliases (*name)")
        if documents > 1:
            raise CatalogError(f"line {line}: a second document begins: a catalog is one")
    return nodes


class _Plain:
    """Makes plain data of YAML nodes; aliases are written out, and counted as such."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.scalars = SafeConstructor()

    def value(self, node: yaml.Node, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise CatalogError(
                f"line {node.start_mark.line + 1}: the aliases (*name) multiply to more than {_MAX_COPIES} values"
            )
        if depth > _MAX_DEPTH:
            raise CatalogError(
                f"line {node.start_mark.line + 1}: an alias nests more than {_MAX_DEPTH} deep, or contains itself"
            )
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, depth + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in parts:
                    more = self.value(part, depth)
                    if not isinstance(more, dict):
                        raise CatalogError(f"{_line(key_node)}: '<<' merges mappings only")
                    merged = {**more, **merged}
                continue
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or not isinstance(self.scalar(key_node), str):
                raise CatalogError(f"{_line(key_node)}: keys are texts: put {str(key)[:40]!r} in quotes")
            if key in own:
                raise CatalogError(f"{_line(key_node)}: the key {key[:80]!r} is there twice")
            own[key] = self.value(value_node, depth)
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
