"""Shards of patches, read by the webdataset package."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import intake_img

pytestmark = pytest.mark.filterwarnings("ignore")


def test_webdataset_reads_what_was_written(needs, tmp_path):
    wds = needs("webdataset")
    values = np.arange(2 * 30 * 22).reshape(2, 30, 22).astype("u2")
    ds = xr.Dataset({"image": (tuple("cyx"), values), "mask": (tuple("yx"), values[0] % 2)})
    p = intake_img.patches(ds, {"y": 8, "x": 8}, sample="random", n=25, seed=1)
    files = p.to_webdataset(tmp_path / "train-%03d.tar", 10)
    assert [f.rpartition("/")[2] for f in files] == ["train-000.tar", "train-001.tar", "train-002.tar"]
    samples = list(wds.WebDataset(files, shardshuffle=False, empty_check=False).decode())
    assert [s["__key__"] for s in samples] == [f"{k:09d}" for k in range(25)]
    np.testing.assert_array_equal(np.stack([s["image.npy"] for s in samples]), p.read(slice(None)))
    np.testing.assert_array_equal(np.stack([s["mask.npy"] for s in samples]), p.read(slice(None), "mask"))
    row = samples[7]["json"]
    row = row if isinstance(row, dict) else json.loads(row)
    assert row["y0"] == p.table["y0"][7]
