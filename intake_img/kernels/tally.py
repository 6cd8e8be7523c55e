"""Sums over regions of the scatter, exact: of tables of integers, and of chunks of float pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.kernels import exact
from intake_img.kernels.conventions import FIELDS, Conventions
from intake_img.kernels.moments import Moments
from intake_img.kernels.regions import ICQ, TableRegions, masks, masks_around, masks_with_signs, without_icq
from intake_img.kernels.runs import region_sums
from intake_img.kernels.tables import Table

__all__ = ["Sums", "as_integers", "moments", "moments_in", "moments_of_pixels", "tally", "tally_pixels"]

Sums = dict[tuple[str, str], Any]
"""(region, sum) to Python integers of each group; products in the square of the unit of the channels."""
_SLICE = 2**18
"""Pixels that stay in a cache; sums of their products, of 32 bits each, are exact in float64."""
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
    if table.a.dtype.kind == "f":
        parts = tally_pixels(table.a, table.b, table.group, need, t1[table.group], t2[table.group], rules)
        sums = as_integers(parts, np.arange(table.ngroups))
        if "icq_positive" in need:
            means = tuple(m[table.group] for m in moments_in(sums, "all", table.ngroups, exact.LOWEST).means())
            signs = tally_pixels(table.a, table.b, table.group, ICQ, t1, t2, rules, means)  # type: ignore[arg-type]
            sums |= as_integers(signs, np.arange(table.ngroups))
        return sums
    out: Sums = dict(region_sums(table, without_icq(need), TableRegions(t1, t2, rules)))
    if "icq_positive" in need:
        means = tuple(_around(out["all", name], out["all", "n"]) for name in ("a", "b"))
        out |= region_sums(table, ICQ, TableRegions(t1, t2, rules, means))  # type: ignore[arg-type]
    return out


def _around(total: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers at or below, and at or above, the mean of each group."""
    low = np.array([t // max(k, 1) for t, k in zip(total, n, strict=True)], np.int64)
    high = np.array([-(-t // max(k, 1)) for t, k in zip(total, n, strict=True)], np.int64)
    return low, high


def tally_pixels(
    a: np.ndarray,
    b: np.ndarray,
    group: np.ndarray | None,
    need: Mapping[str, tuple[str, ...]],
    t1: Any,
    t2: Any,
    rules: Conventions,
    means: tuple[Any, Any] | None = None,
) -> dict[tuple[str, str], exact.ExactSum]:
    """Return the sums over regions of a chunk of float pixels; chunks are added with `exact.add`, in any order.

    Parameters
    ----------
    a, b : ndarray of shape (N,), float
    group : ndarray of shape (N,), int64, or None for one group
        Any numbers below 2**50.
    need : mapping
    t1, t2 : float or ndarray of shape (N,)
        Thresholds at each pixel.
    rules : Conventions
    means : (float or ndarray, float or ndarray), optional
        Means at each pixel, for the regions of Li's ICQ, which are left out without.
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
        part = {k: v.astype(np.float64) for k, v in part.items()}
        index = group if keep is None or group is None else group[keep]
        for name in sums_of:
            out[region, name] = _exact(name, part, index, single)
    return out


def _tally_small(
    a: np.ndarray, b: np.ndarray, need: Mapping[str, tuple[str, ...]], t1: Any, t2: Any, rules: Conventions,
    means: tuple[Any, Any] | None,
) -> dict[tuple[str, str], exact.ExactSum]:  # fmt: skip
    """The same of integers of at most 16 bits, in one group."""
    lowest = int(np.iinfo(a.dtype).min) - 1
    t1, t2 = _whole(t1, lowest), _whole(t2, lowest)
    around = None if means is None else [_whole(f(_scalar(m)), lowest) for m in means for f in (np.floor, np.ceil)]
    possible = [r for r in need if r not in ICQ or around is not None]
    totals = {(region, name): 0 for region in possible for name in need[region]}
    factors = {"a": np.zeros(_SLICE), "b": np.zeros(_SLICE), "n": np.ones(_SLICE)}
    for start in range(0, len(a), _SLICE):
        x, y = a[start : start + _SLICE], b[start : start + _SLICE]
        regions = masks(x, y, t1, t2, rules)
        if around is not None:
            regions |= masks_around(x, y, *around)
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


def _exact(name: str, part: dict[str, np.ndarray], index: np.ndarray | None, single: bool) -> exact.ExactSum:
    if name == "n":
        return exact.counts(len(part["a"]), index)
    if len(name) == 1:
        return exact.exact_sums(part[name], index)
    x, y = part[name[0]], part[name[1]]
    if single:  # products of two mantissas of 24 bits are exact
        return exact.exact_sums(x * y, index)
    return exact.add([exact.exact_sums(p, index) for p in exact.products(x, y)])


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
    if table.a.dtype.kind == "f":
        if (table.count != 1).any():
            return _moments_of_bins(table)
        return moments_of_pixels(table.a, table.b, table.group, table.ngroups)
    sums = region_sums(table, {"all": FIELDS}, lambda run, _: run.all())
    n, a, b, aa, bb, ab = (sums["all", k] for k in FIELDS)
    return Moments(n, a, b, aa, bb, ab)


def moments_of_pixels(a: np.ndarray, b: np.ndarray, group: np.ndarray, ngroups: int) -> Moments:
    """Return the moments of pixels that are floats."""
    every = {"all": FIELDS}
    sums = as_integers(tally_pixels(a, b, group, every, 0, 0, Conventions()), np.arange(ngroups))
    return Moments(scale=exact.LOWEST, **{k: sums["all", k] for k in FIELDS})


def _moments_of_bins(table: Table) -> Moments:
    """Moments of floats that stand for several pixels each: bins, so that rounding of the products is no matter."""
    w, a, b = table.count.astype(float), table.a, table.b
    terms = {"a": w * a, "b": w * b, "aa": w * a * a, "bb": w * b * b, "ab": w * a * b}
    groups = np.arange(table.ngroups)
    group = table.group if table.ngroups > 1 else None
    found = {k: exact.totals(exact.exact_sums(v, group), groups) for k, v in terms.items()}
    n = exact.grouped_sum(table.group, table.ngroups, table.count)
    unit = -exact.LOWEST
    squares = {k: found[k] << unit for k in ("aa", "bb", "ab")}
    return Moments(n=n, a=found["a"], b=found["b"], scale=exact.LOWEST, **squares)
