"""Numbers that are only copied: writing arrays, reading 128 files as one image, short strips; processor time."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

from intake_img import imload, imsave
from intake_img.model.machine import cpus

AXES = ("z", "y", "x")


@pytest.fixture(scope="module")
def stack(texture: np.ndarray) -> np.ndarray:
    """134 MB of planes of 1024²."""
    return np.stack([np.roll(texture[:1024, :1024], 31 * k, axis=1) for k in range(64)])


def lazy(stack: np.ndarray, chunked: bool) -> xr.Dataset:
    data = da.from_array(stack, chunks=(1, *stack.shape[1:])) if chunked else stack
    return xr.Dataset({"image": (AXES, data)})


@pytest.mark.parametrize(("chunked", "gate"), [(False, 1.1), (True, 1.1)])
def test_write_zarr(chunked: bool, gate: float, stack: np.ndarray, tmp_path: Path, versus, benchmark) -> None:
    image = lazy(stack, chunked)
    benchmark.extra_info["gate"] = str(gate)

    def ours() -> None:
        shutil.rmtree(tmp_path / "ours.zarr", ignore_errors=True)
        imsave(image, tmp_path / "ours.zarr", compress=False)

    def raw() -> None:
        shutil.rmtree(tmp_path / "raw.zarr", ignore_errors=True)
        array = zarr.create_array(
            str(tmp_path / "raw.zarr"), shape=stack.shape, chunks=(1, 1024, 1024), dtype="uint16", compressors=None
        )
        array[:] = stack

    assert versus(ours, raw, clock=time.process_time) <= gate


@pytest.mark.parametrize(("extension", "gate"), [("npy", 4), ("tif", 4)])
def test_write_from_dask(extension: str, gate: float, stack: np.ndarray, tmp_path: Path, versus, benchmark) -> None:
    """To ``dask.compute`` and `numpy.save` or `tifffile.imwrite` of an array in memory."""
    image = lazy(stack, True)
    benchmark.extra_info["gate"] = str(gate)
    ours, raw = tmp_path / f"ours.{extension}", tmp_path / f"raw.{extension}"

    def save() -> None:
        ours.unlink(missing_ok=True)
        imsave(image, ours)

    def theirs() -> None:
        raw.unlink(missing_ok=True)
        values = image["image"].data.compute()
        np.save(raw, values) if extension == "npy" else tifffile.imwrite(raw, values)

    assert versus(save, theirs, clock=time.process_time) <= gate


def test_read_128_tiff_as_one_image(stack: np.ndarray, tmp_path: Path, versus, benchmark) -> None:
    for k in range(128):
        tifffile.imwrite(tmp_path / f"a{k:03d}.tif", stack[k % 64, :512, :512])
    benchmark.extra_info["gate"] = "1.1"
    ratio = versus(
        lambda: imload(tmp_path / "a{t}.tif")["image"].values,
        lambda: tifffile.imread(f"{tmp_path}/*.tif"),
        clock=time.process_time,
    )
    assert ratio <= 1.1


def test_read_strips_of_8_kb(stack: np.ndarray, tmp_path: Path, versus, benchmark) -> None:
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, stack[:16], compression="zlib", rowsperstrip=4, photometric="minisblack")
    benchmark.extra_info["gate"] = "1.25"
    # in as many threads, since several take more processor time for the same work than one
    ratio = versus(
        lambda: imload(path)["image"].values,
        lambda: tifffile.imread(path, maxworkers=cpus()),
        rounds=3,
        clock=time.process_time,
    )
    assert ratio <= 1.25
