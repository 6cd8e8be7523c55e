"""Images in memory: functions over their chunks are run immediately, in threads, without a graph."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.variables import lazy, memory_chunks, with_data
from intake_img.model.datasets import data_of
from intake_img.model.machine import cpus, on_this_machine, threads
from intake_img.model.progress_bar import meter

__all__ = [
    "LEAST",
    "Held",
    "assembled",
    "by_image",
    "chunked",
    "each",
    "each_shown",
    "is_held",
    "mapped_blocks",
    "strips",
    "summed",
]

Chunks = tuple[tuple[int, ...], ...]
Place = tuple[int, ...]
GROUP = 4
"""Chunks that one thread counts before their counts are kept."""
LEAST = 64
"""Pixels of a strip along the axes that are not reduced."""
RUN = 2**14
"""Bytes of a strip that lie together."""


@dataclass(frozen=True, eq=False)
class Held:
    """An array in memory, and the chunks in which it is worked on.

    Parameters
    ----------
    array : ndarray
    chunks : tuple of tuple of int
        As dask writes them.
    """

    array: np.ndarray
    chunks: Chunks

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __getitem__(self, region: tuple[slice, ...]) -> Held:
        """Return a part, in the same chunks."""
        cut = zip(self.chunks, (s.indices(n)[:2] for s, n in zip(region, self.shape, strict=True)), strict=True)
        return Held(self.array[region], tuple(_within(c, *span) for c, span in cut))

    def block(self, place: Place) -> np.ndarray:
        """Return a chunk, a view."""
        return self.array[self.region(place)]

    def region(self, place: Place) -> tuple[slice, ...]:
        """Return where a chunk lies."""
        starts = [sum(c[:k]) for c, k in zip(self.chunks, place, strict=True)]
        return tuple(slice(a, a + c[k]) for a, c, k in zip(starts, self.chunks, place, strict=True))

    def places(self) -> list[Place]:
        """Return the places of all chunks, in C order."""
        return list(np.ndindex(*map(len, self.chunks)))

    def rechunk(self, chunks: Mapping[int, Any]) -> Held:
        """Return the array in other chunks along some axes, which are given as to a dask array."""
        given = [c if chunks.get(k) is None else chunks[k] for k, c in enumerate(self.chunks)]
        given = [(n,) if isinstance(c, int) and c == -1 else c for c, n in zip(given, self.shape, strict=True)]
        if all(isinstance(c, tuple) and sum(c) == n for c, n in zip(given, self.shape, strict=True)):
            return Held(self.array, tuple(given))
        from dask import array as da

        return Held(
            self.array,
            da.core.normalize_chunks(tuple(given), self.shape, dtype=self.dtype, previous_chunks=self.chunks),
        )


def is_held(array: xr.DataArray) -> bool:
    """Whether the data are in memory; those of a memory-mapped file are not."""
    base: Any = data_of(array.variable)
    if not isinstance(base, np.ndarray):
        return False
    while isinstance(base, np.ndarray):
        base = base.base
    return not isinstance(base, mmap.mmap)


def chunked(array: xr.DataArray) -> Any:
    """Return data in memory as `Held`, others as a dask array."""
    if is_held(array):
        return Held(data_of(array.variable), memory_chunks(array))
    return lazy(array)


def assembled(
    make: Callable[..., np.ndarray],
    places: Mapping[Place, Place],
    grid: Sequence[Sequence[int]],
    dtype: np.dtype,
    fills: bool = False,
) -> np.ndarray:
    """Return the array of which `make` makes the chunks.

    Parameters
    ----------
    make : callable
        ``make(place)`` returns a new array.
    places : mapping
        What `make` is called with, for each place in the grid.
    grid : sequence of sequence of int
        The chunks of the result.
    dtype : numpy.dtype
        Of the result.
    fills : bool
        Whether ``make(place, out)`` fills the chunk `out` of the result and returns it.
    """
    if len(places) == 1:
        return make(*places.values())
    starts = [np.concatenate([[0], np.cumsum(c)]).tolist() for c in grid]
    out = np.empty([s[-1] for s in starts], dtype)

    def fill(target: Place) -> None:
        part = out[tuple(slice(s[k], s[k + 1]) for s, k in zip(starts, target, strict=True))]
        if fills:
            make(places[target], part)
        else:
            part[...] = make(places[target])

    each(fill, list(places))
    return out


def each(func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Return what a function makes of each of some items, in threads."""
    workers = min(_workers(), len(items)) if len(items) > 1 else 1
    if workers <= 1:
        return [func(item) for item in items]
    with ThreadPoolExecutor(workers, "intake_img-compute") as pool:
        return list(pool.map(func, items))


def each_shown(func: Callable[[Any], Any], items: Sequence[Any], progress: bool | None, what: str) -> list[Any]:
    """Return what a function makes of each of some items, in threads, with the bar of `progress.meter`."""
    with meter(progress, len(items), what, "") as step:

        def run(item: Any) -> Any:
            found = func(item)
            step(1)
            return found

        return each(run, items)


