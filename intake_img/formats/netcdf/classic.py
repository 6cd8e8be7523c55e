"""Classic netCDF files: the header, and uncompressed arrays, contiguous or record by record.

Format: Unidata, "NetCDF file format specifications", CDF-1, -2 and -5,
https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import RawArray, StoredArray
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader
from intake_img.storage.raw import read_raw

__all__ = ["ClassicVariable", "read_header"]

_TYPES = {1: "i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8", 7: "u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_HEADER = 2**24  # bytes
_STREAMING = {4: 2**32 - 1, 8: 2**64 - 1}  # a count of records that nobody wrote


@dataclass(frozen=True)
class ClassicVariable:
    """The position and the metadata of an array.

    Parameters
    ----------
    dimensions : tuple of str
    attributes : dict
    dtype : numpy.dtype
    shape : tuple of int
    offset : int
        In bytes.
    record : int
        Bytes from record to record, where the first axis is that of records; else 0.
    """

    dimensions: tuple[str, ...]
    attributes: dict[str, Any]
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    record: int = 0

    def array(self, source: ByteReader) -> StoredArray:
        return _Records(source, self) if self.record else RawArray(source, self.offset, self.dtype, self.shape)

    @property
    def end(self) -> int:
        """The byte after the last one."""
        if 0 in self.shape:
            return 0
        if self.record:
            inner = math.prod(self.shape[1:]) * self.dtype.itemsize
            return self.offset + (self.shape[0] - 1) * self.record + inner
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


class _Records(StoredArray):
    """An array whose first axis is the record axis; its records are interleaved with those of other arrays."""

    decodes = False

    def __init__(self, source: ByteReader, variable: ClassicVariable) -> None:
        self.source, self.variable = source, variable
        self.shape, self.dtype = variable.shape, variable.dtype.newbyteorder("=")
        self.tiles = (1,) * (len(self.shape) - 1) + self.shape[-1:]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        v = self.variable
        for k, record in enumerate(range(region[0].start, region[0].stop)):
            place = v.offset + record * v.record
            read_raw(self.source, place, v.dtype, v.shape[1:], region[1:], out[(k, ...)])


class _Header:
    """The bytes of a header, read one item after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4
        version = data[3]
        self.count_size, self.offset_size = (8 if version == 5 else 4), (4 if version == 1 else 8)

    def take(self, n: int) -> bytes:
        if self.at + n > len(self.data):
            raise FormatError(f"its header does not end within {len(self.data)} bytes: it is truncated or damaged")
        self.at += n
        return self.data[self.at - n : self.at]

    def integer(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "big")

    def count(self) -> int:
        return self.integer(self.count_size)

    def padded(self, n: int) -> bytes:
        return self.take(n + -n % 4)[:n]

    def name(self) -> str:
        return self.padded(self.count()).decode("utf-8", "replace")

    def listed(self, tag: int, item: Callable[[], Any]) -> list[Any]:
        found, count = self.integer(), self.count()
        if found not in (0, tag) or (found == 0 and count) or count > len(self.data):
            raise FormatError(f"its header has the tag {found} with {count} items where {tag} should be: damaged")
        return [item() for _ in range(count)]

    def dimension(self) -> tuple[str, int]:
        return self.name(), self.count()

    def attribute(self) -> tuple[str, Any]:
        name, dtype, count = self.name(), self.type(), self.count()
        data = self.padded(count * dtype.itemsize)
        if dtype.kind == "S":
            return name, data.decode("utf-8", "replace").rstrip("\0")
        values = np.frombuffer(data, dtype).tolist()
        return name, values[0] if count == 1 else values

    def type(self) -> np.dtype:
        number = self.integer()
        if number not in _TYPES:
            raise FormatError(f"its header has the type {number}, which is unknown: damaged")
        return np.dtype(_TYPES[number])


def read_header(source: ByteReader) -> tuple[dict[str, Any], dict[str, ClassicVariable]]:
    """Return the attributes of a classic file, and its variables.

    Raises
    ------
    FormatError
        If the header is damaged, or states more than the file holds.
    """
    header = _Header(source.ranges([0], [min(source.size, _HEADER)])[0])
    records = header.count()
    dimensions = header.listed(_DIMENSIONS, header.dimension)
    attributes = dict(header.listed(_ATTRIBUTES, header.attribute))
    parsed = header.listed(_VARIABLES, lambda: _variable(header, dimensions))
    variables = _recorded(dict(parsed), records, header.count_size, source.size)
    for name, variable in variables.items():
        if variable.end > source.size:
            raise FormatError(
                f"{name} of shape {variable.shape} ends at byte {variable.end}, the file at {source.size}"
            )
    return attributes, variables


def _variable(header: _Header, dimensions: Sequence[tuple[str, int]]) -> tuple[str, ClassicVariable]:
    """A variable; of records only the axis is known, with length 0, and `record` is -1."""
    name = header.name()
    numbers = [header.count() for _ in range(header.count())] if header.at < len(header.data) else []
    attributes = dict(header.listed(_ATTRIBUTES, header.attribute))
    dtype = header.type()
    header.count()  # the size, which is too small a number for large variables
    offset = header.integer(header.offset_size)
    if any(k >= len(dimensions) for k in numbers):
        raise FormatError(f"{name} has the dimensions {numbers} of {len(dimensions)}: damaged")
    names, shape = tuple(dimensions[k][0] for k in numbers), tuple(dimensions[k][1] for k in numbers)
    return name, ClassicVariable(names, attributes, dtype, shape, offset, -1 if shape and shape[0] == 0 else 0)


def _recorded(variables: dict[str, ClassicVariable], records: int, size: int, end: int) -> dict[str, ClassicVariable]:
    """The variables; record variables have the number and distance of records."""
    inner = {n: math.prod(v.shape[1:]) * v.dtype.itemsize for n, v in variables.items() if v.record}
    step = sum(n + -n % 4 for n in inner.values()) if len(inner) > 1 else sum(inner.values())
    if inner and records == _STREAMING[size]:
        first = min(variables[n].offset for n in inner)
        records = max(0, end - first) // max(1, step)
    made = {}
    for name, v in variables.items():
        shape = (records, *v.shape[1:]) if v.record else v.shape
        made[name] = ClassicVariable(v.dimensions, v.attributes, v.dtype, shape, v.offset, step if v.record else 0)
    return made
