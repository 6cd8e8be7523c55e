"""Filling the arrays of a store in dask tasks, which write where the pixels are computed.

Each block consists of complete chunks or shards of the target, so that each of these has one writer. A block of a
further level is made of the blocks of the level above that it covers, which it reads from the store.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from intake_img.formats.omezarr.chunk_writer import ChunkWriter
from intake_img.formats.omezarr.store import Halved, block_shape, edges_of, rounded_up, shifted
from intake_img.formats.omezarr.windows import Extremes
from intake_img.model.blocks import blocks_of
from intake_img.model.chunks import Region
from intake_img.model.engine import Tasks
from intake_img.model.pixels import Pixels
from intake_img.storage.shared import check_shared

__all__ = ["Filling", "Written", "add_level", "add_pixels", "add_together"]

_LEAST = 2**22  # smaller blocks would make more tasks than are useful
_MOST = 2**26


@dataclass(frozen=True)
class Written:
    """What a task reports of a block: how many bytes of the image it has (0 of a further level), and the extremes."""

    nbytes: int
    array: str = ""
    extremes: Extremes | None = None


@dataclass(frozen=True)
class _WriteTasks:
    """The tasks that fill one array, or a part that begins at `offset`, and the grid of their blocks."""

    name: str
    array: Any
    block: tuple[int, ...]
    offset: tuple[int, ...] = ()

    def keys(self, region: Region) -> list[tuple[Any, ...]]:
        """Return the tasks that write a region of the array."""
        first = [o // b for o, b in zip(self.offset, self.block, strict=True)] if self.offset else [0] * len(region)
        spans = [
            range(s.start // b - f, -(-s.stop // b) - f) for s, b, f in zip(region, self.block, first, strict=True)
        ]
        return [(self.name, *position) for position in product(*spans)]


@dataclass(frozen=True)
class Filling:
    """An array that is to be filled with pixels.

    Parameters
    ----------
    name : str
        Of the variable, for the dashboard.
    array : zarr.Array
    pixels : Pixels
    extremes : Extremes, optional
        What to look for in the pixels.
    writer : ChunkWriter, optional
        Writes blocks of complete chunks; by default zarr does.
    """

    name: str
    array: Any
    pixels: Pixels
    extremes: Extremes | None = None
    writer: ChunkWriter | None = None


def add_pixels(
    tasks: Tasks,
    name: str,
    array: Any,
    pixels: Pixels,
    extremes: Extremes | None = None,
    offset: tuple[int, ...] = (),
) -> _WriteTasks:
    """Add tasks that fill an array with pixels.

    Parameters
    ----------
    tasks : Tasks
    name, array, pixels, extremes
        See `Filling`.
    offset : tuple of int
        Where in the array the pixels begin; at its beginning by default.
    """
    return add_together(tasks, [Filling(name, array, pixels, extremes)], offset)[0]


def add_together(tasks: Tasks, fillings: Sequence[Filling], offset: tuple[int, ...] = ()) -> list[_WriteTasks]:
    """Add tasks that fill several arrays with pixels; what these are computed from is computed once for all."""
    cuts = [_blocks(f.array, f.pixels, offset) for f in fillings]
    blocks = [[tuple(s.stop - s.start for s in e) or (0,) for e in edges] for _, edges in cuts]
    sources = blocks_of([(f.pixels, block) for f, block in zip(fillings, blocks, strict=True)])
    layers = []
    for f, (block, edges), source in zip(fillings, cuts, sources, strict=True):
        made = {
            position: (
                partial(_store, f.writer or f.array, shifted(region, offset), f.name, f.extremes),
                (source.name, *position),
            )
            for position, region in _grid(edges)
        }
        layers.append(_WriteTasks(tasks.add(f"write-{f.name}", made, source), f.array, block, offset))
    return layers


def add_level(
    tasks: Tasks,
    name: str,
    array: Any,
    above: _WriteTasks,
    halved: Halved,
    part: Region = (),
    offset: tuple[int, ...] = (),
    writer: ChunkWriter | None = None,
) -> _WriteTasks:
    """Add tasks that make an array of the level above, as soon as the blocks of that which they read are there.

    Parameters
    ----------
    tasks, name, array
        See `add_pixels`.
    above : _WriteTasks
    halved : Halved
    part : tuple of slice
        Which part of the array; by default all of it.
    offset : tuple of int
        Where this part begins.
    writer : ChunkWriter, optional
        See `Filling`.
    """
    pixels = halved.pixels()
    block, edges = _blocks(array, pixels.select(part) if part else pixels, offset)
    regions = [(position, shifted(region, offset)) for position, region in _grid(edges)]
    made = {
        position: (partial(_store_halved, writer or array, region, halved), above.keys(halved.wanted(region)))
        for position, region in regions
    }
    return _WriteTasks(tasks.add(f"write-{name}", made, after=[above.name]), array, block, offset)


def _blocks(array: Any, pixels: Pixels, offset: tuple[int, ...]) -> tuple[tuple[int, ...], list[list[slice]]]:
    """Return the shape of the blocks in which pixels are written to an array, and where they lie in the pixels."""
    unit = array.shards or array.chunks
    block = block_shape(pixels.shape, pixels.tiles, unit, pixels.dtype.itemsize, _MOST, _LEAST)
    whole = rounded_up(block, unit)
    return whole, edges_of(pixels.shape, whole, offset)


def _grid(edges: Sequence[Sequence[slice]]) -> list[tuple[tuple[int, ...], Region]]:
    positions = product(*(range(len(e)) for e in edges))
    return list(zip(positions, product(*edges), strict=True))


def _store(
    target: ChunkWriter | Any, region: Region, name: str, extremes: Extremes | None, data: np.ndarray
) -> Written:
    data = np.asarray(data)
    _put(target, region, data)
    seen = copy.deepcopy(extremes)
    if seen is not None:
        seen.look(region, data)
    return Written(data.nbytes, name, seen)


def _store_halved(target: ChunkWriter | Any, region: Region, halved: Halved, _: Any) -> Written:
    out = np.empty([s.stop - s.start for s in region], halved.array.dtype)
    halved.read_into(region, out)
    _put(target, region, out)
    return Written(0)


def _put(target: ChunkWriter | Any, region: Region, data: np.ndarray) -> None:
    if isinstance(target, ChunkWriter):
        check_shared(target.root)
        target.write(region, data, atomic=True)  # a worker may be taken for dead, and its block be written twice
        return
    root = getattr(target.store, "root", None)
    if root is not None:
        check_shared(str(root))
    target[region] = data
