"""The measures of colocalization of two channels, for all groups of a table at once.

The formulas are the field's (see `FORMULAS` in the documentation of ``ds.img.coloc``); what tools do differently is an
entry of `Conventions`. Undefined is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np

from intake_img.kernels import exact, ranks
from intake_img.kernels.moments import FIELDS, Moments
from intake_img.kernels.runs import Rows, Run, region_sums
from intake_img.kernels.tables import Table

__all__ = [
    "ALL",
    "EXTRA",
    "Conventions",
    "conclude",
    "fields",
    "measure",
    "needs_thresholds",
    "ranked",
    "tally",
    "tally_pixels",
    "unused",
]

ALL = (
    "pearson", "pearson_above", "pearson_below", "spearman", "kendall_tau", "manders_m1", "manders_m2", "manders_tm1",
    "manders_tm2", "overlap", "overlap_k1", "overlap_k2", "li_icq", "rwc1", "rwc2", "slope", "intercept", "threshold1",
    "threshold2", "n",
)  # fmt: skip
"""The measures of one call, by name."""
EXTRA = ("spearman_t", "intersection1", "intersection2", "n_above", "fraction_above")
"""Measures that are computed when they are asked for."""


@dataclass(frozen=True)
class Conventions:
    """What tools do differently, by name; the defaults are Coloc 2's, but ``above="and"``.

    Parameters
    ----------
    above : {"and", "or"}
        `pearson_above` over pixels above both thresholds, or (Coloc 2) above any.
    below : {"or", "and"}
        `pearson_below` over pixels below any threshold (Coloc 2, CellProfiler), or (JACoP) below both.
    manders_denominator : {"total", "above"}
        Thresholded Manders over all intensity (Coloc 2; the own threshold is not applied), or over the intensity above
        the own threshold (JACoP, CellProfiler).
    manders_comparison : {">=", ">", None}
        How thresholded Manders compares; None is ``">="`` for ``"total"`` and ``">"`` for ``"above"``.
    icq_zero : {"positive", "negative", "excluded"}
        Where pixels at the mean of a channel count in Li's ICQ: Coloc 2, JACoP, napari-colocalization.
    overlap_region : {"all", "above"}
        Overlap coefficients over all pixels, or (CellProfiler) over those at or above both thresholds.
    rwc_ranks : {"label", "all"}
        Ranks within each label, or (CellProfiler) over all labels together.
    fit : {"orthogonal", "ols"}
        `slope` and `intercept` by total least squares (Coloc 2), or by least squares of b on a.
    """

    above: str = "and"
    below: str = "or"
    manders_denominator: str = "total"
    manders_comparison: str | None = None
    icq_zero: str = "positive"
    overlap_region: str = "all"
    rwc_ranks: str = "label"
    fit: str = "orthogonal"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(map(repr, known))}")


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "above": ("and", "or"),
    "below": ("or", "and"),
    "manders_denominator": ("total", "above"),
    "manders_comparison": (None, ">=", ">"),
    "icq_zero": ("positive", "negative", "excluded"),
    "overlap_region": ("all", "above"),
    "rwc_ranks": ("label", "all"),
    "fit": ("orthogonal", "ols"),
}


def needs_thresholds(names: Iterable[str], rules: Conventions) -> bool:
    """True if a measure among `names` depends on thresholds."""
    dependent = {"pearson_above", "pearson_below", "manders_tm1", "manders_tm2", "rwc1", "rwc2", "threshold1",
                 "threshold2", "n_above", "fraction_above"}  # fmt: skip
    return bool(dependent & set(names)) or (rules.overlap_region == "above" and any(n[:7] == "overlap" for n in names))


def unused(names: Iterable[str], rules: Conventions, thresholds: bool, labels: bool) -> list[str]:
    """Return the conventions that differ from their defaults but change none of the measures asked for.

    Parameters
    ----------
    names : iterable of str
    rules : Conventions
    thresholds, labels : bool
        Whether there are thresholds, and labels.
    """
    tm = {"manders_tm1", "manders_tm2", "n_above", "fraction_above"}
    rwc, line = {"rwc1", "rwc2"} if labels else set(), {"slope", "intercept"}
    users: dict[str, set[str]] = {"icq_zero": {"li_icq"}, "rwc_ranks": rwc, "fit": line}
    if thresholds:
        overlap = {"overlap", "overlap_k1", "overlap_k2"}
        users |= {"above": {"pearson_above"}, "below": {"pearson_below"}, "overlap_region": overlap}
        users |= {"manders_denominator": tm, "manders_comparison": tm}
    given = [f.name for f in dataclass_fields(rules) if getattr(rules, f.name) != f.default]
    return [name for name in given if not users.get(name, set()) & set(names)]


def fields(names: Iterable[str], rules: Conventions, thresholds: bool) -> dict[str, tuple[str, ...]]:
    """Return which sums over which region of the scatter the measures are made of.

    Parameters
    ----------
    names : iterable of str
    rules : Conventions
    thresholds : bool
        Whether there are thresholds.

    Returns
    -------
    dict of str to tuple of str
        Region to sums among ``n a b aa bb ab``.
    """
    wanted = set(names)
    if unknown := wanted - set(ALL) - set(EXTRA):
        raise ValueError(f"measures hold {sorted(unknown)[0]!r}: expected names among {', '.join(ALL + EXTRA)}")
    every = FIELDS
    moments = wanted & {"pearson", "slope", "intercept", "overlap", "overlap_k1", "overlap_k2"}
    need: dict[str, tuple[str, ...]] = {"all": every if moments else ("n", "a", "b")}
    table: list[tuple[set[str], str, tuple[str, ...]]] = [
        ({"manders_m1"}, "b_lit", ("a",)),
        ({"manders_m2"}, "a_lit", ("b",)),
        ({"intersection1"}, "a_lit", ("n",)),
        ({"intersection2"}, "b_lit", ("n",)),
        ({"intersection1", "intersection2"}, "both_lit", ("n",)),
        ({"li_icq"}, "icq_positive", ("n",)),
        ({"li_icq"}, "icq_zero", ("n",)),
        ({"rwc1"}, "a_at_least", ("a",)),
        ({"rwc2"}, "b_at_least", ("b",)),
    ]
    if rules.overlap_region == "above":
        table.append(({"overlap", "overlap_k1", "overlap_k2"}, "both_at_least", ("aa", "bb", "ab")))
    if thresholds:
        total = rules.manders_denominator == "total"
        table += [
            ({"pearson_above"}, "above", every),
            ({"pearson_below"}, "below", every),
            ({"manders_tm1"}, "b_high_lit" if total else "both_high", ("a",)),
            ({"manders_tm2"}, "a_high_lit" if total else "both_high", ("b",)),
            ({"manders_tm1"} if not total else set(), "a_high", ("a",)),
            ({"manders_tm2"} if not total else set(), "b_high", ("b",)),
            ({"n_above", "fraction_above"}, "both_high", ("n",)),
        ]
    for measures, region, sums in table:
        if measures & wanted:
            need[region] = tuple(dict.fromkeys(need.get(region, ()) + sums))
    return need


def _inclusive(rules: Conventions) -> bool:
    return (rules.manders_comparison or (">=" if rules.manders_denominator == "total" else ">")) == ">="


def _regions(
    a: np.ndarray, b: np.ndarray, t1: np.ndarray, t2: np.ndarray, rules: Conventions
) -> dict[str, Callable[[], np.ndarray | None]]:
    """The regions of the scatter as functions that make their masks; thresholds are given row by row."""
    high = np.greater_equal if _inclusive(rules) else np.greater
    above = np.logical_and if rules.above == "and" else np.logical_or
    below = np.logical_and if rules.below == "and" else np.logical_or
    return {
        "all": lambda: None,
        "a_lit": lambda: a > 0,
        "b_lit": lambda: b > 0,
        "both_lit": lambda: (a > 0) & (b > 0),
        "above": lambda: above(a > t1, b > t2),
        "below": lambda: below(a < t1, b < t2),
        "a_high": lambda: high(a, t1),
        "b_high": lambda: high(b, t2),
        "both_high": lambda: high(a, t1) & high(b, t2),
        "a_high_lit": lambda: high(a, t1) & (a > 0),
        "b_high_lit": lambda: high(b, t2) & (b > 0),
        "a_at_least": lambda: a >= t1,
        "b_at_least": lambda: b >= t2,
        "both_at_least": lambda: (a >= t1) & (b >= t2),
    }


Sums = dict[tuple[str, str], Any]
"""(region, sum) to Python integers of each group; products in the square of the unit of the channels."""


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
            means = tuple(m[table.group] for m in _moments(sums, "all", table.ngroups, exact.LOWEST).means())
            signs = tally_pixels(table.a, table.b, table.group, _ICQ, t1, t2, rules, means)  # type: ignore[arg-type]
            sums |= as_integers(signs, np.arange(table.ngroups))
        return sums
    out: Sums = dict(region_sums(table, _without_icq(need), _Regions(t1, t2, rules)))
    if "icq_positive" in need:
        means = tuple(_around(out["all", name], out["all", "n"]) for name in ("a", "b"))
        out |= region_sums(table, _ICQ, _Regions(t1, t2, rules, means))  # type: ignore[arg-type]
    return out


_ICQ = {"icq_positive": ("n",), "icq_zero": ("n",)}


def _without_icq(need: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {region: of for region, of in need.items() if region not in _ICQ}


def _around(total: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers at or below, and at or above, the mean of each group."""
    low = np.array([t // max(k, 1) for t, k in zip(total, n, strict=True)], np.int64)
    high = np.array([-(-t // max(k, 1)) for t, k in zip(total, n, strict=True)], np.int64)
    return low, high


class _Regions:
    """The regions of the scatter as rows of the runs of a table of integers; see `_regions`."""

    def __init__(self, t1: np.ndarray, t2: np.ndarray, rules: Conventions, means: Any = None) -> None:
        self.t1, self.t2, self.rules, self.means = t1, t2, rules, means
        self.inclusive = _inclusive(rules)

    def __call__(self, run: Run, name: str) -> Rows:
        t1, t2 = self.t1[run.group], self.t2[run.group]
        zero = np.zeros(len(run.a), np.int64)
        high = (run.at_least if self.inclusive else run.above)(t2) if "high" in name else zero
        a_high = run.a >= t1 if self.inclusive else run.a > t1
        every, none = run.all(), run.none()
        if name == "all":
            return every
        if name in ("a_lit", "a_high", "a_high_lit", "a_at_least"):
            chosen = {"a_lit": run.a > 0, "a_high": a_high, "a_high_lit": a_high & (run.a > 0)}
            return run.where(chosen.get(name, run.a >= t1), every, none)
        if name in ("b_lit", "both_lit"):
            lit = run.above(zero), run.stop
            return lit if name == "b_lit" else run.where(run.a > 0, lit, none)
        if name == "above":
            above = run.above(t2), run.stop
            return run.where(run.a > t1, *((above, none) if self.rules.above == "and" else (every, above)))
        if name == "below":
            below = run.first, run.below(t2)
            return run.where(run.a < t1, *((below, none) if self.rules.below == "and" else (every, below)))
        if name == "b_high_lit":
            return np.maximum(high, run.above(zero)), run.stop
        if name in ("b_high", "both_high"):
            return (high, run.stop) if name == "b_high" else run.where(a_high, (high, run.stop), none)
        if name in ("b_at_least", "both_at_least"):
            rows = run.at_least(t2), run.stop
            return rows if name == "b_at_least" else run.where(run.a >= t1, rows, none)
        return self._around_means(run, name)

    def _around_means(self, run: Run, name: str) -> Rows:
        (low_a, high_a), (low_b, high_b) = ((m[run.group] for m in pair) for pair in self.means)
        above, below = run.above(low_b), run.below(high_b)
        more, less = run.a > low_a, run.a < high_a
        if name == "icq_positive":
            return run.where(more, (above, run.stop), run.where(less, (run.first, below), run.none()))
        return run.where(more | less, (below, above), run.all())  # where b is the mean: none, or one row


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
    regions = _regions_with_signs(a, b, t1, t2, rules, means)
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


def _regions_with_signs(
    a: np.ndarray, b: np.ndarray, t1: Any, t2: Any, rules: Conventions, means: tuple[Any, Any] | None
) -> dict[str, Callable[[], np.ndarray | None]]:
    regions = _regions(a, b, t1, t2, rules)
    if means is not None:
        sign = np.sign(a - means[0]) * np.sign(b - means[1])
        regions |= {"icq_positive": lambda: sign > 0, "icq_zero": lambda: sign == 0}
    return regions


_SLICE = 2**18
"""Pixels that stay in a cache; sums of their products, of 32 bits each, are exact in float64."""
_LINE = 2**13
"""Pixels of a product of vectors that a linear algebra library computes in one thread."""


def _tally_small(
    a: np.ndarray, b: np.ndarray, need: Mapping[str, tuple[str, ...]], t1: Any, t2: Any, rules: Conventions,
    means: tuple[Any, Any] | None,
) -> dict[tuple[str, str], exact.ExactSum]:  # fmt: skip
    """The same of integers of at most 16 bits, in one group."""
    lowest = int(np.iinfo(a.dtype).min) - 1
    t1, t2 = _whole(t1, lowest), _whole(t2, lowest)
    around = None if means is None else [_whole(f(_scalar(m)), lowest) for m in means for f in (np.floor, np.ceil)]
    possible = [r for r in need if r not in _ICQ or around is not None]
    totals = {(region, name): 0 for region in possible for name in need[region]}
    factors = {"a": np.zeros(_SLICE), "b": np.zeros(_SLICE), "n": np.ones(_SLICE)}
    for start in range(0, len(a), _SLICE):
        x, y = a[start : start + _SLICE], b[start : start + _SLICE]
        regions = _regions(x, y, t1, t2, rules)
        if around is not None:
            regions |= _regions_around(x, y, *around)
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


def _regions_around(
    x: np.ndarray, y: np.ndarray, low_a: float, high_a: float, low_b: float, high_b: float
) -> dict[str, Callable[[], np.ndarray | None]]:
    """The regions of Li's ICQ; means lie between two whole numbers, or are one."""
    return {
        "icq_positive": lambda: ((x > low_a) & (y > low_b)) | ((x < high_a) & (y < high_b)),
        "icq_zero": lambda: ~(((x > low_a) | (x < high_a)) & ((y > low_b) | (y < high_b))),
    }


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


def _moments(sums: Sums, region: str, size: int, scale: int) -> Moments:
    nothing = np.zeros(size, object)
    return Moments(scale=scale, **{k: sums.get((region, k), nothing) for k in FIELDS})


def means_of(sums: Sums, size: int, scale: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of both channels in each group."""
    return _moments(sums, "all", size, scale).means()


def _over(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([p / q if q else math.nan for p, q in zip(x, y, strict=True)], dtype=float)


def conclude(
    sums: Sums, names: Iterable[str], t1: np.ndarray | None, t2: np.ndarray | None, rules: Conventions, scale: int = 0
) -> dict[str, np.ndarray]:
    """Return the measures that follow from sums: all but the ranks'.

    Parameters
    ----------
    sums : dict
        See `tally`.
    names : iterable of str
    t1, t2 : ndarray of shape (G,), optional
    rules : Conventions
    scale : int
        Sums of a channel are in units of ``2**scale``.
    """
    wanted = set(names)
    n = sums["all", "n"]
    size = len(n)
    whole = _moments(sums, "all", size, scale)
    out: dict[str, np.ndarray] = {"n": n.astype(float)}
    if ("all", "ab") in sums:
        out["pearson"] = whole.pearson()
        out["slope"], out["intercept"] = whole.line(rules.fit)
        region = "both_at_least" if rules.overlap_region == "above" else "all"
        out["overlap"], out["overlap_k1"], out["overlap_k2"] = _moments(sums, region, size, scale).overlap()
    if "li_icq" in wanted:
        positive, zero = sums["icq_positive", "n"], sums["icq_zero", "n"]
        if rules.icq_zero == "positive":
            positive = positive + zero
        out["li_icq"] = _over(positive, n - zero if rules.icq_zero == "excluded" else n) - 0.5
    for name, part, total in (
        ("manders_m1", ("b_lit", "a"), ("all", "a")),
        ("manders_m2", ("a_lit", "b"), ("all", "b")),
        ("intersection1", ("both_lit", "n"), ("a_lit", "n")),
        ("intersection2", ("both_lit", "n"), ("b_lit", "n")),
    ):
        if name in wanted:
            out[name] = _over(sums[part], sums[total])
    lost = np.full(size, np.nan)
    if t1 is None or t2 is None:
        dependent = ("pearson_above", "pearson_below", "manders_tm1", "manders_tm2", "n_above", "fraction_above",
                     "threshold1", "threshold2")  # fmt: skip
        return out | dict.fromkeys(dependent, lost)
    late = _above_and_below(sums, wanted, size, scale, rules)
    if rules.overlap_region == "above":
        late |= {k: v for k, v in out.items() if k.startswith("overlap")}
    undefined = np.isnan(t1) | np.isnan(t2)
    late = {name: np.where(undefined, np.nan, values) for name, values in late.items()}
    return out | late | {"threshold1": t1, "threshold2": t2}


def _above_and_below(sums: Sums, wanted: set[str], size: int, scale: int, rules: Conventions) -> dict[str, np.ndarray]:
    out = {}
    for name in ("above", "below"):
        if f"pearson_{name}" in wanted:
            out[f"pearson_{name}"] = _moments(sums, name, size, scale).pearson()
    total = rules.manders_denominator == "total"
    for name, channel, other in (("manders_tm1", "a", "b"), ("manders_tm2", "b", "a")):
        if name in wanted:
            part = sums[f"{other}_high_lit" if total else "both_high", channel]
            out[name] = _over(part, sums["all" if total else f"{channel}_high", channel])
    if wanted & {"n_above", "fraction_above"}:
        count = sums["both_high", "n"]
        out |= {"n_above": count.astype(float), "fraction_above": _over(count, sums["all", "n"])}
    return out


def ranked(
    table: Table, names: Iterable[str], t1: np.ndarray | None, t2: np.ndarray | None, rules: Conventions
) -> dict[str, np.ndarray]:
    """Return the measures among `names` that need ranks: spearman, kendall_tau, rwc."""
    wanted, size = set(names), table.ngroups
    out: dict[str, np.ndarray] = {}
    if wanted & {"spearman", "spearman_t"}:
        out["spearman"] = rho = ranks.spearman(table)
        n = np.bincount(table.group, weights=table.count, minlength=size)
        with np.errstate(divide="ignore", invalid="ignore"):
            out["spearman_t"] = rho * np.sqrt((n - 2) / (1 - rho**2))
    if "kendall_tau" in wanted:
        out["kendall_tau"] = ranks.kendall(table)
    if wanted & {"rwc1", "rwc2"}:
        low = np.full(size, -np.inf)
        limit1, limit2 = low if t1 is None else t1, low if t2 is None else t2
        rows = table.group if size != 1 else 0
        high_a, high_b = table.a >= limit1[rows], table.b >= limit2[rows]
        weighted = ranks.rank_product(table, high_a & high_b, pooled=rules.rwc_ranks == "all")
        for name, part, channel, high in (("rwc1", weighted[0], "a", high_a), ("rwc2", weighted[1], "b", high_b)):
            if table.a.dtype.kind == "f":
                weights = table.count[high] * getattr(table, channel)[high]
                total = np.bincount(table.group[high], weights=weights, minlength=size)
            else:
                region = f"{channel}_at_least"
                total = region_sums(table, {region: (channel,)}, _Regions(limit1, limit2, rules))[region, channel]
            out[name] = np.where(np.isnan(limit1) | np.isnan(limit2), np.nan, _over(part, total))
    return out


def measure(
    table: Table,
    names: Iterable[str] = ALL,
    t1: np.ndarray | None = None,
    t2: np.ndarray | None = None,
    rules: Conventions = Conventions(),
) -> dict[str, np.ndarray]:
    """Return measures of each group of a table.

    Parameters
    ----------
    table : Table
    names : iterable of str
        Among `ALL` and `EXTRA`.
    t1, t2 : ndarray of shape (G,), optional
        Thresholds of the two channels in each group; NaN makes what depends on them NaN. Without thresholds `rwc` and
        the overlap coefficients are over all pixels, other measures that depend on them NaN.
    rules : Conventions

    Returns
    -------
    dict of str to ndarray of shape (G,), float64
    """
    wanted = set(names)
    given = t1 is not None and t2 is not None
    low = np.full(table.ngroups, -np.inf)
    sums = tally(table, fields(wanted, rules, given), t1 if given else low, t2 if given else low, rules)  # type: ignore[arg-type]
    scale = exact.LOWEST if table.a.dtype.kind == "f" else 0
    out = conclude(sums, wanted, t1, t2, rules, scale) | ranked(table, wanted, t1, t2, rules)
    return {name: out[name] for name in (*ALL, *EXTRA) if name in wanted}
