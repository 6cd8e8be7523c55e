"""Laws of methods on whole objects: scipy and scikit-image on whole images say what is right, for every chunking."""

from __future__ import annotations

import tracemalloc

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.errors import AxesError
from intake_img.kernels import flooding, splitting

pytestmark = pytest.mark.thorough
feature = pytest.importorskip("skimage.feature")
morphology = pytest.importorskip("skimage.morphology")
segmentation = pytest.importorskip("skimage.segmentation")


def drawn(data):
    dims = data.draw(st.sampled_from(["yx", "yx", "zyx"]))
    shape = data.draw(st.tuples(*[st.integers(3, 20 if len(dims) == 2 else 9) for _ in dims]))
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 5)) for d, n in zip(dims, shape, strict=True)}
    return dims, shape, chunks, np.random.default_rng(data.draw(st.integers(0, 999)))


def mask_of(rng, shape, share=0.4):
    values = ndimage.gaussian_filter(rng.random(shape), 1.2)
    return values > np.quantile(values, share)


def parts_of(mask, radii, steps):
    """Split each object of a complete image separately, only with scikit-image; number parts by their first pixels."""
    found = np.zeros(mask.shape, int)
    labels, n = ndimage.label(mask, np.ones((3,) * mask.ndim))
    for k in range(1, n + 1):
        away = ndimage.distance_transform_edt(labels == k, sampling=steps)
        places = feature.peak_local_max(away, min_distance=radii[0], threshold_abs=0, exclude_border=False)
        markers = np.zeros(mask.shape, int)
        markers[tuple(places.T)] = np.arange(1, len(places) + 1)
        parts = segmentation.watershed(-away, markers, connectivity=mask.ndim, mask=labels == k)
        found[labels == k] = parts[labels == k] + found.max()
    return in_order(found)


def in_order(labels):
    ids, first = np.unique(labels[labels > 0], return_index=True)
    out = np.zeros_like(labels)
    for number, k in enumerate(ids[np.argsort(first)], 1):
        out[labels == k] = number
    return out


@examples(60)
@given(data=st.data())
def test_distances_equal_scipy(data):
    dims, shape, chunks, rng = drawn(data)
    mask = mask_of(rng, shape, data.draw(st.sampled_from([0.05, 0.4, 0.7])))
    steps = data.draw(st.sampled_from([(1.0, 1.0, 1.0), (2.0, 0.5, 0.7)]))[-len(dims) :]
    coords = {
        a: (a, np.arange(n) * s, {"units": "µm", "spacing": s}) for a, n, s in zip(dims, shape, steps, strict=True)
    }
    found = stack(mask, dims, chunks).assign_coords(coords).img.distance_transform(units="physical")
    np.testing.assert_array_equal(found.compute(scheduler="sync"), ndimage.distance_transform_edt(mask, sampling=steps))
    assert found.attrs == {"units": "µm"}


@examples(60)
@given(data=st.data())
def test_touching_objects_are_split_as_in_the_whole_image(data):
    dims, shape, chunks, rng = drawn(data)
    mask = mask_of(rng, shape)
    radius = data.draw(st.integers(1, 3))
    found = stack(mask, dims, chunks).img.split(radius)
    wanted = parts_of(mask, [radius] * len(dims), (1.0,) * len(dims))
    np.testing.assert_array_equal(found.compute(scheduler="sync"), wanted)
    assert found.attrs == {"kind": "labels"}


@examples(60)
@given(data=st.data())
def test_watershed_skeleton_and_numbers_equal_the_whole_image(data):
    dims, shape, chunks, rng = drawn(data)
    mask, image = mask_of(rng, shape), rng.integers(0, 9, shape)
    markers = np.where(rng.random(shape) < 0.05, rng.integers(1, 900, shape), 0)
    image *= 1000  # marked pixels of one value are flooded by scikit-image in an order that depends on all others
    image[markers > 0] += rng.permutation(np.count_nonzero(markers))
    rank = data.draw(st.integers(1, len(dims)))
    ds = xr.Dataset({n: stack(v, dims, chunks) for n, v in [("image", image), ("mask", mask), ("seeds", markers)]})
    found = ds["image"].img.watershed(ds["seeds"], ds["mask"], rank)
    wanted = segmentation.watershed(image, markers, connectivity=rank, mask=mask)
    np.testing.assert_array_equal(found.compute(scheduler="sync"), wanted)
    np.testing.assert_array_equal(found.img.relabel().compute(scheduler="sync"), in_order(wanted))
    thin = ds["mask"].img.skeletonize().compute(scheduler="sync").values
    np.testing.assert_array_equal(thin, ds["mask"].compute().img.skeletonize().values)
    labels, n = ndimage.label(mask, np.ones((3,) * mask.ndim))
    alone = [morphology.skeletonize(np.pad(labels == k, 1))[(slice(1, -1),) * mask.ndim] for k in range(1, n + 1)]
    np.testing.assert_array_equal(thin, np.any([np.zeros(shape, bool), *alone], axis=0))


