"""Pixels in the order that a writer needs; each chunk of their source is computed or decoded once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, BinaryIO

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.model.chunks import Region, regions_of, split
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels, chunk_of
from intake_img.storage.spill import SpillingMemory

__all__ = ["Once", "iter_planes", "write_planes"]

_RUN_BYTES = 2**25
"""Adjacent chunks that are always requested together are read in groups of this many bytes."""


class Once:
    """Reads regions of pixels, each pixel once, so that no chunk of the source is read twice.

    Chunks that a region cuts are kept until the rest of them was requested: up to `budget` bytes in memory, others in
    an unnamed temporary file. Pixels that are requested a second time are read again.

    Parameters
    ----------
    pixels : Pixels
    folder : str, optional
        Folder of the temporary file, if one is needed; by default the folder for temporary files.
    budget : int
        Bytes.
    whole : int
        Number of last axes along which regions always have the full length.
    """

    def __init__(self, pixels: Pixels, folder: str | None = None, budget: int = 2**27, whole: int = 0) -> None:
        self.pixels = pixels
        self.edges = _grouped([pixels.edges(k) for k in range(pixels.ndim)], whole, pixels.dtype.itemsize)
        self._known = [frozenset(e.tolist()) for e in self.edges]
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, ...], _Kept] = {}
        self._memory = SpillingMemory(budget, folder)

    def aligned(self, region: Region) -> bool:
        """Whether a region consists of complete chunks, so that nothing need be kept."""
        return all(s.start in known and s.stop in known for s, known in zip(region, self._known, strict=True))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Fill `out` with the pixels of a region."""
        if 0 in out.shape:
            return
        if self.aligned(region):
            self.pixels.read_into(region, out)
            return
        with self._lock:
            touched = list(self._touched(region))
            missing = [place for place in touched if place not in self._kept]
            chunks = [self._memory.empty([s.stop - s.start for s in self._box(p)], self.pixels.dtype) for p in missing]
            with ThreadPoolExecutor(cpus() if self.pixels.parallel else 1, "intake_img-read") as pool:
                for _ in pool.map(lambda place, chunk: self.pixels.read_into(self._box(place), chunk), missing, chunks):
                    pass
            self._kept.update((place, _Kept(chunk.size, chunk)) for place, chunk in zip(missing, chunks, strict=True))
            for place in touched:
                self._deliver(place, region, out)

    def close(self) -> None:
        """Drop all kept chunks."""
        with self._lock:
            for place in list(self._kept):
                self._forget(place)

    def _touched(self, region: Region) -> Iterator[tuple[int, ...]]:
        spans = []
        for s, e in zip(region, self.edges, strict=True):
            spans.append(range(int(np.searchsorted(e, s.start, "right")) - 1, int(np.searchsorted(e, s.stop, "left"))))
        return product(*spans)

    def _box(self, place: Sequence[int]) -> Region:
        return tuple(slice(int(e[k]), int(e[k + 1])) for e, k in zip(self.edges, place, strict=True))

    def _deliver(self, place: tuple[int, ...], region: Region, out: np.ndarray) -> None:
        kept, box = self._kept[place], self._box(place)
        shared = [(max(r.start, b.start), min(r.stop, b.stop)) for r, b in zip(region, box, strict=True)]
        target = tuple(slice(a - r.start, b - r.start) for (a, b), r in zip(shared, region, strict=True))
        source = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(shared, box, strict=True))
        out[target] = kept.array[source]
        kept.left -= math.prod(b - a for a, b in shared)
        if kept.left <= 0:
            self._forget(place)

    def _forget(self, place: tuple[int, ...]) -> None:
        self._memory.release(self._kept.pop(place).array)


@dataclass
class _Kept:
    left: int
    array: np.ndarray


