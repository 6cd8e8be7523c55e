"""Colours of channels and of labels, and the mapping of grey values to brightness.

This module chooses the colour of a channel: the colour in the file, the colour that its name suggests, or the next
colour of a palette.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.model.axes import RGB
from intake_img.model.datasets import attributes_of

__all__ = [
    "channel_name",
    "default_colors",
    "is_rgb",
    "label_colors",
    "legible",
    "limits_of",
    "of_layers",
    "overlaid",
    "stated_colors",
    "tinted",
    "tints",
]

_BY_NAME = (
    (r"dapi|hoechst|405|draq5|\bblue|nucle|\bdna\b", "#4d6dff"),
    (r"gfp|fitc|488|alexa.?488|\bgreen|yfp|tubulin", "#22dd44"),
    (r"rfp|cherry|tritc|cy3|dsred|561|568|594|555|\bred\b|tomato|actin", "#ff3b30"),
    (r"cy5|647|640|far.?red|irfp", "#e040fb"),
    (r"cfp|440|cyan", "#18d6e8"),
    (r"bright|bf\b|phase|dic|trans|tl\b|esid|t-?pmt", "#ffffff"),
)
_PALETTE = ("#22dd44", "#e040fb", "#18d6e8", "#ffd60a", "#ff3b30", "#4d6dff", "#ff9500", "#ffffff")
_MANY = 8  # more channels than these get the colours of a spectrum


def channel_name(value: Any) -> str:
    """Return the display name of a channel: its name, or "channel" and its number.

    Examples
    --------
    >>> channel_name("DAPI"), channel_name(0)
    ('DAPI', 'channel 0')
    """
    return str(value) if isinstance(value, (str, bytes)) else f"channel {value}"


def is_rgb(names: Sequence[str]) -> bool:
    """True if the channels are the colours of a picture."""
    return tuple(names) in (RGB[:3], RGB)


def stated_colors(array: xr.DataArray) -> Mapping[int, Any] | None:
    """Return the colours that the file states for its channels, by number, if any."""
    if "c" not in array.coords:
        return None
    coord = array.coords["c"]
    stated = attributes_of(coord).get("color")
    if stated is None:
        return None
    stated = [stated] if isinstance(stated, str) else stated
    if isinstance(stated, Mapping) or len(stated) != coord.size:
        return None
    return {k: _hash(c) for k, c in enumerate(stated) if c}


def of_layers(given: Any, numbers: Sequence[int]) -> Any:
    """Return a mapping from numbers of channels as one from the layers of a picture; anything else unchanged."""
    if not isinstance(given, Mapping):
        return given
    return {layer: given[number] for layer, number in enumerate(numbers) if number in given}


def _hash(color: Any) -> Any:
    """Normalise a colour: files write ``FF0000`` for ``#FF0000``, and some add an alpha that is not a transparency."""
    found = re.fullmatch(r"#?([0-9a-fA-F]{6})([0-9a-fA-F]{2})?", color) if isinstance(color, str) else None
    return f"#{found[1]}" if found else color


def default_colors(names: Sequence[str]) -> list[str]:
    """Return a colour for each channel: the one that its name suggests, else the next one of a palette.

    Examples
    --------
    >>> default_colors(["DAPI", "mystery"])
    ['#4d6dff', '#22dd44']
    >>> default_colors(["mystery"])
    ['#ffffff']
    """
    if is_rgb(names):
        return ["#ff0000", "#00ff00", "#0000ff", "#ffffff"][: len(names)]
    if len(names) == 1:
        return ["#ffffff"]
    if len(names) > _MANY:  # as in a rainbow, from blue to red
        hues = np.linspace(0.66, 0, len(names))
        return ["#" + "".join(f"{round(255 * v):02x}" for v in colorsys.hsv_to_rgb(hue, 1, 1)) for hue in hues]
    chosen: list[str | None] = []
    for name in names:
        fits = next((c for pattern, c in _BY_NAME if re.search(pattern, name.lower())), None)
        chosen.append(fits if fits not in chosen else None)
    free = [c for c in _PALETTE if c not in chosen]
    return [c or free.pop(0) for c in chosen]


def tints(colors: Any, names: Sequence[str]) -> list[Any]:
    """Return the colours of channels as numbers from 0 to 1.

    Parameters
    ----------
    colors : sequence or mapping of layers to colours, optional
        Colours of matplotlib; `default_colors` for layers without one.
    names : sequence of str
    """
    default = default_colors(names)
    if colors is None:
        chosen: list[Any] = list(default)
    elif isinstance(colors, Mapping):
        chosen = [colors.get(layer, fallback) for layer, fallback in enumerate(default)]
    else:
        given = [colors] if isinstance(colors, str) else list(colors)
        if len(given) < len(names):
            raise ValueError(f"colors has {len(given)} colours, but {len(names)} channels are shown")
        chosen = given[: len(names)]
    return [_rgb(c) for c in chosen]


