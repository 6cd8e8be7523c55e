"""Boxes of ISO media files: JPEG 2000, JPEG XL, AVIF and HEIF are lists of boxes. This module does not decode pixels.

Sources: ISO/IEC 14496-12 (boxes), 15444-1 (JPEG 2000: annexes A.5.1 and I), 18181-2 (JPEG XL), AVIF 1.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from intake_img.errors import FormatError

__all__ = ["JP2", "JXL", "box", "boxes", "brands", "check_whole", "kind_of_boxes", "pixels_of", "text_of"]

JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
JXL = b"\0\0\0\x0cJXL \r\n\x87\n"
_SOC, _EOC, _NAKED_JXL = b"\xff\x4f\xff\x51", b"\xff\xd9", b"\xff\x0a"
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
_AVIF = {b"avif", b"avis"}


def brands(head: bytes) -> set[bytes]:
    """Return the brands of a file that begins with a box ``ftyp``."""
    count = min(struct.unpack(">I", head[:4])[0], len(head)) if head[4:8] == b"ftyp" else 0
    return {head[8:12], *(head[k : k + 4] for k in range(16, count - 3, 4))} if count else set()


def kind_of_boxes(head: bytes) -> str | None:
    """Return ``"jpeg2000"``, ``"jpegxl"``, ``"avif"`` or ``"heif"`` for files of these formats."""
    if head.startswith((JP2, _SOC)):
        return "jpeg2000"
    if head.startswith((JXL, _NAKED_JXL)):
        return "jpegxl"
    found = brands(head)
    if found & _AVIF:
        return "avif"
    return "heif" if found & _HEIF and b"crx " not in found else None


def boxes(data: bytes | memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over the boxes of a file: name, and where their content begins and ends.

    Raises
    ------
    FormatError
        If the file ends within a box.
    """
    at, size = 0, len(data)
    while at + 8 <= size:
        count, name = struct.unpack_from(">I4s", data, at)
        start, stop = at + 8, at + count
        if count == 1 and at + 16 <= size:
            start, stop = at + 16, at + struct.unpack_from(">Q", data, at + 8)[0]
        elif count == 0:  # up to the end of the file
            stop = size
        if not start <= stop <= size:
            raise FormatError(f"the file ends within its box {name!r} at byte {at}: it is truncated or damaged")
        yield name, start, stop
        at = stop
    if at != size:
        raise FormatError(f"{size - at} bytes after the last box are not a box: the file is truncated or damaged")


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def text_of(data: bytes | memoryview, name: bytes = b"xml ") -> list[bytes]:
    """Return the contents of all boxes of a name."""
    return [bytes(data[start:stop]) for own, start, stop in boxes(data) if own == name]


def check_whole(kind: str, data: memoryview) -> None:
    """Raise `FormatError` for a file that is cut off, which some decoders do not mind."""
    if kind == "jpegxl" and data[:2] == _NAKED_JXL:
        return  # its decoder minds
    streams = _codestreams(data)
    if kind == "jpeg2000" and not (streams and all(_ends(stream) for stream in streams)):
        raise FormatError("the JPEG 2000 codestream has no end marker: the file is truncated")


def _codestreams(data: memoryview) -> list[memoryview]:
    """Return the codestreams of a JPEG 2000 file, or the one that has no container."""
    return [data] if data[:4] == _SOC else [data[a:b] for name, a, b in boxes(data) if name == b"jp2c"]


def _ends(stream: memoryview) -> bool:
    return stream[-64:].tobytes().rstrip(b"\0").endswith(_EOC)


def pixels_of(kind: str, data: memoryview) -> int:
    """Return how many pixels, samples counted, the header states at most; 0 if it does not say."""
    if kind == "jpeg2000":
        stream = next(iter(_codestreams(data)), data[:0])
        if stream[:4] != _SOC or len(stream) < 42:
            raise FormatError("the JPEG 2000 file contains no codestream: it is truncated or damaged")
        width, height, x, y = struct.unpack_from(">4I", stream, 8)
        count = struct.unpack_from(">H", stream, 40)[0]
        return max(width - x, 0) * max(height - y, 0) * count
    if kind == "avif":
        return max((w * h * 4 for w, h in _extents(data.tobytes())), default=0)
    return _jpegxl_pixels(data) * 4


def _extents(data: bytes) -> Iterator[tuple[int, int]]:
    """Widths and heights of the images in a HEIF container, tiles and thumbnails among them."""
    at = data.find(b"ispe")
    while 0 <= at <= len(data) - 16:
        yield struct.unpack_from(">II", data, at + 8)
        at = data.find(b"ispe", at + 4)


def _jpegxl_pixels(data: memoryview) -> int:
    """Width times height of a codestream: SizeHeader of 18181-1, whose bits begin with the lowest."""
    if data[:2] != _NAKED_JXL:
        parts = [(a if name == b"jxlc" else a + 4) for name, a, b in boxes(data) if name in (b"jxlc", b"jxlp")]
        if not parts:
            raise FormatError("the JPEG XL file contains no codestream: it is truncated or damaged")
        data = data[parts[0] :]
    bits = int.from_bytes(data[2:18].tobytes(), "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & (1 << count) - 1
        bits >>= count
        return value

    small = take(1)

    def length() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = length()
    ratio = take(3)
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1] if ratio else (0, 1)
    return height * (height * over // under if ratio else length())
