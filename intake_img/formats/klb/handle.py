"""Blocks of Keller Lab Block files, each packed by itself, and what is known of their pixels."""

from __future__ import annotations

import bz2
import math
import zlib
from itertools import product

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Handle, StoredArray
from intake_img.formats.inflating import inflated_quickly
from intake_img.formats.klb.header import BZIP2, HEADER_SIZE, PLAIN, ZLIB, KlbHeader, fixed_part
from intake_img.formats.volumes import unsealed
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.storage.files import File
from intake_img.storage.limits import record_limit

__all__ = ["KlbHandle"]

_MOST_BLOCKS = 2**24


class _BlockArray(StoredArray):
    """The array, in the order t, c, z, y, x."""

    def __init__(self, handle: KlbHandle) -> None:
        self.handle = handle
        self.shape, self.tiles, self.dtype = handle.shape, handle.block, handle.dtype.newbyteorder("=")
        self.decodes = handle.packing != PLAIN
        self.grid = [-(-n // b) for n, b in zip(self.shape, self.tiles, strict=True)]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        spans = [range(s.start // b, -(-s.stop // b)) for s, b in zip(region, self.tiles, strict=True)]
        for index in product(*spans):
            corner = [k * b for k, b in zip(index, self.tiles, strict=True)]
            shape = tuple(min(b, n - c) for b, n, c in zip(self.tiles, self.shape, corner, strict=True))
            parts = [(max(s.start, c), min(s.stop, c + n)) for s, c, n in zip(region, corner, shape, strict=True)]
            inner = tuple(slice(a - c, b - c) for (a, b), c in zip(parts, corner, strict=True))
            place = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(parts, region, strict=True))
            complete = all(s.stop - s.start == n for s, n in zip(inner, shape, strict=True))
            out[place] = self._block(index, shape, complete)[inner]

    def _block(self, index: tuple[int, ...], shape: tuple[int, ...], complete: bool) -> np.ndarray:
        number = int(np.ravel_multi_index(index, self.grid))
        if complete:
            return self.handle.decoded(number, shape)
        return self.handle.kept(number, lambda: self.handle.decoded(number, shape))


class KlbHandle(Handle):
    """An open file: its header and where its blocks end."""

    def __init__(self, file: File) -> None:
        self.source = file.open()
        self.head = self.source.ranges([0], [min(HEADER_SIZE, self.source.size)])[0]
        self.header = header = KlbHeader.parse(self.head, file)
        self.packing, self.shape, self.dtype = header.packing, header.sizes[::-1], header.dtype
        self.block = tuple(min(b, n) for b, n in zip(header.blocks[::-1], self.shape, strict=True))
        count = math.prod(-(-n // b) for n, b in zip(header.sizes, header.blocks, strict=True))
        self.start = HEADER_SIZE + 8 * count
        if count > _MOST_BLOCKS or self.start > self.source.size:
            raise FormatError(f"{file} has {self.source.size} bytes, too few for {count} blocks: it is damaged")
        ends = np.frombuffer(self.source.ranges([HEADER_SIZE], [8 * count])[0], "<u8")
        self.ends = np.concatenate([[0], ends]).astype("u8")
        if (ends < self.ends[:-1]).any():
            raise FormatError(f"{file}: a block ends before it begins: its table of blocks is damaged")
        self.record_size = header.record_size
        if self.start + int(ends[-1]) > self.source.size:
            self._shorten(int(np.searchsorted(ends, self.source.size - self.start, side="right")), count)

    def _shorten(self, held: int, count: int) -> None:
        """Leave out what the file has not got: blocks follow each other from the first axis on that has several."""
        grid = [-(-n // b) for n, b in zip(self.shape, self.block, strict=True)]
        axis = next((k for k, n in enumerate(grid) if n > 1), 0)
        rows = held // (count // grid[axis])
        if not rows or axis > 2:
            raise FormatError(f"{self.source.file} contains {held} of {count} blocks: it is truncated or damaged")
        there = rows * self.block[axis]
        warn(
            f"{self.source.file} contains {there} of {self.shape[axis]} along {'tczyx'[axis]!r}: it was cut off, or "
            "its table of blocks is damaged"
        )
        self.shape = (*self.shape[:axis], there, *self.shape[axis + 1 :])
        self.record_size = 0

    def decoded(self, number: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return a block."""
        first, last = int(self.ends[number]), int(self.ends[number + 1])
        data: bytes | bytearray = self.source.ranges([self.start + first], [last - first])[0]
        size = math.prod(shape) * self.dtype.itemsize
        if self.packing == BZIP2:
            data = bz2.BZ2Decompressor().decompress(data, size + 1)
        elif self.packing == ZLIB:
            quick = inflated_quickly(data, size, "zlib")
            data = zlib.decompressobj().decompress(data, size + 1) if quick is None else quick
        if len(data) != size:
            raise FormatError(
                f"{self.source.file}: block {number} has {len(data)} bytes, expected {size}: it is damaged"
            )
        return np.frombuffer(data, self.dtype).reshape(shape)

    def array(self, address: None) -> StoredArray:
        return _BlockArray(self)

    def describe(self, scene: int | str, level: int) -> Image:
        kept = [k for k, n in enumerate(self.shape) if n > 1 or k > 2]
        axes = tuple("tczyx"[k] for k in kept)
        steps = dict(zip("xyzct", self.header.steps, strict=True))
        spacing = {a: float(f"{steps[a]:.7g}") for a in axes if a in "zyx"}
        header = {
            "pixel_size_xyzct": list(self.header.steps),
            "block_xyzct": list(self.block[::-1]),
            "compression": ("none", "bzip2", "zlib")[self.packing],
        }
        pixels = self.pixels().reshape(kept)
        image = Image.single(pixels, axes, spacing=spacing, units=dict.fromkeys(spacing, "µm"), header=header)
        return image.restored(unsealed(text, fixed_part(self.head))) if (text := self._record()) else image

    def _record(self) -> bytes:
        """Return what follows the last block of a file that this package wrote."""
        length, end = self.record_size, self.start + int(self.ends[-1])
        if not length:
            return b""
        if length > min(record_limit(0), self.source.size - end):
            raise FormatError(f"{self.source.file} ends within its record at byte {self.source.size}: it is truncated")
        return self.source.ranges([end], [length])[0]

    def close(self) -> None:
        self.source.close()
