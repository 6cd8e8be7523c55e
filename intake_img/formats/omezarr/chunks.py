"""Single chunks of local Zarr arrays, read without the machinery that costs a library call some 0.5 ms.

Only what is plain is read here: regular chunks, in files of their own or in shards, of the codecs that nearly all
arrays use. Everything else is left to zarr, by saying that there is no reader. Zarr v3 core specification and its
sharding codec, https://zarr-specs.readthedocs.io.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.model.chunks import Region
from intake_img.storage.files import File

__all__ = ["ChunkFiles", "chunk_files"]

_EMPTY = 2**64 - 1
_MOST_INDICES = 4096
_ENDIAN = {"little": "<", "big": ">", None: "="}

Inflate = Callable[[Any], Any]


@dataclass(eq=False)
class ChunkFiles:
    """The chunks of one array, as files.

    Parameters
    ----------
    folder : File
        Of the array.
    key : callable
        Name of the file of a chunk, or of a shard, by its place in the grid.
    shape, chunk : tuple of int
        Of the array; of a chunk, in a shard of an inner one.
    stored : numpy.dtype
        Of the bytes.
    inflate : callable or None
        Makes of compressed bytes plain ones.
    fill : object
        The value of chunks that are missing.
    shard : tuple of int or None
        Shape of a shard.
    index_first : bool
        Whether the index lies at the beginning of a shard.
    """

    folder: File
    key: Callable[[tuple[int, ...]], str]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    stored: np.dtype
    inflate: Inflate | None
    fill: Any
    shard: tuple[int, ...] | None = None
    index_first: bool = False
    _indices: dict[str, tuple[tuple[int, int], np.ndarray]] = field(default_factory=dict, repr=False)

    def read_into(self, region: Region, out: np.ndarray) -> bool:
        """Fill `out` with a region, if that lies in one chunk; return whether it does."""
        place = tuple(s.start // n for s, n in zip(region, self.chunk, strict=True))
        if any(s.stop > (k + 1) * n for s, k, n in zip(region, place, self.chunk, strict=True)):
            return False
        data = self._bytes(place)
        if data is None:
            out[...] = self.fill
            return True
        plain = data if self.inflate is None else self.inflate(data)
        want = math.prod(self.chunk) * self.stored.itemsize
        if memoryview(plain).nbytes < want:
            raise FormatError(f"the chunk {place} decodes to {memoryview(plain).nbytes} of {want} bytes: it is damaged")
        chunk = np.frombuffer(plain, self.stored, math.prod(self.chunk)).reshape(self.chunk)
        out[...] = chunk[
            tuple(slice(s.start - k * n, s.stop - k * n) for s, k, n in zip(region, place, self.chunk, strict=True))
        ]
        return True

    def _bytes(self, place: tuple[int, ...]) -> bytes | None:
        """Return the stored bytes of a chunk, None if it is missing."""
        if self.shard is None:
            try:
                fd = (self.folder / self.key(place)).descriptor()
            except FileNotFoundError:
                return None
            try:
                return os.read(fd, os.fstat(fd).st_size)
            finally:
                os.close(fd)
        many = tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))
        key = self.key(tuple(k // m for k, m in zip(place, many, strict=True)))
        try:
            fd = (self.folder / key).descriptor()
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(fd)
            index = self._index(fd, key, (status.st_size, status.st_mtime_ns), math.prod(many))
            within = 0
            for k, m in zip(place, many, strict=True):
                within = within * m + k % m
            offset, count = int(index[within, 0]), int(index[within, 1])
            if offset == count == _EMPTY:
                return None
            if offset + count > status.st_size:
                raise FormatError(f"shard {key}: its index points beyond its end; it is truncated or damaged")
            return os.pread(fd, count, offset)
        finally:
            os.close(fd)

    def _index(self, fd: int, key: str, stamp: tuple[int, int], chunks: int) -> np.ndarray:
        kept = self._indices.get(key)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        length = 16 * chunks + 4
        data = os.pread(fd, length, 0 if self.index_first else max(0, stamp[0] - length))
        if len(data) < length:
            raise FormatError(f"shard {key}: {stamp[0]} bytes are too few for its index; it is truncated")
        if _checksum(data[:-4]) != data[-4:]:
            raise FormatError(f"shard {key}: the checksum of its index is wrong; it is damaged")
        index = np.frombuffer(data, "<u8", 2 * chunks).reshape(-1, 2)
        if len(self._indices) >= _MOST_INDICES:
            self._indices.clear()
        self._indices[key] = stamp, index
        return index


def _checksum(data: bytes) -> bytes:
    import google_crc32c

    return int(google_crc32c.value(data)).to_bytes(4, "little")


def chunk_files(array: Any, folder: File) -> ChunkFiles | None:
    """Return the chunks of a Zarr array as files, or None if only zarr knows how to read them.

    Parameters
    ----------
    array : zarr.Array
    folder : File
        The local folder of the array.
    """
    try:
        facts = array.metadata.to_dict()
        make = _format_3 if facts["zarr_format"] == 3 else _format_2
        return make(array, facts, folder)
    except (ImportError, KeyError, TypeError, ValueError, AttributeError, NotImplementedError):
        return None


def _format_3(array: Any, facts: Mapping[str, Any], folder: File) -> ChunkFiles | None:
    grid = _named(facts["chunk_grid"])
    if grid[0] != "regular" or facts.get("storage_transformers"):
        return None
    outer = tuple(int(n) for n in grid[1]["chunk_shape"])
    codecs = [_named(c) for c in facts["codecs"]]
    shard, first = None, False
    chunk = outer
    if len(codecs) == 1 and codecs[0][0] == "sharding_indexed":
        options = codecs[0][1]
        index = [_named(c)[0] for c in options["index_codecs"]]
        if index != ["bytes", "crc32c"]:
            return None
        shard, chunk = outer, tuple(int(n) for n in options["chunk_shape"])
        place = options.get("index_location", "end")
        first = str(getattr(place, "value", place)) == "start"
        codecs = [_named(c) for c in options["codecs"]]
    if not codecs or codecs[0][0] != "bytes" or len(codecs) > 2 or array.dtype.kind not in "biufc":
        return None
    endian = codecs[0][1].get("endian")
    stored = array.dtype.newbyteorder(_ENDIAN[getattr(endian, "value", endian)])
    inflate = _inflate(*codecs[1]) if len(codecs) == 2 else None
    if len(codecs) == 2 and inflate is None:
        return None
    return ChunkFiles(
        folder, array.metadata.encode_chunk_key, array.shape, chunk, stored, inflate, array.fill_value, shard, first
    )


def _format_2(array: Any, facts: Mapping[str, Any], folder: File) -> ChunkFiles | None:
    compressor = array.metadata.compressor
    if facts.get("order", "C") != "C" or array.metadata.filters or array.dtype.kind not in "biufc":
        return None
    inflate = None
    if compressor is not None:
        options = compressor.get_config()
        inflate = _inflate(options["id"], options)
        if inflate is None:
            return None
    fill = array.fill_value
    return ChunkFiles(
        folder,
        array.metadata.encode_chunk_key,
        array.shape,
        tuple(array.chunks),
        np.dtype(facts["dtype"]),
        inflate,
        0 if fill is None else fill,
    )


def _named(codec: Any) -> tuple[str, Mapping[str, Any]]:
    return codec["name"], codec.get("configuration") or {}


def _inflate(name: str, options: Mapping[str, Any]) -> Inflate | None:
    import numcodecs

    from intake_img.formats.omezarr.codecs import checked_blosc

    if name == "blosc":
        return checked_blosc
    known: Mapping[str, Callable[[], Any]] = {"zstd": numcodecs.Zstd, "gzip": numcodecs.GZip, "zlib": numcodecs.Zlib}
    return known[name]().decode if name in known else None
