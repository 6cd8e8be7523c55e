"""Measures of tables of pixels: which of them depend on thresholds, and what becomes of them without."""

from __future__ import annotations

import numpy as np
import pytest

from intake_img.kernels.conventions import ALL, EXTRA, Conventions
from intake_img.kernels.measures import measure
from intake_img.kernels.tables import table_of

RNG = np.random.default_rng(0)
GROUP = np.repeat([0, 1], 40)
DEPENDENT = {
    *("pearson_above", "pearson_below", "manders_tm1", "manders_tm2", "threshold1", "threshold2"),
    *("n_above", "fraction_above"),
}
NAMES = (*ALL, *EXTRA)


def pair(dtype):
    a, b = RNG.integers(0, 200, (2, 80)).astype(dtype)
    return table_of(a, b, GROUP, 2)


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4"])
def test_without_both_thresholds_measures_that_depend_on_them_are_nan(dtype):
    table, limits = pair(dtype), np.array([50.0, 60.0])
    for t1, t2 in ((None, None), (limits, None), (None, limits)):
        found = measure(table, NAMES, t1, t2)
        assert set(found) == set(NAMES)
        assert {name for name, values in found.items() if np.isnan(values).all()} == DEPENDENT


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4"])
@pytest.mark.parametrize("region", ["all", "above"])
def test_a_group_whose_thresholds_are_undefined_has_nan(dtype, region):
    table, rules = pair(dtype), Conventions(overlap_region=region)
    t1, t2 = np.array([50.0, np.nan]), np.array([60.0, 60.0])
    found = measure(table, NAMES, t1, t2, rules)
    lost = {*DEPENDENT, "rwc1", "rwc2"} - {"threshold2"}
    lost |= {"overlap", "overlap_k1", "overlap_k2"} if region == "above" else set()
    assert {name for name, values in found.items() if np.isnan(values[1])} == lost
    assert not [name for name, values in found.items() if np.isnan(values[0])]
    alone = measure(table.of_group(0), NAMES, t1[:1], t2[:1], rules)
    for name in NAMES:
        assert found[name][0] == alone[name][0], name


def test_overlap_above_thresholds_is_of_the_pixels_above_both():
    a, b = RNG.integers(0, 200, (2, 90)).astype("u1")
    found = measure(
        table_of(a, b), ["overlap"], np.array([50.0]), np.array([60.0]), Conventions(overlap_region="above")
    )
    x, y = a[(a >= 50) & (b >= 60)].astype(float), b[(a >= 50) & (b >= 60)].astype(float)
    np.testing.assert_allclose(found["overlap"], (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
