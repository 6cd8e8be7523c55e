"""Pixel measures equal known answers, for any chunks, masks, labels and dtypes; what is undefined is NaN."""

from __future__ import annotations

import itertools
import json
import pickle
import threading
import time
import warnings

import dask
import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
import scipy.stats
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.coloc import counting, one_pass, pixel_measures
from intake_img.kernels import (
    conventions,
    costes,
    exact,
    joint,
    measures,
    moments,
    packing,
    runs,
    scatter_regions,
    tables,
    tally,
)
from intake_img.model import machine

pytestmark = pytest.mark.thorough

PAIRS = ("pos", "mAB", "mAC", "mAE", "mAG")
EVERY = conventions.ALL + conventions.EXTRA


def image(a, b, chunks=None, names=("A", "B")):
    """Two channels as a lazy Dataset."""
    both = np.stack([a, b])
    axes = "c" + "zyx"[-a.ndim :]
    data = da.from_array(both, chunks=chunks or both.shape)
    return xr.Dataset({"image": (tuple(axes), data)}, coords={"c": list(names)})


@pytest.fixture(scope="module")
def answers(expected):
    return json.loads((expected / "coloc" / "pixel_measures.json").read_text())


@pytest.fixture(scope="module")
def arrays(answers, data):
    return {
        name: tuple(tifffile.imread(data / answers["pairs"][name][key]) for key in ("ch1", "ch2")) for name in PAIRS
    }


def measured(ds, thresholds=None, **options):
    found = ds.img.coloc.measure(("A", "B"), measures=EVERY, thresholds=thresholds, **options)
    return {name: found[name].item() for name in EVERY}


def ours(a, b, ds):
    """All known answers, by their names in the file."""
    coloc = ds.img.coloc
    plain = measured(ds)
    yield from {
        "n": plain["n"],
        "pearson": plain["pearson"],
        "spearman_rho": plain["spearman"],
        "spearman_t": plain["spearman_t"],
        "kendall_tau_b": plain["kendall_tau"],
        "icq_zero_as_positive": plain["li_icq"],
        "icq_strict_positive": coloc.li_icq(zero="negative").item(),
        "icq_zero_excluded": coloc.li_icq(zero="excluded").item(),
        "manders_M1": plain["manders_m1"],
        "manders_M2": plain["manders_m2"],
        "moc": plain["overlap"],
        "k1": plain["overlap_k1"],
        "k2": plain["overlap_k2"],
        "intersection_coeff_A_in_B_gt0": plain["intersection1"],
        "intersection_coeff_B_in_A_gt0": plain["intersection2"],
        "costes_slope_orthogonal": plain["slope"],
        "costes_intercept": plain["intercept"],
        "cellprofiler.ols_slope": coloc.linear_fit(fit="ols").slope.item(),
        "icq_n_zero_products": round(
            (coloc.li_icq(zero="positive").item() - coloc.li_icq(zero="negative").item()) * plain["n"]
        ),
        "costes_slope_coloc2_asrun": slope_without_first_pixel(a, b),
    }.items()
    for method, name in (("simple", "costes"), ("bisection", "costes_bisection")):
        key = f"costes_{method}."
        coloc2 = measured(ds, name, above="or")
        jacop = measured(ds, name, above="and", manders_denominator="above")
        yield key + "thr1", coloc2["threshold1"]
        yield key + "thr2", coloc2["threshold2"]
        yield key + "thr_exact_slope", list(coloc.costes_threshold("A", "B", method=method))
        yield key + "pearson_below", coloc2["pearson_below"]
        yield key + "pearson_above_OR", coloc2["pearson_above"]
        yield key + "pearson_above_AND", jacop["pearson_above"]
        for k in "12":
            yield f"{key}tM{k}", coloc2[f"manders_tm{k}"]
            yield f"{key}tM{k}_above_denominator", jacop[f"manders_tm{k}"]
    for share in (0, 15):
        found = measured(ds, f"{share}%", manders_denominator="above", manders_comparison=">=", overlap_region="above")
        for theirs, own in (
            ("manders1", "manders_tm1"),
            ("manders2", "manders_tm2"),
            ("rwc1", "rwc1"),
            ("rwc2", "rwc2"),
            ("overlap", "overlap"),
            ("k1", "overlap_k1"),
            ("k2", "overlap_k2"),
        ):
            yield f"cellprofiler_thr{share}.{theirs}", found[own]
    for speed in ("Fast", "Faster"):
        found = coloc.costes_threshold("A", "B", method=f"cellprofiler_{speed.lower()}")
        yield f"cellprofiler_costes_{speed}.thr1", found[0]
        yield f"cellprofiler_costes_{speed}.thr2", found[1]
    histogram = coloc.histogram("A", "B")
    zero = histogram.sel(value1=0, value2=0).item() if {0} <= set(histogram.value1.values) else 0
    yield (
        "hist2d_256",
        {
            "sum": int(histogram.sum()),
            "at_0_0": zero,
            "nonzero_bins": int((histogram > 0).sum()),
            "max": int(histogram.max()),
        },
    )


