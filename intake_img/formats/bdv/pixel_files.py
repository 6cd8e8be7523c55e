"""The files of an image of BigDataViewer: its XML, and the file or folder of its pixels."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from intake_img.errors import FormatError
from intake_img.formats.bdv.spim import Spim, parse_spim
from intake_img.formats.h5.file import SIGNATURE
from intake_img.formats.n5blocks import ATTRIBUTES
from intake_img.storage.files import File

__all__ = ["files_of", "spim_of", "stamp_of"]


@lru_cache(64)
def spim_of(xml: File, stamp: Any) -> Spim:
    """The parsed XML; `stamp` is what it looked like."""
    spim = parse_spim(xml.read())
    if spim.loader not in ("bdv.hdf5", "bdv.n5"):
        raise FormatError(f"{xml}: its pixels are of the kind {spim.loader!r}: expected 'bdv.hdf5' or 'bdv.n5'")
    return spim


def files_of(file: File) -> tuple[File, File | None]:
    """The file or folder of pixels, and the XML if there is one; `file` is one of the two."""
    if file.head(8) == SIGNATURE:
        xml = file.sibling(f"{os.path.splitext(file.name)[0]}.xml")
        return file, xml if xml.exists() and b"<SpimData" in xml.head() else None
    spim = spim_of(file, file.stamp())
    return (file.sibling(spim.path) if spim.relative else file.at(spim.path)), file


def stamp_of(file: File) -> tuple[Any, ...]:
    """Return what changes when a file, or a container of N5, is replaced."""
    if not file.local or not os.path.isdir(file.path):
        return file.stamp() if file.exists() else ()
    inside = file / ATTRIBUTES
    return (os.stat(file.path).st_ino, *(inside.stamp() if inside.exists() else ()))
