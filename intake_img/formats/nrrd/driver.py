"""The format ``nrrd``: ``.nrrd`` and ``.nhdr``, with pixels of any encoding, after the header or in other files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.compression import codec_of
from intake_img.formats.fields import (
    Joined,
    beside,
    from_hex,
    from_text,
    header_lines,
    names_one,
    pixels_beside,
    stamp_with_parts,
)
from intake_img.formats.format_source import source_of
from intake_img.formats.nrrd.describe import image_of, is_complex
from intake_img.formats.nrrd.header import LAST, MAGIC, NrrdHeader, parsed
from intake_img.formats.nrrd.write import header_text
from intake_img.formats.volumes import ArrayHandle, packing, sample_volume, stored_array
from intake_img.model.image import Image
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated
from intake_img.storage.streams import write_planes

__all__ = ["Nrrd", "NrrdSource"]

_LINES = 2**20  # bytes in which the end of a line to skip has to come


class Nrrd(Format):
    """Array in a NRRD file, with its position in space."""

    name = "nrrd"
    title = "NRRD"
    extensions = (".nrrd", ".nhdr")
    magic = ((0, MAGIC),)
    starts = (MAGIC,)

    def claims(self, probe: Any) -> int:
        return 2 * super().claims(probe)

    def stamp(self, file: File) -> tuple[Any, ...]:
        return stamp_with_parts(file, _names)

    def open(self, file: File, options: NoOptions) -> Handle:
        source = file.open()
        header, offset = _header(source)
        shape = header.sizes[::-1]
        dtype = header.dtype
        if is_complex(header):
            dtype, shape = np.dtype(f"c{2 * dtype.itemsize}").newbyteorder(dtype.byteorder), shape[:-1]
        make = partial(_array, header, dtype)
        if len(header.names) == 1 and header.inner >= len(header.sizes):
            source.close()
            source, offset = beside(file, header.names[0]), 0
        stored: StoredArray
        if len(header.names) > 1 or (header.names and header.inner < len(header.sizes)):
            inner = header.inner - is_complex(header)
            stored = Joined(file, header.names, inner, shape, dtype, lambda part, own: make(part, 0, own))
        else:
            stored = make(source, offset, shape, alone=True)
        return ArrayHandle(stored, lambda pixels: image_of(pixels, header), source)

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | Literal["gzip", "bzip2"] | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".nrrd",
    ) -> None:
        """Write ``.nrrd``, or ``.nhdr`` with the pixels beside it in ``.raw``.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : bool or {"gzip", "bzip2"}, optional
            True is ``"gzip"``, only for ``.nrrd``; by default the pixels are not compressed.
        name : str
            Name of the target: ``.nrrd`` or ``.nhdr``.
        """
        methods: dict[Any, Any] = {None: None, False: None, True: "gzip", "gzip": "gzip", "bzip2": "bzip2"}
        method = codec_of(compress, methods, "NRRD")
        split = self.pixels_in(name) != name
        if split and method is not None:
            raise CannotWriteError("pixels beside a header are not compressed: save as .nrrd")
        pixels, text = header_text(image, method or "raw")
        with packing(path, method, 4, before=b"" if split else text) as stream:
            write_planes(stream, pixels, progress)

    def pixels_in(self, name: str) -> str:
        return pixels_beside(name, ".nhdr", ".raw")

    def companions(self, image: Image, name: str, options: Mapping[str, Any]) -> Mapping[str, bytes]:
        if (pixels := self.pixels_in(name)) == name:
            return {}
        if not pixels.isascii():
            raise CannotWriteError(f"{name}: a NRRD header is ASCII, and names {pixels!r}: choose another name")
        text = header_text(image, "raw", pixels)[1]
        return {name: names_one(text, lambda lines: parsed(lines).names, pixels)}

    def sample(self, folder: str) -> tuple[str, Any]:
        text = (
            "NRRD0004\n# a sample\ntype: unsigned short\ndimension: 3\nsizes: 4 3 2\nendian: big\nencoding: raw\n"
            'spacings: 0.5 0.25 2\nunits: "um" "um" "um"\nkinds: domain domain domain\n\n'
        )
        return sample_volume(f"{folder}/a.nrrd", text.encode())


NrrdSource = source_of(Nrrd())


def _names(source: ByteReader) -> Sequence[str]:
    return _header(source)[0].names


def _header(source: ByteReader) -> tuple[NrrdHeader, int]:
    lines, offset = header_lines(source, LAST)
    return parsed(lines), offset


def _array(
    header: NrrdHeader, dtype: np.dtype, source: ByteReader, offset: int, shape: Any, *, alone: bool = False
) -> StoredArray:
    """Return an array in an open file, as it is encoded there."""
    for _ in range(header.skip("line skip")):
        offset += _line(source, offset)
    encoding, skip = header.encoding, header.skip("byte skip")
    if skip < -1:
        raise FormatError(f"{source.file}: byte skip {skip}: expected -1, or a number of bytes")
    if encoding == "raw":
        back = math.prod(shape) * dtype.itemsize
        begin = source.size - back if skip == -1 else offset + skip
        return stored_array(source, begin, dtype, shape, alone=alone)
    if encoding in ("gzip", "bzip2"):
        if skip < 0:
            raise FormatError(f"{source.file}: byte skip {skip} is for uncompressed pixels")
        inner = Inflated(source, "gzip" if encoding == "gzip" else "bzip2", offset)
        return stored_array(inner, skip, dtype, shape, source.size - offset)
    readers = {"text": from_text, "hex": from_hex}
    if encoding not in readers:
        raise FormatError(f"{source.file}: encoding {encoding!r}: expected raw, text, hex, gzip or bzip2")
    return readers[encoding](source, offset + max(skip, 0), dtype, shape)


def _line(source: ByteReader, offset: int) -> int:
    """Return the length of a line."""
    text = source.ranges([offset], [min(_LINES, source.size - offset)])[0]
    if not (end := re.search(rb"\n", text)):
        raise FormatError(f"{source.file}: there are not as many lines to skip as the header says")
    return end.end()