def slope_without_first_pixel(a, b):
    """Coloc 2 as run: its variances leave out the first pixel, its means do not."""
    a, b = a.ravel().astype(float), b.ravel().astype(float)
    x, y = (v[1:] - v.mean() for v in (a, b))
    va, vb, cov = (x**2).sum(), (y**2).sum(), (x * y).sum()
    return (vb - va + np.sqrt((vb - va) ** 2 + 4 * cov**2)) / (2 * cov)


# CellProfiler counts pixels exactly on its second threshold as its rounding errors have it
TIES = {("mAC", "cellprofiler_costes_Faster.thr1"), ("mAC", "cellprofiler_costes_Faster.thr2")}
# what these tools return, not what is right: asserted of the tools themselves
OF_OTHERS = {"pearson_skimage_native_dtype", "moc_skimage_on_native_uint8_WRONG"}


@pytest.mark.parametrize("chunks", [None, (1, 7, 60, 50), (2, 1, 100, 172)])
@pytest.mark.parametrize("name", PAIRS)
def test_every_known_answer(name, chunks, arrays, answers):
    a, b = arrays[name]
    ds = image(a, b, chunks if chunks is None or a.ndim == 3 else (chunks[0], *chunks[2:]))
    known = dict(answers["pairs"][name]["measures"])
    for key, value in ours(a, b, ds):
        entry = known.pop(key)
        if (name, key) in TIES:
            found = ds.img.coloc.costes_threshold("A", "B", method="cellprofiler_faster", ties="below")
            value = found[int(key[-1]) - 1]
        want = np.nan if entry["value"] is None else entry["value"]
        if isinstance(want, (dict, list)):
            assert value == want, key
        else:
            assert value == pytest.approx(want, rel=0, abs=entry["tol"], nan_ok=True), key
    assert set(known) == OF_OTHERS


@pytest.mark.parametrize("name", PAIRS)
def test_what_scikit_image_returns_on_the_native_dtype(name, arrays, answers):
    from skimage.measure import manders_overlap_coeff, pearson_corr_coeff

    a, b = arrays[name]
    known = answers["pairs"][name]["measures"]
    assert pearson_corr_coeff(a, b)[0] == pytest.approx(known["pearson_skimage_native_dtype"]["value"], abs=1e-6)
    wrong = manders_overlap_coeff(a, b)
    assert wrong == pytest.approx(known["moc_skimage_on_native_uint8_WRONG"]["value"], abs=1e-6)


def test_overlap_does_not_overflow(arrays):
    ds = image(*arrays["pos"])
    assert ds.img.coloc.overlap().overlap.item() == pytest.approx(0.7774162387, abs=1e-10)
    wide = ds.assign(image=ds.image.astype("uint16") * 257)
    assert wide.img.coloc.overlap().overlap.item() == pytest.approx(0.7774162387, abs=1e-10)


def test_ccf_equals_known_answers(arrays, answers):
    known = answers["van_steensel_ccf"]
    ds = image(*arrays["pos"], chunks=(1, 7, 60, 50))
    found = ds.img.coloc.ccf(axis="x", limit=20)
    np.testing.assert_allclose(found.squeeze("pair"), known["ccf"], rtol=0, atol=known["tol"])
    assert found.lag_pixels.values.tolist() == known["dx"]
    assert found.lag_pixels.values[found.values.argmax()] == known["argmax"]


# laws


