"""HDF5 against h5py: opening, a whole read, a small region; of plain bytes and of compressed chunks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from intake_img import autodetect, imload
from intake_img.formats.hdf5.driver import Hdf5Source

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gzip": {"chunks": (8, 128, 128), "compression": "gzip", "compression_opts": 1},
}


@pytest.fixture(scope="session", params=list(LAYOUTS))
def stored(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> Path:
    path = big / f"{request.param}.h5"
    if not path.exists():
        values = np.stack([np.roll(texture[:1024, :1024], 97 * k, axis=1) for k in range(32)])
        with h5py.File(path, "w") as f:
            f.create_dataset("volume", data=values, **LAYOUTS[request.param])
    return path


@pytest.fixture
def dataset(stored: Path) -> Iterator[h5py.Dataset]:
    with h5py.File(stored) as f:
        yield f["volume"]


def test_open(stored: Path, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "3 ms above h5py"

    def raw() -> tuple[int, ...]:
        with h5py.File(stored) as f:
            return f["volume"].shape

    def ours() -> Any:
        with contextlib.closing(Hdf5Source(str(stored))) as source:
            return source.image().sizes

    versus(ours, raw, rounds=40)
    assert benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 3


REAL = ["emd/example_signal.emd", "emd/Acquisition_18.emd", "ims/Minimal_IMS_File.ims", "netcdf/nc4.nc"]


def _opener(path: Path) -> Callable[[], Any]:
    """What the library does to open a file.

    Of netCDF xarray opens it; of Imaris h5py tells the shape of one array; of EMD also what tells its axes, which are
    arrays of their own.
    """
    if path.suffix == ".nc":
        pytest.importorskip("netCDF4")
        return lambda: xr.open_dataset(path).close()
    found: list[str] = []
    with h5py.File(path) as f:
        f.visititems(lambda inner, item: found.append(inner) if getattr(item, "ndim", 0) > 1 else None)

    def opened() -> Any:
        with h5py.File(path) as f:
            array = f[found[0]]
            beside = array.parent if path.suffix == ".emd" else {}
            axes = [beside[name] for name in beside if name.startswith("dim")]
            return array.shape, [(axis[()], dict(axis.attrs)) for axis in axes]

    return opened


@pytest.mark.parametrize("name", REAL)
def test_open_real(name: str, versus, benchmark) -> None:
    """Files of other programs, with attributes of many kinds."""
    if not (folder := os.environ.get("INTAKE_IMG_DATA")):
        pytest.skip("INTAKE_IMG_DATA is not set: no real files")
    path = Path(folder, "data", name)
    benchmark.extra_info["gate"] = "3 ms above the library"
    versus(lambda: imload(path).close(), _opener(path), rounds=60, clock=time.process_time)
    assert benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 3


def test_read(stored: Path, dataset: h5py.Dataset, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "1.25"
    with autodetect(stored) as source:
        assert versus(source.read, lambda: dataset[()]) <= 1.25


def test_region(stored: Path, dataset: h5py.Dataset, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "2, or 0.5 ms above h5py"
    with autodetect(stored) as source:
        pixels = source.image().only.pixels
        ratio = versus(lambda: pixels[5, 200:250, 300:350], lambda: dataset[5, 200:250, 300:350], rounds=30)
    assert ratio <= 2 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 0.5
