"""Functions over chunks with an exact halo: a dask graph in which each chunk gathers the pixels that it needs.

There is one task for each chunk of the result. It gathers exactly the needed pixels from the surrounding chunks (or
from the other side, if the image is periodic), calls the function once and keeps the inner part. At the true edge of
the image, the function's own edge treatment applies; elsewhere the halo, which is affected by the artificial edge, is
cut off. Chunks smaller than the halo are merged, so that a chunk needs only its direct neighbours.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.accessor.processing.in_memory import Held, assembled
from intake_img.kernels.each_image import EachImage, Elementwise
from intake_img.model.graph_layers import BlockLayer, DeferredLayer, LazyGraph

if TYPE_CHECKING:
    import dask.array

__all__ = [
    "bytes_of",
    "deferred",
    "gathered",
    "halo",
    "merged",
    "new_array",
    "parts_of",
    "rechunked",
    "regrouped",
]

_MANY = 64  # chunks, whose graph takes a call longer than preparing to make it later

Graph = Mapping[Any, Any]
Span = tuple[int, int]
Place = tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    """The input of one chunk of a result along one axis.

    Parameters
    ----------
    parts : tuple of (int, slice)
        Chunks of the source and the slice of each, in order.
    pad : (int, int)
        Pixels to add before and after, beyond the edge of the image.
    cut : slice
        The part of the padded input that the function gets.
    inner : slice
        The part of that which belongs to the chunk.
    start : int
        Start of the chunk in the source.
    """

    parts: tuple[tuple[int, slice], ...]
    pad: Span
    cut: slice
    inner: slice
    start: int


@dataclass(frozen=True)
class _OwnChunks(Sequence[_Piece]):
    """The pieces of an axis of which each chunk needs only itself: made when they are used."""

    chunks: tuple[int, ...]

    @cached_property
    def stops(self) -> list[int]:
        return list(accumulate(self.chunks))

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, k: Any) -> Any:
        n = self.chunks[k]
        return _Piece(((k, slice(0, n)),), (0, 0), slice(None), slice(0, n), self.stops[k] - n)


def merged(chunks: Sequence[int], least: int) -> tuple[int, ...]:
    """Return chunks; neighbours are merged until each chunk has at least `least` samples.

    Examples
    --------
    >>> merged((4, 4, 4, 4, 2), 7)
    (8, 10)
    """
    joined: list[int] = []
    held = 0
    for n in chunks:
        held += n
        if held >= least:
            joined.append(held)
            held = 0
    if held:
        joined = [*joined[:-1], joined[-1] + held] if joined else [held]
    return tuple(joined) or (0,)


def pieces(
    chunks: Sequence[int], depth: Span, edge: str, window: Span, padded: bool, passes: int = 1, whole: bool = False
) -> Sequence[_Piece]:
    """Return the input of each chunk within `window` along one axis.

    Parameters
    ----------
    chunks : sequence of int
        Chunks of the source.
    depth : (int, int)
        Extent of the function before and after a pixel.
    edge : {"own", "wrap"}
        ``"own"``: the function handles the edge of the image; ``"wrap"``: the image is periodic.
    window : (int, int)
        The requested part of the axis.
    padded : bool
        Whether inputs are padded beyond the edge, so that the function always gets `depth` more pixels on both sides.
    passes : int
        Number of passes of the function along the axis.
    whole : bool
        Whether inputs are taken from the complete axis instead of from its chunks.
    """
    if depth == (0, 0) and window == (0, sum(chunks)) and not padded and not whole and 0 not in chunks:
        return _OwnChunks(tuple(chunks))
    stops = np.cumsum(chunks).tolist()
    spans = [(max(stop - n, window[0]), min(stop, window[1])) for stop, n in zip(stops, chunks, strict=True)]
    n = sum(chunks)
    if window[0] == window[1]:
        spans = [window]
    elif any(b > a for a, b in spans):
        spans = [(a, b) for a, b in spans if b > a]
    return [_piece(a, b, n, [n] if whole else stops, depth, edge, padded, passes) for a, b in spans]


def _piece(a: int, b: int, n: int, stops: Sequence[int], depth: Span, edge: str, padded: bool, passes: int) -> _Piece:
    first, last = a - depth[0], b + depth[1]
    pad, cut = (0, 0), slice(None)
    if first >= 0 and last <= n:
        runs, inner = [(first, last)], slice(depth[0], depth[0] + b - a)
    elif edge == "wrap" and (padded or last - first < n):
        runs, inner = _periodic(first, last, n), slice(depth[0], depth[0] + b - a)
    elif edge == "wrap":  # the input would exceed the axis: the function itself wraps around it
        runs, inner = [(0, n)], slice(a, b)
    else:
        before, after = max(0, -first), max(0, last - n)
        low, high = max(0, first), min(n, last)
        # a reflected edge needs as many pixels inside as outside
        more = sum(depth) if passes > 1 else 0
        high = max(high, min(n, before + 1 + more)) if before else high
        low = min(low, max(0, n - after - 1 - more)) if after else low
        runs, inner = [(low, high)], slice(a - low, b - low)
        if padded:
            pad = (before, after)
            cut = slice(max(0, first - low), before + high - low + after - max(0, high - last))
            inner = slice(depth[0], depth[0] + b - a)
    return _Piece(tuple(parts_of(runs, stops)), pad, cut, inner, a)


def _periodic(first: int, last: int, n: int) -> list[Span]:
    runs = []
    while first < last:
        low = first % n
        high = min(n, low + last - first)
        runs.append((low, high))
        first += high - low
    return runs


def parts_of(runs: Sequence[Span], stops: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Give the chunks of an axis in which runs of samples lie, and what of each; `stops` is where chunks end."""
    for low, high in runs:
        first = bisect_right(stops, low)
        if low == high:
            first = min(first, len(stops) - 1)
            start = stops[first - 1] if first else 0
            yield first, slice(low - start, low - start)
            continue
        for k in range(first, len(stops)):
            start = stops[k - 1] if k else 0
            if start >= high:
                break
            yield k, slice(max(low, start) - start, min(high, stops[k]) - start)


