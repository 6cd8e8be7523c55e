"""Blending: an identity is bit-exact for all windows and dtypes, everything else agrees with plain numpy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import windows as scipy_windows
from thoroughness import examples

from intake_img.kernels.blending import Piece, blend
from intake_img.kernels.patch_weights import WINDOWS, window, window_nd

pytestmark = pytest.mark.thorough

DTYPES = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"]
BLENDS = ["crop", "mean", "hann", "gaussian", "max", "vote"]


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 33, 1024])
def test_a_window_is_positive_symmetric_and_highest_in_the_middle(name, n):
    w = window(name, n)
    assert w.shape == (n,)
    assert (w > 0).all()
    assert (w == w[::-1]).all()
    assert w.max() == w[(n - 1) // 2]


def test_windows_are_those_of_scipy():
    np.testing.assert_allclose(window("hann", 9), scipy_windows.hann(11)[1:-1], rtol=1e-12)
    np.testing.assert_allclose(window("gaussian", 16), scipy_windows.gaussian(16, 2.0), rtol=1e-12)
    np.testing.assert_allclose(
        window_nd("hann", (4, 5)), np.outer(scipy_windows.hann(6)[1:-1], scipy_windows.hann(7)[1:-1])
    )


def test_an_unknown_window_names_those_there_are():
    with pytest.raises(ValueError, match=r"'boxcar'.*'hann'"):
        window("boxcar", 4)


def random_values(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Any bit pattern of the dtype, NaN and infinity as well."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape).copy()


def cut(image: np.ndarray, size: tuple[int, int], step: tuple[int, int], how: str) -> list[Piece]:
    """Overlapping pieces that cover an image, the last ones shifted inwards."""
    starts = [
        sorted({min(a, max(0, n - s)) for a in range(0, n, d)}) for n, s, d in zip(image.shape, size, step, strict=True)
    ]
    pieces = []
    for at in product(*starts):
        where = tuple(slice(a, min(a + s, n)) for a, s, n in zip(at, size, image.shape, strict=True))
        weights = window_nd(how, [s.stop - s.start for s in where]) if how in WINDOWS else None
        pieces.append(Piece(where, image[where], weights))
    return pieces


@examples(60)
@given(
    how=st.sampled_from(BLENDS),
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    part=st.floats(0.1, 1),
    seed=st.integers(0, 99),
)
def test_identity_is_bit_exact(how, dtype, shape, size, part, seed):
    if how == "vote" and dtype[0] in "fc":
        dtype = "i4"
    image = random_values(dtype, shape, seed)
    step = tuple(max(1, int(s * part)) for s in size)
    with np.errstate(all="ignore"):
        out = blend(how, shape, dtype, cut(image, size, step, how))
    assert out.dtype == image.dtype
    np.testing.assert_array_equal(out, image)
    finite = np.isfinite(image)
    assert (out[finite].tobytes()) == image[finite].tobytes()


@examples(60)
@given(
    how=st.sampled_from(WINDOWS),
    dtype=st.sampled_from(["bool", "u1", "i2", "u4", "f4", "f8"]),
    n=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_means_agree_with_numpy(how, dtype, n, seed):
    rng = np.random.default_rng(seed)
    shape, size = (12, 11), (7, 6)
    total, weight, pieces = np.zeros(shape), np.zeros(shape), []
    for _ in range(n):
        at = rng.integers(0, [6, 6])
        where = tuple(slice(a, a + s) for a, s in zip(at, size, strict=True))
        values = rng.integers(0, 2 if dtype == "bool" else 120, size).astype(dtype)
        pieces.append(Piece(where, values, window_nd(how, size)))
        total[where] += values * pieces[-1].weights
        weight[where] += pieces[-1].weights
    want = np.divide(total, weight, out=np.full(shape, 3.0 if dtype != "bool" else 1.0), where=weight > 0)
    out = blend(how, shape, dtype, pieces, fill=3)
    if dtype[0] in "iub":  # a tie may fall either way in the last bit of float64
        near = np.abs(want - np.floor(want) - 0.5) < 1e-9
        np.testing.assert_array_equal(out[~near], np.rint(want).astype(dtype)[~near])
    else:
        np.testing.assert_allclose(out, want, rtol=1e-6 if dtype == "f4" else 1e-12)


def test_integers_are_rounded_half_to_even_and_not_cut_off():
    pieces = [
        Piece((slice(0, 4),), np.array([1, 2, 3, 255], "u1")),
        Piece((slice(0, 4),), np.array([2, 3, 3, 254], "u1")),
    ]
    assert blend("mean", (4,), "u1", pieces).tolist() == [2, 2, 3, 254]


@pytest.mark.parametrize(("dtype", "low", "high"), [("u8", 0, 2**64 - 1), ("i8", -(2**63), 2**63 - 1)])
def test_64_bit_integers_keep_all_digits_where_pieces_agree_and_never_leave_their_range(dtype, low, high):
    a = np.array([high, high, low, high - 1, 2**62 + 1], dtype)
    b = np.array([high, low, low, high, 2**62 + 1], dtype)
    where = (slice(0, 5),)
    for weights in (None, np.full(5, 1e-9), np.full(5, 1e9)):
        out = blend("mean", (5,), dtype, [Piece(where, a), Piece(where, b, weights)])
        assert out[[0, 2, 4]].tolist() == [high, low, 2**62 + 1]
        assert min(high - 1, high) <= out[3]
        exact = (high + low * (1 if weights is None else weights[1])) / (1 + (1 if weights is None else weights[1]))
        assert abs(int(out[1]) - exact) <= 2**12


@examples(60)
@given(n=st.integers(1, 7), seed=st.integers(0, 99), labels=st.integers(1, 4))
def test_maximum_and_vote_agree_with_counting(n, seed, labels):
    rng = np.random.default_rng(seed)
    shape, size = (9, 8), (5, 6)
    seen: dict[tuple[int, int], list[int]] = {}
    pieces = []
    for _ in range(n):
        at = rng.integers(0, [5, 3])
        values = rng.integers(-labels, labels, size).astype("i4")
        pieces.append(Piece(tuple(slice(a, a + s) for a, s in zip(at, size, strict=True)), values))
        for k in np.ndindex(size):
            seen.setdefault((at[0] + k[0], at[1] + k[1]), []).append(int(values[k]))
    most, votes = blend("max", shape, "i4", pieces, 9), blend("vote", shape, "i4", pieces, 9)
    for k in np.ndindex(shape):
        found = seen.get(k, [9])
        assert most[k] == max(found)
        assert votes[k] == min(found, key=lambda v: (-found.count(v), v))


def test_crop_puts_later_pieces_over_earlier_ones():
    pieces = [Piece((0, slice(0, 3)), np.ones(3)), Piece((0, slice(2, 4)), np.full(2, 2.0))]
    assert blend("crop", (2, 5), "f4", pieces, -1).tolist() == [[1, 1, 2, 2, -1], [-1] * 5]
