"""Ranks and extrema by comparisons of whole arrays: scipy's to the last bit, NaN, zeros and wide integers included."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from thoroughness import examples

from intake_img.kernels.order import FILTERS, LARGEST, network

pytestmark = pytest.mark.thorough

RANKS = ("median_filter", "rank_filter", "percentile_filter")


@pytest.mark.parametrize("n", range(1, 9))
def test_networks_select_by_the_zero_one_principle(n):
    for rank in range(n):
        for bits in itertools.product((0, 1), repeat=n):
            values = list(bits)
            for i, j, low, high in network(n, rank):
                a, b = sorted((values[i], values[j]))
                values[i], values[j] = a if low else None, b if high else None
                assert low or high
                # what is not needed any more must never be looked at again
                values[i] = values[i] if low else 9
                values[j] = values[j] if high else -9
            assert values[rank] == sorted(bits)[rank]


def test_networks_are_short():
    assert [len(network(n, n // 2)) for n in (9, 25, 49)] == [22, 113, 313]
    assert len(network(25, 24)) == 24


@pytest.mark.parametrize("name", FILTERS)
@examples(60)
@given(data=st.data())
def test_bits_are_those_of_scipy(name, data):
    dtype = data.draw(st.sampled_from(["?", "u1", "i1", "u2", "i2", "u4", "f4", "f8", "i8"]))
    shape = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=3).map(tuple))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    image = (rng.random(shape) * data.draw(st.sampled_from([3, 120])) - (0 if dtype[0] in "u?" else 50)).astype(dtype)
    if dtype[0] == "f":
        if data.draw(st.booleans()):
            image[image < 0] = -0.0
        if data.draw(st.booleans()):
            image.flat[0] = np.inf
    options = {
        "mode": data.draw(st.sampled_from(["reflect", "mirror", "nearest", "constant", "wrap"])),
        "cval": data.draw(st.sampled_from([0, 3, 1.5, -2, 1, 255, 300])),
    }
    footprint = None
    if data.draw(st.booleans()):
        options["size"] = data.draw(st.lists(st.integers(1, 6), min_size=len(shape), max_size=len(shape)))
        size = options["size"]
    else:
        footprint = rng.random(rng.integers(1, 5, len(shape))) < 0.6
        footprint.flat[0] |= not footprint.any()
        options["footprint"], size = footprint, footprint.shape
    options["origin"] = [data.draw(st.integers(-(n // 2), n - 1 - n // 2)) for n in size]
    n = int(np.prod(size) if footprint is None else footprint.sum())
    own = {
        "rank_filter": {"rank": data.draw(st.integers(-n, n - 1))},
        "percentile_filter": {"percentile": data.draw(st.sampled_from([0, 100, 30, -20, 99.9, 33.3]))},
    }
    options |= own.get(name, {})
    expected, found = np.zeros(shape, dtype), np.zeros(shape, dtype)
    turned = name in ("grey_dilation", "grey_opening", "grey_closing", "white_tophat", "black_tophat")
    if turned:  # the mirrored window must hold its pixel, too
        options["origin"] = [
            o if n % 2 or -(n // 2) < -o - 1 else 0 for o, n in zip(options["origin"], size, strict=True)
        ]
        options["origin"] = [
            max(-((n - 1) // 2), min((n - 1) // 2, o)) for o, n in zip(options["origin"], size, strict=True)
        ]
    with np.errstate(invalid="ignore"):
        getattr(ndimage, name)(image, output=expected, **options)
        FILTERS[name](image, found, **options)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", RANKS)
def test_nan_large_windows_and_other_dtypes_are_left_to_scipy(name):
    own = {"rank_filter": {"rank": 3}, "percentile_filter": {"percentile": 40}}.get(name, {})
    rng = np.random.default_rng(1)
    for image, size, dtype in (
        (np.where(rng.random((20, 21)) < 0.05, np.nan, rng.random((20, 21))), [3, 3], float),
        (rng.random((20, 21)), [12, LARGEST // 11], float),
        (rng.integers(0, 250, (20, 21)).astype("i2"), [3, 3], "u1"),
    ):
        expected, found = np.zeros(image.shape, dtype), np.zeros(image.shape, dtype)
        getattr(ndimage, name)(image, size=size, output=expected, **own)
        FILTERS[name](image, found, size=size, mode="reflect", cval=0.0, origin=0, **own)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", RANKS)
def test_a_single_line_is_an_image_of_one_line(name):
    own = {"rank_filter": {"rank": 1}, "percentile_filter": {"percentile": 40}}.get(name, {})
    line, window = np.random.default_rng(1).random(17), np.array([True, False, True, True])
    for values in (line, np.where(line < 0.1, np.nan, line)):
        found, expected = np.zeros(17), np.zeros((1, 17))
        FILTERS[name](values, found, footprint=window, mode="mirror", cval=0.0, origin=[1], **own)
        getattr(ndimage, name)(
            values[None], footprint=window[None], output=expected, mode="mirror", origin=[0, 1], **own
        )
        np.testing.assert_array_equal(found, expected[0])


@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_integers_that_float64_rounds_are_exact_in_large_windows(dtype, mode):
    low = 2**61 if dtype == "u8" else -(2**61)
    image = low + np.random.default_rng(0).integers(0, 90, (14, 15)).astype(dtype)
    options = {"mode": mode, "cval": 7.0, "origin": 0}
    for footprint in (np.ones((11, 13), bool), np.tri(17, 15, 1, bool)):
        reach = [(n // 2, n - 1 - n // 2) for n in footprint.shape]
        around = np.pad(image, reach, **({"mode": "symmetric"} if mode == "reflect" else {"constant_values": 7}))
        windows = np.sort(np.lib.stride_tricks.sliding_window_view(around, footprint.shape)[..., footprint], axis=-1)
        n = windows.shape[-1]
        assert n > LARGEST
        own = {"rank_filter": {"rank": 5}, "percentile_filter": {"percentile": 30}}
        ranks = {"median_filter": n // 2, "rank_filter": 5, "percentile_filter": int(n * 0.3)}
        for name, rank in {**ranks, "minimum_filter": 0, "maximum_filter": n - 1}.items():
            found = np.empty_like(image)
            FILTERS[name](image, found, footprint=footprint, **options, **own.get(name, {}))
            np.testing.assert_array_equal(found, windows[..., rank])


@pytest.mark.parametrize("name", ["white_tophat", "black_tophat"])
def test_differences_of_integers_that_float64_rounds_are_exact(name):
    image = 2**61 + np.random.default_rng(0).integers(0, 90, (14, 15))
    found, expected = np.empty_like(image), np.empty_like(image)
    window = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 1]], bool)
    FILTERS[name](image, found, footprint=window, mode="mirror", cval=0.0, origin=0)
    getattr(ndimage, name)(image - 2**61, footprint=window, mode="mirror", output=expected)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", [*RANKS, "minimum_filter", "maximum_filter"])
@pytest.mark.parametrize("cval", [0.0, -0.0])
def test_a_zero_beyond_the_edge_keeps_its_sign(name, cval):
    own = {"rank_filter": {"rank": 4}, "percentile_filter": {"percentile": 50}}.get(name, {})
    image = np.random.default_rng(0).integers(-1, 2, (9, 8)).astype(float) + 0.0  # no -0.0
    found, expected = np.empty_like(image), np.empty_like(image)
    options = {"size": [3, 3], "mode": "constant", "cval": cval, "origin": 0, **own}
    FILTERS[name](image, found, **options)
    getattr(ndimage, name)(image, output=expected, **options)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("percentile", "rank"), [(100, 9), (-0.0, 0), (0, 0), (99.9, 9), (-20, 8), (50, 5), (-50, 5), (9.9, 0), (30, 3)]
)
def test_percentiles_are_ranks(percentile, rank):
    image = np.random.default_rng(0).integers(0, 250, (9, 8), dtype="u1")
    found, expected = np.empty_like(image), np.empty_like(image)
    options = {"size": [2, 5], "mode": "reflect", "cval": 0.0, "origin": 0}
    FILTERS["percentile_filter"](image, found, percentile=percentile, **options)
    FILTERS["rank_filter"](image, expected, rank=rank, **options)
    np.testing.assert_array_equal(found, expected)
