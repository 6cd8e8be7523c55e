"""Raw files that are TIFF files: their pages, which LibRaw reads even where the file has ended."""

from __future__ import annotations

import io
from typing import Any

from intake_img.errors import FormatError
from intake_img.storage.files import File

__all__ = ["DNG_VERSION", "TIFF", "check_whole"]

TIFF = (b"II*\0", b"MM\0*")
DNG_VERSION = 50706
"""The tag that every DNG has."""
_MOST = 64  # pages and previews


def check_whole(data: bytes, file: File) -> None:
    """Raise `FormatError` for a TIFF that ends before the pixels of a page, which LibRaw does not mind."""
    if not data.startswith(TIFF):
        return
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        pages: list[Any] = list(tif.pages)
        for page in pages:
            pages += list(page.pages or ())[: _MOST - len(pages)]
            ends = (a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False))
            if (end := max(ends, default=0)) > len(data):
                raise FormatError(
                    f"{file}: the header states pixels up to byte {end}, the file ends at {len(data)}: truncated"
                )