@examples(40)
@given(data=st.data())
def test_watersheds_of_equal_values_are_the_same_for_every_chunking(data):
    """Many ties: each object is flooded as if it were alone, whatever other objects a chunk holds."""
    dims, shape, chunks, rng = drawn(data)
    mask, image = mask_of(rng, shape), rng.integers(0, 3, shape).astype(data.draw(st.sampled_from(["u1", "i8", "f4"])))
    markers = np.where(rng.random(shape) < 0.1, rng.integers(1, 900, shape), 0)
    share = data.draw(st.sampled_from([0, 0.2]))
    if image.dtype.kind == "f":  # NaN is flooded last
        image[rng.random(shape) < share] = np.nan
    found = {}
    for name, cut in (("memory", None), ("whole", {}), ("chunks", chunks)):
        parts = {n: stack(v, dims, cut) for n, v in (("image", image), ("mask", mask), ("seeds", markers))}
        found[name] = parts["image"].img.watershed(parts["seeds"], parts["mask"], 1).compute(scheduler="sync")
    np.testing.assert_array_equal(found["chunks"], found["whole"])
    np.testing.assert_array_equal(found["memory"], found["whole"])
    image = np.where(image == image, image, np.inf)
    labels, n = ndimage.label(mask, np.ones((3,) * mask.ndim))
    for k in range(1, n + 1):
        here = labels == k
        alone = segmentation.watershed(image, np.where(here, markers, 0), mask=here)
        np.testing.assert_array_equal(found["whole"].values[here], alone[here])


@examples(60)
@given(data=st.data())
def test_objects_with_two_equal_markers_are_flooded_in_the_company_of_others(data):
    """Two markers of an object are equal, often the lowest: distances to the background have such objects."""
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    mask, image = np.zeros((31, 31), bool), rng.integers(0, data.draw(st.integers(2, 20)), (31, 31))
    dtype = data.draw(st.sampled_from(["u1", "f4", "f8"]))
    markers, rank = np.zeros(mask.shape, data.draw(st.sampled_from(["i8", "u2"]))), data.draw(st.integers(1, 2))
    boxes = [(slice(y, y + 5), slice(x, x + 5)) for y in range(1, 31, 6) for x in range(1, 31, 6)]
    for box in boxes:
        mask[box] = rng.random((5, 5)) < 0.9
        places = rng.choice(25, data.draw(st.integers(2, 9)), replace=False)
        image[box].flat[places[2:]] = rng.permutation(20)[: len(places) - 2]
        image[box].flat[places[:2]] = data.draw(st.integers(0, 9))
        markers[box].flat[places] = 1 + rng.permutation(9)[: len(places)]
    found = flooding.flooded(mask, [image.astype(dtype), markers], (0, 0), mask.shape, connectivity=rank)
    assert found.dtype == markers.dtype
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    for k in range(1, n + 1):
        here = labels == k
        alone = segmentation.watershed(image, np.where(here, markers, 0), connectivity=rank, mask=here)
        np.testing.assert_array_equal(found[here], alone[here])


@examples(80)
@given(data=st.data())
def test_peaks_equal_scikit_image(data):
    dims, shape, chunks, rng = drawn(data)
    dtype = data.draw(st.sampled_from(["u1", "i2", "f2", "f8"]))
    image = (ndimage.gaussian_filter(rng.random(shape), 0.8) * data.draw(st.sampled_from([8, 200]))).astype(dtype)
    radius, border = data.draw(st.integers(1, 4)), data.draw(st.booleans())
    threshold = data.draw(st.sampled_from([None, 4]))
    table = stack(image, dims, chunks).img.peaks(radius, threshold, exclude_border=border)
    wanted = feature.peak_local_max(
        image.astype(float), min_distance=radius, threshold_abs=threshold, exclude_border=border
    )
    np.testing.assert_array_equal(table[list(dims)].to_numpy(), wanted)
    np.testing.assert_array_equal(table["value"], image[tuple(wanted.T)])


@examples(60)
@given(data=st.data())
def test_peaks_on_flat_ground_of_several_heights(data):
    """The lowest value of a chunk need not be that of the image."""
    shape = (data.draw(st.integers(1, 12)), data.draw(st.integers(1, 14)))
    levels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
    image = np.resize(np.repeat(levels, -(-shape[1] // len(levels)))[: shape[1]], shape).astype("u1")
    for _ in range(data.draw(st.integers(0, 3))):
        image[data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))] = 9
    radius, threshold = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([None, -1, 0, 1, 9]))
    chunks = {a: data.draw(st.one_of(st.just(1), cuts(n))) for a, n in zip("yx", shape, strict=True)}
    wanted = feature.peak_local_max(
        image.astype(float), min_distance=radius, threshold_abs=threshold, exclude_border=False
    )
    for cut in (chunks, None):
        table = stack(image, "yx", cut).img.peaks(radius, threshold, exclude_border=False)
        np.testing.assert_array_equal(table[["y", "x"]].to_numpy(), wanted)


