"""Values of a tag on many pages, read from their directories without creating tifffile's objects.

tifffile keeps the tags of the first page alone where pages are alike.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tifffile

__all__ = ["page_texts", "page_values"]

_MOST = 4096  # pages; with more, opening a file would take long
_LONGEST = 2**20  # bytes of one value
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def page_values(tif: tifffile.TiffFile, places: Sequence[int], code: int) -> list[bytes] | None:
    """Return the bytes of a tag for each of the directories at the offsets `places`; None unless all of them have it.

    Also None for more than 4096 pages, or values longer than 1 MiB.
    """
    if len(places) > _MOST:
        return None
    found: list[bytes] = []
    for place in places:
        value = _value(tif, place, code)
        if value is None:
            return None
        found.append(value)
    return found


def page_texts(tif: tifffile.TiffFile, places: Sequence[int], code: int) -> list[str] | None:
    """Return a tag as text for each of the directories at the offsets `places`; see `page_values`."""
    values = page_values(tif, places, code)
    return None if values is None else [v.partition(b"\0")[0].decode("utf-8", "replace").strip() for v in values]


def _value(tif: tifffile.TiffFile, place: int, code: int) -> bytes | None:
    fh, tiff = tif.filehandle, tif.tiff
    order, wide = tiff.byteorder, tiff.is_bigtiff
    number = struct.Struct(tiff.tagnoformat)
    entry = struct.Struct(order + ("HHQ8s" if wide else "HHI4s"))
    fh.seek(place)
    head = fh.read(number.size)
    count = min(number.unpack(head)[0], 4096) if len(head) == number.size else 0
    data = fh.read(count * entry.size)
    for own, kind, n, value in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
        if own == code:
            return _bytes(tif, n * _SIZES.get(kind, _LONGEST), value)
    return None


def _bytes(tif: tifffile.TiffFile, size: int, value: bytes) -> bytes | None:
    if size <= len(value):
        return value[:size]
    if size > _LONGEST:
        return None
    tif.filehandle.seek(struct.unpack(tif.tiff.offsetformat, value)[0])
    found = tif.filehandle.read(size)
    return found if len(found) == size else None
