"""Contrast windows of channels for viewers, computed while the image is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.model.chunks import Region

__all__ = ["LONGEST", "Extremes", "Window", "dtype_range"]

Window = tuple[float, float]
"""Values that are shown as black and white."""
LONGEST: Window = (-2.2250738585072014e-300, -1.2250738585072015e-308)
"""A window whose numbers have the largest possible length in JSON."""


def dtype_range(dtype: np.dtype) -> Window | None:
    """Return the smallest and the largest value of a type of integers or booleans; None for others."""
    if dtype.kind == "b":
        return 0.0, 1.0
    return (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)) if dtype.kind in "iu" else None


class Extremes:
    """The smallest and the largest finite value of each channel, of all regions that were looked at.

    They do not depend on how an image is cut into regions.

    Parameters
    ----------
    axes : sequence of str
        Names of the axes of the pixels, with ``c``.
    shape : sequence of int
    dtype : numpy.dtype
    """

    def __init__(self, axes: Sequence[str], shape: Sequence[int], dtype: np.dtype) -> None:
        self.axis, self.dtype = list(axes).index("c"), dtype
        self._found: list[tuple[Any, Any] | None] = [None] * shape[self.axis]

    def look(self, region: Region, data: np.ndarray) -> None:
        """Take the pixels of a region into account."""
        if self.dtype.kind not in "iuf":
            return
        for k, channel in enumerate(range(region[self.axis].start, region[self.axis].stop)):
            self._take(channel, _extremes(data[(slice(None),) * self.axis + (k,)]))

    def add(self, other: Extremes) -> None:
        """Take into account what another one has seen of the same image."""
        for channel, found in enumerate(other._found):
            self._take(channel, found)

    def seed(self, windows: Sequence[Window | None]) -> None:
        """Take into account what was shown of pixels that were seen earlier."""
        for channel, window in enumerate(windows):
            self._take(channel, window)

    def _take(self, channel: int, found: tuple[Any, Any] | None) -> None:
        before = self._found[channel]
        if found is not None and before is not None:
            found = min(found[0], before[0]), max(found[1], before[1])
        self._found[channel] = before if found is None else found

    def windows(self) -> list[Window | None]:
        """Return the window of each channel; None where no finite value was seen, and of booleans and complex values.

        It is a little wider than the values where they are all equal, since viewers divide by its width.
        """
        return [None if f is None else self._widened(*map(float, f)) for f in self._found]

    def _widened(self, low: float, high: float) -> Window:
        if low < high:
            return low, high
        most = dtype_range(self.dtype)
        step = max(1.0, math.ulp(low))
        return (low - step, high) if high == (most[1] if most else math.inf) else (low, high + step)


def _extremes(values: np.ndarray) -> tuple[Any, Any] | None:
    if not values.size:
        return None
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        finite = values[np.isfinite(values)]
        return (finite.min(), finite.max()) if finite.size else None
    return low, high