def test_any_chunks_also_of_time_give_the_same(arrays):
    a, b = arrays["pos"]
    both = np.stack([np.stack([a, b]), np.stack([a // 2, b])])[:, :, ::3]
    results = []
    for chunks in ((2, 2, 11, 152, 172), (1, 1, 3, 50, 171), (2, 1, 11, 1, 172)):
        if chunks[3] == 1:
            chunks = (2, 1, 11, 19, 172)
        ds = xr.Dataset({"image": (tuple("tczyx"), da.from_array(both, chunks=chunks))}, coords={"c": ["A", "B"]})
        results.append(ds.img.coloc.measure(thresholds="costes", measures=EVERY))
    xr.testing.assert_identical(results[0], results[1])
    xr.testing.assert_identical(results[0], results[2])
    assert results[0].sizes == {"t": 2, "pair": 1}
    alone = image(*both[1]).img.coloc.measure(thresholds="costes", measures=EVERY)
    xr.testing.assert_identical(results[0].isel(t=1), alone)


SWAPPED = {
    "manders_m1": "manders_m2",
    "manders_tm1": "manders_tm2",
    "overlap_k1": "overlap_k2",
    "rwc1": "rwc2",
    "threshold1": "threshold2",
    "intersection1": "intersection2",
}
UNSWAPPED = ("slope", "intercept")


@given(
    hnp.arrays(np.uint8, (2, 5, 7), elements=st.integers(0, 12)),
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]),
)
@examples(25)
def test_chunks_channels_and_dtypes_change_nothing_else(values, chunks, dtype):
    a, b = values.astype(dtype)
    whole = measured(image(a, b), (4, 3))
    parts = measured(image(a, b, (1, *chunks)), (4, 3))
    assert str(whole) == str(parts)  # NaN is equal to itself
    of_bytes = measured(image(*values), (4, 3))
    for name, value in whole.items():
        assert value == pytest.approx(of_bytes[name], rel=1e-12, abs=1e-15, nan_ok=True), name
    back = measured(image(b, a), (3, 4))
    both_ways = SWAPPED | {v: k for k, v in SWAPPED.items()}
    for name, value in whole.items():
        if name not in UNSWAPPED:
            other = back[both_ways.get(name, name)]
            assert (value == other) or (np.isnan(value) and np.isnan(other)), name


@given(hnp.arrays(np.uint8, (2, 40), elements=st.integers(0, 60)), st.integers(1, 4), st.integers(0, 1000))
@examples(25)
def test_scale_and_offset(values, scale, offset):
    a, b = values[:, None].astype(np.uint16)
    one, other = measured(image(a, b)), measured(image(a * np.uint16(scale) + np.uint16(offset), b))
    for name in ("pearson", "spearman", "kendall_tau", "li_icq"):
        assert one[name] == pytest.approx(other[name], rel=1e-12, nan_ok=True), name
    if offset == 0:
        for name in ("overlap", "manders_m1", "manders_m2"):
            assert one[name] == pytest.approx(other[name], rel=1e-12, nan_ok=True), name
        assert one["overlap_k2"] * scale == pytest.approx(other["overlap_k2"], rel=1e-12, nan_ok=True)


@given(hnp.arrays(np.int16, (2, 30), elements=st.integers(-20, 20)))
@examples(40)
def test_ranks_equal_scipy(values):
    found = measured(image(*values[:, None]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant channel
        assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(*values)[0], rel=1e-12, abs=1e-14, nan_ok=True)
        assert found["kendall_tau"] == pytest.approx(
            scipy.stats.kendalltau(*values)[0], rel=1e-12, abs=1e-14, nan_ok=True
        )
        assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(*values)[0], rel=1e-9, abs=1e-12, nan_ok=True)


def test_kendall_by_bits_equals_kendall_by_running_sums():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 5000, 3000)
    b = a // 3 + rng.integers(0, 2000, 3000)
    sparse = tables.table_of(a, b)
    dense = tables.table_of(a // 400, b // 400)
    for table in (sparse, dense):
        two = tables.Table(np.repeat([0, 1], len(table)), *(np.tile(x, 2) for x in (table.a, table.b, table.count)), 2)
        values = [np.repeat(x, table.count) for x in (table.a, table.b)]
        want = scipy.stats.kendalltau(*values)[0]
        np.testing.assert_allclose(measures.ranks.kendall(two), want, rtol=1e-12)  # in groups: by bits
        np.testing.assert_allclose(measures.ranks.kendall(table), want, rtol=1e-12)


def test_large_offset_costs_no_digit():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 8, (50, 60)).astype(np.uint16)
    b = (a + rng.integers(0, 5, a.shape)).astype(np.uint16)
    plain = measured(image(a, b))["pearson"]
    assert measured(image(a + np.uint16(60000), b + np.uint16(60000)))["pearson"] == plain
    assert measured(image(a + 1e9, b + 1e9))["pearson"] == plain


@given(hnp.arrays(np.float64, 30, elements=st.floats(-1e100, 1e100)), st.randoms())
@examples(50)
def test_sums_of_floats_are_exact_in_any_order(values, random):
    from fractions import Fraction

    want = sum(map(Fraction, values.tolist()))
    order = list(range(len(values)))
    random.shuffle(order)
    parts = [exact.exact_sums(values[order[:11]]), exact.exact_sums(values[order[11:]])]
    total = exact.totals(exact.add(parts), np.zeros(1, int))[0]
    assert Fraction(total) / Fraction(2) ** -exact.LOWEST == want


# floats, few and many


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_floats_are_streamed(arrays, monkeypatch, dtype):
    a, b = (x[::4].astype(dtype) / 7 + 0.1 for x in arrays["pos"])
    few = measured(image(a, b), (3.0, 2.0))
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", 10)
    many = measured(image(a, b), (3.0, 2.0))
    cut = measured(image(a, b, (1, 5, 50, 61)), (3.0, 2.0))
    assert many == cut
    ranked = {"spearman", "spearman_t", "kendall_tau", "rwc1", "rwc2"}
    for name, value in few.items():
        if name in ranked:
            assert many[name] == pytest.approx(value, rel=0.05), name
        else:
            assert many[name] == value, name
    assert "2048" in image(a, b).img.coloc.measure(measures=["spearman"]).attrs["method"]
    noise = np.random.default_rng(0).normal(size=(3, 1, 200, 200)).astype(dtype)
    ds = image(np.exp(noise[0]), np.exp(noise[0] * 0.7 + noise[1] * 0.5))
    binned = ds.img.coloc.costes_threshold("A", "B", method="bisection")
    monkeypatch.undo()
    np.testing.assert_allclose(binned, ds.img.coloc.costes_threshold("A", "B", method="bisection"), rtol=0.1)


def test_wide_integers(arrays):
    a, b = (x[:8] for x in arrays["pos"])
    want = measured(image(a, b), (8, 6))
    for dtype in ("int32", "uint32", "int64"):
        assert measured(image(a.astype(dtype), b.astype(dtype), (1, 3, 60, 60)), (8, 6)) == want
    wide = a.astype(np.int64) * 100_000 - 5
    assert measured(image(wide, b.astype(np.int64)))["pearson"] == pytest.approx(want["pearson"], rel=1e-15)


# masks and labels


def test_mask_of_255_is_inside(arrays):
    a, b = arrays["pos"]
    inside = (a > 3) & (np.arange(a.shape[2]) % 2 == 0)
    found = measured(image(a, b, (1, 7, 60, 50)), "costes", mask=inside.astype(np.uint8) * 255)
    assert found == measured(image(a, b), "costes", mask=inside)
    cut = measured(image(a[inside][None], b[inside][None]), "costes")
    assert found == cut


def test_thresholds_of_coloc2s_own_test(arrays):
    """Thresholds 70 and 53 of fiji/Colocalisation_Analysis, MandersColocalizationTest, without its mask: inclusive."""
    ds = image(*arrays["pos"])
    found = ds.img.coloc.manders(thresholds=(70, 53))
    assert found.manders_tm1.item() == pytest.approx(0.427843, abs=1e-6)
    assert found.manders_tm2.item() == pytest.approx(0.413342, abs=1e-6)
    strict = ds.img.coloc.manders(thresholds=(70, 53), manders_comparison=">")
    assert found.manders_tm1.item() > strict.manders_tm1.item()


def test_labels_are_regions_of_their_own(arrays):
    a, b = (x[:12] for x in arrays["pos"])
    labels = np.zeros(a.shape, np.int32)
    labels[:, :70, ::2], labels[:, 70:, 1::2], labels[3, 5, 5] = 2, 70_000, 9
    ds = image(a, b, (1, 5, 60, 60))
    for thresholds in (None, (8, 6), "costes", "otsu", "15%"):
        found = ds.img.coloc.measure(measures=EVERY, labels=labels, thresholds=thresholds)
        assert found.label.values.tolist() == [2, 9, 70_000]
        for label in (2, 9, 70_000):
            alone = ds.img.coloc.measure(measures=EVERY, mask=labels == label, thresholds=thresholds)
            xr.testing.assert_allclose(found.sel(label=label, drop=True), alone, rtol=1e-12)
    shared = ds.img.coloc.measure(labels=labels, thresholds="costes", thresholds_from="image")
    whole = ds.img.coloc.measure(mask=labels > 0, thresholds="costes")
    assert (shared.threshold1.values == whole.threshold1.item()).all()


def test_labels_of_each_time_point():
    rng = np.random.default_rng(3)
    values = rng.integers(0, 50, (2, 2, 20, 20)).astype(np.uint16)
    labels = np.zeros((2, 20, 20), int)
    labels[0, :10], labels[1, 10:], labels[:, :, 15:] = 1, 2, 5
    for chunks in ((2, 2, 20, 20), (1, 1, 7, 20)):
        ds = xr.Dataset(
            {"image": (tuple("tcyx"), da.from_array(values, chunks=chunks)), "cells": (tuple("tyx"), labels)}
        )
        found = ds.img.coloc.measure(labels="cells")
        assert found.n.squeeze("pair").values.tolist() == [[150, 0, 100], [0, 150, 100]]
        assert np.isnan(found.pearson.sel(label=2).isel(t=0)).all()
        want = scipy.stats.pearsonr(*(values[1, k][labels[1] == 2] for k in (0, 1)))[0]
        assert found.pearson.sel(label=2).isel(t=1).item() == pytest.approx(want, rel=1e-12)


# undefined


def test_constant_empty_and_one_pixel():
    rng = np.random.default_rng(0)
    b = rng.integers(1, 9, (6, 6)).astype(np.uint8)
    constant = measured(image(np.full_like(b, 3), b), "costes")
    for name in ("pearson", "spearman", "kendall_tau", "slope", "threshold1", "manders_tm1", "rwc1"):
        assert np.isnan(constant[name]), name
    zeros = measured(image(np.zeros_like(b), b))
    for name in ("overlap", "overlap_k1", "manders_m1", "intersection1"):
        assert np.isnan(zeros[name]), name
    assert zeros["manders_m2"] == 0
    empty = measured(image(b, b), "costes", mask=np.zeros(b.shape, bool))
    assert empty.pop("n") == 0
    assert np.isnan([v for k, v in empty.items() if k != "n_above"]).all()
    labels = np.zeros(b.shape, int)
    labels[2, 2] = 4
    labels[4:] = 5
    one = image(b, b + 1).img.coloc.measure(labels=labels, thresholds="costes")
    assert one.n.squeeze("pair").values.tolist() == [1, 12]
    assert np.isnan(one.pearson.sel(label=4)).all()
    assert one.pearson.sel(label=5).item() == 1


def test_nan_pixels_are_left_out():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 10, 10))
    a[0, :3], b[5, 5], b[6, 6] = np.nan, np.inf, np.nan
    good = np.isfinite(a) & np.isfinite(b)
    found = measured(image(a, b, (1, 4, 4)))
    assert found["n"] == good.sum()
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(a[good], b[good])[0], rel=1e-12)


