"""Check for damaged TIFF structure before OpenSlide reads it: GLib aborts the process if an allocation fails.

Layout of a TIFF: TIFF 6.0, section 2; of a BigTIFF: https://www.awaresystems.be/imaging/tiff/bigtiff.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from intake_img.errors import FormatError
from intake_img.storage.files import File

__all__ = ["check_tiff"]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _HEIGHT, _SAMPLES, _ROWS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 277, 278, 322, 323
_COUNTS = (279, 325)  # bytes of strips and tiles
_MOST_PAGES, _MOST_TAGS, _MOST_TILE = 10_000, 10_000, 2**28

_Entry = tuple[int, int, int, bytes]
"""Tag number, type number, count, and the bytes of the value or its offset."""


def check_tiff(file: File) -> None:
    """Raise `FormatError` if a local TIFF names tiles or values that do not fit its size; other files pass."""
    with open(file.path, "rb") as stream:
        head = stream.read(16)
        if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or len(head) < 16:
            return
        order, big = "<" if head[:1] == b"I" else ">", b"+" in head[2:4]
        size = stream.seek(0, 2)
        for entries in _pages(stream, head, order, big):
            _check_page(stream, entries, order, size, file)


def _pages(stream: IO[bytes], head: bytes, order: str, big: bool) -> Iterator[list[_Entry]]:
    number, count, width = (f"{order}Q", f"{order}Q", 8) if big else (f"{order}I", f"{order}H", 4)
    length = 4 + 2 * width
    at = struct.unpack_from(number, head, 8 if big else 4)[0]
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        data = _read(stream, at, struct.calcsize(count))
        tags = struct.unpack(count, data)[0] if data else 0
        body = _read(stream, at + len(data), length * tags + width) if 0 < tags < _MOST_TAGS else b""
        if not body:
            raise FormatError("a page of its TIFF structure is beyond the end of the file: it is truncated or damaged")
        yield [_entry(body, k * length, order, width) for k in range(tags)]
        at = struct.unpack_from(number, body, length * tags)[0]


def _entry(body: bytes, at: int, order: str, width: int) -> _Entry:
    tag, kind = struct.unpack_from(f"{order}HH", body, at)
    count = struct.unpack_from(f"{order}{'Q' if width == 8 else 'I'}", body, at + 4)[0]
    return tag, kind, count, body[at + 4 + width : at + 4 + 2 * width]


def _check_page(stream: IO[bytes], entries: list[_Entry], order: str, size: int, file: File) -> None:
    known: dict[int, int] = {}
    for tag, kind, count, value in entries:
        nbytes = _SIZES.get(kind, 1) * count
        offset = int.from_bytes(value, "little" if order == "<" else "big")
        if nbytes > len(value) and offset + nbytes > size:
            raise FormatError(f"{file}: the values of tag {tag} lie beyond its end: it is truncated or damaged")
        whole = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if whole and count == 1:
            known[tag] = struct.unpack_from(order + whole, value)[0]
        elif whole and tag in _COUNTS:
            data = value if nbytes <= len(value) else _read(stream, offset, nbytes)
            known[tag] = max(struct.unpack_from(f"{order}{count}{whole}", data), default=0)
    _check_tiles(known, size, file)


def _check_tiles(known: dict[int, int], size: int, file: File) -> None:
    width, height = known.get(_WIDTH, 0), known.get(_HEIGHT, 0)
    strip = width * min(known.get(_ROWS, height), height)
    tile = known.get(_TILE_WIDTH, 0) * known.get(_TILE_HEIGHT, 0)
    if (tile or strip) * known.get(_SAMPLES, 1) > _MOST_TILE or max(known.get(t, 0) for t in _COUNTS) > size:
        raise FormatError(f"{file}: it states larger tiles than are possible: the file is damaged")


def _read(stream: IO[bytes], at: int, count: int) -> bytes:
    """Return this many bytes; none where the file is too short."""
    if at >= 2**62 or count > 2**30:
        return b""
    stream.seek(at)
    data = stream.read(count)
    return data if len(data) == count else b""
