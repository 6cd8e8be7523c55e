"""Metadata of PNG, GIF, WebP, JPEG and Netpbm files: frames, times, our record.

Nothing is decoded here; the bytes of a file are walked block by block, so that a truncated one is noticed before a
decoder guesses the rest. Sources: W3C PNG 3rd edition, GIF89a specification, RFC 9649 (WebP), ITU T.81 (JPEG),
netpbm.sourceforge.net/doc.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from intake_img.errors import FormatError
from intake_img.storage.limits import inflate

__all__ = [
    "KEY",
    "ContainerFacts",
    "Pages",
    "Raw",
    "check_png",
    "gif",
    "jpeg",
    "keyed_record",
    "netpbm",
    "plain_record",
    "png",
    "png_chunks",
    "webp",
    "xmp_record",
]

KEY = "intake_img"
"""Name of the record in a file."""
_PAGE = 2**20


@dataclass
class ContainerFacts:
    """What is known of a file without decoding it.

    Parameters
    ----------
    frames : int
        Number of images that follow each other in time.
    first : int
        Number of the first of them, as a decoder counts.
    durations : list of float
        How long each frame is shown, in milliseconds; empty if the file does not say.
    alpha, gray : bool
        Whether composed frames have transparency; whether they have no colour.
    depth, colour : int
        Bits of a sample, and colour type, of a PNG.
    pitch : tuple of float, optional
        Size of a pixel, y and x, in µm.
    pictures : int
        Number of separate pictures in a JPEG (MPO).
    record : object
        What `plain_record` found.
    """

    frames: int = 1
    first: int = 0
    durations: list[float] = field(default_factory=list)
    alpha: bool = False
    gray: bool = False
    depth: int = 8
    colour: int = 2
    pitch: tuple[float, float] | None = None
    pictures: int = 1
    record: Any = None


@dataclass(frozen=True)
class Raw:
    """A Netpbm image of plain samples: where they lie and what they are."""

    offset: int
    shape: tuple[int, ...]
    dtype: str
    maxval: int
    magic: str
    record: Any

    @property
    def stop(self) -> int:
        """Where the samples end."""
        return self.offset + math.prod(self.shape) * (1 if self.maxval < 256 else 2)


class Pages:
    """The bytes of a file, one page of which is in memory at a time.

    Parameters
    ----------
    read : callable
        Returns bytes from an offset on, as many as a second argument says.
    size : int
        Length of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size = read, size
        self._start, self._page = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, at: int) -> int:
        if not 0 <= at - self._start < len(self._page):
            if at >= self._size:
                raise IndexError(at)
            self._start, self._page = at, self._read(at, min(_PAGE, self._size - at))
        return self._page[at - self._start]

    def part(self, at: int, count: int) -> bytes:
        """Return `count` bytes, fewer at the end of the file."""
        return bytes(self[k] for k in range(at, min(at + count, self._size)))


def plain_record(text: str | bytes) -> Any:
    """Return the record in a text, or None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def keyed_record(text: str | bytes) -> Any:
    """Return the record in a text that begins with `KEY`, or None if it is another text."""
    text = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return plain_record(text[len(KEY) + 1 :]) if text.startswith(KEY.encode() + b" ") else None


def png_chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over the chunks of a PNG: name, offset and length of their data.

    Raises
    ------
    FormatError
        If the file ends before its last chunk.
    """
    at, name = 8, b""
    while name != b"IEND":
        if at + 12 > len(view):
            raise FormatError(f"the PNG ends at byte {len(view)}, before its last chunk: it is truncated")
        count, name = struct.unpack_from(">I4s", view, at)
        if at + 12 + count > len(view):
            raise FormatError(f"the PNG ends within its chunk {name!r} at byte {at}: it is truncated or damaged")
        yield name, at + 8, count
        at += 12 + count


def around_pixels(view: memoryview) -> tuple[bytes, ...]:
    """Return all chunks of a PNG but those of pixels, with their checksums; one is left empty for those."""
    found: list[bytes] = [bytes(view[:8])]
    for name, at, count in png_chunks(view):
        if name != b"IDAT":
            found.append(bytes(view[at - 8 : at + count + 4]))
        elif found[-1]:
            found.append(b"")
    return tuple(found)


def check_png(view: memoryview) -> None:
    """Raise `FormatError` if the checksum of a chunk is wrong, which decoders do not look at in pixels."""
    for name, at, count in png_chunks(view):
        if zlib.crc32(view[at - 4 : at + count]) != struct.unpack_from(">I", view, at + count)[0]:
            raise FormatError(f"the checksum of the PNG's chunk {name!r} at byte {at} is wrong: the file is damaged")


