"""Pictures of one plane or projection: coloured channels, labels in distinct colours, a scale bar of a round length.

Powered by matplotlib, which is imported when something is drawn. Only the shown plane is read; if a plane is larger
than a screen, every n-th pixel is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.colors import (
    is_rgb,
    label_colors,
    legible,
    limits_of,
    of_layers,
    overlaid,
    stated_colors,
    tinted,
    tints,
)
from intake_img.accessor.picture_planes import (
    is_labels,
    layers_of,
    names_of,
    per_channel,
    pick_channels,
    plane_of,
    variable_of,
)
from intake_img.errors import UnitsError
from intake_img.model.datasets import spacing_of
from intake_img.model.packages import imported
from intake_img.model.units import LENGTH, convert

__all__ = ["bar_length", "matplotlib_pyplot", "plot"]

_LISTED = 8  # the largest number of channel names in a picture


@dataclass(frozen=True)
class _Frame:
    """Geometry of a plane: matplotlib's extent, the size of a pixel, the unit of length (None for pixels)."""

    extent: tuple[float, float, float, float]
    aspect: float
    width: float
    unit: str | None


def plot(
    obj: xr.Dataset | xr.DataArray,
    channel: int | str | Sequence[int | str] | None,
    *,
    variable: str | None,
    projection: str | None,
    panels: bool,
    percentiles: tuple[float, float],
    limits: Any,
    colors: Any,
    labels: str | None,
    scale_bar: bool,
    ax: Any,
    indexers: Mapping[str, int | float | str],
) -> Any:
    """Draw an image; see `ImgAccessor.plot`."""
    plt = matplotlib_pyplot()
    array = variable_of(obj, variable)
    categorical = is_labels(array)
    picked, numbers = pick_channels(array, channel)
    colors = per_channel("colors", stated_colors(array) if colors is None else colors, array)
    limits = per_channel("limits", limits, array)
    plane, places = plane_of(picked, projection, indexers)
    frame = _frame(plane)
    stack = layers_of(plane)
    names = names_of(plane, stack.shape[0])
    if categorical:
        pictures = [label_colors(layer) for layer in stack]
        tinge: list[Any] = [(1.0, 1.0, 1.0)] * len(pictures)
    else:
        tinge = tints(of_layers(colors, numbers), names)
        ranges = limits_of(stack, names, of_layers(limits, numbers), percentiles)
        pictures = [tinted(*each) for each in zip(stack, ranges, tinge, strict=True)]
    titles: list[list[tuple[str, Any]]]
    if panels or categorical:
        shown = pictures
        titles = [[(name, tint)] if name else [] for name, tint in zip(names, tinge, strict=True)]
    else:
        shown = [overlaid(pictures, tinge)]
        rgb = is_rgb(names)
        titles = [[] if rgb else [(n, t) for n, t in zip(names, tinge, strict=True) if n]]
    over = [] if labels is None else _overlays(obj, labels, projection, indexers, numbers)
    axes = _axes(plt, ax, len(shown), frame)
    for k, (one, picture, title) in enumerate(zip(axes, shown, titles, strict=True)):
        _draw(one, picture, frame, title, over[k : k + 1] if 1 < len(shown) == len(over) else over, scale_bar, places)
    return np.array(axes, dtype=object) if panels else axes[0]


def matplotlib_pyplot() -> Any:
    """Return pyplot, or raise `MissingExtraError` that says what to install."""
    return imported("matplotlib.pyplot", "plot", "drawing an image")


def _overlays(
    obj: xr.Dataset | xr.DataArray,
    name: str,
    projection: str | None,
    indexers: Mapping[str, Any],
    channels: Sequence[int],
) -> list[np.ndarray]:
    """Return the pictures of a variable of labels at the shown position: one, or one for each of the channels."""
    if isinstance(obj, xr.DataArray):
        raise KeyError(f"labels={name!r} is a variable of a Dataset; this is one variable alone")
    array = variable_of(obj, name)
    if "c" in array.dims:
        array = array.isel(c=[k for k in channels if k < array.sizes["c"]])
    along = "max" if projection and "z" in array.dims else None
    plane, _ = plane_of(array, along, {a: k for a, k in indexers.items() if a in array.dims})
    shade = np.array([1, 1, 1, 0.45], np.float32)
    return [label_colors(layer) * shade for layer in layers_of(plane)]


# drawing


def _frame(plane: xr.DataArray) -> _Frame:
    """Return the geometry of the plane, in the unit of x if both axes have a spacing, else in pixels."""
    height, width = plane.sizes["y"], plane.sizes["x"]
    steps, starts, units = {}, {}, {}
    for axis in "yx":
        coord = plane.coords.get(axis)
        step = spacing_of(coord) if coord is not None else None
        if coord is not None and step is not None:
            if plane.sizes[axis] > 1:  # every n-th pixel may have been taken
                step = float(coord.values[-1] - coord.values[0]) / (plane.sizes[axis] - 1)
            steps[axis], starts[axis], units[axis] = step, float(coord.values[0]), coord.attrs.get("units")
    factor = _factor(units.get("y"), units.get("x")) if len(steps) == 2 else None
    if factor is None:
        return _Frame((-0.5, width - 0.5, height - 0.5, -0.5), 1.0, float(width), None)
    dy, dx = steps["y"] * factor, steps["x"]
    top, left = starts["y"] * factor - dy / 2, starts["x"] - dx / 2
    return _Frame((left, left + width * dx, top + height * dy, top), 1.0, width * dx, units["x"])


