"""Which files are slides that OpenSlide is to read, and not pictures or TIFF files that they begin like."""

from __future__ import annotations

import struct

from intake_img.formats.probe import Probe

__all__ = ["claimed"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BEGINNINGS = {
    ".mrxs": (b"\xff\xd8\xff",),
    ".scn": _TIFF,
    ".bif": _TIFF,
    ".vms": (b"[Virtual Microscope Specimen]",),
    ".vmu": (b"[Uncompressed Virtual Microscope Specimen]",),
    ".svslide": (b"SQLite format 3\0",),
}
_SOFTWARE = 305
_MOST_TAGS = 100


def claimed(probe: Probe) -> bool:
    """Return whether a file is a slide: by its name and first bytes, or as a TIFF of Philips, whatever its name."""
    if probe.folder:
        return False
    name = probe.name.lower()
    if any(name.endswith(e) and probe.head.startswith(known) for e, known in _BEGINNINGS.items()):
        return True
    return name.endswith((".tif", ".tiff")) and probe.file.local and _software(probe).startswith(b"Philips")


def _software(probe: Probe) -> bytes:
    """Return the software that wrote a TIFF, from its first page; empty if that is not at its beginning."""
    if probe.head[:4] not in _TIFF:
        return b""
    order = "<" if probe.head[:2] == b"II" else ">"
    big = b"+" in probe.head[2:4]
    number, entry = (f"{order}Q", f"{order}HHQQ") if big else (f"{order}I", f"{order}HHII")
    first = struct.unpack_from(number, probe.head, 8 if big else 4)[0] if len(probe.head) >= 16 else 0
    size = struct.calcsize(entry)
    data = _piece(probe, first, 8 + size * _MOST_TAGS)
    skip = 8 if big else 2
    for at in range(skip, len(data) - size + 1, size):
        tag, _, count, value = struct.unpack_from(entry, data, at)
        if tag >= _SOFTWARE:
            return _piece(probe, value, min(count, 64)) if tag == _SOFTWARE and count > 8 else b""
    return b""


def _piece(probe: Probe, offset: int, count: int) -> bytes:
    with open(probe.file.path, "rb") as stream:
        if not 0 < offset < 2**62:
            return b""
        stream.seek(offset)
        return stream.read(count)