def png(view: memoryview) -> ContainerFacts:
    """Return the facts of a PNG or APNG."""
    facts, animated = ContainerFacts(), False
    for name, at, count in png_chunks(view):
        if name == b"IHDR" and count == 13:
            facts.depth, facts.colour = view[at + 8], view[at + 9]
        elif name == b"acTL":
            animated = True
            facts.frames = struct.unpack_from(">I", view, at)[0]
        elif name == b"fcTL" and count == 26:
            share, whole = struct.unpack_from(">HH", view, at + 20)
            facts.durations.append(1000 * share / (whole or 100))
        elif name == b"pHYs" and count == 9:
            x, y, metre = struct.unpack_from(">IIB", view, at)
            facts.pitch = (1e6 / y, 1e6 / x) if metre == 1 and x and y else None
        elif name == b"iTXt" and bytes(view[at : at + len(KEY) + 1]) == KEY.encode() + b"\0":
            facts.record = plain_record(_itxt(bytes(view[at : at + count])))
        elif name == b"IDAT":
            if not animated:
                break
            if not facts.durations:  # an image for those who cannot play the animation, and no part of it
                facts.first = 1
    if animated and facts.frames != len(facts.durations):
        raise FormatError(f"the PNG states {facts.frames} frames and has {len(facts.durations)}")
    return facts


def _itxt(data: bytes) -> bytes:
    _, rest = data.split(b"\0", 1)
    _, _, text = rest[2:].split(b"\0", 2)
    return inflate(text, "the record in the PNG's iTXt chunk") if rest[:1] == b"\1" else text


def gif(view: Pages) -> ContainerFacts:
    """Return the facts of a GIF."""
    facts, clear, disposed = ContainerFacts(frames=0, gray=True), [], False
    comments: list[bytes] = []
    delay: float = 0
    see_through = False
    try:
        at = 13 + _table(view, 13, view[10], facts)
        while view[at] != 0x3B:
            if view[at] == 0x21:
                label, at = view[at + 1], at + 2
                if label == 0xF9:
                    flags, time = struct.unpack("<xBH", view.part(at, 4))
                    see_through, delay = bool(flags & 1), 10.0 * time
                    disposed |= flags >> 2 & 7 >= 2
                at, data = _sub_blocks(view, at, label == 0xFE)
                comments += [data] if label == 0xFE else []
            elif view[at] == 0x2C:
                at += 10 + _table(view, at + 10, view[at + 9], facts) + 1
                at, _ = _sub_blocks(view, at, False)
                facts.frames += 1
                facts.durations.append(delay)
                clear.append(see_through)
                delay, see_through = 0, False
            else:
                raise FormatError(f"the GIF has an unknown block {view[at]:#x} at byte {at}: it is damaged")
    except (IndexError, struct.error) as exc:
        raise FormatError(f"the GIF ends at byte {len(view)} without its trailer: it is truncated") from exc
    facts.alpha = any(clear[:1]) or (disposed and any(clear))
    facts.record = next(filter(None, map(keyed_record, comments)), None)
    return facts


