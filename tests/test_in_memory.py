"""The law of images in memory: no dask array is made and nothing computed by dask; values equal those of any chunks."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from intake_img import imload, imsave

pytest.importorskip("skimage")
CHUNKINGS = [{}, {"t": 1, "c": 1, "y": 5, "x": 8}, {"t": 2, "z": 2, "y": 4, "x": 5}]
RNG = np.random.default_rng(0)
COUNTS = xr.DataArray(RNG.integers(0, 900, (2, 2, 3, 9, 8)).astype("u2"), dims=list("tczyx"), name="image")
FLOATS = (COUNTS / 7).astype("f4").where(COUNTS > 20)
MASK = (COUNTS > 500).assign_attrs(kind="mask")
LABELS = COUNTS.copy(data=RNG.integers(0, 40, COUNTS.shape)).assign_attrs(kind="labels")
SHIFTS = xr.DataArray(
    [[1.5, -0.25], [-2.0, 3.0]], dims=["t", "axis"], coords={"axis": ["y", "x"]}, attrs={"units": "px"}
)
STAGE = {"y": [0, 4], "x": [3, 0]}
GIVEN = {"image": COUNTS, "floats": FLOATS, "mask": MASK, "labels": LABELS}


def shifted(plane):
    """Change the array that is given."""
    plane += 1
    return plane


def pixel(pair):
    key, plane = pair
    return plane + plane.dtype.type(sum(key))


CALLS = {
    "map": lambda ds: ds.image.img.map(shifted),
    "map keys": lambda ds: ds.image.img.map(pixel, with_keys=True),
    "map depth": lambda ds: ds.floats.img.map(np.sqrt, depth=3, boundary="reflect", chunks=4),
    "map infer": lambda ds: ds.image.img.map(lambda a: a * 1.5, dtype="infer", blockwise=False),
    "map sizes": lambda ds: ds.image.img.map(
        lambda a: np.bincount(a.ravel(), minlength=900), output_sizes={"bin": 900}, dtype=np.int64, blockwise=False
    ),
    "map region": lambda ds: ds.image.img.map(shifted, region={"y": (3, 9), "t": (1, 2)}, blockwise=False),
    "map table": lambda ds: ds.image.img.map({0: np.square}, missing="copy", by="c"),
    "map_as_series": lambda ds: ds.image.img.map_as_series(shifted),
    "filter": lambda ds: ds.image.img.filter(lambda a: shifted(a).mean() > 0 and a[0, 0, 0, 0] > 300),
    "foreach": lambda ds: listed(ds.image.img.foreach, with_keys=False),
    "reduce ufunc": lambda ds: ds.image.img.reduce(np.add),
    "reduce": lambda ds: ds.image.img.reduce(lambda a, b: np.add(a, shifted(b), out=a), keepdims=True),
    "subtract": lambda ds: ds.image.img.subtract(40),
    "subtract image": lambda ds: ds.image.img.subtract(ds.image.isel(t=0)),
    "subtract wide": lambda ds: ds.labels.img.subtract(ds.labels.isel(z=1)),
    "subtract float": lambda ds: ds.floats.img.subtract(0.3),
    "max_min_projection": lambda ds: ds.image.img.max_min_projection(),
    "max_projection": lambda ds: ds.floats.img.max_projection(),
    "mean": lambda ds: ds.image.img.mean(),
    "sum": lambda ds: ds.image.img.sum("z"),
    "normalize": lambda ds: ds.image.img.normalize(1, 98),
    "normalize floats": lambda ds: ds.floats.img.normalize(by=["t", "c"], output_dtype=np.float64),
    "normalize all": lambda ds: ds.floats.img.normalize(by=None, clip=False),
    "normalize limits": lambda ds: ds.image.img.normalize(limits=(100, 700)),
    **{
        method: lambda ds, m=method: ds.image.img.threshold(m, per="tc")
        for method in ("otsu", "li", "triangle", "yen", "isodata", "mean", "multiotsu")
    },
    "otsu of floats": lambda ds: ds.floats.img.threshold(),
    "mean of floats": lambda ds: ds.floats.img.threshold("mean", per=None),
    "li of floats": lambda ds: ds.floats.img.threshold("li"),
    "a number": lambda ds: ds.floats.img.threshold(60),
    "thresholds by channel": lambda ds: ds.image.img.threshold({0: 300, 1: 500}),
    "threshold_values": lambda ds: ds.floats.img.threshold_values("otsu", per="tz"),
    "hysteresis_threshold": lambda ds: ds.image.img.hysteresis_threshold("mean", 800),
    "distance_transform": lambda ds: ds.mask.img.distance_transform(dims="yx"),
    "split": lambda ds: ds.mask.img.split(2),
    "watershed": lambda ds: ds.image.img.watershed(ds.labels * (ds.labels < 4), ds.mask),
    "skeletonize": lambda ds: ds.mask.img.skeletonize(dims="yx"),
    "relabel": lambda ds: ds.labels.img.relabel(),
    "peaks": lambda ds: ds.image.img.peaks(2, exclude_border=False),
    "peaks above": lambda ds: ds.floats.fillna(0).img.peaks(1, 30, dims="yx"),
    "label": lambda ds: ds.mask.img.label(),
    "fill_holes": lambda ds: ds.mask.img.fill_holes(dims="yx"),
    "median_filter": lambda ds: ds.image.img.median_filter(3),
    "clip": lambda ds: ds.image.img.clip(100, 300),
    "rescale": lambda ds: ds.image.img.rescale(0.5),
    "apply_shifts": lambda ds: ds.image.img.apply_shifts(SHIFTS),
    "apply_shifts spline": lambda ds: ds.floats.fillna(0).img.apply_shifts(SHIFTS, order=3, fill=2.0),
    "apply_shifts labels": lambda ds: ds.labels.img.apply_shifts(SHIFTS),
    "measure_shifts": lambda ds: ds.image.img.measure_shifts(c=0, dims="yx"),
    "register": lambda ds: ds.image.img.register(reference="previous", c=1, order=0),
    "mosaic": lambda ds: ds.image.img.mosaic(STAGE, along="t", units="pixel", overlap="mean"),
    "refine_positions": lambda ds: ds.image.img.refine_positions(
        {"y": [0, 0], "x": [0, 0]}, along="t", units="pixel", min_correlation=-1, c=0
    ),
    "to_series": lambda ds: ds.image.img.to_series("1kB", dim="t"),
    "to_timeseries": lambda ds: ds.floats.img.to_timeseries(3),
    "to_blocks": lambda ds: xr.concat(
        [block.assign_coords(y=block.y) for _, block in ds.image.img.to_blocks({"y": 5}, dim="t")], "y"
    ),
    "localcorr": lambda ds: ds.image.img.localcorr(1, dim="t", dims="yx").round(12),
    "localcorr wrap": lambda ds: ds.floats.fillna(0).img.localcorr(dim="t", mode="wrap", size=3).round(5),
    "regionprops": lambda ds: ds[["image", "labels"]].img.regionprops(),
}


MORE = {
    "max": lambda ds: ds.image.img.max("z"),
    "std": lambda ds: ds.image.img.std(),
    "localcorr": lambda ds: ds.image.img.localcorr(1, dim="t", dims="yx"),
    "to_local": lambda ds: ds.image.img.to_local(),
    "to_timeseries": lambda ds: ds.image.img.to_timeseries(),
    "to_blocks": lambda ds: xr.concat([b for _, b in ds.image.img.to_blocks({"y": 4}, dim="t")], "y"),
    "crop": lambda ds: ds.image.img.crop(y=(2, 5)),
    "subsample": lambda ds: ds.image.img.subsample(2),
    "gaussian_filter": lambda ds: ds.floats.fillna(0).img.gaussian_filter(1.5, dims="yx"),
    "rank_filter": lambda ds: ds.image.img.rank_filter(1, size=3, dims="yx"),
    "white_tophat": lambda ds: ds.image.img.white_tophat(3, dims="yx"),
    "rolling_ball": lambda ds: ds.image.img.rolling_ball(2, dims="yx"),
    "threshold_local": lambda ds: ds.image.img.threshold_local(3, dims="yx"),
    "binary_opening": lambda ds: ds.mask.img.binary_opening(1, dims="yx"),
    "clear_border": lambda ds: ds.mask.img.clear_border(dims="yx"),
    "expand_labels": lambda ds: ds.labels.img.expand_labels(1, dims="yx"),
    "remove_small": lambda ds: ds.mask.img.remove_small(3),
    "pyramid": lambda ds: ds.image.img.pyramid([2])["scale1"]["image"],
    "measure_objects": lambda ds: ds[["image", "labels"]].img.measure_objects(),
    "detect_blobs": lambda ds: ds.image.isel(t=0).img.detect_blobs(min_radius=1, max_radius=2),
    "measure_shifts": lambda ds: ds.image.isel(z=0).img.measure_shifts("t", c=0),
    "coloc.measure": lambda ds: ds.image.img.coloc.measure().to_dataarray(),
    "coloc.measure in labels": lambda ds: ds.image.img.coloc.measure(
        labels=ds.labels.isel(c=0, drop=True) % 3
    ).to_dataarray(),
    "coloc.histogram": lambda ds: ds.image.img.coloc.histogram(0, 1),
    "patches": lambda ds: ds.image.img.patches({"y": 4, "x": 4})[3]["image"],
    "patches in a mask": lambda ds: ds.image.img.patches(
        {"y": 4, "x": 4}, mask=ds.mask.isel(c=0, drop=True), min_coverage=0.3
    )[1]["image"],
    "patches.map": lambda ds: ds.image.img.patches({"y": 4, "x": 4}).map(np.square)["image"],
    "stack": lambda ds: ds.image.img.stack().extract_patch(1, None, (-1, 2), (4, 5)),
}
"""Methods that may make dask arrays of images in memory."""


@pytest.mark.parametrize("name", CALLS | MORE)
def test_unread_files_without_dask_are_processed_like_images_in_memory(tmp_path, name):
    """With ``chunks=None`` xarray indexes files lazily; all methods take such images, also after a selection."""
    path = tmp_path / "a.npz"
    held = given().assign({"image": COUNTS.isel(y=slice(None, None, -1))})
    imsave(held, path)
    unread = imload(path, chunks=None)
    unread["image"] = unread["image"].isel(y=slice(None, None, -1))
    held["image"] = held["image"].isel(y=slice(None, None, -1))
    call = (CALLS | MORE)[name]
    wanted = call(held)
    found = call(unread)
    if hasattr(wanted, "dims"):
        found, wanted = (a.compute().drop_vars(["uri"], errors="ignore") for a in (found, wanted))
        xr.testing.assert_equal(found, wanted)
    else:
        same(found, wanted)


def listed(method, **options):
    found = []
    method(lambda image: found.append(shifted(image).copy()), **options)
    return np.stack(found)


def given() -> xr.Dataset:
    return xr.Dataset({n: v.copy(deep=True) for n, v in GIVEN.items()})


def same(found, wanted) -> None:
    if isinstance(wanted, pd.DataFrame):
        pd.testing.assert_frame_equal(found, wanted)
        return
    if isinstance(wanted, xr.DataArray):
        found = found.compute(scheduler="sync")
        xr.testing.assert_identical(found, wanted)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@pytest.mark.parametrize("name", CALLS, ids=str)
def test_images_in_memory_need_no_graph(name, monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("a dask array was made")

    ds = given()
    with monkeypatch.context() as patched:
        patched.setattr("dask.array.core.Array.__new__", refused)
        patched.setattr(dask, "compute", refused)
        found = CALLS[name](ds)
    xr.testing.assert_identical(ds, given())  # the function may change what it gets, and the image stays
    if isinstance(found, xr.DataArray):
        assert found.chunks is None
        assert not any(np.shares_memory(found.values, v.values) for v in ds.values())
    for chunks in CHUNKINGS:
        cut = given().chunk({d: chunks.get(d, -1) for d in "tczyx"})
        with dask.config.set(scheduler="sync"):
            same(CALLS[name](cut), found)
