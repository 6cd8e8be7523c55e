"""Nothing that was asked for vanishes from a result: channels without blobs, labels without pixels, empty images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import intake_img  # noqa: F401
from intake_img.accessor.coloc import pixel_measures
from intake_img.accessor.coloc.report import table_of

pytestmark = pytest.mark.thorough


def image(dtype="u2", shape=(20, 20), top=100):
    values = np.random.default_rng(0).integers(0, top, (2, 3, *shape)).astype(dtype)
    return xr.Dataset({"image": (("t", "c", "y", "x"), values)}, coords={"c": ["A", "B", "C"]})


def labels(dtype):
    found = np.zeros((20, 20), dtype)
    found[:5], found[8:12] = 1, 2
    if np.dtype(dtype).kind == "i":
        found[15:] = -3
    return found


@pytest.mark.parametrize("few", [2**23, 10])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "i8", "f4"])
@pytest.mark.parametrize("of", ["u1", "i2", "i8"])
@pytest.mark.parametrize("chunks", [None, 7])
def test_labels_without_pixels(dtype, of, few, chunks, monkeypatch):
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", few)
    ds = image(dtype, top=10**5 if dtype in ("i4", "i8") else 100)
    ds = ds if chunks is None else ds.chunk(y=chunks, x=chunks)
    mask = np.zeros((20, 20), bool)
    mask[:6] = True
    found = ds.img.coloc.measure(("A", "B"), labels=labels(of), mask=mask, measures=["n", "pearson", "spearman"])
    assert found["label"].values.tolist() == sorted(set(labels(of).ravel().tolist()) - {0})
    inside = found["label"] == 1
    assert (found["n"] == inside * 100).all()
    assert (found["pearson"].notnull() == inside).all()
    whole = ds.img.coloc.measure(("A", "B"), labels=labels(of), measures=["n", "pearson"])
    assert whole["n"].sel(label=2).values.tolist() == [[80]] * 2
    assert found["label"].equals(whole["label"])


def test_labels_whose_pixels_are_not_finite():
    ds = image("f4")
    ds.image.values[:, 0, 8:12] = np.nan
    found = ds.img.coloc.measure(("A", "B"), labels=labels("i4"), measures=["n", "pearson"])
    assert found["n"].sel(label=2).values.tolist() == [[0]] * 2
    assert found["pearson"].sel(label=2).isnull().all()


def blobs(*channels):
    n = len(channels)
    return pd.DataFrame({"blob_id": range(n), "channel": channels, "t": 0, "y": [1.0] * n, "x": [1.0] * n})


@pytest.mark.parametrize("channels", [["A", "B", "C"], [2, 0, 1], None])
def test_a_channel_without_blobs_is_matched_with_none(channels):
    found = image().img.coloc.match(blobs("A", "B"), 2.0, channels=channels)
    summary = found.summary().set_index(["channel1", "channel2"])
    assert summary["matches"].to_dict() == {("A", "B"): 1, ("A", "C"): 0, ("B", "C"): 0}
    assert summary.loc[("A", "C"), ["blobs1", "blobs2", "fraction1"]].tolist() == [1, 0, 0]
    assert np.isnan(summary.loc[("A", "C"), "fraction2"])
    assert found.unmatched[["channel", "partner"]].values.tolist() == [["A", "C"], ["B", "C"]]


def test_no_blobs_at_all():
    coloc, none = image().img.coloc, blobs("A").iloc[:0]
    assert coloc.match(none, 2.0, channels=["A", "B"]).summary()["matches"].tolist() == [0]
    assert len(coloc.nearest(none, "A", "B")) == 0
    assert coloc.cross_k(none, "A", "B", radii=[1.0])["k"].isnull().all()


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4"])
@pytest.mark.parametrize("axis", ["t", "y", None])
@pytest.mark.parametrize("labelled", [False, True])
def test_an_empty_image_keeps_its_rows(dtype, axis, labelled):
    ds = image(dtype)
    ds = ds.isel({axis: slice(0, 0)}) if axis else ds * (np.nan if dtype == "f4" else 0)
    options = {"labels": np.zeros((ds.sizes["y"], ds.sizes["x"]), int)} if labelled else {}
    table = table_of("empty", ds, [("A", "B")], **options)
    assert set(table["image"]) == {"empty"}
    assert table["pearson"].isnull().all()
    if axis == "y" and not labelled:
        assert table["n"].tolist() == [0, 0]


def test_a_report_with_an_empty_image(tmp_path):
    pytest.importorskip("matplotlib")
    ds = image()
    table = ds.img.coloc.report(tmp_path / "r.html", ("A", "B"), images={"none": ds.isel(t=slice(0, 0))})
    assert table["image"].tolist() == ["image", "image", "none"]
    assert "none" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "i8", "u8"])
@pytest.mark.parametrize("few", [2**23, 10])
def test_the_method_says_exact(dtype, few, monkeypatch):
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", few)
    ds = image(dtype, top=50 if dtype == "u2" else 10**6)
    said = ds.img.coloc.measure(("A", "B"), measures="pearson").attrs["method"]
    assert "exact" in said
    assert "approximate" not in said
