"""Automatic thresholds of two channels from their joint histogram: Costes' regression, in four variants, and Otsu's.

Costes et al. 2004: move down the line fitted to the scatter until the pixels below the thresholds are uncorrelated. All
candidates are evaluated from the table, in one sweep, without the pixels.
"""

from __future__ import annotations

import math

import numpy as np

from intake_img.kernels.tables import Levels, Table
from intake_img.kernels.tally import moments
from intake_img.kernels.wide import beyond_floats, offsets

__all__ = [
    "METHODS",
    "costes",
    "otsu",
]

METHODS = ("simple", "bisection", "cellprofiler_fast", "cellprofiler_faster")
"""Coloc 2's two steppers, and CellProfiler's "Fast" and "Faster"."""
FLOAT_STEPS = 256
"""Grey levels that the range of a float channel is walked in."""
MOST_STEPS = 2**17
"""Grey levels of integers that are walked one by one; wider ranges are walked in as many steps at most."""


def costes(
    table: Table,
    method: str = "simple",
    *,
    limits: tuple[float, float] | None = None,
    scale: float = 255,
    ties: str = "above",
) -> tuple[float, float]:
    """Return the thresholds of a table of one group.

    Parameters
    ----------
    table : Table
    method : {"simple", "bisection", "cellprofiler_fast", "cellprofiler_faster"}
        ``"simple"`` steps down from the maximum of the channel with the flatter slope, one grey level (floats: 1/256 of
        the range; integers whose range is above 2**17: 2**-17 of it) at a time, until r below is under 1e-4 or rises.
        ``"bisection"`` halves steps from the middle until they are under one such step. Both as Coloc 2, but with the
        exact orthogonal slope over all pixels. The others follow CellProfiler: the slope of pixels above 0 in either
        channel, r over all pixels below.
    limits : (float, float), optional
        Lowest and highest value of an integer dtype: thresholds are rounded to whole levels (half up) and clipped.
    scale : float
        Grey levels that CellProfiler takes for 1.0.
    ties : {"above", "below"}
        Where CellProfiler's variants count pixels exactly on the second threshold. In CellProfiler the rounding errors
        of the slope decide.

    Returns
    -------
    (float, float)
        NaN where no line can be fitted (a constant channel, channels without covariance, fewer than two pixels).

    References
    ----------
    .. [1] Costes et al., Biophysical Journal 86 (2004), https://doi.org/10.1529/biophysj.103.038422
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    if len(table) < 2:
        return math.nan, math.nan
    if method.startswith("cellprofiler"):
        return _cellprofiler(table, scale, fast=method == "cellprofiler_fast", slack=1e-12 if ties == "below" else 0)
    if beyond_floats(table.a) or beyond_floats(table.b):
        return _from_lowest(table, method, limits)
    slope, intercept = (float(x[0]) for x in moments(table).line())
    if not math.isfinite(slope):
        return math.nan, math.nan
    walk = _Walk(table, slope, intercept, limits)
    return walk.simple() if method == "simple" else walk.bisection()


def _from_lowest(table: Table, method: str, limits: tuple[float, float] | None) -> tuple[float, float]:
    """The same for integers that float64 cannot represent: minus the lowest value of each channel, as Python
    integers."""
    relative, base = table.relative()
    found = costes(relative, method, limits=(-math.inf, math.inf))
    ends = np.iinfo(table.a.dtype) if limits is None else None
    low, high = (ends.min, ends.max) if ends is not None else (int(limits[0]), int(limits[1]))  # type: ignore[index]
    whole = [t if math.isnan(t) else min(max(int(t) + b, low), high) for t, b in zip(found, base, strict=True)]
    return whole[0], whole[1]


class _Walk:
    """Candidates along the fitted line and r of the pixels below them."""

    def __init__(self, table: Table, slope: float, intercept: float, limits: tuple[float, float] | None) -> None:
        self.slope, self.intercept, self.limits = slope, intercept, limits
        self.along_a = abs(slope) < 1
        walked = table.a if self.along_a else table.b
        self.high, self.low = float(walked.max()), float(walked.min())
        self.step = 1.0 if limits else (self.high - self.low) / FLOAT_STEPS
        self.floor = limits[0] if limits else self.low
        if limits and self.high - self.floor > MOST_STEPS:
            self.floor = max(self.floor, self.low - 1)  # beneath, no pixel leaves
            self.step = float(max(1, math.ceil((self.high - self.floor) / MOST_STEPS)))
        self.table = table
        self.means = tuple(float(m[0]) for m in moments(table).means())

    def thresholds(self, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        other = self.intercept + self.slope * level if self.along_a else (level - self.intercept) / self.slope
        pair = (level, other) if self.along_a else (other, level)
        if self.limits is None:
            return pair
        return tuple(np.clip(np.floor(t + 0.5), *self.limits) for t in pair)  # type: ignore[return-value]

    def simple(self) -> tuple[float, float]:
        steps = math.floor((self.high - self.floor) / self.step - 1 + 1e-9)
        levels = self.high - self.step * np.arange(max(1, steps + 1))
        t1, t2 = self.thresholds(levels)
        r = self._sweep(t1, t2)
        before = np.concatenate([[np.inf], r[:-1]])
        stops = np.flatnonzero((r < 1e-4) | (r > before))
        k = int(stops[0]) if len(stops) else len(levels) - 1
        return float(t1[k]), float(t2[k])

    def bisection(self) -> tuple[float, float]:
        level, last = (self.high + self.low) / 2, self.high
        pair = (math.nan, math.nan)
        for _ in range(100):
            if abs(level - last) < self.step:
                break
            t1, t2 = self.thresholds(np.array([level]))
            pair = (float(t1[0]), float(t2[0]))
            half = abs(level - last) / 2
            last = level
            level += half if self._sweep(t1, t2)[0] < 0 else -half
        return pair

    def _sweep(self, t1: np.ndarray, t2: np.ndarray) -> np.ndarray:
        """Pearson's r of the pixels with a < t1[k] or b < t2[k], for all candidates k together.

        Each threshold is monotone in k, so a row leaves the set of pixels below at one candidate and enters it again at
        another.
        """
        size = len(t1)
        table, leaving, returning = self.table, np.zeros((6, size + 1)), np.zeros((6, size + 1))
        places = [_Places(values, t) for values, t in ((table.a, t1), (table.b, t2))]
        for first in range(0, len(table), _STRIP):
            rows = slice(first, first + _STRIP)
            out, back = np.zeros(len(table.count[rows]), np.int64), np.full(len(table.count[rows]), size)
            for values, place in zip((table.a[rows], table.b[rows]), places, strict=True):
                if place.falling:
                    np.maximum(out, size - place(values), out=out)
                else:
                    np.minimum(back, place(values), out=back)
            back = np.maximum(out, back)
            returns = np.flatnonzero(back < size)
            w, x, y = (table.count[rows].astype(float), table.a[rows] - self.means[0], table.b[rows] - self.means[1])
            for k, weight in enumerate((w, wx := w * x, wy := w * y, wx * x, wy * y, wx * y)):
                leaving[k] += np.bincount(out, weights=weight, minlength=size + 1)
                if len(returns):
                    returning[k] += np.bincount(back[returns], weights=weight[returns], minlength=size + 1)
        sums = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1][:, 1:] + np.cumsum(returning[:, :size], axis=1)
        n, sx, sy, sxx, syy, sxy = sums
        return _pearson(n, sx, sy, sxx, syy, sxy)


_STRIP = 2**18
"""Rows of a table that are compared together."""


class _Places:
    """Insertion indices of values among the thresholds of all candidates; integers use a lookup table."""

    def __init__(self, values: np.ndarray, thresholds: np.ndarray) -> None:
        self.falling = bool(thresholds[-1] <= thresholds[0])
        self.sorted = thresholds[::-1] if self.falling else thresholds
        self.low, self.of = 0, None
        if values.dtype.kind != "f" and len(values) > (span := int(values.max()) - int(values.min()) + 1):
            self.low = int(values.min())
            self.of = np.searchsorted(self.sorted, np.arange(self.low, self.low + span), side="right")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.of is None:
            return np.searchsorted(self.sorted, values, side="right")
        return self.of[values - self.low]


def _pearson(n, sx, sy, sxx, syy, sxy):  # type: ignore[no-untyped-def]
    with np.errstate(invalid="ignore", divide="ignore"):
        vx, vy = sxx - sx * sx / n, syy - sy * sy / n
        r = (sxy - sx * sy / n) / np.sqrt(vx * vy)
        flat = (vx <= 1e-12 * sxx) | (vy <= 1e-12 * syy)
    return np.where(flat, np.nan, r)


def _cellprofiler(table: Table, scale: float, *, fast: bool, slack: float) -> tuple[float, float]:
    if (most := max(float(table.a.max()), float(table.b.max()))) > MOST_STEPS:
        raise ValueError(
            f"method='cellprofiler_...' goes through single grey levels, and the image has {most:.0f} of them: rescale "
            "it to 16 bits, or choose 'simple' or 'bisection'"
        )
    a, b = table.a / scale, table.b / scale
    either = (table.a > 0) | (table.b > 0)
    lit = moments(table.select(either))
    slope = float(lit.line()[0][0])
    if not math.isfinite(slope):
        return math.nan, math.nan
    mean_a, mean_b = (float(m[0]) / scale for m in lit.means())
    intercept = mean_b - slope * mean_a

    def below(level: float) -> tuple[int, float]:
        keep = (a < level) | (b < slope * level + intercept + slack)
        return int(table.count[keep].sum()), float(moments(table.select(keep)).pearson()[0])

    level = _stepping(a, b, scale, slope, intercept, below) if fast else _windowed(scale, below)
    return level * scale, (slope * level + intercept) * scale


def _stepping(a, b, scale, slope, intercept, below) -> float:  # type: ignore[no-untyped-def]
    """CellProfiler's "Fast": steps of 10, 5, 2, 1 levels while r is above 0.45, 0.35, 0.25 and below."""
    step = 1 / scale
    level = step * (max(a.max(), b.max()) // step + 1)
    while level > a.max() and slope * level + intercept > b.max():
        level -= step
    tried = level
    while level > step:
        tried = level
        _, r = below(level)
        if r <= 0:
            break
        if level < step * 10:
            level -= step
        else:
            level -= step * (10 if r > 0.45 else 5 if r > 0.35 else 2 if r > 0.25 else 1)
    return tried


def _windowed(scale: float, below) -> float:  # type: ignore[no-untyped-def]
    """CellProfiler's "Faster": a window of levels narrowed from 1/6 below its upper end."""
    left, right, valid, last = 1.0, float(scale), 1.0, 0.0
    middle = (right - left) // (6 / 5) + left
    while middle != last:
        n, r = below(middle / scale)
        if n <= 2 or not r >= 0:
            left = middle - 1
        else:
            right, valid = middle + 1, middle
        last = middle
        middle = (right - left) // (6 / 5 if right - left > 6 else 2) + left
    return (valid - 1) / scale


def otsu(values: np.ndarray, count: np.ndarray) -> float:
    """Return Otsu's threshold of weighted values: pixels above it are foreground, as in scikit-image.

    Integers are evaluated level by level, floats in 256 equal bins between minimum and maximum.
    """
    if not len(values) or values.min() == values.max():
        return math.nan
    if beyond_floats(values):
        base = int(values.min())
        return base + int(otsu(offsets(values, base), count))
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        edges = np.linspace(low, high, 257)
        weight = np.histogram(values, edges, weights=count)[0].astype(float)
        centres = (edges[1:] + edges[:-1]) / 2
    else:
        if levels := Levels.of(values, count):
            centres = (levels.low + np.flatnonzero(levels.count)).astype(float)
            weight = levels.count[levels.count > 0].astype(float)
        else:
            centres, index = np.unique(values, return_inverse=True)
            weight = np.bincount(index, weights=count)
    below, above = np.cumsum(weight), np.cumsum(weight[::-1])[::-1]
    moment = weight * centres
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_below = np.cumsum(moment) / below
        mean_above = np.cumsum(moment[::-1])[::-1] / above
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[int(np.nanargmax(between))])
