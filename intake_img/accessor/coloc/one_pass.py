"""One pass over an image in chunks: the results of chunks are merged in a tree, for each position on the kept axes.

This module handles dask; functions compute the result of a chunk, merge two results, and finish the merged result.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import inside
from intake_img.accessor.coloc.inputs import ChannelImage, pixels_of
from intake_img.model.machine import on_this_machine, overlapping, threads

__all__ = ["reduce_blocks"]

_FAN_IN = 8
_BUNDLE = 2**22
"""Pixels of the chunks that are added together."""


def reduce_blocks(
    scene: ChannelImage,
    channels: Sequence[int],
    per_block: Callable[[dict[int, np.ndarray], np.ndarray | None, np.ndarray | None, tuple[int, ...]], Any],
    merge: Callable[[list[Any]], Any],
    finish: Callable[[Any, tuple[int, ...]], Any],
    mask: xr.DataArray | None = None,
    labels: xr.DataArray | None = None,
    halo: tuple[str, int] | None = None,
    collect: tuple[Callable[[int], Any], Callable[[Any, list[Any]], None], Callable[[Any], None]] | None = None,
) -> np.ndarray:
    """Reduce an image over its spatial axes.

    Parameters
    ----------
    scene : ChannelImage
    channels : sequence of int
        Channels to read; other channels are not read.
    per_block : callable
        ``(channel -> ndarray, mask, labels, position) -> result`` of one chunk at one position; bool mask, integer
        labels.
    merge : callable
        Merges a list of results into one, which may be the first, changed in place; associative and commutative.
    finish : callable
        ``(merged, position) -> result`` of one position.
    mask, labels : DataArray, optional
    halo : (str, int), optional
        A spatial axis along which each chunk gets this many pixels of its neighbours; the number that it got on either
        side is passed after the position.
    collect : (callable, callable, callable), optional
        ``begin(pixels) -> state``, ``add(state, list)`` that adds the results of `per_block` for a few chunks to the
        state, ``settle(state)`` that makes it small; the state is then the result of a chunk. By default it is the
        result of `per_block`.

    Returns
    -------
    ndarray of object, of the shape of the kept axes
    """
    from dask import array as da

    order = (*scene.lead, *scene.spatial)
    planes = [pixels_of(scene.image.isel(c=c), order) for c in channels]
    if halo and halo[1]:  # chunks of at least the width of a halo
        axis = order.index(halo[0])
        chunks_of = da.overlap.ensure_minimum_chunksize(halo[1], planes[0].chunks[axis])
        planes[0] = planes[0].rechunk({axis: chunks_of})
    planes = [p.rechunk(planes[0].chunks) for p in planes]
    chunks = dict(zip(order, planes[0].chunks, strict=True))
    companions: list[Any] = []
    for companion in (mask, labels):
        if companion is None:
            companions += [None, None]
            continue
        dims = tuple(a for a in order if a in companion.dims)
        array = pixels_of(companion, dims)
        companions += [_with_halo(array.rechunk(tuple(chunks[a] for a in dims)), dims, halo), dims]
    planes = [_with_halo(plane, order, halo) for plane in planes]
    starts: list[Any] = []
    for a in scene.lead:  # where a chunk lies on the kept axes
        starts += [da.arange(scene.image.sizes[a], chunks=(chunks[a],)), (a,)]
    if halo:
        for ends in _widths(len(chunks[halo[0]]), halo[1]):
            starts += [da.from_array(ends, chunks=1), (halo[0],)]
    yields = da.blockwise(
        _block,
        order,
        *companions,
        *(x for plane in planes for x in (plane, order)),
        *starts,
        per_block=per_block,
        channels=tuple(channels),
        order=order,
        companions=tuple(companions[1::2]),
        nlead=len(scene.lead),
        adjust_chunks={a: (lambda n: 1) for a in order},
        concatenate=True,
        align_arrays=False,
        dtype=object,
        meta=np.empty((0,) * len(order), object),
    )
    return _reduced(yields, scene, chunks, merge, finish, collect)


def _reduced(
    yields: Any,
    scene: ChannelImage,
    chunks: dict[str, tuple[int, ...]],
    merge: Callable[[list[Any]], Any],
    finish: Callable[[Any, tuple[int, ...]], Any],
    collect: tuple[Callable[..., Any], ...] | None,
) -> np.ndarray:
    """Compute the results of all chunks, and merge the results at each position of the kept axes."""
    import dask
    from dask import highlevelgraph
    from dask.delayed import Delayed

    (yields,) = dask.optimize(yields)
    fusion = _Fusion(yields) if collect else None
    graph: dict[Any, Any] = {}
    name = f"reduce-{uuid.uuid4().hex}"  # states are changed in place: keys must not be shared with another run
    sizes = [chunks[a] for a in scene.lead]
    pixels = [int(np.prod(s)) for s in product(*(chunks[a] for a in scene.spatial))]
    last, places = [], []
    for place in product(*(range(len(s)) for s in sizes)):
        blocks = [(yields.name, *place, *k) for k in np.ndindex(*yields.numblocks[len(place) :])]
        if collect and fusion:
            lead = int(np.prod([s[k] for s, k in zip(sizes, place, strict=True)]))
            chains = _chains(_bundles(pixels, lead), lead)
            parts = [_chain(graph, name, fusion, blocks, chain, collect) for chain in chains]
        else:
            parts = [_task(graph, name, _unboxed, block) for block in blocks]
        many = 2 if collect else _FAN_IN  # states may be large
        while len(parts) > 1:
            parts = [_task(graph, name, _merge, parts[k : k + many], merge) for k in range(0, len(parts), many)]
        start = tuple(sum(s[:k]) for s, k in zip(sizes, place, strict=True))
        last.append(_task(graph, name, _finish, parts[0], finish, start))
        places.append(start)
    whole = highlevelgraph.HighLevelGraph.from_collections(name, graph, dependencies=[yields])
    found_at = dask.compute(*[Delayed(key, whole, layer=name) for key in last], **overlapping())
    result = np.empty([scene.image.sizes[a] for a in scene.lead], object)
    for start, found in zip(places, found_at, strict=True):
        for local, value in found.items():
            result[tuple(s + k for s, k in zip(start, local, strict=True))] = value
    return result


def _with_halo(array: Any, dims: Sequence[str], halo: tuple[str, int] | None) -> Any:
    from dask import array as da

    if halo is None or halo[1] == 0 or halo[0] not in dims:
        return array
    return da.overlap.overlap(array, {dims.index(halo[0]): halo[1]}, boundary="none", allow_rechunk=False)


def _widths(chunks: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Halo pixels of each chunk before and after its own pixels."""
    return np.array([0] + [width] * (chunks - 1)), np.array([width] * (chunks - 1) + [0])