def halo(
    array: Any,
    func: Callable[..., np.ndarray],
    depth: Mapping[int, Span] | None = None,
    *,
    edge: str = "own",
    passes: int = 1,
    pad: Mapping[str, Any] | None = None,
    window: Mapping[int, Span] | None = None,
    chunks: Callable[[tuple[tuple[int, ...], ...]], Sequence[Sequence[int]]] | None = None,
    kept: int | None = None,
    dtype: Any = None,
    meta: Any = None,
    name: str = "map",
    positions: bool = False,
) -> Any:
    """Apply a function to every chunk together with its halo.

    Parameters
    ----------
    array : dask.array.Array or Held
    func : callable
        ``func(piece, inner)`` returns the part ``inner`` (a tuple of slices) of its result for ``piece``; with
        `positions`, ``func(piece, inner, start)``, where ``start`` is the position of that part in `array`.
    depth : mapping of int to (int, int)
        Extent of the function along an axis, before and after a pixel.
    edge : {"own", "wrap"}
        ``"own"``: the function handles the edge of the image; ``"wrap"``: the image is periodic.
    passes : int
        Number of passes of the function along an axis: with several, the effect of the edge spreads inwards.
    pad : mapping, optional
        Arguments of `numpy.pad`: inputs are padded beyond the edge of the image, so that the function always gets
        `depth` more pixels on both sides. With ``edge="wrap"`` these come from the other side, and the mapping is
        empty.
    window : mapping of int to (int, int), optional
        The requested part of the axes; the halo may lie outside.
    chunks : callable, optional
        Returns the chunks of the result for the chunks of the inputs, if the function changes shapes.
    kept : int, optional
        How many leading axes the result shares with `array`, if the others are complete and become different ones.
    dtype, meta : optional
        Of the result; by default as `array`. The function is never called to infer them.

    Returns
    -------
    dask.array.Array or ndarray
        An array with one task for each chunk of the result; without a halo, dask may fuse it with reading. For an array
        in memory, the result itself.
    """
    held = isinstance(array, Held)
    depth = {k: d for k, d in (depth or {}).items() if d != (0, 0)}
    wanted = {k: (0, n) for k, n in enumerate(array.shape)} | dict(window or {})
    joined = {k: merged(array.chunks[k], max(d)) for k, d in depth.items()}
    if joined := {k: c for k, c in joined.items() if c != array.chunks[k]}:
        array = rechunked(array, joined)
    plan = [
        pieces(array.chunks[k], depth.get(k, (0, 0)), edge, wanted[k], pad is not None and k in depth, passes, held)
        for k in range(array.ndim)
    ]
    spans = tuple(map(_lengths, plan))
    grid = spans if chunks is None else tuple(tuple(c) for c in chunks(spans))
    dtype = np.dtype(array.dtype if dtype is None else dtype)
    run = partial(_run, func, dict(pad) if pad is not None else None, positions)
    if isinstance(array, Held):
        make = partial(_of_held, run, plan, array.array)
        return assembled(make, _targets(plan, grid, kept), grid, dtype, isinstance(func, (EachImage, Elementwise)))
    from dask import base

    made = None if chunks is None else grid  # else the name of the array depends on them
    token = f"{name}-{base.tokenize(array.name, func, depth, edge, passes, pad, wanted, positions, str(dtype), made)}"
    if not positions and kept is None and all(_plain(axis, c) for axis, c in zip(plan, array.chunks, strict=True)):
        meta = np.empty((0,) * len(grid), dtype) if meta is None else meta
        every: Any = array
        return every.map_blocks(partial(_on_block, func), dtype=dtype, meta=meta, chunks=grid, name=token)
    task = _Tasks(run, tuple(plan), array.name, kept)
    return new_array(token, BlockLayer(token, [len(c) for c in grid], task), grid, dtype, [array], meta)


