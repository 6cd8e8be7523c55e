"""Laws of distances to the background: scipy on complete images says what is right, for any chunks and spacings."""

from __future__ import annotations

import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.processing import distances as chunked
from intake_img.accessor.processing import kept
from intake_img.kernels import envelopes, euclidean

pytestmark = pytest.mark.thorough
STEPS = {"pixels": (1.0, 1.0, 1.0), "exact": (2.0, 0.5, 0.75), "decimal": (0.3, 0.1, 0.1)}


def right(mask: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
    return np.full(mask.shape, np.inf) if mask.all() else ndimage.distance_transform_edt(mask, sampling=steps)


def equal(found: np.ndarray, wanted: np.ndarray, exact: bool) -> None:
    """Check that distances are equal, or, where rounding decides which of two is less, not more, and by a last bit."""
    if exact:
        np.testing.assert_array_equal(found, wanted)
    else:
        assert (found <= wanted).all()
        np.testing.assert_allclose(found, wanted, rtol=4e-16)


def mask_of(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if kind == "blobs":
        smooth = ndimage.gaussian_filter(rng.random(shape), 1.5)
        return smooth > np.quantile(smooth, 0.3)
    return rng.random(shape) < {"pixels": 0.6, "few": 0.995, "all": 1, "none": 0}[kind]


@examples(100)
@given(data=st.data())
def test_lines_are_searched_as_they_are_compared(data):
    """Both ways to the nearest background of a line, and any tiles, give the distances of scipy."""
    shape = tuple(data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3).filter(lambda s: np.prod(s) < 9000)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    mask = mask_of(data.draw(st.sampled_from(["blobs", "pixels", "few", "all", "none"])), shape, rng)
    name = data.draw(st.sampled_from(list(STEPS)))
    with pytest.MonkeyPatch.context() as patch:
        few, share, many = data.draw(st.sampled_from([(4, 2, 0), (8, 0, 0), (8, 0.2, 0.3), (64, 0, 0)]))
        patch.setattr(euclidean, "NEAR", {few: many, 2 * few: 0})
        patch.setattr(euclidean, "SHARE", share)
        patch.setattr(euclidean, "COMMON", share)
        patch.setattr(euclidean, "SHORT", data.draw(st.sampled_from([2, 60, 2**15])))
        patch.setattr(euclidean, "ENVELOPES", data.draw(st.sampled_from([1, 50, 2**21])))
        patch.setattr(envelopes, "FILLED", data.draw(st.sampled_from([1, 50, 2**16])))
        patch.setattr(euclidean, "SPARSE", data.draw(st.sampled_from([0, 3, 24])))
        patch.setattr(euclidean, "BLOCK", data.draw(st.sampled_from([2, 4, 8])))
        patch.setattr(euclidean, "SEVERAL", data.draw(st.sampled_from([1, 2, 9])))
        patch.setattr(euclidean, "TILE", data.draw(st.sampled_from([1, 60, 2**15])))
        patch.setattr(euclidean, "WIDTH", data.draw(st.sampled_from([1, 3])))
        patch.setattr(euclidean, "SMALL", data.draw(st.sampled_from([0, 2**13])))
        patch.setattr(euclidean, "NARROW", data.draw(st.sampled_from([0, 2**9])))
        patch.setattr(euclidean, "LINES", data.draw(st.sampled_from([1, 2**18])))
        found = euclidean.distances(mask, STEPS[name][: mask.ndim])
    assert found.dtype == np.float64
    equal(found, right(mask, STEPS[name][: mask.ndim]), name != "decimal")


@pytest.mark.parametrize("pixels", [1, 3, 60, 1200, "row"])
def test_distances_beyond_squares_of_16_bits(pixels):
    mask, rng = np.ones((300, 700), bool), np.random.default_rng(0)
    mask[0 if pixels == "row" else tuple(rng.integers(0, n, pixels) for n in mask.shape)] = False
    np.testing.assert_array_equal(euclidean.distances(mask, (1, 1)), ndimage.distance_transform_edt(mask))


@examples(60)
@given(data=st.data())
def test_chunks_and_tasks_of_any_size_have_the_same_distances(data):
    dims = data.draw(st.sampled_from(["x", "yx", "zyx", "tyx"]))
    axes = dims.strip("t")
    shape = tuple(data.draw(st.integers(1, {"t": 2, "z": 9, "y": 16, "x": 20}[d])) for d in dims)
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    mask = np.stack([mask_of(data.draw(st.sampled_from(["blobs", "few"])), shape[len(dims) - len(axes) :], rng)] * 2)
    mask = mask.reshape(2, *shape)[0] if len(dims) == len(axes) else mask[: shape[0]]
    chunks = {d: data.draw(st.one_of(st.just(1), cuts(n))) for d, n in zip(dims, mask.shape, strict=True)}
    name = data.draw(st.sampled_from(list(STEPS)))
    steps = dict(zip("zyx", STEPS[name], strict=True))
    coords = {
        a: (a, np.arange(n) * steps[a], {"units": "µm", "spacing": steps[a]})
        for a, n in zip(dims, mask.shape, strict=True)
        if a in axes
    }
    image = stack(mask, dims, chunks).assign_coords(coords)
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="sync"):
        least, most = data.draw(st.sampled_from([(0, 1), (0, 30), (60, 2**23), (2**18, 2**23)]))
        patch.setattr(chunked, "LEAST", least)
        patch.setattr(chunked, "MOST", most)
        found = image.img.distance_transform(units="physical", dims=axes)
        values = found.values
    kept = [(1,) * image.sizes[d] if d == "t" else c for d, c in zip(dims, image.chunks, strict=True)]  # images alone
    assert (found.dims, found.chunks) == (image.dims, tuple(kept))
    np.testing.assert_array_equal(values, image.compute().img.distance_transform(units="physical", dims=axes))
    for own, one in zip(values, mask, strict=True) if "t" in dims else [(values, mask)]:
        equal(own, right(one, tuple(steps[a] for a in axes)), name != "decimal")


@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 0.5, 0.75)])
def test_lines_without_any_background_beside_others(steps, monkeypatch):
    """All background is at the beginning of lines, and the last lines have none."""
    monkeypatch.setattr(euclidean, "SPARSE", 3)
    mask = np.ones((4, 300, 90), bool)
    for k in range(30):
        mask[k % 4, k, k] = False
    np.testing.assert_array_equal(euclidean.distances(mask, steps), ndimage.distance_transform_edt(mask, steps))


