"""The measures of colocalization of two channels, for all groups of a table in one call.

The formulas are the usual ones (see `FORMULAS` in the documentation of ``ds.img.coloc``); differences between tools are
entries of `Conventions`. Undefined results are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from intake_img.kernels import exact, ranks, wide
from intake_img.kernels.conventions import ALL, DEFAULTS, EXTRA, Conventions, fields
from intake_img.kernels.runs import region_sums
from intake_img.kernels.scatter_regions import TableRegions
from intake_img.kernels.tables import Table
from intake_img.kernels.tally import Sums, moments_in, tally

__all__ = ["conclude", "means_of", "measure", "ranked"]


def means_of(sums: Sums, size: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of both channels in each group."""
    return moments_in(sums, "all", size, scale).means()


def _over(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([p / q if q else math.nan for p, q in zip(x, y, strict=True)], dtype=float)


def conclude(
    sums: Sums, names: Iterable[str], t1: np.ndarray | None, t2: np.ndarray | None, rules: Conventions, scale: int
) -> dict[str, np.ndarray]:
    """Return the measures that follow from sums: all except rank measures.

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
    t1, t2 = (None if t is None else np.asarray(t, float) for t in (t1, t2))
    n = sums["all", "n"]
    size = len(n)
    whole = moments_in(sums, "all", size, scale)
    out: dict[str, np.ndarray] = {"n": n.astype(float)}
    if ("all", "ab") in sums:
        out["pearson"] = whole.pearson()
        out["slope"], out["intercept"] = whole.line(rules.fit)
        region = "both_at_least" if rules.overlap_region == "above" else "all"
        out["overlap"], out["overlap_k1"], out["overlap_k2"] = moments_in(sums, region, size, scale).overlap()
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
        dependent = (
            "pearson_above",
            "pearson_below",
            "manders_tm1",
            "manders_tm2",
            "n_above",
            "fraction_above",
            "threshold1",
            "threshold2",
        )
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
            out[f"pearson_{name}"] = moments_in(sums, name, size, scale).pearson()
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
        high_a, high_b = (
            wide.at_least(x, wide.bound(t, x.dtype)[rows]) for x, t in ((table.a, limit1), (table.b, limit2))
        )
        limit1, limit2 = np.asarray(limit1, float), np.asarray(limit2, float)
        weighted = ranks.rank_product(table, high_a & high_b, pooled=rules.rwc_ranks == "all")
        for name, part, channel, high in (("rwc1", weighted[0], "a", high_a), ("rwc2", weighted[1], "b", high_b)):
            if table.a.dtype.kind == "f":
                weights = table.count[high] * getattr(table, channel)[high]
                total = np.bincount(table.group[high], weights=weights, minlength=size)
            elif table.by_pixel:
                total = exact.grouped_sum(table.group[high], size, table.count[high], getattr(table, channel)[high])
            else:
                region = f"{channel}_at_least"
                total = region_sums(table, {region: (channel,)}, TableRegions(limit1, limit2, rules))[region, channel]
            out[name] = np.where(np.isnan(limit1) | np.isnan(limit2), np.nan, _over(part, total))
    return out


def measure(
    table: Table,
    names: Iterable[str] = ALL,
    t1: np.ndarray | None = None,
    t2: np.ndarray | None = None,
    rules: Conventions = DEFAULTS,
) -> dict[str, np.ndarray]:
    """Return measures of each group of a table.

    Parameters
    ----------
    table : Table
    names : iterable of str
        Among `ALL` and `EXTRA`.
    t1, t2 : ndarray of shape (G,), optional
        Thresholds of the two channels in each group; NaN gives NaN for measures that depend on them. Without
        thresholds, `rwc` and the overlap coefficients are over all pixels, and other measures that depend on thresholds
        are NaN.
    rules : Conventions

    Returns
    -------
    dict of str to ndarray of shape (G,), float64
    """
    wanted = set(names)
    given = t1 is not None and t2 is not None
    low = np.full(table.ngroups, -np.inf)
    sums = tally(table, fields(wanted, rules, given), t1 if given else low, t2 if given else low, rules)  # type: ignore[arg-type]
    scale = exact.LOWEST if table.by_pixel else 0
    out = conclude(sums, wanted, t1, t2, rules, scale) | ranked(table, wanted, t1, t2, rules)
    return {name: out[name] for name in (*ALL, *EXTRA) if name in wanted}