@dataclass(frozen=True)
class _Tasks:
    """Makes the task of a chunk of a result from its place.

    Parameters
    ----------
    run : callable
        ``run(pieces, blocks)`` returns the chunk.
    plan : tuple of sequence of _Piece
    source : str
        Name of the array.
    kept : int, optional
        See `halo`.
    """

    run: Callable[..., Any]
    plan: tuple[Sequence[_Piece], ...]
    source: str
    kept: int | None

    def __call__(self, target: Place) -> tuple[Callable[..., Any], Any]:
        lead = len(self.plan) if self.kept is None else self.kept
        place = (*target[:lead], *(0,) * (len(self.plan) - lead))
        chosen = tuple(axis[k] for axis, k in zip(self.plan, place, strict=True))
        keys = [(self.source, *ks) for ks in product(*[[k for k, _ in p.parts] for p in chosen])]
        return partial(self.run, chosen), keys


def _lengths(axis: Sequence[_Piece]) -> tuple[int, ...]:
    return axis.chunks if isinstance(axis, _OwnChunks) else tuple(p.inner.stop - p.inner.start for p in axis)


def _targets(plan: Sequence[Sequence[_Piece]], grid: Sequence[Any], kept: int | None) -> dict[Place, Place]:
    """Return the places of pieces, for those of the chunks of the result that are made of them."""
    places = product(*[range(len(axis)) for axis in plan])
    if kept is None:
        return {place: place for place in places}
    return {(*place[:kept], *(0,) * (len(grid) - kept)): place for place in places}


def _of_held(
    run: Callable[..., np.ndarray], plan: Sequence[Any], array: np.ndarray, place: Place, *out: np.ndarray
) -> np.ndarray:
    chosen = tuple(axis[k] for axis, k in zip(plan, place, strict=True))
    found = run(chosen, [array] * math.prod(len(p.parts) for p in chosen), *out)
    if out:
        return found
    return found.copy() if np.may_share_memory(found, array) else found


def new_array(
    name: str,
    graph: Graph | Callable[[], Graph],
    chunks: Sequence[Sequence[int]],
    dtype: Any,
    sources: Sequence[Any],
    meta: Any = None,
) -> dask.array.Array:
    """Return the dask array whose chunks are the tasks of `graph`; a function makes them when they are first used."""
    from dask import array as da
    from dask import highlevelgraph

    if any(hasattr(s, "expr") for s in sources):
        return _planned(name, graph() if callable(graph) else graph, chunks, dtype, sources, meta)
    tasks = DeferredLayer(graph) if callable(graph) else graph
    layered = LazyGraph(
        partial(highlevelgraph.HighLevelGraph.from_collections, name, tasks, dependencies=list(sources))
    )
    if meta is None:
        meta = np.empty((0,) * len(chunks), dtype)
    return da.Array(layered, name, tuple(map(_counted, chunks)), dtype=np.dtype(dtype), meta=meta)


def _counted(lengths: Sequence[int]) -> tuple[int, ...]:
    """Return chunks as integers; those of an array as they are, since dask knows the sums of tuples that it has met."""
    return lengths if type(lengths) is tuple and set(map(type, lengths)) == {int} else tuple(map(int, lengths))


def deferred(
    array: Any, build: Callable[[Any], Any], token: Any, chunks: Sequence[Sequence[int]], dtype: Any, meta: Any = None
) -> Any:
    """Return ``build(array)``; where there are many chunks, its graph is made when it is first used.

    Parameters
    ----------
    array : dask.array.Array
    build : callable
        Returns a dask array that is made of `array` alone.
    token : str or tuple
        What decides the result besides `array`, with the name of the operation first.
    chunks, dtype, meta
        Of the result.
    """
    if hasattr(array, "expr") or array.npartitions < _MANY:
        return build(array)
    from dask import base

    label = token if isinstance(token, str) else token[0]
    name = f"{label}-{base.tokenize(array.name, token)}"

    def graph() -> Graph:
        made = build(array)
        added = made.dask.layers.keys() - array.dask.layers.keys()
        tasks: dict[Any, Any] = {key: task for layer in added for key, task in made.dask.layers[layer].items()}
        for place in product(*[range(len(c)) for c in chunks]):
            tasks[name, *place] = _renamed(tasks.pop((made.name, *place)), (name, *place))
        return tasks

    return new_array(name, graph, chunks, dtype, [array], meta)


