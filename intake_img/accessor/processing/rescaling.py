"""Resampling of chunks: block means, and interpolation on a grid that is common to all chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.halo import halo, rechunked, regrouped
from intake_img.accessor.processing.in_memory import Held, chunked, mapped_blocks
from intake_img.accessor.variables import (
    gridded,
    is_categorical,
    joined,
    with_data,
)
from intake_img.kernels.resample import coarsened, nearest, resized, rounded
from intake_img.kernels.wide import beyond_floats
from intake_img.model.datasets import spacing_of

__all__ = ["clipped", "coarser", "held", "rescaled"]


def coarser(ds: xr.Dataset, factors: Mapping[str, int], method: str) -> xr.Dataset:
    factors = {a: min(f, ds.sizes[a]) or 1 for a, f in factors.items()}
    coords = {a: _block_centres(ds[a], f, method) for a, f in factors.items() if a in ds.coords and f > 1}
    results = {}
    for name, array in gridded(ds).items():
        own = "mode" if is_categorical(array) and method != "nearest" else method
        data = chunked(array)
        by_place = {array.get_axis_num(a): f for a, f in factors.items() if a in array.dims}
        data = rechunked(data, {k: regrouped(data.chunks[k], f) for k, f in by_place.items() if f > 1})
        every = tuple(by_place.get(k, 1) for k in range(data.ndim))
        chunks = [tuple(n // f for n in c if n // f or len(c) == 1) for c, f in zip(data.chunks, every, strict=True)]
        kept = tuple(slice(0, n // f * f) for n, f in zip(data.shape, every, strict=True))
        data = data[kept]
        made = _coarsened(data, every, own, chunks)
        mine = {a: c for a, c in coords.items() if a in array.dims}
        lost = {
            str(n): None
            for n, c in array.coords.items()
            if n not in mine and set(c.dims) & set(factors) and any(factors.get(str(d), 1) > 1 for d in c.dims)
        }
        results[str(name)] = with_data(array, made, None, {**mine, **lost})
    return joined(ds.drop_vars([n for n, c in ds.coords.items() if set(c.dims) & set(factors)]), results)


def _coarsened(data: Any, factors: tuple[int, ...], method: str, chunks: Any) -> Any:
    if isinstance(data, Held):
        return mapped_blocks(data, lambda block: coarsened(block, factors, method), data.dtype, grid=chunks)
    return data.map_blocks(coarsened, factors, method, dtype=data.dtype, meta=data._meta, chunks=chunks, name=None)


def _block_centres(coord: xr.DataArray, factor: int, method: str) -> xr.Variable | None:
    n = coord.size // factor * factor
    values = coord.values[:n].reshape(-1, factor)
    if method == "nearest" or values.dtype.kind not in "iuf":
        picked = values[:, 0]
    else:
        picked = values.mean(axis=1)
    step = spacing_of(coord)
    attrs = {k: v for k, v in coord.attrs.items() if k != "spacing"}
    if step is not None:
        attrs["spacing"] = step * factor
    return xr.Variable(coord.dims, picked, attrs)


def rescaled(
    array: xr.DataArray, scales: Mapping[str, float], order: int, anti_aliasing: bool | None, output_dtype: Any
) -> xr.DataArray:
    axes = tuple(scales)
    sizes = {a: max(1, round(array.sizes[a] * s)) for a, s in scales.items()}
    places = [array.get_axis_num(a) for a in axes]
    dtype = np.dtype(array.dtype if output_dtype is None else output_dtype)
    data = rechunked(chunked(array), dict.fromkeys(places, -1))
    kernel = _Resize(tuple(places), tuple(sizes.values()), order, anti_aliasing, dtype)
    chunks = tuple((sizes[str(d)],) if str(d) in sizes else c for d, c in zip(array.dims, data.chunks, strict=True))
    made = halo(data, kernel, chunks=lambda spans: chunks, dtype=dtype, name="rescale")
    coords: dict[str, xr.Variable | None] = {}
    for a in axes:
        step = spacing_of(array[a]) if a in array.coords else None
        if sizes[a] == array.sizes[a] or a not in array.coords:
            continue
        if step is None:
            coords[a] = None
            continue
        new = step * array.sizes[a] / sizes[a]  # the outer edges do not move
        values = float(array[a].values[0]) + (new - step) / 2 + new * np.arange(sizes[a])
        coords[a] = xr.Variable((a,), values, {**array[a].attrs, "spacing": new})
    return with_data(array, made, None, coords)


class _Resize:
    """Resamples every image of a block."""

    def __init__(
        self, places: tuple[int, ...], shape: tuple[int, ...], order: int, anti_aliasing: bool | None, dtype: np.dtype
    ) -> None:
        self.places, self.shape, self.order, self.anti_aliasing, self.dtype = places, shape, order, anti_aliasing, dtype

    def __dask_tokenize__(self) -> Any:
        return ("resize", self.places, self.shape, self.order, self.anti_aliasing, str(self.dtype))

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        last = range(-len(self.places), 0)
        source = np.moveaxis(piece, self.places, last)
        lead = source.shape[: -len(self.places)]
        out = np.empty((*lead, *self.shape), self.dtype)
        for place in np.ndindex(lead):
            image = source[place]
            if self.order == 0 and not self.anti_aliasing:
                out[place] = nearest(image, self.shape)
                continue
            smooth = self.anti_aliasing
            if smooth is None:
                smooth = any(n < m for n, m in zip(self.shape, image.shape, strict=True))
            self._check(image)
            made = resized(image, self.shape, self.order, smooth)
            if self.dtype.kind in "iu":
                out[place] = rounded(made, self.dtype)
                continue
            out[place] = made
        return np.moveaxis(out, last, self.places)

    @staticmethod
    def _check(image: np.ndarray) -> None:
        if beyond_floats(image):
            raise OverflowError(
                f"rescale: the image has {image.dtype} beyond 2**53, which float64 cannot represent; "
                "expected smaller numbers, order=0, or floats: image.astype(float)"
            )


def held(value: float | int | None, dtype: np.dtype, rounding: Callable[[Any], int]) -> Any:
    """Return a bound within the range of a dtype, and of it: bounds beyond the range have no effect."""
    if value is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value)
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    return dtype.type(min(max(rounding(value), low), high))


def clipped(block: np.ndarray, low: Any, high: Any) -> np.ndarray:
    return np.clip(block, low, high)
