"""Order-independent sums, means and extrema of chunked arrays, with few tasks and without copies of chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.halo import bytes_of, new_array
from intake_img.accessor.processing.in_memory import each, strips
from intake_img.accessor.variables import lazy, with_data
from intake_img.errors import IntakeImgError
from intake_img.kernels.folds import Fold
from intake_img.model.chunks import Region
from intake_img.model.datasets import data_of
from intake_img.model.graph_layers import LazyGraph
from intake_img.model.machine import on_this_machine
from intake_img.model.pixels import Pixels
from intake_img.model.readers import mapped

if TYPE_CHECKING:
    import dask.array

__all__ = ["total"]

HELD = 2**24
"""Bytes of the chunks that one task gathers."""
STRIP = 2**21
"""Pixels of an array in memory that one thread reduces at a time."""
CACHED = 2**21
"""Bytes of a result that stays in the cache while an array is reduced."""
THREADED = 2**26
"""Bytes of an array in memory that threads reduce sooner than one; and those of a file, or of chunks in memory, that
one task reduces."""
MOST = 16
"""Chunks, or partial results, that one task gathers at most."""


def total(array: xr.DataArray, fold: Fold, axes: Sequence[str], keepdims: bool) -> xr.DataArray:
    """Return the reduction of an array along some axes; lazily, unless it is an array of numpy."""
    places = tuple(array.get_axis_num(a) for a in axes)
    given = data_of(array.variable)
    dims = [d for d in map(str, array.dims) if keepdims or d not in axes]
    if not isinstance(given, np.ndarray):
        return with_data(array, _folded(lazy(array), fold, places, keepdims), dims)
    data = _filled(given, fold, places)
    return with_data(array, data if keepdims else data.squeeze(places), dims)


def _filled(array: np.ndarray, fold: Fold, axes: tuple[int, ...]) -> np.ndarray:
    """Return the reduction of an array in memory, of strips in several threads."""
    out = np.empty([1 if k in axes else n for k, n in enumerate(array.shape)], fold.output)

    def fill(strip: tuple[slice, ...]) -> None:
        fold.fill(axes, array[strip], out[tuple(slice(0, 1) if k in axes else s for k, s in enumerate(strip))])

    if array.nbytes >= THREADED:
        each(fill, strips(array, axes, STRIP))
        return out
    in_cache = out.nbytes <= CACHED and fold.count == 1
    for part in strips(array, axes, array.size if in_cache else STRIP):
        fill(part)
    return out


def _folded(data: dask.array.Array, fold: Fold, axes: tuple[int, ...], keepdims: bool) -> dask.array.Array:
    from dask import base

    name = f"total-{base.tokenize(data.name, fold, axes, keepdims)}"
    found = _mapped(data) or _held(data)
    chunks = tuple((1,) if k in axes else c for k, c in enumerate(data.chunks) if keepdims or k not in axes)
    graph = partial(_graph, name, data, fold, axes, found, keepdims)
    return new_array(name, graph, chunks, fold.output, [data] if found is None else [])


def _graph(
    name: str,
    data: dask.array.Array,
    fold: Fold,
    axes: tuple[int, ...],
    found: Pixels | Mapping[Any, np.ndarray] | None,
    keepdims: bool,
) -> dict[Any, Any]:
    run = partial(fold, axes)
    graph: dict[Any, Any] = {}
    blocks = [range(1) if k in axes else range(n) for k, n in enumerate(data.numblocks)]
    edges = [np.concatenate([[0], np.cumsum(c)]).tolist() for c in data.chunks]
    most = _gathered(data, found)
    for place in product(*blocks):
        along = [range(n) if k in axes else (place[k],) for k, n in enumerate(data.numblocks)]
        keys: list[Any] = [(data.name, *k) for k in product(*along)]
        step = 0
        for step, size in enumerate(_steps(len(keys), most)):
            groups = [keys[k : k + size] for k in range(0, len(keys), size)]
            keys = [(f"{step}-{name}", k, *place) for k in range(len(groups))]
            if found is None or step:
                graph.update({key: (run, group) for key, group in zip(keys, groups, strict=True)})
            elif isinstance(found, Pixels):
                cut = [[_region(edges, k[1:]) for k in group] for group in groups]
                graph.update({key: (_Unread(found, run, tuple(r)),) for key, r in zip(keys, cut, strict=True)})
            else:
                held = [[found[k] for k in group] for group in groups]
                graph.update({key: (partial(run, arrays),) for key, arrays in zip(keys, held, strict=True)})
        kept = [n for k, n in enumerate(place) if keepdims or k not in axes]
        graph[(name, *kept)] = (partial(_finished, fold, () if keepdims else axes), keys[0])
    return graph


def _gathered(data: dask.array.Array, found: object) -> int:
    """Return how many chunks one task reduces: more of those that are in memory, which a task does not gather."""
    most = (HELD if found is None else THREADED) // max(1, bytes_of(data))
    return max(1, min(most, MOST) if found is None or isinstance(found, Pixels) else most)


def _held(data: dask.array.Array) -> Mapping[Any, np.ndarray] | None:
    """Return the chunks of an array if all are arrays in the memory of this process, as in one that was persisted.

    Dask takes as long for the node of such a chunk as for a task: those that reduce them hold them, in place of keys.
    """
    from dask import highlevelgraph

    graph = data.dask
    if isinstance(graph, LazyGraph) or not on_this_machine():
        return None
    layer = getattr(graph, "layers", {}).get(data.name)
    chunks = layer.mapping if isinstance(layer, highlevelgraph.MaterializedLayer) else {}
    return chunks if set(map(type, chunks.values())) == {np.ndarray} else None


def _finished(fold: Fold, lost: tuple[int, ...], part: np.ndarray) -> np.ndarray:
    return np.squeeze(fold.finished(part), lost)


def _mapped(data: dask.array.Array) -> Pixels | None:
    """Return the unread pixels of an array, if they are a view of a memory-mapped file: these need not be copied."""
    pixels: Pixels | None = getattr(data, "pixels", None)
    if pixels is None or pixels.many_files:
        return None
    try:
        return None if mapped(pixels.reader) is None else pixels
    except (OSError, IntakeImgError):  # is raised when the array is computed
        return None


def _region(edges: Sequence[Sequence[int]], place: Sequence[int]) -> Region:
    return tuple(slice(e[k], e[k + 1]) for e, k in zip(edges, place, strict=True))


@dataclass(frozen=True)
class _Unread:
    """A task that reduces regions of a memory-mapped file, or reads them where the file cannot be mapped."""

    pixels: Pixels
    run: Callable[[list[np.ndarray]], np.ndarray]
    regions: tuple[Region, ...]

    def __call__(self) -> np.ndarray:
        view = mapped(self.pixels.reader)
        found: Any = self.pixels if view is None else view
        return self.run([found[region] for region in self.regions])


def _steps(n: int, first: int) -> Iterator[int]:
    """Yield the group size of each step, until one item is left."""
    size = first
    while True:
        yield size
        n = math.ceil(n / size)
        if n == 1:
            return
        size = MOST
