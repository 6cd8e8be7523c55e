"""OpenCV's filters have scipy's bits, inside and at edges; what OpenCV cannot do is done without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from thoroughness import examples

from intake_img.kernels import box_means, compiled, order
from intake_img.kernels.local_filters import uniform_filter

pytestmark = pytest.mark.thorough
cv2 = pytest.importorskip("cv2")

MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
NAMES = ["median_filter", "uniform_filter", *order.STAGES]


def image_of(data: st.DataObject, dtype: str) -> np.ndarray:
    """An image of two or three axes, with few or many values, infinities, NaN and both zeros."""
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    shape = (*data.draw(st.sampled_from([(), (1,), (3,)])), *shape)
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    if dtype[0] == "f":
        image = np.round((rng.random(shape) - 0.5) * data.draw(st.sampled_from([4, 1e6, 1e300])), 2).astype(dtype)
        for value in (np.inf, -np.inf, np.nan, -0.0):
            if data.draw(st.integers(0, 3)) == 0:
                image[rng.random(shape) < 0.1] = value
    else:
        info = np.iinfo(dtype)
        image = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        if data.draw(st.booleans()):
            image %= 5
    layout = data.draw(st.sampled_from(["C", "F", "reversed", "roomy"]))
    if layout == "reversed":
        return image[..., ::-1]
    if layout == "roomy":
        return np.concatenate([image, image], axis=-1)[..., : shape[-1]]
    return np.asarray(image, order=layout)


@pytest.mark.parametrize("name", NAMES)
@examples(120)
@given(data=st.data())
def test_bits_are_those_of_scipy(name, data):
    dtype = data.draw(st.sampled_from(["u1", "u1", "u2", "i2", "f4", "f8", "i1", "i4"]))
    if name == "uniform_filter":  # floats are summed window by window
        dtype = data.draw(st.sampled_from(["u1", "u2", "u4", "i1", "i2", "i4"]))
    with np.errstate(over="ignore"):
        image = image_of(data, dtype)
    if data.draw(st.booleans()):
        side = data.draw(st.sampled_from([3, 5, 7, 15]))
        size = [1] * (image.ndim - 2) + [side] * min(2, image.ndim)
        origin = [0] * image.ndim
    else:
        size = data.draw(st.lists(st.integers(1, 9), min_size=image.ndim, max_size=image.ndim))
        small = [(n - 1) // 2 for n in size]
        origin = [data.draw(st.integers(-n, n)) for n in small]
    cval = data.draw(st.sampled_from([0, 3, -2, 1.5, 255, 300, np.inf]))
    if name == "uniform_filter" and cval == np.inf:
        cval = 7
    options = {"size": size, "mode": data.draw(st.sampled_from(MODES)), "cval": cval, "origin": origin}
    expected, found = np.zeros(image.shape, dtype), np.zeros(image.shape, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        getattr(ndimage, name)(image, output=expected, **options)
        (uniform_filter if name == "uniform_filter" else order.FILTERS[name])(image, found, **options)
    np.testing.assert_array_equal(found, expected)
    if not (dtype[0] == "f" and np.isnan(image).any()):
        assert found.tobytes() == expected.tobytes()


def separate_sums(image: np.ndarray, size: list[int], origin: list[int], mode: str, cval: float) -> np.ndarray:
    """Means of boxes; each window is summed separately."""
    for axis, (n, shift) in enumerate(zip(size, origin, strict=True)):
        if n > 1:
            image = (ndimage.correlate1d(image, np.ones(n), axis, np.float64, mode, cval, shift) / n).astype("f4")
    return image.astype("f4")


@examples(150)
@given(data=st.data())
def test_running_sums_of_floats_have_the_bits_of_separate_sums(data):
    shape = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=2))
    shape = [*data.draw(st.sampled_from([[], [1], [3]])), *shape] if len(shape) == 2 else shape
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    dtype = data.draw(st.sampled_from(["f4", "f4", "f4", "u1", "u2", "i2"]))
    image = rng.integers(0, 200, shape).astype(dtype)
    if dtype == "f4":
        image = (image - data.draw(st.sampled_from([0, 0, 99]))) * np.float32(
            data.draw(st.sampled_from([1, 1e-3, 1e-40]))
        )
        image *= np.float32(2) ** rng.integers(0, data.draw(st.sampled_from([1, 12, 40, 80])), shape)
        for value in (np.inf, np.nan, -0.0):
            if data.draw(st.integers(0, 5)) == 0:
                image[rng.random(shape) < 0.05] = value
    size = data.draw(st.lists(st.integers(1, 35), min_size=len(shape), max_size=len(shape)))
    origin = [data.draw(st.integers(-((n - 1) // 2), (n - 1) // 2)) for n in size]
    mode, cval = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from([0.0, -0.0, 3.0, 0.1]))
    found = np.empty(shape, "f4")
    with np.errstate(invalid="ignore", over="ignore"):
        made = box_means.float_means(image, found, size, mode, cval, origin)
        expected = separate_sums(image, size, origin, mode, cval)
    assert made == (mode != "constant" or cval != 0.1)
    if made:
        np.testing.assert_array_equal(found, expected)
        assert (np.signbit(found) == np.signbit(expected))[~np.isnan(expected)].all()


@pytest.mark.parametrize(("scale", "separate"), [(1, 0), (1e-3, 0), (np.float32(2) ** 60, 0), (np.nan, 2)])
def test_windows_are_summed_separately_only_if_running_sums_would_be_rounded(monkeypatch, scale, separate):
    calls = []
    real = ndimage.correlate1d
    monkeypatch.setattr(ndimage, "correlate1d", lambda *a, **k: calls.append(1) or real(*a, **k))
    image = np.random.default_rng(0).integers(0, 4000, (40, 50)).astype("f4") * np.float32(scale)
    assert box_means.float_means(image, np.empty_like(image), [9, 9], "reflect", 0.0, [0, 0])
    assert len(calls) == separate


def filled(func, *arguments) -> bool:
    image = np.arange(4800, dtype=arguments[0]).reshape(60, 80)
    return func(image, np.empty_like(image), *arguments[1:], "reflect", 0.0)


def test_what_opencv_does_and_what_it_leaves():
    assert all(filled(compiled.median, dtype, [n, n]) for dtype in ("u1", "u2", "i2", "f4") for n in (3, 5))
    assert filled(compiled.median, "u1", [101, 101])
    left = [("i2", [7, 7]), ("f8", [3, 3]), ("i4", [3, 3]), ("u1", [3, 5]), ("u1", [4, 4]), (">u2", [3, 3])]
    assert not any(filled(compiled.median, *given) for given in left)


@pytest.mark.parametrize("side", [7, 13, 15])
@pytest.mark.parametrize("spread", [90, 900, 60000])
def test_medians_of_16_bits_are_made_of_those_of_8_bits(side, spread):
    rng = np.random.default_rng(side)
    ramp = np.linspace(0, min(4 * spread, 2**16 - spread), 70 * 60).reshape(70, 60)
    image = (ramp + rng.integers(0, spread, (70, 60))).astype("u2")[None]
    found = np.empty_like(image)
    order.FILTERS["median_filter"](image, found, size=[1, side, side], mode="mirror", cval=0.0, origin=0)
    np.testing.assert_array_equal(found[0], ndimage.median_filter(image[0], side, mode="mirror"))


def test_without_opencv_results_are_the_same(monkeypatch):
    image = np.random.default_rng(0).integers(0, 2**16, (70, 90), dtype="u2")

    def results() -> list[bytes]:
        made = []
        for name in ("median_filter", "maximum_filter", "grey_opening"):
            out = np.empty_like(image)
            order.FILTERS[name](image, out, size=[3, 3], mode="wrap", cval=0.0, origin=0)
            made.append(out.tobytes())
        out = np.empty_like(image)
        uniform_filter(image, out, size=[3, 4], mode="mirror")
        return [*made, out.tobytes()]

    used = results()
    monkeypatch.setattr(compiled, "opencv", lambda: None)
    assert results() == used


def test_threads_of_opencv_are_left_alone():
    before = cv2.getNumThreads()
    image = np.zeros((512, 512), "u2")
    for name in ("median_filter", "maximum_filter"):
        order.FILTERS[name](image, np.empty_like(image), size=[3, 3], mode="reflect", cval=0.0, origin=0)
    assert cv2.getNumThreads() == before
