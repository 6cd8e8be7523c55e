"""Chunks of a scale as separate files, or in shards.

Specification: ``src/datasource/precomputed/sharded.md`` of https://github.com/google/neuroglancer. A shard begins with
an index of minishards; the index of a minishard lists numbers of chunks and their places, as differences.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.chunked import Place, Readers, file_bytes, morton
from intake_img.storage.files import ByteReader, File
from intake_img.storage.listings import present

__all__ = ["Shards", "UnshardedChunks"]

_MOST_INDICES, _MOST_INDEX = 256, 2**28
_MASK = 0xFFFFFFFF
_LISTED = 16  # names of a folder that are read in the time of looking for one file


class UnshardedChunks:
    """Chunks in files of their own, named by where they lie; some programs compress the files themselves.

    Parameters
    ----------
    folder : File
    size, chunk, offset : sequence of int
        Of the scale: x, y, z.
    """

    def __init__(self, folder: File, size: Sequence[int], chunk: Sequence[int], offset: Sequence[int]) -> None:
        self.folder, self.size, self.chunk, self.offset = folder, size, chunk, offset
        self._endings = ["", ".gz"]

    def read(self, place: Place) -> bytes | None:
        """Return the chunk at a place in the grid (x, y, z); None if it is missing."""
        for ending in self._endings:
            if (data := file_bytes(self.folder / f"{self._name(place)}{ending}")) is not None:
                self._endings = sorted(self._endings, key=lambda e: e != ending)
                return data
        return None

    def present(self, places: Sequence[Place]) -> list[Place]:
        """Return the grid positions (x, y, z) that have, or may have, a chunk: the folder is listed if that is fast."""
        if not self.folder.local:
            return self._present_remotely(places)
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder.path) as entries:
            found = {entry.name.removesuffix(".gz") for entry in islice(entries, _LISTED * len(places))}
            if next(entries, None) is not None:  # more files than it takes time to look for each
                return list(places)
            return [place for place in places if self._name(place) in found]
        return []

    def _present_remotely(self, places: Sequence[Place]) -> list[Place]:
        grid = [-(-n // m) for n, m in zip(self.size, self.chunk, strict=True)]
        names = [self._name(place) for place in places]
        found = present(self.folder, [*names, *(f"{name}.gz" for name in names)], grid)
        if found is None:
            return list(places)
        return [place for place, name in zip(places, names, strict=True) if name in found or f"{name}.gz" in found]

    def _name(self, place: Place) -> str:
        spans = []
        for k, n, size, first in zip(place, self.chunk, self.size, self.offset, strict=True):
            spans.append(f"{first + k * n}-{first + min((k + 1) * n, size)}")
        return "_".join(spans)

    def close(self) -> None:
        """Files are open only while they are read."""


@dataclass(frozen=True)
class _Layout:
    """How chunks are distributed, as the info says under ``sharding``."""

    preshift: int
    minishard_bits: int
    shard_bits: int
    hashed: bool
    packed_index: bool
    packed_data: bool

    @classmethod
    def of(cls, about: Any) -> _Layout:
        try:
            bits = about.get("preshift_bits", 0), about.get("minishard_bits", 0), about.get("shard_bits", 0)
            kinds = [about.get(key, "raw") for key in ("minishard_index_encoding", "data_encoding")]
            fits = about["@type"] == "neuroglancer_uint64_sharded_v1" and about["hash"] in _HASHES
        except (KeyError, AttributeError):
            fits = False
        if not fits or not all(type(b) is int and 0 <= b <= 32 for b in bits) or set(kinds) - {"raw", "gzip"}:
            raise FormatError(f"sharding is {about!r:.200}, of a kind that is not known or damaged")
        return cls(*bits, about["hash"] == "murmurhash3_x86_128", kinds[0] == "gzip", kinds[1] == "gzip")


_HASHES = ("identity", "murmurhash3_x86_128")


class Shards:
    """Chunks in shards.

    Parameters
    ----------
    folder : File
    grid : sequence of int
        Number of chunks along x, y, z.
    about : mapping
        What the info says under ``sharding``.
    """

    def __init__(self, folder: File, grid: Sequence[int], about: Mapping[str, Any]) -> None:
        self.folder, self.grid, self.layout = folder, grid, _Layout.of(about)
        self._lock = threading.Lock()
        self._readers = Readers()
        self._indices: OrderedDict[tuple[int, int], dict[int, tuple[int, int]]] = OrderedDict()

    def read(self, place: Place) -> bytes | None:
        """Return the chunk at a place in the grid (x, y, z); None if it is missing."""
        number, shard, minishard = self._where(place)
        with self._readers.opened(self._file(shard)) as reader:
            if reader is None:
                return None
            with self._lock:
                found = self._index(reader, shard, minishard).get(number)
            data = None if found is None else reader.ranges([found[0]], [found[1]])[0]
        return _gunzipped(data) if self.layout.packed_data and data is not None else data

    def present(self, places: Sequence[Place]) -> list[Place]:
        """Return the grid positions (x, y, z) whose shard exists, or may exist."""
        if not self.folder.local:
            return list(places)
        exists = cache(lambda shard: os.path.exists(self._file(shard).path))
        return [place for place in places if exists(self._where(place)[1])]

    def _where(self, place: Place) -> tuple[int, int, int]:
        """The number of a chunk, that of its shard, and that of its minishard in the shard."""
        layout, number = self.layout, morton(place, self.grid)
        key = number >> layout.preshift
        key = murmur(key) if layout.hashed else key
        shard = key >> layout.minishard_bits & ((1 << layout.shard_bits) - 1)
        return number, shard, key & ((1 << layout.minishard_bits) - 1)

    def close(self) -> None:
        """Close open files."""
        self._readers.close()

    def _file(self, shard: int) -> File:
        digits = -(-self.layout.shard_bits // 4)
        return self.folder / f"{shard:0{digits}x}.shard"

    def _index(self, reader: ByteReader, shard: int, minishard: int) -> dict[int, tuple[int, int]]:
        """Return where the chunks of a minishard are, by their numbers."""
        if (shard, minishard) not in self._indices:
            base = 16 << self.layout.minishard_bits
            start, stop = np.frombuffer(reader.ranges([16 * minishard], [16])[0], "<u8").tolist()
            if not start <= stop <= start + _MOST_INDEX:
                raise FormatError(f"{reader.file}: the index of minishard {minishard} is damaged")
            data = reader.ranges([base + start], [stop - start])[0]
            self._indices[shard, minishard] = _places(self._plain_index(data), base)
            if len(self._indices) > _MOST_INDICES:
                self._indices.popitem(last=False)
        return self._indices[shard, minishard]

    def _plain_index(self, data: bytes) -> bytes:
        return _gunzipped(data) if self.layout.packed_index and data else data


def _places(data: bytes, base: int) -> dict[int, tuple[int, int]]:
    if len(data) % 24:
        raise FormatError("the index of a minishard is cut: it is truncated or damaged")
    numbers, gaps, sizes = np.frombuffer(data, "<u8").reshape(3, -1)
    with np.errstate(over="ignore"):
        ends = np.cumsum(gaps + sizes)
        starts = (base + ends - sizes).tolist()
    return dict(zip(np.cumsum(numbers).tolist(), zip(starts, sizes.tolist(), strict=True), strict=True))


def _gunzipped(data: bytes) -> bytes:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    found = stream.decompress(data, 2**31)
    if not stream.eof:
        raise FormatError("compressed data end early: they are truncated")
    return found


def murmur(key: int) -> int:
    """Return the low 64 bits of MurmurHash3_x86_128 of a 64-bit number, seed 0 (A. Appleby, public domain)."""
    first = _rotated((key & _MASK) * 0x239B961B & _MASK, 15) * 0xAB0E9789 & _MASK
    second = _rotated((key >> 32 & _MASK) * 0xAB0E9789 & _MASK, 16) * 0x38B34AE5 & _MASK
    h = [first ^ 8, second ^ 8, 8, 8]
    h = _summed(h)
    h = _summed([_mixed(n) for n in h])
    return h[0] | h[1] << 32


def _summed(h: list[int]) -> list[int]:
    total = sum(h) & _MASK
    return [total, *((n + total) & _MASK for n in h[1:])]


def _rotated(n: int, by: int) -> int:
    return (n << by | n >> (32 - by)) & _MASK


def _mixed(n: int) -> int:
    n = (n ^ n >> 16) * 0x85EBCA6B & _MASK
    n = (n ^ n >> 13) * 0xC2B2AE35 & _MASK
    return n ^ n >> 16
