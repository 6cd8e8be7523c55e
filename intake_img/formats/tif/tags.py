"""Guards of a TIFF file's directories: chains of pages that end, and tags whose types can hold what they are for.

tifffile goes on where a directory is damaged; what would give wrong pixels is refused here, before it is used.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError

if TYPE_CHECKING:
    import tifffile

__all__ = ["check_chain", "check_tags"]

# geometry, place and coding of pixels: whole numbers, one of most
_SCALARS = {256: "ImageWidth", 257: "ImageLength", 259: "Compression", 262: "PhotometricInterpretation",
            266: "FillOrder", 277: "SamplesPerPixel", 284: "PlanarConfiguration", 317: "Predictor", 322: "TileWidth",
            323: "TileLength", 32997: "ImageDepth", 32998: "TileDepth"}  # fmt: skip
_ARRAYS = {258: "BitsPerSample", 273: "StripOffsets", 278: "RowsPerStrip", 279: "StripByteCounts", 324: "TileOffsets",
           325: "TileByteCounts", 330: "SubIFDs", 338: "ExtraSamples", 339: "SampleFormat",
           530: "YCbCrSubSampling"}  # fmt: skip
_NAMES = {**_SCALARS, **_ARRAYS}
_PLACES = {273, 279, 324, 325, 330}
_INTEGERS = {3: "SHORT", 4: "LONG", 8: "SSHORT", 9: "SLONG", 13: "IFD"}
_WIDE = {16: "LONG8", 17: "SLONG8", 18: "IFD8"}  # of BigTIFF, but some classic files have them for places


def check_chain(tif: tifffile.TiffFile, name: object) -> None:
    """Raise `FormatError` if the pages are not a chain that ends, or a tag of one cannot be what it is for.

    Stacks that ImageJ stores as one piece are left alone: nobody reads their further pages.
    """
    check_tags(tif.pages.first, name)
    if not tif.pages.is_multipage or _imagej_piece(tif):
        return
    fh, tiff = tif.filehandle, tif.tiff
    size, seek, read = fh.size, fh.seek, fh.read
    number, link = struct.Struct(tiff.tagnoformat), struct.Struct(tiff.offsetformat)
    offset = tif.pages.first.offset
    seen: set[int] = set()
    sound: set[bytes] = set()
    while offset:
        if offset in seen:
            raise FormatError(f"{name}: the pages form a circle, page {len(seen)} leads back: the file is damaged")
        seen.add(offset)
        seek(offset)
        head = read(number.size)
        tags = number.unpack(head)[0] if len(head) == number.size else 0
        if not 0 < tags <= 4096:
            raise FormatError(f"{name}: page {len(seen) - 1} is damaged or cut off: no tags at byte {offset}")
        data = read(tags * tiff.tagsize + link.size)
        if len(data) != tags * tiff.tagsize + link.size:
            raise FormatError(f"{name}: the file ends within page {len(seen) - 1}: it is truncated")
        _check_entries(data[: tags * tiff.tagsize], tiff, sound, f"{name}: page {len(seen) - 1}")
        offset = link.unpack(data[-link.size :])[0]
        if offset >= size:
            raise FormatError(f"{name}: page {len(seen)} would begin at byte {offset}, but the file ends at {size}")


def check_tags(page: tifffile.TiffPage, name: object) -> None:
    """Raise `FormatError` if a tag of a page that tells where or how pixels are stored cannot do so."""
    for tag in page.tags:
        _check(tag.code, int(tag.dtype), tag.count, page.parent.is_bigtiff, f"{name}: page {page.index}")


def _check_entries(entries: bytes, tiff: Any, sound: set[bytes], page: str) -> None:
    """Do the same for the entries of a directory; `sound` holds those that were checked, without their values."""
    plain = np.frombuffer(entries, np.uint8).reshape(-1, tiff.tagsize)[:, : 4 + tiff.offsetsize].tobytes()
    if plain in sound:
        return
    count = "u8" if tiff.is_bigtiff else "u4"
    fields = np.dtype([("code", "u2"), ("type", "u2"), ("count", count)]).newbyteorder(tiff.byteorder)
    for code, kind, number in np.frombuffer(plain, fields).tolist():
        _check(code, kind, number, tiff.is_bigtiff, page)
    sound.add(plain)


def _check(code: int, kind: int, count: int, bigtiff: bool, page: str) -> None:
    if code not in _NAMES:
        return
    if kind not in _INTEGERS and not (kind in _WIDE and (bigtiff or code in _PLACES)):
        expected = ", ".join({**_INTEGERS, **(_WIDE if bigtiff else {})}.values())
        problem = f"has the type {kind}: expected an integer type ({expected})"
    elif count == 0 or (count != 1 and code in _SCALARS):
        problem = f"has {count} values: expected 1"
    else:
        return
    raise FormatError(f"{page}: the tag {_NAMES[code]} ({code}) {problem}; the file is damaged")


def _imagej_piece(tif: tifffile.TiffFile) -> bool:
    page = tif.pages.first
    if not (tif.is_imagej and page.is_final and page.dataoffsets):
        return False
    facts = tif.imagej_metadata or {}
    sizes = [facts.get(k, 1) for k in ("frames", "slices", "channels")]
    if not all(isinstance(n, int) and n > 0 for n in [*sizes, facts.get("images", 1)]):
        return False
    images = max(math.prod(sizes), facts.get("images", 1), 2)
    return bool(page.dataoffsets[0] + images * page.nbytes <= tif.pages[1].offset)