def test_conventions_of_icq():
    a = np.array([[0, 1, 2, 1]], np.uint8)
    b = np.array([[0, 2, 2, 0]], np.uint8)
    found = {z: image(a, b).img.coloc.li_icq(zero=z).item() for z in ("positive", "negative", "excluded")}
    assert found == {"positive": 0.5, "negative": 0.0, "excluded": 0.5}
    constant = {z: image(a * 0, b).img.coloc.li_icq(zero=z).item() for z in ("positive", "negative", "excluded")}
    assert constant["positive"] == 0.5
    assert constant["negative"] == -0.5
    assert np.isnan(constant["excluded"])


# thresholds and pairs


def test_otsu_equals_scikit_image(arrays):
    from skimage.filters import threshold_otsu

    for a, b in (arrays["pos"], tuple(x.astype("float64") / 3 for x in arrays["mAG"])):
        found = image(a, b).img.coloc.measure(measures=["threshold1", "threshold2"], thresholds="otsu")
        assert found.threshold1.item() == pytest.approx(threshold_otsu(a), rel=1e-12)
        assert found.threshold2.item() == pytest.approx(threshold_otsu(b), rel=1e-12)


def test_costes_sweep_equals_judging_each_candidate(arrays):
    for name in PAIRS:
        a, b = arrays[name]
        table = packing.unpack(counted([packing.select(a, b)], a.dtype), a.dtype)
        slope, intercept = (float(v[0]) for v in moments.Moments.line(moments_of(table)))
        walk = costes._Walk(table, slope, intercept, (0, 255))
        levels = np.arange(walk.high, 0, -7.0)
        t1, t2 = walk.thresholds(levels)
        below = [table.select((table.a < x) | (table.b < y)) for x, y in zip(t1, t2, strict=True)]
        want = [float(moments_of(part).pearson()[0]) for part in below]
        np.testing.assert_allclose(walk._sweep(t1, t2), want, rtol=1e-9, atol=1e-12)


