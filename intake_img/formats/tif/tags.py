"""Guards of a TIFF file's directories: chains of pages that end, and tags whose types can store what they are for.

tifffile goes on where a directory is damaged; what would give wrong pixels is refused here, before it is used.
"""

from __future__ import annotations

import math
import re
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError

if TYPE_CHECKING:
    import tifffile

__all__ = ["VITAL", "check_chain", "check_tags", "metadata_name", "unfinished_run"]

# geometry, place and coding of pixels: whole numbers, one of most
_SCALARS = {
    256: "ImageWidth",
    257: "ImageLength",
    259: "Compression",
    262: "PhotometricInterpretation",
    266: "FillOrder",
    277: "SamplesPerPixel",
    284: "PlanarConfiguration",
    317: "Predictor",
    322: "TileWidth",
    323: "TileLength",
    32997: "ImageDepth",
    32998: "TileDepth",
}
_ARRAYS = {
    258: "BitsPerSample",
    273: "StripOffsets",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    324: "TileOffsets",
    325: "TileByteCounts",
    330: "SubIFDs",
    338: "ExtraSamples",
    339: "SampleFormat",
    530: "YCbCrSubSampling",
}
_NAMES = {**_SCALARS, **_ARRAYS}
VITAL = frozenset({*_NAMES, 347})
"""Tags without which the pixels are others."""
_METADATA = {
    270: "ImageDescription",
    282: "XResolution",
    283: "YResolution",
    296: "ResolutionUnit",
    33628: "UIC1Tag",
    33629: "UIC2Tag",
    33630: "UIC3Tag",
    33631: "UIC4Tag",
    34412: "CZ_LSMINFO",
    50838: "IJMetadataByteCounts",
    50839: "IJMetadata",
    51123: "MicroManagerMetadata",
    65100: "the record of intake_img",
}
_PLACES = {273, 279, 324, 325, 330}
_INTEGERS = {3: "SHORT", 4: "LONG", 8: "SSHORT", 9: "SLONG", 13: "IFD"}
_WIDE = {16: "LONG8", 17: "SLONG8", 18: "IFD8"}  # of BigTIFF, but some classic files use them for offsets


def metadata_name(error: str) -> str | None:
    """Return the tag that tifffile could not read, as it logs it, if that is one whose metadata are used."""
    found = re.search(r"TiffTag (\d+) @", error)
    code = int(found[1]) if found else 0
    return f"{_METADATA[code]} ({code})" if code in _METADATA else None


def check_chain(tif: tifffile.TiffFile, name: object) -> tuple[list[int], str]:
    """Return the offsets of all pages, and what is wrong where their chain ends, or raise `FormatError` for bad tags.

    Of stacks that ImageJ stores as one piece, further pages may be damaged, as long as nobody needs them. A run of
    Micro-Manager that was interrupted ends where the next page was never written.
    """
    check_tags(tif.pages.first, name)
    first = int(tif.pages.first.offset)
    if not tif.pages.is_multipage:
        return [first], ""
    piece = _imagej_piece(tif)
    pages, problem = _walk(tif, name, not piece)
    if problem and not unfinished_run(tif) and not tif.is_mmstack:  # which has an index of its own
        return ([first], "") if piece else (pages, problem)
    return pages, ""


def unfinished_run(tif: tifffile.TiffFile) -> bool:
    """True for a stack of Micro-Manager whose writer was stopped before it wrote the index of planes."""
    if not tif.pages.first.is_micromanager:
        return False
    facts = tif.micromanager_metadata or {}
    return facts.get("MajorVersion", 0) < 2 and "Summary" in facts and "IndexMap" not in facts


