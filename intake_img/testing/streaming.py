"""An image larger than the memory it may use: written from lazy data, opened, and read plane by plane.

``python -m intake_img.testing.streaming module:Class PATH...`` writes `PLANES` planes to each PATH, prints what it cost
as a line of JSON, and removes the file. It runs in a process of its own: peaks of memory are those of a process.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError
from intake_img.io import imsave
from intake_img.testing.process import bytes_read, class_of, peak_memory, reset_peak

__all__ = ["PLANES", "SIDE", "plane"]

PLANES, SIDE = 40, 2000
_FORMS = (("zyx", "uint16"), ("tyx", "uint16"), ("zyx", "uint8"), ("tyx", "uint8"))


def plane(k: int, side: int, dtype: str) -> np.ndarray:
    """Return a plane that differs from all others: short runs of equal bytes, which are soon packed, below noise.

    Patterns without runs take bzip2 a minute; noise that fills a plane would take the others one.
    """
    step = {"uint8": 1, "uint16": 257}[dtype]  # all bytes of a value are the same
    line = np.arange(side)
    values = np.add.outer(((line * 3 + 17 * k) % 220 * step).astype(dtype), (line // 64 * step).astype(dtype))
    noise = values[: side // 32]
    noise[...] = np.random.default_rng(k).integers(0, 251 * step, noise.shape, dtype)
    return values


def lazy_image(axes: str, dtype: str, planes: int, side: int) -> xr.Dataset:
    """Return a Dataset of `planes` dask chunks, each made when it is asked for."""
    from dask import array as da

    def block(block_info: Any = None) -> np.ndarray:
        return plane(block_info[None]["array-location"][0][0], side, dtype)[None]

    chunks = ((1,) * planes, (side,), (side,))
    return xr.Dataset({"image": (tuple(axes), da.map_blocks(block, chunks=chunks, dtype=dtype))})


def main(spec: str, *paths: str) -> None:
    """Write, open, read, and print the cost, for each path."""
    warnings.simplefilter("ignore")
    driver = class_of(spec)
    for path in paths:
        print(json.dumps(_tried(driver, path)))
        shutil.rmtree(path) if os.path.isdir(path) else Path(path).unlink(missing_ok=True)


def _tried(driver: Any, path: str) -> dict[str, Any]:
    head, tail = os.path.split(path)
    for axes, dtype in _FORMS:
        try:  # a small one first: libraries that are imported on the way are not what is measured
            small = os.path.join(head, f"small-{axes}-{dtype}-{tail}")
            imsave(lazy_image(axes, dtype, 3, 64), small, partition=axes)
        except CannotWriteError:
            continue
        driver(small).read().close()
        return _cost(driver, path, axes, dtype)
    return {"refused": True}


def _cost(driver: Any, path: str, axes: str, dtype: str) -> dict[str, Any]:
    cost: dict[str, Any] = {}
    before = _peak_from_now()
    imsave(lazy_image(axes, dtype, PLANES, SIDE), path, partition=axes)
    cost["write"] = _peak() - before
    before, read = _peak_from_now(), bytes_read()
    ds = driver(path, chunks=None).dataset()
    cost["open"], cost["open_bytes"] = _peak() - before, (bytes_read() or 0) - (read or 0)
    read = bytes_read()
    crop = ds["image"].isel({axes[0]: PLANES // 2, "y": slice(100, 200), "x": slice(50, 150)}).values
    cost["crop_bytes"] = (bytes_read() or 0) - (read or 0)
    cost["equal"] = bool((crop == plane(PLANES // 2, SIDE, dtype)[100:200, 50:150]).all())
    before = _peak_from_now()
    for k in range(PLANES):
        cost["equal"] &= bool((ds["image"].isel({axes[0]: k}).values == plane(k, SIDE, dtype)).all())
    cost["read"] = _peak() - before
    ds.close()
    return {**cost, "nbytes": ds["image"].nbytes, **_graph(driver(path).to_dask())}


def _graph(ds: xr.Dataset) -> dict[str, int]:
    graph = dict(ds["image"].__dask_graph__())
    return {
        "chunks": ds["image"].data.npartitions,
        "tasks": len(graph),
        "task_bytes": max(len(pickle.dumps(task)) for task in graph.values()),
    }


def _peak_from_now() -> int:
    reset_peak()
    return _peak()


def _peak() -> int:
    return peak_memory() or 0


if __name__ == "__main__":
    main(*sys.argv[1:])
