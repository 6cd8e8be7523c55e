"""Compound files (OLE2): streams by name; only the needed sectors are read.

Format: Microsoft, "[MS-CFB]: Compound File Binary File Format". A stream is a chain of sectors, a short one a chain of
pieces of 64 bytes within the stream of the root entry.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.files import ByteReader

__all__ = ["MAGIC", "Compound"]

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_LAST = 0xFFFFFFFA  # larger numbers are not sectors
_LOST, _FREE = b"\xfb\xff\xff\xff", 0xFFFFFFFF
_STORAGE, _STREAM, _ROOT = 1, 2, 5
_SHORT = 64


class _Entry(NamedTuple):
    name: str
    kind: int
    left: int
    right: int
    child: int
    start: int
    size: int


class Compound:
    """The streams of an open compound file, by their path (``Storage00001/Stream00001``).

    Attributes
    ----------
    streams : dict of str to entry
        Those that are complete.
    cut : bool
        Whether the file was cut off: others may be lost.
    """

    def __init__(self, source: ByteReader) -> None:
        self.source, self.cut = source, False
        head = source.ranges([0], [min(512, source.size)])[0]
        if len(head) < 512 or head[:8] != MAGIC:
            raise FormatError(f"{source.file} does not begin like a compound file, but with {head[:8]!r}")
        version, order, shift = struct.unpack_from("<HHH", head, 26)
        if order != 0xFFFE or (version, shift) not in ((3, 9), (4, 12)):
            raise FormatError(
                f"{source.file}: a compound file of version {version} with sectors of 2^{shift} bytes: damaged"
            )
        self.sector = 2**shift
        (fats, directory, _, self.cutoff, short, _, more, _) = struct.unpack_from("<8I", head, 44)
        self.fat = self._table(self._fat_sectors(head, fats, more))
        used = np.flatnonzero(self.fat != _FREE)
        self.cut |= bool(len(used)) and (int(used[-1]) + 1) * self.sector >= source.size
        entries = self._entries(self._chain(directory, self.fat))
        self.short_fat = self._table(self._chain(short, self.fat))
        self.short = self._read(entries[0].start, entries[0].size, self.cut) if len(self.short_fat) else b""
        self.streams = {path: e for path, e in _paths(entries) if not self.cut or self._is_there(e)}

    def __contains__(self, path: str) -> bool:
        return path in self.streams

    def read(self, path: str) -> bytes:
        """Return the content of a stream."""
        entry = self.streams[path]
        if entry.size >= self.cutoff:
            return self._read(entry.start, entry.size)
        pieces = self._chain(entry.start, self.short_fat)
        data = b"".join(self.short[_SHORT * k : _SHORT * k + _SHORT] for k in pieces)
        return self._whole(data[: entry.size], entry.size)

    def _is_there(self, entry: _Entry) -> bool:
        """Whether no part of a stream is lost."""
        if entry.size < self.cutoff:
            pieces = self._chain(entry.start, self.short_fat)
            ends = [min(_SHORT * (k + 1), len(self.short)) for k in pieces]
            return sum(max(0, end - _SHORT * k) for k, end in zip(pieces, ends, strict=True)) >= entry.size
        return self._held(entry.start) >= entry.size

    def _held(self, start: int) -> int:
        """Bytes of a chain before the first of its sectors that the file lacks."""
        total = 0
        for k in self._chain(start, self.fat):
            total += max(0, min(self.sector, self.source.size - (k + 1) * self.sector))
            if (k + 2) * self.sector > self.source.size:
                break
        return total

    def _read(self, start: int, size: int, partly: bool = False) -> bytes:
        """Read a chain of sectors; neighbouring ones by one call. Of a file that was cut off, perhaps its beginning."""
        sectors = np.asarray(self._chain(start, self.fat), np.int64)
        if partly:
            size = min(size, self._held(start))
            sectors = sectors[: -(-size // self.sector)]
        ends = np.flatnonzero(np.diff(sectors) != 1)
        firsts, lasts = [0, *(ends + 1).tolist()], [*ends.tolist(), len(sectors) - 1]
        if not len(sectors):
            return self._whole(b"", size)
        offsets = [int(sectors[k] + 1) * self.sector for k in firsts]
        counts = [(b - a + 1) * self.sector for a, b in zip(firsts, lasts, strict=True)]
        counts[-1] = max(0, min(counts[-1], self.source.size - offsets[-1]))  # the last sector may be cut
        return self._whole(b"".join(self.source.ranges(offsets, counts))[:size], size)

    def _whole(self, data: bytes, size: int) -> bytes:
        if len(data) < size:
            raise FormatError(
                f"{self.source.file}: a stream of {size} bytes ends after {len(data)}: truncated or damaged"
            )
        return data

    def _chain(self, start: int, table: np.ndarray) -> list[int]:
        found: list[int] = []
        while start <= _LAST:
            if start >= len(table) or len(found) > len(table):
                raise FormatError(f"{self.source.file}: a chain of sectors leads nowhere: it is damaged")
            found.append(start)
            start = int(table[start])
        return found

    def _fat_sectors(self, head: bytes, count: int, more: int) -> list[int]:
        """Sectors of the table of sectors: the header names 109, and each further list the next."""
        found = list(struct.unpack_from("<109I", head, 76))
        while len(found) < count and more <= _LAST:
            page = self._table([more]).tolist()
            found, more = found + page[:-1], page[-1]
        return [k for k in found[:count] if k <= _LAST]

    def _table(self, sectors: list[int]) -> np.ndarray:
        """Return the numbers in sectors; those of sectors that the file lacks end a chain."""
        offsets = [(k + 1) * self.sector for k in sectors]
        there = [o for o in offsets if o + self.sector <= self.source.size]
        self.cut |= len(there) < len(offsets)
        found = dict(zip(there, self.source.ranges(there, [self.sector] * len(there)), strict=True))
        return np.frombuffer(b"".join(found.get(o, _LOST * (self.sector // 4)) for o in offsets), "<u4")

    def _entries(self, sectors: list[int]) -> list[_Entry]:
        data = self._table(sectors).tobytes()
        entries = [_entry(data[k : k + 128], self.sector == 512) for k in range(0, len(data), 128)]
        if not entries or entries[0].kind != _ROOT:
            raise FormatError(f"{self.source.file}: the first entry of its directory is not the root: it is damaged")
        return entries


def _entry(data: bytes, short: bool) -> _Entry:
    length, kind, left, right, child = struct.unpack_from("<HBxIII", data, 64)
    name = data[: max(0, min(64, length) - 2)].decode("utf-16-le", "replace")
    start, size = struct.unpack_from("<IQ", data, 116)
    return _Entry(name, kind, left, right, child, start, size & 0xFFFFFFFF if short else size)


def _paths(entries: list[_Entry]) -> list[tuple[str, _Entry]]:
    found, seen, todo = [], set(), [(entries[0].child, "")]
    while todo:
        number, folder = todo.pop()
        if number >= len(entries) or number in seen:
            continue
        seen.add(number)
        entry = entries[number]
        todo += [(entry.left, folder), (entry.right, folder)]
        if entry.kind == _STREAM:
            found.append((folder + entry.name, entry))
        elif entry.kind == _STORAGE:
            todo.append((entry.child, f"{folder}{entry.name}/"))
    return found
