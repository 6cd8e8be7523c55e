"""Images in memory: results are computed immediately, without a graph, and equal those for chunked images."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dask.highlevelgraph import HighLevelGraph
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import stack
from scipy import ndimage
from thoroughness import examples

from intake_img.accessor.processing.in_memory import is_held
from intake_img.kernels import labelling

RNG = np.random.default_rng(5)
IMAGE = stack(RNG.integers(0, 900, (2, 3, 40, 31)).astype("u2"), "tzyx")
MASK = stack(ndimage.gaussian_filter(RNG.random((2, 3, 40, 31)), (0, 0, 1, 1)) > 0.5, "tzyx")
LABELS = MASK.img.label()
LABELS.attrs["kind"] = "labels"

METHODS = {
    "gaussian_filter": lambda a: a(IMAGE).img.gaussian_filter(2),
    "gaussian_laplace": lambda a: a(IMAGE.astype("f4")).img.gaussian_laplace(1.5, mode="wrap"),
    "gaussian_gradient_magnitude": lambda a: a(IMAGE).img.gaussian_gradient_magnitude(1, mode="mirror"),
    "median_filter": lambda a: a(IMAGE).img.median_filter(3),
    "uniform_filter": lambda a: a(IMAGE).img.uniform_filter(5, mode="grid-wrap"),
    "maximum_filter": lambda a: a(IMAGE).img.maximum_filter(4, mode="constant", cval=7),
    "minimum_filter": lambda a: a(IMAGE).img.minimum_filter(3),
    "percentile_filter": lambda a: a(IMAGE).img.percentile_filter(30, 3),
    "rank_filter": lambda a: a(IMAGE).img.rank_filter(1, 3),
    "grey_erosion": lambda a: a(IMAGE).img.grey_erosion(3),
    "grey_dilation": lambda a: a(IMAGE).img.grey_dilation(4),
    "grey_opening": lambda a: a(IMAGE).img.grey_opening(3),
    "grey_closing": lambda a: a(IMAGE).img.grey_closing(3, mode="wrap"),
    "white_tophat": lambda a: a(IMAGE).img.white_tophat(3),
    "black_tophat": lambda a: a(IMAGE).img.black_tophat(3),
    "laplace": lambda a: a(IMAGE).img.laplace(),
    "sobel": lambda a: a(IMAGE).img.sobel(),
    "prewitt": lambda a: a(IMAGE).img.prewitt(),
    "convolve": lambda a: a(IMAGE).img.convolve(np.ones((2, 3)), dims="yx"),
    "correlate": lambda a: a(IMAGE).img.correlate(np.ones((2, 3)), dims="yx"),
    "threshold_local": lambda a: a(IMAGE).img.threshold_local(5),
    "rolling_ball": lambda a: a(IMAGE).img.rolling_ball(4, dims="yx"),
    "subtract_background": lambda a: a(IMAGE).img.subtract_background(4, dims="yx"),
    "enhance_contrast": lambda a: a(IMAGE).img.enhance_contrast(),
    "clip": lambda a: a(IMAGE).img.clip(3, 400),
    "rescale": lambda a: a(IMAGE).img.rescale(0.5),
    "rescale of labels": lambda a: a(IMAGE).img.rescale(1.5, order=0),
    "pyramid": lambda a: a(IMAGE).img.pyramid([2, 3])["scale2"]["image"],
    "label": lambda a: a(MASK).img.label(dims="yx"),
    "label of eight neighbours": lambda a: a(MASK).img.label(connectivity=2, dims="yx"),
    "label of volumes": lambda a: a(MASK).img.label(),
    "fill_holes": lambda a: a(MASK).img.fill_holes(),
    "clear_border": lambda a: a(MASK).img.clear_border(),
    "remove_small": lambda a: a(MASK).img.remove_small(9),
    "threshold": lambda a: a(IMAGE).img.threshold(300),
    "hysteresis_threshold": lambda a: a(IMAGE).img.hysteresis_threshold(500, 800),
    "binary_opening": lambda a: a(MASK).img.binary_opening(1),
    "binary_dilation": lambda a: a(MASK).img.binary_dilation(2),
    "expand_labels": lambda a: a(LABELS).img.expand_labels(2),
    "regionprops": lambda a: a(LABELS).img.regionprops(
        intensity=a(IMAGE), properties=["area", "centroid", "intensity_mean", "surface_area", "euler_number"]
    ),
    "regionprops without an image": lambda a: a(LABELS).img.regionprops(properties=["area", "bbox", "area_filled"]),
}


@pytest.fixture
def graphs(monkeypatch):
    made = []
    original = HighLevelGraph.__init__

    def counting(self, *args, **kwargs):
        made.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(HighLevelGraph, "__init__", counting)
    return made


def chunked(array):
    return array.chunk({"z": 2, "y": 13, "x": 11})


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning:skimage")  # of its marching cubes
@pytest.mark.parametrize("name", METHODS)
def test_no_graph_is_made_and_results_are_those_of_chunks(name, graphs):
    found = METHODS[name](lambda array: array)
    assert not graphs
    wanted = METHODS[name](chunked)
    assert graphs
    if isinstance(found, pd.DataFrame):
        pd.testing.assert_frame_equal(found, wanted)
        return
    assert isinstance(found.data, np.ndarray)
    assert found.dtype == wanted.dtype
    assert found.attrs == wanted.attrs
    np.testing.assert_array_equal(found.values, wanted.values)
    assert not np.shares_memory(found.values, IMAGE.values)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_chunks_in_memory_are_put_together(scheduler):
    large = stack(RNG.integers(0, 99, (5, 1024, 1100)).astype("u2"), "zyx")  # in several chunks
    with dask.config.set(scheduler=scheduler):
        found = large.img.maximum_filter({"z": 3, "x": 2}, mode="wrap")
    np.testing.assert_array_equal(found, ndimage.maximum_filter(large.values, (3, 1, 2), mode="wrap"))
    halves = large.rename(z="t").img.pyramid([2])["scale1"]["image"]
    np.testing.assert_array_equal(halves[3, 7], np.rint(large.values[3, 14:16].reshape(2, 550, 2).mean((0, 2))))


def test_memory_maps_stay_lazy(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE.values)
    mapped = IMAGE.copy(data=np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert not is_held(mapped)
    assert mapped.img.median_filter(3).chunks is not None


def test_images_without_pixels():
    empty = stack(np.zeros((0, 4, 5), bool))
    assert empty.img.label().shape == empty.img.remove_small(3).shape == (0, 4, 5)
    assert stack(np.zeros((0, 4, 5), "u1")).img.median_filter(3).shape == (0, 4, 5)


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.floats(0, 1),
    st.sampled_from([1, 2]),
    st.integers(0, 9),
)
@examples(60)
def test_planes_are_numbered_by_opencv_as_by_scipy(shape, share, rank, seed):
    mask = np.random.default_rng(seed).random(shape) < share
    structure = ndimage.generate_binary_structure(2, rank)
    wanted, count = ndimage.label(mask, structure)
    for view in (mask, np.asfortranarray(mask), mask[::-1][::-1]):
        labels, n = labelling.label_chunk(view, structure)
        np.testing.assert_array_equal(labels, wanted)
        assert n == count


def test_without_opencv_labels_are_the_same(monkeypatch):
    found = MASK.img.label(connectivity=2, dims="yx").values
    monkeypatch.setattr(labelling, "opencv", lambda: None)
    np.testing.assert_array_equal(MASK.img.label(connectivity=2, dims="yx").values, found)


def test_large_planes_are_numbered_alike():
    mask = ndimage.gaussian_filter(RNG.random((700, 600)), 1) > 0.5
    image = xr.DataArray(mask, dims=["y", "x"])
    for found in (image.img.label(connectivity=2), image.chunk(y=400, x=333).img.label(connectivity=2).compute()):
        expected = ndimage.label(mask, np.ones((3, 3)))[0]
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
