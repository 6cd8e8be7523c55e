"""The header of a NRRD file: fields, and keys with values.

Specification: http://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.fields import listed, numbers

__all__ = ["LAST", "MAGIC", "SPACES", "TYPES", "NrrdHeader", "parsed"]

MAGIC = b"NRRD000"
LAST = re.compile(rb"\n\r?\n")
TYPES = {
    "i1": "int8|int8_t|signed char",
    "u1": "uint8|uint8_t|uchar|unsigned char",
    "i2": "int16|int16_t|short|short int|signed short|signed short int",
    "u2": "uint16|uint16_t|ushort|unsigned short|unsigned short int",
    "i4": "int32|int32_t|int|signed int",
    "u4": "uint32|uint32_t|uint|unsigned int",
    "i8": "int64|int64_t|longlong|long long|long long int|signed long long|signed long long int",
    "u8": "uint64|uint64_t|ulonglong|unsigned long long|unsigned long long int",
    "f4": "float",
    "f8": "double",
}
"""Names of dtypes; the first name is the one to write."""
_DTYPES = {name: np.dtype(code) for code, names in TYPES.items() for name in names.split("|")}
SPACES = {"RAS+": "right-anterior-superior", "LPS+": "left-posterior-superior", "": "left-anterior-superior"}
_NAMES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins"}
_NAMES |= {"axismaxs": "axis maxs", "axis_mins": "axis mins", "centers": "centerings", "spaceunits": "space units"}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)("|\\?\Z)', re.S)  # also without an end: else each quote is one to begin at
_VECTOR = re.compile(r"none|\(([^()]*)\)", re.IGNORECASE)


@dataclass(frozen=True)
class NrrdHeader:
    """What a header says; axes are in its own order, the fastest first.

    Parameters
    ----------
    fields, keys : mapping of str to str
    names : sequence of str
        Files that contain the pixels; none if they follow the header.
    inner : int
        Number of axes in one of the files.
    """

    fields: Mapping[str, str]
    keys: Mapping[str, str]
    names: Sequence[str] = field(default=())
    inner: int = 0

    @property
    def sizes(self) -> list[int]:
        return self.numbers("sizes", int)

    def numbers(self, name: str, kind: type = float) -> list[Any]:
        """Return the numbers of a field that has one for each axis; none if it is absent."""
        found = numbers(self.fields.get(name, ""), name, kind)
        return self._each(name, found)

    def quoted(self, name: str) -> list[str]:
        """Return the quoted texts of a field."""
        found = _QUOTED.findall(self.fields.get(name, ""))
        return [re.sub(r"\\(.)", r"\1", text) for text, end in found if end == '"']

    def words(self, name: str) -> list[str]:
        """Return the words of a field that has one for each axis, in lower case."""
        return self._each(name, self.fields.get(name, "").lower().split())

    def vectors(self, name: str) -> list[list[float] | None]:
        """Return the vectors of a field, None for ``none``."""
        found = _VECTOR.finditer(self.fields.get(name, ""))
        return [None if m[1] is None else numbers(m[1].replace(",", " "), name) for m in found]

    def _each(self, name: str, found: list[Any]) -> list[Any]:
        count = int(self.fields["dimension"])
        if found and len(found) != count:
            raise FormatError(f"the field {name!r} has {len(found)} entries, and the image {count} axes")
        return found

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers, with their byte order."""
        name = " ".join(self.fields.get("type", "").lower().split())
        if name not in _DTYPES:
            raise FormatError(f"type {name!r} is not supported: expected one of {', '.join(sorted(_DTYPES))}")
        dtype, endian = _DTYPES[name], self.fields.get("endian", "").lower()
        if dtype.itemsize > 1 and endian not in ("little", "big") and self.encoding not in ("text", "hex"):
            raise FormatError(f"the field 'endian' is {endian!r}: expected 'little' or 'big'")
        return dtype.newbyteorder(">" if endian == "big" else "<")

    @property
    def encoding(self) -> str:
        name = self.fields.get("encoding", "").lower()
        known = {"raw": "raw", "txt": "text", "ascii": "text", "gz": "gzip", "bz2": "bzip2"}
        return known.get(name, name)

    def skip(self, name: str) -> int:
        """Return how many lines or bytes are to be skipped."""
        return int(numbers(self.fields.get(name, "0"), name, int)[0])


def parsed(lines: Sequence[str]) -> NrrdHeader:
    """Return the header that lines hold.

    Raises
    ------
    FormatError
        If a field that is needed is missing or wrong.
    """
    if not lines or not lines[0].startswith(MAGIC.decode()):
        raise FormatError(f"the file does not begin with {MAGIC.decode()}: it is not an NRRD file")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for n, line in enumerate(lines[1:], 1):
        if not line or line.startswith("#"):
            continue
        name, sign, value = line.partition(":")
        if value.startswith("="):
            keys[name] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value[1:])
        elif sign:
            name = name.strip().lower()
            name = _NAMES.get(name, name)
            fields[name] = value.strip()
            if name == "data file" and value.split()[:1] == ["LIST"]:
                names = [text for text in lines[n + 1 :] if text.strip()]
                return _checked(fields, keys, names, value.split()[1:])
    names, rest = _files(fields.get("data file", ""))
    return _checked(fields, keys, names, rest)


def _files(text: str) -> tuple[list[str], list[str]]:
    """Return the names of files that the field ``data file`` gives, and what follows."""
    words = text.split()
    if len(words) > 3 and "%" in words[0]:
        return listed(words[0], *numbers(" ".join(words[1:4]), "data file", int)), words[4:]
    return [text] if text else [], []


def _checked(fields: dict[str, str], keys: dict[str, str], names: list[str], rest: list[str]) -> NrrdHeader:
    if missing := [name for name in ("type", "dimension", "sizes", "encoding") if not fields.get(name)]:
        raise FormatError(f"the header lacks the field {missing[0]!r}: it is truncated or damaged")
    (count,) = numbers(fields["dimension"], "dimension", int)[:1]
    if not 1 <= count <= 16:
        raise FormatError(f"the header states {count} axes: expected 1 to 16")
    inner = numbers(rest[0], "data file", int)[0] if rest else count - 1
    header = NrrdHeader({**fields, "dimension": str(count)}, keys, names, inner if len(names) > 1 or rest else count)
    if not header.sizes or min(header.sizes) < 1:
        raise FormatError(f"the sizes are {fields['sizes']!r}: expected {count} positive numbers")
    return header
