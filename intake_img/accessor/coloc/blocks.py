"""One pass over an image in chunks: what each chunk yields is merged in a tree, per position on the axes that are kept.

Knows dask; what a chunk yields, how two yields are merged and what becomes of the whole is handed in as functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.coloc.inputs import Scene, pixels_of

__all__ = ["reduce_blocks"]

_FAN_IN = 8
_BUNDLE = 2**23
"""So many pixels of chunks are collected before they are reduced."""


def reduce_blocks(
    scene: Scene,
    channels: Sequence[int],
    per_block: Callable[[dict[int, np.ndarray], np.ndarray | None, np.ndarray | None, tuple[int, ...]], Any],
    merge: Callable[[list[Any]], Any],
    finish: Callable[[Any, tuple[int, ...]], Any],
    mask: xr.DataArray | None = None,
    labels: xr.DataArray | None = None,
    halo: tuple[str, int] | None = None,
    collect: Callable[[list[Any]], Any] | None = None,
) -> np.ndarray:
    """Reduce an image over its axes of space.

    Parameters
    ----------
    scene : Scene
    channels : sequence of int
        Channels to read; no other is.
    per_block : callable
        ``(channel -> ndarray, mask, labels, position) -> yield`` of one chunk at one position; bool mask, integer
        labels.
    merge : callable
        List of yields to one; associative and commutative.
    finish : callable
        ``(yield, position) -> result`` of one position.
    mask, labels : DataArray, optional
    halo : (str, int), optional
        An axis of space along which each chunk is given so many pixels of its neighbours; how many it got on either
        side follows the position.
    collect : callable, optional
        List of what `per_block` returns, of a few chunks that follow each other, to one yield; without, what
        `per_block` returns is the yield.

    Returns
    -------
    ndarray of object, of the shape of the kept axes
    """
    import dask
    import dask.array as da

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
    blocks = yields.to_delayed(optimize_graph=False)
    sizes = [chunks[a] for a in scene.lead]
    tasks, places = [], []
    for place in product(*(range(len(s)) for s in sizes)):
        parts = list(blocks[place].ravel())
        bundles = _bundles(place, chunks, scene) if collect else [[k] for k in range(len(parts))]
        parts = [dask.delayed(_collect, pure=False)([parts[k] for k in bundle], collect) for bundle in bundles]
        while len(parts) > 1:
            parts = [
                dask.delayed(_merge, pure=False)(parts[k : k + _FAN_IN], merge) for k in range(0, len(parts), _FAN_IN)
            ]
        start = tuple(sum(s[:k]) for s, k in zip(sizes, place, strict=True))
        tasks.append(dask.delayed(_finish, pure=False)(parts[0], finish, start))
        places.append(start)
    result = np.empty([scene.image.sizes[a] for a in scene.lead], object)
    for start, found in zip(places, dask.compute(*tasks), strict=True):
        for local, value in found.items():
            result[tuple(s + k for s, k in zip(start, local, strict=True))] = value
    return result


def _with_halo(array: Any, dims: Sequence[str], halo: tuple[str, int] | None) -> Any:
    import dask.array as da

    if halo is None or halo[1] == 0 or halo[0] not in dims:
        return array
    return da.overlap.overlap(array, {dims.index(halo[0]): halo[1]}, boundary="none", allow_rechunk=False)


def _widths(chunks: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that each chunk got before and after its own."""
    return np.array([0] + [width] * (chunks - 1)), np.array([width] * (chunks - 1) + [0])


def _bundles(place: tuple[int, ...], chunks: dict[str, tuple[int, ...]], scene: Scene) -> list[list[int]]:
    """Numbers of the chunks at a place, in order, by bundles of about so many pixels."""
    lead = int(np.prod([chunks[a][k] for a, k in zip(scene.lead, place, strict=True)]))
    sizes = [lead * int(np.prod(s)) for s in product(*(chunks[a] for a in scene.spatial))]
    bundles: list[list[int]] = []
    room = 0
    for k, size in enumerate(sizes):
        if not bundles or size > room:
            bundles.append([])
            room = _BUNDLE
        bundles[-1].append(k)
        room -= size
    return bundles


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
        inside = [
            None if dims is None else _at(array, dims, order[:nlead], position, space, order[nlead:])
            for array, dims in zip((mask, labels), companions, strict=True)
        ]
        keep = None if inside[0] is None else inside[0] != 0
        found[position] = per_block(
            {c: plane[position] for c, plane in zip(channels, planes, strict=True)},
            keep,
            inside[1],
            (*(int(s[k]) for s, k in zip(starts, position, strict=False)), *(int(s[0]) for s in starts[nlead:])),
        )
    box = np.empty((1,) * len(order), object)
    box[(0,) * box.ndim] = found
    return box


def _at(
    array: Any, dims: tuple[str, ...], lead: tuple[str, ...], position: tuple[int, ...], space: tuple[int, ...],
    spatial: tuple[str, ...],
) -> np.ndarray:  # fmt: skip
    part = array[tuple(position[lead.index(a)] if a in lead else slice(None) for a in dims)]
    part = part[tuple(slice(None) if a in dims else None for a in spatial)]
    return np.broadcast_to(part, space)


def _collect(boxes: list[np.ndarray], collect: Callable[[list[Any]], Any] | None) -> dict[tuple[int, ...], Any]:
    parts = [box.ravel()[0] for box in boxes]
    return parts[0] if collect is None else _merge(parts, collect)


def _merge(parts: list[dict[tuple[int, ...], Any]], merge: Callable[[list[Any]], Any]) -> dict[tuple[int, ...], Any]:
    return {position: merge([p[position] for p in parts]) for position in parts[0]}


def _finish(
    part: dict[tuple[int, ...], Any], finish: Callable[[Any, tuple[int, ...]], Any], start: tuple[int, ...]
) -> dict[tuple[int, ...], Any]:
    return {
        position: finish(value, tuple(s + k for s, k in zip(start, position, strict=True)))
        for position, value in part.items()
    }
