"""Native tiles that several chunks share: each is decoded once, and cached as it is, or as chunks if it is large."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.model.chunks import Region
from intake_img.model.pixels import Pixels
from intake_img.model.readers import leaf_of, mapped
from intake_img.portal.caches import BlockCache
from intake_img.portal.costly_blocks import Blockwise, read_region, tiled_bytes

__all__ = ["shared_tiles"]

_LEAST_ON_DISK = 16 * 2**20
_SHARE = 8  # a value above this part of the memory is not kept, see `memory_cache`


@dataclass(frozen=True, eq=False, kw_only=True)
class _Spread(Blockwise):
    """Reads an array from cached blocks, of which all in a native tile are made when the tile is decoded.

    Parameters
    ----------
    unit : tuple of int
        Shape of a tile, in whole blocks.
    """

    unit: tuple[int, ...]
    lock: Any = field(default_factory=threading.Lock)

    def price(self, region: Region, limit: int) -> int:
        total, seen = 0, set()
        for index in self.touched(region):
            whole = self._unit_of(self.region_of(index))
            place = tuple(s.start for s in whole)
            if place not in seen and not self.kept.holds(self.key(index), self.lasting):
                seen.add(place)
                total += self.cost(whole, limit)
            if total > limit:
                break
        return total

    def made(self, whole: Region) -> np.ndarray:
        """Return a block; decode its tile, unless another request has just done so."""
        index = tuple(s.start // b for s, b in zip(whole, self.block, strict=True))
        with self.lock:  # one at a time: they are large
            found = self.kept.found(self.key(index), self.lasting)
            return self._spread(whole) if found is None else found

    def _spread(self, whole: Region) -> np.ndarray:
        unit = self._unit_of(whole)
        data, wanted = self.make(unit), None
        for index in self.touched(unit):
            region = self.region_of(index)
            inside = tuple(slice(r.start - u.start, r.stop - u.start) for r, u in zip(region, unit, strict=True))
            block = data[inside].copy()
            if region == whole:
                wanted = block  # the cache keeps it itself
            else:
                self.kept.put(self.key(index), block, self.lasting)
        assert wanted is not None
        return wanted

    def _unit_of(self, region: Region) -> Region:
        starts = [s.start // u * u for s, u in zip(region, self.unit, strict=True)]
        return tuple(slice(a, min(a + u, n)) for a, u, n in zip(starts, self.unit, self.shape, strict=True))


def shared_tiles(pixels: Pixels, chunk: Sequence[int], name: str, kept: BlockCache) -> Pixels:
    """Return pixels that decode each native tile once, if several chunks share a tile; else `pixels` unchanged, as are
    pixels in memory or in a memory-mapped file.

    Tiles are cached as they are. Those that take too much of the memory, such as a photograph in one piece, are cached
    as blocks of the shape of a chunk: in memory if a tile takes at most half of it, else on disk.

    Parameters
    ----------
    pixels : Pixels
    chunk : sequence of int
        Shape of the chunks to read.
    name : str
    kept : BlockCache
    """
    shares = any(t > c for t, c in zip(pixels.tiles, chunk, strict=True))
    if not shares or any(c is not None for c in pixels.cuts) or mapped(leaf_of(pixels.reader)) is not None:
        return pixels
    sides = list(zip(pixels.tiles, chunk, pixels.shape, strict=True))
    unit = tuple(n if t >= n > c else max(t, c) for t, c, n in sides)
    size = math.prod(map(min, unit, pixels.shape)) * pixels.dtype.itemsize
    reader = Blockwise(
        make=lambda region: read_region(pixels, region),
        shape=pixels.shape,
        block=unit,
        cost=lambda region, limit: tiled_bytes(pixels, region),
        name=name,
        kept=kept,
        source=pixels,
    )
    if size > kept.memory.limit // _SHARE:
        lasting = size > kept.memory.limit // 2
        split = any(u % c and u < n for u, (_, c, n) in zip(unit, sides, strict=True))
        if split or (lasting and not _LEAST_ON_DISK <= size <= kept.disk.limit // 4):
            return pixels
        facts = {**vars(reader), "block": tuple(chunk), "lasting": lasting}
        reader = _Spread(**facts, unit=unit)
    return Pixels(reader, pixels.shape, pixels.dtype, pixels.tiles, pixels.parallel)
