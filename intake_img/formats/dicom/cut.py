"""DICOM files of several frames that were cut off: which frames are complete, and where they lie.

Format: DICOM PS3.5, Annex A.4 (frames in fragments, each an item with its length; a basic offset table in front says
where each frame begins; a delimiter behind the last one).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.dicom.header import DicomHeader, text, whole_number
from intake_img.storage.files import ByteReader

__all__ = ["decoded_alone", "with_held_frames"]

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_RLE = "1.2.840.10008.1.2.5"
_MARKER = b"\xff\xd9"  # the end of a JPEG, JPEG-LS or JPEG 2000 stream
_MOST_LOCAL, _MOST_REMOTE = 2**20, 1000  # fragments

Fragment = tuple[int, int]
"""Offset and length of the data of a fragment."""


@dataclass(frozen=True)
class _Walk:
    """The offset table, the complete fragments, where they begin and whether they end with the delimiter."""

    table: Sequence[int]
    fragments: list[Fragment]
    start: int
    ends: bool


def with_held_frames(header: DicomHeader, source: ByteReader) -> DicomHeader:
    """Return the header with the number of frames that the file contains, and a warning if some are lost.

    Raises
    ------
    FormatError
        If it contains none of several frames.
    """
    stated = header.frames
    if stated < 2 or not header.holds_pixels or header.start is None:
        return header
    frames: list[list[Fragment]] | None = None
    if header.place is not None:
        held = _native(header, source.size)
    else:
        frames = _framed(header, source)
        held = stated if frames is None else len(frames)
    if held >= stated:
        return header
    if not held:
        raise FormatError(f"{header.file}: none of its {stated} frames is complete: it is truncated or damaged")
    others = "pixels of the others are 0 (valid_mask)" if "TotalPixelMatrixColumns" in header.item else "these are read"
    warn(f"{header.file} was cut off: it contains {held} of {stated} frames; {others}")
    return replace(header, held=held, fragments=None if frames is None else tuple(tuple(f) for f in frames))


def _native(header: DicomHeader, size: int) -> int:
    """Return how many frames the bytes of the pixels are, at most as many as there should be."""
    item, (offset, length) = header.item, header.place or (0, 0)
    names = ("Rows", "Columns", "BitsAllocated")
    bits = math.prod(whole_number(item, name) for name in names) * whole_number(item, "SamplesPerPixel", 1)
    if bits < 1 or "422" in text(item, "PhotometricInterpretation"):
        return header.frames
    return min(header.frames, 8 * min(length, max(0, size - offset)) // bits)


# frames in fragments


def _framed(header: DicomHeader, source: ByteReader) -> list[list[Fragment]] | None:
    """Return the fragments of each complete frame; None if the pixels end as they should."""
    start = header.start or 0
    if source.size - 8 >= start and source.ranges([source.size - 8], [4])[0] == _END:
        return None
    walk = _walked(source, start)
    if walk is None or walk.ends:
        return None
    offsets = list(walk.table)
    if offsets and len(offsets) == header.frames and offsets[0] == 0 and (np.diff(offsets) > 0).all():
        return _by_table(walk, offsets)
    if header.syntax == _RLE or "ExtendedOffsetTable" in header.item:  # one fragment for each
        return [[f] for f in walk.fragments]
    return _by_markers(source, walk.fragments)


def _walked(source: ByteReader, start: int) -> _Walk | None:
    """Follow the fragments; None if what is met is no fragment, or, with a warning, if they are too many to follow."""
    table: Sequence[int] = ()
    fragments: list[Fragment] = []
    at, first = start, start
    most = _MOST_LOCAL if source.file.local else _MOST_REMOTE
    for number in range(most):
        if at + 8 > source.size:
            return _Walk(table, fragments, first, False)
        head = source.ranges([at], [8])[0]
        length = int.from_bytes(head[4:], "little")
        if head[:4] == _END:
            return _Walk(table, fragments, first, True)
        if head[:4] != _ITEM:
            return None
        if at + 8 + length > source.size:
            return _Walk(table, fragments, first, False)
        if number:
            fragments.append((at + 8, length))
        else:
            table = np.frombuffer(source.ranges([at + 8], [length // 4 * 4])[0], "<u4").tolist()
            first = at + 8 + length
        at += 8 + length
    advice = "" if source.file.local else "; copy it to a local disk to find out"
    warn(
        f"{source.file}: more than {most} fragments of pixels and no end of them in the last bytes: it may have been "
        f"cut off{advice}"
    )
    return None


def _by_table(walk: _Walk, offsets: Sequence[int]) -> list[list[Fragment]]:
    """Return the fragments of the frames whose successor begins where a complete fragment ends.

    The last frame is complete with its first fragment if all others have only one.
    """
    begins = np.asarray(offsets) + walk.start
    frames: list[list[Fragment]] = [[] for _ in offsets]
    for place, length in walk.fragments:
        frames[int(begins.searchsorted(place - 8, "right")) - 1].append((place, length))
    end = sum(walk.fragments[-1]) if walk.fragments else 0
    whole = int(np.count_nonzero(begins[1:] <= end))
    alone = all(len(f) == 1 for f in frames)
    return frames[: len(frames) if alone else whole]


def _by_markers(source: ByteReader, fragments: Sequence[Fragment]) -> list[list[Fragment]]:
    """Return the fragments of frames that end with the marker of an end, as pydicom does without a table."""
    tails = source.ranges([max(o, o + n - 10) for o, n in fragments], [min(10, n) for _, n in fragments])
    frames: list[list[Fragment]] = [[]]
    for fragment, tail in zip(fragments, tails, strict=True):
        frames[-1].append(fragment)
        if _MARKER in tail:
            frames.append([])
    return frames[:-1]


def decoded_alone(header: DicomHeader, data: bytes) -> np.ndarray:
    """Return the pixels of one frame of a file that was cut off, which pydicom would refuse.

    Parameters
    ----------
    header : DicomHeader
    data : bytes
        The frame as it is stored.
    """
    from pydicom import encaps, pixels

    ds: Any = copy.copy(header.ds)
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if name in ds:
            del ds[name]
    ds.NumberOfFrames = 1
    ds.PixelData = data if header.fragments is None else encaps.encapsulate([data])
    ds["PixelData"].VR = "OB" if header.fragments is not None or ds.BitsAllocated <= 8 else "OW"
    return pixels.pixel_array(ds, index=0)
