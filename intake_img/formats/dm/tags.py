"""The tree of tags of a DM3 or DM4 file, without the values of long arrays.

Format after the descriptions by C. Boothroyd (https://personal.ntu.edu.sg/cbb/info/dmformat/) and P. Fallon: numbers
that make the tree are big-endian, of 4 bytes (DM3) or 8 (DM4); values have the byte order that the header states.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import IO, Any

import numpy as np

from intake_img.errors import FormatError

__all__ = ["CUT", "ORDER", "Short", "StoredValues", "Tags", "members", "plain", "read_tags"]

Tags = list[tuple[str, Any]]
"""Names and values of a group; those without a name are the members of a list."""

ORDER = "byte order"
"""Name of a tag that `read_tags` adds: ``"<"`` or ``">"``, that of all values."""
CUT = "cut off"
"""Name of a tag that `read_tags` adds to the tags of a file that was cut off, whose later tags are lost."""
_GROUP, _VALUE = 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_SIMPLE = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "u1", 9: "i1", 10: "i1", 11: "i8", 12: "u8"}
_TAG = struct.Struct(">BH")  # kind, length of the name
_BLOCK = 2**14  # bytes that are read together
_SHORT = 4096  # elements of arrays that are read as part of the tree
_DEEP = 64  # groups within groups


@dataclass(frozen=True)
class StoredValues:
    """Values that are left in the file: `count` elements of `dtype` from `offset` on."""

    offset: int
    dtype: np.dtype
    count: int


def read_tags(stream: IO[bytes], size: int) -> Tags:
    """Return the tags of an open file of `size` bytes; of one that was cut off, those before the cut.

    The last array may then reach beyond the end of the file.

    Raises
    ------
    FormatError
        If the tree is damaged.
    """
    return _Reader(stream, size).root()


class _CutOffError(FormatError):
    """The file ends within a tag."""


class _Reader:
    """A walk through the tree; `data` is what was read of it, `at` the place in it, `ahead` that of the stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size, self.cut = stream, size, False
        self.data, self.at, self.ahead = b"", 0, 0

    def root(self) -> Tags:
        version = int.from_bytes(self.take(4), "big")
        if version not in (3, 4):
            raise FormatError(f"a DigitalMicrograph file of version {version}: expected 3 or 4")
        wide = version == 4
        self.number = "q" if wide else "i"
        before = 8 if wide else 0  # length of a tag, which the tree itself does not have
        self.group_head = struct.Struct(f">{before + 2}x{self.number}")  # sorted, open, number of tags
        self.value_head = struct.Struct(f">{before}x4s{self.number}")
        self.take(8 if wide else 4)  # length of the tree, which some writers get wrong
        self.order = "<" if int.from_bytes(self.take(4), "big") else ">"
        (count,) = self.unpack(struct.Struct(f">2x{self.number}"))
        tags = self.group(0, count)
        return [*tags, (ORDER, self.order), *([(CUT, True)] if self.cut else [])]

    def require(self, count: int) -> None:
        """Read on until `count` bytes are there."""
        if not 0 <= count <= self.size:
            raise FormatError(f"a tag of {count} bytes in a file of {self.size}: damaged")
        while len(self.data) - self.at < count:
            more = self.stream.read(max(count - len(self.data) + self.at, _BLOCK))
            if not more:
                raise _CutOffError("its tree of tags is cut off: the file is truncated")
            self.data, self.at, self.ahead = self.data[self.at :] + more, 0, self.ahead + len(more)

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            self.require(count)
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        if form.size > len(self.data) - self.at:
            self.require(form.size)
        self.at += form.size
        return form.unpack_from(self.data, self.at - form.size)

    def group(self, depth: int, count: int) -> Tags:
        if depth > _DEEP:
            raise FormatError(f"tags are nested more than {_DEEP} deep: damaged")
        if not 0 <= count <= self.size:
            raise FormatError(f"a group of {count} tags in a file of {self.size} bytes: damaged")
        found: Tags = []
        try:
            while len(found) < count and not self.cut:
                found.append(self.tag(depth))
        except _CutOffError:
            self.cut = True
        return found

    def tag(self, depth: int) -> tuple[str, Any]:
        kind, length = self.unpack(_TAG)
        name = self.take(length).decode("latin-1")
        if kind == _GROUP:
            return name, self.group(depth + 1, self.unpack(self.group_head)[0])
        mark, count = self.unpack(self.value_head) if kind == _VALUE else (b"", 0)
        if mark != b"%%%%":
            raise FormatError(f"the tag {name!r} is neither a group nor a value: damaged")
        if not 0 < count <= _SHORT:
            raise FormatError(f"a tag of a type of {count} numbers: damaged")
        return name, self.value(self.unpack(_numbers(count, self.number)))

    def value(self, kind: tuple[int, ...]) -> Any:
        if kind[0] == _STRUCT:
            dtype = self.fields(kind)
            return list(np.frombuffer(self.take(dtype.itemsize), dtype)[0].tolist())
        if kind[0] == _STRING:
            return self.take(kind[1]).decode("utf-16", "replace")
        if kind[0] == _ARRAY:
            return self.array(kind[1:-1], kind[-1])
        return self.unpack(_form(self.order, kind[0]))[0]

    def array(self, element: tuple[int, ...], count: int) -> Any:
        dtype = self.fields(element) if element[0] == _STRUCT else _dtype(self.order, element[0])
        place = self.ahead - len(self.data) + self.at
        if count < 0:
            raise FormatError(f"an array of {count} elements: damaged")
        if count > _SHORT:
            self.cut = count * dtype.itemsize > self.size - place
            self.skip(min(count * dtype.itemsize, self.size - place))
            return StoredValues(place, dtype, count)
        data = self.take(count * dtype.itemsize)
        return Short(place, dtype, count, data)

    def skip(self, count: int) -> None:
        left = len(self.data) - self.at
        if count <= left:
            self.at += count
            return
        self.ahead += count - left
        self.stream.seek(self.ahead)
        self.data, self.at = b"", 0

    def fields(self, kind: tuple[int, ...]) -> np.dtype:
        """The type of a struct: 15, length of its name, number of fields, and for each length of its name and type."""
        return _struct(self.order, kind[4::2][: kind[2]])