def _walk(tif: tifffile.TiffFile, name: object, check: bool) -> tuple[list[int], str]:
    """Return the offsets of the pages up to the end of the chain, or up to a problem, which is returned as well."""
    fh, tiff = tif.filehandle, tif.tiff
    size, seek, read = fh.size, fh.seek, fh.read
    number, link = struct.Struct(tiff.tagnoformat), struct.Struct(tiff.offsetformat)
    offset = int(tif.pages.first.offset)
    seen: dict[int, None] = {}
    sound: set[bytes] = set()
    while offset:
        if offset in seen:
            raise FormatError(f"{name}: the pages form a circle, page {len(seen)} leads back: the file is damaged")
        if offset >= size:
            return list(seen), f"page {len(seen)} would begin at byte {offset}, but the file ends at {size}"
        seek(offset)
        head = read(number.size)
        tags = number.unpack(head)[0] if len(head) == number.size else 0
        if not 0 < tags <= 4096:
            return list(seen), f"page {len(seen)} is damaged or cut off: no tags at byte {offset}"
        data = read(tags * tiff.tagsize + link.size)
        if len(data) != tags * tiff.tagsize + link.size:
            return list(seen), f"the file ends within page {len(seen)}: it is truncated"
        if check:
            _check_entries(data[: tags * tiff.tagsize], tiff, sound, name, len(seen))
        seen[offset] = None
        offset = link.unpack(data[-link.size :])[0]
    return list(seen), ""


def check_tags(page: tifffile.TiffPage, name: object) -> None:
    """Raise `FormatError` if a tag that states where or how pixels of a page are stored is invalid."""
    bigtiff = page.parent.is_bigtiff
    for tag in page.tags:
        if tag.code in _NAMES:
            _check(tag.code, int(tag.dtype), tag.count, bigtiff, name, page.index)


def _check_entries(entries: bytes, tiff: Any, sound: set[bytes], name: object, page: int) -> None:
    """Do the same for the entries of a directory; `sound` contains those that were checked, without their values."""
    bigtiff = tiff.is_bigtiff
    plain = np.frombuffer(entries, np.uint8).reshape(-1, tiff.tagsize)[:, : 12 if bigtiff else 8].tobytes()
    if plain in sound:
        return
    for code, kind, count in struct.iter_unpack(f"{tiff.byteorder}HH{'Q' if bigtiff else 'I'}", plain):
        if code in _NAMES:
            _check(code, kind, count, bigtiff, name, page)
    sound.add(plain)


def _check(code: int, kind: int, count: int, bigtiff: bool, name: object, page: int) -> None:
    if kind not in _INTEGERS and not (kind in _WIDE and (bigtiff or code in _PLACES)):
        expected = ", ".join({**_INTEGERS, **(_WIDE if bigtiff else {})}.values())
        problem = f"has the type {kind}: expected an integer type ({expected})"
    elif count == 0 or (count != 1 and code in _SCALARS):
        problem = f"has {count} values: expected 1"
    else:
        return
    raise FormatError(f"{name}: page {page}: the tag {_NAMES[code]} ({code}) {problem}; the file is damaged")


def _imagej_piece(tif: tifffile.TiffFile) -> bool:
    page = tif.pages.first
    if not (tif.is_imagej and page.is_final and page.dataoffsets):
        return False
    facts = tif.imagej_metadata or {}
    sizes = [facts.get(k, 1) for k in ("frames", "slices", "channels")]
    if not all(isinstance(n, int) and n > 0 for n in [*sizes, facts.get("images", 1)]):
        return False
    images = max(math.prod(sizes), facts.get("images", 1), 2)
    return bool(page.dataoffsets[0] + images * page.nbytes <= _second_page(tif))


def _second_page(tif: tifffile.TiffFile) -> int:
    """Return the offset of the second page, without its tags, which tifffile would parse; 0 if there is none."""
    fh, tiff = tif.filehandle, tif.tiff
    number, link = struct.Struct(tiff.tagnoformat), struct.Struct(tiff.offsetformat)
    fh.seek(int(tif.pages.first.offset))
    (tags,) = number.unpack(fh.read(number.size))
    (offset,) = link.unpack(fh.read(tags * tiff.tagsize + link.size)[-link.size :])
    return int(offset)
