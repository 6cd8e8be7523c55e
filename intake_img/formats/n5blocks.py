"""N5 datasets, for all formats that use them: blocks are files with a header that gives their size.

Specification: https://github.com/saalfeldlab/n5#file-system-specification. Sizes and positions are given with x first;
arrays here have the axes reversed, as the bytes lie in C order then.
"""

from __future__ import annotations

import bz2
import lzma
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.chunked import ChunkedArray, Place, file_bytes, positive, there, values_in
from intake_img.formats.inflating import inflated_quickly
from intake_img.storage.files import File

__all__ = ["ATTRIBUTES", "N5Dataset", "folders_in", "is_dataset"]

ATTRIBUTES = "attributes.json"
"""Name of the file of attributes."""
_DTYPES = {f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)} | {"float32", "float64"}
_LZ4_BLOCK = struct.Struct("<8sBiii")  # of lz4-java: magic, method, size packed, size, checksum


def is_dataset(attributes: Mapping[str, Any]) -> bool:
    """Return whether a folder with these attributes is a dataset, not a group."""
    return "dimensions" in attributes and "dataType" in attributes


class N5Dataset(ChunkedArray):
    """The array in a dataset.

    Parameters
    ----------
    folder : File
    attributes : mapping
        What its ``attributes.json`` says.
    """

    def __init__(self, folder: File, attributes: Mapping[str, Any]) -> None:
        kind = attributes["dataType"]
        if not isinstance(kind, str) or kind not in _DTYPES:
            raise FormatError(f"{folder}: dataType is {kind!r:.80}: expected {', '.join(sorted(_DTYPES))}")
        if attributes.get("isLabelMultiset"):
            raise FormatError(
                f"{folder} contains label multisets, several labels to a pixel: open the labels of full resolution, or "
                "convert it with paintera-convert"
            )
        shape = positive(attributes["dimensions"], f"{folder}: dimensions", 0)[::-1]
        block = positive(attributes.get("blockSize"), f"{folder}: blockSize")[::-1]
        if len(shape) != len(block):
            raise FormatError(f"{folder}: dimensions and blockSize differ in length: its attributes are damaged")
        self.stored = np.dtype(kind).newbyteorder(">")
        self.decode = _decoder(attributes, folder)
        super().__init__(folder, shape, self.stored, block)

    def present(self, spans: Sequence[range]) -> list[Place]:
        if not self.file.local:
            names = {"/".join(map(str, place)): place[::-1] for place in product(*spans[::-1])}
            return there(self.file, names, self.grid[::-1])
        return [place[::-1] for place in _listed(self.file.path, list(spans[::-1]))]

    def read_chunk(self, place: Place) -> np.ndarray | None:
        file = self.file
        for k in reversed(place):
            file = file / str(k)
        data = file_bytes(file)
        if data is None:
            return None
        shape, start = self._header(data, file)
        want = math.prod(shape) * self.stored.itemsize
        found = values_in(self.decode(memoryview(data)[start:], want), self.stored, shape, file)
        inside = self.extent(place)
        if all(n >= m for n, m in zip(shape, inside, strict=True)):
            return found
        chunk = np.zeros(self.tiles, self.dtype)
        chunk[tuple(slice(0, n) for n in shape)] = found
        return chunk

    def _header(self, data: bytes, file: File) -> tuple[tuple[int, ...], int]:
        """Return the shape of a block and where its data begin."""
        ndim = len(self.shape)
        start = 4 + 4 * ndim
        if len(data) < start:
            raise FormatError(f"{file} has {len(data)} bytes, fewer than the header of a block: it is truncated")
        mode, count, *sizes = struct.unpack_from(f">HH{ndim}I", data)
        shape = tuple(sizes[::-1])
        fits = count == ndim and all(0 < n <= m for n, m in zip(shape, self.tiles, strict=True))
        if mode not in (0, 1) or not fits:
            raise FormatError(f"{file}: its header does not fit blocks of {self.tiles[::-1]}: it is damaged")
        if mode == 1:  # it also counts its numbers, which may be more than one for each pixel
            start += 4
            if len(data) < start or struct.unpack_from(">I", data, start - 4)[0] != math.prod(shape):
                raise FormatError(f"{file}: a block of varying length, which contains no image")
        return shape, start