def mapped_blocks(
    held: Held,
    func: Callable[..., np.ndarray],
    dtype: Any,
    others: Sequence[np.ndarray] = (),
    grid: Chunks | None = None,
) -> np.ndarray:
    """Return what a function makes of each chunk; never a view of the array.

    Parameters
    ----------
    held : Held
    func : callable
        ``func(block, *parts)`` gets a chunk, and the parts of `others` that lie there.
    dtype : dtype
        Of the result.
    others : sequence of ndarray
        With the shape of `held`, or of length 1 along some axes.
    grid : tuple of tuple of int, optional
        The chunks of the result, if they are not those of `held`.
    """

    def make(place: Place) -> np.ndarray:
        region = held.region(place)
        parts = [o[tuple(slice(None) if n == 1 else s for s, n in zip(region, o.shape, strict=True))] for o in others]
        found = func(held.array[region], *parts)
        return found.copy() if np.may_share_memory(found, held.array) else found

    return assembled(make, {k: k for k in held.places()}, held.chunks if grid is None else grid, np.dtype(dtype))


def strips(array: np.ndarray, axes: Sequence[int], most: int) -> list[tuple[slice, ...]]:
    """Cut an array into strips that contain `axes` completely and lie together in memory.

    Parameters
    ----------
    array : ndarray
    axes : sequence of int
        That are not cut, since they are reduced.
    most : int
        Pixels of a strip, about.

    Returns
    -------
    list of tuple of slice
        Each strip has at least 64 pixels along its other axes, and 16 kB in one piece, unless the array has fewer.
    """
    shape = array.shape
    kept = [k for k in range(array.ndim) if k not in axes and shape[k] > 1]
    across = max(kept, key=lambda k: abs(array.strides[k]), default=None)
    whole = tuple(slice(0, n) for n in shape)
    if across is None or not array.size:
        return [whole]
    line = array.size // shape[across]
    rest = line // math.prod(shape[k] for k in axes)
    step = max(1, most // line, math.ceil(LEAST / rest), RUN // abs(array.strides[across] or RUN))
    stops = [*range(step, shape[across] - step + 1, step), shape[across]]
    return [(*whole[:across], slice(a, b), *whole[across + 1 :]) for a, b in pairwise([0, *stops])]


def summed(
    held: Held, axes: Sequence[int], count: Callable[[Place, np.ndarray], Any], add: Callable[[list[Any]], Any]
) -> dict[Place, Any]:
    """Return what is counted of all chunks of each position along some axes.

    Parameters
    ----------
    held : Held
    axes : sequence of int
        Its chunks are of length 1 there.
    count : callable
        ``count(position, block)``; a position has 0 for other axes.
    add : callable
        Returns the sum of several counts.
    """
    blocks: dict[Place, list[Place]] = {}
    for place in held.places():
        blocks.setdefault(tuple(n if k in axes else 0 for k, n in enumerate(place)), []).append(place)
    groups = [(at, own[k : k + GROUP]) for at, own in blocks.items() for k in range(0, len(own), GROUP)]
    found = each(lambda group: add([count(group[0], held.block(k)) for k in group[1]]), groups)
    parts: dict[Place, list[Any]] = {}
    for (at, _), part in zip(groups, found, strict=True):
        parts.setdefault(at, []).append(part)
    return {at: add(own) for at, own in parts.items()}


def by_image(
    arrays: Sequence[xr.DataArray], axes: Sequence[str], func: Callable[..., np.ndarray], dtype: Any
) -> xr.DataArray:
    """Return what a function makes of each complete image; never a view of an array.

    Parameters
    ----------
    arrays : sequence of xarray.DataArray
        In memory, with the same axes. The result has the name, coordinates and attributes of the first.
    axes : sequence of str
        Of an image.
    func : callable
        ``func(*images)`` returns an array of the shape of an image; it gets one of each of the arrays.
    dtype : dtype
        Of the result.
    """
    first = arrays[0]
    outer = tuple(d for d in map(str, first.dims) if d not in axes)
    data = [np.asarray(data_of(a.transpose(*outer, *axes).variable)) for a in arrays]
    shape, lead = data[0].shape, len(outer)

    def make(place: Place) -> np.ndarray:
        images = [d[place[:lead]] for d in data]
        found = func(*images)
        shared = any(np.may_share_memory(found, image) for image in images)
        return (found.copy() if shared else found)[(None,) * lead]

    grid = (*((1,) * n for n in shape[:lead]), *((n,) for n in shape[lead:]))
    places = {k: k for k in np.ndindex(*map(len, grid))}
    made = assembled(make, places, grid, np.dtype(dtype)) if data[0].size else np.empty(shape, dtype)
    return with_data(first, made, (*outer, *axes)).transpose(*first.dims)


def _within(chunks: Sequence[int], start: int, stop: int) -> tuple[int, ...]:
    ends = np.cumsum(chunks).tolist()
    kept = [min(end, stop) - max(end - n, start) for end, n in zip(ends, chunks, strict=True)]
    return tuple(n for n in kept if n > 0) or (0,)


def _workers() -> int:
    """Return in how many threads to work: 1 where dask is set to compute in one thread."""
    if not on_this_machine():
        return cpus()
    import dask

    return 1 if dask.base.get_scheduler() is dask.get else min(threads(), cpus())