def counted(parts, dtype):
    counter = joint.Counter(dtype, sum(len(a) for a, _, _ in parts))
    counter.add(parts)
    return counter.packed()


def moments_of(table):
    from intake_img.kernels.tally import moments

    return moments(table)


def test_pairs_and_channels_by_name(arrays):
    a, b = (x[0] for x in arrays["pos"])
    ds = xr.Dataset({"image": (tuple("cyx"), np.stack([a, b, a[::-1]]))}, coords={"c": ["g", "r", "flip"]})
    every = ds.img.coloc.measure(measures=["pearson"])
    assert every.pair.values.tolist() == ["g-r", "g-flip", "r-flip"]
    assert every.channel1.values.tolist() == ["g", "g", "r"]
    one = ds.img.coloc.measure(
        [("r", 0), ("flip", "g")], measures=["pearson", "threshold1"], thresholds={"g": 1, "r": 2, 2: 3}
    )
    assert one.pearson.isel(pair=0).item() == every.pearson.isel(pair=0).item()
    assert one.threshold1.values.tolist() == [2, 3]
    frame = every.to_dataframe()
    assert set(frame.columns) == {"channel1", "channel2", "pearson"}
    with pytest.raises(ValueError, match="no channel 'blue'; the image has 'g', 'r', 'flip'"):
        ds.img.coloc.pearson(("g", "blue"))
    with pytest.raises(ValueError, match="thresholds='median': expected a number"):
        ds.img.coloc.measure(thresholds="median")
    with pytest.raises(ValueError, match="measures contain 'pearsons'"):
        ds.img.coloc.measure(measures=["pearsons"])
    with pytest.raises(ValueError, match="icq_zero='odd'"):
        ds.img.coloc.li_icq(zero="odd")
    with pytest.raises(ValueError, match="needs a channel axis 'c'"):
        ds.isel(c=0).img.coloc.measure()


def test_sixteen_bits(data):
    a, b = (iio.imread(data / "coloc" / f"CP_ExampleColoc_0_1_N_{k}.png") for k in "GR")
    ds = image(a, b, (1, 300, 500))
    found = measured(ds, "costes")
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(a.ravel(), b.ravel())[0], rel=1e-12)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(a.ravel(), b.ravel())[0], rel=1e-12)
    assert found["kendall_tau"] == pytest.approx(scipy.stats.kendalltau(a.ravel(), b.ravel())[0], rel=1e-12)
    assert found["manders_m1"] == 1
    assert found["overlap"] <= 1


def test_only_the_channels_of_the_pair_are_read():
    read = []

    def block(block_info=None):
        where = block_info[None]["array-location"]
        read.append(where[0])
        return np.ones([hi - lo for lo, hi in where], np.uint8)

    data = da.map_blocks(block, chunks=((1,) * 4, (8,), (8,)), dtype=np.uint8)
    ds = xr.Dataset({"image": (tuple("cyx"), data)})
    ds.img.coloc.measure((0, 2), measures=["n"])
    assert sorted(set(read)) == [(0, 1), (2, 3)]
    assert len(read) == 2


# the joint histogram


