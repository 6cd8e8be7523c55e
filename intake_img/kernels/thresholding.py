"""Global thresholds of images larger than memory: what is counted of a chunk, and the threshold of the counts.

Of integers of 8 and 16 bits all values are counted; of wider ones, and where a method looks at single values, those
that occur; of floats a histogram, once the range is known; for a mean the exact sum.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import TooLargeError
from intake_img.kernels import exact, wide
from intake_img.kernels.levels import level_counts

__all__ = ["METHODS", "Counting", "above", "classified"]

METHODS = ("otsu", "li", "triangle", "yen", "isodata", "mean", "minimum", "multiotsu")
CONSTANT = ("otsu", "triangle", "yen", "isodata")
"""Methods whose threshold of an image of one value is this value, so that all of it is background."""
MOST = 2**26
"""Different values that are held at most, and bins of a histogram of integers."""


@dataclass(frozen=True)
class Counting:
    """How the pixels of an image are counted for a threshold.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    dtype : numpy.dtype
        Of the image: integers or floats.
    nbins : int
        Of the histogram of floats.
    classes : int
        For ``multiotsu``.
    """

    method: str
    dtype: np.dtype
    nbins: int = 256
    classes: int = 3

    @property
    def size(self) -> int:
        """How many thresholds there are."""
        return self.classes - 1 if self.method == "multiotsu" else 1

    @property
    def ranged(self) -> bool:
        """Whether the range of values must be known before they are counted."""
        return self.dtype.kind == "f" and self.method not in ("li", "mean")

    @property
    def _small(self) -> bool:
        return self.dtype.kind in "iu" and self.dtype.itemsize <= 2

    @property
    def _summed(self) -> bool:
        """Whether the sum of a chunk, exact in 64 bits, is all that is counted."""
        return self.method == "mean" and self.dtype.kind in "iu" and self.dtype.itemsize <= 4

    def range(self, block: np.ndarray) -> np.ndarray:
        """Return the least and the greatest finite value of a chunk; empty without any."""
        values = block[np.isfinite(block)]
        return np.array([values.min(), values.max()]) if values.size else np.empty(0, block.dtype)

    def ranges(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the range of all chunks."""
        return self.range(np.concatenate(list(parts)))

    def count(self, limits: np.ndarray | None, block: np.ndarray) -> Any:
        """Count the pixels of a chunk that are finite."""
        if self._summed:
            return int(block.sum(dtype=np.int64)), block.size
        if self._small:
            return level_counts(block)
        if self.ranged:
            return self._binned(limits, block)
        values = block[np.isfinite(block)] if self.dtype.kind == "f" else block.ravel()
        if self.method == "mean" and self.dtype.kind == "f":
            return exact.exact_sums(values), values.size
        return _limited(*np.unique(values, return_counts=True))

    def _binned(self, limits: np.ndarray | None, block: np.ndarray) -> np.ndarray:
        if limits is None or not len(limits):
            return np.zeros(self.nbins, np.int64)
        with np.errstate(invalid="ignore"):
            return np.histogram(block, self.nbins, range=(limits[0], limits[1]))[0]

    def add(self, parts: Sequence[Any]) -> Any:
        """Return the counts of several chunks together."""
        if self._summed:
            return sum(p[0] for p in parts), sum(p[1] for p in parts)
        if self._small or self.ranged:
            return functools.reduce(np.add, parts)
        if self.method == "mean" and self.dtype.kind == "f":
            return exact.add([p[0] for p in parts]), sum(p[1] for p in parts)
        values, index = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, index, np.concatenate([p[1] for p in parts]))
        return _limited(values, counts)

    def thresholds(self, limits: np.ndarray | None, counts: Any) -> np.ndarray:
        """Return the thresholds, float64; NaN if no pixel was counted."""
        if self._summed:
            return np.array([exact.ratio(*counts) if counts[1] else np.nan])
        if self.method == "mean" and self.dtype.kind == "f":
            return np.array([_exact_mean(*counts)])
        if self.ranged:
            if limits is None or not len(limits):
                return np.full(self.size, np.nan)
            edges = np.histogram(np.empty(0, self.dtype), self.nbins, range=(limits[0], limits[1]))[1]
            return self._of_bins(counts, (edges[:-1] + edges[1:]) / 2, limits[0] == limits[1], limits[0])
        values, counts = self._occurring(counts)
        if not len(values):
            return np.full(self.size, np.nan)
        if self.method == "mean":
            return np.array([exact.ratio(*_whole_sum(values, counts))])
        if self.method == "li":
            return np.array([_li(values, counts)])
        return self._of_bins(*_dense(values, counts), len(values) == 1, values[0])

    def _occurring(self, counts: Any) -> tuple[np.ndarray, np.ndarray]:
        if not self._small:
            return counts
        found = np.flatnonzero(counts)
        return found + int(np.iinfo(self.dtype).min), counts[found]

    def _of_bins(self, counts: np.ndarray, centers: np.ndarray, constant: bool, value: Any) -> np.ndarray:
        """Powered by `skimage.filters`, from a histogram."""
        from skimage import filters

        if constant and self.method in CONSTANT:
            return np.array([float(value)])
        if self.method == "triangle":
            return np.array([float(_triangle(counts, centers))])
        func = getattr(filters, f"threshold_{self.method}")
        try:
            if self.method == "multiotsu":
                return np.asarray(func(hist=(counts / counts.sum(), centers), classes=self.classes), float)
            return np.array([float(func(hist=(counts, centers)))])
        except (RuntimeError, ValueError) as exc:
            raise ValueError(f"method={self.method!r} finds no threshold: {exc}; try another method") from exc


