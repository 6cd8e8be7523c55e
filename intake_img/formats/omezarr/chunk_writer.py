"""Writing complete chunks and shards of new local Zarr arrays as files, without a detour through zarr's pipeline.

Zarr compares each chunk with the fill value, copies it, and passes it through an event loop that only one thread runs.
Here each thread compares, compresses and writes a chunk; compressors do not hold the interpreter's lock. The bytes are
those that zarr writes. Zarr v3 core specification and its sharding codec, https://zarr-specs.readthedocs.io.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from intake_img.formats.omezarr.chunk_files import EMPTY, checksum
from intake_img.model.chunks import Region
from intake_img.storage.replacing import replace

__all__ = ["ChunkWriter", "chunk_writer"]

Compress = Callable[[Any], Any]
Place = tuple[int, ...]
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


@dataclass(frozen=True, eq=False)
class ChunkWriter:
    """Writes blocks of complete chunks, or shards, of an array. It pickles.

    Parameters
    ----------
    root : str
        The folder of the array.
    prefix : str
        What the keys of chunks begin with.
    dtype : numpy.dtype
        Little-endian.
    chunk : tuple of int
        Shape of a chunk, in a shard of an inner one.
    shard : tuple of int or None
        Shape of a shard.
    compress : callable or None
        Makes compressed bytes of a contiguous array.
    empty : bool
        Whether chunks that contain nothing but 0 are written.
    """

    root: str
    prefix: str
    dtype: np.dtype
    chunk: tuple[int, ...]
    shard: tuple[int, ...] | None
    compress: Compress | None
    empty: bool

    def write(self, region: Region, data: np.ndarray, pool: Executor | None = None, atomic: bool = False) -> None:
        """Write a block that begins where a chunk or shard does, and ends where one or the array does.

        Parameters
        ----------
        region : tuple of slice
            Of the array.
        data : ndarray
        pool : Executor, optional
            Whose threads compress and write; by default the calling one does.
        atomic : bool
            Write each file under another name first: the block may be written twice, by processes that may be killed.
        """
        unit = self.shard or self.chunk
        first = [s.start // n for s, n in zip(region, unit, strict=True)]

        def write(place: Place) -> None:
            self._write_file(_moved(first, place), [self._bytes(_part(data, place, unit))], atomic)

        if self.shard is None:
            for _ in (pool.map if pool else map)(write, _places(data.shape, unit)):
                pass
            return
        for place in _places(data.shape, unit):
            self._write_shard(_moved(first, place), _part(data, place, unit), pool, atomic)

    def _write_shard(self, place: Place, data: np.ndarray, pool: Executor | None, atomic: bool) -> None:
        counts = [s // c for s, c in zip(self.shard or (), self.chunk, strict=True)]
        index = np.full((*counts, 2), EMPTY, "<u8")
        places = sorted(_places(data.shape, self.chunk), key=partial(_morton, counts))
        found, end = [], 0

        def encode(at: Place) -> Any:
            return self._bytes(_part(data, at, self.chunk))

        for at, content in zip(places, (pool.map if pool else map)(encode, places), strict=True):
            if content is not None:
                size = memoryview(content).nbytes
                index[at] = end, size
                end += size
                found.append(content)
        if found:
            self._write_file(place, [*found, index.tobytes(), checksum(index.tobytes())], atomic)

    def _bytes(self, part: np.ndarray) -> Any:
        """Return the stored bytes of a chunk, which is cut off at the end of the array; None if it is left out."""
        if not self.empty and not (part.flat[part.size // 2] or part.any()):
            return None
        if part.shape != self.chunk:
            whole = np.zeros(self.chunk, self.dtype)
            whole[tuple(map(slice, part.shape))] = part
            part = whole
        part = np.ascontiguousarray(part, self.dtype)
        return part.reshape(-1).view(np.uint8).data if self.compress is None else self.compress(part)

    def _write_file(self, place: Place, contents: Iterable[Any], atomic: bool) -> None:
        contents = [memoryview(c) for c in contents if c is not None]
        if not contents:
            return
        path = os.path.join(self.root, self.prefix, *map(str, place))
        name = f"{path}.{uuid.uuid4().hex}.partial" if atomic else path
        with _created(name) as stream:
            for left in contents:
                while left:
                    left = left[stream.write(left) :]
        if atomic:
            replace(name, path)


def _places(shape: Sequence[int], unit: Sequence[int]) -> Iterable[Place]:
    return product(*(range(-(-n // u)) for n, u in zip(shape, unit, strict=True)))


def _morton(counts: Sequence[int], place: Place) -> int:
    """Return the rank of a chunk in a shard of ``counts`` chunks: the bits of its place, interleaved, the first axis's
    last, without those that are 0 everywhere.

    Examples
    --------
    >>> sorted([(0, 0), (0, 1), (1, 0), (1, 1)], key=lambda place: _morton((2, 2), place))
    [(0, 0), (1, 0), (0, 1), (1, 1)]
    """
    widths = [(n - 1).bit_length() for n in counts]
    bits = [k >> b & 1 for b in range(max(widths)) for k, w in zip(place, widths, strict=True) if b < w]
    return sum(bit << n for n, bit in enumerate(bits))


def _part(data: np.ndarray, place: Place, unit: Sequence[int]) -> np.ndarray:
    return data[tuple(slice(k * u, (k + 1) * u) for k, u in zip(place, unit, strict=True))]


def _moved(first: Sequence[int], place: Place) -> Place:
    return tuple(f + k for f, k in zip(first, place, strict=True))


def _created(path: str) -> Any:
    try:
        return open(path, "wb", buffering=0)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "wb", buffering=0)


def chunk_writer(array: Any, fill: int | None) -> ChunkWriter | None:
    """Return what writes the chunks of a new array; None if only zarr can.

    Parameters
    ----------
    array : zarr.Array
        Made by `Target.create`.
    fill : int or None
        The fill value that the array was made with; see `array_config`.
    """
    from zarr import storage

    dtype: np.dtype = array.dtype
    little = sys.byteorder == "little" and dtype.kind in "biufc" and dtype == dtype.newbyteorder("<")
    if not (little and type(array.store) is storage.LocalStore and array.path == "" and array.ndim):
        return None
    compressors = [_compress(codec, dtype) for codec in array.compressors]
    if array.filters or len(compressors) > 1 or None in compressors:
        return None
    return ChunkWriter(
        root=str(array.store.root),
        prefix="c" if array.metadata.zarr_format == 3 else "",
        dtype=dtype,
        chunk=tuple(array.chunks),
        shard=None if array.shards is None else tuple(array.shards),
        compress=compressors[0] if compressors else None,
        empty=dtype.kind in "fc" or fill is None,
    )


def _compress(codec: Any, dtype: np.dtype) -> Compress | None:
    """Return the function of numcodecs that zarr calls for a compressor."""
    import numcodecs

    if isinstance(codec, numcodecs.abc.Codec):  # of format 2
        return codec.encode
    described = codec.to_dict()
    name, options = described["name"], described.get("configuration", {})
    if name in ("zstd", "gzip"):
        return {"zstd": numcodecs.Zstd, "gzip": numcodecs.GZip}[name](**options).encode
    if name != "blosc" or options["typesize"] != dtype.itemsize:
        return None
    shuffle = _SHUFFLES[options["shuffle"]]
    return numcodecs.Blosc(options["cname"], options["clevel"], shuffle, options["blocksize"]).encode