Bundle = tuple[list[int], int]
"""Numbers of chunks, and how many pixels they have at one position."""


def _bundles(sizes: Sequence[int], positions: int) -> list[Bundle]:
    """Chunks of these sizes, in order, grouped into bundles of about this many pixels."""
    bundles: list[Bundle] = []
    for k, size in enumerate(sizes):
        if not bundles or (bundles[-1][1] + size) * positions > _BUNDLE:
            bundles.append(([], 0))
        bundles[-1] = ([*bundles[-1][0], k], bundles[-1][1] + size)
    return bundles


def _chains(bundles: list[Bundle], positions: int) -> list[list[Bundle]]:
    """Sequences of bundles, one for each pair of threads: one thread reads the bundle that the other adds next. Only
    few positions have a state in memory."""
    if positions > 1:
        return [[bundle] for bundle in bundles]
    number = (threads() + 1) // 2 if overlapping() else threads()
    length = sum(size for _, size in bundles) // number
    chains: list[list[Bundle]] = []
    room = 0
    for bundle in bundles:
        if room <= 0:
            chains.append([])
            room = length
        chains[-1].append(bundle)
        room -= bundle[1]
    return chains


def _task(graph: dict[Any, Any], name: str, function: Callable[..., Any], *arguments: Any) -> tuple[str, int]:
    """Put a task into a graph; return its key."""
    key = (name, len(graph))
    graph[key] = (function, *arguments)
    return key


@dataclass(frozen=True)
class _Fused:
    """Tasks that run as a single task.

    Parameters
    ----------
    tasks : dict
    wanted : list of keys
        The keys to return.
    needed : list of keys
        Keys that other tasks compute.
    """

    tasks: dict[Any, Any]
    wanted: list[Any]
    needed: list[Any]

    def __call__(self, given: list[Any]) -> list[Any]:
        """Run the tasks, given the values of the needed keys."""
        import dask

        ready = {key: (partial(_as_it_is, value),) for key, value in zip(self.needed, given, strict=True)}
        return list(dask.get(self.tasks | ready, self.wanted))


def _computed(compute: Callable[[Any], Any], given: list[Any], _: None) -> list[Any]:
    return list(compute(given))


def _ticket(_: Any) -> None:
    """Return `value` after a task has run, without using its result."""


def _as_it_is(value: Any) -> Any:
    return value


class _Fusion:
    """The tasks of an array's chunks, fused by chunk: inputs of only a few chunks are computed in one task with
    them."""

    def __init__(self, array: Any) -> None:
        from dask import core

        self.here = on_this_machine()  # a cluster may contain results that are not tasks of the graph
        self.tasks = dict(array.__dask_graph__())
        self.needs, self.users = core.get_deps(self.tasks)

    def of(self, wanted: list[Any]) -> tuple[Callable[[list[Any]], list[Any]], list[Any]]:
        """Return a function that computes the wanted keys, and the keys of its inputs."""
        if not self.here:
            return _as_it_is, wanted
        own, stack = dict.fromkeys(wanted), list(wanted)
        used: dict[Any, int] = {}
        while stack:
            for key in self.needs[stack.pop()]:
                used[key] = used.get(key, 0) + 1
                if used[key] == len(self.users[key]):
                    own[key] = None
                    stack.append(key)
        needed = [key for key in used if key not in own]
        return _Fused({key: self.tasks[key] for key in own}, wanted, needed), needed


