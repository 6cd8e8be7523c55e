"""Measures and conventions: names of measures, options that follow other tools, and the sums that each needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

__all__ = ["ALL", "CHOICES", "DEFAULTS", "EXTRA", "FIELDS", "Conventions", "fields", "needs_thresholds", "unused"]

FIELDS = ("n", "a", "b", "aa", "bb", "ab")
"""The sums of moments: number of pixels, sums, and sums of products."""
ALL = (
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
    "overlap_k2",
    "li_icq",
    "rwc1",
    "rwc2",
    "slope",
    "intercept",
    "threshold1",
    "threshold2",
    "n",
)
"""The measures of one call, by name."""
EXTRA = ("spearman_t", "intersection1", "intersection2", "n_above", "fraction_above")
"""Measures that are computed when they are asked for."""


@dataclass(frozen=True)
class Conventions:
    """Conventions in which tools differ; the defaults are Coloc 2's, except ``above="and"``.

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
        How pixels at the mean of a channel count in Li's ICQ, as in Coloc 2, JACoP, and napari-colocalization.
    overlap_region : {"all", "above"}
        Overlap coefficients over all pixels, or (CellProfiler) over pixels at or above both thresholds.
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
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(map(repr, known))}")


CHOICES: dict[str, tuple[str | None, ...]] = {
    "above": ("and", "or"),
    "below": ("or", "and"),
    "manders_denominator": ("total", "above"),
    "manders_comparison": (None, ">=", ">"),
    "icq_zero": ("positive", "negative", "excluded"),
    "overlap_region": ("all", "above"),
    "rwc_ranks": ("label", "all"),
    "fit": ("orthogonal", "ols"),
}


DEFAULTS = Conventions()


def needs_thresholds(names: Iterable[str], rules: Conventions) -> bool:
    """True if a measure among `names` depends on thresholds."""
    dependent = {
        "pearson_above",
        "pearson_below",
        "manders_tm1",
        "manders_tm2",
        "rwc1",
        "rwc2",
        "threshold1",
        "threshold2",
        "n_above",
        "fraction_above",
    }
    return bool(dependent & set(names)) or (rules.overlap_region == "above" and any(n[:7] == "overlap" for n in names))


def unused(names: Iterable[str], rules: Conventions, thresholds: bool, labels: bool) -> list[str]:
    """Return the conventions that differ from their defaults but affect none of the requested measures.

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
    """Return the sums over regions of the scatter plot that the measures need.

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
        raise ValueError(f"measures contain {sorted(unknown)[0]!r}: expected names among {', '.join(ALL + EXTRA)}")
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
