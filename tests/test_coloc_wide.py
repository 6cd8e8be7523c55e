"""Colocalization of wide integers, exact at any offset: against Python's integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import dask.array as da
import numpy as np
import pytest
import scipy.stats
import xarray as xr

import intake_img  # noqa: F401
from intake_img.accessor.coloc import pixel_measures
from intake_img.kernels import wide
from intake_img.kernels.costes import costes, otsu
from intake_img.kernels.tables import table_of

pytestmark = pytest.mark.thorough

OFFSETS = [
    ("i4", 2**30),
    ("u4", 2**31 + 5),
    ("i8", 2**53),
    ("i8", 2**62),
    ("i8", -(2**62)),
    ("i8", -(2**63)),
    ("u8", 2**53),
    ("u8", 2**63 - 40),
    ("u8", 2**64 - 301),
]
NAMES = [
    "pearson",
    "pearson_above",
    "pearson_below",
    "spearman",
    "kendall_tau",
    "manders_m1",
    "manders_m2",
    "manders_tm1",
    "manders_tm2",
    "overlap",
    "overlap_k1",
    "li_icq",
    "slope",
    "intersection1",
    "n_above",
    "n",
]


def pair(dtype, offset, step=1, n=(6, 20)):
    """Two channels as lists of Python integers, and the image."""
    rng = np.random.default_rng(7)
    top = 2**32 - 1 if step > 1 else 290
    a = rng.integers(0, top, n).ravel().tolist()
    b = [(x + y) // 2 for x, y in zip(a, rng.integers(0, top, n).ravel().tolist(), strict=True)]
    if step > 1:  # all of the range of the dtype
        a, b = [x * step - 2**63 * (dtype == "i8") for x in a], [x * step - 2**63 * (dtype == "i8") for x in b]
    else:
        a, b = [x + offset for x in a], [x + offset for x in b]
    if not step > 1:
        a[3] = b[5] = max(0, int(np.iinfo(dtype).min)) if offset > 0 else 1
    return a, b, np.array([a, b], dtype).reshape(2, *n)


def pearson(a, b):
    n = len(a)
    if n < 2:
        return math.nan
    ca, cb = [n * x - sum(a) for x in a], [n * x - sum(b) for x in b]
    square = sum(x * x for x in ca) * sum(x * x for x in cb)
    cov = sum(x * y for x, y in zip(ca, cb, strict=True))
    return math.copysign(math.sqrt(Fraction(cov * cov, square)), cov) if square else math.nan


def over(x, y):
    return float(Fraction(x, y)) if y else math.nan


def expected(a, b, t1, t2):
    both = list(zip(a, b, strict=True))
    mean_a, mean_b = Fraction(sum(a), len(a)), Fraction(sum(b), len(b))
    high = [(x, y) for x, y in both if x > t1 and y > t2]
    low = [(x, y) for x, y in both if x < t1 or y < t2]
    aa, bb, ab = sum(x * x for x in a), sum(y * y for y in b), sum(x * y for x, y in both)
    codes = [sorted(set(v)) for v in (a, b)]
    ranks = [[codes[0].index(x) for x in a], [codes[1].index(y) for y in b]]
    lit = [(x, y) for x, y in both if x > 0]
    return {
        "pearson": pearson(a, b),
        "pearson_above": pearson(*zip(*high, strict=True)) if high else math.nan,
        "pearson_below": pearson(*zip(*low, strict=True)) if low else math.nan,
        "spearman": scipy.stats.spearmanr(*ranks).statistic,
        "kendall_tau": scipy.stats.kendalltau(*ranks).statistic,
        "manders_m1": over(sum(x for x, y in both if y > 0), sum(a)),
        "manders_m2": over(sum(y for x, y in both if x > 0), sum(b)),
        "manders_tm1": over(sum(x for x, y in both if y >= t2 and y > 0), sum(a)),
        "manders_tm2": over(sum(y for x, y in both if x >= t1 and x > 0), sum(b)),
        "overlap": math.copysign(math.sqrt(Fraction(ab * ab, aa * bb)), ab),
        "overlap_k1": over(ab, aa),
        "li_icq": sum((x - mean_a) * (y - mean_b) >= 0 for x, y in both) / len(a) - 0.5,
        "intersection1": over(sum(y > 0 for x, y in lit), len(lit)),
        "n_above": sum(x >= t1 and y >= t2 for x, y in both),
        "n": len(a),
    }


def compare(found, wanted, names):
    for name in names:
        assert found[name].item() == pytest.approx(wanted[name], rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("chunks", [(6, 20), (4, 7)])
@pytest.mark.parametrize("few", [2**23, 10])
@pytest.mark.parametrize(("dtype", "offset"), OFFSETS)
def test_measures_at_any_offset(dtype, offset, few, chunks, monkeypatch):
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", few)
    a, b, values = pair(dtype, offset)
    ds = xr.Dataset({"image": (("c", "y", "x"), da.from_array(values, chunks=(1, *chunks)))})
    t1, t2 = sorted(a)[60], sorted(b)[50]
    found = ds.img.coloc.measure(thresholds=(t1, t2), measures=NAMES, manders_comparison=">=")
    assert "approximate" not in found.attrs["method"]
    names = [n for n in NAMES if n != "slope" and not (few == 10 and n in ("spearman", "kendall_tau"))]
    compare(found, expected(a, b, t1, t2), names)
    assert found.threshold1.item() == t1 if "threshold1" in found else True


@pytest.mark.parametrize("few", [2**23, 10])
@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_measures_over_all_of_the_range(dtype, few, monkeypatch):
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", few)
    a, b, values = pair(dtype, 0, step=2**32 + 1)
    ds = xr.Dataset({"image": (("c", "y", "x"), da.from_array(values, chunks=(1, 4, 7)))})
    t1, t2 = sorted(a)[60], sorted(b)[50]
    found = ds.img.coloc.measure(thresholds=(t1, t2), measures=NAMES)
    names = [n for n in NAMES if n != "slope" and not (few == 10 and n in ("spearman", "kendall_tau"))]
    compare(found, expected(a, b, t1, t2), names)


@pytest.mark.parametrize("few", [2**23, 10])
@pytest.mark.parametrize(("dtype", "offset"), [("i8", 2**62), ("u8", 2**63 + 7)])
def test_labels(dtype, offset, few, monkeypatch):
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", few)
    a, b, values = pair(dtype, offset)
    labels = np.repeat([1, 0, 4], 40).reshape(6, 20)
    ds = xr.Dataset({"image": (("c", "y", "x"), da.from_array(values, chunks=(2, 4, 9)))})
    t1, t2 = sorted(a)[60], sorted(b)[50]
    names = ["pearson", "pearson_below", "li_icq", "manders_tm1", "n_above", "n"]
    found = ds.img.coloc.measure(thresholds=(t1, t2), measures=names, labels=labels)
    for label in (1, 4):
        inside = (labels == label).ravel()
        part = [[v for v, k in zip(x, inside, strict=True) if k] for x in (a, b)]
        compare(found.sel(label=label), expected(*part, t1, t2), names)


@pytest.mark.parametrize("thresholds", ["costes", "costes_bisection", "otsu"])
@pytest.mark.parametrize(("dtype", "offset"), [("i8", 2**62), ("i8", -(2**63)), ("u8", 2**63 + 7), ("u8", 2**63 - 100)])
@pytest.mark.parametrize("few", [2**23, 10])
def test_automatic_thresholds_move_with_the_offset(dtype, offset, thresholds, few, monkeypatch):
    monkeypatch.setattr(pixel_measures, "FEW_PIXELS", few)
    rng = np.random.default_rng(3)
    a = rng.integers(0, 70000, (20, 20))
    low = np.stack([a, a // 2 + rng.integers(0, 9000, a.shape)])
    options = {"thresholds": thresholds, "measures": ["threshold1", "n_above", "rwc1", "spearman"]}
    high = np.array([[int(v) + offset for v in x.ravel()] for x in low], dtype).reshape(low.shape)
    found, moved = (
        xr.Dataset({"image": (("c", "y", "x"), v)}).img.coloc.measure(**options) for v in (low.astype(dtype), high)
    )
    assert moved.n_above.item() == pytest.approx(found.n_above.item(), abs=0 if few > 10 else 1)
    assert moved.spearman.item() == found.spearman.item()
    assert 0 < moved.n_above.item() < 400


@pytest.mark.parametrize("offset", [2**54, 2**62, 2**63 - 5])
def test_thresholds_of_tables_are_whole_numbers(offset):
    rng = np.random.default_rng(1)
    a = rng.integers(0, 200, 500)
    b = a // 2 + rng.integers(0, 50, 500)
    near = table_of(a, b)
    far = table_of(*(np.array([int(v) + offset for v in x], np.uint64) for x in (a, b)))
    assert otsu(far.a, far.count) == int(otsu(near.a, near.count)) + offset
    found = costes(far, limits=(0.0, 2.0**64))
    assert all(isinstance(t, int) for t in found)
    assert [t - offset for t in found] == [int(t) for t in costes(near, limits=(-1e9, 1e9))]


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_comparisons_with_any_threshold(dtype):
    info = np.iinfo(dtype)
    numbers = sorted({info.min, 0, 1, 2**53, 2**53 + 1, 2**62 + 3, int(info.max) - 1, int(info.max)})
    values = np.array(numbers, dtype)
    thresholds = [*numbers, -math.inf, math.inf, 0.5, -0.5, 2.0**53, 2.0**62, 2.0**63, 2.0**64, -(2.0**63), -1e30]
    for t in thresholds:
        limit = wide.bound(np.array([t], object), values.dtype)
        assert wide.above(values, limit).tolist() == [v > t for v in numbers], t
        assert wide.at_least(values, limit).tolist() == [v >= t for v in numbers], t
        assert wide.below(values, limit).tolist() == [v < t for v in numbers], t


@pytest.mark.parametrize("offset", [2**53, 2**62, 2**63])
def test_shift_and_significance_do_not_depend_on_an_offset(offset):
    rng = np.random.default_rng(4)
    a = rng.integers(0, 300, (16, 24))
    near = np.stack([a, np.roll(a, 2, axis=1) + rng.integers(0, 40, a.shape)]).astype("u8")
    far = near + np.uint64(offset)
    one, two = (xr.Dataset({"image": (("c", "y", "x"), v)}).img.coloc for v in (near, far))
    assert two.ccf(limit=4).values.tolist() == one.ccf(limit=4).values.tolist()
    found, moved = (c.significance(block=3, n=20) for c in (one, two))
    assert np.allclose(found.permuted, moved.permuted, rtol=1e-12, atol=1e-14)
    assert np.allclose(found.pearson, moved.pearson, rtol=1e-12)
    pytest.importorskip("skimage")
    assert (one.chromatic_shift().values == two.chromatic_shift().values).all()
