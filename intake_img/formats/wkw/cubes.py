"""Blocks of voxels in cubes: files of 16 bytes of header, for packed ones a table of where blocks end, and the blocks.

Specification: ``README.md`` of https://github.com/scalableminds/webknossos-wrap. Blocks lie in Morton order; in a block
the components of a voxel lie together, then x varies fastest: arrays here have the axes z, y, x, c.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.chunked import ChunkedArray, Place, Readers, cuts_of, file_bytes, put, there
from intake_img.formats.wkw.cut_blocks import Box, Cuts, boxes, joined, numbers_in, scatter, within
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader, File

__all__ = ["HEADER", "CubeArray", "CubeHeader", "header_of"]

HEADER = "header.wkw"
"""Name of the file whose header all cubes of a folder share."""
_DTYPES = ("u1", "u2", "u4", "u8", "f4", "f8", "i1", "i2", "i4", "i8")
_RAW, _PACKED = 1, (2, 3)
_BYTES = 16
_TOGETHER = 2**25  # bytes of blocks that are requested of a server together
_AT_ONCE = 2**20  # bytes of blocks that are read before they are copied: they stay in the cache of the processor
_SMALL = 2**18  # bytes of a block up to which its planes are read: that takes less than to map them
_TABLE = 2**14  # bytes of the table for each block up to which it is read in one go


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
            raise FormatError(f"{file}: voxels of {size} bytes cannot store numbers of {dtype.itemsize}: it is damaged")
        return cls(1 << (lengths & 15), 1 << (lengths >> 4), kind != _RAW, dtype, size // dtype.itemsize, offset)


def header_of(folder: File) -> CubeHeader:
    """Return the header that the cubes in a folder share."""
    file = folder / HEADER
    if (data := file_bytes(file)) is None:
        raise FormatError(f"{folder} contains no {HEADER}: it is not a magnification of a WKW layer")
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
        self._plane_bytes = math.prod(self.tiles[1:]) * self.dtype.itemsize
        self._block_bytes = self._plane_bytes * self.tiles[0]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        cuts, per = cuts_of(region, self.tiles), self.header.blocks
        cubes = list(product(*(range(min(of_axis) // per, max(of_axis) // per + 1) for of_axis in cuts[:3])))
        found = self._present(cubes) if len(cubes) > 1 else cubes
        if len(found) < len(cubes):
            out[...] = 0
        self.each(lambda cube: self._fill(cube, cuts, out), found)

    def _present(self, cubes: Sequence[Place]) -> list[Place]:
        """Return the cubes that there may be; the others are zeros."""
        if self.file.local:
            return [c for c in cubes if os.path.exists(self._file(c).path)]
        per = self.header.blocks
        return there(self.file, {_path(c): c for c in cubes}, [-(-n // per) for n in self.grid[:3]])

    def _file(self, cube: Place) -> File:
        return self.file.within(_path(cube))

    def _fill(self, cube: Place, cuts: Cuts, out: np.ndarray) -> None:
        """Fill the part of `out` that lies in a cube."""
        own = within(cuts, cube, self.header.blocks)
        with self.readers.opened(self._file(cube)) as reader:
            if reader is None:
                out[tuple([joined(of_axis, list(of_axis)) for of_axis in own])] = 0
            else:
                self._copy(reader, own, out)

    def _copy(self, reader: ByteReader, cuts: Cuts, out: np.ndarray) -> None:
        """Copy what is cut of the blocks of a cube into `out`."""
        header, local = self._own(reader), self.file.local
        large = local and not header.packed and self._block_bytes > _SMALL
        if large and self._copy_mapped(reader, header, cuts, out):
            return
        buffer = np.empty(0, np.uint8)  # one for all boxes: the pages of a new one take as long as to fill it
        for of_z in [{z: cut} for z, cut in cuts[0].items()] if local else [cuts[0]]:
            planes = range(self.tiles[0])[next(iter(of_z.values()))[1] if local else slice(None)]
            nbytes = len(planes) * self._plane_bytes
            for box in boxes((of_z, *cuts[1:]), (_AT_ONCE if local else _TOGETHER) // nbytes):
                shape = *map(len, box), len(planes), *self.tiles[1:]
                if len(buffer) < (need := math.prod(shape[:3]) * nbytes):
                    buffer = np.empty(need, np.uint8)
                self._fetch(reader, header, box, planes, buffer[:need].reshape(-1, nbytes))
                scatter(buffer[:need].view(header.dtype).reshape(shape), planes.start, box, cuts, out)

    def _copy_mapped(self, reader: ByteReader, header: CubeHeader, cuts: Cuts, out: np.ndarray) -> bool:
        """Copy from large blocks in a memory map; return False for a file that ends too early."""
        z, y, x = map(list, cuts[:3])
        starts = [header.offset + n * self._block_bytes for n in numbers_in((z, y, x))]
        if max(starts) + self._block_bytes > reader.size or (mapped := reader.mapped()) is None:
            return False
        for place, start in zip(product(*cuts), starts, strict=True):
            put(place, np.ndarray(self.tiles, header.dtype, mapped, start), cuts, out)
        return True

    def _fetch(self, reader: ByteReader, header: CubeHeader, box: Box, planes: range, rows: np.ndarray) -> None:
        """Fill the rows of an array of bytes with planes of the blocks in a box."""
        numbers, first, count = numbers_in(box), planes.start * self._plane_bytes, rows.shape[1]
        if header.packed:
            whole = np.empty(0 if count == self._block_bytes else self._block_bytes, np.uint8)
            for row, data in zip(rows, _packed(reader, header, numbers, self._block_bytes), strict=True):
                _unpack(data, row if not len(whole) else whole)
                if len(whole):
                    row[:] = whole[first : first + count]
            return
        starts = [header.offset + n * self._block_bytes + first for n in numbers]
        if self.file.local:
            for row, start in zip(rows, starts, strict=True):
                reader.read_into(start, row.data)
            return
        for row, data in zip(rows, reader.ranges(starts, [count] * len(rows)), strict=True):
            row[:] = np.frombuffer(data, np.uint8)

    def _own(self, reader: ByteReader) -> CubeHeader:
        """Return the header of a cube, which agrees with the one that all share."""
        own, shared = CubeHeader.of(reader.ranges([0], [min(_BYTES, reader.size)])[0], reader.file), self.header
        agrees = all(getattr(own, f) == getattr(shared, f) for f in ("block", "blocks", "dtype", "channels"))
        if not agrees:
            raise FormatError(f"{reader.file}: its header differs from {HEADER}: one of the two is damaged")
        return own


def _path(cube: Place) -> str:
    z, y, x = cube
    return f"z{z}/y{y}/x{x}.wkw"


def _packed(reader: ByteReader, header: CubeHeader, numbers: Sequence[int], want: int) -> Iterator[memoryview | bytes]:
    """Yield compressed blocks, by their numbers in the cube, after their size `want`; each is valid until the next."""
    starts, ends = _limits(reader, header, numbers)
    sizes = [end - start for start, end in zip(starts, ends, strict=True)]
    for n, start, size in zip(numbers, starts, sizes, strict=True):
        if not 0 <= size <= reader.size - start:
            raise FormatError(f"{reader.file}: block {n} ends before it begins, or beyond the file: it is damaged")
    before = struct.pack("<i", want)
    if not reader.maps:  # a server: all in one request
        yield from (before + data for data in reader.ranges(starts, sizes))
        return
    buffer = memoryview(bytearray(before) + bytearray(max(sizes)))
    for start, size in zip(starts, sizes, strict=True):
        block = buffer[: len(before) + size]
        reader.read_into(start, block[len(before) :])
        yield block


def _limits(reader: ByteReader, header: CubeHeader, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return where blocks begin and end, from a table of ends: its part is read in one go, if that is not long."""
    low, before = min(numbers), [_BYTES + 8 * (n - 1) for n in numbers]
    length = 8 * (max(numbers) - low + 2)
    if length <= _TABLE * len(numbers):
        table = np.frombuffer(reader.ranges([min(before)], [length])[0], "<u8")
        at = np.asarray(numbers) - low
        starts, ends = table[at].tolist(), table[at + 1].tolist()
    else:
        pairs = [struct.unpack("<QQ", data) for data in reader.ranges(before, [16] * len(before))]
        starts, ends = [start for start, _ in pairs], [end for _, end in pairs]
    return [start if n else header.offset for n, start in zip(numbers, starts, strict=True)], ends


def _unpack(data: memoryview | bytes, out: np.ndarray) -> None:
    import numcodecs

    numcodecs.lz4.decompress(data, out)
