"""Recognition of slides for OpenSlide, in contrast to pictures and TIFF files with the same first bytes."""

from __future__ import annotations

from intake_img.formats.probe import Probe

__all__ = ["STARTS", "claimed", "taken_for_another"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BEGINNINGS = {
    ".mrxs": (b"\xff\xd8\xff",),
    ".scn": _TIFF,
    ".bif": _TIFF,
    ".vms": (b"[Virtual Microscope Specimen]",),
    ".vmu": (b"[Uncompressed Virtual Microscope Specimen]",),
    ".svslide": (b"SQLite format 3\0",),
}
STARTS = (*_TIFF, *(start for known in _BEGINNINGS.values() for start in known))
"""First bytes that every slide has."""
_SOFTWARE = 305


def claimed(probe: Probe) -> bool:
    """Return whether a file is a slide: by its name and first bytes, or as a TIFF of Philips, whatever its name."""
    if probe.folder:
        return False
    name = probe.name.lower()
    if any(name.endswith(e) and probe.head.startswith(known) for e, known in _BEGINNINGS.items()):
        return True
    return name.endswith((".tif", ".tiff")) and probe.file.local and _software(probe).startswith(b"Philips")


_VENDORS = {".mrxs": "mirax", ".scn": "leica", ".bif": "ventana", ".svslide": "sakura"}


def taken_for_another(name: str, vendor: str) -> bool:
    """Return whether OpenSlide takes a slide of this name for a plain TIFF, or for the slide of another vendor."""
    return any(name.lower().endswith(e) and vendor != known for e, known in _VENDORS.items())


def _software(probe: Probe) -> bytes:
    """Return the software that wrote a TIFF, from its first page; empty if that is not at its beginning."""
    count, value = probe.tiff_tags.get(_SOFTWARE, (0, 0))
    return probe.piece(value, min(count, 64)) if count > 8 else b""
