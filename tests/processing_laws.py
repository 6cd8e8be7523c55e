"""What the tests of processing share: stacks in many chunkings, and sources that count or refuse reading."""

from __future__ import annotations

import threading

import numpy as np
import xarray as xr
from hypothesis import strategies as st

CHUNKINGS = [
    {},  # whole
    {"t": 1, "y": 7, "x": 7},
    {"t": 5, "y": 4, "x": 6},
    {"t": 2, "z": 1, "y": 3, "x": -1},
    {"t": 3, "c": 1, "z": 2, "y": -1, "x": 5},
    {"t": 1, "c": 1, "z": 1, "y": 1, "x": 1},
]
"""From whole to single pixels, with every axis cut in some of them."""


def stack(array, dims="tyx", chunks=None, **coords) -> xr.DataArray:
    """An image with these axes; -1 or absent in `chunks` is a whole axis."""
    array = xr.DataArray(np.asarray(array), dims=list(dims), coords=coords, name="image")
    return array if chunks is None else array.chunk({d: chunks.get(d, -1) for d in array.dims})


class Source:
    """An array that counts which pixels are read, or refuses."""

    def __init__(self, values: np.ndarray, refuse: bool = False) -> None:
        self.values, self.refuse = values, refuse
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.reads, self.pixels = 0, np.zeros(values.shape, int)
        self._lock = threading.Lock()

    def __getitem__(self, key):
        if self.refuse:
            raise AssertionError("the source was read")
        with self._lock:
            self.reads += 1
            self.pixels[key] += 1
        return self.values[key]

    def image(self, dims: str, chunks) -> xr.DataArray:
        import dask.array as da

        data = da.from_array(self, chunks=chunks, asarray=False, meta=np.empty((0,) * self.ndim, self.dtype))
        return xr.DataArray(data, dims=list(dims), name="image")


def cuts(n: int):
    """Chunks of an axis of n pixels."""
    return st.integers(1, max(1, n))


def extended(image, func, reach, *first, **options):
    """Filter a reflected image, by scipy, in a copy that has `reach` pixels more on both sides of each axis."""
    made = func(np.pad(image, [(n, n) for n in reach], "symmetric"), *first, mode="nearest", **options)
    return made[tuple(slice(n, n + size) for n, size in zip(reach, image.shape, strict=True))]