def rechunked(array: Any, chunks: Mapping[int, Any]) -> Any:
    """Return `array` in other chunks along some axes; where there are many, the graph is made when it is first used."""
    if isinstance(array, Held) or hasattr(array, "expr") or array.npartitions < _MANY:
        return array.rechunk(chunks)
    from dask import array as da

    wanted = tuple(chunks.get(k, c) for k, c in enumerate(array.chunks))
    lengths = da.core.normalize_chunks(wanted, array.shape, dtype=array.dtype, previous_chunks=array.chunks)
    if lengths == array.chunks:
        return array
    return deferred(array, lambda a: a.rechunk(lengths), ("rechunk", lengths), lengths, array.dtype, array._meta)


def _renamed(task: Any, key: Any) -> Any:
    """Return a task of dask with another key."""
    renamed = task.substitute({}, key=key) if hasattr(task, "substitute") else task
    return getattr(renamed, "target", renamed) if getattr(renamed, "key", key) != key else renamed


def _planned(
    name: str, graph: Graph, chunks: Sequence[Sequence[int]], dtype: Any, sources: Sequence[Any], meta: Any
) -> Any:
    """Return the array as an expression, for dask's array expressions (``array.query-planning``)."""
    from dask import core

    tasks: dict[Any, Any] = dict(graph)
    for source in sources:
        tasks |= dict(source.__dask_graph__())
        known = product(*[range(n) for n in source.numblocks])  # optimisation renames keys
        tasks |= {
            (source.name, *k): key
            for k, key in zip(known, core.flatten(source.__dask_keys__()), strict=True)
            if (source.name, *k) != key
        }
    from_graph = next(s for s in sources if hasattr(s, "expr")).__dask_postpersist__()[0]
    whole = tuple(tuple(int(n) for n in c) for c in chunks)
    keys = [(name, *k) for k in product(*[range(len(c)) for c in whole])]
    meta = np.empty((0,) * len(whole), dtype) if meta is None else meta
    return from_graph(tasks, meta, whole, keys, name)


def _plain(axis: Sequence[_Piece], chunks: Sequence[int]) -> bool:
    """Whether each chunk needs only itself."""
    return isinstance(axis, _OwnChunks) or (
        len(axis) == len(chunks)
        and all(
            p.parts == ((k, slice(0, n)),) and p.inner == slice(0, n) and p.pad == (0, 0)
            for k, (p, n) in enumerate(zip(axis, chunks, strict=True))
        )
    )


def _on_block(func: Callable[..., np.ndarray], block: np.ndarray) -> np.ndarray:
    return func(block, tuple(slice(0, n) for n in block.shape))


def _run(
    func: Callable[..., Any],
    pad: dict[str, Any] | None,
    positions: bool,
    chosen: Sequence[_Piece],
    sources: Sequence[np.ndarray],
    *out: np.ndarray,
) -> np.ndarray:
    piece = gathered([p.parts for p in chosen], sources)
    if pad is not None:
        if any(p.pad != (0, 0) for p in chosen):
            piece = np.pad(piece, [p.pad for p in chosen], **pad)
        piece = piece[tuple(p.cut for p in chosen)]
    inner = tuple(p.inner for p in chosen)
    if positions:
        return func(piece, inner, tuple(p.start for p in chosen))
    return func(piece, inner, *out)


def gathered(cuts: Sequence[Sequence[tuple[int, slice]]], sources: Sequence[np.ndarray]) -> np.ndarray:
    """Return one array of what `cuts`, one for each axis, take of chunks; of a single chunk a view."""
    if len(sources) == 1:
        return sources[0][tuple(parts[0][1] for parts in cuts)]
    lengths = [[s.stop - s.start for _, s in parts] for parts in cuts]
    out = np.empty_like(sources[0], shape=tuple(map(sum, lengths)))
    starts = [np.concatenate([[0], np.cumsum(n)]).tolist() for n in lengths]
    for source, place in zip(sources, product(*[range(len(n)) for n in lengths]), strict=True):
        target = tuple(slice(s[k], s[k + 1]) for s, k in zip(starts, place, strict=True))
        out[target] = source[tuple(parts[k][1] for parts, k in zip(cuts, place, strict=True))]
    return out


def regrouped(chunks: Sequence[int], multiple: int) -> tuple[int, ...]:
    """Return chunks with edges at multiples of a number, as near as possible to the old edges.

    Examples
    --------
    >>> regrouped((5, 5, 5), 2)
    (4, 6, 5)
    """
    stops = np.cumsum(chunks).tolist()
    edges = sorted({min(stops[-1], round(s / multiple) * multiple) for s in stops[:-1]} | {0, stops[-1]})
    return tuple(b - a for a, b in pairwise(edges)) or (0,)


def bytes_of(array: dask.array.Array) -> int:
    """Return the size of the largest chunk in bytes."""
    return math.prod(max(c, default=0) for c in array.chunks) * array.dtype.itemsize