def _factor(unit: str | None, to: str | None) -> float | None:
    """The factor from `unit` to `to`; None if they do not convert or are unknown."""
    if unit is None or to is None:
        return None
    try:
        return 1.0 if unit == to else convert(1.0, unit, to)
    except UnitsError:
        return None


def _axes(plt: Any, given: Any, count: int, frame: _Frame) -> list[Any]:
    if given is None:
        left, right, bottom, top = frame.extent
        ratio = min(max(abs(bottom - top) / abs(right - left), 0.2), 3.0)
        _, axes = plt.subplots(1, count, figsize=(4.5 * count, 4.5 * ratio + 0.4), squeeze=False, layout="constrained")
        return list(axes[0])
    axes = list(np.ravel(np.asarray(given, dtype=object)))
    if len(axes) != count:
        raise ValueError(f"ax has {len(axes)} axes, but {count} panel{'s are' if count > 1 else ' is'} drawn")
    return axes


def _draw(
    ax: Any,
    picture: np.ndarray,
    frame: _Frame,
    title: list[tuple[str, Any]],
    over: Sequence[np.ndarray],
    scale_bar: bool,
    places: list[str],
) -> None:
    if picture.shape[-1] == 4:
        ax.set_facecolor("black")
    ax.imshow(picture, extent=frame.extent, aspect=frame.aspect, interpolation="nearest", origin="upper")
    for each in over:
        ax.imshow(each, extent=frame.extent, aspect=frame.aspect, interpolation="nearest", origin="upper")
    if places:
        ax.set_title(", ".join(places), fontsize=9)
    _legend(ax, title)
    if scale_bar and frame.unit is not None:
        ax.set_xticks([])
        ax.set_yticks([])
        _bar(ax, picture, frame)
    else:
        unit = frame.unit or "pixels"
        ax.set_xlabel(f"x ({unit})")
        ax.set_ylabel(f"y ({unit})")


def _legend(ax: Any, title: list[tuple[str, Any]]) -> None:
    """Write the names of the channels, in their colours, into the upper left corner."""
    from matplotlib.patheffects import withStroke

    shown = title if len(title) <= _LISTED else [*title[:_LISTED], (f"... ({len(title)})", (1, 1, 1))]
    for n, (name, tint) in enumerate(shown):
        text = ax.annotate(
            name,
            (0, 1),
            (6, -6 - 13 * n),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color=legible(tint),
            fontsize=9,
            fontweight="bold",
            clip_on=True,
        )
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _bar(ax: Any, picture: np.ndarray, frame: _Frame) -> None:
    """Draw the scale bar into the lower right corner, white on dark pixels and black on bright ones."""
    from matplotlib.patheffects import withStroke
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    assert frame.unit is not None
    length, label = bar_length(frame.width, frame.unit)
    height, width = picture.shape[:2]
    corner = picture[int(height * 0.8) :, int(width * 0.6) :]
    opaque = corner[..., 3:] if corner.shape[-1] == 4 else 1.0
    bright = float((corner[..., :3] * opaque).mean()) > 0.6
    color, edge = ("black", "white") if bright else ("white", "black")
    thickness = abs(frame.extent[2] - frame.extent[3]) * 0.012
    bar = AnchoredSizeBar(
        ax.transData,
        length,
        label,
        "lower right",
        pad=0.5,
        sep=4,
        frameon=False,
        color=color,
        size_vertical=thickness,
        fill_bar=True,
    )
    for part in (bar.txt_label._text, *bar.size_bar.get_children()):  # outlined, to be visible on any background
        part.set_path_effects([withStroke(linewidth=2, foreground=edge)])
    ax.add_artist(bar)


def bar_length(width: float, unit: str) -> tuple[float, str]:
    """Return a length of about a fifth of `width`, 1, 2 or 5 times a power of ten, and its label.

    Parameters
    ----------
    width : float
        Width of the picture.
    unit : str
        Its unit; the label may use another metric unit.

    Returns
    -------
    length : float
        In `unit`.
    label : str

    Examples
    --------
    >>> bar_length(130.0, "µm")
    (20.0, '20 µm')
    >>> bar_length(0.004, "mm")
    (0.001, '1 µm')
    """
    shown, length = unit, width / 4
    if unit in ("nm", "µm", "mm", "cm", "m"):
        for shown in ("nm", "µm", "mm", "m"):
            if 1 <= (length := convert(width / 4, unit, shown)) < 1000:
                break
    power = 10.0 ** floor(log10(length))
    digit = max(d for d in (1, 2, 5) if d <= length / power * (1 + 1e-9))
    value = float(f"{digit * power:.6g}")
    back = convert(value, shown, unit) if shown in LENGTH and unit in LENGTH else value
    return back, f"{value:g} {shown}"
