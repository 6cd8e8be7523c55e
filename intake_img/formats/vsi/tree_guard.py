"""Check of the tree of tags in a VSI before slideio reads it, which damaged trees crash or keep in circles.

Layout: a volume is a header of 24 bytes and its tags; a tag of 16 bytes or more may contain further volumes, and states
where the next one is. See Bio-Formats, ``CellSensReader.readTags``.
"""

from __future__ import annotations

import struct

from intake_img.errors import FormatError
from intake_img.storage.files import File

__all__ = ["check_tree"]

_HEADER, _TAG, _MAGIC = struct.Struct("<HHIQII"), struct.Struct("<IiII"), 21321
_INDEXED, _VOLUME, _INLINE = 0x08000000, 0x10000000, 0x40000000
_DIMENSION, _MOST_DIMENSIONS = 2007, 10  # a dimension is one of x, y, z, t, c, ...
_VOLUMES, _SINGLE = (0,), (1, 2)  # kinds of tags that contain several volumes, or one
_INNER = (*_VOLUMES, *_SINGLE)
_MOST = 2**28  # bytes of a tree; cellSens writes some MB


def check_tree(file: File) -> None:
    """Raise `FormatError` for a VSI whose tags lie outside of the file, or run in circles."""
    with open(file.path, "rb") as stream:
        data = stream.read(_MOST)
    waiting, left = [(8, len(data))], len(data) // _TAG.size
    while waiting:
        at, end = waiting.pop()
        if at + _HEADER.size > end or _HEADER.unpack_from(data, at)[1] != _MAGIC:
            continue
        inner, count = _inner(data, at, file)
        waiting += inner
        left -= count
        if left < 0:
            raise FormatError(f"{file}: its tags run in circles: it is damaged")


def _inner(data: bytes, at: int, file: File) -> tuple[list[tuple[int, int]], int]:
    """Return the places that may have volumes inside a volume, as first and last byte, and the number of its tags."""
    first, flags = _HEADER.unpack_from(data, at)[3:5]
    count, place = flags & 0xFFFFFFF, at + first
    found: list[tuple[int, int]] = []
    total, last, unpack = len(data), len(data) - _TAG.size, _TAG.unpack_from
    for k in range(count):
        if not at < place <= last:
            raise FormatError(f"{file} ends before its tags, or they are damaged: a tag is at byte {place}")
        kind, tag, following, size = unpack(data, place)
        start = place + _TAG.size
        if kind & _INDEXED:
            _check_index(data, start, tag, file)
            start += 4
        if kind & _VOLUME and kind & 0xFFFFFF in _INNER:
            found.append((start, min(total, start + size) if kind & 0xFFFFFF in _VOLUMES else total))
        elif not kind & _INLINE and start + size > total:
            raise FormatError(f"{file} ends before the contents of a tag, at byte {start + size}: it is truncated")
        if not following:
            return found, k + 1
        if at + following <= place:
            raise FormatError(f"{file}: the tags at byte {at} run in circles: it is damaged")
        place = at + following
    return found, count


def _check_index(data: bytes, at: int, tag: int, file: File) -> None:
    index = int.from_bytes(data[at : at + 4], "little", signed=True)
    if tag == _DIMENSION and not 0 <= index < _MOST_DIMENSIONS:
        raise FormatError(f"{file}: an axis has the number {index}: it is damaged")
