"""Laws of means, extrema and resampling: the bits of numpy and scikit-image, whatever is done to be quick."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import cuts, stack
from skimage.transform import resize
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.kernels.resample import coarsened, resized

pytestmark = pytest.mark.thorough

INTEGERS = ["?", "u1", "i1", "u2", "i2", "u4", "i4"]


def values_of(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Values over the whole range of a dtype."""
    if dtype == "?":
        return rng.random(shape) < 0.5
    if dtype[0] == "f":
        return (rng.random(shape) * 200 - 60).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


@examples(60)
@given(data=st.data())
def test_reductions_of_chunks_have_the_bits_of_numpy(data):
    name = data.draw(st.sampled_from(["max", "min", "mean", "sum"]))
    dtype = data.draw(st.sampled_from([*INTEGERS, "f4", "f8"] if name in ("max", "min") else INTEGERS))
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)))
    axes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
    values = values_of(dtype, shape, np.random.default_rng(data.draw(st.integers(0, 99))))
    skipna = data.draw(st.sampled_from([None, True, False]))
    if dtype[0] == "f":
        values[0, 0] = np.nan
    chunks = {d: data.draw(cuts(n)) for d, n in zip("tzyx", shape, strict=True)}
    options = {"keepdims": data.draw(st.booleans()), "skipna": skipna}
    lazy = getattr(stack(values, "tzyx", chunks).img, name)(["tzyx"[k] for k in axes], **options)
    held = getattr(xr.DataArray(values, dims=list("tzyx")).img, name)(["tzyx"[k] for k in axes], **options)
    skips = dtype[0] == "f" and skipna is not False
    with np.errstate(all="ignore"):
        func = {"max": np.fmax, "min": np.fmin}[name].reduce if skips else getattr(np, name)
        wanted = func(values, axis=tuple(axes), keepdims=options["keepdims"])
    assert lazy.chunks is not None or not lazy.ndim
    for found in (lazy.compute(scheduler="sync").values, held.values):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_an_image_in_memory_is_reduced_without_a_graph():
    image = xr.DataArray(np.arange(24, dtype="u1").reshape(4, 3, 2), dims=list("tyx"), attrs={"a": 1})
    for found in (image.img.mean(), image.img.max(keepdims=True), image.img.max_projection("y")):
        assert isinstance(found.variable._data, np.ndarray)
        assert found.attrs == {"a": 1}


@examples(80)
@given(data=st.data())
def test_means_of_blocks_have_the_bits_of_numpy(data):
    factors = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    shape = tuple(f * data.draw(st.integers(1, 5)) + data.draw(st.integers(0, f - 1)) for f in factors)
    dtype = data.draw(st.sampled_from([*INTEGERS, "f4", "f8"]))
    image = values_of(dtype, shape, np.random.default_rng(data.draw(st.integers(0, 99))))
    if data.draw(st.booleans()):
        image = np.asfortranarray(image)
    counts = [n // f for n, f in zip(shape, factors, strict=True)]
    kept = image[tuple(slice(0, n * f) for n, f in zip(counts, factors, strict=True))]
    split = kept.reshape([k for pair in zip(counts, factors, strict=True) for k in pair])
    inner = tuple(range(1, 2 * len(shape), 2))
    found = coarsened(image, factors, "mean")
    if dtype[0] == "f":  # in which order numpy adds is its own affair
        np.testing.assert_allclose(found, split.mean(inner, dtype=float), rtol=1e-5, atol=1e-4)
    else:
        np.testing.assert_array_equal(found, np.rint(split.mean(inner)).astype(dtype))
    assert found.dtype == image.dtype


def test_means_of_floats_whose_sum_overflows():
    image = np.full((4, 4), 3e38, "f4")
    image[3, 3] = np.inf
    np.testing.assert_array_equal(coarsened(image, (2, 2), "mean"), np.array([[3e38, 3e38], [3e38, np.inf]], "f4"))


@examples(60)
@given(data=st.data())
def test_resampling_has_the_bits_of_scikit_image(data):
    counts = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    halved = data.draw(st.booleans())
    shape = tuple(
        n * data.draw(st.sampled_from([2, 4, 6])) if halved else data.draw(st.integers(1, 20)) for n in counts
    )
    dtype = data.draw(st.sampled_from(["u1", "i2", "u4", "f2", "f4", "f8"]))
    image = values_of(dtype, shape, np.random.default_rng(data.draw(st.integers(0, 99))))
    if dtype[0] == "f" and data.draw(st.booleans()):
        image.flat[0], image.flat[-1] = np.nan, np.inf
    order, smooth = data.draw(st.sampled_from([1, 1, 3])), data.draw(st.booleans())
    with np.errstate(all="ignore"):
        wanted = resize(image, counts, order=order, preserve_range=True, anti_aliasing=smooth)
        found = resized(image, counts, order, smooth)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("smooth", [None, False, True])
def test_anti_aliasing_of_nearest_pixels(smooth):
    transform = pytest.importorskip("skimage.transform")
    values = np.random.default_rng(0).random((9, 10))
    expected = transform.resize(values, (4, 5), order=0, anti_aliasing=bool(smooth))
    image = xr.DataArray(values, dims=["y", "x"])
    np.testing.assert_allclose(image.img.rescale(0.5, order=0, anti_aliasing=smooth), expected, rtol=1e-12)
    labels = xr.DataArray(np.arange(90).reshape(9, 10), dims=["y", "x"], attrs={"kind": "labels"})
    assert labels.img.rescale(0.5, anti_aliasing=smooth).equals(labels.img.rescale(0.5))
