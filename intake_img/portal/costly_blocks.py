"""A cache of expensive blocks of pixels, and computed levels.

A `Blockwise` reader computes each block of an array once; `halved` computes a level from the next finer one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from intake_img.errors import TooLargeError
from intake_img.kernels.resample import coarsened
from intake_img.model.chunks import Region
from intake_img.model.pixels import Pixels
from intake_img.portal.caches import BlockCache

__all__ = ["Blockwise", "halved", "price", "read_region", "tiled_bytes"]


@dataclass(frozen=True, eq=False)
class Blockwise:
    """Reads an array from cached blocks.

    Parameters
    ----------
    make : callable
        Returns the pixels of the region of one block.
    shape, block : tuple of int
        Shape of the array, and of a block.
    cost : callable
        Returns the bytes of the source to read for the block of a region, without cached ones; counting may stop beyond
        the given limit.
    name : str
        Identifies the array in `kept`.
    kept : BlockCache
    lasting : bool
        Keep blocks on disk too.
    source : Pixels, optional
        The same pixels without the cache; they can be pickled if those of the file can.
    """

    make: Callable[[Region], np.ndarray]
    shape: tuple[int, ...]
    block: tuple[int, ...]
    cost: Callable[[Region, int], int]
    name: str
    kept: BlockCache
    lasting: bool = False
    source: Pixels | None = None

    def read_into(self, region: Region, out: np.ndarray) -> None:
        for index in self.touched(region):
            whole = self.region_of(index)
            data = self.kept.get(self.key(index), partial(self.made, whole), self.lasting)
            inner = tuple(slice(max(r.start, w.start), min(r.stop, w.stop)) for r, w in zip(region, whole, strict=True))
            there = tuple(slice(i.start - r.start, i.stop - r.start) for i, r in zip(inner, region, strict=True))
            here = tuple(slice(i.start - w.start, i.stop - w.start) for i, w in zip(inner, whole, strict=True))
            out[there] = data[here]

    def made(self, whole: Region) -> np.ndarray:
        """Return the pixels of a block that is not cached."""
        return self.make(whole)

    def touched(self, region: Region) -> Iterator[tuple[int, ...]]:
        """Return the indices of the blocks that a region touches."""
        spans = [range(s.start // b, -(-s.stop // b)) for s, b in zip(region, self.block, strict=True)]
        return itertools.product(*spans)

    def region_of(self, index: Sequence[int]) -> Region:
        return tuple(slice(i * b, min((i + 1) * b, n)) for i, b, n in zip(index, self.block, self.shape, strict=True))

    def price(self, region: Region, limit: int) -> int:
        """Return the bytes of the source to read for a region now; counting stops beyond `limit`."""
        total = 0
        for index in self.touched(region):
            if not self.kept.holds(self.key(index), self.lasting):
                total += self.cost(self.region_of(index), limit - total)
            if total > limit:
                break
        return total

    def key(self, index: Sequence[int]) -> str:
        return f"{self.name}/{'.'.join(map(str, index))}"


def price(pixels: Pixels, region: Region, limit: int) -> int:
    """Return the bytes of the source to read for a region, for arrays with and without cached blocks."""
    if isinstance(pixels.reader, Blockwise):
        return pixels.reader.price(region, limit)
    return tiled_bytes(pixels, region)


def tiled_bytes(pixels: Pixels, region: Region) -> int:
    """Bytes of the native tiles that a region touches."""
    spans = [
        min(n, -(-s.stop // t) * t) - s.start // t * t
        for s, t, n in zip(region, pixels.tiles, pixels.shape, strict=True)
    ]
    return math.prod(spans) * pixels.dtype.itemsize


def halved(
    finer: Pixels,
    planar: Sequence[int],
    chunk: Sequence[int],
    name: str,
    kept: BlockCache,
    *,
    labels: bool,
    budget: int,
) -> Pixels:
    """Return the next coarser level, computed block by block from the finer one when it is read.

    Each sample is the mean of four samples, or the most frequent of the four for labels and masks. A last odd row or
    column is used alone.

    Parameters
    ----------
    finer : Pixels
    planar : sequence of int
        The axes to halve: y and x.
    chunk : sequence of int
        Shape of the blocks.
    name : str
    kept : BlockCache
    labels : bool
    budget : int
        The largest number of bytes of the source for one block.

    Raises
    ------
    TooLargeError
        On reading a block that would need more.
    """
    factors = tuple(2 if k in planar and n > 1 else 1 for k, n in enumerate(finer.shape))
    shape = tuple(-(-n // f) for n, f in zip(finer.shape, factors, strict=True))
    block = tuple(max(1, min(c, n)) for c, n in zip(chunk, shape, strict=True))

    step = _Halved(finer, factors, labels)

    def cost(region: Region, limit: int) -> int:
        return price(finer, step.wanted(region), limit)

    def make(region: Region) -> np.ndarray:
        if cost(region, budget) > budget:
            raise TooLargeError("a level that the file lacks needs more of the file than one request may read")
        return step.read(region)

    plain = finer.reader.source if isinstance(finer.reader, Blockwise) else finer
    source = None if plain is None else Pixels(replace(step, finer=plain), shape, finer.dtype, block)
    reader = Blockwise(make, shape, block, cost, name, kept, lasting=True, source=source)
    return Pixels(reader, shape, finer.dtype, block, parallel=False)


@dataclass(frozen=True, eq=False)
class _Halved:
    """Reads the next coarser level of some pixels."""

    finer: Pixels
    factors: tuple[int, ...]
    labels: bool

    def wanted(self, region: Region) -> Region:
        """Return the region of the finer pixels."""
        sides = zip(region, self.factors, self.finer.shape, strict=True)
        return tuple(slice(s.start * f, min(s.stop * f, n)) for s, f, n in sides)

    def read(self, region: Region) -> np.ndarray:
        return _coarser(read_region(self.finer, self.wanted(region)), self.factors, self.labels)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self.read(region)


def _coarser(data: np.ndarray, factors: Sequence[int], labels: bool) -> np.ndarray:
    """Return a sample for each block of `factors` samples; samples at the end of an odd axis are used twice."""
    padding = [(0, n % f) for n, f in zip(data.shape, factors, strict=True)]
    data = np.pad(data, padding, mode="edge") if any(p for _, p in padding) else data
    return coarsened(data, factors, "mode" if labels or data.dtype.kind == "b" else "mean")


def read_region(pixels: Pixels, region: Region) -> np.ndarray:
    """Return the samples of a region."""
    out = np.empty(tuple(s.stop - s.start for s in region), pixels.dtype)
    pixels.read_into(region, out)
    return out
