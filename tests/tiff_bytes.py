"""Directories of TIFF files as bytes: entries are found and changed in place, as damage or sloppy writers would."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class Entry:
    """An entry of a directory of a classic TIFF file: where it lies and what it says."""

    at: int
    page: int
    code: int
    kind: int
    count: int
    data: int  # where its values lie


def entries(content: bytes) -> Iterator[Entry]:
    """Iterate over the entries of all pages of a chain."""
    order = "<" if content[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(f"{order}I", content, 4)
    page = 0
    while offset:
        (n,) = struct.unpack_from(f"{order}H", content, offset)
        for at in range(offset + 2, offset + 2 + 12 * n, 12):
            code, kind, count = struct.unpack_from(f"{order}HHI", content, at)
            inline = SIZES[kind] * count <= 4
            (data,) = (at + 8,) if inline else struct.unpack_from(f"{order}I", content, at + 8)
            yield Entry(at, page, code, kind, count, data)
        (offset,) = struct.unpack_from(f"{order}I", content, offset + 2 + 12 * n)
        page += 1


def find(content: bytes, code: int, page: int = 0) -> Entry:
    return next(e for e in entries(content) if (e.code, e.page) == (code, page))


def retyped(content: bytes, code: int, kind: int | None = None, count: int | None = None, page: int = 0) -> bytes:
    """Return the file with another type or count of a tag."""
    found, order = find(content, code, page), "<" if content[:2] == b"II" else ">"
    changed = bytearray(content)
    struct.pack_into(
        f"{order}HI",
        changed,
        found.at + 2,
        found.kind if kind is None else kind,
        found.count if count is None else count,
    )
    return bytes(changed)


def without(content: bytes, code: int) -> bytes:
    """Return the file with a tag renamed to a private one that nobody knows, on every page."""
    changed = bytearray(content)
    for found in entries(content):
        if found.code == code:
            struct.pack_into("<H" if content[:2] == b"II" else ">H", changed, found.at, 65432)
    return bytes(changed)


def with_value(content: bytes, code: int, value: int, index: int = 0, page: int = 0) -> bytes:
    """Return the file with another value of a tag."""
    found, order = find(content, code, page), "<" if content[:2] == b"II" else ">"
    changed = bytearray(content)
    struct.pack_into(
        f"{order}{ {1: 'B', 3: 'H', 4: 'I'}[found.kind] }", changed, found.data + index * SIZES[found.kind], value
    )
    return bytes(changed)