def _chain(
    graph: dict[Any, Any],
    name: str,
    fusion: _Fusion,
    blocks: Sequence[Any],
    chain: list[Bundle],
    collect: tuple[Callable[..., Any], ...],
) -> Any:
    """The result of the chunks of a chain: a state that each task extends and passes to the next."""
    begin, add, settle = collect
    size = sum(n for _, n in chain)
    steps: list[tuple[Any, Any]] = [fusion.of([blocks[k] for k in bundle]) for bundle, _ in chain]
    if len(chain) == 1:
        return _task(graph, name, _counted, *steps[0], size, begin, add, settle)
    ahead = bool(overlapping())
    state: Any = None
    tickets: list[Any] = [None]
    for step, (compute, needed) in enumerate(steps):
        if ahead:  # by another thread, but not before all chunks up to the last but one were added
            needed = _task(graph, name, _computed, compute, needed, tickets[max(0, step - 1)])
            compute = _as_it_is
        state = _task(graph, name, _add, state, compute, needed, step, size, begin, add)
        tickets.append(_task(graph, name, _ticket, state))
    return _task(graph, name, _end, state)


def _block(
    mask: np.ndarray | None,
    labels: np.ndarray | None,
    *arrays: np.ndarray,
    per_block: Callable[..., Any],
    channels: tuple[int, ...],
    order: tuple[str, ...],
    companions: tuple[tuple[str, ...] | None, ...],
    nlead: int,
) -> np.ndarray:
    """All positions in one chunk; boxed into an object array of one element."""
    planes, starts = arrays[: len(channels)], arrays[len(channels) :]
    lead, space = planes[0].shape[:nlead], planes[0].shape[nlead:]
    found = {}
    for position in np.ndindex(*lead):
        parts = [
            None if dims is None else _at(array, dims, order[:nlead], position, space, order[nlead:])
            for array, dims in zip((mask, labels), companions, strict=True)
        ]
        keep = None if parts[0] is None else inside(parts[0])
        found[position] = per_block(
            {c: plane[position] for c, plane in zip(channels, planes, strict=True)},
            keep,
            parts[1],
            (*(int(s[k]) for s, k in zip(starts, position, strict=False)), *(int(s[0]) for s in starts[nlead:])),
        )
    box = np.empty((1,) * len(order), object)
    box[(0,) * box.ndim] = found
    return box


def _at(
    array: Any,
    dims: tuple[str, ...],
    lead: tuple[str, ...],
    position: tuple[int, ...],
    space: tuple[int, ...],
    spatial: tuple[str, ...],
) -> np.ndarray:
    part = array[tuple(position[lead.index(a)] if a in lead else slice(None) for a in dims)]
    part = part[tuple(slice(None) if a in dims else None for a in spatial)]
    return np.broadcast_to(part, space)


def _unboxed(box: np.ndarray) -> dict[tuple[int, ...], Any]:
    return box.ravel()[0]


def _counted(
    compute: Callable[[Any], Any],
    given: list[Any],
    size: int,
    begin: Callable[[int], Any],
    add: Callable[[Any, list[Any]], None],
    settle: Callable[[Any], None],
) -> dict[tuple[int, ...], Any]:
    """One position after the other, so that only one state is large."""
    parts = [_unboxed(box) for box in compute(given)]
    found = {}
    for position in parts[0]:
        state = begin(size)
        add(state, [p[position] for p in parts])
        if len(parts[0]) > 1:
            settle(state)
        found[position] = state
    return found


def _add(
    state: Any,
    compute: Callable[[Any], Any],
    given: list[Any],
    step: int,
    size: int,
    begin: Callable[[int], Any],
    add: Callable[[Any, list[Any]], None],
) -> list[Any]:
    """Add chunks of one position to a state; the first item counts the additions."""
    parts = [_unboxed(box) for box in compute(given)]
    ((position, _),) = parts[0].items()
    if state is None:
        state = [0, position, begin(size)]
    if state[0] != step:
        raise RuntimeError(
            "a task that counts pixels ran twice on the same state, and the result would be wrong: repeat"
        )
    state[0] = -1  # while it is being changed
    add(state[2], [p[position] for p in parts])
    state[0] = step + 1
    return state


def _end(state: list[Any]) -> dict[tuple[int, ...], Any]:
    return {state[1]: state[2]}


def _merge(parts: list[dict[tuple[int, ...], Any]], merge: Callable[[list[Any]], Any]) -> dict[tuple[int, ...], Any]:
    return {position: merge([p[position] for p in parts]) for position in parts[0]}


def _finish(
    part: dict[tuple[int, ...], Any], finish: Callable[[Any, tuple[int, ...]], Any], start: tuple[int, ...]
) -> dict[tuple[int, ...], Any]:
    return {
        position: finish(value, tuple(s + k for s, k in zip(start, position, strict=True)))
        for position, value in part.items()
    }
