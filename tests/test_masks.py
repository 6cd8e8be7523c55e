"""Laws of masks and labels: scipy and scikit-image on whole images say what is right, for every chunking."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import Source, cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.kernels.morphology import ellipsoid

pytestmark = pytest.mark.thorough

morphology = pytest.importorskip("skimage.morphology")
segmentation = pytest.importorskip("skimage.segmentation")


def removed(func, mask, size, connectivity):
    new = "max_size" in inspect.signature(func).parameters
    name = "min_size" if func is morphology.remove_small_objects else "area_threshold"
    return func(mask, **({"max_size": size - 1} if new else {name: size}), connectivity=connectivity)


def expected(name, mask):
    radii = [2.5] * mask.ndim
    return {
        "fill_holes": lambda: ndimage.binary_fill_holes(mask),
        "clear_border": lambda: segmentation.clear_border(mask),
        "objects": lambda: removed(morphology.remove_small_objects, mask, 6, mask.ndim),
        "holes": lambda: removed(morphology.remove_small_holes, mask, 6, 1),
        "erosion": lambda: ndimage.binary_erosion(mask, ellipsoid(radii), border_value=1),
        "dilation": lambda: ndimage.binary_dilation(mask, ellipsoid(radii)),
        "opening": lambda: morphology.dilation(
            morphology.erosion(mask, ellipsoid(radii), mode="ignore"), ellipsoid(radii), mode="ignore"
        ),
        "closing": lambda: morphology.erosion(
            morphology.dilation(mask, ellipsoid(radii), mode="ignore"), ellipsoid(radii), mode="ignore"
        ),
    }[name]()


FOUND = {
    "fill_holes": lambda i: i.fill_holes(),
    "clear_border": lambda i: i.clear_border(),
    "objects": lambda i: i.remove_small(6, connectivity=len(i._obj.img.axes.replace("t", ""))),
    "holes": lambda i: i.remove_small(6, "holes"),
    "erosion": lambda i: i.binary_erosion(2.5),
    "dilation": lambda i: i.binary_dilation(2.5),
    "opening": lambda i: i.binary_opening(2.5),
    "closing": lambda i: i.binary_closing(2.5),
}


@examples(10)
@given(data=st.data())
@pytest.mark.parametrize("name", FOUND)
def test_masks_equal_those_of_whole_images(name, data):
    dims, shape = data.draw(st.sampled_from([("yx", (17, 21)), ("zyx", (6, 9, 10)), ("tyx", (2, 15, 18))]))
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 5)) for d, n in zip(dims, shape, strict=True)}
    density = {"erosion": 0.97, "opening": 0.95, "dilation": 0.03, "closing": 0.06}.get(name)
    density = data.draw(st.sampled_from([0.3, 0.5, 0.7])) if density is None else density
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < density
    found = FOUND[name](stack(mask, dims, chunks).img)
    for place in np.ndindex(2) if dims[0] == "t" else [()]:
        np.testing.assert_array_equal(found.values[place], expected(name, mask[place]))


@examples(15)
@given(data=st.data())
def test_expanded_labels_equal_scikit_image(data):
    dims, shape = data.draw(st.sampled_from([("yx", (17, 21)), ("zyx", (6, 9, 10))]))
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 5)) for d, n in zip(dims, shape, strict=True)}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    labels = rng.integers(1, 9, shape) * (rng.random(shape) < 0.03)
    distance = data.draw(st.sampled_from([1, 2, 3.5]))
    found = stack(labels, dims, chunks).img.expand_labels(distance)
    np.testing.assert_array_equal(found, segmentation.expand_labels(labels, distance) if labels.any() else labels)


def test_physical_sizes_and_datasets():
    coords = {
        a: (a, np.arange(n) * s, {"units": "µm", "spacing": s})
        for a, n, s in [("z", 5, 1.0), ("y", 9, 0.5), ("x", 9, 0.5)]
    }
    mask = np.zeros((5, 9, 9), bool)
    mask[2, 4, 4] = True
    array = stack(mask, "zyx", {"y": 4, "x": 3}, **coords).assign_attrs(kind="mask")
    for grown in (array.img.binary_dilation("1 µm"), array.img.binary_dilation(1, units="physical")):
        np.testing.assert_array_equal(grown, ndimage.binary_dilation(mask, ellipsoid([1, 2, 2])))
    assert int(array.img.binary_dilation({"x": 2}).sum()) == 5
    assert int(grown.img.remove_small(15 * 0.25, units="physical").sum()) == 15
    assert int(grown.img.remove_small(15 * 0.25 + 0.01, units="physical").sum()) == 0
    labels = array.astype("u2").assign_attrs(kind="labels")
    np.testing.assert_array_equal(labels.img.expand_labels("1 µm") > 0, grown)
    ds = xr.Dataset({"image": array.astype(float).drop_attrs(), "mask": array}).img.binary_dilation(1).img.label()
    assert (int(ds["mask"].sum()), int(ds["image"].sum()), int(ds["labels"].max())) == (7, 1, 1)
    assert int((ds.img.expand_labels(1)["labels"] > 0).sum()) > 7
    with pytest.raises(ValueError, match=r"img\.threshold"):
        ds[["image"]].img.fill_holes()
    with pytest.raises(TypeError, match="expected a mask"):
        labels.img.fill_holes()
    with pytest.raises(TypeError, match="expected labels"):
        array.img.expand_labels()
    for bad, match in (
        ({"size": -1}, "size"),
        ({"size": 1, "what": "x"}, "what"),
        ({"size": 1, "units": "µ"}, "units"),
    ):
        with pytest.raises(ValueError, match=match):
            array.img.remove_small(**bad)


def test_nothing_is_read_before_it_is_asked_for():
    mask = Source(np.zeros((12, 14), bool), refuse=True).image("yx", (5, 6))
    for make in FOUND.values():
        assert make(mask.img).chunks
