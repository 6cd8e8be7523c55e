"""Reductions chunk by chunk: each chunk is folded into the result of the preceding chunks."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.halo import new_array, rechunked
from intake_img.accessor.processing.in_memory import LEAST, each, is_held, strips
from intake_img.accessor.variables import (
    lazy,
    with_data,
)
from intake_img.model.axes import spell

if TYPE_CHECKING:
    import dask.array

__all__ = ["folded"]

STRIP = 2**21
"""Pixels in memory that one thread folds at a time."""


def folded(
    array: xr.DataArray, func: Any, axes: Sequence[str], associative: bool, keepdims: bool, dtype: Any
) -> xr.DataArray:
    rest = [d for d in map(str, array.dims) if d not in axes]
    turned = array.transpose(*axes, *rest)
    data: Any = turned.values if is_held(array) else lazy(turned)
    if not math.prod(data.shape[: len(axes)]):
        raise ValueError(f"reduce: there is no image along {spell(tuple(axes))!r}")
    ufunc = isinstance(func, np.ufunc)
    if ufunc and dtype is None:
        dtype = func.reduce(np.zeros((2,), data.dtype)).dtype
    dtype = np.dtype(data.dtype if dtype is None else dtype)
    if isinstance(data, np.ndarray):
        result: Any = _fold_images(data, func, len(axes), dtype)
    else:
        whole = dict.fromkeys(range(1, len(axes) if ufunc else data.ndim), -1)
        result = _fold_chunks(rechunked(data, whole), func, len(axes), dtype, associative)
    if keepdims:
        sizes = [1 if d in axes else array.sizes[d] for d in map(str, array.dims)]
        return with_data(array, result.reshape(sizes))
    return with_data(array, result, rest)


def _fold_images(data: np.ndarray, func: Any, lead: int, dtype: np.dtype) -> np.ndarray:
    """Fold images in memory; a function may change its arguments."""
    if isinstance(func, np.ufunc):
        return _fold_strips(data, func, lead, dtype)
    state: np.ndarray | None = None
    for place in np.ndindex(data.shape[:lead]):
        state = _fold(func, 0, dtype, False, state, data[place].copy())
    assert state is not None
    return state.astype(dtype, copy=False)


def _fold_strips(data: np.ndarray, func: np.ufunc, lead: int, dtype: np.dtype) -> np.ndarray:
    """Fold images in memory with a ufunc, of strips of pixels in several threads."""
    out = np.empty(data.shape[lead:], dtype)
    # numpy adds up images that lie one after another in their order; neighbours in memory it adds pairwise
    first = lead == 1 and out.size >= LEAST and abs(data.strides[0]) >= max(map(abs, data.strides))

    def fill(strip: tuple[slice, ...]) -> None:
        kept: Any = (*strip[lead:], ...)
        target = out[kept]
        if first:
            func.reduce(data[strip], axis=0, dtype=dtype, out=target)
            return
        target[...] = data[(0,) * lead][kept]
        for place in islice(np.ndindex(data.shape[:lead]), 1, None):
            func(target, data[place][kept], out=target, dtype=dtype, casting="unsafe")

    each(fill, strips(data, range(lead), STRIP))
    return out


def _fold_chunks(data: dask.array.Array, func: Any, lead: int, dtype: np.dtype, associative: bool) -> dask.array.Array:
    from dask import base

    name = f"reduce-{base.tokenize(data.name, func, lead, str(dtype), associative)}"
    graph = functools.partial(_graph, name, data, func, lead, dtype, associative)
    return new_array(name, graph, data.chunks[lead:], dtype, [data])


def _graph(
    name: str, data: dask.array.Array, func: Any, lead: int, dtype: np.dtype, associative: bool
) -> dict[Any, Any]:
    graph: dict[Any, Any] = {}
    for place in np.ndindex(*data.numblocks[lead:]):
        keys = [(data.name, k, *(0,) * (lead - 1), *place) for k in range(data.numblocks[0])]
        if associative:
            partial = [(f"part-{name}", k, *place) for k in range(len(keys))]
            graph.update(
                {
                    p: (functools.partial(_fold, func, lead, dtype, False), None, key)
                    for p, key in zip(partial, keys, strict=True)
                }
            )
            graph[(name, *place)] = (functools.partial(_fold_parts, func, dtype), partial)
            continue
        state = None
        for k, key in enumerate(keys):
            last = k == len(keys) - 1
            target = (name, *place) if last else (f"part-{name}", k, *place)
            graph[target] = (functools.partial(_fold, func, lead, dtype, last), state, key)
            state = target
    return graph


def _fold(func: Any, lead: int, dtype: np.dtype, final: bool, state: np.ndarray | None, block: np.ndarray) -> Any:
    """Fold the images of a block into the state."""
    ufunc, own = isinstance(func, np.ufunc), False
    for image in block.reshape(-1, *block.shape[lead:]):
        if ufunc:
            image = image.astype(dtype, copy=False)
        if state is None:
            state = image
            continue
        if own and ufunc:
            func(state, image, out=state)
            continue
        state, own = np.asarray(func(state, image)), True
        if state.shape != image.shape:
            raise ValueError(f"reduce: func returned shape {state.shape}, expected that of an image, {image.shape}")
        if state.dtype != dtype:
            raise TypeError(f"reduce: func returned {state.dtype}, expected {dtype}: pass dtype={str(state.dtype)!r}")
    return state if state is None or not final else state.astype(dtype, copy=False)


def _fold_parts(func: Any, dtype: np.dtype, parts: Sequence[np.ndarray | None]) -> np.ndarray:
    return functools.reduce(func, [p for p in parts if p is not None]).astype(dtype, copy=False)
