"""Values of elements that are encoded as DICOM says, read without pydicom.

pydicom takes ten times as long for an element, and a header has hundreds. What is odd in any way is left to it: other
characters than those of ASCII, values that are too long, sequences or items of undefined length, unknown types.
Format: DICOM PS3.5, 6.2 (value representations) and 7 (data sets).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

__all__ = ["UNSURE", "Item", "items_of", "keyword_of", "spells_ascii", "type_of", "value_of"]

UNSURE: Any = object()
"""Stands for a value that pydicom has to read."""
_PRIVATE = 0x10000  # private tags have an odd group
_ITEM = 0xFFFEE000
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_ODD = frozenset({0x00080005, 0x00281101, 0x00281102, 0x00281103, 0x00283002})
"""Tags of what changes the characters of others, and of descriptors of palettes, whose numbers pydicom corrects."""
_DEEP = 16  # sequences within each other

_BYTES = ("OB", "OD", "OF", "OL", "OV", "OW")
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_DIGITS = rb"(?=.{1,12}(?:\\| *$)) *[+-]?\d{1,9} *"
_DECIMAL = rb"(?=.{1,16}(?:\\| *$)) *[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d\d?)? *"
_ONE = {  # a value, without the backslashes between several
    "AE": rb"[ -\[\]-~]{0,16}",
    "AS": rb"\d{3}[DWMY]",
    "CS": rb"[A-Z0-9 _]{0,16}",
    "DA": rb"\d{8} *",
    "DS": _DECIMAL,
    "DT": rb"[0-9+.-]{4,26} *",
    "IS": _DIGITS,
    "LO": rb"[ -\[\]-~]{0,64}",
    "PN": rb"[ -<>-\[\]-~]{0,64}",
    "SH": rb"[ -\[\]-~]{0,16}",
    "TM": rb"[0-9.]{2,16} *",
    "UI": rb"(?=.{0,64}(?:\\|[\0 ]*$))(?:(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*)?",
    "UC": rb"[ -\[\]-~]*",
}
_TEXT = {
    "LT": rb"[\t\n\f\r -~]{0,10240}",
    "ST": rb"[\t\n\f\r -~]{0,1024}",
    "UT": rb"[\t\n\f\r -~]*",
    "UR": rb"[!-~]* *",
}
_PATTERNS = {
    **{vr: re.compile(rb"%b(?:\\%b)*%b" % (one, one, rb"[\0 ]*" if vr == "UI" else b"")) for vr, one in _ONE.items()},
    **{vr: re.compile(text) for vr, text in _TEXT.items()},
}
_KINDS: dict[str, Callable[[bytes], Any]] = {"AE": lambda part: part.decode().strip(), "DS": float, "IS": int}
_ENDS = frozenset({"LO", "SH", "UC"})  # each of several values is stripped, of others the last one


class Item:
    """Attributes of a data set, by tag.

    Parameters
    ----------
    values : dict of int to object
        Text, numbers, bytes, lists of these, and lists of `Item` of sequences.
    rest : pydicom.Dataset, optional
        Holds what is not in `values`.
    """

    __slots__ = ("rest", "values")

    def __init__(self, values: dict[int, Any], rest: Any = None) -> None:
        self.values, self.rest = values, rest

    def get(self, name: str) -> Any:
        """Return the value of an attribute; None if there is none."""
        tag = _tag_of(name)
        return self.values[tag] if tag in self.values else None if self.rest is None else self.rest.get(name)

    def __contains__(self, name: str) -> bool:
        return _tag_of(name) in self.values or (self.rest is not None and name in self.rest)

    def sequences(self) -> Iterator[list[Item]]:
        """Yield the sequences, by tag."""
        return (v for _, v in sorted(self.values.items()) if isinstance(v, list) and v and isinstance(v[0], Item))


def value_of(raw: Any) -> Any:
    """Return the value of a raw element as pydicom converts it, or `UNSURE`.

    Parameters
    ----------
    raw : pydicom.dataelem.RawDataElement
    """
    tag = int(raw.tag)
    vr = raw.VR or type_of(tag)
    if tag in _ODD or raw.length == 0xFFFFFFFF or (raw.value is None and raw.length):
        return UNSURE
    if vr == "SQ":
        return items_of(raw.value or b"", raw.is_implicit_VR, raw.is_little_endian)
    return _value(vr, raw.value, raw.is_little_endian)


def _value(vr: str, data: bytes | None, little: bool) -> Any:
    if not data:
        return _empty(vr)
    if (form := _NUMBERS.get(vr)) is not None:
        return _numbers(form, data, little)
    if (pattern := _PATTERNS.get(vr)) is None:
        return data if vr in _BYTES else _tags(data, little) if vr == "AT" else UNSURE
    return UNSURE if pattern.fullmatch(data) is None else _texts(vr, data)


def _texts(vr: str, data: bytes) -> Any:
    if vr in _TEXT:
        return data.decode("ascii").rstrip() if vr == "UR" else data.decode("ascii").rstrip(" ")
    if (kind := _KINDS.get(vr)) is not None:
        found: list[Any] = [kind(part) for part in data.rstrip(b" ").split(b"\\")]
    elif vr in _ENDS:
        found = [part.rstrip(" ") for part in data.decode("ascii").split("\\")]
    else:
        found = data.decode("ascii").rstrip(" \0").split("\\")
    return found[0] if len(found) == 1 else found


def _numbers(form: str, data: bytes, little: bool) -> Any:
    count, rest = divmod(len(data), struct.calcsize(f"={form}"))
    if rest:
        return UNSURE
    found = struct.unpack(f"{'<' if little else '>'}{count}{form}", data)
    return found[0] if count == 1 else list(found)


def _tags(data: bytes, little: bool) -> Any:
    if len(data) % 4:
        return UNSURE
    halves = struct.unpack(f"{'<' if little else '>'}{len(data) // 2}H", data)
    found = [group << 16 | element for group, element in zip(halves[::2], halves[1::2], strict=True)]
    return found[0] if len(found) == 1 else found


def items_of(data: bytes, implicit: bool, little: bool, depth: int = 0) -> Any:
    """Return the items in the bytes of a sequence as a list of `Item`, or `UNSURE`.

    Parameters
    ----------
    data : bytes
    implicit : bool
        Whether the file leaves out types of values.
    little : bool
        Whether it is little-endian.
    depth : int
        Number of sequences around this one.
    """
    head, found, at = struct.Struct("<HHL" if little else ">HHL"), [], 0
    while at < len(data):
        if len(data) - at < 8 or depth > _DEEP:
            return UNSURE
        group, element, size = head.unpack_from(data, at)
        at += 8
        if group << 16 | element != _ITEM or size > len(data) - at:  # so is an undefined length
            return UNSURE
        values = _elements(data[at : at + size], implicit, little, depth)
        if values is None:
            return UNSURE
        found.append(Item(values))
        at += size
    return found


def _elements(data: bytes, implicit: bool, little: bool, depth: int) -> dict[int, Any] | None:
    """Values of public elements by tag; None where pydicom has to read one, or may find a sequence in a private one."""
    values: dict[int, Any] = {}
    at = 0
    while at < len(data):
        found = _head(data, at, implicit, little)
        if found is None:
            return None
        tag, vr, at, size = found
        part, at = data[at : at + size], at + size
        if tag & _PRIVATE:
            if vr in ("", "SQ", "UN"):
                return None
            continue
        value = items_of(part, implicit, little, depth + 1) if vr == "SQ" else _value(vr, part, little)
        if value is UNSURE:
            return None
        values[tag] = value
    return values


def _head(data: bytes, at: int, implicit: bool, little: bool) -> tuple[int, str, int, int] | None:
    """Tag, type, place and length of an element that lies within `data`; None if it is odd."""
    if len(data) - at < 8:
        return None
    order = "<" if little else ">"
    if implicit:
        group, element, size = struct.unpack_from(f"{order}HHL", data, at)
        tag, start = group << 16 | element, at + 8
        vr = type_of(tag)
    else:
        group, element, code, size = struct.unpack_from(f"{order}HH2sH", data, at)
        tag, start, vr = group << 16 | element, at + 8, _NAMES.get(code, "")
        if code in _LONG:
            if len(data) - at < 12:
                return None
            size, start = struct.unpack_from(f"{order}L", data, at + 8)[0], at + 12
    odd = not vr or group == 0xFFFE or tag in _ODD or size > len(data) - start
    return None if odd else (tag, vr, start, size)


_NAMES = {vr.encode(): vr for vr in (*_ONE, *_TEXT, *_NUMBERS, *_BYTES, "AT", "SQ", "UN")}


@lru_cache(4096)
def type_of(tag: int) -> str:
    """Return the type of an element that does not state one; empty if it depends on others, or is not known."""
    from pydicom import datadict

    vr = str(datadict.dictionary_VR(tag)) if not tag & _PRIVATE and datadict.dictionary_has_tag(tag) else ""
    return vr if vr.encode() in _NAMES else ""


@lru_cache
def _empty(vr: str) -> Any:
    from pydicom import dataelem

    if vr in ("SQ", "UN") or vr.encode() not in _NAMES:
        return UNSURE
    return "" if vr == "PN" else dataelem.empty_value_for_VR(vr)


@lru_cache(4096)
def keyword_of(tag: int) -> str:
    """Return the keyword of a public element; empty for those that the standard does not name."""
    from pydicom import datadict

    return datadict.dictionary_keyword(tag) if datadict.dictionary_has_tag(tag) else ""


@lru_cache(4096)
def _tag_of(keyword: str) -> int:
    from pydicom import datadict

    return datadict.tag_for_keyword(keyword) or 0


@lru_cache
def spells_ascii(encoding: str) -> bool:
    """Return whether bytes of ASCII are the same text in an encoding of Python."""
    letters = bytes(range(32, 127))
    try:
        return letters.decode(encoding) == letters.decode("ascii")
    except (LookupError, UnicodeError):
        return False
