"""What xarray and dask take of rows that stay above their limits: opening, small selections, chunks in memory.

``python tests/benchmarks/floors.py`` prints the elapsed time of each, the minimum of many rounds: the least that any
reader spends that gives labelled, lazy arrays by the public constructors of these libraries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

DIMS = ("z", "y", "x")
CROP = (slice(5, 6), slice(300, 556), slice(300, 556))
CHUNKS = ((2,) * 64, (1024,), (1024,))


class Mapped(BackendArray):
    """The least that xarray's lazy indexing can be given: an array of numpy."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.array(self.array[key.tuple])


def lazily(array: np.ndarray) -> xr.Variable:
    return xr.Variable(DIMS, indexing.LazilyIndexedArray(Mapped(array)))


def dask_array() -> da.Array:
    name = f"pixels-{dask.base.tokenize('/a/path.tif', 1796046599145545792, 268456810, CHUNKS)}"
    return da.Array({}, name, CHUNKS, "u2", meta=np.empty((0, 0, 0), "u2"))


def rows(array: np.ndarray) -> dict[str, Callable[[], Any]]:
    steps = {dim: 0.5 * np.arange(n) for dim, n in zip(DIMS, array.shape, strict=True)}
    lazy, over_numpy = xr.DataArray(lazily(array)), xr.DataArray(array, dims=DIMS)
    over_dask = xr.DataArray(da.from_array(array, CHUNKS), dims=DIMS)
    small = xr.DataArray(np.zeros((128, 8, 8), "u2"), dims=DIMS).chunk({"z": 4})
    return {
        "open: Dataset, lazily indexed": lambda: xr.Dataset({"image": lazily(array)}),
        "open: Dataset, dask array": lambda: xr.Dataset({"image": (DIMS, dask_array())}),
        "open: the same with coordinates": lambda: xr.Dataset({"image": (DIMS, dask_array())}, coords=steps),
        "256 x 256 of a memory map: numpy": lambda: np.array(array[CROP]),
        "256 x 256 of a memory map: xarray": lambda: np.array(over_numpy[CROP].values),
        "256 x 256 of a memory map: xarray, lazily indexed": lambda: lazy[CROP].values,
        "256 x 256 of a memory map: dask": lambda: np.asarray(over_dask.data[CROP]),
        "256 x 256 of a memory map: xarray over dask": lambda: over_dask[CROP].values,
        "max of 32 chunks of 4 x 8 x 8: dask": lambda: small.data.max(0).compute(),
    }


def least(run: Callable[[], Any], rounds: int = 300) -> float:
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found) * 1e3


def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.raw"
        array = np.memmap(path, "u2", "w+", shape=(128, 1024, 1024))
        print("| what | elapsed |\n| --- | --- |")
        for name, run in rows(array).items():
            print(f"| {name} | {least(run):.3f} ms |", flush=True)
        del array


if __name__ == "__main__":
    main()
