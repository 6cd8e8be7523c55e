"""Contrast windows from a few tiles: the initial limits of a viewer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from intake_img.accessor.colors import is_rgb
from intake_img.formats.omezarr.windows import dtype_range
from intake_img.model.pixels import Pixels

__all__ = ["sampled_windows"]

_TILES = 12
_SMALL = 2**21  # largest number of samples of a plane that is read completely
_PERCENTILES = (0.5, 99.8)
_MOST_CHANNELS = 64  # further channels share the window of the last


def sampled_windows(
    levels: Sequence[tuple[Pixels, tuple[str, ...], tuple[int, ...]]], names: Sequence[str]
) -> dict[str, list[float]]:
    """Return ``window_start``, ``window_end``, ``window_min`` and ``window_max``, each with a number per channel.

    They are computed from the middle z and the first t: from a complete small level, else from twelve fixed tiles.

    Parameters
    ----------
    levels : sequence of (Pixels, axes, chunk)
        Levels of an image, the finest first.
    names : sequence of str
        Names of the channels.
    """
    pixels, axes, chunk = _cheapest(levels)
    whole = dtype_range(pixels.dtype)
    if pixels.dtype == np.uint8 and is_rgb(names):
        found = [(0.0, 255.0, 0.0, 255.0)] * len(names)
    elif pixels.dtype.kind == "b" or 0 in pixels.shape:
        found = [(0.0, 1.0, 0.0, 1.0)] * len(names)
    else:
        looked = [_window(_samples(pixels, axes, chunk, k)) for k in range(min(len(names), _MOST_CHANNELS))]
        found = looked + [looked[-1]] * (len(names) - len(looked))
        if pixels.dtype.itemsize == 1 and whole:
            found = [(lo, hi, *whole) for lo, hi, _, _ in found]
    return {f"window_{what}": [f[k] for f in found] for k, what in enumerate(("start", "end", "min", "max"))}


def _cheapest(
    levels: Sequence[tuple[Pixels, tuple[str, ...], tuple[int, ...]]],
) -> tuple[Pixels, tuple[str, ...], tuple[int, ...]]:
    """The finest level of the file with a small plane; else the finest level."""
    from intake_img.portal.costly_blocks import Blockwise

    native = [one for one in levels if not (isinstance(one[0].reader, Blockwise) and one[0].reader.lasting)]
    return next((one for one in native if _plane(one[0], one[1]) <= _SMALL), levels[0])


def _plane(pixels: Pixels, axes: Sequence[str]) -> int:
    return math.prod(n for a, n in zip(axes, pixels.shape, strict=True) if a in "yx")


def _samples(pixels: Pixels, axes: Sequence[str], chunk: Sequence[int], channel: int) -> np.ndarray:
    small = _plane(pixels, axes) <= _SMALL
    spans = []
    for axis, n, c in zip(axes, pixels.shape, chunk, strict=True):
        if axis in "yx":
            starts = [0] if small else list(range(0, n, c))
            spans.append([slice(s, n if small else min(s + c, n)) for s in starts])
        else:
            at = min(channel, n - 1) if axis == "c" else (n // 2 if axis == "z" else 0)
            spans.append([slice(at, at + 1)])
    counts = [len(s) for s in spans]
    total = math.prod(counts)
    chosen = np.arange(total) if total <= _TILES else np.unique(np.random.default_rng(1).integers(0, total, _TILES))
    tiles = [[s[i] for s, i in zip(spans, np.unravel_index(k, counts), strict=True)] for k in chosen]
    return np.concatenate([pixels[tuple(keys)].ravel() for keys in tiles])


def _window(values: np.ndarray) -> tuple[float, float, float, float]:
    values = np.abs(values) if values.dtype.kind == "c" else values
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.0, 1.0, 0.0, 1.0
    least, most = float(finite.min()), float(finite.max())
    low, high = map(float, np.percentile(finite.astype(np.float64), _PERCENTILES))
    if high <= low:  # few bright pixels on an empty background, or a constant
        low, high = least, most
    step = max(1.0, math.ulp(abs(low)))
    if high <= low:
        high = low + step
    return low, high, least, max(most, high)
