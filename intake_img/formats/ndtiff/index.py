"""The index of an NDTiff dataset: the file and byte offset of each image.

``NDTiff.index`` is a sequence of records: the length of a JSON text and the text (the axes of the image), the length of
a name and the name of a TIFF file beside it, then eight numbers. All integers are uint32, little-endian. Where the
index is lost, the same is read from the pages of the TIFF files.
Specification: https://github.com/micro-manager/NDTiffStorage, section "The NDTiff specification" of its README.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.files import ByteReader

__all__ = ["MAGIC", "IndexEntry", "parse_index", "rebuilt_index", "summary_of"]

MAGIC = struct.pack("<I", 483729)
"""Bytes 8 to 12 of the TIFF files."""

_SUMMARY = 2355492  # comes before the length of the summary metadata
_RGB = 2
_DTYPES = {0: "u1", 1: "<u2", _RGB: "u1", 3: "<u2", 4: "<u2", 5: "<u2", 6: "<u2"}  # 3 to 6: 10, 12, 14, 11 bits
_WIDTH, _HEIGHT, _BITS, _OFFSET, _SAMPLES, _METADATA = 256, 257, 258, 273, 277, 51123  # tags of TIFF
_NUMBERS = struct.Struct("<8I")
_HEADER_LIMIT = 2**24  # bytes


@dataclass(frozen=True)
class IndexEntry:
    """One image.

    Parameters
    ----------
    axes : mapping of str to (int or str)
        Its place along each axis.
    name : str
        Name of the TIFF file.
    offset : int
        Where the pixels begin, in bytes.
    shape : tuple of int
        Height, width, and 3 for colour.
    kind : int
        Number of the pixel type.
    metadata : (int, int)
        Offset and length of the JSON text about the image.
    """

    axes: Mapping[str, int | str]
    name: str
    offset: int
    shape: tuple[int, ...]
    kind: int
    metadata: tuple[int, int]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(_DTYPES[self.kind])

    @property
    def end(self) -> int:
        """Where the pixels end, in bytes."""
        return self.offset + int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def parse_index(data: bytes) -> tuple[list[IndexEntry], bool]:
    """Return the entries of an index, and whether it ends with a complete one.

    An interrupted writer leaves zeros at the end, which are not an entry.

    Raises
    ------
    FormatError
        If an entry is not one.
    """
    entries: list[IndexEntry] = []
    at = 0
    while at < len(data) and any(data[at : at + 4]):
        try:
            axes, at = _text(data, at)
            name, at = _text(data, at)
            numbers = _NUMBERS.unpack_from(data, at)
        except (IndexError, struct.error):
            return entries, False
        entries.append(_entry(axes, name, numbers))
        at += _NUMBERS.size
    return entries, True


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<I", data, at)
    if at + 4 + length > len(data):
        raise IndexError
    return data[at + 4 : at + 4 + length], at + 4 + length


def _entry(axes: bytes, name: bytes, numbers: tuple[int, ...]) -> IndexEntry:
    offset, width, height, kind, packed, about, length, about_packed = numbers
    text = name.decode()
    if packed or about_packed or kind not in _DTYPES or not width or not height or "/" in text or "\\" in text:
        raise FormatError(
            f"its index has an entry for {text!r} with pixel type {kind}, compression {packed} and {about_packed}, and "
            f"size {height} x {width}: expected uncompressed pixels of type 0 to 6; the index is damaged"
        )
    shape = (height, width, 3) if kind == _RGB else (height, width)
    return IndexEntry(_checked(json.loads(axes)), text, offset, shape, kind, (about, length))


def _checked(axes: Any) -> dict[str, int | str]:
    known = isinstance(axes, dict) and all(isinstance(v, (int, str)) for v in axes.values())
    if not known:
        raise FormatError(
            f"its index names the axes of an image {str(axes)[:100]!r}: expected numbers and labels by name"
        )
    return dict(axes)


def summary_of(source: ByteReader) -> dict[str, Any]:
    """Return the summary metadata, which each TIFF file repeats; empty if they cannot be read."""
    head = struct.unpack("<7I", source.ranges([0], [28])[0])
    place = next((k for k in (4, 5) if head[k] == _SUMMARY), None)  # the minor version came with version 3
    if place is None or head[place + 1] > min(_HEADER_LIMIT, source.size):
        return {}
    try:
        found = json.loads(source.ranges([4 * place + 8], [head[place + 1]])[0])
    except (ValueError, FormatError):
        return {}
    return found if isinstance(found, dict) else {}


def rebuilt_index(files: Iterable[ByteReader]) -> list[IndexEntry]:
    """Return the entries for all pages of TIFF files, from what each page says of itself."""
    return [entry for source in files for entry in _pages(source)]


def _pages(source: ByteReader) -> Iterator[IndexEntry]:
    at, seen = int.from_bytes(source.ranges([4], [4])[0], "little"), set()
    while at and at not in seen and at + 2 < source.size:
        seen.add(at)
        count = int.from_bytes(source.ranges([at], [2])[0], "little")
        if at + 6 + 12 * count > source.size:
            return
        data = source.ranges([at + 2], [12 * count + 4])[0]
        tags = {tag: (n, value) for tag, _, n, value in struct.iter_unpack("<HHII", data[:-4])}
        if not tags.keys() >= {_WIDTH, _HEIGHT, _OFFSET, _METADATA}:
            return
        yield _of_page(source, tags)
        at = int.from_bytes(data[-4:], "little")


def _of_page(source: ByteReader, tags: Mapping[int, tuple[int, int]]) -> IndexEntry:
    length, about = tags[_METADATA]
    facts = json.loads(source.ranges([about], [length])[0].rstrip(b"\0"))
    colour = tags.get(_SAMPLES, (1, 1))[1] == 3
    kind = _RGB if colour else 0 if tags.get(_BITS, (1, 16))[1] == 8 else 1
    shape = (tags[_HEIGHT][1], tags[_WIDTH][1], 3)[: 3 if colour else 2]
    return IndexEntry(_checked(facts.get("Axes")), source.file.name, tags[_OFFSET][1], shape, kind, (about, length))
