"""The law: what numpy or scipy says of the whole array near the limits of its dtype, for every chunking.

Where they round, overflow or wrap around although the right value fits, the right value counts, found in Python's
integers.
"""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from functools import partial

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import stack
from scipy import ndimage
from thoroughness import examples

INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
REAL = ["?", *INTEGERS, "f2", "f4", "f8"]
CHUNKINGS = [{}, {"t": 1, "y": 3, "x": 4}, {"t": 2, "y": 5, "x": -1}]
SHAPE = (3, 9, 8)


def near_limits(dtype, shape=SHAPE, seed=0) -> np.ndarray:
    """Values at both ends of what a dtype holds."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.random(shape) > 0.4
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low = rng.integers(info.min, info.min + 90, shape, dtype=dtype)
        high = rng.integers(info.max - 90, info.max, shape, dtype=dtype, endpoint=True)
        return np.where(rng.random(shape) > 0.3, high, low)
    if dtype.kind == "c":
        return (rng.random(shape) * 1e5 - 1j * rng.random(shape) * 1e5).astype(dtype)
    return (rng.random(shape) * float(np.finfo(dtype).max) * (0.98 if dtype == np.float16 else 1e-3)).astype(dtype)


def agree(found: np.ndarray, expected: np.ndarray, scale: float = 0.0) -> None:
    """Integers are equal; floats up to the order in which they are summed."""
    assert found.dtype == expected.dtype
    if found.dtype.kind in "fc":
        eps = 32 * float(np.finfo(found.dtype).eps)
        np.testing.assert_allclose(found, expected, rtol=eps, atol=eps * scale)
    else:
        np.testing.assert_array_equal(found, expected)


def of_numpy(values: np.ndarray, name: str, axes) -> np.ndarray:
    """What numpy says; of float16 in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if values.dtype == np.float16:
            return getattr(values.astype("f8"), name)(axis=axes).astype("f2")
        return getattr(values, name)(axis=axes)


# reductions


@pytest.mark.filterwarnings("ignore:overflow|invalid:RuntimeWarning")
@pytest.mark.parametrize("name", ["max", "min", "sum", "mean", "std", "var"])
@pytest.mark.parametrize("dtype", [*REAL, "c8", "c16"])
def test_reductions(name, dtype):
    values = near_limits(dtype)
    scale = float(np.abs(values.astype("c16")).max()) if name in ("std", "mean") else 0.0
    for dims, axes in ((["t"], (0,)), (["t", "y"], (0, 1)), (["x"], (2,))):
        for chunks in CHUNKINGS:
            image = stack(values, chunks=chunks or None)
            agree(getattr(image.img, name)(dims).values, of_numpy(values, name, axes), scale)


@pytest.mark.filterwarnings("ignore:overflow|invalid:RuntimeWarning")
@pytest.mark.parametrize("name", ["max", "min", "sum", "mean", "std"])
@pytest.mark.parametrize("dtype", REAL)
def test_projections(name, dtype):
    values = near_limits(dtype)
    scale = float(np.abs(values.astype("f8")).max()) if name in ("std", "mean") else 0.0
    for chunks in CHUNKINGS:
        found = getattr(stack(values, chunks=chunks).img, f"{name}_projection")("y")
        agree(found.values, of_numpy(values, name, 1), scale)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "u8"])
def test_the_sum_of_extrema_is_right_or_refused(dtype):
    values = near_limits(dtype)
    call = stack(values, chunks={"t": 2, "y": 4}).img.max_min_projection("y")
    expected = values.max(1).astype(object) + values.min(1).astype(object)
    info = np.iinfo(call.dtype)
    if expected.max() > info.max or expected.min() < info.min:
        with pytest.raises(OverflowError, match=r"astype\(float\)"):
            call.compute()
    else:
        assert call.values.tolist() == expected.tolist()
    with pytest.raises(OverflowError, match="beyond"):
        stack(np.full((2, 3), np.iinfo("i8").min), "yx").img.max_min_projection("y").compute()


