"""Dask arrays of unread pixels: a chain of selections of any length becomes one selection of the pixels.

Dask fuses one slice into the task that reads a chunk. With a second slice, an integer followed by a slice, or a
transposition, it reads complete chunks. Here slicing and transposing make a new array of selected `Pixels` with its own
graph, which reads only the selection.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from dask import array as da
from dask import base, highlevelgraph

from intake_img.model.buffers import ReadBuffer, joined
from intake_img.model.chunks import Region
from intake_img.model.graph_layers import BlockLayer, LazyGraph, Task
from intake_img.model.indices import settled
from intake_img.model.machine import empty, memory, on_this_machine, unguided
from intake_img.model.readers import Selected, leaf_of, with_leaf

if TYPE_CHECKING:
    from intake_img.model.pixels import Pixels

__all__ = ["FilledArray", "PixelsArray", "array_of", "filled_array"]

Key = tuple[Any, ...]
"""An integer, slice, ndarray of integers, or None (a new axis), in the order of the axes."""


def array_of(pixels: Pixels, chunks: tuple[tuple[int, ...], ...], name: str, source: str = "") -> da.Array:
    """Return a dask array of one task per chunk; each task opens the file itself.

    Parameters
    ----------
    pixels : Pixels
    chunks : tuple of tuple of int
    name : str
        Of the array.
    source : str
        Key by which all selections of one image find its reader, where that is too large to be copied into every task.
    """
    meta = np.empty((0,) * pixels.ndim, pixels.dtype)
    if getattr(da.Array, "__module__", "") != "dask.array.core":  # a dask that optimises array expressions
        return da.from_array(pixels, chunks, name, asarray=False, inline_array=not pixels.many_files, meta=meta)
    source = source or f"source-{name}"
    array: PixelsArray = object.__new__(PixelsArray)  # the constructor of dask would make the graph
    array._name, array._chunks, array._meta = name, chunks, meta
    array.pixels, array.source = pixels, source
    array.__dict__["shape"] = pixels.shape  # dask adds up the chunks
    array._graph = LazyGraph(
        partial(_graph_of, pixels, chunks, name, source), partial(_computed, pixels, chunks, name, source)
    )
    return array


def _graph_of(
    pixels: Pixels, chunks: tuple[tuple[int, ...], ...], name: str, source: str
) -> highlevelgraph.HighLevelGraph:
    if pixels.many_files or _listed(pixels.reader):
        return _shared(pixels, chunks, name, source)
    made = da.from_array(pixels, chunks, name, asarray=False, inline_array=True, meta=np.empty(0, pixels.dtype))
    graph: highlevelgraph.HighLevelGraph = made.dask
    return graph


def _computed(
    pixels: Pixels, chunks: tuple[tuple[int, ...], ...], name: str, source: str
) -> highlevelgraph.HighLevelGraph | None:
    """Return a graph for one computation of the complete array in this process, whose tasks read into one array."""
    if not on_this_machine() or not 0 < pixels.nbytes <= memory():
        return None
    buffer = ReadBuffer(pixels.shape, pixels.dtype)
    if pixels.many_files or _listed(pixels.reader):
        return _shared(pixels, chunks, name, source, buffer)
    reader = pixels.reader
    regions = _regions(chunks)
    layer = BlockLayer(name, [len(c) for c in chunks], lambda k: (partial(_fill, reader, regions(k), buffer), []))
    return highlevelgraph.HighLevelGraph({name: layer}, {name: set()})


def _fill(reader: Any, region: Region, buffer: ReadBuffer, _: Any) -> np.ndarray:
    out = buffer.part(region)
    reader.read_into(region, out)
    return out


def _regions(chunks: tuple[tuple[int, ...], ...]) -> Callable[[tuple[int, ...]], Region]:
    """Return the function from the position of a chunk to its region."""
    starts = [np.cumsum((0, *c)).tolist() for c in chunks]
    return lambda position: tuple([slice(s[k], s[k + 1]) for s, k in zip(starts, position, strict=True)])


def _shared(
    pixels: Pixels, chunks: tuple[tuple[int, ...], ...], name: str, source: str, buffer: ReadBuffer | None = None
) -> highlevelgraph.HighLevelGraph:
    """Return a graph whose tasks contain the region that they read, and share the reader."""
    bare, listed, regions = with_leaf(pixels.reader, None), _listed(pixels.reader), _regions(chunks)

    def make(position: tuple[int, ...]) -> Task:
        region = regions(position)
        out = partial(buffer.part, region) if buffer is not None else partial(_new, region, pixels.dtype)
        if not listed:
            return partial(_read, bare, region, out), source
        part = pixels.select(region)
        return partial(_read, with_leaf(part.reader, None), tuple(slice(0, n) for n in part.shape), out), source

    layers = {
        source: highlevelgraph.MaterializedLayer({source: leaf_of(pixels.reader)}),
        name: BlockLayer(name, [len(c) for c in chunks], make),
    }
    return highlevelgraph.HighLevelGraph(layers, {source: set(), name: {source}})


def _new(region: Region, dtype: np.dtype) -> np.ndarray:
    return empty(tuple([s.stop - s.start for s in region]), dtype)


def _read(reader: Any, region: Region, make: Callable[[], np.ndarray], leaf: Any) -> np.ndarray:
    out = make()
    with_leaf(reader, leaf).read_into(region, out)
    return out


def _listed(reader: Any) -> bool:
    """Whether a reader contains so many indices that tasks should not repeat them."""
    while hasattr(reader, "reader"):
        if isinstance(reader, Selected) and any(len(i) > _MOST_LISTED for i in reader.indices if isinstance(i, tuple)):
            return True
        reader = reader.reader
    return False


_MOST_LISTED = 64


class _EqualToDask(type):
    """The type of a class that equals `dask.array.Array`.

    xarray collects the types of the chunked arrays of one call, in `apply_ufunc` and `interp`, and raises an error if
    they are not all the same: without this, an image from a file and one that was computed from it could not be used
    together.
    """

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is da.Array

    def __hash__(cls) -> int:
        return hash(da.Array)


class PixelsArray(da.Array, metaclass=_EqualToDask):
    """A dask array whose slices and transposes are views of its `pixels`.

    Attributes
    ----------
    pixels : Pixels
        The pixels that the array reads, chunk by chunk.
    source : str
        See `array_of`.
    """

    pixels: Pixels
    source: str
    _graph: LazyGraph

    @property
    def dask(self) -> highlevelgraph.HighLevelGraph:
        """The graph; it is made when it is used."""
        return self._graph

    @dask.setter
    def dask(self, graph: highlevelgraph.HighLevelGraph) -> None:
        """Take the graph of values that were assigned in place: the array is no longer what the file holds."""
        self.__dict__.clear()
        self.__class__ = da.Array  # type: ignore[assignment]
        self.dask = graph

    def __reduce__(self) -> tuple[Any, ...]:
        return array_of, (self.pixels, self.chunks, self.name, self.source)

    def __dask_postcompute__(self) -> tuple[Callable[[Any], Any], tuple[Any, ...]]:
        join, arguments = super().__dask_postcompute__()
        return partial(joined, join, self.chunks), arguments

    def copy(self) -> da.Array:
        return array_of(self.pixels, self.chunks, self.name, self.source)

    def __array__(self, dtype: Any = None, copy: bool | None = None, **options: Any) -> np.ndarray:
        """Read the pixels without a graph, if the user did not choose where or how dask computes."""
        if copy is False or options or not unguided():
            return super().__array__(dtype, copy=copy, **options)
        found = self.pixels.read_part(())
        return found if dtype is None else found.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> da.Array:
        key = _understood(index if isinstance(index, tuple) else (index,), self.shape)
        if key is None:
            return super().__getitem__(index)
        axes = [k for k in key if k is not None]
        selected = self.pixels.select(axes)
        chunks = [_chunks_of(c, k) for c, k in zip(self.chunks, axes, strict=True)]
        if None in chunks:  # so scattered that blocks would gather from all chunks
            lengths = iter(self.shape)
            return super().__getitem__(tuple(k if k is None else settled(k, next(lengths)) for k in key))
        places = _places(key)
        if selected is self.pixels and places == list(range(self.ndim)):
            return self
        name = f"pixels-{base.tokenize(self.name, key)}"
        lengths = tuple((1,) if p is None else chunks[p] or (0,) for p in places)
        return array_of(selected.reshape(places), lengths, name, self.source)

    def transpose(self, *axes: Any) -> da.Array:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], (int, np.integer)) else axes
        if not order:  # none given, or no axes
            order = range(self.ndim)[::-1]
        if sorted(k % self.ndim if -self.ndim <= k < self.ndim else k for k in order) != list(range(self.ndim)):
            return super().transpose(*axes)
        order = [int(k) % self.ndim for k in order]
        if order == list(range(self.ndim)):
            return self
        name = f"pixels-{base.tokenize(self.name, 'transpose', order)}"
        chunks = tuple(self.chunks[k] for k in order)
        return array_of(self.pixels.transpose(order), chunks, name, self.source)


class FilledArray(da.Array, metaclass=_EqualToDask):
    """A dask array whose tasks fill one array, if all of it is computed in this process."""

    def __dask_postcompute__(self) -> tuple[Callable[[Any], Any], tuple[Any, ...]]:
        join, arguments = super().__dask_postcompute__()
        return partial(joined, join, self.chunks), arguments


def filled_array(
    make: Callable[[Callable[[tuple[int, ...]], Callable[[], np.ndarray]] | None], highlevelgraph.Layer],
    name: str,
    chunks: tuple[tuple[int, ...], ...],
    dtype: np.dtype,
    source: Any,
) -> da.Array:
    """Return a dask array whose tasks fill arrays that they are given.

    Parameters
    ----------
    make : callable
        ``make(out)`` returns the tasks; ``out(position)()`` returns the array that the task of a chunk fills and
        returns, ``make(None)`` tasks that return new arrays.
    name : str
        Of the array.
    chunks : tuple of tuple of int
    dtype : numpy.dtype
    source : dask.array.Array
        The array on which the tasks depend.
    """
    regions = _regions(chunks)

    def graph(out: Callable[[tuple[int, ...]], Callable[[], np.ndarray]] | None) -> highlevelgraph.HighLevelGraph:
        tasks: Any = make(out)
        return highlevelgraph.HighLevelGraph.from_collections(name, tasks, dependencies=[source])

    def usual() -> highlevelgraph.HighLevelGraph:
        return graph(None)

    def computed() -> highlevelgraph.HighLevelGraph | None:
        shape = tuple(map(sum, chunks))
        if not on_this_machine() or not 0 < math.prod(shape) * dtype.itemsize <= memory():
            return None
        buffer = ReadBuffer(shape, dtype)
        return graph(lambda position: partial(buffer.part, regions(position)))

    meta = np.empty((0,) * len(chunks), dtype)
    return FilledArray(LazyGraph(usual, computed), name, chunks, dtype=dtype, meta=meta)


def _understood(index: Key, shape: Sequence[int]) -> Key | None:
    """Return a complete index, or None to leave it to dask: invalid indices, several lists, dask arrays."""
    if not all(map(_is_plain, index)):
        return None
    used = sum(k is not None and k is not Ellipsis for k in index)
    dots = [n for n, k in enumerate(index) if k is Ellipsis]
    if len(dots) > 1 or used > len(shape) or sum(isinstance(k, (list, np.ndarray)) for k in index) > 1:
        return None
    at, after = (dots[0], dots[0] + 1) if dots else (len(index), len(index))
    full = (*index[:at], *(slice(None),) * (len(shape) - used), *index[after:])
    lengths = iter(shape)
    key = tuple(None if k is None else _of_axis(k, next(lengths)) for k in full)
    return None if any(k is False for k in key) else key


def _is_plain(k: Any) -> bool:
    if isinstance(k, slice):
        return all(p is None or isinstance(p, (int, np.integer)) for p in (k.start, k.stop, k.step)) and k.step != 0
    if isinstance(k, (list, np.ndarray)):
        return np.ndim(k) == 1 and (len(k) == 0 or np.asarray(k).dtype.kind in "iub")
    return k is None or k is Ellipsis or (isinstance(k, (int, np.integer)) and not isinstance(k, bool))


def _of_axis(k: Any, n: int) -> Any:
    """Return the index of one axis in a form for dask's tokens; False if it is out of range."""
    if isinstance(k, slice):
        return k
    if isinstance(k, (int, np.integer)):
        return int(k) if -n <= k < n else False
    array = np.asarray(k, dtype=None if len(k) else np.int64)
    if array.dtype.kind == "b":
        return np.flatnonzero(array) if len(array) == n else False
    return np.where(array < 0, array + n, array) if ((array >= -n) & (array < n)).all() else False


