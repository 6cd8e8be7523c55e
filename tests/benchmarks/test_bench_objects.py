"""From pixels to objects, against scikit-image and scipy on the whole image in memory."""

from __future__ import annotations

import time
from functools import cache

import dask
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import intake_img  # noqa: F401

feature = pytest.importorskip("skimage.feature")
measure = pytest.importorskip("skimage.measure")
morphology = pytest.importorskip("skimage.morphology")
segmentation = pytest.importorskip("skimage.segmentation")

BASIC = ("label", "area", "centroid", "bbox", "intensity_mean", "intensity_max")
SHAPES = (*BASIC, "perimeter", "eccentricity", "orientation", "axis_major_length", "moments_hu")


@cache
def cells() -> xr.Dataset:
    """An image of 2 048² pixels with some 1 400 objects."""
    rng = np.random.default_rng(0)
    points = np.zeros((2048, 2048))
    points[tuple(rng.integers(0, 2048, (2, 2600)))] = 1
    smooth = ndimage.gaussian_filter(points, 6)
    labels, _ = ndimage.label(smooth > np.quantile(smooth, 0.8))
    image = (rng.random(labels.shape) * 4000).astype("u2")
    return xr.Dataset({"image": (("y", "x"), image), "labels": (("y", "x"), labels, {"kind": "labels"})})


@pytest.mark.parametrize(("names", "gate"), [(BASIC, 1.1), (SHAPES, 0.5)], ids=["basic", "shapes"])
@pytest.mark.parametrize("chunks", [None, 512])
def test_regionprops(chunks, names, gate, versus, benchmark):
    ds = cells()
    given = ds if chunks is None else ds.chunk(y=chunks, x=chunks)
    labels, image = ds["labels"].values, ds["image"].values
    ratio = versus(
        lambda: given.img.regionprops(properties=names),
        lambda: measure.regionprops_table(labels, image, properties=names),
        clock=time.process_time,
    )
    assert ratio < gate


def test_a_million_regions(benchmark):
    labels = np.arange(10**6).reshape(1000, 1000).repeat(3, 0).repeat(3, 1) + 1
    ds = xr.Dataset({"image": (("y", "x"), labels.astype("f4")), "labels": (("y", "x"), labels, {"kind": "labels"})})
    table = benchmark.pedantic(lambda: ds.chunk(y=1000, x=1000).img.regionprops(), rounds=1)
    assert len(table) == 10**6


@pytest.mark.parametrize("chunks", [2048, 512])
@pytest.mark.parametrize("name", ["distance_transform", "split"])
def test_whole_objects(name, chunks, versus, benchmark):
    mask = cells()["labels"].values > 0

    def split():
        away = ndimage.distance_transform_edt(mask)
        parts = measure.label(mask, connectivity=2)
        places = feature.peak_local_max(away, min_distance=5, labels=parts, exclude_border=False)
        markers = np.zeros(mask.shape, int)
        markers[tuple(places.T)] = np.arange(1, len(places) + 1)
        return segmentation.watershed(-away, markers, mask=mask)

    raw = {"distance_transform": lambda: ndimage.distance_transform_edt(mask), "split": split}[name]
    given = xr.DataArray(mask, dims=["y", "x"]).chunk(y=chunks, x=chunks)
    ratio = versus(lambda: getattr(given.img, name)().compute(), raw, rounds=2, clock=time.process_time)
    assert ratio < 1.3


def noise(share: float) -> np.ndarray:
    return np.random.default_rng(0).random((4096, 4096), dtype="f4") < share


@pytest.fixture
def one_thread():
    """Ratios for one core: two processors may share one, which makes the time of each longer."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize(("kind", "gate"), [("cells", 1.3), (0.1, 1.6), (0.5, 1.3)])
def test_labels_of_chunks(kind, gate, versus, benchmark, one_thread):
    """Of sparse noise, scipy takes no longer than the second pass, which gives the numbers of the complete image."""
    mask = np.tile(cells()["labels"].values > 0, (2, 2)) if kind == "cells" else noise(kind)
    given = xr.DataArray(mask, dims=["y", "x"]).chunk(y=1024, x=1024)
    ratio = versus(lambda: given.img.label().compute(), lambda: ndimage.label(mask), rounds=4, clock=time.process_time)
    assert ratio < gate


@pytest.mark.parametrize("points", [5, 30, 500, 2000])
@pytest.mark.parametrize("shape", [(2048, 2048), (64, 256, 256)])
def test_distances_to_few_pixels(shape, points, versus, benchmark, one_thread):
    mask, rng = np.ones(shape, bool), np.random.default_rng(1)
    mask[tuple(rng.integers(0, n, points) for n in shape)] = False
    given = xr.DataArray(mask, dims=list("zyx")[-mask.ndim :]).chunk(y=shape[-1] // 2, x=shape[-1] // 2)
    ratio = versus(
        lambda: given.img.distance_transform().compute(),
        lambda: ndimage.distance_transform_edt(mask),
        rounds=2,
        clock=time.process_time,
    )
    assert ratio < 1.3


@pytest.mark.parametrize("name", ["distance_transform", "skeletonize"])
def test_objects_of_a_volume_that_chunks_cut(name, versus, benchmark):
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((48, 320, 320)), 4)
    mask = smooth > np.quantile(smooth, 0.6)
    raw = {"distance_transform": ndimage.distance_transform_edt, "skeletonize": morphology.skeletonize}[name]
    given = xr.DataArray(mask, dims=["z", "y", "x"]).chunk(z=24, y=160, x=160)
    ratio = versus(lambda: getattr(given.img, name)().compute(), lambda: raw(mask), rounds=2, clock=time.process_time)
    assert ratio < (0.6 if name == "distance_transform" else 1.3)


@pytest.mark.parametrize("chunks", [None, 512])
def test_watershed(chunks, versus, benchmark):
    mask = cells()["labels"].values > 0
    away = -ndimage.distance_transform_edt(mask)
    places = feature.peak_local_max(-away, min_distance=5, exclude_border=False)
    markers = np.zeros(mask.shape, int)
    markers[tuple(places.T)] = np.arange(1, len(places) + 1)
    ds = xr.Dataset({n: (("y", "x"), v) for n, v in (("image", away), ("mask", mask), ("markers", markers))})
    ds = ds if chunks is None else ds.chunk(y=chunks, x=chunks)
    ratio = versus(
        lambda: ds["image"].img.watershed(ds["markers"], ds["mask"]).compute(),
        lambda: segmentation.watershed(away, markers, mask=mask),
        rounds=3,
        clock=time.process_time,
    )
    assert ratio < 1.3