def test_local_correlation_of_half_floats_and_complex():
    values = (np.random.default_rng(0).random((6, 7, 8)) * 60000).astype("f2")
    found = stack(values, chunks={"t": 2, "y": 3, "x": 3}).img.localcorr(2)
    np.testing.assert_allclose(found, stack(values.astype("f8")).img.localcorr(2), rtol=1e-12)
    with pytest.raises(TypeError, match=r"complex64.*abs\(image\)"):
        stack(values.astype("c8")).img.localcorr(2)


# filters


LINEAR = [
    ("gaussian_filter", {"sigma": 0.8}),
    ("laplace", {}),
    ("sobel", {}),
    ("prewitt", {}),
    ("gaussian_laplace", {"sigma": 0.7}),
    ("correlate", {"weights": np.array([[1.0, 0.5], [0.25, 2]])}),
    ("convolve", {"weights": np.arange(9.0).reshape(3, 3)}),
]
PICKING = [
    ("median_filter", {"size": 3}),
    ("maximum_filter", {"size": 4}),
    ("minimum_filter", {"size": 3}),
    ("percentile_filter", {"percentile": 30, "size": 3}),
    ("rank_filter", {"rank": 2, "size": 3}),
    ("grey_erosion", {"size": 3}),
    ("grey_dilation", {"size": 2}),
    ("grey_opening", {"size": 3}),
    ("grey_closing", {"size": 3}),
    ("median_filter", {"size": 13}),
    ("maximum_filter", {"footprint": np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])}),
]


def of_scipy(values: np.ndarray, name: str, output=None, mode: str = "reflect", cval: float = 0.0, **options):
    out = np.empty(values.shape, values.dtype if output is None else output)
    for k, image in enumerate(values):
        getattr(ndimage, name)(image, output=out[k], mode=mode, cval=cval, **options)
    return out


def by_ranks(values: np.ndarray, name: str, mode: str, cval: int, **options) -> np.ndarray:
    """A filter that picks values, of the places of values in the sorted image: exact for every dtype."""
    known, rank = np.unique(np.append(values.ravel(), np.asarray(cval, values.dtype)), return_inverse=True)
    picked = of_scipy(rank[:-1].reshape(values.shape).astype("i4"), name, mode=mode, cval=rank[-1], **options)
    return known[picked]


@pytest.mark.parametrize(("name", "options"), LINEAR, ids=[n for n, _ in LINEAR])
@pytest.mark.parametrize("dtype", ["?", *INTEGERS, "f4", "f8", "c8", "c16"])
def test_linear_filters(name, options, dtype):
    values = near_limits(dtype)
    with np.errstate(all="ignore"):
        expected = of_scipy(values, name, **options)
        for chunks in CHUNKINGS:
            found = getattr(stack(values, chunks=chunks).img, name)(**options).values
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("name", "options"), PICKING, ids=[f"{n}-{k}" for k, (n, _) in enumerate(PICKING)])
@pytest.mark.parametrize("dtype", ["?", *INTEGERS, "f4", "f8"])
def test_filters_that_pick_values(name, options, dtype):
    values = near_limits(dtype)
    for mode, cval in (("reflect", 0), ("constant", 1), ("wrap", 0)):
        expected = by_ranks(values, name, mode, cval, **options)
        for chunks in CHUNKINGS:
            found = getattr(stack(values, chunks=chunks).img, name)(**options, mode=mode, cval=cval).values
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("options", [{"size": 3}, {"footprint": np.array([[0, 1], [1, 1]])}], ids=["box", "shape"])
def test_tophats_of_64_bits(dtype, options):
    values = near_limits(dtype)
    for chunks in CHUNKINGS:
        image = stack(values, chunks=chunks).img
        np.testing.assert_array_equal(image.white_tophat(**options), values - image.grey_opening(**options))
        np.testing.assert_array_equal(image.black_tophat(**options), image.grey_closing(**options) - values)


