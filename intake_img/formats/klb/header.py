"""The header of a Keller Lab Block file.

Layout: F. Amat et al., Nature Protocols 10, 1679 (2015), and imageIO.h of
https://github.com/JaneliaSciComp/keller-lab-block-filetype: a version, sizes and pixel sizes of x, y, z, c, t, types,
256 bytes of metadata, sizes of a block, and where each block ends.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.volumes import exact_standin, spacing_in
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["BZIP2", "HEADER_SIZE", "PLAIN", "VERSION", "ZLIB", "KlbHeader", "fixed_part", "header_of"]

PLAIN, BZIP2, ZLIB = range(3)
VERSION = 2
_HEAD = struct.Struct("<B5I5f2B256s5I")
HEADER_SIZE = _HEAD.size
_DTYPES = ("u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f4", "<f8")
_MARK = b"intake_img record: "
"""Text in the metadata field of files with a record after the last block; its length follows."""


@dataclass(frozen=True)
class KlbHeader:
    """The header. Sizes, steps (pixel sizes) and blocks are in the order x, y, z, c, t."""

    sizes: tuple[int, ...]
    steps: tuple[float, ...]
    kind: int
    packing: int
    blocks: tuple[int, ...]
    note: bytes = b""

    @classmethod
    def parse(cls, data: bytes, file: File) -> KlbHeader:
        """Return the header in the first bytes of a file."""
        version, *head = _HEAD.unpack(data)
        kind, packing, note = head[10:13]
        found = cls(tuple(head[:5]), tuple(head[5:10]), kind, packing, tuple(head[13:]), note.rstrip(b"\0"))
        if version != VERSION or not found.is_possible():
            raise FormatError(
                f"{file}: version {version}, data type {found.kind}, compression {found.packing}, sizes {found.sizes}, "
                f"blocks {found.blocks}: expected version 2, types 0 to 9, compression 0 to 2, no zeros; damaged or no "
                "KLB file?"
            )
        return found

    def is_possible(self) -> bool:
        """Return whether the data type and the compression are known, and no size is zero."""
        return self.kind < len(_DTYPES) and self.packing <= ZLIB and all(self.sizes) and all(self.blocks)

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored values."""
        return np.dtype(_DTYPES[self.kind])

    @property
    def record_size(self) -> int:
        """Bytes of the record that follows the last block: 0 in files of other programs."""
        text = self.note
        return int(text[len(_MARK) :]) if re.fullmatch(re.escape(_MARK) + rb"\d{1,12}", text) else 0

    def pack(self, record: int = 0) -> bytes:
        """Return the header of a file whose record has as many bytes."""
        note = _MARK + str(record).encode() if record else self.note
        return _HEAD.pack(VERSION, *self.sizes, *self.steps, self.kind, self.packing, note, *self.blocks)


def fixed_part(head: bytes) -> bytes:
    """Return the bytes before the metadata field: what a record is sealed with."""
    return head[:43]


def header_of(image: Image, packing: int, block: tuple[int, ...]) -> KlbHeader:
    """Return the header of an image, in blocks of a shape in the order t, c, z, y, x."""
    variable = image.only
    if set(variable.axes) - set("tczyx"):
        raise CannotWriteError(f"KLB stores the axes t, c, z, y and x, but the image has {', '.join(variable.axes)}")
    dtype = exact_standin(variable.pixels.dtype)
    kinds: list[Any] = [np.dtype(code).newbyteorder("=") for code in _DTYPES]
    if dtype not in kinds or variable.pixels.size == 0:
        raise CannotWriteError(f"KLB cannot store dtype {variable.pixels.dtype} with shape {variable.pixels.shape}")
    lengths = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    spacing, unit = spacing_in(image, "xyz", ("µm",))
    steps = [spacing.get(a, 1.0) if unit else 1.0 for a in "xyz"] + [1.0, 1.0]
    sizes = tuple(lengths.get(a, 1) for a in "xyzct")
    return KlbHeader(sizes, tuple(steps), kinds.index(dtype), packing, block[::-1])
