"""Reading regions of local Zarr arrays chunk by chunk: for small chunks several times as fast as zarr.

This module reads only regular chunks, in separate files or in shards, of the codecs that nearly all
arrays use; `intake_img.formats.omezarr.layout` finds out. Everything else is left to zarr. Decoding does not hold the
interpreter's lock, so that several threads use all cores: each with a region, or with chunks of a small one. Zarr v3
core specification and its sharding codec, https://zarr-specs.readthedocs.io.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.omezarr.present import existing
from intake_img.model.chunks import Region
from intake_img.model.helpers import for_all
from intake_img.model.machine import cpus
from intake_img.storage.files import File
from intake_img.storage.positioned import read_at

__all__ = ["EMPTY", "ChunkFiles", "Inflate", "checksum"]

EMPTY = 2**64 - 1
"""Offset and length of chunks that a shard does not hold."""
_MOST_INDICES = 4096
# bytes of decoded chunks from which on a second thread saves more than it costs, and of the larger reads of `Pixels`,
# which come in several threads
_HELPED_FROM, _HELPED_TO = 2**19, 2**22

Inflate = Callable[[Any], Any]
Place = tuple[int, ...]
Cut = tuple[int, slice, slice]
Block = tuple[Place, Region, Region]


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
    key: Callable[[Place], str]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    stored: np.dtype
    inflate: Inflate | None
    fill: Any
    shard: tuple[int, ...] | None = None
    index_first: bool = False
    _indices: dict[str, tuple[tuple[int, int], np.ndarray]] = field(default_factory=dict, repr=False)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Fill `out`, of any strides, with a region."""
        axes = _cuts(region, self.shard or self.chunk)
        spans = [range(cuts[0][0], cuts[-1][0] + 1) if cuts else range(0) for cuts in axes]
        places = existing(self.folder, self.key, spans)
        if places is not None and len(places) < math.prod(map(len, axes)):
            out[...] = self.fill
        blocks = _touched(axes, places)
        if self.shard is None:
            self._each(blocks, lambda place, within, target: self._read_file(place, within, _view(out, target)))
            return
        for place, within, target in blocks:
            self._read_file(place, within, _view(out, target))

    def _each(self, blocks: Iterator[Block], read: Callable[[Place, Region, Region], None]) -> None:
        """Read chunks, in several threads if that is worth it."""
        listed = list(blocks)
        nbytes = len(listed) * math.prod(self.chunk) * self.stored.itemsize
        helped = self.inflate is not None and _HELPED_FROM <= nbytes < _HELPED_TO
        for_all(lambda block: read(*block), listed, min(cpus(), len(listed)) if helped else 1)

    def _read_file(self, place: Place, within: Region, out: np.ndarray) -> None:
        """Fill `out` with a part of a chunk or shard."""
        key = self.key(place)
        try:
            fd, status = self.folder.opened(key)
        except FileNotFoundError:
            out[...] = self.fill
            return
        try:
            if self.shard is None:
                self._paste(fd, 0, status.st_size, within, out, key)
            else:
                self._read_shard(fd, status, key, self.shard, within, out)
        finally:
            os.close(fd)

    def _read_shard(
        self, fd: int, status: os.stat_result, key: str, shard: tuple[int, ...], region: Region, out: np.ndarray
    ) -> None:
        many = tuple(s // c for s, c in zip(shard, self.chunk, strict=True))
        index = self._index(fd, key, (status.st_size, status.st_mtime_ns), math.prod(many))

        def read(place: Place, within: Region, target: Region) -> None:
            offset, count = index[np.ravel_multi_index(place, many) if many else 0].tolist()
            part = _view(out, target)
            if offset == count == EMPTY:
                part[...] = self.fill
            elif offset + count > status.st_size:
                raise FormatError(f"shard {key}: its index points beyond its end; it is truncated or damaged")
            else:
                self._paste(fd, offset, count, within, part, key, place)

        self._each(_touched(_cuts(region, self.chunk)), read)

    def _paste(
        self, fd: int, offset: int, count: int, within: Region, out: np.ndarray, key: str, place: Place = ()
    ) -> None:
        """Fill `out` with a part of the chunk whose stored bytes are `count` from `offset` on."""
        want = math.prod(self.chunk) * self.stored.itemsize
        if self.inflate is None:
            self._check(count, want, key, place)
            self._paste_plain(fd, offset, within, out)
            return
        plain = self.inflate(_bytes_at(fd, offset, count))
        self._check(len(plain), want, key, place)
        out[...] = np.ndarray(self.chunk, self.stored, plain)[within]

    def _paste_plain(self, fd: int, offset: int, within: Region, out: np.ndarray) -> None:
        """Read from the first to the last pixel of a part of an uncompressed chunk."""
        item = self.stored.itemsize
        strides = [item * math.prod(self.chunk[k + 1 :]) for k in range(len(self.chunk))]
        first = sum(s.start * step for s, step in zip(within, strides, strict=True))
        span = sum((s.stop - s.start - 1) * step for s, step in zip(within, strides, strict=True)) + item
        out[...] = np.ndarray(out.shape, self.stored, _bytes_at(fd, offset + first, span), 0, strides)

    def _check(self, found: int, want: int, key: str, place: Place) -> None:
        if found < want:
            inner = f"chunk {place} in " if self.shard is not None else ""
            raise FormatError(f"{inner}{key} decodes to {found} of {want} bytes: it is damaged")

    def _index(self, fd: int, key: str, stamp: tuple[int, int], chunks: int) -> np.ndarray:
        kept = self._indices.get(key)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        length = 16 * chunks + 4
        data = read_at(fd, length, 0 if self.index_first else max(0, stamp[0] - length))
        if len(data) < length:
            raise FormatError(f"shard {key}: {stamp[0]} bytes are too few for its index; it is truncated")
        if checksum(data[:-4]) != data[-4:]:
            raise FormatError(f"shard {key}: the checksum of its index is wrong; it is damaged")
        index = np.frombuffer(data, "<u8", 2 * chunks).reshape(-1, 2)
        if len(self._indices) >= _MOST_INDICES:
            self._indices.clear()
        self._indices[key] = stamp, index
        return index


def _cuts(region: Region, block: Sequence[int]) -> list[list[Cut]]:
    """Return for each axis which blocks of a grid a region touches: their numbers, what of each, and where it goes."""
    return [
        [
            (
                k,
                slice(max(s.start - k * n, 0), min(s.stop - k * n, n)),
                slice(max(k * n - s.start, 0), (k + 1) * n - s.start),
            )
            for k in range(s.start // n, -(-s.stop // n))
        ]
        for s, n in zip(region, block, strict=True)
    ]


def _touched(axes: Sequence[Sequence[Cut]], places: Iterable[Place] | None = None) -> Iterator[Block]:
    """Iterate over blocks, all or those at `places`: place, part of the block, part of the region."""
    if places is None:
        chosen: Iterable[tuple[Cut, ...]] = product(*axes)
    else:
        starts = [cuts[0][0] for cuts in axes]
        chosen = (tuple(cuts[k - n] for cuts, k, n in zip(axes, place, starts, strict=True)) for place in places)
    for cells in chosen:
        place, within, target = zip(*cells, strict=True) if cells else ((), (), ())
        yield place, within, target


def _view(array: np.ndarray, region: Region) -> np.ndarray:
    key: Any = (*region, ...)
    return array[key]  # a view, of scalars too


def _bytes_at(fd: int, offset: int, count: int) -> bytes:
    """Read `count` bytes, also where they are more than one call returns."""
    data = read_at(fd, count, offset)
    while len(data) < count:
        if not (more := read_at(fd, count - len(data), offset + len(data))):
            raise FormatError(f"a chunk ends after {len(data)} of {count} bytes: it was truncated while it was read")
        data += more
    return data


def checksum(data: bytes) -> bytes:
    """Return the CRC-32C of some bytes, as Zarr stores it."""
    import google_crc32c

    return int(google_crc32c.value(data)).to_bytes(4, "little")