@examples(100)
@given(
    st.integers(1, 60),
    st.sampled_from([1, 2, 6, 2000]),
    st.floats(0, 1),
    st.sampled_from([3, 50, 4000]),
    st.integers(0, 999),
)
def test_envelopes_are_the_least_of_all_sums(n, m, share, most, seed):
    rng = np.random.default_rng(seed)
    far = 2**30
    lines = np.where(rng.random((m, n)) < share, rng.integers(0, most, (m, n)), far).astype(np.int32)
    away = np.subtract.outer(np.arange(n), np.arange(n)) ** 2
    wanted = np.where((lines < far).any(axis=1)[:, None], (lines[:, None].astype(int) + away).min(axis=2), far)
    found = envelopes.least(lines, far)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, wanted)


def test_far_background_of_long_lines():
    """Whole numbers of 32 bits do not hold squares of such lengths."""
    mask = np.ones((2, 40_000), bool)
    mask[0, [3, 39_000]] = False
    np.testing.assert_array_equal(euclidean.distances(mask, (1, 1)), ndimage.distance_transform_edt(mask))
    assert euclidean.kind_of_squares((20_000, 30_000), (1, 1)) == np.float64
    assert euclidean.kind_of_squares((20_000, 20_000), (1, 1)) == np.int32
    assert euclidean.kind_of_squares((5, 5), (1, 0.5)) == np.float64


def test_images_without_pixels():
    for shape in ((0, 5), (5, 0), (3, 0, 4)):
        mask = xr.DataArray(np.ones(shape, bool), dims=list("zyx")[-len(shape) :])
        for image in (mask, mask.chunk(dict.fromkeys(mask.dims, 2))):
            assert image.img.distance_transform().values.shape == shape


def test_distances_need_little_memory():
    """While an image is computed, 1 or 2 bytes of each pixel wait for the others, and beyond a limit in a file."""
    rows, columns = np.indices((128, 1024))
    piece = (rows % 20 > 0) & (columns % 7 > 0)
    zeros = da.zeros((128 * 8, 1024), chunks=(128, 1024), dtype=bool)
    image = xr.DataArray(zeros.map_blocks(lambda block: piece, dtype=bool), dims=list("yx"))
    peaks = []
    image[:200].img.distance_transform().compute(scheduler="sync")  # imports modules
    for memory in (2**43, 0):
        with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="sync"):
            patch.setattr(kept, "memory", lambda memory=memory: memory)
            patch.setattr(chunked, "MOST", 2**17)
            patch.setattr(chunked, "LEAST", 2**17)
            tracemalloc.start()
            da.store(image.img.distance_transform().data, Nowhere(), lock=False)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[0] < 6 * image.size  # the result has 8 bytes a pixel
    assert peaks[1] < peaks[0] - 1.5 * image.size


class Spilling(kept.SpillingMemory):
    """Counts the bytes in files."""

    bytes = 0

    def empty(self, shape, dtype):
        found = super().empty(shape, dtype)
        Spilling.bytes += self.spilled
        return found


class Nowhere:
    """A target that keeps nothing."""

    def __setitem__(self, key: object, value: object) -> None:
        pass


@pytest.mark.parametrize("method", ["split", "watershed"])
def test_results_of_objects_may_wait_in_files(method):
    pytest.importorskip("skimage")
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((200, 300)), 4)
    mask = stack(smooth > np.quantile(smooth, 0.6), "yx")
    seeds = mask.copy(data=np.where(rng.random(mask.shape) < 0.02, np.arange(mask.size).reshape(mask.shape), 0))
    image = mask.copy(data=np.arange(mask.size).reshape(mask.shape))
    found = []
    for chunks in ({}, {"y": 100, "x": 150}):
        with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="sync"):
            patch.setattr(kept, "memory", lambda: 0)
            patch.setattr(kept, "SpillingMemory", Spilling)
            Spilling.bytes = 0
            given = [a.chunk(chunks) for a in (mask, image, seeds)]
            one = given[0].img.split(3) if method == "split" else given[1].img.watershed(given[2], given[0])
            found.append(one.values)
        assert not chunks or Spilling.bytes >= 8 * mask.size
    np.testing.assert_array_equal(*found)


def test_kept_arrays_are_in_memory_as_far_as_the_limit_goes(monkeypatch):
    monkeypatch.setattr(kept, "_KEPT", kept._Kept())
    monkeypatch.setattr(kept, "memory", lambda: 8 * 1000)
    values = np.arange(100)

    def new() -> np.ndarray:
        return kept.kept(values, "f4")

    held = [new(), new(), new(), new()]  # 400 bytes each
    assert [a.base is None for a in held] == [True, True, False, False]
    assert np.array_equal(held, [values] * 4)
    del held[3]
    held.append(new())  # what is in a file frees no memory
    assert held[3].base is not None
    del held[0]
    held += [new(), kept.kept(values[:50], "f4"), kept.kept(values[:1], "u1")]
    assert [a.base is None for a in held] == [True, False, False, True, True, False]
