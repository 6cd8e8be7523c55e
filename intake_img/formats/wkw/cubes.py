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
from functools import cache
from itertools import product

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.chunked import ChunkedArray, Place, Readers, file_bytes, there, values_in
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader, File

__all__ = ["HEADER", "CubeArray", "CubeHeader", "header_of"]

HEADER = "header.wkw"
"""Name of the file whose header all cubes of a folder share."""
_DTYPES = ("u1", "u2", "u4", "u8", "f4", "f8", "i1", "i2", "i4", "i8")
_RAW, _PACKED = 1, (2, 3)
_BYTES = 16
_TOGETHER = 2**25  # bytes of blocks that are requested of a server together


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
            raise FormatError(f"{file}: voxels of {size} bytes cannot hold numbers of {dtype.itemsize}: it is damaged")
        return cls(1 << (lengths & 15), 1 << (lengths >> 4), kind != _RAW, dtype, size // dtype.itemsize, offset)


def header_of(folder: File) -> CubeHeader:
    """Return the header that the cubes in a folder share."""
    file = folder / HEADER
    if (data := file_bytes(file)) is None:
        raise FormatError(f"{folder} holds no {HEADER}: it is not a magnification of a WKW layer")
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

    def present(self, spans: Sequence[range]) -> list[Place]:
        per = self.header.blocks
        cubes = list(product(*(range(s.start // per, -(-s.stop // per)) for s in spans[:3])))
        if self.file.local:
            cubes = [c for c in cubes if os.path.exists(self._file(c).path)]
        else:
            cubes = there(self.file, {_path(c): c for c in cubes}, [-(-n // per) for n in self.grid[:3]])
        found: list[Place] = []
        for cube in cubes:
            pairs = zip(spans[:3], cube, strict=True)
            inside = [range(max(s.start, k * per), min(s.stop, (k + 1) * per)) for s, k in pairs]
            found += product(*inside, spans[3])
        return found

    def deliver(self, places: Sequence[Place], region: Region, out: np.ndarray) -> None:
        per = self.header.blocks
        cubes: dict[Place, list[Place]] = {}
        for place in places:
            cubes.setdefault(tuple(k // per for k in place[:3]), []).append(place)

        def fill(cube: Place) -> None:
            with self.readers.lend(self._file(cube)) as reader:
                blocks = iter([None] * len(cubes[cube])) if reader is None else self._blocks(reader, cubes[cube])
                for place, block in zip(cubes[cube], blocks, strict=True):
                    self.put(place, block, region, out)

        self.each(fill, list(cubes))

    def _file(self, cube: Place) -> File:
        return self.file.within(_path(cube))

    def _blocks(self, reader: ByteReader, places: Sequence[Place]) -> Iterator[np.ndarray]:
        """Yield the blocks of a cube at grid positions; for a remote cube several are requested together."""
        header, per = self._own(reader), self.header.blocks
        numbers = [_number(*(k % per for k in place[2::-1])) for place in places]
        want = math.prod(self.tiles) * header.dtype.itemsize
        if not header.packed and (found := self._mapped(reader, header, numbers, want)):
            yield from found
            return
        together = max(1, _TOGETHER // want) if not self.file.local else 1
        for first in range(0, len(numbers), together):
            for data in self._stored(reader, header, numbers[first : first + together], want):
                plain = _unpacked(data, want) if header.packed else data
                yield values_in(plain, header.dtype, self.tiles, reader.file)

    def _mapped(self, reader: ByteReader, header: CubeHeader, numbers: Sequence[int], want: int) -> list[np.ndarray]:
        """Return blocks in a memory map; none for a remote file, and for one that ends too early."""
        if max(numbers) * want + want + header.offset > reader.size or (mapped := reader.mapped()) is None:
            return []
        return [np.ndarray(self.tiles, header.dtype, mapped, header.offset + n * want) for n in numbers]

    def _stored(self, reader: ByteReader, header: CubeHeader, numbers: Sequence[int], want: int) -> list[bytes]:
        """Return the bytes of blocks, by their numbers in the cube."""
        if not header.packed:
            return reader.ranges([header.offset + n * want for n in numbers], [want] * len(numbers))
        before = [_BYTES + 8 * (n - 1) for n in numbers]  # the table says where blocks end
        pairs = [struct.unpack("<QQ", data) for data in reader.ranges(before, [16] * len(before))]
        starts = [start if n else header.offset for n, (start, _) in zip(numbers, pairs, strict=True)]
        sizes = [end - start for start, (_, end) in zip(starts, pairs, strict=True)]
        for n, start, size in zip(numbers, starts, sizes, strict=True):
            if not 0 <= size <= reader.size - start:
                raise FormatError(f"{reader.file}: block {n} ends before it begins, or beyond the file: it is damaged")
        return reader.ranges(starts, sizes)

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


@cache
def _spread(k: int) -> int:
    """The bits of a number with two zeros between them."""
    return sum((k >> bit & 1) << 3 * bit for bit in range(k.bit_length()))


def _number(x: int, y: int, z: int) -> int:
    """The number of a block in its cube: Morton order."""
    return _spread(x) | _spread(y) << 1 | _spread(z) << 2


def _unpacked(data: bytes, want: int) -> bytes:
    import numcodecs

    return numcodecs.lz4.decompress(struct.pack("<i", want) + data)
