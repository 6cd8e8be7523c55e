"""Plain data as YAML in the style of catalogs: one block per entry, lists and the facts of a scan in one line.

PyYAML writes all values. It takes 0.1 ms for each, so common values are cached, or a regular expression decides that
they need no quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from intake_img.catalog.text_blocks import WORDS

__all__ = ["SCANNED", "dump", "entry_block", "one_line"]

SCANNED = "scanned"
"""The key of the metadata for what the header says; a later scan updates only this key."""
_SAFE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HERE = re.compile(r"\{\{ CATALOG_DIR \}\}/[A-Za-z0-9_ ./+,()\-]*[A-Za-z0-9_]")
_LONG = 100  # PyYAML lays out longer keys, and texts with line breaks


class _Dumper(_SAFE):
    """A dumper that writes lists in one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Line(dict):
    """A mapping to be written in one line."""


_Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=_flat(v)))
_Dumper.add_representer(_Line, lambda d, v: d.represent_mapping("tag:yaml.org,2002:map", v.items(), flow_style=True))


def _flat(values: list[Any]) -> bool:
    return not any(isinstance(v, (dict, list)) for v in values) and len(str(values)) < 90


def dump(data: Any) -> str:
    """Return data as YAML, with a line break at the end."""
    return yaml.dump(data, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False, width=10**6)


def entry_block(name: str, entry: Mapping[str, Any], indent: str) -> str:
    """Return an entry as lines of a catalog."""
    entry = dict(entry)
    metadata = entry.get("metadata") or {}
    if SCANNED in metadata:
        entry["metadata"] = {**metadata, SCANNED: _Line(metadata[SCANNED])}
    return "".join(_lines({name: entry}, indent))


def one_line(value: Any) -> str:
    """Return a value as YAML in one line."""
    if not isinstance(value, dict):
        return dump([value]).rstrip("\n")[1:-1]
    try:
        return _inside(value)
    except _UnusualText:
        return dump(_Line(value)).rstrip("\n")


class _UnusualText(Exception):
    """A text of several lines, or a long key, laid out by PyYAML."""


def _lines(data: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in data.items():
        try:
            if isinstance(value, dict) and value and not isinstance(value, _Line):
                lines += [f"{indent}{_key(key)}:\n", *_lines(value, indent + "  ")]
            elif isinstance(value, list) and not _flat(value):
                raise _UnusualText
            else:
                text = _inside(value) if isinstance(value, (dict, list)) else _scalar(value, False)
                lines.append(f"{indent}{_key(key)}: {text}\n")
        except _UnusualText:
            lines += [indent + line for line in dump({key: value}).splitlines(keepends=True)]
    return lines


def _inside(value: Any) -> str:
    """Return a value in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join([f"{_key(k)}: {_inside(v)}" for k, v in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join([_inside(v) for v in value]) + "]"
    return _scalar(value, True)


def _key(key: Any) -> str:
    if not isinstance(key, str) or len(key) > _LONG:
        raise _UnusualText
    return _scalar(key, True)


def _scalar(value: Any, inside: bool) -> str:
    """Return a scalar for use inside of brackets, where commas need quotes, or outside."""
    if isinstance(value, str):
        if _NAME.fullmatch(value) and value.lower() not in WORDS:
            return value
        if _HERE.fullmatch(value):
            return f"'{value}'"
        if not value.isprintable():
            raise _UnusualText
    return _written(type(value).__name__, value, inside)


@lru_cache(maxsize=4096)
def _written(kind: str, value: Any, inside: bool) -> str:  # kind: 1, 1.0 and True are equal
    return dump(_Line({"k": value})).rstrip("\n")[4:-1] if inside else dump({"k": value}).rstrip("\n")[3:]