def boxes_in_python(image: np.ndarray, size: int, mode: str, cval: int) -> np.ndarray:
    """Means of boxes axis by axis in Python's integers, each truncated towards zero."""
    pads = {"reflect": "symmetric", "nearest": "edge", "constant": "constant", "wrap": "wrap"}
    current = image.astype(object)
    for axis in range(image.ndim):
        reach = [(size // 2, size - 1 - size // 2) if k == axis else (0, 0) for k in range(image.ndim)]
        more = {"constant_values": cval} if mode == "constant" else {}
        around = np.vectorize(int, otypes=[object])(np.pad(current, reach, pads[mode], **more))
        windows = np.lib.stride_tricks.sliding_window_view(around, size, axis)
        current = np.vectorize(lambda s: math.trunc(Fraction(s, size)), otypes=[object])(windows.sum(-1))
    return current.astype(image.dtype)


@examples(30)
@given(data=st.data())
def test_means_of_boxes_of_64_bits_are_exact(data):
    dtype, size = data.draw(st.sampled_from(["u8", "i8"])), data.draw(st.integers(2, 5))
    mode = data.draw(st.sampled_from(["reflect", "nearest", "constant", "wrap"]))
    values = near_limits(dtype, (2, 7, 6), data.draw(st.integers(0, 99)))
    values[0] = values[0] // np.asarray(2 ** data.draw(st.sampled_from([0, 9, 10, 11, 12, 40])), dtype)
    expected = np.stack([boxes_in_python(v, size, mode, 3) for v in values])
    chunks = {"t": 1, "y": data.draw(st.integers(1, 7)), "x": data.draw(st.integers(1, 6))}
    found = stack(values, chunks=chunks).img.uniform_filter(
        size, mode=mode, **({"cval": 3} if mode == "constant" else {})
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["?", *INTEGERS[:6]])
@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_means_of_boxes_of_small_integers_are_those_of_scipy(dtype, chunks):
    values = near_limits(dtype)
    found = stack(values, chunks=chunks).img.uniform_filter(3).values
    np.testing.assert_array_equal(found, of_scipy(values, "uniform_filter", size=3))


def test_a_fraction_beside_integers_beyond_floats_is_refused():
    with pytest.raises(ValueError, match=r"cval=0\.5.*2\*\*53"):
        stack(near_limits("i8"), chunks={}).img.uniform_filter(3, mode="constant", cval=0.5).compute()


@pytest.mark.parametrize(
    ("name", "dtype", "says"),
    [
        ("gaussian_filter", "f2", r"astype\('float32'\)"),
        ("median_filter", "f2", r"astype\('float32'\)"),
        ("median_filter", "c8", r"image\.real.*abs\(image\)"),
        ("grey_opening", "c16", r"image\.real"),
        ("gaussian_gradient_magnitude", "c8", r"image\.real"),
        ("threshold_local", "f2", "float16"),
        ("rolling_ball", "c8", r"image\.real"),
        ("enhance_contrast", "c8", r"image\.real"),
        ("normalize", "c8", "complex"),
    ],
)
def test_dtypes_that_cannot_be_are_refused_with_advice(name, dtype, says):
    with pytest.raises(TypeError, match=says):
        getattr(stack(np.zeros((2, 5, 6), dtype)).img, name)()
    with pytest.raises(TypeError, match="both complex"):
        stack(np.zeros((2, 5, 6))).img.gaussian_filter(1, output_dtype="c8")


# large windows


@pytest.mark.parametrize("chunks", [{"t": 1, "y": 8, "x": 8}, {"y": 30, "x": 13}, {"t": 1, "y": -1, "x": 5}])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("median_filter", {"size": 31}),
        ("uniform_filter", {"size": 41}),
        ("maximum_filter", {"size": 35}),
        ("gaussian_filter", {"sigma": 6}),
        ("grey_opening", {"size": 27}),
    ],
)
def test_large_windows(name, options, chunks):
    values = np.random.default_rng(3).integers(0, 4000, (2, 60, 50)).astype("u2")
    for mode in ("reflect", "wrap", "constant"):
        found = getattr(stack(values, chunks=chunks).img, name)(**options, mode=mode).values
        np.testing.assert_array_equal(found, of_scipy(values, name, mode=mode, **options))


def test_large_windows_filter_little_that_is_cut_off(monkeypatch):
    filtered = []

    def counting(image, footprint, output, **options):
        filtered.append(image.size)
        output[...] = image

    monkeypatch.setattr(ndimage, "median_filter", partial(counting))
    image = xr.DataArray(da.zeros((1024, 1024), chunks=64), dims=["y", "x"])
    image.img.median_filter(41).compute(scheduler="sync")
    assert sum(filtered) < 2 * 1024**2  # a chunk of 64 with its surroundings is 104**2, 2.6 times as much


