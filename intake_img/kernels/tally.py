"""Sums over regions of the scatter, exact: of tables of integers, and of chunks of float pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.kernels import exact, wide
from intake_img.kernels.conventions import FIELDS, Conventions
from intake_img.kernels.moments import Moments
from intake_img.kernels.runs import region_sums
from intake_img.kernels.scatter_regions import ICQ, TableRegions, masks, masks_around, masks_with_signs, without_icq
from intake_img.kernels.tables import Table

__all__ = [
    "Around",
    "Sums",
    "around",
    "around_rows",
    "as_integers",
    "moments",
    "moments_in",
    "moments_of_pixels",
    "tally",
    "tally_pixels",
]

Sums = dict[tuple[str, str], Any]
"""(region, sum) to Python integers of each group; products in the square of the unit of the channels."""
Around = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Of each channel the whole numbers at or below, and at or above, its mean in each group."""
_SLICE = 2**18
"""Pixels that stay in a cache; sums of their products, of 32 bits each, are exact in float64."""
_MOST_PIXELS = 2**24
"""Wide integers of more pixels are not repeated one by one."""
_LINE = 2**13
"""Pixels of a product of vectors that a linear algebra library computes in one thread."""


def tally(
    table: Table, need: Mapping[str, tuple[str, ...]], t1: np.ndarray, t2: np.ndarray, rules: Conventions
) -> Sums:
    """Return the sums over regions of each group of a table, exact.

    Parameters
    ----------
    table : Table
    need : mapping
        See `fields`.
    t1, t2 : ndarray of shape (G,)
        Thresholds of each group.
    rules : Conventions
    """
    if table.by_pixel:
        return _tally_rows(table, need, t1, t2, rules)
    t1, t2 = np.asarray(t1, float), np.asarray(t2, float)
    out: Sums = dict(region_sums(table, without_icq(need), TableRegions(t1, t2, rules)))
    if "icq_positive" in need:
        means = around(out, (table.a.dtype, table.b.dtype))
        out |= region_sums(table, ICQ, TableRegions(t1, t2, rules, means))
    return out


def _tally_rows(
    table: Table, need: Mapping[str, tuple[str, ...]], t1: np.ndarray, t2: np.ndarray, rules: Conventions
) -> Sums:
    """The same of floats and wide integers, pixel by pixel."""
    a, b, group = table.pixels()
    groups = np.arange(table.ngroups)
    limits = wide.bound(t1, a.dtype)[group], wide.bound(t2, b.dtype)[group]
    sums = as_integers(tally_pixels(a, b, group, without_icq(need), *limits, rules), groups)
    if "icq_positive" in need:
        means: Any
        if a.dtype.kind == "f":
            means = tuple(m[group] for m in moments_in(sums, "all", table.ngroups, exact.LOWEST).means())
        else:
            means = around_rows(around(sums, (a.dtype, b.dtype), exact.LOWEST), group)
        sums |= as_integers(tally_pixels(a, b, group, ICQ, *limits, rules, means), groups)
    return sums


