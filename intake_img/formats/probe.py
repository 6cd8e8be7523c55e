"""Inspection of a file before a format is chosen."""

from __future__ import annotations

import bz2
import struct
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from intake_img.storage.files import File

__all__ = ["Probe"]

_INNER = 1024  # bytes
_TIFF = {
    b"II*\0": ("<", "I", "H"),
    b"MM\0*": (">", "I", "H"),
    b"II+\0": ("<", "Q", "Q"),
    b"MM\0+": (">", "Q", "Q"),
}
"""First bytes of a TIFF file: byte order, and the dtypes of offsets and of the number of tags."""
_MOST_TAGS = 256
_NEAR = 2**16  # bytes from the beginning of a remote file in which its first directory is looked for


@dataclass(frozen=True)
class Probe:
    """What is seen of a file before a format is chosen: its name, its first bytes, whether it is a folder.

    `seen` contains what one format found out with more effort, for the next ones.
    """

    file: File
    head: bytes
    folder: bool
    seen: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def name(self) -> str:
        return self.file.name

    def holds(self, name: str) -> bool:
        """True if the folder contains a file of that name."""
        return self.folder and (self.file / name).exists()

    @cached_property
    def inner(self) -> bytes:
        """The first bytes of what a gzip or bzip2 file contains, inflated when asked for; empty for other files."""
        if self.head.startswith(b"\x1f\x8b"):
            return _inflated(zlib.decompressobj(zlib.MAX_WBITS | 16), self.head)
        if self.head.startswith(b"BZh"):  # a block must be complete
            return _inflated(bz2.BZ2Decompressor(), self.file.head(2**20))
        return b""

    @cached_property
    def tiff_tags(self) -> dict[int, tuple[int, int]]:
        """Count and value (or offset) of the tags in the first directory of a TIFF file; empty for other files."""
        if self.head[:4] not in _TIFF or len(self.head) < 16:
            return {}
        order, offset, number = _TIFF[self.head[:4]]
        (first,) = struct.unpack_from(order + offset, self.head, 4 if offset == "I" else 8)
        entries = _entries(self.head[first:], order, offset, number)
        if entries is None:
            start = struct.calcsize(order + number)
            beyond = self.piece(first, start + _MOST_TAGS * struct.calcsize(f"{order}HH2{offset}"))
            entries = _entries(beyond, order, offset, number, cut=True)
        return entries or {}

    def piece(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes of the file; of a remote one, only those near its beginning."""
        stop = offset + count
        if not 0 <= offset <= stop < 2**62:
            return b""
        if stop <= len(self.head):
            return self.head[offset:stop]
        if not self.file.local:
            return self.file.head(stop)[offset:] if stop <= _NEAR else b""
        with open(self.file.descriptor(), "rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(count)


def _entries(data: bytes, order: str, offset: str, number: str, cut: bool = False) -> dict[int, tuple[int, int]] | None:
    """Return the tags of a directory that begins with `data`; None if it does not have all, unless it may be `cut`."""
    entry, start = struct.Struct(f"{order}HH2{offset}"), struct.calcsize(order + number)
    if len(data) < start:
        return None
    stop = start + struct.unpack_from(order + number, data)[0] * entry.size
    if stop > len(data):
        if not cut:
            return None
        stop = len(data) - (len(data) - start) % entry.size
    return {tag: (count, value) for tag, _, count, value in entry.iter_unpack(data[start:stop])}


def _inflated(stream: zlib._Decompress | bz2.BZ2Decompressor, head: bytes) -> bytes:
    try:
        return stream.decompress(head, _INNER)
    except (zlib.error, OSError, EOFError):
        return b""
