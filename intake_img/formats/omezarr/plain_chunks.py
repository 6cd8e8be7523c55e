"""Uncompressed chunks of a new local array, written as files without a detour through zarr's pipeline.

Zarr copies each chunk, compares it with the fill value, and writes it under a temporary name. A store that is renamed
when it is complete needs none of that: its chunks are read by nobody before.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np

from intake_img.model.chunks import Region
from intake_img.model.machine import cpus

__all__ = ["PlainChunks", "plain_chunks"]


class PlainChunks:
    """Writes blocks of complete chunks of an array.

    Parameters
    ----------
    array : zarr.Array
        New, uncompressed, C-ordered, in a local folder of its own.
    root : str
        The folder.
    pool : Executor
    empty : bool
        Whether chunks that hold nothing but 0 are written.
    """

    def __init__(self, array: Any, root: str, pool: ThreadPoolExecutor, empty: bool) -> None:
        self.root, self.pool, self.empty = root, pool, empty
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        self.key = array.metadata.encode_chunk_key
        self.dtype: np.dtype = array.dtype

    def write(self, region: Region, data: np.ndarray) -> None:
        """Write a block that begins where a chunk does, and ends where one or the array does."""
        first = [s.start // c for s, c in zip(region, self.chunks, strict=True)]
        counts = [-(-n // c) for n, c in zip(data.shape, self.chunks, strict=True)]

        def write(place: tuple[int, ...]) -> None:
            part = data[tuple(slice(k * c, (k + 1) * c) for k, c in zip(place, self.chunks, strict=True))]
            self._write_chunk(tuple(f + k for f, k in zip(first, place, strict=True)), part)

        for _ in self.pool.map(write, product(*map(range, counts))):
            pass

    def _write_chunk(self, place: tuple[int, ...], part: np.ndarray) -> None:
        if not self.empty and not (part.flat[part.size // 2] or part.any()):
            return
        if part.shape != self.chunks:
            whole = np.zeros(self.chunks, self.dtype)
            whole[tuple(map(slice, part.shape))] = part
            part = whole
        left = np.ascontiguousarray(part, self.dtype).reshape(-1).view(np.uint8).data
        with self._created(os.path.join(self.root, *self.key(place).split("/"))) as stream:
            while left:
                left = left[stream.write(left) :]

    def _created(self, path: str) -> Any:
        try:
            return open(path, "wb", buffering=0)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return open(path, "wb", buffering=0)


@contextlib.contextmanager
def plain_chunks(array: Any, fill: int | None) -> Iterator[PlainChunks | None]:
    """Yield what writes the chunks of a new array; None if it is compressed, in shards, or not in a local folder.

    Parameters
    ----------
    array : zarr.Array
    fill : int or None
        The fill value that the array was made with; see `array_config`.
    """
    from zarr.storage import LocalStore

    dtype = array.dtype
    plain = array.shards is None and not array.compressors and not array.filters and array.order == "C"
    little = sys.byteorder == "little" and dtype.kind in "biufc" and dtype == dtype.newbyteorder("<")
    if not (plain and little and type(array.store) is LocalStore and array.path == "" and array.ndim):
        yield None
        return
    with ThreadPoolExecutor(cpus(), "intake_img-write") as pool:
        yield PlainChunks(array, str(array.store.root), pool, dtype.kind in "fc" or fill is None)