def _listed(folder: str, spans: Sequence[range]) -> Iterator[Place]:
    """Yield the paths of numbers below a folder that lie in a box, as far as there are entries of these names."""
    try:
        names = set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for k in spans[0]:
        if str(k) not in names:
            continue
        if len(spans) == 1:
            yield (k,)
        else:
            yield from ((k, *rest) for rest in _listed(f"{folder}/{k}", spans[1:]))


def folders_in(folder: File) -> list[str]:
    """Return the names of the folders in a folder, in their order; none where it cannot be listed."""
    folder.check()
    try:
        if folder.local:
            with os.scandir(folder.path) as entries:
                names = [e.name for e in entries if e.is_dir()]
        else:
            fs, path = folder.filesystem()
            names = [str(e["name"]).rstrip("/").rpartition("/")[2] for e in fs.ls(path) if e["type"] == "directory"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((n for n in names if n and not n.startswith(".")), key=_natural)


def _natural(name: str) -> tuple[str, int, str]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1), name


Decode = Callable[[memoryview, int], Any]
"""Decompresses bytes; at most the expected number of bytes is produced."""


def _decoder(attributes: Mapping[str, Any], folder: File) -> Decode:
    about = attributes.get("compression") or {"type": attributes.get("compressionType", "raw")}
    name = str(about.get("type") if isinstance(about, dict) else about)
    if name not in _DECODERS:
        raise FormatError(f"{folder}: compression {name!r:.80} is not known; known are {', '.join(_DECODERS)}")
    return _DECODERS[name]


def _raw(data: memoryview, want: int) -> memoryview:
    return data


def _zlib(data: memoryview, want: int) -> Any:
    method = "gzip" if data[:2] == b"\x1f\x8b" else "zlib"  # useZlib
    if (quick := inflated_quickly(data, want, method)) is not None:
        return quick
    return _inflated(zlib.decompressobj(zlib.MAX_WBITS | 32), data, want)


def _bzip2(data: memoryview, want: int) -> bytes:
    return _inflated(bz2.BZ2Decompressor(), data, want)


def _xz(data: memoryview, want: int) -> bytes:
    return _inflated(lzma.LZMADecompressor(memlimit=2**30), data, want)


def _inflated(stream: Any, data: memoryview, want: int) -> bytes:
    found = stream.decompress(data, want + 1)
    if not stream.eof:
        raise FormatError("a block ends before its compressed data do, or contains more than its header says")
    return found


def _blosc(data: memoryview, want: int) -> bytes:
    import numcodecs

    size, _, stored = struct.unpack_from("<III", data, 4) if len(data) >= 16 else (0, 0, 0)
    if stored != len(data) or size != want:
        raise FormatError("a block compressed with Blosc has another length than its header says: it is damaged")
    return numcodecs.blosc.decompress(data)


def _zstd(data: memoryview, want: int) -> np.ndarray:
    import numcodecs

    if (stated := _zstd_size(data)) not in (None, want):
        raise FormatError(f"a block compressed with Zstandard contains {stated} bytes, expected {want}: it is damaged")
    out = np.empty(want, np.uint8)
    numcodecs.zstd.decompress(data, out)
    return out


def _zstd_size(data: memoryview) -> int | None:
    """Return the size of the content that a frame states, if it does (RFC 8878, section 3.1.1.1)."""
    flags = data[4] if len(data) > 4 else 0
    single, kind = flags >> 5 & 1, flags >> 6
    at = 6 - single + (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[kind]
    return int.from_bytes(data[at : at + length], "little") + 256 * (kind == 1) if length else None


def _lz4(data: memoryview, want: int) -> bytes:
    """Inflate the frames of lz4-java, ``LZ4Block``."""
    import numcodecs

    parts, at = [], 0
    while at < len(data):
        magic, method, packed, size, _ = _LZ4_BLOCK.unpack_from(data, at)
        at += _LZ4_BLOCK.size
        if magic != b"LZ4Block" or packed < 0 or size < 0 or at + packed > len(data):
            raise FormatError("a block compressed with LZ4 is truncated or damaged")
        want -= size
        if want < 0:
            raise FormatError("a block compressed with LZ4 contains more than its header says: it is damaged")
        body = data[at : at + packed]
        at += packed
        if method >> 4 == 1:  # not compressed
            parts.append(bytes(body))
        elif size:
            parts.append(numcodecs.lz4.decompress(struct.pack("<i", size) + body))
    return b"".join(parts)


_DECODERS: Mapping[str, Decode] = {
    "raw": _raw,
    "gzip": _zlib,
    "zlib": _zlib,
    "bzip2": _bzip2,
    "xz": _xz,
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
}