@given(
    st.sampled_from(["bool", "uint8", "int8", "uint16", "int16", "int32"]),
    st.sampled_from([3, 40, 400, 30000]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
@examples(60)
def test_counting_in_an_array_equals_sorting(dtype, spread, seed, outliers):
    """Narrow ranges, narrow ranges with outliers and wide ones are counted in three ways."""
    rng = np.random.default_rng(seed)
    low, high = {"bool": (0, 1), "int32": (0, 65535)}.get(dtype) or (np.iinfo(dtype).min, np.iinfo(dtype).max)
    size = int(rng.integers(1, 30_000))
    a, b = (np.clip(rng.normal(rng.uniform(low, high), spread, size), low, high).round().astype(dtype) for _ in "ab")
    if outliers:
        a[0], b[-1], a[-1] = high, low, low
    cuts = [0, *sorted(rng.integers(0, size, 3).tolist()), size]
    parts = [packing.select(a[i:j], b[i:j]) for i, j in itertools.pairwise(cuts)]
    counter = joint.Counter(a.dtype, size if seed % 2 else 1, cells=2**25 if seed % 3 else 1000)
    for k in range(len(parts)) if seed % 5 else [slice(0, 2), slice(2, 4)]:
        counter.add(parts[k] if isinstance(k, slice) else [parts[k]])
    for packed in (counted(parts, a.dtype), counter.packed()):
        check(packing.unpack(packed, a.dtype), a, b)
    before = packing._increment
    packing._increment = packing._increment_slowly
    try:
        check(packing.unpack(counted(parts, a.dtype), a.dtype), a, b)
    finally:
        packing._increment = before


def check(found: tables.Table, a: np.ndarray, b: np.ndarray) -> None:
    pairs, counts = np.unique(np.stack([a, b]).astype(int), axis=1, return_counts=True)
    assert np.array_equal(found.a, pairs[0])
    assert np.array_equal(found.b, pairs[1])
    assert np.array_equal(found.count, counts)


def test_a_counter_goes_on_in_another_process():
    """What dask.distributed hands from worker to worker arrives as arrays that cannot be written to."""
    rng = np.random.default_rng(0)
    a, b = rng.poisson(200, (2, 3, 500)).astype("u2")
    counter = joint.Counter(np.dtype("u2"), 1500)
    for x, y in zip(a, b, strict=True):
        counter.add([packing.select(x, y)])
        buffers: list[pickle.PickleBuffer] = []
        dumped = pickle.dumps(counter, protocol=5, buffer_callback=buffers.append)
        counter = pickle.loads(dumped, buffers=[bytes(buffer.raw()) for buffer in buffers])
    check(packing.unpack(counter.packed(), a.dtype), a.ravel(), b.ravel())
    assert isinstance(pickle.loads(pickle.dumps(counting.TooManyPairs())), counting.TooManyPairs)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint16", "int16"]), st.booleans(), st.booleans())
@examples(60)
def test_counters_are_added_in_any_order(seed, dtype, binned, labelled):
    """The sum of the counters of parts equals one counter of all pixels; so does the sum of bins, whatever the order in
    which wider bins became necessary."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 3000))
    info = np.iinfo(dtype)
    spread = 10 ** rng.uniform(0, 4.5, size)  # from a few to all bits
    a, b = (np.clip(rng.normal(0, spread) + info.min + 100, info.min, info.max).astype(dtype) for _ in "ab")
    labels = rng.integers(0, 4, size) if labelled else None
    options = {"levels": 64} if binned else {"cells": int(rng.choice([100, 2**25]))}
    cuts = [0, *sorted(rng.integers(0, size, 6).tolist()), size]
    counters = []
    for k, j in itertools.pairwise(cuts):
        if not counters or rng.random() < 0.6:
            counters.append(joint.Counter(a.dtype, size, **options))
        counters[-1].add([packing.select(a[k:j], b[k:j], None if labels is None else labels[k:j])])
        if rng.random() < 0.2:
            counters[-1].settle()
    rng.shuffle(counters)
    total, *others = counters
    for other in others:
        total.absorb(other)
    codes = [(v.astype(int) - info.min) for v in (a, b)]
    shifts = [0, 0]
    if binned:
        kept = np.ones(size, bool) if labels is None else labels > 0
        shifts = [next(s for s in range(17) if not kept.any() or c[kept].max() >> s < 64) for c in codes]
        if kept.any():
            assert total.shifts == tuple(shifts)
    table = packing.unpack(total.packed(), np.dtype("u2"), np.arange(4) if labelled else None)
    rows = np.stack(
        [np.zeros(size, int) if labels is None else labels, *(c >> s for c, s in zip(codes, shifts, strict=True))]
    )
    if labels is not None:
        rows = rows[:, labels > 0]
    pairs, counts = np.unique(rows, axis=1, return_counts=True)
    assert np.array_equal(np.stack([table.group, table.a, table.b]), pairs)
    assert np.array_equal(table.count, counts)
    if others:
        with pytest.raises(RuntimeError, match="already part of a sum"):
            total.absorb(others[0])


def test_cells_that_would_count_too_many_pixels():
    a = np.full(1000, 7, "u2")
    counter, other = joint.Counter(a.dtype, 1000), joint.Counter(a.dtype, 1000)
    for one in (counter, other):
        one.add([packing.select(a, a)])
        one._cells[one._cells > 0] = one._in_cells = one.pixels = 2**32 - 500  # as if so many had been counted
    counter.add([packing.select(a, a)])
    assert counter.packed()[1].tolist() == [2**32 + 500]
    fresh = joint.Counter(a.dtype, 1000)
    fresh.absorb(other)
    again = joint.Counter(a.dtype, 1000)
    again.add([packing.select(a, a)])
    fresh.absorb(again)
    assert fresh.packed()[1].tolist() == [2**32 + 500]


@given(st.integers(0, 2**32 - 1))
@examples(60)
def test_sums_over_regions_equal_those_of_pixels(seed):
    """By running sums of the joint histogram, and by masks of the pixels."""
    rng = np.random.default_rng(seed)
    size, groups, top = int(rng.integers(1, 400)), int(rng.integers(1, 5)), int(rng.choice([2, 9, 60, 5000]))
    a, b = rng.integers(-top if seed % 2 else 0, top, (2, size))
    group = np.sort(rng.integers(0, groups, size))
    rules = conventions.Conventions(
        **{name: rng.choice([c for c in choices if c]) for name, choices in conventions.CHOICES.items()}
    )
    t1, t2 = (rng.choice([np.nan, -np.inf, 0, 1.5, top / 2, *rng.integers(0, top, 3)], groups) for _ in "ab")
    need = conventions.fields(EVERY, rules, True)
    before, runs._STRIP = runs._STRIP, int(rng.choice([1, 7, 50, 2**20]))
    try:
        found = tally.tally(tables.table_of(a, b, group, groups), need, t1, t2, rules)
    finally:
        runs._STRIP = before
    for g in range(groups):
        x, y = a[group == g], b[group == g]
        chosen = scatter_regions.masks(x, y, t1[g], t2[g], rules)
        sign = np.sign(len(x) * x - x.sum()) * np.sign(len(y) * y - y.sum())
        chosen |= {"icq_positive": lambda sign=sign: sign > 0, "icq_zero": lambda sign=sign: sign == 0}
        for region, sums in need.items():
            keep = chosen[region]()
            keep = np.ones(len(x), bool) if keep is None else keep
            one = {"n": np.ones(keep.sum(), int), "a": x[keep], "b": y[keep]}
            want = {"n": one["n"], "a": one["a"], "b": one["b"]}
            want |= {p + q: one[p] * one[q] for p, q in ("aa", "bb", "ab")}
            for name in sums:
                assert found[region, name][g] == want[name].sum(), (region, name)


def test_sums_over_regions_beyond_64_bits():
    table = tables.Table(np.zeros(2, int), np.array([3, 3]), np.array([65535, 65534]), np.array([2**36, 2**35]), 1)
    sums = tally.tally(table, {"all": ("n", "bb", "aa")}, np.zeros(1), np.zeros(1), conventions.Conventions())
    assert sums["all", "bb"][0] == 2**36 * 65535**2 + 2**35 * 65534**2
    assert sums["all", "aa"][0] == 9 * (2**36 + 2**35)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "uint16", "int16"]), st.sampled_from([5, 300, 30000]))
@examples(40)
def test_sums_of_small_integers_equal_those_of_floats(seed, dtype, spread):
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    size = int(rng.choice([1, 40, 2**13, 2**18 + 5]))
    a, b = (np.clip(rng.normal(spread, spread, size), info.min, info.max).astype(dtype) for _ in "ab")
    t1, t2 = (rng.choice([np.nan, -np.inf, 0, 1.5, spread, 70000]) for _ in "ab")
    means = rng.choice([a.mean(), np.floor(a.mean())]), b.mean()
    around = tuple((np.floor(m), np.ceil(m)) for m in means)  # of integers: the whole numbers beside each mean
    need, zero = conventions.fields(EVERY, conventions.Conventions(), True), np.zeros(1, np.int64)
    sums = [
        tally.as_integers(tally.tally_pixels(x, y, None, need, t1, t2, conventions.Conventions(), m), zero)
        for x, y, m in ((a, b, around), (a.astype(float), b.astype(float), means))
    ]
    assert {k: int(v[0]) for k, v in sums[0].items()} == {k: int(v[0]) for k, v in sums[1].items()}


def test_grey_levels_that_lie_together_are_counted_however_many_pairs_they_form(monkeypatch):
    """Pairs beyond the limit are exact where an array of all pairs is small enough: whatever the chunks."""
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 4000, (2, 6, 100, 100)).astype("u2")
    want = repr(measured(image(a, b), "costes"))
    monkeypatch.setattr(pixel_measures, "MOST_PAIRS", 1000)
    for chunks in (None, (1, 1, 60, 60), (1, 6, 10, 10)):
        ds = image(a, b, chunks)
        assert ds.img.coloc.measure(measures=["n"]).attrs["method"] == "joint histogram of grey levels: exact"
        assert repr(measured(ds, "costes")) == want
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", 1000)
    a[0, 0, 0], b[0, 0, 1] = 65535, 65535  # now it is not
    for chunks in (None, (1, 1, 60, 60)):
        assert "equal bins" in image(a, b, chunks).img.coloc.measure(measures=["n"]).attrs["method"]


# one pass in chunks


@pytest.mark.parametrize("options", [{}, {"scheduler": "sync"}, {"num_workers": 1}, {"num_workers": 3}])
def test_no_chunk_is_read_twice_and_few_ahead(options, monkeypatch):
    """Chunks are read as they are counted; what several chunks need, as of a filter, is computed once."""
    lock, read, counted, ahead = threading.Lock(), [], [0], [0]

    def block(block_info=None):
        where = tuple(lo for lo, _ in block_info[None]["array-location"])
        with lock:
            read.append(where)
            ahead[0] = max(ahead[0], len(read) - 2 * counted[0])
        return np.full((1, 1, 64, 64), sum(where), np.uint16)

    add = joint.Counter.add

    def slow(self, parts):
        time.sleep(0.002)
        add(self, parts)
        counted[0] += len(parts)

    monkeypatch.setattr(joint.Counter, "add", slow)
    monkeypatch.setattr(one_pass, "_BUNDLE", 1)
    data = da.map_blocks(block, chunks=((1,) * 2, (1,) * 60, (64,), (64,)), dtype=np.uint16)
    want = np.add.outer(np.arange(2), np.arange(60))
    with dask.config.set(options):
        found = xr.Dataset({"image": (tuple("czyx"), data)}).img.coloc.measure(measures=["pearson", "n"])
        assert found.n.item() == 60 * 64 * 64
        assert found.pearson.item() == pytest.approx(np.corrcoef(*want)[0, 1], rel=1e-12)
        assert len(read) == len(set(read)) == 120
        assert ahead[0] <= 2 * 2 * machine.threads()  # both channels of the chunks in the threads, and of as many more
        read.clear()
        filtered = data.map_overlap(lambda x: x, depth={1: 1}, boundary="none")
        found = xr.Dataset({"image": (tuple("czyx"), filtered)}).img.coloc.measure(measures=["pearson", "n"])
        assert found.pearson.item() == pytest.approx(np.corrcoef(*want)[0, 1], rel=1e-12)
        assert len(read) == len(set(read)) == 120


def test_a_task_that_runs_twice_is_not_counted_twice():
    counters = [0, (), []]
    state = one_pass._add(None, list, [_box([1])], 0, 10, lambda n: counters[2], lambda s, parts: s.extend(parts))
    one_pass._add(state, list, [_box([2])], 1, 10, lambda n: [], lambda s, parts: s.extend(parts))
    with pytest.raises(RuntimeError, match="ran twice"):
        one_pass._add(state, list, [_box([2])], 1, 10, lambda n: [], lambda s, parts: s.extend(parts))


def _box(value):
    box = np.empty((1,), object)
    box[0] = {(): value}
    return box


@pytest.mark.parametrize("processes", [False, True])
def test_on_a_cluster(processes):
    """The same values, of what is read by the workers and of what they hold already."""
    distributed = pytest.importorskip("distributed")
    a, b = np.random.default_rng(0).poisson(200, (2, 16, 64, 64)).astype("u2")
    want = image(a, b).img.coloc.measure(thresholds="costes")
    options = {"processes": processes, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster),
    ):
        lazy_image = image(a, b, (1, 2, 64, 64))
        assert machine.threads() == 2
        for ds in (lazy_image, lazy_image.persist(), (lazy_image.persist() * 1).astype("u2")):
            xr.testing.assert_identical(ds.img.coloc.measure(thresholds="costes"), want)


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_more_pairs_than_a_histogram_holds(monkeypatch, dtype):
    """What follows from sums stays exact; only ranks and automatic thresholds are from bins. Chunks change nothing."""
    rng = np.random.default_rng(2)
    a = rng.integers(0, 60000, (8, 100, 100))
    b = (a // 2 + rng.integers(0, 20000, a.shape)).astype(dtype)
    a = a.astype(dtype)
    exact_values = measured(image(a, b), (3000, 20000))
    monkeypatch.setattr(pixel_measures, "MOST_PAIRS", 1000)
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", 1000)
    whole, cut = (image(a, b, chunks).img.coloc for chunks in (None, (1, 3, 60, 60)))
    found = cut.measure(measures=EVERY, thresholds=(3000, 20000))
    xr.testing.assert_identical(found, whole.measure(measures=EVERY, thresholds=(3000, 20000)))
    assert "2048 equal bins" in found.attrs["method"]
    for name, value in exact_values.items():
        digits = {"rwc1": 0.1, "rwc2": 0.1, "spearman": 1e-3, "spearman_t": 1e-3, "kendall_tau": 1e-3}
        assert found[name].item() == pytest.approx(value, rel=digits.get(name, 0), nan_ok=True), name
    picture = cut.scatter("A", "B", thresholds="otsu")
    assert f"n = {a.size}" in picture.get_title()


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8"])
def test_costes_of_wide_integers(dtype):
    """Not each of four thousand million grey levels is tried; the threshold is that of the same image as floats."""
    rng = np.random.default_rng(0)
    high = 2**31 - 1 if dtype == "i4" else 2**32 - 1
    base = rng.random((2, 120, 120))
    base[1] = 0.5 * base[0] + 0.5 * base[1]
    image = xr.DataArray((base * high).astype(dtype), dims=list("cyx"), coords={"c": ["a", "b"]})
    floats = xr.DataArray(base, dims=list("cyx"), coords={"c": ["a", "b"]})
    for method in ("simple", "bisection"):
        found = np.array(image.img.coloc.costes_threshold("a", "b", method=method), float)
        wanted = np.array(floats.img.coloc.costes_threshold("a", "b", method=method), float)
        np.testing.assert_allclose(found / high, wanted, atol=1 / 256 + 1e-3)
    with pytest.raises(ValueError, match="rescale it to 16 bits"):
        image.img.coloc.costes_threshold("a", "b", method="cellprofiler_fast")
