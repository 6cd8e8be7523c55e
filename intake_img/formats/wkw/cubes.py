"""Blocks of voxels in cubes: files of 16 bytes of header, for packed ones a table of where blocks end, and the blocks.

Specification: ``README.md`` of https://github.com/scalableminds/webknossos-wrap. Blocks lie in Morton order; in a block
the components of a voxel lie together, then x varies fastest: arrays here have the axes z, y, x, c.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.chunked import ChunkedArray, Place, Readers, file_bytes, morton, values_in
from intake_img.storage.files import ByteReader, File

__all__ = ["HEADER", "CubeArray", "CubeHeader", "header_of"]

HEADER = "header.wkw"
"""Name of the file whose header all cubes of a folder share."""
_DTYPES = ("u1", "u2", "u4", "u8", "f4", "f8", "i1", "i2", "i4", "i8")
_RAW, _PACKED = 1, (2, 3)
_BYTES = 16


@dataclass(frozen=True)
class CubeHeader:
    """What the header of a cube says.

    Parameters
    ----------
    block, blocks : int
        Length of a block in voxels, and of a cube in blocks.
    packed : bool
        Whether blocks are compressed with LZ4.
    dtype : numpy.dtype
    channels : int
    offset : int
        Where the first block begins; 0 in the header that cubes share.
    """

    block: int
    blocks: int
    packed: bool
    dtype: np.dtype
    channels: int
    offset: int

    @classmethod
    def of(cls, data: bytes, file: File) -> CubeHeader:
        """Return what the first bytes of a file say, or raise `FormatError`."""
        if len(data) < _BYTES or data[:4] != b"WKW\x01":
            raise FormatError(f"{file} begins with {data[:4]!r}, not like a WKW file of version 1")
        lengths, kind, voxel, size, offset = struct.unpack_from("<BBBBQ", data, 4)
        if not 1 <= voxel <= len(_DTYPES) or kind not in (_RAW, *_PACKED):
            raise FormatError(f"{file}: voxels of type {voxel} or blocks of type {kind} are not known: it is damaged")
        dtype = np.dtype(f"<{_DTYPES[voxel - 1]}")
        if size == 0 or size % dtype.itemsize:
            raise FormatError(f"{file}: voxels of {size} bytes are no numbers of {dtype.itemsize}: it is damaged")
        return cls(1 << (lengths & 15), 1 << (lengths >> 4), kind != _RAW, dtype, size // dtype.itemsize, offset)


def header_of(folder: File) -> CubeHeader:
    """Return the header that the cubes in a folder share."""
    file = folder / HEADER
    if (data := file_bytes(file)) is None:
        raise FormatError(f"{folder} holds no {HEADER}: it is no magnification of a WKW layer")
    return CubeHeader.of(data, file)


class CubeArray(ChunkedArray):
    """The voxels of a magnification, from voxel 0 on.

    Parameters
    ----------
    folder : File
    size : sequence of int
        Along x, y, z.
    """

    def __init__(self, folder: File, size: Sequence[int]) -> None:
        self.header = header_of(folder)
        self.readers = Readers()
        block = (*[self.header.block] * 3, self.header.channels)
        super().__init__(folder, (*size[::-1], self.header.channels), self.header.dtype, block)

    def read_chunk(self, place: Place) -> np.ndarray | None:
        per = self.header.blocks
        z, y, x = (k // per for k in place[:3])
        file = self.file / f"z{z}" / f"y{y}" / f"x{x}.wkw"
        with self.readers.lend(file) as reader:
            if reader is None:
                return None
            number = morton([k % per for k in place[2::-1]], (per,) * 3)
            return values_in(self._block(reader, number), self.header.dtype, self.tiles, file)

    def _block(self, reader: ByteReader, number: int) -> bytes:
        """Return the plain bytes of a block, by its number in the cube."""
        header, want = self._own(reader), math.prod(self.tiles) * self.header.dtype.itemsize
        if not header.packed:
            return reader.ranges([header.offset + number * want], [want])[0]
        before = _BYTES + 8 * (number - 1)  # the table says where blocks end
        start, end = struct.unpack("<QQ", reader.ranges([before], [16])[0])
        start = start if number else header.offset
        if not start <= end <= reader.size:
            raise FormatError(f"{reader.file}: block {number} ends before it begins, or beyond the file: it is damaged")
        return _unpacked(reader.ranges([start], [end - start])[0], want)

    def _own(self, reader: ByteReader) -> CubeHeader:
        """Return the header of a cube, which agrees with the one that all share."""
        own, shared = CubeHeader.of(reader.ranges([0], [min(_BYTES, reader.size)])[0], reader.file), self.header
        agrees = all(getattr(own, f) == getattr(shared, f) for f in ("block", "blocks", "dtype", "channels"))
        if not agrees:
            raise FormatError(f"{reader.file}: its header differs from {HEADER}: one of the two is damaged")
        return own


def _unpacked(data: bytes, want: int) -> bytes:
    import numcodecs

    return numcodecs.lz4.decompress(struct.pack("<i", want) + data)
