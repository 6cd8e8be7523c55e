"""Keller Lab Block: blocks of up to five dimensions, each packed by itself.

Layout: F. Amat et al., Nature Protocols 10, 1679 (2015), and imageIO.h of
https://github.com/JaneliaSciComp/keller-lab-block-filetype: a version, sizes and pixel sizes of x, y, z, c, t, types,
256 bytes of metadata, sizes of a block, and where each block ends.
"""

from __future__ import annotations

import bz2
import math
import os
import struct
import zlib
from itertools import product

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Klb", "KlbSource"]

_HEAD = struct.Struct("<B5I5f2B256s5I")
_DTYPES = ("u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f4", "<f8")
_PLAIN, _BZIP2, _ZLIB = range(3)
_VERSION = 2
_MOST_BLOCKS = 2**24


class _Blocks(StoredArray):
    """The array, in the order t, c, z, y, x."""

    def __init__(self, handle: _KlbHandle) -> None:
        self.handle = handle
        self.shape, self.tiles, self.dtype = handle.shape, handle.block, handle.dtype.newbyteorder("=")
        self.decodes = handle.packing != _PLAIN
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


class _KlbHandle(Handle):
    def __init__(self, file: File) -> None:
        self.source = file.open()
        head = _HEAD.unpack(self.source.ranges([0], [min(_HEAD.size, self.source.size)])[0])
        version, sizes, self.steps, kind, self.packing = head[0], head[1:6], head[6:11], head[11], head[12]
        blocks = head[14:19]
        if version != _VERSION or kind >= len(_DTYPES) or self.packing > _ZLIB or not all(sizes) or not all(blocks):
            raise FormatError(
                f"{file}: version {version}, data type {kind}, compression {self.packing}, sizes {sizes}, blocks "
                f"{blocks}: expected version 2, types 0 to 9, compression 0 to 2, no zeros; damaged or no KLB file?"
            )
        self.shape, self.dtype = sizes[::-1], np.dtype(_DTYPES[kind])
        self.block = tuple(min(b, n) for b, n in zip(blocks[::-1], self.shape, strict=True))
        count = math.prod(-(-n // b) for n, b in zip(self.shape, blocks[::-1], strict=True))
        self.start = _HEAD.size + 8 * count
        if count > _MOST_BLOCKS or self.start > self.source.size:
            raise FormatError(f"{file} has {self.source.size} bytes, too few for {count} blocks: it is damaged")
        ends = np.frombuffer(self.source.ranges([_HEAD.size], [8 * count])[0], "<u8")
        self.ends = np.concatenate([[0], ends]).astype("u8")
        if (ends < self.ends[:-1]).any() or self.start + int(ends[-1]) > self.source.size:
            raise FormatError(f"{file} ends at byte {self.source.size}, within its blocks: it is truncated or damaged")

    def decoded(self, number: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return a block."""
        first, last = int(self.ends[number]), int(self.ends[number + 1])
        data = self.source.ranges([self.start + first], [last - first])[0]
        size = math.prod(shape) * self.dtype.itemsize
        if self.packing == _BZIP2:
            data = bz2.BZ2Decompressor().decompress(data, size + 1)
        elif self.packing == _ZLIB:
            data = zlib.decompressobj().decompress(data, size + 1)
        if len(data) != size:
            raise FormatError(
                f"{self.source.file}: block {number} has {len(data)} bytes, expected {size}: it is damaged"
            )
        return np.frombuffer(data, self.dtype).reshape(shape)

    def array(self, address: None) -> StoredArray:
        return _Blocks(self)

    def describe(self, scene: int | str, level: int) -> Image:
        kept = [k for k, n in enumerate(self.shape) if n > 1 or k > 2]
        axes = tuple("tczyx"[k] for k in kept)
        steps = dict(zip("xyzct", self.steps, strict=True))
        spacing = {a: float(f"{steps[a]:.7g}") for a in axes if a in "zyx"}
        compression = ("none", "bzip2", "zlib")[self.packing]
        header = {
            "pixel_size_xyzct": list(self.steps),
            "block_xyzct": list(self.block[::-1]),
            "compression": compression,
        }
        pixels = self.pixels().reshape(kept)
        return Image.single(pixels, axes, spacing=spacing, units=dict.fromkeys(spacing, "µm"), header=header)

    def close(self) -> None:
        self.source.close()


class Klb(Format):
    """Image in a Keller Lab Block file. Axes ``t``, ``c`` and ``z`` of length 1 are left out."""

    name = "klb"
    title = "Keller Lab Block"
    extensions = (".klb",)
    starts = (bytes([_VERSION]),)

    def claims(self, probe: Probe) -> int:
        """Claim files of the name alone whose header is possible: the format has no magic bytes."""
        return 2 * (probe.name.lower().endswith(".klb") and probe.head[:1] == bytes([_VERSION]))

    def open(self, file: File, options: NoOptions) -> Handle:
        return _KlbHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(3 * 10 * 13, dtype="<u2").reshape(3, 10, 13) % 50
        blocks = [
            zlib.compress(values[z : z + 2, y : y + 6, x : x + 8].tobytes())
            for z, y, x in product((0, 2), (0, 6), (0, 8))
        ]
        ends = np.cumsum([len(b) for b in blocks]).astype("<u8")
        head = _HEAD.pack(2, 13, 10, 3, 1, 1, 0.5, 0.5, 2.0, 1.0, 1.0, 1, _ZLIB, b"", 8, 6, 2, 1, 1)
        path = os.path.join(folder, "sample.klb")
        with open(path, "wb") as stream:
            stream.write(head + ends.tobytes() + b"".join(blocks))
        steps = {"z": (3, 2.0), "y": (10, 0.5), "x": (13, 0.5)}
        coords = {a: (a, d * np.arange(n), {"units": "µm", "spacing": d}) for a, (n, d) in steps.items()}
        return path, xr.Dataset({"image": (tuple("zyx"), values)}, coords)


KlbSource = source_of(Klb())
