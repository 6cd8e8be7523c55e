"""Regions of the scatter plot of two channels: as masks of pixels, and as rows of the runs of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from intake_img.kernels.conventions import Conventions
from intake_img.kernels.runs import RowRuns, Rows
from intake_img.kernels.wide import above, at_least, below

__all__ = ["ICQ", "TableRegions", "masks", "masks_around", "masks_with_signs", "without_icq"]

ICQ = {"icq_positive": ("n",), "icq_zero": ("n",)}
"""The regions of Li's ICQ, which need the means."""


def without_icq(need: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {region: of for region, of in need.items() if region not in ICQ}


def _inclusive(rules: Conventions) -> bool:
    return (rules.manders_comparison or (">=" if rules.manders_denominator == "total" else ">")) == ">="


def masks(
    a: np.ndarray, b: np.ndarray, t1: Any, t2: Any, rules: Conventions
) -> dict[str, Callable[[], np.ndarray | None]]:
    """The regions of the scatter plot as functions that return masks; thresholds (see `wide.bound`) row by row."""
    high = at_least if _inclusive(rules) else above
    both = np.logical_and if rules.above == "and" else np.logical_or
    lower = np.logical_and if rules.below == "and" else np.logical_or
    return {
        "all": lambda: None,
        "a_lit": lambda: a > 0,
        "b_lit": lambda: b > 0,
        "both_lit": lambda: (a > 0) & (b > 0),
        "above": lambda: both(above(a, t1), above(b, t2)),
        "below": lambda: lower(below(a, t1), below(b, t2)),
        "a_high": lambda: high(a, t1),
        "b_high": lambda: high(b, t2),
        "both_high": lambda: high(a, t1) & high(b, t2),
        "a_high_lit": lambda: high(a, t1) & (a > 0),
        "b_high_lit": lambda: high(b, t2) & (b > 0),
        "a_at_least": lambda: at_least(a, t1),
        "b_at_least": lambda: at_least(b, t2),
        "both_at_least": lambda: at_least(a, t1) & at_least(b, t2),
    }


def masks_with_signs(
    a: np.ndarray, b: np.ndarray, t1: Any, t2: Any, rules: Conventions, means: tuple[Any, Any] | None
) -> dict[str, Callable[[], np.ndarray | None]]:
    """The same with the regions of Li's ICQ; for integers each mean is a pair of integers, see `masks_around`."""
    regions = masks(a, b, t1, t2, rules)
    if means is not None and isinstance(means[0], tuple):
        regions |= masks_around(a, b, *means[0], *means[1])
    elif means is not None:
        sign = np.sign(a - means[0]) * np.sign(b - means[1])
        regions |= {"icq_positive": lambda: sign > 0, "icq_zero": lambda: sign == 0}
    return regions


def masks_around(
    x: np.ndarray, y: np.ndarray, low_a: Any, high_a: Any, low_b: Any, high_b: Any
) -> dict[str, Callable[[], np.ndarray | None]]:
    """The regions of Li's ICQ; means lie between two integers, or are integers."""
    return {
        "icq_positive": lambda: ((x > low_a) & (y > low_b)) | ((x < high_a) & (y < high_b)),
        "icq_zero": lambda: ~(((x > low_a) | (x < high_a)) & ((y > low_b) | (y < high_b))),
    }


class TableRegions:
    """The regions of the scatter plot as rows of the runs of a table of integers; see `masks`."""

    def __init__(self, t1: np.ndarray, t2: np.ndarray, rules: Conventions, means: Any = None) -> None:
        self.t1, self.t2, self.rules, self.means = t1, t2, rules, means
        self.inclusive = _inclusive(rules)

    def __call__(self, run: RowRuns, name: str) -> Rows:
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
            upper = run.above(t2), run.stop
            return run.where(run.a > t1, *((upper, none) if self.rules.above == "and" else (every, upper)))
        if name == "below":
            lower = run.first, run.below(t2)
            return run.where(run.a < t1, *((lower, none) if self.rules.below == "and" else (every, lower)))
        if name == "b_high_lit":
            return np.maximum(high, run.above(zero)), run.stop
        if name in ("b_high", "both_high"):
            return (high, run.stop) if name == "b_high" else run.where(a_high, (high, run.stop), none)
        if name in ("b_at_least", "both_at_least"):
            rows = run.at_least(t2), run.stop
            return rows if name == "b_at_least" else run.where(run.a >= t1, rows, none)
        return self._around_means(run, name)

    def _around_means(self, run: RowRuns, name: str) -> Rows:
        (low_a, high_a), (low_b, high_b) = ((m[run.group] for m in pair) for pair in self.means)
        upper, lower = run.above(low_b), run.below(high_b)
        more, less = run.a > low_a, run.a < high_a
        if name == "icq_positive":
            return run.where(more, (upper, run.stop), run.where(less, (run.first, lower), run.none()))
        return run.where(more | less, (lower, upper), run.all())  # rows where b is the mean: none or one