def _grouped(edges: Sequence[np.ndarray], whole: int, itemsize: int) -> list[np.ndarray]:
    """Edges of chunks, grouped along the last axes."""
    longest = [int(np.diff(e).max(initial=1)) for e in edges]
    found = list(edges)
    for k in reversed(range(len(edges) - whole, len(edges))):
        e = edges[k]
        room = _RUN_BYTES // max(1, math.prod(longest) * itemsize)
        if room > 1 and len(e) > 2:
            step = min(room, len(e) - 1)
            found[k] = np.unique(np.append(e[::step], e[-1]))
            longest[k] = int(np.diff(found[k]).max())
        if len(found[k]) > 2:
            break
    return found


def iter_planes(
    pixels: Pixels, ndim: int = 2, budget: int = 2**27, slab_bytes: int = 2**24, folder: str | None = None
) -> Generator[np.ndarray, None, None]:
    """Iterate over the last `ndim` axes of `pixels`, in C order of the preceding axes, reading one slab ahead.

    A slab has as many planes as one row of native tiles (or dask chunks) spans, unless that is more than `budget`
    bytes; for small planes it has up to `slab_bytes`. Each tile is read once, see `Once`.

    Parameters
    ----------
    pixels : Pixels
    ndim : int
        Number of axes of a plane.
    budget, slab_bytes : int
    folder : str, optional
        Folder for a temporary file, for tiles whose remaining planes do not fit into memory.

    Yields
    ------
    ndarray
        C-contiguous arrays of ``pixels.shape[-ndim:]``. Do not change them: they may be the caller's own data.
    """
    lead = pixels.ndim - ndim
    plane = math.prod(pixels.shape[lead:]) * pixels.dtype.itemsize
    if pixels.size == 0:
        return
    # innermost axis first: axes inside a grouped axis need their full length, to keep the order of planes
    slab = [1] * lead
    for k in reversed(range(lead)):
        inner_whole = all(slab[j] == pixels.shape[j] for j in range(k + 1, lead))
        if not inner_whole:
            break
        held = max(1, plane * math.prod(slab))
        tile = pixels.tiles[k]
        most = max(1, slab_bytes // held // tile * tile, min(tile, budget // held))
        slab[k] = min(most, pixels.shape[k])
    whole = tuple(slice(0, n) for n in pixels.shape[lead:])
    regions = [r + whole for r in regions_of(tuple(split(pixels.edges(k), n) for k, n in enumerate(slab)))]
    if len(regions) == 1:
        chunk = chunk_of(pixels, regions[0])
        yield from (pixels.read() if chunk is None else chunk).reshape(-1, *pixels.shape[lead:])
        return
    source = Once(pixels, folder, budget, ndim)

    def read(region: Region) -> np.ndarray:
        if source.aligned(region) or pixels.in_memory:
            if (chunk := chunk_of(pixels, region)) is not None:
                return chunk
            return pixels.select([slice(s.start, s.stop) for s in region]).read()
        out = np.empty([s.stop - s.start for s in region], pixels.dtype)
        source.read_into(region, out)
        return out

    try:
        with ThreadPoolExecutor(1, thread_name_prefix="intake_img-ahead") as pool:
            ahead: Any = pool.submit(read, regions[0])
            for n, _ in enumerate(regions):
                block = ahead.result()
                if n + 1 < len(regions):
                    ahead = pool.submit(read, regions[n + 1])
                yield from block.reshape(-1, *pixels.shape[lead:])
    finally:
        source.close()


def write_planes(stream: BinaryIO, pixels: Pixels, progress: Callable[[int], None] | None = None) -> None:
    """Write uncompressed pixels, in C order and native byte order, plane by plane.

    Parameters
    ----------
    stream : binary file
    pixels : Pixels
    progress : callable, optional
        Called with the number of bytes of each plane.

    Raises
    ------
    CannotWriteError
        If the pixels are not numbers.
    """
    if pixels.dtype.kind not in "biufc":
        raise CannotWriteError(f"dtype {pixels.dtype} is not supported: expected numbers")
    for plane in iter_planes(pixels, min(2, pixels.ndim)):
        stream.write(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data)
        if progress is not None:
            progress(plane.nbytes)