# geometry


@pytest.mark.parametrize("dtype", ["u8", "i8", "u4", "i4"])
@pytest.mark.parametrize("chunks", [{}, {"t": 1, "y": 3, "x": 4}, {"t": 2, "y": 1, "x": 1}])
def test_levels_of_a_pyramid_are_exact(dtype, chunks):
    values = near_limits(dtype)
    expected = [
        [
            [round(Fraction(int(b.astype(object).sum()), 6)) for b in np.split(row, 4, axis=1)]
            for row in np.split(image, 3, axis=0)
        ]
        for image in values
    ]
    found = stack(values, chunks=chunks).img.pyramid([{"y": 3, "x": 2}])["scale1"]["image"]
    assert found.dtype == values.dtype
    assert found.values.tolist() == expected


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_levels_of_floats_do_not_overflow(dtype):
    top = np.finfo(dtype).max
    found = stack(np.full((4, 6), top, dtype), "yx").img.pyramid([2])["scale1"]["image"]
    np.testing.assert_array_equal(found, np.full((2, 3), top, dtype))
    values = np.full((4, 6), top, dtype)
    values[0, 0], values[3, 5] = np.inf, np.nan
    found = stack(values, "yx").img.pyramid([2])["scale1"]["image"].values
    assert np.isposinf(found[0, 0])
    assert np.isnan(found[1, 2])
    assert np.isfinite(found).sum() == 4


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("chunks", [{}, {"y": 2, "x": 3}])
@pytest.mark.parametrize("beyond", [[np.inf], [-np.inf], [np.inf, -np.inf, np.nan], [np.inf] * 9])
def test_infinite_pixels_do_not_count_for_the_limits(dtype, chunks, beyond):
    values = np.random.default_rng(0).random((6, 7)).astype(dtype)
    finite = np.ones(values.shape, bool)
    finite.ravel()[: len(beyond)] = False
    values.ravel()[: len(beyond)] = beyond
    low, high = np.percentile(values[finite].astype("f8"), [1, 99])
    image = stack(values, "yx", chunks=chunks).img
    expected = np.where(finite, (values - low) / (high - low), values)
    np.testing.assert_allclose(image.normalize(1, 99, clip=False), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(image.normalize(1, 99), np.clip(expected, 0, 1), rtol=1e-5, atol=1e-6)


def test_normalize_at_the_limits_of_floats_and_integers():
    widest = np.array([[-1.7e308, 0], [1.7e308, 0]])
    found = stack(widest, "yx").img.normalize(0, 100, output_dtype="f8")
    np.testing.assert_allclose(found, [[0, 0.5], [1, 0.5]])
    found = stack(near_limits("i2")[0], "yx").img.normalize(limits=(-(2**15), 2**15 - 1), output_dtype="f8")
    np.testing.assert_allclose(found, (near_limits("i2")[0].astype("f8") + 2**15) / (2**16 - 1))
    with pytest.raises(OverflowError, match=r"2\*\*53.*astype"):
        stack((2**60 + np.arange(12, dtype="u8")).reshape(3, 4), "yx").img.normalize().compute()
    wide = near_limits("u8")[0]
    low, high = np.percentile(wide.astype("f8"), [1, 99])
    found = stack(wide, "yx").img.normalize(1, 99, clip=False, output_dtype="f8")
    np.testing.assert_allclose(found, (wide.astype("f8") - low) / (high - low), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [*INTEGERS, "?"])
def test_rescaling_without_interpolation_moves_pixels(dtype):
    values = near_limits(dtype)
    same = stack(values, chunks={"t": 1}).img
    np.testing.assert_array_equal(same.rescale(2, order=0), values.repeat(2, 1).repeat(2, 2))
    if dtype in ("u8", "i8"):
        with pytest.raises(OverflowError, match="order=0"):
            same.rescale(0.5).compute()
    elif dtype != "?":
        flat = np.full((4, 4), np.iinfo(dtype).max, dtype)
        np.testing.assert_array_equal(stack(flat, "yx").img.rescale(2, output_dtype="u8"), int(flat[0, 0]))


def test_interpolated_values_are_held_by_wide_integers():
    huge = stack(np.full((4, 4), 1e30), "yx").img.rescale(0.5, output_dtype="i8")
    np.testing.assert_array_equal(huge, np.iinfo("i8").max)


# chunks


@pytest.mark.parametrize(
    "call",
    [
        lambda i: i.gaussian_filter(1),
        lambda i: i.label(),
        lambda i: i.max("y"),
        lambda i: i.pyramid([2]),
        lambda i: i.rescale(0.5),
        lambda i: i.crop(y=(0, 2)),
        lambda i: i.normalize(),
        lambda i: i.median_filter(3),
    ],
)
def test_unknown_lengths_are_named(call):
    data = da.from_array(np.arange(36).reshape(6, 6), chunks=3)
    image = xr.DataArray(data[data[:, 0] > 3], dims=["y", "x"])
    with pytest.raises(ValueError, match=r"length of axis 'y' is not known.*compute_chunk_sizes"):
        call(image.img)


@pytest.mark.parametrize("chunks", [((2, 0, 4), (0, 6, 0)), ((0, 6), (3, 0, 0, 3)), ((6,), (0, 6))])
def test_empty_chunks(chunks):
    values = np.random.default_rng(0).integers(0, 2, (6, 6))
    image = xr.DataArray(da.from_array(values, chunks=chunks), dims=["y", "x"])
    expected, n = ndimage.label(values)
    labels = image.img.label()
    np.testing.assert_array_equal(labels, expected)
    assert len(labels.img.regionprops()) == n
    np.testing.assert_array_equal(image.img.median_filter(3), ndimage.median_filter(values, 3))
    np.testing.assert_array_equal(
        image.img.pyramid([2], "nearest")["scale1"].to_dataset().to_array()[0], values[::2, ::2]
    )


# numbers beside integers that float64 does not hold

BEYOND = 2**53
WIDE = [("u8", BEYOND), ("i8", BEYOND), ("u8", 2**64 - 50), ("i8", -(2**63)), ("i8", 2**63 - 50)]


def wide_image(dtype, base, chunks, shape=(6, 8)) -> xr.DataArray:
    values = np.array([base + int(k) for k in np.random.default_rng(0).permutation(math.prod(shape))], dtype)
    return stack(values.reshape(shape), "yx", chunks)


@pytest.mark.parametrize("chunks", [None, {"y": 2}])
@pytest.mark.parametrize(("dtype", "base"), WIDE)
def test_thresholds_and_bounds_of_wide_integers_are_exact(dtype, base, chunks):
    image = wide_image(dtype, base, chunks)
    values = image.values.astype(object)
    low, high = base + 11, base + 30
    np.testing.assert_array_equal(image.img.threshold(high), values > high)
    np.testing.assert_array_equal(image.img.threshold(np.dtype(dtype).type(low)), values > low)
    np.testing.assert_array_equal(image.img.hysteresis_threshold(high, high), values > high)
    both = xr.concat([image, image], "c")
    np.testing.assert_array_equal(both.img.threshold({0: low, 1: high}), [values > low, values > high])
    clipped = image.img.clip(low, high)
    assert clipped.dtype == image.dtype
    assert clipped.values.tolist() == np.clip(values, low, high).tolist()
    peaks = image.img.peaks(1, high, exclude_border=False)
    top = ndimage.maximum_filter((values - base).astype(int), 3, mode="nearest")
    assert set(map(tuple, peaks[["y", "x"]].values.tolist())) == set(
        map(tuple, np.argwhere((values - base == top) & (values > high)).tolist())
    )


@pytest.mark.parametrize(("dtype", "base"), WIDE)
def test_mosaics_of_wide_integers_are_exact(dtype, base):
    tiles = xr.concat([wide_image(dtype, base, None), *[wide_image(dtype, base, None)[::-1] for _ in range(2)]], "i")
    for n in (2, 3):
        drawn = tiles[:n].img.mosaic({"y": [0] * n, "x": [0, 8, 8][:n]}, units="pixel", overlap="mean", fill=base + 11)
        assert drawn.values[:, :8].tolist() == tiles[0].values.tolist()
        same = tiles[:n].img.mosaic({"y": [0] * n, "x": [0] * n}, units="pixel", overlap="mean")
        exact = [[round(Fraction(sum(map(int, v)), n)) for v in row] for row in np.moveaxis(tiles[:n].values, 0, -1)]
        assert same.values.tolist() == exact
    apart = tiles[:2].img.mosaic({"y": [0, 8], "x": [0, 0]}, units="pixel", fill=base + 11)
    assert (apart.values[6:8].astype(object) == base + 11).all()


@pytest.mark.parametrize("chunks", [None, {"y": 2}])
def test_clip_keeps_the_dtype(chunks):
    mask = stack(np.eye(4, 5, dtype=bool), "yx", chunks)
    for low, high in ((3, 100), (0.5, None), (None, 0), (None, 0.5), (-1, 2)):
        found = mask.img.clip(low, high).compute()
        assert found.dtype == bool
        np.testing.assert_array_equal(
            found, np.clip(mask.values, None if low is None else low > 0, high != 0 if high in (0, None) else high >= 1)
        )
    small = stack(np.array([[-np.inf, -3, 5, np.inf]], "f4"), "yx", chunks and {})
    assert small.img.clip(-1e39, 1e39).values.tolist() == small.values.tolist()
    with pytest.raises(TypeError, match="bool"):
        mask.img.subtract_background(3)


@pytest.mark.parametrize("chunks", [None, {"y": 4}])
def test_bool_is_not_interpolated(chunks):
    values = np.random.default_rng(0).random((8, 10)) > 0.5
    mask = stack(values, "yx", chunks)
    for scale in (0.5, 2, 0.7):
        found = mask.img.rescale(scale)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, mask.astype("u1").img.rescale(scale, order=0))
    np.testing.assert_allclose(mask.img.rescale(0.5, output_dtype="f8"), mask.astype("f8").img.rescale(0.5))
    shifts = xr.DataArray([[0, 0], [0.5, 0]], dims=["c", "axis"], coords={"axis": ["y", "x"]}, attrs={"units": "px"})
    moved = xr.concat([mask, mask], "c").img.coloc.correct_shift(shifts)
    np.testing.assert_array_equal(moved, [values, np.vstack([values[1:], np.zeros((1, 10), bool)])])