@cache
def _dtype(order: str, code: int) -> np.dtype:
    if code not in _SIMPLE:
        raise FormatError(f"a value of the unknown type {code}: damaged")
    return np.dtype(order + _SIMPLE[code])


@lru_cache(1024)
def _struct(order: str, codes: tuple[int, ...]) -> np.dtype:
    return np.dtype([(f"f{k}", _dtype(order, code)) for k, code in enumerate(codes)])


@lru_cache(1024)
def _numbers(count: int, code: str) -> struct.Struct:
    return struct.Struct(f">{count}{code}")


@cache
def _form(order: str, code: int) -> struct.Struct:
    return struct.Struct(order + {"i8": "q", "u8": "Q"}.get(_SIMPLE.get(code, ""), _dtype(order, code).char))


@dataclass(frozen=True)
class Short(StoredValues):
    """Values that were read with the tree."""

    data: bytes

    @property
    def text(self) -> str:
        """What they spell, if they are characters of 16 bits."""
        return self.data.decode("utf-16-be" if self.dtype.str.startswith(">") else "utf-16-le", "replace").strip("\0")

    @property
    def values(self) -> list[Any]:
        return np.frombuffer(self.data, self.dtype).tolist()


def members(value: Any) -> list[Tags]:
    """Return the groups in a group, whatever their names; none if it is not a group."""
    return [tags for _, tags in value if _is_group(tags)] if _is_group(value) else []


def _is_group(value: Any) -> bool:
    return isinstance(value, list) and (not value or isinstance(value[0], tuple))  # a struct is a list of numbers


def plain(value: Any) -> Any:
    """Return tags as types of JSON: a dict, or a list where names are missing or repeat."""
    if value and _is_group(value):
        names = [name for name, _ in value]
        if all(names) and len(set(names)) == len(names):
            return {name: plain(v) for name, v in value}
        return [plain(v) for _, v in value]
    if isinstance(value, Short):
        return value.text if value.dtype.str[1:] == "u2" else value.values
    return f"{value.count} values of {value.dtype}" if isinstance(value, StoredValues) else value
