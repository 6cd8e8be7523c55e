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

_FAN_IN = 16


def reduce_blocks(
    scene: Scene,
    channels: Sequence[int],
    per_block: Callable[[dict[int, np.ndarray], np.ndarray | None, np.ndarray | None, tuple[int, ...]], Any],
    merge: Callable[[list[Any]], Any],
    finish: Callable[[Any, tuple[int, ...]], Any],
    mask: xr.DataArray | None = None,
    labels: xr.DataArray | None = None,
    whole: Sequence[str] = (),
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
    whole : sequence of str
        Axes that each chunk must hold whole.

    Returns
    -------
    ndarray of object, of the shape of the kept axes
    """
    import dask
    import dask.array as da

    order = (*scene.lead, "c", *scene.spatial)
    image = pixels_of(scene.image.isel(c=list(channels)), order, whole=["c", *whole])
    out = tuple(a for a in order if a != "c")
    extra: list[Any] = []
    chunks = dict(zip(order, image.chunks, strict=True))
    for companion in (mask, labels):
        if companion is None:
            extra += [None, None]
            continue
        dims = tuple(a for a in out if a in companion.dims)
        array = pixels_of(companion, dims)
        extra += [array.rechunk(tuple(chunks[a] for a in dims)), dims]
    dims_of = tuple(extra[1::2])
    for a in scene.lead:  # where a chunk lies on the kept axes
        extra += [da.arange(scene.image.sizes[a], chunks=(chunks[a],)), (a,)]
    yields = da.blockwise(
        _block,
        out,
        image,
        order,
        *extra,
        per_block=per_block,
        channels=tuple(channels),
        order=order,
        companions=dims_of,
        nlead=len(scene.lead),
        adjust_chunks={a: (lambda n: 1) for a in out},
        concatenate=True,
        dtype=object,
        meta=np.empty((0,) * len(out), object),
    )
    blocks = yields.to_delayed(optimize_graph=False)
    sizes = [chunks[a] for a in scene.lead]
    tasks, places = [], []
    for place in product(*(range(len(s)) for s in sizes)):
        parts = [dask.delayed(_unbox, pure=False)(b) for b in blocks[place].ravel()]
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


def _block(
    image: np.ndarray,
    mask: np.ndarray | None,
    labels: np.ndarray | None,
    *starts: np.ndarray,
    per_block: Callable[..., Any],
    channels: tuple[int, ...],
    order: tuple[str, ...],
    companions: tuple[tuple[str, ...] | None, ...],
    nlead: int,
) -> np.ndarray:
    """All positions in one chunk; boxed into an object array of one element."""
    lead = image.shape[:nlead]
    space = image.shape[nlead + 1 :]
    found = {}
    for position in np.ndindex(*lead):
        inside = [
            None if dims is None else _at(array, dims, order[:nlead], position, space, order[nlead + 1 :])
            for array, dims in zip((mask, labels), companions, strict=True)
        ]
        keep = None if inside[0] is None else inside[0] != 0
        found[position] = per_block(
            {c: image[(*position, k)] for k, c in enumerate(channels)},
            keep,
            inside[1],
            tuple(int(s[k]) for s, k in zip(starts, position, strict=True)),
        )
    box = np.empty((1,) * (image.ndim - 1), object)
    box[(0,) * box.ndim] = found
    return box


def _at(
    array: Any, dims: tuple[str, ...], lead: tuple[str, ...], position: tuple[int, ...], space: tuple[int, ...],
    spatial: tuple[str, ...],
) -> np.ndarray:  # fmt: skip
    part = array[tuple(position[lead.index(a)] if a in lead else slice(None) for a in dims)]
    part = part[tuple(slice(None) if a in dims else None for a in spatial)]
    return np.broadcast_to(part, space)


def _unbox(box: np.ndarray) -> dict[tuple[int, ...], Any]:
    return box.ravel()[0]


def _merge(parts: list[dict[tuple[int, ...], Any]], merge: Callable[[list[Any]], Any]) -> dict[tuple[int, ...], Any]:
    return {position: merge([p[position] for p in parts]) for position in parts[0]}


def _finish(
    part: dict[tuple[int, ...], Any], finish: Callable[[Any, tuple[int, ...]], Any], start: tuple[int, ...]
) -> dict[tuple[int, ...], Any]:
    return {
        position: finish(value, tuple(s + k for s, k in zip(start, position, strict=True)))
        for position, value in part.items()
    }