def _places(key: Key) -> list[int | None]:
    """Return the remaining axes of the selected pixels, None for a new axis, for `Pixels.reshape`."""
    places: list[int | None] = []
    axis = 0
    for k in key:
        if k is None:
            places.append(None)
            continue
        if not isinstance(k, int):
            places.append(axis)
        axis += 1
    return places


def _chunks_of(chunks: tuple[int, ...], k: Any) -> tuple[int, ...] | None:
    """Return the chunks of a selection, each within one chunk of the source; None if they are too many."""
    if isinstance(k, int):
        return (1,)
    if isinstance(k, slice) and k == slice(None):
        return chunks
    if isinstance(k, slice) and k.step in (None, 1):
        return _within(chunks, *k.indices(sum(chunks))[:2])
    stops = np.cumsum(chunks)
    if isinstance(k, slice):
        index = range(int(stops[-1]))[k]
        if not index:
            return (0,)
        step, start = abs(index.step), min(index[0], index[-1])
        counts = np.diff(np.clip(-((start - stops) // step), 0, len(index)), prepend=0)
        counts = counts[counts > 0][:: 1 if index.step > 0 else -1]
    else:
        blocks = np.searchsorted(stops, k, "right")
        counts = np.diff(np.flatnonzero(np.diff(blocks, prepend=-1, append=-1)))
        if len(counts) > _MOST_RUNS * max(1, len(np.unique(blocks))):
            return None
    return tuple(counts.tolist()) or (0,)


def _within(chunks: tuple[int, ...], start: int, stop: int) -> tuple[int, ...]:
    """Return the chunks of a range of an axis."""
    if start >= stop:
        return (0,)
    stops = list(accumulate(chunks))
    first, last = bisect_right(stops, start), bisect_left(stops, stop)
    if first == last:
        return (stop - start,)
    lengths = (stops[first] - start, *chunks[first + 1 : last], stop - stops[last - 1])
    return lengths if 0 not in lengths else tuple(n for n in lengths if n)


_MOST_RUNS = 2
"""How many blocks of a selection may lie in each chunk of the image, on average."""
