"""Entries that people write by hand: mappings of one value a line are read without the YAML parser.

Only lines whose meaning is certain are read; any other entry is parsed. Values of one line that are not simple are
parsed once for a catalog.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from intake_img.catalog.text_blocks import WORDS

__all__ = ["LineReader"]

_LINE = re.compile(r"^( {2,40})([A-Za-z_][A-Za-z0-9_]{0,199}):(?: ([^ \n][^\n]*))?\n", re.M)
_QUOTED = re.compile(r'"[^"\\]{0,1000}"|' r"'[^']{0,1000}'")
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9_/.,()+\-]| (?=[A-Za-z0-9(/])){0,1000}")
_IN_FLOW = re.compile(r"[A-Za-z](?:[A-Za-z0-9_/.()+\-]| (?=[A-Za-z0-9(/])){0,200}")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FLOW = re.compile(r"\{[^\[\]{}'\"#\\]{1,2000}\}|\[[^\[\]{}'\"#\\]{1,2000}\]")
_WORDS = {form for word in WORDS for form in (word, word.capitalize(), word.upper())}
_UNKNOWN: Any = object()


class LineReader:
    """Reads the entries of one catalog.

    Parameters
    ----------
    parse : callable
        Returns the data of a YAML text, and raises an error for texts that are refused.
    errors : tuple of exception types
        The errors of `parse`.
    """

    def __init__(self, parse: Callable[[str], Any], errors: tuple[type[Exception], ...]) -> None:
        self.parse, self.errors = parse, errors
        self.known: dict[str, Any] = {}
        self.nested: set[str] = set()  # values of which more than the outer mapping or list must be copied

    def entry(self, block: str) -> tuple[str, Any] | None:
        """Return the name of an entry, and its data; None if it must be parsed."""
        rows: list[tuple[str, str, str]] = _LINE.findall(block)
        if sum(map(_length, rows)) != len(block):
            return None  # a line of another form
        found = self._nested(rows)
        return next(iter(found.items())) if found is not None and len(found) == 1 else None

    def _nested(self, rows: list[tuple[str, str, str]]) -> dict[str, Any] | None:
        data: dict[str, Any] = {}
        levels = [(2, data)]
        opened: tuple[dict[str, Any], str] | None = None  # a key without a value
        for indent, key, text in rows:
            depth: int
            here: dict[str, Any] | None
            depth, here = levels[-1]
            if len(indent) != depth:
                here = _level(levels, len(indent), opened)
            if here is None or key in here or key in _WORDS:
                return None
            here[key] = value = self._value(text) if text else None
            if value is _UNKNOWN:
                return None
            opened = None if text else (here, key)
        return data

    def _value(self, text: str) -> Any:
        value = self.known.get(text, self)
        if value is self:
            value = self.known[text] = self._read(text)
        if type(value) is dict or type(value) is list:
            return _copied(value) if text in self.nested else value.copy()
        return value

    def _read(self, text: str) -> Any:
        if _QUOTED.fullmatch(text):
            return text[1:-1]
        value = _simple(text, _PLAIN)
        if value is _UNKNOWN and _FLOW.fullmatch(text):
            value = _flow_mapping(text[1:-1]) if text[0] == "{" else _flow_sequence(text[1:-1])
        if value is not _UNKNOWN or text[0] in "|>":
            return value
        self.nested.add(text)
        try:
            return self.parse(f"v: {text}\n")["v"]
        except self.errors:
            return _UNKNOWN  # the value may continue on the next line


def _length(row: tuple[str, str, str]) -> int:
    indent, key, text = row
    return len(indent) + len(key) + 2 + (len(text) + 1 if text else 0)


def _level(
    levels: list[tuple[int, dict[str, Any]]], indent: int, opened: tuple[dict[str, Any], str] | None
) -> dict[str, Any] | None:
    """Return the mapping to which a line belongs; None if the line is not an item of a mapping."""
    if indent > levels[-1][0]:
        if opened is None or len(levels) > 15:
            return None
        parent, key = opened
        inner = parent[key] = {}
        levels.append((indent, inner))
        return inner
    while levels[-1][0] > indent:
        levels.pop()
    return levels[-1][1] if levels[-1][0] == indent else None


def _simple(text: str, plain: re.Pattern[str]) -> Any:
    """Return a text or a number without quotes; `_UNKNOWN` for other values."""
    if plain.fullmatch(text):
        return _UNKNOWN if text in _WORDS else text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _REAL.fullmatch(text) else _UNKNOWN


def _flow_mapping(text: str) -> Any:
    found: dict[str, Any] = {}
    for item in text.split(", "):
        key, _, value = item.partition(": ")
        if key in found or key in _WORDS or not _KEY.fullmatch(key):
            return _UNKNOWN
        found[key] = _simple(value, _IN_FLOW)
    return _UNKNOWN if _UNKNOWN in found.values() else found


def _flow_sequence(text: str) -> Any:
    found = [_simple(item, _IN_FLOW) for item in text.split(", ")]
    return _UNKNOWN if _UNKNOWN in found else found


def _copied(value: Any) -> Any:
    """Return a copy of plain data: entries share no mutable values."""
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value
