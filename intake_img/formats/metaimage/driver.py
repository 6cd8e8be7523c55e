"""The format ``metaimage``: ``.mha`` and ``.mhd``, with pixels after the header or in other files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.compression import level_of
from intake_img.formats.fields import (
    Joined,
    beside,
    from_text,
    header_lines,
    names_one,
    pixels_beside,
    stamp_with_parts,
)
from intake_img.formats.format_source import source_of
from intake_img.formats.metaimage.header import LAST, MetaHeader, image_of, parsed
from intake_img.formats.metaimage.write import SIZE, header_text
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import ArrayHandle, packing, sample_volume, stored_array
from intake_img.model.image import Image
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated
from intake_img.storage.streams import write_planes

__all__ = ["MetaImage", "MetaImageSource"]


class MetaImage(Format):
    """Array in a MetaImage file, with its position in space."""

    name = "metaimage"
    title = "MetaImage"
    extensions = (".mha", ".mhd")

    def claims(self, probe: Probe) -> int:
        named = probe.name.lower().endswith(self.extensions)
        begins = rb"\s*ObjectType\s*=\s*Image\b" if not named else rb"\s*(ObjectType|ObjectSubType|Comment|NDims)\s*="
        return 2 * bool(re.match(begins, probe.head))

    def stamp(self, file: File) -> tuple[Any, ...]:
        return stamp_with_parts(file, _names)

    def open(self, file: File, options: NoOptions) -> Handle:
        source = file.open()
        header, offset = _header(source)
        channels = header.channels
        if not 1 <= channels <= 2**16:
            raise FormatError(f"ElementNumberOfChannels is {channels}: expected a positive number")
        shape = [*header.sizes[::-1], *[channels] * (channels > 1)]
        make = partial(_array, header)
        stored: StoredArray
        if len(header.names) == 1 and header.inner == len(header.sizes):
            source.close()
            source, offset = beside(file, header.names[0]), 0
        if header.inner < len(header.sizes) or len(header.names) > 1:
            inner = header.inner + (channels > 1)
            stored = Joined(file, header.names, inner, shape, header.dtype, lambda part, own: make(part, 0, own))
        else:
            stored = make(source, offset, shape, alone=True)
        return ArrayHandle(stored, lambda pixels: image_of(pixels, header), source)

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | int | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".mha",
    ) -> None:
        """Write ``.mha``, or ``.mhd`` with the pixels beside it in ``.raw``.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : bool or int, optional
            zlib's level, 1 to 9, or True, only for ``.mha``; by default the pixels are not compressed.
        name : str
            Name of the target: ``.mha`` or ``.mhd``.
        """
        split = self.pixels_in(name) != name
        level = None if compress is None or compress is False else level_of(compress, 4)
        if split and level is not None:
            raise CannotWriteError("pixels beside a header are not compressed: save as .mha")
        pixels, text = header_text(image, level is not None)
        text = b"" if split else text
        with packing(path, "zlib" if level else None, level or 0, before=text) as stream:
            write_planes(stream, pixels, progress)
        if level:
            _note_size(path, text)

    def pixels_in(self, name: str) -> str:
        return pixels_beside(name, ".mhd", ".raw")

    def companions(self, image: Image, name: str, options: Mapping[str, Any]) -> Mapping[str, bytes]:
        if (pixels := self.pixels_in(name)) == name:
            return {}
        text = header_text(image, False, pixels)[1]
        return {name: names_one(text, lambda lines: parsed(lines).names, pixels)}

    def sample(self, folder: str) -> tuple[str, Any]:
        text = (
            "ObjectType = Image\nNDims = 3\nBinaryDataByteOrderMSB = True\nDimSize = 4 3 2\n"
            "ElementSpacing = 0.5 0.25 2\nDistanceUnits = um\nElementType = MET_USHORT\nElementDataFile = LOCAL\n"
        )
        return sample_volume(f"{folder}/a.mha", text.encode())


MetaImageSource = source_of(MetaImage())


def _note_size(path: str, text: bytes) -> None:
    """Write the number of compressed bytes into the header, which ITK needs."""
    with open(path, "r+b") as stream:
        stream.seek(text.index(SIZE))
        stream.write(SIZE[:-20] + b"%020d" % (os.path.getsize(path) - len(text)))


def _names(source: ByteReader) -> Sequence[str]:
    return _header(source)[0].names


def _header(source: ByteReader) -> tuple[MetaHeader, int]:
    lines, offset = header_lines(source, LAST)
    if lines and re.search(r"=\s*LIST\b", lines[-1]):  # names follow, up to the end
        lines, offset = header_lines(source, re.compile(rb"(?!)"))
    return parsed(lines), offset


def _array(
    header: MetaHeader, source: ByteReader, offset: int, shape: Sequence[int], *, alone: bool = False
) -> StoredArray:
    """Return an array in an open file, as it is encoded there."""
    dtype, skip = header.dtype, header.number("headersize", 0)
    if skip < -1:
        raise FormatError(f"{source.file}: HeaderSize {skip}: expected -1, or a number of bytes")
    offset += max(skip, 0)
    if header.says("compresseddata"):
        magic = source.ranges([offset], [min(2, max(source.size - offset, 0))])[0]
        packed = source.size - offset
        inner = Inflated(source, "gzip" if magic == b"\x1f\x8b" else "zlib", offset, packed)
        return stored_array(inner, 0, dtype, shape, packed)
    if header.fields.get("binarydata", "True").lower() in ("false", "0"):
        return from_text(source, offset, dtype, shape)
    if skip == -1:
        offset = source.size - math.prod(shape) * dtype.itemsize
    return stored_array(source, offset, dtype, shape, alone=alone)