def around(sums: Sums, dtypes: tuple[np.dtype, np.dtype], scale: int = 0) -> Around:
    """Return the whole numbers at or below, and at or above, the mean of both channels of integers in each group.

    Parameters
    ----------
    sums : dict
        With the sums of all pixels.
    dtypes : (dtype, dtype)
        Of the channels.
    scale : int
        Sums are in units of ``2**scale``.
    """
    n = [max(int(k), 1) for k in sums["all", "n"]]
    out = []
    for name, dtype in zip(("a", "b"), dtypes, strict=True):
        kind = np.uint64 if dtype == np.uint64 else np.int64
        total = [int(t) >> -scale for t in sums["all", name]]
        low = np.array([t // k for t, k in zip(total, n, strict=True)], kind)
        out.append((low, np.array([-(-t // k) for t, k in zip(total, n, strict=True)], kind)))
    return out[0], out[1]


def around_rows(means: Around, rows: np.ndarray) -> Around:
    """Return what `around` found of the groups of single pixels."""
    (low_a, high_a), (low_b, high_b) = means
    return (low_a[rows], high_a[rows]), (low_b[rows], high_b[rows])


def tally_pixels(
    a: np.ndarray,
    b: np.ndarray,
    group: np.ndarray | None,
    need: Mapping[str, tuple[str, ...]],
    t1: Any,
    t2: Any,
    rules: Conventions,
    means: Any = None,
) -> dict[tuple[str, str], exact.ExactSum]:
    """Return the sums over regions of the pixels of a chunk; chunks are added with `exact.add`, in any order.

    Parameters
    ----------
    a, b : ndarray of shape (N,), float or integers
    group : ndarray of shape (N,), int64, or None for one group
        Any numbers below 2**50.
    need : mapping
    t1, t2 : float, ndarray of shape (N,) or `wide.Bound`
        Thresholds at each pixel, as `wide.bound` makes them for the dtype of the pixels.
    rules : Conventions
    means : (ndarray, ndarray) or Around, optional
        Means at each pixel, of integers as `around` returns them, for the regions of Li's ICQ, which are left out
        without.
    """
    if group is None and all(x.dtype.kind in "iu" and x.dtype.itemsize <= 2 for x in (a, b)):
        return _tally_small(a, b, need, t1, t2, rules, means)
    regions = masks_with_signs(a, b, t1, t2, rules, means)
    single = all(x.dtype.kind == "f" and x.dtype.itemsize <= 4 for x in (a, b))
    out: dict[tuple[str, str], exact.ExactSum] = {}
    for region, sums_of in need.items():
        if region not in regions:
            continue
        keep = regions[region]()
        part = {"a": a, "b": b} if keep is None else {"a": a[keep], "b": b[keep]}
        floats = {k: wide.parts(v) for k, v in part.items()}
        index = group if keep is None or group is None else group[keep]
        for name in sums_of:
            out[region, name] = _exact(name, floats, index, single)
    return out


def _tally_small(
    a: np.ndarray,
    b: np.ndarray,
    need: Mapping[str, tuple[str, ...]],
    t1: Any,
    t2: Any,
    rules: Conventions,
    means: Any,
) -> dict[tuple[str, str], exact.ExactSum]:
    """The same of integers of at most 16 bits, in one group."""
    lowest = int(np.iinfo(a.dtype).min) - 1
    t1, t2 = _whole(t1, lowest), _whole(t2, lowest)
    whole_means = None if means is None else [int(np.ravel(m)[0]) for pair in means for m in pair]
    possible = [r for r in need if r not in ICQ or whole_means is not None]
    totals = {(region, name): 0 for region in possible for name in need[region]}
    factors = {"a": np.zeros(_SLICE), "b": np.zeros(_SLICE), "n": np.ones(_SLICE)}
    for start in range(0, len(a), _SLICE):
        x, y = a[start : start + _SLICE], b[start : start + _SLICE]
        regions = masks(x, y, t1, t2, rules)
        if whole_means is not None:
            regions |= masks_around(x, y, *whole_means)
        whole: dict[str, int] = {}
        for region in possible:
            keep = regions[region]()
            n = len(x) if keep is None else int(np.count_nonzero(keep))
            if not n:
                continue
            if n < len(x):
                found = _small_sums(x, y, keep, [name for name in need[region] if name != "n"], factors)
            else:
                missing = [name for name in need[region] if name != "n" and name not in whole]
                whole |= _small_sums(x, y, None, missing, factors)
                found = whole
            for name in need[region]:
                totals[region, name] += n if name == "n" else found[name]
    return {
        key: exact.counts(total)
        if key[1] == "n"
        else exact.exact_sums(np.array([total >> 50 << 50, total & (2**50 - 1)], float))
        for key, total in totals.items()
    }


def _scalar(value: Any) -> float:
    return float(np.ravel(value)[0])


def _whole(threshold: Any, lowest: int) -> float | int:
    """A threshold that integers are compared with as integers, where it is whole."""
    value = _scalar(threshold)
    if value == -np.inf:
        return lowest
    return int(value) if abs(value) < 2**31 and value == int(value) else value


def _small_sums(
    x: np.ndarray, y: np.ndarray, keep: np.ndarray | None, names: list[str], factors: dict[str, np.ndarray]
) -> dict[str, int]:
    """Sums over the pixels to keep, by way of `factors`: arrays in which zeros follow the pixels."""
    for channel, values in (("a", x), ("b", y)):
        if any(channel in name for name in names):
            factors[channel][: len(x)] = values if keep is None else values * keep
            factors[channel][len(x) :] = 0
    lines = {k: v.reshape(-1, _LINE) for k, v in factors.items()}
    pairs = {name: (lines[name[0]], lines[name[1] if len(name) == 2 else "n"]) for name in names}
    return {name: int((p[:, None, :] @ q[:, :, None]).sum()) for name, (p, q) in pairs.items()}


def _exact(
    name: str, floats: dict[str, tuple[np.ndarray, ...]], index: np.ndarray | None, single: bool
) -> exact.ExactSum:
    if name == "n":
        return exact.counts(len(floats["a"][0]), index)
    if len(name) == 1:
        terms: Any = floats[name]
    else:
        pairs = [(x, y) for x in floats[name[0]] for y in floats[name[1]]]
        # products of two mantissas of 24 bits are exact
        terms = [x * y for x, y in pairs] if single else [p for x, y in pairs for p in exact.products(x, y)]
    sums = [exact.exact_sums(t, index) for t in terms]
    return sums[0] if len(sums) == 1 else exact.add(sums)


def as_integers(parts: Mapping[tuple[str, str], exact.ExactSum], groups: np.ndarray) -> Sums:
    """Return the sums as Python integers for each of the sorted `groups`; products in units of
    ``2**(2*exact.LOWEST)``.
    """
    out: Sums = {}
    for (region, name), sums in parts.items():
        if name == "n":
            out[region, name] = exact.count_totals(sums, groups)
        else:
            total = exact.totals(sums, groups)
            out[region, name] = total << -exact.LOWEST if len(name) == 2 else total
    return out


def moments_in(sums: Sums, region: str, size: int, scale: int) -> Moments:
    nothing = np.zeros(size, object)
    return Moments(scale=scale, **{k: sums.get((region, k), nothing) for k in FIELDS})


def moments(table: Table) -> Moments:
    """Return the moments of each group of a table."""
    if table.by_pixel:
        if table.a.dtype.kind == "f" and (table.count != 1).any():
            return _moments_of_bins(table)
        if table.a.dtype.kind != "f" and int(table.count.sum()) > _MOST_PIXELS:
            return _moments_weighted(table)
        return moments_of_pixels(*table.pixels(), table.ngroups)
    sums = region_sums(table, {"all": FIELDS}, lambda run, _: run.all())
    n, a, b, aa, bb, ab = (sums["all", k] for k in FIELDS)
    return Moments(n, a, b, aa, bb, ab)


def moments_of_pixels(a: np.ndarray, b: np.ndarray, group: np.ndarray, ngroups: int) -> Moments:
    """Return the moments of pixels that are floats."""
    every = {"all": FIELDS}
    sums = as_integers(tally_pixels(a, b, group, every, 0, 0, Conventions()), np.arange(ngroups))
    return Moments(scale=exact.LOWEST, **{k: sums["all", k] for k in FIELDS})


def _moments_weighted(table: Table) -> Moments:
    """Moments of integers that stand for many pixels each, as Python integers."""
    totals: dict[str, Any] = {name: np.zeros(table.ngroups, object) for name in FIELDS}
    for k in range(0, len(table), _SLICE):
        rows = table.select(slice(k, k + _SLICE))
        columns = {"a": rows.a, "b": rows.b}
        for name, total in totals.items():
            factors = [] if name == "n" else [columns[c] for c in name]
            exact.add_products(total, rows.group, 1, rows.count, *factors)
    return Moments(**totals)


def _moments_of_bins(table: Table) -> Moments:
    """Moments of floats that stand for several pixels each: bins, so that rounding of the products does not matter."""
    w, a, b = table.count.astype(float), table.a, table.b
    terms = {"a": w * a, "b": w * b, "aa": w * a * a, "bb": w * b * b, "ab": w * a * b}
    groups = np.arange(table.ngroups)
    group = table.group if table.ngroups > 1 else None
    found = {k: exact.totals(exact.exact_sums(v, group), groups) for k, v in terms.items()}
    n = exact.grouped_sum(table.group, table.ngroups, table.count)
    unit = -exact.LOWEST
    squares = {k: found[k] << unit for k in ("aa", "bb", "ab")}
    return Moments(n=n, a=found["a"], b=found["b"], scale=exact.LOWEST, **squares)
