"""The segments of a CZI file: its directory, metadata and list of attachments, also of a file that was cut off.

The header points to these segments. Where the directory is lost (it is often the last segment, and an acquisition that
was interrupted has none), it is rebuilt from the subblocks, each of which carries a copy of its entry. Format: ZEISS,
"CZI image file format", DS_ZISRAW-FileFormat.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.czi.directory_entries import entry_size
from intake_img.formats.czi.index import Directory, parse_directory
from intake_img.storage.files import ByteReader
from intake_img.storage.jail import METADATA_BYTES

__all__ = ["Contents", "contents_of"]

_FILE = struct.Struct("<iiii16s16siqqiq")
_SEGMENT = struct.Struct("<16sqq")  # identifier, allocated and used size
_DIRECTORY, _METADATA, _ATTACHMENTS = b"ZISRAWDIRECTORY", b"ZISRAWMETADATA", b"ZISRAWATTDIR"
_LEADS = {_DIRECTORY: 160, _METADATA: 288, _ATTACHMENTS: 288}  # bytes of a segment before its contents
_HEAD = 512  # bytes of a segment that are looked at: those of an entry of 21 dimensions
_SUBBLOCK = 32 + 256  # bytes of a subblock, at least
_ATTACHMENT = 32 + 256  # bytes of an attachment, at least
_MOST_LOCAL, _MOST_REMOTE = 2**20, 1000  # segments of a file without a directory


@dataclass(frozen=True)
class Contents:
    """What a file contains besides pixels.

    Parameters
    ----------
    version : tuple of int
    index : Directory
    xml : str
        Empty if there is none.
    attachments : dict of str to int
        Offset of each attachment.
    """

    version: tuple[int, int]
    index: Directory
    xml: str
    attachments: dict[str, int]


class _Found(NamedTuple):
    """The contents of a segment, and the number at their beginning: of entries or bytes."""

    data: bytes
    number: int


class _Scan(NamedTuple):
    """The entries of complete subblocks, where metadata are, and how far the segments reach."""

    entries: list[bytes]
    places: dict[bytes, int]
    stop: int


def contents_of(source: ByteReader) -> Contents:
    """Return what a file contains, with a warning if some of it is lost.

    Raises
    ------
    FormatError
        If it is not a CZI file, or contains no complete subblock.
    """
    size = source.size
    if size < 112:
        raise FormatError(f"{source.file}: {size} bytes are too few for a CZI file: it is truncated")
    head = source.ranges([0], [112])[0]
    if head[:10] != b"ZISRAWFILE":
        raise FormatError(f"{source.file}: begins with {head[:10]!r}, expected b'ZISRAWFILE'")
    major, minor, *_, directory, metadata, _, attachments = _FILE.unpack_from(head, 32)
    found = _segments(source, {_DIRECTORY: directory, _METADATA: metadata, _ATTACHMENTS: attachments})
    index, lacking = _directory(source, found)
    if (metadata or lacking) and _METADATA not in found:
        lacking.append("its metadata are lost: names of channels and spacing are unknown")
    listed = _attachments(found[_ATTACHMENTS].data if _ATTACHMENTS in found else b"")
    kept = {name: place for name, place in listed.items() if place <= size - _ATTACHMENT}
    if (attachments > 0 and _ATTACHMENTS not in found) or len(kept) < len(listed):
        lacking.append("attachments are lost, such as times")
    if lacking:
        warn(f"{source.file}: {'; '.join(lacking)}")
    xml = found[_METADATA].data if _METADATA in found else b""
    return Contents((major, minor), index, xml.decode("utf-8", "replace").strip("\0\ufeff \r\n"), kept)


def _segments(source: ByteReader, positions: dict[bytes, int]) -> dict[bytes, _Found]:
    """Return the segments that are where the header says, and that are complete enough."""
    there = {k: p for k, p in positions.items() if 0 < p <= source.size - _LEADS[k]}
    heads = source.ranges(list(there.values()), [_LEADS[k] for k in there])
    places, counts = {}, {}
    for (kind, position), head in zip(there.items(), heads, strict=True):
        name, allocated, used = _SEGMENT.unpack_from(head)
        if name.rstrip(b"\0") != kind:
            continue
        start, rest = position + _LEADS[kind], source.size - position - _LEADS[kind]
        count = counts[kind] = int.from_bytes(head[32:36], "little", signed=True)
        if kind == _METADATA:
            if 0 <= count <= min(rest, METADATA_BYTES):  # a part of the text would be useless
                places[kind] = start, count
            continue
        segment = used if used > 0 else max(0, allocated)
        length = 128 * count if kind == _ATTACHMENTS else segment + 32 - _LEADS[kind]
        places[kind] = start, max(0, min(length, rest))
    bodies = source.ranges([p for p, _ in places.values()], [n for _, n in places.values()])
    return {kind: _Found(data, counts[kind]) for kind, data in zip(places, bodies, strict=True)}


def _attachments(entries: bytes) -> dict[str, int]:
    """Return the offset of each attachment by its name."""
    found = {}
    for at in range(0, len(entries) - 127, 128):
        if entries[at : at + 2] == b"A1":
            name = entries[at + 48 : at + 128].split(b"\0", 1)[0].decode("utf-8", "replace")
            found[name] = int.from_bytes(entries[at + 12 : at + 20], "little", signed=True)
    return found


# the directory


def _directory(source: ByteReader, found: dict[bytes, _Found]) -> tuple[Directory, list[str]]:
    """Return the directory, and what a warning says of lost subblocks; metadata that are met are added to `found`."""
    try:
        if _DIRECTORY not in found:
            raise FormatError("there is no directory of subblocks where its header points to")
        index = parse_directory(*found[_DIRECTORY])
        if (index.position < 0).any():
            raise FormatError("the directory points before the beginning of the file: it is damaged")
    except FormatError as exc:
        return _rebuilt(source, found, exc, _scanned(source))
    held = _complete(source, index.position)
    if held.all():
        return index, []
    count = int(np.count_nonzero(held))
    if source.file.local and len((scan := _scanned(source)).entries) > count:
        why = FormatError("the directory points beyond the end, but part of the data exists")
        return _rebuilt(source, found, why, scan)
    if not count:
        raise FormatError(f"it contains none of its {len(index)} subblocks: it is truncated")
    return (
        replace(index, held=held),
        [f"it was cut off: {count} of its {len(index)} subblocks are there, the pixels of others are 0 (valid_mask)"],
    )


def _complete(source: ByteReader, positions: np.ndarray) -> np.ndarray:
    """Return a mask of the subblocks that do not reach beyond the end of the file.

    Only the last one that begins within it may do so. Of a remote file it is looked at if others are missing.
    """
    there = positions <= source.size - _SUBBLOCK
    if there.any() and (source.file.local or not there.all()):
        last = positions[there].max()
        head = source.ranges([int(last)], [48])[0]
        metadata, _, data = struct.unpack_from("<iiq", head, 32)
        if head.startswith(b"ZISRAWSUBBLOCK") and last + _SUBBLOCK + max(0, metadata) + max(0, data) > source.size:
            there &= positions != last
    return there


def _rebuilt(
    source: ByteReader, found: dict[bytes, _Found], why: FormatError, scan: _Scan
) -> tuple[Directory, list[str]]:
    """Return a directory made of the copies of its entries that subblocks carry."""
    entries, places, stop = scan
    if not entries:
        raise why
    if _METADATA not in found:
        found |= _segments(source, places)
    said = f"{why}; it was cut off, its acquisition was interrupted, or it is damaged: its {len(entries)} complete "
    said += f"subblocks (up to byte {stop} of {source.size}) are read, and pixels of others are 0 (valid_mask)"
    return parse_directory(b"".join(entries), len(entries)), [said]


def _scanned(source: ByteReader) -> _Scan:
    """Follow the segments of a file."""
    most = _MOST_LOCAL if source.file.local else _MOST_REMOTE
    entries: list[bytes] = []
    places: dict[bytes, int] = {}
    at, tail = 0, b""
    for _ in range(most):
        if at > source.size - 32:
            return _Scan(entries, places, min(at, source.size))
        head = source.ranges([at], [min(_HEAD, source.size - at)])[0]
        name, allocated, used = _SEGMENT.unpack_from(head)
        if not name.startswith((b"ZISRAW", b"DELETED")) or max(allocated, used) <= 0:
            if tail and not tail.strip(b"\0"):  # space that was reserved and not filled
                entries.pop()
            return _Scan(entries, places, at)
        entry, tail = _entry(source, at, head) if name.startswith(b"ZISRAWSUBBLOCK") else (b"", b"")
        entries += [entry] if entry else []
        if name.rstrip(b"\0") == _METADATA:
            places[_METADATA] = at
        at += 32 + (allocated if allocated > 0 else used)
    advice = "it is damaged" if source.file.local else "copy it to a local disk first"
    raise FormatError(f"more than {most} segments and no directory of them: {advice}")


def _entry(source: ByteReader, at: int, head: bytes) -> tuple[bytes, bytes]:
    """Return the entry of a subblock, with its position, and its last bytes; nothing if it is not complete."""
    if len(head) < 48 + entry_size(0):
        return b"", b""
    metadata, _, data = struct.unpack_from("<iiq", head, 32)
    length = entry_size(int.from_bytes(head[48 + 28 : 48 + 32], "little", signed=True))
    stop = at + 32 + max(256, 16 + length) + metadata + data
    if head[48:50] != b"DV" or not entry_size(1) <= length <= len(head) - 48 or min(metadata, data) < 0:
        return b"", b""
    if stop > source.size:
        return b"", b""
    return head[48:54] + struct.pack("<q", at) + head[62 : 48 + length], source.ranges([stop - 32], [32])[0]
