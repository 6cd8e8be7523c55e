"""Exact moments of two channels in groups, as Python integers, independent of offset, size and order.

Means, Pearson's r, overlap coefficients and line fits follow from them without cancellation. For integers they are
computed from a joint histogram, for floats from pixels; both give the same `Moments`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from intake_img.kernels.exact import ratio, root_ratio

__all__ = ["Moments"]


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
        return ratio(total, n << -self.scale) if n else math.nan

    def centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Variances of a and b and their covariance, times n squared, as integers."""
        return (
            self.n * self.aa - self.a * self.a,
            self.n * self.bb - self.b * self.b,
            self.n * self.ab - self.a * self.b,
        )

    def pearson(self) -> np.ndarray:
        """Pearson's r: covariance over the product of the standard deviations; NaN for a constant channel."""
        return self._each(lambda va, vb, c: root_ratio(c, va * vb), *self.centred())

    def overlap(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Manders' overlap coefficient and its parts k1, k2."""
        moc = self._each(lambda aa, bb, ab: root_ratio(ab, aa * bb), self.aa, self.bb, self.ab)
        return moc, self._each(ratio, self.ab, self.aa), self._each(ratio, self.ab, self.bb)

    def line(self, fit: str = "orthogonal") -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept of b over a: ``"orthogonal"`` (total least squares) or ``"ols"``."""
        slope = self._each(_orthogonal if fit == "orthogonal" else _ordinary, *self.centred())
        mean_a, mean_b = self.means()
        return slope, mean_b - slope * mean_a


def _orthogonal(va: int, vb: int, cov: int) -> float:
    if cov == 0:
        return math.nan
    x, y = (vb - va) / (va + vb), 2 * cov / (va + vb)
    return (x + math.hypot(x, y)) / y if x >= 0 else y / (math.hypot(x, y) - x)


def _ordinary(va: int, vb: int, cov: int) -> float:
    return ratio(cov, va)