def test_peaks_on_flat_ground_need_little_memory():
    image = np.full((2048, 2048), 7, "u2")
    image[::64, ::64] = 9
    lazy = stack(image, "yx", {"y": 256, "x": 256})
    lazy[:256, :256].img.peaks(2)  # imports modules
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="sync"):
            table = lazy.img.peaks(2)
        assert tracemalloc.get_traced_memory()[1] < image.size  # a byte a pixel; positions of all would be 24 and more
    finally:
        tracemalloc.stop()
    assert (len(table), set(table["value"])) == (31 * 31, {9})


def test_axes_that_are_not_space_and_datasets():
    rng = np.random.default_rng(1)
    mask = np.stack([mask_of(rng, (12, 14)) for _ in range(4)]).reshape(2, 2, 12, 14)
    ds = xr.Dataset({"mask": stack(mask, "tcyx", {"t": 1, "y": 5, "x": 6}).assign_attrs(kind="mask")})
    found = ds.img.split(2).img.distance_transform().compute(scheduler="sync")
    for t in range(2):
        for c in range(2):
            np.testing.assert_array_equal(found["labels"][t, c], parts_of(mask[t, c], [2, 2], (1, 1)))
            np.testing.assert_array_equal(found["distance"][t, c], ndimage.distance_transform_edt(mask[t, c]))
    assert found["labels"].attrs == {"kind": "labels"}
    table = found["distance"].img.peaks(units="pixel")
    assert list(table.columns) == ["t", "c", "y", "x", "value"]
    assert np.isinf(stack(np.ones((3, 4), bool), "yx", {"y": 2}).img.distance_transform().values).all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda a: a.img.distance_transform(), TypeError, "expected a mask"),
        (lambda a: (a > 0).img.split(1.5), TypeError, "min_distance"),
        (lambda a: (a > 0).img.split(units="physical"), ValueError, "spacing"),
        (lambda a: a.img.watershed("seeds", a > 0), TypeError, "markers='seeds'"),
        (lambda a: a.img.watershed(a.astype(int), (a > 0)[:2]), ValueError, "mask has length 2"),
        (lambda a: a.img.watershed(a, a > 0), TypeError, "markers are integers"),
        (lambda a: a.img.relabel(), TypeError, "labels, which are integers"),
        (lambda a: a.img.peaks(exclude_border=3), TypeError, "exclude_border"),
        (lambda a: (a.astype(int) - 1).img.relabel().compute(), ValueError, "there is -1"),
    ],
)
def test_wrong_arguments_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call(xr.DataArray(np.zeros((4, 5)), dims=["y", "x"]))


@pytest.mark.parametrize("outside", [False, 0, np.nan])
def test_markers_and_mask_of_watershed_lie_where_their_coordinates_are(outside):
    rng = np.random.default_rng(4)
    mask, image = mask_of(rng, (20, 24)), rng.integers(0, 9, (20, 24))
    markers = np.where(rng.random(mask.shape) < 0.1, rng.integers(1, 90, mask.shape), 0)
    coords = {"y": ("y", 0.5 * np.arange(20), {"units": "µm"}), "x": ("x", 0.5 * np.arange(24), {"units": "µm"})}
    whole = stack(image, "yx", {"y": 7}).assign_coords(coords)
    area = whole.copy(data=np.where(mask, True, outside)).isel(y=slice(3, None))
    seeds = whole.copy(data=markers).isel(x=slice(None, 20))
    area = area.assign_coords(y=("y", area.y.values * 1000, {"units": "nm"}))
    found = whole.img.watershed(seeds, area.transpose("x", "y"))
    mask[:3], markers[:, 20:] = False, 0
    np.testing.assert_array_equal(found, segmentation.watershed(image, markers, mask=mask))
    with pytest.raises(AxesError, match="mask"):
        whole.img.watershed(seeds, area.assign_coords(x=("x", 0.2 + 0.5 * np.arange(24), {"units": "µm"})))
    with pytest.raises(AxesError, match="mask has the axes 'y', the image 'yx'"):
        whole.img.watershed(seeds, area.isel(x=0, drop=True))


def test_spacing_is_by_axis():
    places = np.array([[0, 0], [0, 2], [1, 0]])
    assert splitting.spaced(places, np.array([3, 2, 1]), (1, 3)).tolist() == [[0, 0], [1, 0]]


def test_many_peaks_of_equal_height_need_little_memory():
    places = np.argwhere(np.ones((60, 60), bool))
    tracemalloc.start()
    try:
        found = splitting.spaced(places, np.ones(len(places)), (9, 9))
        assert tracemalloc.get_traced_memory()[1] < 40 * places.nbytes  # all pairs would be 180 times as much
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, places[(places % 9 == 0).all(axis=1)])


@pytest.mark.parametrize("chunks", [None, {}])
def test_no_images_have_no_peaks(chunks):
    assert stack(np.ones((0, 9, 10)), "tyx", chunks).img.peaks().columns.tolist() == ["t", "y", "x", "value"]
