"""Intensities: percentiles of images larger than memory, stretching, equalizing, backgrounds."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.halo import deferred, new_array
from intake_img.accessor.processing.in_memory import Held, chunked, mapped_blocks, summed
from intake_img.accessor.variables import with_data
from intake_img.kernels import exact_percentiles

__all__ = ["equalize", "normalized", "rolling_ball"]


def normalized(
    array: xr.DataArray, percentiles: tuple[float, float], by: Sequence[str], limits: Any, clip: bool, dtype: np.dtype
) -> xr.DataArray:
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"normalize: the image has dtype {array.dtype}: expected bool, integers or floats of 64 bits")
    places = [array.get_axis_num(a) for a in by if a in array.dims]
    data = chunked(array)
    if isinstance(data, Held):
        return with_data(array, _normalized_now(data, places, percentiles, limits, clip, dtype))
    later = partial(_normalized_later, places=places, percentiles=percentiles, limits=limits, clip=clip, dtype=dtype)
    token = ("normalize", places, percentiles, limits, clip, dtype)
    return with_data(array, deferred(data, later, token, data.chunks, dtype, data._meta.astype(dtype)))


def _normalized_now(
    data: Held, places: Sequence[int], percentiles: tuple[float, float], limits: Any, clip: bool, dtype: np.dtype
) -> np.ndarray:
    """Return the normalized values of an array in memory."""
    if limits is not None:
        return mapped_blocks(data, partial(_stretch, limits=np.asarray(limits, float), clip=clip, dtype=dtype), dtype)
    by_one = data.rechunk({k: (1,) * data.shape[k] for k in places})
    states: dict[Any, Any] = {}
    for level in range(exact_percentiles.levels(data.dtype)):
        known = dict(states)
        counts = summed(by_one, places, partial(_counted_at, known, level), sum)
        states = {
            at: exact_percentiles.refined(count, known.get(at), list(percentiles)) for at, count in counts.items()
        }
    found = np.empty((2, *(n if k in places else 1 for k, n in enumerate(data.shape))))
    for at, state in states.items():
        found[(slice(None), *at)] = exact_percentiles.interpolated(state, data.dtype, list(percentiles))
    return mapped_blocks(data, partial(_stretched, clip=clip, dtype=dtype), dtype, list(found))


def _normalized_later(
    data: Any, places: Sequence[int], percentiles: tuple[float, float], limits: Any, clip: bool, dtype: np.dtype
) -> Any:
    """Return the normalized values of a dask array."""
    from dask import array as da
    from dask import graph_manipulation

    if limits is not None:
        return data.map_blocks(
            _stretch, np.asarray(limits, float), clip, dtype, dtype=dtype, meta=data._meta.astype(dtype)
        )
    found = _percentiles(data, places, percentiles)  # (2, ...): with all axes of the data, reduced to length 1
    # read again when the percentiles are known, instead of keeping it in memory
    again = graph_manipulation.bind(data, found)
    aligned = found.rechunk({k + 1: data.chunks[k] for k in places})
    low, high = aligned[0], aligned[1]
    return da.map_blocks(_stretched, again, low, high, clip, dtype, dtype=dtype, meta=data._meta.astype(dtype))


def _percentiles(data: Any, places: Sequence[int], percentiles: tuple[float, float]) -> Any:
    from dask import array as da

    by_one = data.rechunk(dict.fromkeys(places, 1))
    shape = [data.shape[k] if k in places else 1 for k in range(data.ndim)]
    out = np.empty((2, *shape), object)
    for place in np.ndindex(*shape):
        part = by_one[tuple(slice(p, p + 1) if k in places else slice(None) for k, p in enumerate(place))]
        pair = _percentile_pair(part, percentiles)
        out[(0, *place)], out[(1, *place)] = pair[0:1], pair[1:2]
    stacked = da.concatenate(list(out.ravel()))
    return stacked.reshape(out.shape)


def _percentile_pair(part: Any, percentiles: tuple[float, float]) -> Any:
    """Two percentiles of an array, which is read once for each level of `intake_img.kernels.exact_percentiles`."""
    from dask import base, graph_manipulation

    state: Any = None
    shape = (2 * len(percentiles) + 1, 2)
    for level in range(exact_percentiles.levels(part.dtype)):
        # read again: only counts are kept between two levels
        seen = part if state is None else graph_manipulation.bind(part, state)
        name = f"percentile-{base.tokenize(part.name, percentiles, level)}"
        known = None if state is None else (state.name, 0, 0)
        graph: dict[Any, Any] = {}
        sums = []
        for k, place in enumerate(np.ndindex(*seen.numblocks)):
            sums.append((f"count-{name}", k))
            graph[sums[-1]] = (_counted, known, level, (seen.name, *place))
        step = 0
        while len(sums) > 1:
            groups = [sums[k : k + 16] for k in range(0, len(sums), 16)]
            sums, step = [(f"sum{step}-{name}", k) for k in range(len(groups))], step + 1
            graph.update({key: (sum, group) for key, group in zip(sums, groups, strict=True)})
        graph[(name, 0, 0)] = (exact_percentiles.refined, sums[0], known, list(percentiles))
        state = new_array(name, graph, [(n,) for n in shape], np.uint64, [seen] if state is None else [seen, state])
    name = f"percentiles-{base.tokenize(state.name)}"
    last = {(name, 0): (exact_percentiles.interpolated, (state.name, 0, 0), part.dtype, list(percentiles))}
    return new_array(name, last, [(len(percentiles),)], np.float64, [state])


def _counted_at(states: dict[Any, Any], level: int, at: Any, values: np.ndarray) -> np.ndarray:
    return _counted(states.get(at), level, values)


def _counted(state: np.ndarray | None, level: int, values: np.ndarray) -> np.ndarray:
    return exact_percentiles.counted(state, level, np.asarray(values))


def _stretch(block: np.ndarray, limits: np.ndarray, clip: bool, dtype: np.dtype) -> np.ndarray:
    return _stretched(block, limits[0], limits[1], clip, dtype)


def _stretched(block: np.ndarray, low: Any, high: Any, clip: bool, dtype: np.dtype) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if block.dtype == np.float64 and np.isinf(high - low).any():  # the difference of halves does not overflow
            block, low, high = block * 0.5, low * 0.5, high * 0.5
        span = np.asarray(high - low, float)
        out = np.where(span > 0, (block - low) / span, 0.0).astype(dtype)
    if block.dtype.kind == "f":
        lost = ~np.isfinite(block)
        out[lost] = block[lost]
    return np.clip(out, 0, 1) if clip else out


def equalize(image: np.ndarray, output: np.ndarray, *, clip_limit: float, kernel_size: Any, nbins: int) -> None:
    from skimage.exposure import equalize_adapthist

    if image.dtype.kind == "f":
        finite = image[np.isfinite(image)]
        span = float(finite.max() - finite.min()) if finite.size else 0.0
        image = (image - finite.min()) / span if span else np.zeros_like(image)
    if image.size and image.min() == image.max():
        output[...] = 0
        return
    output[...] = equalize_adapthist(image, kernel_size, clip_limit, nbins)


def rolling_ball(image: np.ndarray, output: np.ndarray, *, radius: float) -> None:
    from skimage.restoration import rolling_ball

    threads = "workers" if "workers" in inspect.signature(rolling_ball).parameters else "num_threads"  # before 0.26
    output[...] = rolling_ball(image, radius=radius, **{threads: 1})  # dask runs several of these concurrently
