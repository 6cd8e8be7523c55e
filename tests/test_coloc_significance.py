"""Permuted blocks, shifted channels: p is small for what is coupled, shifts come back as they were put in."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.coloc import significance as module

pytestmark = pytest.mark.thorough

SPACING = {"y": 0.25, "x": 0.5}


def image(a, b, chunks=None):
    both = np.stack([a, b])
    axes = "zyx"[-a.ndim :]
    coords = {"c": ["A", "B"]} | {
        k: (k, np.arange(n) * SPACING.get(k, 1.0), {"units": "µm"}) for k, n in zip(axes, a.shape, strict=True)
    }
    return xr.Dataset({"image": (("c", *axes), da.from_array(both, chunks=chunks or both.shape))}, coords=coords)


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(0)
    return np.exp(gaussian_filter(rng.normal(size=(4, 90, 100)), (0, 2, 2)) * 5)


def test_small_p_is_significant(noise):
    coupled = image(noise[0] * 1000 // 1, (noise[0] + noise[1]) * 1000 // 1)
    free = image(noise[2], noise[1])
    yes = coupled.img.coloc.significance(block=2.0, n=199, seed=3)
    no = free.img.coloc.significance(block=2.0, n=199, seed=3)
    assert yes.p_value.item() == 1 / 200
    assert yes.z_score.item() > 5
    assert no.p_value.item() > 0.05
    assert yes.attrs["block_pixels"] == [8, 4]
    xr.testing.assert_identical(yes, coupled.img.coloc.significance(block={"y": 8, "x": 4}, units="px", n=199, seed=3))
    other = coupled.img.coloc.significance(block=2.0, n=199, seed=4)
    assert not np.array_equal(other.permuted, yes.permuted)
    cut = image(noise[2], noise[1], (1, 17, 23)).img.coloc.significance(block=2.0, n=199, seed=3)
    xr.testing.assert_identical(no, cut)
    both = free.img.coloc.significance(block=2.0, n=199, seed=3, alternative="two-sided")
    assert 0 < both.p_value.item() <= 1


def test_p_is_uniform_without_coupling():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        a, b = gaussian_filter(rng.normal(size=(2, 40, 40)), (0, 1, 1))
        ds = xr.Dataset({"image": (tuple("cyx"), np.stack([a, b]))})
        found.append(ds.img.coloc.significance(block=8, n=49, seed=int(rng.integers(1 << 30))).p_value.item())
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01


def test_only_whole_blocks_inside_the_mask(noise):
    """Outside the mask anything may stand: the result does not change."""
    a, b = noise[0].copy(), noise[0] + noise[1]
    mask = np.zeros(a.shape, np.uint8)
    mask[13:77, 20:80] = 255
    one = image(a, b).img.coloc.significance(block=2.0, mask=mask, n=49)
    a[:13] = a[77:] = 1e6
    other = image(a, b).img.coloc.significance(block=2.0, mask=mask, n=49)
    xr.testing.assert_identical(one, other)
    inside = [slice(16, 72), slice(20, 80)]
    assert one.pearson.item() == pytest.approx(np.corrcoef(a[tuple(inside)].ravel(), b[tuple(inside)].ravel())[0, 1])
    nothing = image(a, b).img.coloc.significance(block=2.0, mask=mask * 0, n=9)
    assert np.isnan(nothing.p_value.item())
    constant = image(a * 0 + 1, b).img.coloc.significance(block=2.0, n=9)
    assert np.isnan(constant.p_value.item())


@given(st.integers(-4, 4), st.sampled_from("yx"), st.sampled_from(["uint8", "uint16", "float32"]))
@examples(8)
def test_ccf_equals_pearson_of_the_overlap(d, axis, dtype):
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 200, (2, 20, 22)).astype(dtype)
    mask = rng.random(a.shape) < 0.7
    found = image(a, b, (1, 7, 5)).img.coloc.ccf(axis=axis, limit=4, units="px", mask=mask)
    size = a.shape["yx".index(axis)]
    one, two = slice(max(0, -d), size - max(0, d)), slice(max(0, d), size + min(0, d))
    pick = (lambda v, s: v[s]) if axis == "y" else (lambda v, s: v[:, s])
    keep = pick(mask, one) & pick(mask, two)
    want = scipy.stats.pearsonr(pick(a, one)[keep].astype(float), pick(b, two)[keep].astype(float))[0]
    assert found.sel(lag=d * 1.0).item() == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_ccf_is_in_the_units_of_the_axis(noise):
    a = (noise[0] * 1000).astype(np.uint16)
    b = np.roll(a, 3, axis=1)
    found = image(a, b).img.coloc.ccf(axis="x", limit=2.0)
    assert found.lag.attrs["units"] == "µm"
    assert found.lag.values[found.values.argmax()] == 1.5
    assert found.sizes["lag"] == 9
    with pytest.raises(ValueError, match="axis='z': expected an axis of space"):
        image(a, b).img.coloc.ccf(axis="z")


def test_chromatic_shift_comes_back(noise):
    a = gaussian_filter(noise[0], 1)
    b = shift(a, (2.3, -1.6), order=3, mode="nearest")
    ds = image(a, b, (1, 31, 40))
    found = ds.img.coloc.chromatic_shift("A")
    np.testing.assert_allclose(found.sel(c="B"), [2.3 * 0.25, -1.6 * 0.5], atol=0.05)
    assert (found.sel(c="A") == 0).all()
    assert found.attrs["units"] == "µm"
    back = ds.img.coloc.correct_shift(found)
    assert isinstance(back.image.data, da.Array)
    inner = {"y": slice(10, -10), "x": slice(10, -10)}
    before, after = (x.isel(inner).img.coloc.pearson().item() for x in (ds, back))
    assert after > 0.99 > before
    xr.testing.assert_identical(back.compute(), image(a, b).img.coloc.correct_shift(found).compute())
    whole = found.copy(data=np.array([[0, 0], [2 * 0.25, -1 * 0.5]]))
    exact = ds.img.coloc.correct_shift(whole, order=0).image.values
    assert np.array_equal(exact[1, :-2, 1:], b[2:, :-1])
    assert np.array_equal(exact[0], a)
    counts = (ds * 100 // 1).astype("uint16").img.coloc.correct_shift(whole)
    assert counts.image.dtype == np.uint16


def test_chromatic_shift_of_an_image_beyond_memory(noise, monkeypatch):
    a = gaussian_filter(np.tile(noise[0], (2, 2)), 1)
    b = shift(a, (2.3, -1.6), order=3, mode="nearest")
    b[: b.shape[0] // 3, : b.shape[1] // 3] = 0  # one window has no variance
    monkeypatch.setattr(module, "WHOLE_PIXELS", a.size // 6)
    found = image(a, b, (1, 31, 40)).img.coloc.chromatic_shift("A")
    np.testing.assert_allclose(found.sel(c="B"), [2.3 * 0.25, -1.6 * 0.5], atol=0.1)
    assert found.attrs["windows"] == 6
    assert module._windows((10, 10)) == [(slice(0, 10), slice(0, 10))]
    for window in module._windows((7, 400, 3000)):
        assert np.prod([s.stop - s.start for s in window]) <= a.size // 6


@given(st.tuples(st.integers(1, 6), st.integers(4, 25), st.integers(5, 30)), st.sampled_from("zyx"))
@examples(6)
def test_ccf_does_not_depend_on_the_chunks(chunks, axis):
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 2000, (2, 6, 25, 30)).astype(np.uint16)
    mask = rng.random(a.shape) < 0.8
    whole = image(a, b).img.coloc.ccf(axis=axis, limit=7, units="px", mask=mask)
    cut = image(a, b, (1, *chunks)).img.coloc.ccf(axis=axis, limit=7, units="px", mask=mask)
    xr.testing.assert_identical(whole, cut)


@given(st.tuples(st.integers(5, 90), st.integers(5, 100)), st.integers(1, 5000), st.booleans())
@examples(12)
def test_blocks_in_a_file_give_the_same(noise, chunks, held, integer):
    """Blocks in memory, in a file, in one batch of rows and in several, whatever the chunks."""
    a, b = noise[0] * 1000, (noise[0] + noise[1]) * 1000
    if integer:
        a, b = a.astype(np.uint16), b.astype(np.uint16)
    mask = np.ones(a.shape, bool)
    mask[30:34, 40:60] = False
    options = {"block": 2.0, "n": 9, "seed": 1, "mask": mask}
    whole = image(a, b).img.coloc.significance(**options)
    before, module.HELD = module.HELD, held
    try:
        xr.testing.assert_identical(whole, image(a, b, (1, *chunks)).img.coloc.significance(**options))
    finally:
        module.HELD = before


@pytest.mark.parametrize(("coords", "units", "said"), [(True, None, "µm"), (True, "px", "px"), (False, None, "px")])
def test_the_lag_carries_its_unit(coords, units, said):
    rng = np.random.default_rng(0)
    x = {"x": ("x", np.arange(30) * 0.5, {"units": "µm"})} if coords else {}
    ds = xr.Dataset({"image": (("c", "y", "x"), rng.random((2, 5, 30)))}, coords=x)
    lag = ds.img.coloc.ccf(units=units, limit=3).lag
    assert lag.attrs["units"] == said
    assert lag.values.max() == 3
