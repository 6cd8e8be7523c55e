"""Laws of thresholds and masks: scikit-image on whole images says what is right, for every chunking."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import Source, cuts, stack
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.processing import thresholds

pytestmark = pytest.mark.thorough

filters = pytest.importorskip("skimage.filters")
METHODS = ("otsu", "li", "triangle", "yen", "isodata", "mean", "minimum")


def two_peaks(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(shape) < 0.7, rng.normal(60, 9, shape), rng.normal(160, 20, shape)).clip(0, 255)
    return (
        values / 255 if dtype.startswith("f") else values * (100 if dtype == "u4" else 1) - (dtype == "i2") * 90
    ).astype(dtype)


def close(found, wanted, dtype, method):
    rounding = 1e-6 if dtype == "f4" and method in ("li", "mean") else 1e-12 if method in ("li", "mean") else 0
    np.testing.assert_allclose(found, wanted, rtol=rounding)


@examples(12)
@given(data=st.data())
@pytest.mark.parametrize("method", METHODS)
def test_thresholds_equal_scikit_image(method, data):
    dtype = data.draw(st.sampled_from(["u1", "u2", "i2", "u4", "f4", "f8"]))
    shape = data.draw(st.tuples(st.integers(1, 2), st.integers(30, 60), st.integers(30, 60)))
    values = two_peaks(shape, dtype, data.draw(st.integers(0, 9)))
    if dtype == "u4" and method == "minimum":  # a histogram of 25 500 bins takes long to smooth
        values //= 100
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 5)) for d, n in zip("tyx", shape, strict=True)}
    image = stack(values, "tyx", chunks)
    wanted = getattr(filters, f"threshold_{method}")(values.reshape(-1, shape[-1]).copy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "TOGETHER", data.draw(st.sampled_from([1, 3000, 2**21])))
        close(float(image.img.threshold_values(method)), wanted, dtype, method)
        mask = image.img.threshold(method)
        assert (mask.dtype, mask.attrs, mask.name) == (np.dtype(bool), {"kind": "mask"}, "mask")
        if method not in ("li", "mean"):
            np.testing.assert_array_equal(mask, values > wanted)
        each = image.img.threshold_values(method, per="t")
        close(each[0], getattr(filters, f"threshold_{method}")(values[0].copy()), dtype, method)


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("chunks", [{}, {"c": 1, "y": 11, "x": 17}])
def test_multiotsu_makes_classes(dtype, chunks):
    values = two_peaks((2, 50, 60), dtype)
    found = stack(values, "cyx", chunks).img.threshold("multiotsu", classes=4, nbins=64)
    options = {"classes": 4, "nbins": 64}
    assert (found.dtype, found.attrs["kind"]) == (np.uint8, "labels")
    for one, image in zip(found, values, strict=True):
        np.testing.assert_array_equal(one, np.digitize(image, filters.threshold_multiotsu(image, **options)))
    assert stack(values, "cyx").img.threshold_values("multiotsu").dims == ("class", "c")


@examples(25)
@given(data=st.data())
def test_minimum_and_classes_of_images_in_any_chunks(data):
    """Along any axes, and in chunks of one pixel; what scikit-image refuses is refused."""
    dims = data.draw(st.sampled_from(["yx", "zyx", "tcyx", "tczyx"]))
    lengths = {d: data.draw(st.integers(1, 2 if d in "tcz" else 9)) for d in dims}
    dtype, per = data.draw(st.sampled_from(["u1", "u2", "i2", "f4", "f8"])), dims.strip("zyx")
    values = two_peaks(tuple(lengths.values()), dtype, data.draw(st.integers(0, 99)))
    chunks = {d: data.draw(st.one_of(st.just(1), cuts(n))) for d, n in lengths.items()}
    method, options = data.draw(
        st.sampled_from([("minimum", {}), ("multiotsu", {"classes": 2}), ("multiotsu", {"classes": 3, "nbins": 20})])
    )
    lazy = stack(values, dims, chunks).img.threshold(method, per=per, **options)
    assert lazy.chunks is not None
    wanted = [classes(image, method, options) for image in values.reshape(-1, *values.shape[len(per) :])]
    if any(one is None for one in wanted):
        for make in (lazy.compute, lambda: stack(values, dims).img.threshold(method, per=per, **options)):
            with pytest.raises(ValueError, match="finds no threshold"):
                make()
        return
    for found in (lazy, stack(values, dims).img.threshold(method, per=per, **options)):
        np.testing.assert_array_equal(found, np.reshape(wanted, values.shape))


def classes(image, method, options):
    """Return in what the thresholds of scikit-image divide one image; None if there are none."""
    try:
        found = getattr(filters, f"threshold_{method}")(image.reshape(len(image), -1), **options)
    except (RuntimeError, ValueError):
        return None
    return image > found if method == "minimum" else np.digitize(image, found)


def test_numbers_and_thresholds_of_channels():
    image = stack(np.arange(24).reshape(2, 3, 4), "cyx", {"y": 2}, c=["a", "b"])
    assert image.img.threshold({"b": 20, "a": 3}).sum(["y", "x"]).values.tolist() == [8, 3]
    assert int(image.img.threshold(7.5).sum()) == 16
    assert image.img.threshold_values("mean").to_series().to_dict() == {"a": 5.5, "b": 17.5}
    assert float(image.img.threshold_values("mean", per=None)) == 11.5
    with pytest.raises(ValueError, match="lacks a number for the channel 'b'"):
        image.img.threshold({"a": 1})
    with pytest.raises(ValueError, match="no channel 'd'; the image has 'a', 'b'"):
        image.img.threshold({"d": 1})
    ds = image.to_dataset().img.threshold()
    assert list(ds) == ["image", "mask"]
    assert int(ds.img.label()["labels"].max()) == 1  # of the mask, not of the image
    for bad in (
        {"method": "otzu"},
        {"per": "q"},
        {"method": 3, "per": "c", "nbins": 9},
        {"classes": 3},
        {"method": "li", "nbins": 9},
        {"method": 1, "per": "y"},
    ):
        with pytest.raises(ValueError, match=next(reversed(bad))):
            image.img.threshold(**bad)
    with pytest.raises(TypeError, match="bool"):
        (image > 3).img.threshold("otsu")


def test_what_is_not_finite_does_not_count_and_a_constant_image_is_background():
    values = two_peaks((40, 50), "f8")
    wanted = filters.threshold_otsu(values)
    spoilt = np.concatenate([values, np.full((1, 50), np.nan), np.full((1, 50), np.inf)])
    found = stack(spoilt, "yx", {"y": 7}).img.threshold()
    np.testing.assert_array_equal(found[:40], values > wanted)
    assert found[40:].any("x").values.tolist() == [False, True]
    for constant in (np.full((4, 5), 3, "u2"), np.full((4, 5), 3.5), np.full((4, 5), np.nan)):
        assert not stack(constant, "yx", {"y": 2}).img.threshold().any()
    with pytest.raises(ValueError, match="finds no threshold"):
        stack(np.eye(4), "yx").img.threshold("multiotsu").compute()


@pytest.mark.parametrize("method", ["otsu", "triangle", "yen", "isodata", "mean", "li"])
@pytest.mark.parametrize("value", [0.0, 0.001, 3.5, -2.0, 7])
def test_an_image_of_one_value_is_background(value, method):
    """Bins around a constant of floats have their centres beside it: it is not compared with them."""
    for chunks in (None, {"y": 2}):
        image = stack(np.full((4, 5), value), "yx", chunks)
        assert float(image.img.threshold_values(method)) == value
        assert not image.img.threshold(method).any()


@examples(15)
@given(data=st.data())
def test_hysteresis_equals_scikit_image(data):
    dims, shape = data.draw(st.sampled_from([("yx", (25, 30)), ("zyx", (5, 12, 14)), ("tyx", (2, 20, 22))]))
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 5)) for d, n in zip(dims, shape, strict=True)}
    values = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape)
    found = stack(values, dims, chunks).img.hysteresis_threshold(0.6, 0.97).values
    core = [()] if dims != "tyx" else list(np.ndindex(2))
    for place in core:
        np.testing.assert_array_equal(found[place], filters.apply_hysteresis_threshold(values[place], 0.6, 0.97))


def test_thresholds_are_lazy_and_read_chunk_by_chunk():
    source = Source(np.zeros((40, 50)), refuse=True)
    image = source.image("yx", (10, 25))
    for lazy in (image.img.threshold(), image.img.hysteresis_threshold("otsu", 3), image.img.threshold_values()):
        assert hasattr(lazy.data, "dask")
    source = Source(two_peaks((40, 50), "u2"))
    source.image("yx", (10, 25)).img.threshold().compute()
    assert source.pixels.max() == source.pixels.min() == 2  # once for the counts, once for the mask
    with pytest.raises(ValueError, match="low=3"):
        image.img.hysteresis_threshold(3, 2)
    with pytest.raises(ValueError, match="several"):
        image.img.hysteresis_threshold("multiotsu", 2)
    ds = xr.Dataset({"image": image})
    assert list(ds.img.hysteresis_threshold(1, 2, output="cells")) == ["image", "cells"]


def test_hysteresis_of_numbers_has_no_axes():
    image = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=["t", "x"])
    with pytest.raises(ValueError, match="per='t' is for methods"):
        image.img.hysteresis_threshold(1, 3, per="t")