def test_wide_integers_move_by_whole_pixels():
    image = wide_image("u8", BEYOND, {"y": 2})
    shifts = xr.DataArray([[0, 0], [1, 0]], dims=["c", "axis"], coords={"axis": ["y", "x"]}, attrs={"units": "px"})
    moved = xr.concat([image, image], "c").img.coloc.correct_shift(shifts, fill=BEYOND + 1)
    assert moved.values[1].tolist() == [*image.values[1:].tolist(), [BEYOND + 1] * 8]
    with pytest.raises(ValueError, match="fill=-1: the image is of uint64"):
        xr.concat([image, image], "c").img.coloc.correct_shift(shifts, fill=-1)


def test_complex_images_are_refused_by_measures_of_channels():
    image = stack(np.ones((2, 2, 9, 10), complex), "tcyx")
    blobs = pd.DataFrame({"blob_id": [1, 2], "channel": [0, 1], "t": [0, 0], "y": [3.0, 4.0], "x": [3.0, 5.0]})
    seeds = stack(np.eye(9, 10, dtype=int), "yx")
    for call in (
        lambda: image.img.coloc.pearson(),
        lambda: image.img.coloc.significance(block=2, n=3),
        lambda: image.img.coloc.ccf(limit=2),
        lambda: image.img.coloc.histogram(0, 1),
        lambda: image.img.coloc.chromatic_shift(),
        lambda: image.img.coloc.blobs(blobs),
        lambda: image.img.detect_blobs(min_radius=1, max_radius=2),
        lambda: image[0, 0].img.watershed(seeds, seeds == 0),
    ):
        with pytest.raises(TypeError, match="the image has dtype complex128; expected bool, integers or floats"):
            call()
