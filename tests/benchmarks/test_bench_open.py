"""Opening one file against the library that parses it: `imload` gives a labelled, lazy image, the library a header.

What `imload` adds is the detection of the format, checks of the structure, and the dask array and the Dataset: some
tenths of a millisecond, whatever the size of the image. Processor time, since other programs disturb wall time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave

GATES = {".npy": 1.0, ".tif": 2.0, ".ome.tif": 2.0, ".zarr": 1.0, ".png": 1.5, ".plain.tif": 0.5, ".own.tif": 0.5}
"""Milliseconds above the library, by ending."""


def _tif(path: str) -> tuple[int, ...]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        return tif.series[0].shape


def _zarr(path: str) -> tuple[int, ...]:
    import zarr

    return zarr.open_group(path, mode="r", use_consolidated=False)["0"].shape


def _png(path: str) -> tuple[int, ...]:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


LIBRARIES: dict[str, Callable[[str], Any]] = {
    ".npy": lambda path: np.load(path, mmap_mode="r").shape,
    ".tif": _tif,
    ".ome.tif": _tif,
    ".plain.tif": _tif,
    ".own.tif": _tif,
    ".zarr": _zarr,
    ".png": _png,
}


def _write_pages(path: Path, own: bool) -> None:
    """Write 128 pages without a description, which may each have their own values of a tag elsewhere in the file."""
    import tifffile

    more = {"resolution": (3, 3)} if own else {}
    with tifffile.TiffWriter(path) as out:
        for _ in range(128):
            out.write(np.zeros((64, 64), "u2"), photometric="minisblack", metadata=None, **more)


@pytest.fixture(scope="session", params=list(GATES))
def stored(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> tuple[str, str]:
    path = big / f"opened{request.param}"
    if request.param in (".plain.tif", ".own.tif"):
        _write_pages(path, request.param == ".own.tif")
        return request.param, str(path)
    axes = "yx" if request.param == ".png" else "zyx"
    values = np.stack([texture[:1024, :1024]] * 16)[(0,) * (3 - len(axes))]
    imsave(xr.Dataset({"image": (tuple(axes), values)}), path, overwrite=True)
    return request.param, str(path)


@pytest.mark.filterwarnings("ignore")
def test_open(stored: tuple[str, str], versus, benchmark) -> None:
    ending, path = stored
    benchmark.extra_info["gate"] = f"{GATES[ending]} ms above the library"
    versus(lambda: imload(path), lambda: LIBRARIES[ending](path), rounds=100, clock=time.process_time)
    assert benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + GATES[ending]
