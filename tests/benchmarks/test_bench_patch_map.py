"""`patches.map` of an identity over a Zarr image, against reading it and writing it with zarr-python alone.

``INTAKE_IMG_BENCH_GB`` is the size of the image (0.5 by default).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave

GB = float(os.environ.get("INTAKE_IMG_BENCH_GB", "0.5"))
SIDE = 2048
PLANES = max(64, int(GB * 1e9 / (SIDE * SIDE * 2)) // 64 * 64)


@pytest.fixture(scope="module")
def source(big: Path, texture: np.ndarray) -> Path:
    """An image of planes, its chunks of 1024 x 1024, compressed."""
    import dask.array as da

    path = big / "planes.zarr"
    if not path.exists():
        planes = [da.from_array(np.roll(texture[:SIDE, :SIDE], 7 * k, axis=0), chunks=-1) for k in range(4)]
        stack = da.stack([planes[k % 4] for k in range(PLANES)])
        imsave(xr.DataArray(stack, dims=list("zyx")), path, chunks={"z": 1, "y": 1024, "x": 1024})
    return path


def copied(source: Path, target: Path, slab: int) -> None:
    """Read and write with the raw library, in steps of as many planes as make 67 MB."""
    import zarr

    shutil.rmtree(target, ignore_errors=True)
    given = zarr.open_array(source / "0", mode="r")
    made = zarr.create_array(
        target, shape=given.shape, chunks=given.chunks, dtype=given.dtype, fill_value=0, compressors=given.compressors
    )
    for k in range(0, given.shape[0], slab):
        made[k : k + slab] = given[k : k + slab]


def mapped(source: Path, target: Path, size: dict[str, int], **options: Any) -> None:
    shutil.rmtree(target, ignore_errors=True)
    blend = options.pop("blend", "crop")
    patches = imload(source).img.patches(size, **options)
    patches.map(lambda batch: batch, blend=blend, store=target, chunks={"z": 1, "y": 1024, "x": 1024})


@pytest.mark.parametrize(
    "size",
    [{"y": 256, "x": 256}, {"y": 64, "x": 64}, {"z": 64, "y": 64, "x": 64}],
    ids=["256x256", "64x64", "64x64x64"],
)
def test_map_of_an_identity(size, source, big, versus):
    ratio = versus(
        lambda: mapped(source, big / "ours.zarr", size), lambda: copied(source, big / "raw.zarr", 8), rounds=2
    )
    assert ratio < 1.5


def test_map_of_an_identity_with_overlap_and_window(source, big, versus):
    """Every pixel is read, and blended, four times."""
    size = {"y": 256, "x": 256}
    versus(
        lambda: mapped(source, big / "ours.zarr", size, overlap=128, blend="hann"),
        lambda: copied(source, big / "raw.zarr", 8),
        rounds=1,
    )


def test_memory_of_map(source, big, benchmark, peak_memory):
    code = """
    import sys
    from intake_img import imload
    p = imload({source!r}).img.patches({{"y": 256, "x": 256}}, overlap=64)
    p.map(lambda batch: batch, blend="hann", store={target!r}, overwrite=True, chunks={{"z": 1, "y": 1024, "x": 1024}})
    """
    held = peak_memory(code.format(source=str(source), target=str(big / "ours.zarr")))
    benchmark.extra_info.update(
        what=f"map of {PLANES * SIDE * SIDE * 2 / 1e9:.1f} GB, peak memory of the process",
        figure=f"{held:.0f} MB",
        gate="1 GB",
    )
    benchmark.pedantic(lambda: None, rounds=1)
    assert held < 1000
