"""Laws of pyramids, crops, brightness and objects: numpy, scipy and scikit-image on whole images say what is right."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import CHUNKINGS, Source, cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401

YX = {
    "y": ("y", 10 + np.arange(9) * 0.5, {"units": "µm", "spacing": 0.5}),
    "x": ("x", np.arange(12) * 2.0, {"units": "µm"}),
}


def dataset(chunks=None):
    rng = np.random.default_rng(1)
    image = stack(rng.integers(0, 255, (2, 9, 12)).astype("u1"), chunks=chunks, **YX)
    labels = stack(rng.integers(0, 4, (9, 12)), "yx", chunks, **YX).assign_attrs(kind="labels")
    return xr.Dataset({"image": image, "labels": labels}, attrs={"uri": "a.tif"})


# pyramids


@examples(40)
@given(data=st.data())
def test_means_of_blocks(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20), st.integers(1, 20)))
    chunks = dict(zip("tzyx", data.draw(st.tuples(*[cuts(n) for n in shape])), strict=True))
    dtype = data.draw(st.sampled_from(["u1", "i4", "f4"]))
    factor = data.draw(st.integers(1, 4))
    values = (np.random.default_rng(1).random(shape) * 200).astype(dtype)
    level = stack(values, "tzyx", chunks).img.pyramid([factor])["scale1"]["image"]
    f = [1, *[min(factor, n) for n in shape[1:]]]
    kept = values[tuple(slice(0, n // k * k) for n, k in zip(shape, f, strict=True))]
    split = kept.reshape([v for n, k in zip(shape, f, strict=True) for v in (n // k, k)]).astype(float)
    mean = split.mean(axis=(1, 3, 5, 7))
    assert level.dtype == values.dtype
    assert level.shape == mean.shape
    np.testing.assert_allclose(level, mean if dtype == "f4" else np.rint(mean), rtol=1e-5)


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_levels_and_their_coordinates(chunks):
    ds = dataset(chunks)
    tree = ds.img.pyramid([2, {"x": 3}])
    assert [dict(tree[f"scale{k}"].sizes) for k in range(3)] == [
        {"t": 2, "y": 9, "x": 12},
        {"t": 2, "y": 4, "x": 6},
        {"t": 2, "y": 4, "x": 2},
    ]
    one = tree["scale1"].to_dataset()
    assert one.img.spacing == {"y": 1.0, "x": 4.0}
    assert one["y"].values.tolist() == [10.25, 11.25, 12.25, 13.25]
    assert one["y"].attrs == {"units": "µm", "spacing": 1.0}
    assert one.attrs == ds.attrs
    assert one["labels"].attrs == {"kind": "labels"}
    assert set(np.unique(one["labels"])) <= {0, 1, 2, 3}
    xr.testing.assert_identical(tree["scale0"].to_dataset().compute(), ds.compute())
    nearest = ds.img.pyramid([2], "nearest")["scale1"].to_dataset()
    np.testing.assert_array_equal(nearest["image"], ds["image"].values[:, :8:2, ::2])
    np.testing.assert_array_equal(nearest["labels"], ds["labels"].values[:8:2, ::2])
    assert nearest["y"].values.tolist() == [10, 11, 12, 13]


def test_labels_take_the_most_frequent_value():
    values = np.array([[5, 5, 1, 2], [9, 5, 3, 4], [0, 7, 8, 8], [7, 0, 8, 8]])
    labels = stack(values, "yx", {"y": 3, "x": 3}).assign_attrs(kind="labels")
    assert labels.img.pyramid([2])["scale1"]["image"].values.tolist() == [[5, 1], [0, 8]]


def test_pyramids_are_written_and_read(tmp_path):
    try:
        import intake_img.formats.omezarr.driver
    except ImportError:
        pytest.skip("no driver writes pyramids yet")
    ds = dataset({"y": 4})[["image"]]
    intake_img.imsave(ds.img.pyramid([2]), tmp_path / "a.ome.zarr")
    level = intake_img.imload(tmp_path / "a.ome.zarr", level=1)
    np.testing.assert_array_equal(level["image"], ds.img.pyramid([2])["scale1"]["image"])
    assert level.img.spacing["y"] == 1.0


# crops and sizes


def test_crop():
    ds = dataset({"y": 4})
    found = ds.img.crop(x=(2, 5), y=(1, None))
    assert dict(found.sizes) == {"t": 2, "y": 8, "x": 3}
    xr.testing.assert_identical(found, ds.isel(x=slice(2, 5), y=slice(1, None)))
    found = ds.img.crop({"y": (10.5, 11.5)}, coordinate_system="physical")
    assert found["y"].values.tolist() == [10.5, 11.0, 11.5]
    with pytest.raises(ValueError, match="contains no pixel"):
        ds.img.crop(x=(50, 60))
    with pytest.raises(ValueError, match="at least one axis"):
        ds.img.crop()


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_rescale(chunks):
    resize = pytest.importorskip("skimage.transform").resize
    ds = dataset(chunks)
    found = ds.img.rescale({"y": 2, "x": 0.5})
    image = ds["image"].values.astype(float)
    wanted = np.stack([np.rint(resize(i, (18, 6), preserve_range=True, anti_aliasing=True)) for i in image])
    np.testing.assert_array_equal(found["image"], wanted)
    assert found["image"].dtype == np.uint8
    assert set(np.unique(found["labels"])) <= set(np.unique(ds["labels"]))
    assert found.img.spacing == {"y": 0.25, "x": 4.0}
    assert found["y"].values[0] == 10 - 0.125  # the outer edge stays: 9.75
    again = ds.img.rescale(spacing={"y": 0.25, "x": 4.0})
    xr.testing.assert_identical(again.compute(), found.compute())


# brightness


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8"])
def test_normalize(chunks, dtype):
    values = (np.random.default_rng(1).random((3, 2, 7, 8)) * [[[[1]], [[100]]]]).astype(dtype)
    found = stack(values, "tcyx", chunks).img.normalize(5, 95)
    for c in range(2):
        low, high = np.percentile(values[:, c].astype(float), [5, 95])
        wanted = np.clip((values[:, c] - low) / (high - low), 0, 1) if high > low else 0 * values[:, c]
        np.testing.assert_allclose(found[:, c], wanted, atol=1e-6)
    assert found.dtype == np.float32
    low, high = np.percentile(values.astype(float), [5, 95])
    joint = stack(values, "tcyx", chunks).img.normalize(5, 95, by=None, clip=False, output_dtype=float)
    np.testing.assert_allclose(joint, (values - low) / (high - low), atol=1e-6 if dtype == "f4" else 1e-12)
    np.testing.assert_allclose(
        stack(values, "tcyx", chunks).img.normalize(limits=(0, 50)), np.clip(values / 50, 0, 1), atol=1e-6
    )


@examples(60)
@given(data=st.data())
def test_percentiles_out_of_core_are_those_of_numpy(data):
    dtype = data.draw(st.sampled_from(["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    values = rng.normal(0, data.draw(st.sampled_from([1e-3, 1, 3e4])), data.draw(st.integers(2, 80)))
    if dtype[0] in "iu":
        info = np.iinfo(dtype)
        values = np.clip(values * data.draw(st.sampled_from([1, 1e12])), 0.99 * info.min, 0.99 * info.max)
    elif dtype[0] == "f":
        values[1:][rng.random(len(values) - 1) < 0.1] = np.nan
        values[rng.random(len(values)) < 0.1] = -0.0
    values = np.clip(values, -6e4, 6e4).astype(dtype) if dtype == "f2" else values.astype(dtype)
    low, high = sorted(
        data.draw(st.lists(st.sampled_from([0, 0.1, 5, 33.3, 50, 99.9, 100]), min_size=2, max_size=2, unique=True))
    )
    image = stack(values[None], "yx", {"x": data.draw(st.integers(1, 80))})
    floats = values.astype(float)
    found = image.img.normalize(low, high, clip=False, output_dtype=float).values[0]
    below, above = np.nanpercentile(floats, [low, high])
    with np.errstate(invalid="ignore"):
        wanted = (floats - below) / (above - below) if above > below else np.where(np.isnan(floats), np.nan, 0)
    np.testing.assert_array_equal(np.nan_to_num(found, nan=7), np.nan_to_num(wanted, nan=7))


def test_normalize_holds_counts_and_not_the_image():
    source = Source(np.random.default_rng(1).random((40, 64, 64)))
    image = source.image("tyx", (1, 64, 64))
    image.img.normalize().compute(scheduler="sync")
    assert source.pixels.min() == source.pixels.max() == 5  # four passes of 16 bits, and the result
    small = Source(np.zeros((4, 8, 8), "u2"))
    small.image("tyx", (1, 8, 8)).img.normalize().compute(scheduler="sync")
    assert small.pixels.max() == 2


def test_normalize_without_contrast_or_with_nan():
    assert float(stack(np.full((2, 3), 7), "yx").img.normalize().max()) == 0
    values = np.arange(12.0).reshape(3, 4)
    values[0, 0] = np.nan
    found = stack(values, "yx").img.normalize(0, 100)
    assert np.isnan(found[0, 0])
    assert float(found[0, 1]) == 0
    assert float(found.max()) == 1


def test_clip():
    values = np.array([[0, 5, 250]], "u1")
    found = stack(values, "yx").img.clip(2, 300)
    assert found.values.tolist() == [[2, 5, 250]]
    assert found.dtype == np.uint8
    assert stack(values, "yx").img.clip(max=4.5).values.tolist() == [[0, 4, 4]]
    assert stack(values, "yx").img.clip(-5).values.tolist() == [[0, 5, 250]]


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_enhance_contrast(chunks):
    equalize = pytest.importorskip("skimage.exposure").equalize_adapthist
    values = np.random.default_rng(1).integers(0, 4000, (2, 40, 48)).astype("u2")
    if chunks.get("x") == 1:
        chunks = {"y": 8, "x": 8}
    found = stack(values, chunks=chunks).img.enhance_contrast(0.02)
    np.testing.assert_allclose(found, np.stack([equalize(v, clip_limit=0.02) for v in values]), atol=1e-6)
    assert float(stack(np.ones((1, 9, 9)), chunks={}).img.enhance_contrast().max()) == 0


@pytest.mark.parametrize("chunks", [{}, {"t": 1, "y": 7, "x": 9}, {"y": 3, "x": 20}])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_rolling_ball(chunks, dtype):
    ball = pytest.importorskip("skimage.restoration").rolling_ball
    values = (np.random.default_rng(1).random((2, 30, 31)) * 200).astype(dtype)
    image = stack(values, chunks=chunks)
    wanted = np.stack([ball(v, radius=4.5) for v in values])
    np.testing.assert_array_equal(image.img.rolling_ball(4.5), wanted)
    np.testing.assert_array_equal(image.img.subtract_background(4.5), values - wanted)


# objects


@examples(60)
@given(data=st.data())
def test_label_equals_scipy_on_whole_images(data):
    dims = data.draw(st.sampled_from(["yx", "tyx", "zyx", "tczyx"]))
    shape = data.draw(st.tuples(*[st.integers(1, 2 if d in "tc" else 12) for d in dims]))
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 7)) for d, n in zip(dims, shape, strict=True)}
    core = sum(d in "zyx" for d in dims)
    rank = data.draw(st.integers(1, core))
    density = data.draw(st.sampled_from([0.2, 0.4, 0.6]))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < density
    found = stack(mask, dims, chunks).img.label(rank)
    structure = ndimage.generate_binary_structure(core, rank)
    wanted = np.empty(shape, int)
    for place in np.ndindex(shape[: len(shape) - core]):
        wanted[place] = ndimage.label(mask[place], structure)[0]
    np.testing.assert_array_equal(found.compute(scheduler="sync"), wanted)
    assert found.attrs["kind"] == "labels"


def test_label_adds_a_variable():
    ds = dataset({"y": 4}).drop_vars("labels")
    found = ds.img.label()
    assert list(found.data_vars) == ["image", "labels"]
    with pytest.raises(ValueError, match="overwrite=True"):
        found.img.label()


@pytest.mark.parametrize("chunks", [{}, {"y": 7, "x": 9}, {"y": 1, "x": 30}, {"t": 1, "c": 1, "y": 12}])
def test_regionprops_equal_scikit_image(chunks):
    table = pytest.importorskip("skimage.measure").regionprops_table
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.random((2, 30, 40)), [0, 2, 2])
    labels = np.stack([ndimage.label(s > np.median(s))[0] for s in smooth]) * 1000
    labels[0, 0, 0] = labels.max()  # a label in two places
    values = rng.random((2, 3, 30, 40))
    ds = xr.Dataset(
        {
            "image": stack(values, "tcyx", chunks, c=["a", "b", "d"]),
            "cells": stack(labels, "tyx", chunks).assign_attrs(kind="labels"),
        }
    )
    names = ("label", "area", "bbox", "centroid", "intensity_mean", "eccentricity", "centroid_weighted", "perimeter")
    found = ds.img.regionprops(properties=names)
    assert list(found.columns[:3]) == ["t", "c", "label"]
    for t in range(2):
        for k, c in enumerate("abd"):
            wanted = table(labels[t], values[t, k], properties=names)
            mine = found[(found["t"] == t) & (found["c"] == c)]
            for column, numbers in wanted.items():
                np.testing.assert_allclose(mine[column], numbers, rtol=1e-9, atol=1e-9, err_msg=column)


def test_regionprops_in_physical_units():
    pytest.importorskip("skimage")
    ds = dataset({"y": 4, "x": 5})
    labels = xr.zeros_like(ds["labels"]).compute()
    labels[2:6, 3:8] = 1
    found = labels.chunk(y=3, x=4).img.regionprops(units="physical")
    assert found["area"].tolist() == [20 * 0.5 * 2.0]
    assert found["centroid-0"].tolist() == [10 + 0.5 * 3.5]
    assert found["centroid-1"].tolist() == [2.0 * 5]
    assert found["bbox-2"].tolist() == [6]
    empty = xr.zeros_like(labels).img.regionprops()
    assert len(empty) == 0


# laziness and wrong arguments


def test_nothing_is_read_before_it_is_asked_for():
    pytest.importorskip("skimage")
    image = Source(np.ones((3, 2, 8, 9)), refuse=True).image("tcyx", (1, 1, 4, 5))
    for found in (
        image.img.pyramid()["scale2"]["image"],
        image.img.crop(x=(0, 3)),
        image.img.rescale(2),
        image.img.normalize(),
        image.img.clip(0, 1),
        image.img.enhance_contrast(),
        image.img.rolling_ball(2),
        image.img.subtract_background(2),
        image.img.label(),
    ):
        assert found.chunks is not None
        repr(found)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda i: i.pyramid(2), TypeError, "factors=2"),
        (lambda i: i.pyramid([0]), ValueError, r"factors\[0\]=0"),
        (lambda i: i.pyramid([{"q": 2}]), ValueError, "'q'"),
        (lambda i: i.pyramid([2], "median"), ValueError, "method='median'"),
        (lambda i: i.crop(q=(0, 1)), ValueError, "'q'"),
        (lambda i: i.crop(x=(0, 1), coordinate_system="physical"), ValueError, "has no coordinate"),
        (lambda i: i.rescale(), ValueError, "give one"),
        (lambda i: i.rescale(0), ValueError, "scale=0"),
        (lambda i: i.rescale(2, order=9), ValueError, "order=9"),
        (lambda i: i.rescale(spacing=1.0), ValueError, "spacing of axis"),
        (lambda i: i.normalize(90, 10), ValueError, "p_min=90"),
        (lambda i: i.normalize(-1), ValueError, "p_min=-1"),
        (lambda i: i.normalize(limits=(2, 1)), ValueError, "limits"),
        (lambda i: i.normalize(output_dtype=int), TypeError, "output_dtype"),
        (lambda i: i.clip(), ValueError, "min, max or both"),
        (lambda i: i.clip(2, 1), ValueError, "min=2"),
        (lambda i: i.enhance_contrast(2), ValueError, "clip_limit=2"),
        (lambda i: i.rolling_ball(0), ValueError, "radius=0"),
        (lambda i: i.label(3), ValueError, "connectivity=3"),
        (lambda i: i.regionprops(), TypeError, "labels are integers"),
    ],
)
def test_wrong_arguments_are_named(call, error, says):
    pytest.importorskip("skimage")
    with pytest.raises(error, match=says):
        call(stack(np.zeros((2, 4, 5)), chunks={}).img)


def test_unknown_properties_are_named():
    pytest.importorskip("skimage")
    labels = stack(np.ones((4, 5), int), "yx")
    with pytest.raises(ValueError, match="'beauty'"):
        labels.img.regionprops(properties=["beauty"])