def _table(view: Pages, at: int, flags: int, facts: ContainerFacts) -> int:
    """Length of the colour table at a place, if there is one; notes whether it is a ramp of grey."""
    if not flags & 0x80:
        return 0
    count = 3 << (flags & 7) + 1
    facts.gray &= view.part(at, count) == bytes(k for k in range(count // 3) for _ in range(3))
    return count


def _sub_blocks(view: Pages, at: int, keep: bool) -> tuple[int, bytes]:
    parts = []
    while count := view[at]:
        if keep:
            parts.append(view.part(at + 1, count))
        at += 1 + count
    return at + 1, b"".join(parts)


def webp(view: memoryview) -> ContainerFacts:
    """Return the facts of a WebP."""
    size = struct.unpack_from("<I", view, 4)[0] + 8
    if size > len(view):
        raise FormatError(f"the WebP states {size} bytes and has {len(view)}: it is truncated")
    facts, at = ContainerFacts(), 12
    while at + 8 <= size:
        name, count = struct.unpack_from("<4sI", view, at)
        if name == b"VP8X":
            facts.alpha = bool(view[at + 8] & 0x10)
        elif name == b"ANMF" and count >= 16:
            facts.durations.append(int.from_bytes(view[at + 20 : at + 23], "little"))
        elif name == b"XMP ":
            facts.record = xmp_record(bytes(view[at + 8 : at + 8 + count]))
        at += 8 + count + count % 2
    facts.frames = max(1, len(facts.durations))
    return facts


_MARK_ONLY = {0x01, 0xD8, *range(0xD0, 0xD8)}


def jpeg(view: memoryview) -> ContainerFacts:
    """Return the facts of a JPEG."""
    facts, at = ContainerFacts(), 2
    try:
        while True:
            if view[at] != 0xFF:
                raise FormatError(f"the JPEG has no marker at byte {at}: it is damaged")
            marker = view[at + 1]
            if marker == 0xFF or marker in _MARK_ONLY:  # fill bytes, and markers without data
                at += 1 if marker == 0xFF else 2
                continue
            count = struct.unpack_from(">H", view, at + 2)[0]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                facts.depth = view[at + 4]
            if marker == 0xE1 and (found := xmp_record(bytes(view[at + 4 : at + 2 + count]))):
                facts.record = found
            if marker == 0xE2 and view[at + 4 : at + 8] == b"MPF\0":
                facts.pictures = max(facts.pictures, _pictures_of(bytes(view[at + 8 : at + 2 + count])))
            at += 2 + count
            if marker == 0xDA:
                break
    except (IndexError, struct.error) as exc:
        raise FormatError(f"the JPEG ends at byte {len(view)}, before its pixels: it is truncated") from exc
    tail = max(at, len(view) - _PAGE)
    if b"\xff\xd9" not in bytes(view[tail:]) and b"\xff\xd9" not in bytes(view[at:tail]):
        raise FormatError(f"the JPEG ends at byte {len(view)} without its end marker: it is truncated")
    return facts


def _pictures_of(index: bytes) -> int:
    """Return the number of pictures in the index of a multi-picture file (CIPA DC-007, tag 45057)."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(index[:4])
    with contextlib.suppress(struct.error):
        if order is not None:
            at = struct.unpack_from(f"{order}I", index, 4)[0]
            for k in range(struct.unpack_from(f"{order}H", index, at)[0]):
                tag, _, _, value = struct.unpack_from(f"{order}HHII", index, at + 2 + 12 * k)
                if tag == 45057:
                    return int(value)
    return 1


_XMP = re.compile(rb"<intake_img:record>(.*?)</intake_img:record>", re.S)


def xmp_record(data: bytes) -> Any:
    """Return the record in an XMP packet, or None."""
    from html import unescape

    found = _XMP.search(data)
    return plain_record(unescape(found[1].decode("utf-8", "replace"))) if found else None


_TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")


def pbm_end(head: bytes) -> int | None:
    """Return where the pixels of a PBM of packed bits (P4) end; None for other files."""
    found = re.match(rb"P4" + 2 * _TOKEN.pattern, head)
    if found is None or not (found[1].isdigit() and found[2].isdigit()):
        return None
    return found.end() + 1 + -(-int(found[1]) // 8) * int(found[2])


def netpbm(head: bytes, size: int, base: int = 0) -> Raw:
    """Return where the samples of a PGM or PPM (P5, P6) lie.

    Parameters
    ----------
    head : bytes
        The beginning of the image, with all of its header.
    size : int
        Length of the file.
    base : int
        Where in the file the image begins.
    """
    at, numbers = 2, []
    for _ in range(3):
        found = _TOKEN.match(head, at)
        if found is None or not found[1].isdigit():
            raise FormatError(f"the Netpbm header {head[:40]!r} lacks width, height or highest value")
        numbers.append(int(found[1]))
        at = found.end()
    width, height, maxval = numbers
    if not (width and height and 0 < maxval < 65536):
        raise FormatError(f"the Netpbm header says {width} x {height} pixels up to {maxval}: it is damaged")
    comment = re.search(rb"#\s*" + KEY.encode() + rb" ([^\n]*)\n", head[:at])
    shape = (height, width, 3) if head[:2] == b"P6" else (height, width)
    dtype = "|u1" if maxval < 256 else ">u2"
    need = base + at + 1 + width * height * (3 if len(shape) == 3 else 1) * (1 if maxval < 256 else 2)
    if need > size:
        raise FormatError(f"the Netpbm header states {need} bytes, the file has {size}: it is truncated or damaged")
    return Raw(base + at + 1, shape, dtype, maxval, head[:2].decode(), plain_record(comment[1]) if comment else None)
