"""Rendering of planes: channels are added in their colours, with labels on top, as in the viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from intake_img.model.chunks import Region
from intake_img.portal.virtual_store import ServedArray

__all__ = ["Light", "added", "label_colors", "overlaid", "plane"]


@dataclass(frozen=True)
class Light:
    """The mapping of the values of a channel to colours.

    Parameters
    ----------
    low, high : float
        The values that are mapped to the first and to the last colour.
    stops : tuple of str
        Colours ``"rrggbb"`` at even distances.
    gamma : float
    """

    low: float
    high: float
    stops: tuple[str, ...]
    gamma: float = 1.0

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the colours of values, 0 to 1, with an axis more; NaN is black."""
        span = self.high - self.low
        share = np.clip((values.astype(np.float32) - self.low) / (span if span > 0 else 1.0), 0, 1)
        missing = np.isnan(share)
        share = np.where(missing, 0, share) ** np.float32(1 / self.gamma)
        stops = np.array([[int(s[n : n + 2], 16) / 255 for n in (0, 2, 4)] for s in self.stops], np.float32)
        if len(stops) == 2:
            colors = stops[0] + share[..., np.newaxis] * (stops[1] - stops[0])
        else:
            at = np.linspace(0, 1, len(stops))
            colors = np.stack([np.interp(share, at, stops[:, k]) for k in range(3)], axis=-1)
        colors[missing] = 0
        return colors


def added(lights: Iterable[tuple[np.ndarray, Light]]) -> np.ndarray:
    """Return the sum of planes in their colours, as RGB bytes."""
    total: np.ndarray = np.sum([light.of(values) for values, light in lights], axis=0)
    return (np.clip(total, 0, 1) * 255 + 0.5).astype(np.uint8)


def plane(
    array: ServedArray,
    region: Mapping[str, slice],
    place: Mapping[str, int | None],
    read: Callable[[Region], np.ndarray] | None = None,
) -> np.ndarray:
    """Return a rectangle of a plane of an array.

    Parameters
    ----------
    array : ServedArray
    region : mapping
        The rows ``y`` and columns ``x``.
    place : mapping
        Index on the other axes; None, or an axis that is not named, is the middle of ``z`` and the first index of
        others.
    read : callable, optional
        Returns the samples of a region with a slice for each axis; by default those of the array.
    """
    part: list[slice] = []
    for axis, n in zip(array.axes, array.pixels.shape, strict=True):
        given = place.get(axis)
        at = min((n // 2 if axis == "z" else 0) if given is None else given, n - 1)
        part.append(region[axis] if axis in region else slice(at, at + 1))
    data = (read or array.read)(tuple(part))
    data = data.reshape([s.stop - s.start for a, s in zip(array.axes, part, strict=True) if a in region])
    data = np.abs(data) if data.dtype.kind == "c" else data
    return data.reshape((1,) * (2 - data.ndim) + data.shape)


def label_colors(labels: np.ndarray) -> np.ndarray:
    """Return the RGB colours, 0 to 255, of labels: hues a golden angle apart, as in the viewer."""
    n = labels.astype(np.int64) & 0xFFFFFFFF
    hue = (n * 2654435769 & 0xFFFFFFFF) / 2**32
    saturation = np.array([0.55, 0.75, 0.95])[n % 3]
    value = np.where(n // 3 % 2, 0.8, 1.0)
    part = np.stack([np.abs((hue + shift) % 1 * 6 - 3) - 1 for shift in (1, 2 / 3, 1 / 3)], axis=-1)
    return 255 * value[..., np.newaxis] * (1 + saturation[..., np.newaxis] * (np.clip(part, 0, 1) - 1))


def overlaid(picture: np.ndarray, labels: np.ndarray, opacity: float, outline: bool) -> np.ndarray:
    """Return a picture with labels over it, filled or as outlines one pixel wide; 0 is the background."""
    shown = labels != 0
    if outline:
        border = np.zeros(labels.shape, bool)
        for axis in (0, 1):
            differs = np.diff(labels, axis=axis) != 0
            border |= np.pad(differs, [(0, k == axis) for k in (0, 1)])
            border |= np.pad(differs, [(k == axis, 0) for k in (0, 1)])
        shown &= border
    alpha = opacity * shown[..., np.newaxis]
    return (picture * (1 - alpha) + label_colors(labels) * alpha + 0.5).astype(np.uint8)