def _rgb(color: Any) -> tuple[float, ...]:
    """Return a colour as numbers; matplotlib parses all forms except ``#rrggbb``."""
    if isinstance(color, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        return tuple(v / 255 for v in bytes.fromhex(color[1:]))
    from matplotlib.colors import to_rgb

    return tuple(to_rgb(color))


def limits_of(
    stack: np.ndarray, names: Sequence[str], limits: Any, percentiles: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return, for each layer, the values that are mapped to black and to full colour.

    Parameters
    ----------
    stack : ndarray of shape (C, Y, X)
    names : sequence of str
        A name for each layer.
    limits : (float, float), mapping, or None
        Values for all layers, or for some by number; other layers use `percentiles`.
    percentiles : (float, float)
    """
    if is_rgb(names) and limits is None and stack.dtype.kind == "u":  # together, or the colours would change
        top = np.iinfo(stack.dtype).max if stack.dtype.itemsize == 1 else np.percentile(stack, percentiles[1])
        return [(0.0, float(top or 1))] * len(stack)
    found = []
    for n, layer in enumerate(stack):
        given = limits.get(n) if isinstance(limits, Mapping) else limits
        found.append((float(given[0]), float(given[1])) if given is not None else _stretched(layer, percentiles))
    return found


def _stretched(layer: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    if layer.dtype == bool:
        return 0.0, 1.0
    finite = layer[np.isfinite(layer)] if layer.dtype.kind in "fc" else layer
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(np.abs(finite) if layer.dtype.kind == "c" else finite, percentiles)
    if high <= low:  # few bright pixels on an empty background, or a constant
        high = float(np.abs(finite).max()) if layer.dtype.kind == "c" else float(finite.max())
    return float(low), float(high)


def tinted(layer: np.ndarray, limits: tuple[float, float], tint: Any) -> np.ndarray:
    """Return an RGB picture of one channel."""
    low, high = limits
    values = np.abs(layer) if layer.dtype.kind == "c" else layer
    scaled = (values.astype(np.float32) - low) / (high - low if high > low else 1.0)
    return np.nan_to_num(np.clip(scaled, 0, 1))[..., np.newaxis] * np.asarray(tint, dtype=np.float32)


def overlaid(pictures: Sequence[np.ndarray], tints: Sequence[Any]) -> np.ndarray:
    """Return the sum of RGB pictures; sums of many channels are scaled, so that they do not saturate to white."""
    total = np.asarray(tints, dtype=np.float32).sum(axis=0).max()
    weight = 1.0 if len(pictures) <= _MANY else 2.0 / max(float(total), 2.0)
    return np.clip(weight * np.sum(pictures, axis=0), 0, 1)


def legible(tint: Any) -> tuple[float, float, float]:
    """Return a colour that is bright enough to read on black.

    The brightness is the luma of ITU-R BT.709.
    """
    color = np.asarray(tint, dtype=float)
    luma = float(color @ [0.2126, 0.7152, 0.0722])
    wanted = 0.35
    color = color if luma >= wanted else color + (1 - color) * (wanted - luma) / (1 - luma)
    return float(color[0]), float(color[1]), float(color[2])


def label_colors(labels: np.ndarray) -> np.ndarray:
    """Return a colour for each label, as different as possible from the colours of the labels before it.

    Hues are a golden angle apart, so that neighbours in number differ; saturation and brightness alternate.

    Parameters
    ----------
    labels : ndarray of int or bool

    Returns
    -------
    ndarray of float32, of shape ``(*labels.shape, 4)``
        RGBA; the background, 0, is transparent.
    """
    values, inverse = np.unique(labels, return_inverse=True)
    number = values.astype(np.float64)
    hue = (number * 0.6180339887498949) % 1.0
    saturation = np.choose((number % 3).astype(int), [0.55, 0.75, 0.95])
    brightness = np.choose((number // 3 % 2).astype(int), [1.0, 0.8])
    table = np.ones((values.size, 4), dtype=np.float32)
    sector = (np.array([5.0, 3.0, 1.0]) + 6 * hue[:, np.newaxis]) % 6  # from hue, saturation, brightness to RGB
    depth = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    table[:, :3] = brightness[:, np.newaxis] * (1 - saturation[:, np.newaxis] * depth)
    table[values == 0] = 0
    return table[inverse.reshape(labels.shape)]
