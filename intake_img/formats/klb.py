"""Keller Lab Block: blocks of up to five dimensions, each packed by itself.

Layout: F. Amat et al., Nature Protocols 10, 1679 (2015), and imageIO.h of
https://github.com/JaneliaSciComp/keller-lab-block-filetype: a version, sizes and pixel sizes of x, y, z, c, t, types,
256 bytes of metadata, sizes of a block, and where each block ends.
"""

from __future__ import annotations

import bz2
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.compression import codec_of
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import exact_standin, sealed, spacing_in, unsealed
from intake_img.model.chunks import Region, regions_of
from intake_img.model.image import Image, Variable
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File
from intake_img.storage.limits import record_limit
from intake_img.storage.streams import Once

__all__ = ["Klb", "KlbSource"]

_HEAD = struct.Struct("<B5I5f2B256s5I")
_DTYPES = ("u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f4", "<f8")
_PLAIN, _BZIP2, _ZLIB = range(3)
_VERSION = 2
_MOST_BLOCKS = 2**24
_BLOCK = (1, 1, 1, 256, 256)
"""Shape of written blocks: in one plane, so that a plane is read without its neighbours."""
_MARK = b"intake_img record: "
"""Text in the metadata field of files with a record after the last block; its length follows."""
_CODECS = {None: _BZIP2, True: _BZIP2, False: _PLAIN, "bzip2": _BZIP2, "zlib": _ZLIB}
_PACK: dict[int, Callable[[bytes], bytes]] = {_PLAIN: bytes, _BZIP2: bz2.compress, _ZLIB: zlib.compress}


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
        self.head = self.source.ranges([0], [min(_HEAD.size, self.source.size)])[0]
        head = _HEAD.unpack(self.head)
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
        image = Image.single(pixels, axes, spacing=spacing, units=dict.fromkeys(spacing, "µm"), header=header)
        return image.restored(unsealed(text, self.head[:43])) if (text := self._record()) else image

    def _record(self) -> bytes:
        """Return what follows the last block of a file that this package wrote."""
        told, end = self.head[43:299].rstrip(b"\0"), self.start + int(self.ends[-1])
        length = int(told[len(_MARK) :]) if re.fullmatch(re.escape(_MARK) + rb"\d{1,12}", told) else 0
        if length > min(record_limit(0), self.source.size - end):
            raise FormatError(f"{self.source.file} ends within its record at byte {self.source.size}: it is truncated")
        return self.source.ranges([end], [length])[0] if length else b""

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

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        inner = [a for a in variable.axes if a in "tczyx"]
        return None if len(inner) == len(variable.axes) else inner

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write an image of up to five axes, in blocks that are compressed in threads.

        Other programs find the pixels, and the spacing in µm; the other metadata follow the last block.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : bool or {"bzip2", "zlib"}, optional
            ``"bzip2"`` by default, as in the format's own library. ``"zlib"`` is much faster.
        """
        packing = codec_of(compress, _CODECS, "Keller Lab Block")
        pixels, head = _header(image, packing)
        record = sealed(image.record([a for a in "tczyx" if a in image.only.axes]), head[:43]).encode()
        head = head[:43] + (_MARK + str(len(record)).encode()).ljust(256, b"\0") + head[299:]
        ends: list[int] = []
        with open(path, "wb") as stream:
            count = math.prod(-(-n // b) for n, b in zip(pixels.shape, _BLOCK, strict=True))
            stream.write(head + bytes(8 * count))
            for block in _packed(pixels, packing, progress):
                stream.write(block)
                ends.append(len(block) + (ends[-1] if ends else 0))
            stream.write(record)
            stream.seek(len(head))
            stream.write(np.array(ends, "<u8").tobytes())

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


def _header(image: Image, packing: int) -> tuple[Pixels, bytes]:
    """Return the pixels in the order t, c, z, y, x, and the header."""
    variable = image.only
    if set(variable.axes) - set("tczyx"):
        raise CannotWriteError(f"KLB holds the axes t, c, z, y and x, but the image has {', '.join(variable.axes)}")
    dtype = exact_standin(variable.pixels.dtype)
    kinds: list[Any] = [np.dtype(code).newbyteorder("=") for code in _DTYPES]
    if dtype not in kinds or variable.pixels.size == 0:
        raise CannotWriteError(f"KLB holds no pixels of {variable.pixels.dtype} and shape {variable.pixels.shape}")
    order = [a for a in "tczyx" if a in variable.axes]
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order]).astype(dtype)
    pixels = pixels.reshape([order.index(a) if a in order else None for a in "tczyx"])
    spacing, unit = spacing_in(image, "xyz", ("µm",))
    steps = [spacing.get(a, 1.0) if unit else 1.0 for a in "xyz"] + [1.0, 1.0]
    sizes = pixels.shape[::-1]
    return pixels, _HEAD.pack(_VERSION, *sizes, *steps, kinds.index(dtype), packing, b"", *_BLOCK[::-1])


def _packed(pixels: Pixels, packing: int, progress: Callable[[int], None] | None) -> Iterator[bytes]:
    """Yield the blocks in their order. Each row of blocks is read at one time, and its blocks are packed in threads."""
    lengths = [tuple(min(b, n - a) for a in range(0, n, b)) for n, b in zip(pixels.shape, _BLOCK, strict=True)]
    cuts = [slice(a, a + _BLOCK[4]) for a in range(0, pixels.shape[4], _BLOCK[4])]
    once = Once(pixels)
    try:
        with ThreadPoolExecutor(cpus(), "intake_img-klb") as pool:
            for region in regions_of((*lengths[:4], pixels.shape[4:])):
                row = np.empty([s.stop - s.start for s in region], pixels.dtype)
                once.read_into(region, row)
                stored = row.astype(row.dtype.newbyteorder("<"), copy=False)
                yield from pool.map(_PACK[packing], [stored[..., cut].tobytes() for cut in cuts])
                if progress is not None:
                    progress(row.nbytes)
    finally:
        once.close()


KlbSource = source_of(Klb())
