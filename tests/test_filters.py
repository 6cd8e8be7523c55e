"""Laws of filters: for every chunking, shape, dtype and mode they equal scipy on each whole image, bit for bit.

Also that nothing passes between images, that nothing is read before it is asked for, and what wrong arguments say.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import CHUNKINGS, Source, cuts, extended, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401

MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
WEIGHTS = np.random.default_rng(7).random((4, 3)) - 0.3
FOOTPRINT = np.array([[1, 0, 1], [0, 1, 1]], bool)
FILTERS = [
    ("gaussian_filter", {"sigma": 2}),
    ("gaussian_filter", {"sigma": [0.7, 1.5], "order": [1, 0]}),
    ("gaussian_filter", {"sigma": 1, "radius": 2}),
    ("gaussian_filter", {"sigma": 1.2, "truncate": 2.5, "order": 2}),
    ("median_filter", {"size": 3}),
    ("median_filter", {"size": 4, "origin": 1}),
    ("median_filter", {"footprint": FOOTPRINT}),
    ("uniform_filter", {"size": 3}),
    ("uniform_filter", {"size": [4, 3], "origin": [-2, 1]}),
    ("maximum_filter", {"size": 4, "origin": 1}),
    ("minimum_filter", {"size": 5, "origin": [-2, 2]}),
    ("percentile_filter", {"percentile": 30, "size": 3}),
    ("rank_filter", {"rank": -2, "size": [2, 5]}),
    ("laplace", {}),
    ("gaussian_laplace", {"sigma": 1.5}),
    ("gaussian_gradient_magnitude", {"sigma": 1}),
    ("sobel", {}),
    ("prewitt", {}),
    ("convolve", {"weights": WEIGHTS, "origin": [1, 0]}),
    ("convolve", {"weights": WEIGHTS, "origin": [-1, -1]}),
    ("correlate", {"weights": WEIGHTS, "origin": [-2, 1]}),
    ("grey_erosion", {"size": 4, "origin": -2}),
    ("grey_dilation", {"size": 4, "origin": 1}),
    ("grey_opening", {"size": 4, "origin": [1, -2]}),
    ("grey_closing", {"size": [3, 4], "origin": [1, -2]}),
    ("white_tophat", {"size": 4}),
    ("black_tophat", {"size": 3}),
]


def whole(name, array, core=2, **options):
    """The oracle: scipy on each whole image."""
    lead = array.shape[: array.ndim - core]
    images = [getattr(ndimage, name)(array[k], **options) for k in np.ndindex(lead)]
    return np.stack(images).reshape(*lead, *images[0].shape)


def same(name, found, expected):
    assert found.dtype == expected.dtype
    if name == "uniform_filter" and found.dtype.kind == "f":  # scipy's sum runs along the line
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, atol=scale * (1e-13 if found.dtype == np.float64 else 1e-6))
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("name", "options"), FILTERS, ids=[f"{n}-{k}" for k, (n, _) in enumerate(FILTERS)])
@examples(12)
@given(data=st.data())
def test_equals_scipy_on_whole_images(name, options, data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 24), st.integers(1, 24)))
    chunks = data.draw(st.tuples(*[cuts(n) for n in shape]))
    dtype = data.draw(st.sampled_from(["u1", "u2", "i4", "f4", "f8"]))
    mode = data.draw(st.sampled_from(MODES))
    values = (np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) * 250).astype(dtype)
    image = stack(values, chunks=dict(zip("tyx", chunks, strict=True)))
    found = getattr(image.img, name)(**options, mode=mode, cval=3 * ("constant" in mode)).compute(scheduler="sync")
    same(name, found.values, whole(name, values, **options, mode=mode, cval=3))
    assert found.dims == image.dims


@examples(25)
@given(data=st.data())
def test_volumes_are_filtered_in_three_dimensions(data):
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 4))
    chunks = data.draw(st.tuples(*[cuts(n) for n in shape]))
    name, options = data.draw(
        st.sampled_from(
            [
                ("gaussian_filter", {"sigma": [0.6, 1, 0]}),
                ("median_filter", {"size": 3}),
                ("minimum_filter", {"size": 2}),
                ("grey_opening", {"size": 2}),
                ("gaussian_laplace", {"sigma": 0.5}),
            ]
        )
    )
    mode = data.draw(st.sampled_from(MODES))
    values = np.random.default_rng(5).random(shape)
    image = stack(values, "tzyx", dict(zip("tzyx", chunks, strict=True)))
    found = getattr(image.img, name)(**options, mode=mode).compute(scheduler="sync")
    same(name, found.values, whole(name, values, core=3, **options, mode=mode))


@pytest.mark.parametrize("chunks", CHUNKINGS[:5])
@pytest.mark.parametrize("order", ["tczyx", "yxczt", "zcyxt"])
def test_axes_are_found_by_name(chunks, order):
    values = np.random.default_rng(1).random((3, 2, 4, 9, 8))
    image = stack(values, "tczyx", chunks).transpose(*order)
    found = image.img.gaussian_filter({"z": 0.5, "y": 1, "x": 2}).transpose(*"tczyx")
    np.testing.assert_array_equal(found, whole("gaussian_filter", values, core=3, sigma=[0.5, 1, 2]))
    planes = image.img.median_filter(3, dims="yx").transpose(*"tczyx")
    np.testing.assert_array_equal(planes, whole("median_filter", values, size=3))


# known answers


@pytest.fixture
def answers(expected):
    return np.load(expected / "processing" / "acceptance.npz")


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_known_gaussian_smaller_than_its_kernel(answers, chunks):
    image = stack(answers["A07_in"], chunks=chunks)
    same("", image.img.gaussian_filter().values[0], answers["A07_int"].reshape(4, 6))
    np.testing.assert_allclose(
        image.img.gaussian_filter(output_dtype=float).values[0], answers["A07_float"].reshape(4, 6), rtol=1e-12
    )


@pytest.mark.parametrize("n", [1, 3, 7, 20, 64, -1])
@pytest.mark.parametrize(("mode", "key"), [("reflect", "A08_s2"), ("wrap", "A08_s2_wrap"), ("mirror", "A08_s2_mirror")])
def test_known_gaussian_modes(answers, n, mode, key):
    image = stack(answers["A08_in"], chunks={"t": 1, "y": n, "x": n})
    if n == 1:  # 8400 chunks of one pixel are merged up to the halo
        assert max(map(len, image.img.gaussian_filter(2, mode=mode).chunks)) <= 70 / 8
    found = image.img.gaussian_filter(2, mode=mode).values
    np.testing.assert_array_equal(found, [ndimage.gaussian_filter(plane, 2, mode=mode) for plane in answers["A08_in"]])
    # numpy's exp, which computes the weights, differs by a bit between processors
    np.testing.assert_array_max_ulp(found, answers[key], 8)


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_known_impulse_tells_the_sign_of_derivatives(answers, chunks):
    impulse = np.zeros((1, 9))
    impulse[0, 4] = 1
    image = stack(impulse, "yx", chunks)
    for order in range(4):
        found = image.img.gaussian_filter({"x": 1}, order={"x": order})
        np.testing.assert_array_equal(found, answers[f"A09_impulse_x_order{order}"])
    assert found[0, 3] < 0 < found[0, 5]
    ramp = stack(answers["A09_ramp_in"][0], "yx", chunks)
    along = answers["A09_ramp_order_x1"]
    np.testing.assert_allclose(ramp.img.gaussian_filter(1, order={"x": 1}), along, atol=1e-12)
    np.testing.assert_allclose(ramp.img.gaussian_filter(1, order=1), answers["A09_ramp_scalar_order1"], atol=1e-12)


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_known_medians(answers, chunks):
    image = stack(answers["A13_in"], chunks=chunks)
    for size in (3, 4, 5):
        same("", image.img.median_filter(size).values[0], answers[f"A13_med{size}"].reshape(5, 6))
    for mode in ("nearest", "mirror"):
        same("", image.img.median_filter(5, mode=mode).values[0], answers[f"A13_med5_{mode}"].reshape(5, 6))


# traps


def test_even_median_is_the_upper_one():
    found = stack(np.arange(24).reshape(4, 6), "yx").img.median_filter(2).values
    assert found[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found[1].tolist() == [6, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(("name", "options"), FILTERS, ids=[f"{n}-{k}" for k, (n, _) in enumerate(FILTERS)])
def test_hot_images_do_not_bleed(name, options):
    values = np.random.default_rng(3).random((2, 3, 2, 12, 13))
    hot = values.copy()
    hot[1, 1, 1] = 1e9
    chunks = {"i": 1, "t": 2, "c": 1, "y": 5, "x": 13}
    calm = getattr(stack(values, "itcyx", chunks).img, name)(**options).values
    found = getattr(stack(hot, "itcyx", chunks).img, name)(**options).values
    others = np.ones((2, 3, 2), bool)
    others[1, 1, 1] = False
    np.testing.assert_array_equal(found[others], calm[others])


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_one_nan_spoils_its_boxes_alone(chunks, size):
    values = np.random.default_rng(2).random((2, 20, 23))
    values[1, 10, 11] = np.nan
    image = stack(values, chunks=chunks if chunks.get("x") != 1 else {"y": 2, "x": 2})
    assert int(np.isnan(image.img.uniform_filter(size).values).sum()) == size**2


@examples(20)
@given(st.tuples(cuts(3), cuts(20), cuts(23)), st.sampled_from(["f4", "f8"]))
def test_uniform_does_not_depend_on_chunks(chunks, dtype):
    values = (np.random.default_rng(2).random((3, 20, 23)) + 1e6).astype(dtype)
    values[1, 4, 5], values[2, 0, 0] = np.inf, 1e12
    image = stack(values, chunks={})
    found = image.chunk(dict(zip("tyx", chunks, strict=True))).img.uniform_filter(4)
    np.testing.assert_array_equal(found.compute(scheduler="sync"), image.img.uniform_filter(4))


def test_size_one_and_zero_leave_an_axis_alone():
    values = np.random.default_rng(2).random((3, 8, 9))
    image = stack(values, "zyx", {"z": 1, "y": 3})
    for skip in (0, 1):
        found = image.img.median_filter([skip, 3, 3])
        np.testing.assert_array_equal(found, whole("median_filter", values, size=3))
    np.testing.assert_array_equal(image.img.gaussian_filter([0, 2, 2]), whole("gaussian_filter", values, sigma=2))
    np.testing.assert_array_equal(image.img.median_filter(1), values)


def test_names_of_equal_modes():
    image = stack(np.random.default_rng(2).random((11, 9)), "yx", {"y": 4, "x": 4})
    for name, same_as in (("grid-wrap", "wrap"), ("grid-mirror", "reflect"), ("grid-constant", "constant")):
        np.testing.assert_array_equal(
            image.img.gaussian_filter(1, mode=name), image.img.gaussian_filter(1, mode=same_as)
        )


def test_physical_units():
    values = np.random.default_rng(2).random((12, 30))
    coords = {"y": ("y", np.arange(12) * 0.5, {"units": "µm"}), "x": ("x", np.arange(30) * 0.25, {"units": "µm"})}
    image = stack(values, "yx", {"y": 4}, **coords)
    found = image.img.gaussian_filter(0.5, units="physical")
    np.testing.assert_array_equal(found, ndimage.gaussian_filter(values, [1, 2]))
    xr.testing.assert_identical(found.coords.to_dataset(), image.coords.to_dataset())
    found = image.img.maximum_filter({"x": 0.75}, units="physical")
    np.testing.assert_array_equal(found, ndimage.maximum_filter(values, [1, 3]))


def test_output_dtype_escapes_truncation():
    values = np.random.default_rng(2).integers(0, 9, (12, 13)).astype("u2")
    found = stack(values, "yx", {"y": 5}).img.gaussian_filter(1, output_dtype=np.float64)
    np.testing.assert_array_equal(found, ndimage.gaussian_filter(values, 1, output=np.float64))


def test_threshold_local_equals_scikit_image():
    filters = pytest.importorskip("skimage.filters")
    values = np.random.default_rng(2).random((2, 25, 26))
    image = stack(values, chunks={"t": 1, "y": 6, "x": 9})
    for method in ("gaussian", "mean", "median"):
        for mode in ("reflect", "nearest"):
            found = image.img.threshold_local(7, method, offset=0.1, mode=mode).values
            wanted = np.stack([filters.threshold_local(v, 7, method, offset=0.1, mode=mode) for v in values])
            np.testing.assert_allclose(found, wanted, atol=1e-13, rtol=0)
    assert image.astype("f4").img.threshold_local(3).dtype == np.float32


def test_datasets_keep_labels_attributes_and_coordinates():
    image = stack(np.random.default_rng(2).random((2, 8, 9)), chunks={"y": 3}, t=[0.0, 2.0])
    ds = xr.Dataset(
        {
            "image": image.assign_attrs(note="kept"),
            "second": image + 1,
            "labels": (("y", "x"), np.arange(72).reshape(8, 9), {"kind": "labels"}),
            "seen": (("y", "x"), np.ones((8, 9), bool), {"kind": "mask"}),
        },
        attrs={"uri": "a.tif"},
    )
    found = ds.img.gaussian_filter(1)
    xr.testing.assert_identical(found[["labels", "seen"]], ds[["labels", "seen"]])
    assert found.attrs == ds.attrs
    assert found["image"].attrs == {"note": "kept"}
    for name in ("image", "second"):
        np.testing.assert_array_equal(found[name], whole("gaussian_filter", ds[name].values, sigma=1))
    on_labels = ds["labels"].img.maximum_filter(3)
    np.testing.assert_array_equal(on_labels, ndimage.maximum_filter(ds["labels"].values, 3))


# laziness and graphs


@pytest.mark.parametrize(("name", "options"), FILTERS, ids=[f"{n}-{k}" for k, (n, _) in enumerate(FILTERS)])
def test_nothing_is_read_before_it_is_asked_for(name, options):
    source = Source(np.ones((2, 12, 13)), refuse=True)
    result = getattr(source.image("tyx", (1, 5, 6)).img, name)(**options)
    assert result.chunks is not None
    assert result.img.pending() is not None
    with pytest.raises(AssertionError, match="was read"):
        result.compute(scheduler="sync")


def test_every_chunk_is_read_once():
    source = Source(np.random.default_rng(2).random((3, 40, 50)))
    source.image("tyx", (1, 10, 10)).img.gaussian_filter(1).compute()
    assert source.reads == 3 * 4 * 5
    assert source.pixels.max() == 1


def test_a_part_reads_its_halo_alone():
    source = Source(np.random.default_rng(2).random((3, 40, 60)))
    source.image("tyx", (1, 10, 10)).img.gaussian_filter(1)[1, 10:20, 20:30].compute()
    assert source.pixels.sum() == 30 * 30  # its chunk and the eight around it


def test_one_task_for_each_chunk():
    image = Source(np.zeros((4, 64, 64))).image("tyx", (1, 16, 16))
    result = image.img.gaussian_filter(2)
    assert len(result.data.dask) <= len(image.data.dask) + result.data.npartitions
    small = Source(np.zeros((2, 64, 64))).image("tyx", (1, 4, 4))  # merged to 8: at most that many more
    result = small.img.gaussian_filter(2)
    assert result.data.npartitions == 2 * 8 * 8
    assert len(result.data.dask) <= len(small.data.dask) + 2 * result.data.npartitions


def test_processes_can_compute():
    import pickle

    result = stack(np.arange(600.0).reshape(1, 20, 30), chunks={"y": 7}).img.gaussian_filter(1)
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again, result)


# wrong arguments


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda i: i.gaussian_filter(-1), ValueError, "sigma=-1"),
        (lambda i: i.gaussian_filter("2"), TypeError, "sigma='2'"),
        (lambda i: i.gaussian_filter(np.nan), ValueError, "sigma=nan"),
        (lambda i: i.gaussian_filter([1, 2, 3]), ValueError, "has 3 values"),
        (lambda i: i.gaussian_filter({"t": 1}), ValueError, "'t'"),
        (lambda i: i.gaussian_filter(1, order=1.5), TypeError, "order=1.5"),
        (lambda i: i.gaussian_filter(1, order=-1), ValueError, "order=-1"),
        (lambda i: i.gaussian_filter(1, mode="reflct"), ValueError, "mode='reflct'.*'reflect'"),
        (lambda i: i.gaussian_filter(1, truncate=-1), ValueError, "truncate"),
        (lambda i: i.gaussian_filter(1, units="um"), ValueError, "units='um'"),
        (lambda i: i.gaussian_filter(1, units="physical"), ValueError, "spacing of axis 'y'"),
        (lambda i: i.gaussian_filter(1, dims="yc"), ValueError, "dims='yc'"),
        (lambda i: i.median_filter(2.5), TypeError, "size=2.5"),
        (lambda i: i.median_filter(True), TypeError, "size=True"),
        (lambda i: i.median_filter(-1), ValueError, "size=-1"),
        (lambda i: i.median_filter(3, origin=2), ValueError, "origin=2"),
        (lambda i: i.median_filter(footprint=np.ones((2, 2, 2))), ValueError, "footprint has shape"),
        (lambda i: i.median_filter(footprint=np.zeros((2, 2))), ValueError, "footprint has no element"),
        (lambda i: i.median_filter(3, footprint=np.ones((2, 2))), ValueError, "give one"),
        (lambda i: i.rank_filter(9, 3), ValueError, "rank=9"),
        (lambda i: i.percentile_filter(101, 3), ValueError, "percentile=101"),
        (lambda i: i.sobel("z"), ValueError, "axis='z'"),
        (lambda i: i.convolve(np.ones(3)), ValueError, "weights has shape"),
        (lambda i: i.convolve(np.ones((2, 2)), origin=3), ValueError, "origin=3"),
        (lambda i: i.threshold_local(4), ValueError, "odd"),
        (lambda i: i.threshold_local(3, "otsu"), ValueError, "method='otsu'"),
        (lambda i: i.uniform_filter(3, cval="a"), TypeError, "cval='a'"),
    ],
)
def test_wrong_arguments_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call(stack(np.zeros((2, 5, 6)), chunks={}).img)


def test_wrong_images_are_named():
    with pytest.raises(ValueError, match="lacks the axes 'y' and 'x'"):
        xr.DataArray(np.zeros(3), dims=["t"]).img.gaussian_filter(1)
    with pytest.raises(ValueError, match="no image variable"):
        xr.Dataset({"l": ("x", [1, 2], {"kind": "labels"})}).img.gaussian_filter(1)
    with pytest.raises(TypeError, match="float16"):
        stack(np.zeros((2, 3), "f2"), "yx").img.gaussian_filter(1)


RANKS = {"median_filter": {}, "percentile_filter": {"percentile": 30}, "rank_filter": {"rank": -3}}
PASSES = {
    **{name: (name,) for name in ("minimum_filter", "maximum_filter", "grey_erosion", "grey_dilation")},
    **dict.fromkeys(("grey_opening", "white_tophat"), ("grey_erosion", "grey_dilation")),
    **dict.fromkeys(("grey_closing", "black_tophat"), ("grey_dilation", "grey_erosion")),
}


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("name", [*RANKS, *PASSES, "correlate", "convolve"])
@pytest.mark.parametrize(("shape", "side"), [((2, 12), 17), ((3, 4), 31), ((2, 1), 40)])
def test_windows_far_larger_than_a_reflected_image(name, dtype, shape, side):
    # scipy itself reads beyond the memory of the image, where a window begins four lengths before it
    random = np.random.default_rng(0)
    image = random.integers(0, 200, shape).astype(dtype)
    if name in RANKS:
        options = RANKS[name] | {"size": side}
    elif name in PASSES:
        options = {"footprint": random.random((side, side)) > 0.9}
    else:
        options = {"weights": random.random((side, side))}
    output = {"output_dtype": "f4"} if "weights" in options else {}
    found = getattr(stack(image, "yx", {}).img, name)(**options, **output, dims="yx", mode="reflect").values
    expected = image.astype(found.dtype)
    for one in PASSES.get(name, (name,)):
        expected = extended(expected, getattr(ndimage, one), [side, side], **options)
    if name.endswith("tophat"):
        expected = image - expected if name == "white_tophat" else expected - image
    np.testing.assert_allclose(found, expected, rtol=1e-5 if output else 0)


@pytest.mark.parametrize("name", RANKS)
def test_large_numbers_in_windows_far_larger_than_a_reflected_image(name):
    ranks = np.random.default_rng(0).permutation(24).reshape(2, 12)
    options = RANKS[name] | {"size": 25}
    found = getattr(stack(ranks + 2**60, "yx", {}).img, name)(**options, dims="yx", mode="reflect").values
    np.testing.assert_array_equal(found, extended(ranks, getattr(ndimage, name), [25, 25], **options) + 2**60)


def test_a_local_median_far_larger_than_a_reflected_image():
    image = np.random.default_rng(0).integers(0, 200, (2, 12)).astype("f4")
    found = stack(image, "yx", {}).img.threshold_local(25, method="median", dims="yx").values
    np.testing.assert_array_equal(found, extended(image, ndimage.median_filter, [25, 25], size=25))
