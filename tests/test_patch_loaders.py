"""Handing patches over: numpy batches, Zarr groups, WebDataset shards; and what is said where a package is missing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import xarray as xr

import intake_img
from intake_img import imload
from intake_img.errors import MissingExtraError


def image(shape=(2, 2, 40, 44)) -> xr.Dataset:
    values = np.arange(np.prod(shape)).reshape(shape).astype("u2")
    coords = {"c": ["DAPI", "GFP"], "y": ("y", np.arange(shape[2]) * 0.5, {"units": "µm", "spacing": 0.5})}
    return xr.Dataset(
        {"image": (tuple("tcyx"), values), "mask": (tuple("tyx"), values[:, 0] % 2, {"kind": "labels"})}, coords=coords
    )


def patches(**options):
    options.setdefault("sample", "random")
    if options["sample"] == "random":
        options.update(n=23, seed=2)
    return intake_img.patches(image(), {"y": 8, "x": 8}, **options)


@pytest.mark.parametrize("shuffle", [False, True])
def test_numpy_batches_are_the_patches(shuffle):
    p = patches()
    batches = p.to_numpy(5, shuffle=shuffle)
    assert len(batches) == 5
    for _ in range(2):
        seen = list(batches)
        numbers = np.concatenate([b["patch"] for b in seen])
        assert sorted(numbers) == list(range(23))
        assert (numbers.tolist() == list(range(23))) is not shuffle
        for batch in seen:
            assert set(batch) == {"image", "mask", "patch"}
            np.testing.assert_array_equal(batch["image"], p.read(batch["patch"]))
            np.testing.assert_array_equal(batch["mask"], p.read(batch["patch"], "mask"))
    p.set_epoch(1)
    other = patches().set_epoch(1)
    np.testing.assert_array_equal(next(iter(p.to_numpy(5)))["image"], other.read(slice(0, 5)))


def test_dtype_variables_and_the_last_batch():
    p = patches()
    seen = list(p.to_numpy(5, variables="mask", dtype="float32", drop_last=True))
    assert len(seen) == 4
    assert set(seen[0]) == {"mask", "patch"}
    assert seen[0]["mask"].dtype == np.float32
    with pytest.raises(ValueError, match="there is no 'label'; patches have image, mask"):
        p.to_numpy(5, variables=["label"])
    with pytest.raises(ValueError, match="batch_size=0"):
        p.to_numpy(0)


@pytest.mark.parametrize(("method", "package"), [("to_torch", "torch"), ("to_tf", "tensorflow"), ("to_jax", "jax")])
def test_a_missing_package_is_said_with_what_to_type(method, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*pip install 'intake_img\[{package}\]'"):
        getattr(patches(), method)(*([4] if method == "to_jax" else []))


def test_no_framework_is_imported_unless_asked_for(tmp_path):
    code = """
import sys, numpy as np, xarray as xr, intake_img
image = xr.DataArray(np.zeros((32, 32), "u2"), dims=["y", "x"])
p = image.img.patches(dict(y=8, x=8))
list(p.to_numpy(4)); p.map(lambda b: b); p.stitch(p.read(slice(None)))
p.to_zarr(sys.argv[1] + "/a.zarr"); p.to_webdataset(sys.argv[1] + "/a-%d.tar")
print([m for m in ("torch", "tensorflow", "jax", "keras", "webdataset", "distributed") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("sample", ["random", "grid"])
def test_a_zarr_group_of_patches_opens_everywhere(sample, tmp_path):
    p = patches(sample=sample)
    path = p.to_zarr(tmp_path / "p.zarr", chunk=7)
    opened = xr.open_zarr(path, consolidated=False)
    np.testing.assert_array_equal(opened["image"].values, p.read(slice(None)))
    np.testing.assert_array_equal(opened["mask"].values, p.read(slice(None), "mask"))
    assert opened["image"].dims == ("patch", "c", "y", "x")
    assert opened["image"].chunks[0][0] == 7
    assert opened["c"].values.tolist() == ["DAPI", "GFP"]
    for column in ("y0", "x0", "t0", "source", "core_y1"):
        np.testing.assert_array_equal(opened[column].values, p.table[column])
    ours = imload(path)
    assert ours["image"].dims == ("patch", "c", "y", "x")
    np.testing.assert_array_equal(ours["image"].values, p.read(slice(None)))
    np.testing.assert_array_equal(ours["y0"].values, p.table["y0"])
    assert ours["mask"].attrs["kind"] == "labels"
    again = type(p).from_table(
        opened[["source", "t0", "y0", "x0", "y_size", "x_size"]].to_dataframe().drop(columns=["c"], errors="ignore"),
        image(),
    )
    np.testing.assert_array_equal(again.read(slice(None)), p.read(slice(None)))


def test_an_existing_group_is_refused_or_replaced(tmp_path):
    p = patches()
    p.to_zarr(tmp_path / "p.zarr")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        p.to_zarr(tmp_path / "p.zarr")
    p.to_zarr(tmp_path / "p.zarr", variables="mask", overwrite=True)
    assert set(imload(tmp_path / "p.zarr").data_vars) == {"mask"}
    with pytest.raises(ValueError, match="different shapes"):
        intake_img.patches(image(), {"y": 7, "x": 9}, edge="partial").to_zarr(tmp_path / "q.zarr")
    assert os.listdir(tmp_path) == ["p.zarr"]


def test_shards_hold_samples_in_order(tmp_path):
    p = patches()
    files = p.to_webdataset(tmp_path / "s-%02d.tar", 10)
    assert [os.path.basename(f) for f in files] == ["s-00.tar", "s-01.tar", "s-02.tar"]
    seen = []
    for file in files:
        with tarfile.open(file) as archive:
            for member in archive:
                number, _, what = member.name.partition(".")
                content = archive.extractfile(member).read()
                if what == "image.npy":
                    np.testing.assert_array_equal(np.load(io.BytesIO(content)), p.read([int(number)])[0])
                if what == "json":
                    seen.append(int(number))
                    assert json.loads(content)["x0"] == p.table["x0"][int(number)]
    assert seen == list(range(23))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        p.to_webdataset(tmp_path / "s-%02d.tar", 10)
    first = (tmp_path / "s-00.tar").read_bytes()
    p.to_webdataset(tmp_path / "s-%02d.tar", 10, overwrite=True)
    assert (tmp_path / "s-00.tar").read_bytes() == first
    p.to_webdataset(tmp_path / "s-%02d.tar", 10, overwrite=True, shuffle=True)
    assert (tmp_path / "s-00.tar").read_bytes() != first
    for bad in ("s.tar", "s-%s.tar", "%d-%d.tar"):
        with pytest.raises(ValueError, match="expected one place for the number"):
            p.to_webdataset(tmp_path / bad)
