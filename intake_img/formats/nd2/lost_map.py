"""The map of the chunks of an ND2 file that lacks it, as it is the last that a recording writes.

Each chunk states its name and length, and chunks follow each other, at multiples of 4096 bytes in newer files: so the
map is made again from the chunks. The library nd2 is given the file with that map behind it.
"""

from __future__ import annotations

import struct
from typing import IO, cast

from intake_img.errors import FormatError
from intake_img.storage.byte_readers import ByteReader, ByteStream

__all__ = ["CHUNK", "DETAILS", "END", "MAGIC", "scanned", "with_map"]

MAGIC = 0x0ABECEDA
CHUNK = struct.Struct("<IIQ")
"""Magic, length of the name and of the data of a chunk."""
END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
DETAILS = (b"ImageMetadataSeqLV|0!", b"ImageMetadataSeq|0!")
"""Names of the chunk that describes channels and the size of pixels, in files of version 3 and older ones."""
_MAP = b"ND2 FILEMAP SIGNATURE NAME 0001!"
_ALIGNED = 4096
_NAME = 256  # bytes of a name, at most; what follows is padding
_MOST_LOCAL, _MOST_REMOTE = 2**20, 1000  # chunks of a file without a map


def scanned(source: ByteReader) -> dict[bytes, int]:
    """Return where each complete chunk begins, by its name; of several of one name the last one."""
    found: dict[bytes, int] = {}
    at = 0
    most = _MOST_LOCAL if source.file.local else _MOST_REMOTE
    for _ in range(most):
        head = _head(source, at)
        if head is None:  # behind padding
            at = -(-at // _ALIGNED) * _ALIGNED
            head = _head(source, at)
        if head is None:
            return _without_reserved(source, found, at)
        name, stop = head
        if stop > source.size:
            return found
        if name:
            found[name] = at
        at = stop
    advice = "it is damaged" if source.file.local else "copy it to a local disk first"
    raise FormatError(f"{source.file}: more than {most} chunks and no map of them: {advice}")


def _head(source: ByteReader, at: int) -> tuple[bytes, int] | None:
    """Return the name of the chunk at a position and where it ends; None if there is no chunk."""
    if at + CHUNK.size > source.size:
        return None
    data = source.ranges([at], [min(CHUNK.size + _NAME, source.size - at)])[0]
    magic, length, count = CHUNK.unpack_from(data)
    if magic != MAGIC:
        return None
    name, mark, _ = data[CHUNK.size : CHUNK.size + length].partition(b"!")
    return name + mark if mark else b"", at + CHUNK.size + length + count


def _without_reserved(source: ByteReader, found: dict[bytes, int], at: int) -> dict[bytes, int]:
    """Leave out the last chunk if it ends in zeros and so does the file: space that was reserved, and not filled."""
    if not found or at + CHUNK.size > source.size:
        return found
    name, start = max(found.items(), key=lambda item: item[1])
    head = _head(source, start)
    if head is not None and not b"".join(source.ranges([head[1] - 16, at], [16, CHUNK.size])).strip(b"\0"):
        return {k: v for k, v in found.items() if k != name}
    return found


def with_map(source: ByteReader, places: dict[bytes, int]) -> IO[bytes]:
    """Return a file of the bytes of `source` and a map of the chunks at `places`.

    If the chunk that describes channels and pixels is lost, an empty one takes its place: the library nd2 needs it.
    """
    lost = {} if any(name in places for name in DETAILS) else dict.fromkeys(DETAILS, source.size)
    tail = CHUNK.pack(MAGIC, len(DETAILS[0]), 0) + DETAILS[0] if lost else b""
    entries = b"".join(name + struct.pack("<QQ", at, 0) for name, at in {**places, **lost}.items())
    data = entries + END + struct.pack("<Q", source.size + len(tail))
    chunk = CHUNK.pack(MAGIC, len(_MAP), len(data)) + _MAP + data
    return cast("IO[bytes]", ByteStream(_Lengthened(source, tail + chunk)))


class _Lengthened(ByteReader):
    """The bytes of a file and others behind them."""

    def __init__(self, source: ByteReader, tail: bytes) -> None:
        super().__init__(source.file)
        self.source, self.tail = source, tail
        self.size = source.size + len(tail)

    def read_into(self, offset: int, out: memoryview) -> None:
        own = min(out.nbytes, max(0, self.source.size - offset))
        if own:
            self.source.read_into(offset, out[:own])
        start = max(0, offset - self.source.size)
        out[own:] = self.tail[start : start + out.nbytes - own]
