"""Images of OME-TIFF put together from the document: planes in several files, companions, planes that are missing.

tifffile assembles images whose planes are all in one file; here is what it does not understand. What a document
promises and the files do not contain is left out with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.tif.index import StoredPages
from intake_img.formats.tif.ome import OmeDocument, OmeImage, TiffData
from intake_img.storage.files import File

if TYPE_CHECKING:
    import tifffile

__all__ = ["assembled", "coloured", "is_absurd", "no_planes"]

_MANY = 10**5  # planes that a document may promise, however few there are
_SHARE = 100  # times the number of pages that it may promise


def assembled(
    document: OmeDocument, file: File, tif: tifffile.TiffFile | None, member: Callable[[File], tifffile.TiffFile]
) -> list[tuple[OmeImage, StoredPages]]:
    """Return the images of a document that have planes, with the positions of these in the files that it names.

    Parameters
    ----------
    document : OmeDocument
    file : File
        The file at hand.
    tif : tifffile.TiffFile or None
        The same, opened; None for a companion file, which contains no pixels.
    member : callable
        Opens a further file.

    Raises
    ------
    FormatError
        If pages of one image differ in shape or dtype, or no file has a plane.
    """
    planes = _Planes(document, file, tif, member)
    found, empty = [], []
    for ome in document.images:
        pages, files = planes.of_image(ome)
        key = next((p for p in pages if p is not None), None)
        if key is None:
            empty.append(ome.name)
            continue
        if odd := next((p for p in pages if p is not None and p.hash != key.hash), None):
            raise FormatError(f"{file}: pages of {ome.name!r} differ: {key.shape} {key.dtype}, {odd.shape} {odd.dtype}")
        found.append((ome, _array(ome, pages, key, files)))
    planes.report()
    if found and empty:
        warn(f"{file}: {no_planes(empty)}")
    return found


def no_planes(names: Sequence[str]) -> str:
    """Return what to say of images that have no plane in the files there are."""
    return f"its OME-XML lists {len(names)} images of which no plane is here: {_listed(names)}"


def coloured(document: OmeDocument, page: tifffile.TiffPage) -> OmeDocument:
    """Return the document with channels as the colours of RGB pages, where it counts them as planes."""
    if int(page.photometric) not in (2, 6) or not document.is_simple(page.parent.filename):
        return document
    images = tuple(image.with_samples(page.samplesperpixel) for image in document.images)
    same = all(a is b for a, b in zip(images, document.images, strict=True))
    return document if same else replace(document, images=images)


def is_absurd(document: OmeDocument, pages: int) -> bool:
    """True if an image has far more planes than files with this many pages can hold."""
    return any(
        math.prod(ome.sizes[a] for a in ome.order[:-2]) > max(_MANY, _SHARE * pages * (1 + len(ome.data)))
        for ome in document.images
    )


class _Planes:
    """Finds the pages of planes, and records missing ones."""

    def __init__(
        self,
        document: OmeDocument,
        file: File,
        tif: tifffile.TiffFile | None,
        member: Callable[[File], tifffile.TiffFile],
    ) -> None:
        self.file, self.tif, self.open = file, tif, member
        self.others: Mapping[str, str] = document.members(file.name if tif is not None else "")
        self.members: dict[str, tifffile.TiffFile | None] = {}
        self.before = 0

    def of_image(self, ome: OmeImage) -> tuple[list[Any], list[File]]:
        """Return the page and file of each plane; without TiffData, the pages of this file after earlier images."""
        lead = ome.order[:-2]
        shape = tuple(ome.sizes[a] for a in lead)
        pages: list[Any] = [None] * math.prod(shape)
        files = [self.file] * len(pages)
        for data in ome.data or (TiffData(self.before, None, dict.fromkeys(lead, 0), None, None),):
            file, tif = self.member(data)
            first = [data.first[a] for a in lead]
            if tif is None or data.ifd < 0 or not all(0 <= at < n for at, n in zip(first, shape, strict=True)):
                continue
            start = int(np.ravel_multi_index(first, shape))
            left = max(len(tif.pages) - data.ifd, 0)
            for k in range(min(left if data.count is None else min(data.count, left), len(pages) - start)):
                pages[start + k], files[start + k] = tif.pages.get(data.ifd + k), file
        self.before += len(pages)
        return pages, files

    def member(self, data: TiffData) -> tuple[File, tifffile.TiffFile | None]:
        name = self.others.get(data.uuid or data.filename or "")
        if not name:
            return self.file, self.tif
        file = self.file.sibling(name)
        if name not in self.members:
            self.members[name] = self.open(file) if file.exists() else None
        return file, self.members[name]

    def report(self) -> None:
        missing = sorted(name for name, tif in self.members.items() if tif is None)
        if missing:
            warn(
                f"{self.file} is part of a set of files, of which {len(missing)} are missing: {_listed(missing)}; put "
                "all of them into one folder"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (", …" if len(names) > 5 else "")


def _array(ome: OmeImage, pages: list[Any], key: Any, files: list[File]) -> StoredPages:
    axes = ome.order[:-2].upper()
    shape = tuple(ome.sizes[a] for a in ome.order[:-2])
    several = any(f is not files[0] for f in files) or any(p is not None and p.parent is not key.parent for p in pages)
    return StoredPages(axes + key.axes, shape + tuple(key.shape), pages, key, files if several else None)
