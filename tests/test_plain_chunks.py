"""Uncompressed Zarr chunks are files that hold what zarr itself writes."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from intake_img import imload, imsave
from intake_img.formats.omezarr import plain_chunks as module

RNG = np.random.default_rng(2)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def image(dtype: str, lazy: bool) -> xr.Dataset:
    values = RNG.integers(0, 2 if dtype == "bool" else 200, (5, 37, 41)).astype(dtype)
    values[2:4] = 0  # whole chunks without a pixel
    if values.dtype.kind in "fc":
        values[3] = -0.0
    data = da.from_array(values, (2, 20, 41)) if lazy else values
    return xr.Dataset({"image": (("z", "y", "x"), data)})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "u8", "f4", "c8", "f8"])
def test_chunks_are_those_of_zarr(tmp_path, monkeypatch, dtype, lazy, version):
    ds = image(dtype, lazy)
    options = {"compress": False, "chunks": {"z": 1, "y": 16, "x": 16}, "pyramid": 1, "version": version}
    imsave(ds, tmp_path / "ours" / "a.zarr", **options)
    with monkeypatch.context() as patch:
        patch.setattr(module.PlainChunks, "write", property(lambda self: None))  # zarr writes
        imsave(ds, tmp_path / "zarr" / "a.zarr", **options)
    ours, theirs = files(tmp_path / "ours"), files(tmp_path / "zarr")
    assert ours == theirs
    assert len(ours) > 20
    np.testing.assert_array_equal(imload(tmp_path / "ours" / "a.zarr")["image"].values, ds["image"].values)


def test_chunks_in_memory_are_neither_copied_nor_named_twice(tmp_path, monkeypatch):
    values = np.ones((3, 32, 32), "u2")
    seen = []
    original = module.PlainChunks.write
    monkeypatch.setattr(
        module.PlainChunks,
        "write",
        lambda self, region, data: (seen.append(np.shares_memory(data, values)), original(self, region, data))[1],
    )
    imsave(xr.Dataset({"image": (("z", "y", "x"), values)}), tmp_path / "a.zarr", compress=False)
    assert seen
    assert all(seen)


@pytest.mark.parametrize("options", [{}, {"compress": "zstd"}, {"compress": False, "shards": True}])
def test_others_are_left_to_zarr(tmp_path, monkeypatch, options):
    monkeypatch.setattr(module.PlainChunks, "write", lambda *_: pytest.fail("they are not plain chunks"))
    values = RNG.integers(0, 200, (3, 32, 32)).astype("u2")
    imsave(xr.Dataset({"image": (("z", "y", "x"), values)}), tmp_path / "a.zarr", **options)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")[:], values)
