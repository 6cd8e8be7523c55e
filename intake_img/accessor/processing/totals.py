"""Order-independent sums, means and extrema of chunked arrays, with few tasks and without copies of chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.halo import bytes_of, new_array
from intake_img.accessor.variables import lazy, with_data
from intake_img.kernels.folds import Fold
from intake_img.model.datasets import data_of

if TYPE_CHECKING:
    import dask.array

__all__ = ["total"]

HELD = 2**24
"""Bytes of the chunks that one task gathers."""
MOST = 16
"""Chunks, or partial results, that one task gathers at most."""


def total(array: xr.DataArray, fold: Fold, axes: Sequence[str], keepdims: bool) -> xr.DataArray:
    """Return the reduction of an array along some axes; lazily, unless it is an array of numpy."""
    places = tuple(array.get_axis_num(a) for a in axes)
    given = data_of(array.variable)
    data: Any = (
        fold.finished(fold(places, [given])) if isinstance(given, np.ndarray) else _folded(lazy(array), fold, places)
    )
    if keepdims:
        return with_data(array, data)
    return with_data(array, data.squeeze(places), [d for d in map(str, array.dims) if d not in axes])


def _folded(data: dask.array.Array, fold: Fold, axes: tuple[int, ...]) -> dask.array.Array:
    from dask.base import tokenize

    name = f"total-{tokenize(data.name, fold, axes)}"
    run = partial(fold, axes)
    graph: dict[Any, Any] = {}
    blocks = [range(1) if k in axes else range(n) for k, n in enumerate(data.numblocks)]
    most = max(1, min(MOST, HELD // max(1, bytes_of(data))))
    for place in product(*blocks):
        along = [range(n) if k in axes else (place[k],) for k, n in enumerate(data.numblocks)]
        keys: list[Any] = [(data.name, *k) for k in product(*along)]
        step = 0
        for step, size in enumerate(_steps(len(keys), most)):
            groups = [keys[k : k + size] for k in range(0, len(keys), size)]
            keys = [(f"{step}-{name}", k, *place) for k in range(len(groups))]
            graph.update({key: (run, group) for key, group in zip(keys, groups, strict=True)})
        graph[(name, *place)] = (fold.finished, keys[0])
    chunks = tuple((1,) if k in axes else c for k, c in enumerate(data.chunks))
    return new_array(name, graph, chunks, fold.output, [data])


def _steps(n: int, first: int) -> Iterator[int]:
    """Yield the group size of each step, until one item is left."""
    size = first
    while True:
        yield size
        n = math.ceil(n / size)
        if n == 1:
            return
        size = MOST