def above(image: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Whether pixels are greater than a threshold; nothing is greater than NaN."""
    if thresholds.size == 1 and image.dtype.kind in "iu":
        return _whole_above(image, thresholds.item())
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8:
        return wide.above(image, wide.bound(thresholds, image.dtype))
    with np.errstate(invalid="ignore"):
        return image > thresholds


def _whole_above(image: np.ndarray, threshold: float | int) -> np.ndarray:
    """Compare integers with a number, without making floats of them."""
    limits = np.iinfo(image.dtype)
    if not threshold < limits.max:  # or NaN
        return np.zeros(image.shape, bool)
    if threshold < limits.min:
        return np.ones(image.shape, bool)
    return image > image.dtype.type(math.floor(threshold))


def classified(image: np.ndarray, *thresholds: np.ndarray) -> np.ndarray:
    """Return the class of each pixel, as `numpy.digitize`: how many thresholds it reaches; NaN is in class 0."""
    out = np.zeros(image.shape, np.uint8)
    with np.errstate(invalid="ignore"):
        for threshold in thresholds:
            out += image >= threshold
    return out


def _limited(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(values) > MOST:
        raise TooLargeError(
            f"the image has more than {MOST} different values, which this method keeps in memory; "
            "convert it to fewer, e.g. image.round(3) or image.astype('uint16'), or choose method='otsu'"
        )
    return values, counts


def _dense(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the histogram of integers with a bin for each value of their range, as `skimage.exposure.histogram`."""
    low, high = int(values[0]), int(values[-1])
    if high - low >= MOST or max(abs(low), abs(high)) > 2**53:
        raise TooLargeError(
            f"the integers span {low} to {high}: as in scikit-image the histogram has a bin for each, at most {MOST}; "
            "convert the image to float"
        )
    out = np.zeros(high - low + 1, np.int64)
    out[values.astype(np.int64) - low] = counts
    return out, np.arange(low, high + 1)


def _whole_sum(values: np.ndarray, counts: np.ndarray) -> tuple[int, int]:
    total = sum(v * n for v, n in zip(values.tolist(), counts.tolist(), strict=True))
    return total, int(counts.sum())


def _exact_mean(sums: exact.ExactSum, n: int) -> float:
    if not n:
        return float("nan")
    total = int(exact.totals(sums, np.zeros(1, np.int64))[0])
    return exact.ratio(total, n << -exact.LOWEST)


def _li(values: np.ndarray, counts: np.ndarray) -> float:
    """Li's iterative minimum of cross entropy [1]_, of the values that occur.

    References
    ----------
    .. [1] skimage/filters/thresholding.py, ``threshold_li``; Li and Tam 1998, doi:10.1016/S0167-8655(98)00057-9
    """
    if len(values) == 1:
        return float(values[0])
    whole = values.dtype.kind in "iu"
    low = int(values[0]) if whole else float(values[0])
    shifted = values.astype(float) - low if whole else (values - values[0]).astype(float)
    tolerance = 0.5 if whole else np.diff(shifted).min() / 2
    weights = counts.astype("f4") if whole else counts.astype(float)
    following, current = float(np.average(shifted, weights=counts)), -2 * tolerance
    while abs(following - current) > tolerance:
        current = following
        fore = shifted > current
        means = [np.average(shifted[part], weights=weights[part]) for part in (~fore, fore)]
        if means[0] == 0:
            break
        following = (means[0] - means[1]) / (np.log(means[0]) - np.log(means[1]))
    return float(following + low)


def _triangle(counts: np.ndarray, centers: np.ndarray) -> float:
    """Zack's triangle [1]_, of a histogram.

    References
    ----------
    .. [1] skimage/filters/thresholding.py, ``threshold_triangle``; Zack et al. 1977, doi:10.1177/25.7.70454
    """
    peak = int(np.argmax(counts))
    low, high = np.flatnonzero(counts)[[0, -1]]
    if low == high:
        return centers[0]
    flip = peak - low < high - peak
    if flip:
        counts, centers, low, peak = counts[::-1], centers[::-1], len(counts) - high - 1, len(counts) - peak - 1
    width = peak - low
    norm = np.sqrt(float(counts[peak]) ** 2 + float(width) ** 2)
    steps = np.arange(width)
    length = counts[peak] / norm * steps - width / norm * counts[steps + low]
    return centers[int(np.argmax(length)) + low]
