"""Moments of two channels in groups, exact: Python integers, so that no offset, size or order costs a digit.

From them follow, without cancellation, means, Pearson's r, overlap coefficients and straight-line fits. For integers
they are taken from a joint histogram, for floats from pixels; both give the same `Moments`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from intake_img.kernels import exact
from intake_img.kernels.runs import region_sums
from intake_img.kernels.tables import Table

__all__ = ["Moments", "moments", "moments_of_pixels"]


@dataclass(frozen=True)
class Moments:
    """Number of pixels, sums and sums of products in each group, as Python integers in units of ``2**scale``.

    Parameters
    ----------
    n, a, b, aa, bb, ab : ndarray of shape (G,), object
        `a` and `b` are in units of ``2**scale``, the products in its square.
    scale : int
        0 for integers.
    """

    n: np.ndarray
    a: np.ndarray
    b: np.ndarray
    aa: np.ndarray
    bb: np.ndarray
    ab: np.ndarray
    scale: int = 0

    def _each(self, function: Callable[..., float], *terms: np.ndarray) -> np.ndarray:
        return np.array([function(*t) for t in zip(*terms, strict=True)], dtype=float)

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Means of the two channels."""
        return self._each(self._mean, self.a, self.n), self._each(self._mean, self.b, self.n)

    def _mean(self, total: int, n: int) -> float:
        return _ratio(total, n << -self.scale) if n else math.nan

    def centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Variances of a and b and their covariance, times n squared, as integers."""
        return (
            self.n * self.aa - self.a * self.a,
            self.n * self.bb - self.b * self.b,
            self.n * self.ab - self.a * self.b,
        )

    def pearson(self) -> np.ndarray:
        """Pearson's r: covariance over the product of the standard deviations; NaN for a constant channel."""
        return self._each(lambda va, vb, c: _root_ratio(c, va * vb), *self.centred())

    def overlap(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Manders' overlap coefficient and its parts k1, k2."""
        moc = self._each(lambda aa, bb, ab: _root_ratio(ab, aa * bb), self.aa, self.bb, self.ab)
        return moc, self._each(_ratio, self.ab, self.aa), self._each(_ratio, self.ab, self.bb)

    def line(self, fit: str = "orthogonal") -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept of b over a: ``"orthogonal"`` (total least squares) or ``"ols"``."""
        slope = self._each(_orthogonal if fit == "orthogonal" else _ordinary, *self.centred())
        mean_a, mean_b = self.means()
        return slope, mean_b - slope * mean_a


FIELDS = ("n", "a", "b", "aa", "bb", "ab")
"""The sums of `Moments`."""


def _ratio(x: int, y: int) -> float:
    try:
        return x / y
    except ZeroDivisionError:
        return math.nan


def _root_ratio(x: int, y: int) -> float:
    """x / sqrt(y) of integers of any size, correctly rounded but for the last bit."""
    if y <= 0:
        return math.nan
    root = math.sqrt(x * x / y)
    return -root if x < 0 else root


def _orthogonal(va: int, vb: int, cov: int) -> float:
    if cov == 0:
        return math.nan
    x, y = (vb - va) / (va + vb), 2 * cov / (va + vb)
    return (x + math.hypot(x, y)) / y if x >= 0 else y / (math.hypot(x, y) - x)


def _ordinary(va: int, vb: int, cov: int) -> float:
    return _ratio(cov, va)


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
    from intake_img.kernels.measures import Conventions, as_integers, tally_pixels

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
