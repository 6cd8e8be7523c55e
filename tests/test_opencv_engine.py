"""``engine="opencv"``: the stated difference from scipy for all dtypes, modes and chunks; clear errors for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import cuts, extended, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.processing import filtering
from intake_img.errors import MissingExtraError

pytestmark = pytest.mark.thorough
pytest.importorskip("cv2")


def options_of(name: str, data: st.DataObject) -> tuple[dict, dict, float, int]:
    """Arguments of ours and of scipy, the sum of absolute weights, and the number of taps."""
    if name == "gaussian_filter":
        sigma = {"y": data.draw(st.sampled_from([0, 0.7, 2, 5.5])), "x": data.draw(st.sampled_from([0.4, 3]))}
        taps = sum(2 * int(4 * s + 0.5) + 1 for s in sigma.values())
        return {"sigma": sigma}, {"sigma": [0, *sigma.values()]}, 1, taps
    if name == "sobel":
        k = data.draw(st.integers(0, 1))
        return {"axis": "yx"[k], "dims": "yx"}, {"axis": 1 + k}, 8, 6
    longest = 13 if name in ("correlate", "convolve") else 7  # OpenCV transforms large weights
    size = data.draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    origin = [data.draw(st.integers(-((n - 1) // 2), (n - 1) // 2)) for n in size]
    if name == "uniform_filter":
        size = size if max(size) > 1 else (2, 1)
        ours = {"size": dict(zip("yx", size, strict=True)), "origin": dict(zip("yx", origin, strict=True))}
        return ours, {"size": [1, *size], "origin": [0, *origin]}, 1, sum(size)
    weights = np.random.default_rng(data.draw(st.integers(0, 9))).normal(size=size)
    ours = {"weights": weights, "origin": origin, "dims": "yx"}
    return ours, {"weights": weights[None], "origin": [0, *origin]}, float(np.abs(weights).sum()), weights.size


def by_scipy(name: str, image: np.ndarray, options: dict, mode: str, cval: float, dtype: str) -> np.ndarray:
    if name == "sobel":  # plane by plane
        planes = [ndimage.sobel(p, options["axis"] - 1, dtype, mode, cval) for p in image]
        return np.stack(planes)
    if mode == "reflect" and "weights" in options:  # scipy itself reads beyond an image that is far smaller
        return extended(image, getattr(ndimage, name), [13] * 3, output=np.dtype(dtype), **options)
    return getattr(ndimage, name)(image, output=np.dtype(dtype), mode=mode, cval=cval, **options)


def largest_around(name: str, image: np.ndarray, options: dict, mode: str, cval: float) -> np.ndarray:
    """The largest absolute value in the window of each pixel; of the image for a running sum."""
    if name == "uniform_filter":
        return np.abs(image.astype(float)).max(initial=cval)
    if name == "gaussian_filter":
        size = [2 * int(4 * s + 0.5) + 1 for s in options["sigma"]]
    else:
        size = options["weights"].shape if "weights" in options else [1, 3, 3]
    twice = [2 * n - 1 for n in size]  # wherever the window is placed
    return ndimage.maximum_filter(np.abs(image.astype(float)), twice, mode=mode, cval=cval)


@pytest.mark.parametrize("name", ["gaussian_filter", "uniform_filter", "sobel", "correlate", "convolve"])
@examples(60)
@given(data=st.data())
def test_differences_are_as_stated(name, data):
    shape = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40)))
    dtype = data.draw(st.sampled_from(["u1", "u2", "i2", "f4", "f8"]))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 50, shape) + (90 if dtype[0] == "u" else 0)
    if dtype[0] == "f" and data.draw(st.booleans()):  # a hot pixel affects only its neighbours
        values[..., 0, 0] = 1e9
    image = (np.clip(values, 0, 255) if dtype == "u1" else values.clip(0) if dtype == "u2" else values).astype(dtype)
    mode = data.draw(st.sampled_from(["reflect", "mirror", "nearest", "constant", "wrap"]))
    cval = data.draw(st.sampled_from([0.0, 7.0])) if mode == "constant" and name != "sobel" else 0.0
    same = dtype[0] != "f" and name in ("gaussian_filter", "uniform_filter") and data.draw(st.booleans())
    output = dtype if dtype[0] == "f" or same else "f4"
    ours, theirs, weight, taps = options_of(name, data)
    chunks = {d: data.draw(cuts(n)) for d, n in zip("zyx", shape, strict=True)}
    lazy = stack(image, "zyx", chunks)
    made = getattr(lazy.img, name)(**ours, mode=mode, cval=cval, output_dtype=output, engine="opencv")
    found = made.compute(scheduler="sync").values
    assert found.dtype == np.dtype(output)
    difference = found.astype(float) - by_scipy(name, image, theirs, mode, cval, output).astype(float)
    if same:
        assert difference.min() >= -1
        assert difference.max() <= 2
    else:
        unit = 2.0 ** (-50 if dtype == "f8" else -22)
        largest = largest_around(name, image, theirs, mode, cval)
        assert (np.abs(difference) <= taps * unit * weight * largest).all()


def test_boxes_with_nan_spoil_only_their_own_pixels():
    image = np.ones((1, 30, 30), "f4")
    image[0, 3, 3] = np.nan
    found = stack(image, "zyx", {}).img.uniform_filter({"y": 3, "x": 3}, engine="opencv").values
    assert np.isnan(found).sum() == 9


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("side", [3, 7, 11, 13])
def test_weights_see_nan_only_in_their_window(dtype, side):
    image = np.ones((60, 60), dtype)
    image[30, 30] = np.nan
    for name in ("correlate", "convolve"):
        found = getattr(stack(image, "yx", {}).img, name)(np.ones((side, side)), engine="opencv").values
        assert np.isnan(found).sum() == side**2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda img: img.gaussian_filter(2, engine="opencv"), "dims='yx'"),
        (lambda img: img.gaussian_filter({"x": 2}, {"x": 1}, engine="opencv"), "no derivatives"),
        (lambda img: img.sobel(dims="yx", engine="opencv"), "output_dtype='float32'"),
        (lambda img: img.correlate(np.ones((3, 3, 3)), output_dtype=float, engine="opencv"), "dims='yx'"),
        (lambda img: img.sobel(dims="yx", mode="constant", cval=1, output_dtype="f4", engine="opencv"), "cval=1"),
        (lambda img: img.sobel(engine="cuda"), "one of 'scipy', 'opencv'"),
    ],
)
def test_what_it_cannot_do_is_named_before_anything_is_computed(call, says):
    with pytest.raises(ValueError, match=says):
        call(stack(np.ones((3, 5, 6), "u2"), "zyx", {}).img)
    with pytest.raises(ValueError, match="dtype int64"):
        stack(np.ones((5, 6), "i8"), "yx", {}).img.uniform_filter(3, engine="opencv")


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(filtering, "opencv", lambda: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'intake_img\[fast\]'"):
        stack(np.ones((5, 6)), "yx", {}).img.gaussian_filter(2, engine="opencv")
