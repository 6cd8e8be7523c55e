"""Pictures of one plane or projection: channels in colours, labels in many, a scale bar of a round length.

Powered by matplotlib, which is imported when something is drawn. Only the plane that is shown is read; of planes
larger than a screen, every n-th pixel is drawn.
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
    overlaid,
    stated_colors,
    tinted,
    tints,
)
from intake_img.errors import AxesError, MissingExtraError, UnitsError
from intake_img.model.axes import RGB, spell
from intake_img.model.datasets import spacing_of
from intake_img.model.units import LENGTH, convert

__all__ = ["bar_length", "plot"]

_PROJECTIONS = ("max", "min", "mean", "sum")
_MAX_SIDE = 2048  # pixels: more than a figure shows
_LISTED = 8  # names of channels that are written into a picture


@dataclass(frozen=True)
class _Frame:
    """Where a plane lies: matplotlib's extent, the size of a pixel, the unit of length (None for pixels)."""

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
    plt = _pyplot()
    array = _variable(obj, variable)
    categorical = _is_labels(array)
    if colors is None and not categorical:
        colors = stated_colors(array)  # before channels are picked: they may be listed in the channels' order
    plane, places = _plane(_pick_channels(array, channel), projection, indexers)
    frame = _frame(plane)
    stack = _channels_first(plane)
    names = _names(plane, stack.shape[0])
    if categorical:
        pictures = [label_colors(layer) for layer in stack]
        tinge: list[Any] = [(1.0, 1.0, 1.0)] * len(pictures)
    else:
        tinge = tints(colors, names)
        ranges = limits_of(stack, names, limits, percentiles)
        pictures = [tinted(*each) for each in zip(stack, ranges, tinge, strict=True)]
    titles: list[list[tuple[str, Any]]]
    if panels or categorical:
        shown = pictures
        titles = [[(name, tint)] if name else [] for name, tint in zip(names, tinge, strict=True)]
    else:
        shown = [overlaid(pictures, tinge)]
        rgb = is_rgb(names)
        titles = [[] if rgb else [(n, t) for n, t in zip(names, tinge, strict=True) if n]]
    over = _overlay(obj, labels, projection, indexers) if labels is not None else None
    axes = _axes(plt, ax, len(shown), frame)
    for one, picture, title in zip(axes, shown, titles, strict=True):
        _draw(one, picture, frame, title, over, scale_bar, places)
    return np.array(axes, dtype=object) if panels else axes[0]


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as exc:
        raise MissingExtraError("matplotlib", "plot", "drawing an image") from exc
    return plt


# which pixels


def _variable(obj: xr.Dataset | xr.DataArray, name: str | None) -> xr.DataArray:
    if isinstance(obj, xr.DataArray):
        if name is not None and name != obj.name:
            raise KeyError(f"variable={name!r}: this is the variable {obj.name!r} alone, not a Dataset")
        return obj
    if name is None:
        return obj.img._first
    if name not in obj.data_vars:
        raise KeyError(f"the Dataset has no variable {name!r}; it has {', '.join(map(str, obj.data_vars))}")
    return obj[name]


def _is_labels(array: xr.DataArray) -> bool:
    return array.attrs.get("kind") == "labels"


def _pick_channels(array: xr.DataArray, channel: Any) -> xr.DataArray:
    if channel is None:
        return array
    if "c" not in array.dims:
        raise AxesError(
            f"channel={channel!r}: the image has no channels, its axes are {spell(tuple(map(str, array.dims)))!r}"
        )
    wanted = [channel] if isinstance(channel, (int, np.integer, str)) else list(channel)
    return array.isel(c=[_position(array, "c", key) for key in wanted])


def _plane(array: xr.DataArray, projection: str | None, indexers: Mapping[str, Any]) -> tuple[xr.DataArray, list[str]]:
    """Return the part to show, with the axes (c,) y, x (, s), and words for its place on the other axes."""
    dims = tuple(map(str, array.dims))
    _check_places(dims, projection, indexers)
    words, picked = [], {}
    colour = _colour_axis(array)
    for axis in dims:
        if axis in ("c", "y", "x", colour) or (axis == "z" and projection):
            continue
        default = array.sizes["z"] // 2 if axis == "z" else 0
        picked[axis] = _position(array, axis, indexers.get(axis, default))
        if array.sizes[axis] > 1 or axis in indexers:
            words.append(_word(array, axis, picked[axis]))
    step = {a: slice(None, None, -(-array.sizes[a] // _MAX_SIDE)) for a in "yx" if array.sizes[a] > _MAX_SIDE}
    plane = array.isel({**picked, **step})
    if projection is not None:
        plane = getattr(plane, projection)("z", keep_attrs=True)
        words.append(f"{projection} over z")
    order = [a for a in ("c", "y", "x", colour) if a and a in plane.dims]
    return plane.transpose(*order).compute(), words


def _check_places(dims: tuple[str, ...], projection: str | None, indexers: Mapping[str, Any]) -> None:
    if lacking := [a for a in "yx" if a not in dims]:
        raise AxesError(f"a picture needs the axes y and x, but the image has {spell(dims)!r}: no {lacking[0]!r}")
    for axis in indexers:
        if axis not in dims or axis in "cyx":
            hint = ": channels are chosen with channel=" if axis == "c" else f": its axes are {spell(dims)!r}"
            raise AxesError(f"{axis}={indexers[axis]!r} is no place in this image{hint}")
    if projection is None:
        return
    if projection not in _PROJECTIONS:
        raise ValueError(f"projection={projection!r}: expected one of {', '.join(_PROJECTIONS)}, or None")
    if "z" not in dims or "z" in indexers:
        reason = "z is given too" if "z" in dims else f"the image has the axes {spell(dims)!r}"
        raise AxesError(f"projection={projection!r} is along z, but {reason}")


def _colour_axis(array: xr.DataArray) -> str | None:
    """Axis of colour samples beside channels."""
    return "s" if "s" in array.dims and array.sizes["s"] in (3, 4) else None


def _position(array: xr.DataArray, axis: str, key: Any) -> int:
    """Return the index of a place given by index (int), or by coordinate (float: the nearest; str: the same)."""
    n = array.sizes[axis]
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not -n <= key < n:
            raise IndexError(f"{axis}={int(key)} is out of range: the axis has {n} samples")
        return int(key) % n
    if axis not in array.coords:
        raise KeyError(f"{axis}={key!r}: the axis has no coordinate; give an index")
    values = array.coords[axis].values
    if isinstance(key, (float, np.floating)) and values.dtype.kind in "iuf":
        return int(np.abs(values - key).argmin())
    found = np.flatnonzero(values.astype(str) == str(key))
    if not found.size:
        raise KeyError(f"{axis}={key!r} is not among {', '.join(map(str, values[:8]))}{', ...' * (n > 8)}")
    return int(found[0])


def _word(array: xr.DataArray, axis: str, index: int) -> str:
    if axis not in array.coords:
        return f"{axis} = {index}"
    coord = array.coords[axis]
    value = coord.values[index]
    number = f"{value:.4g}" if isinstance(value, (np.number, int, float)) else str(value)
    return f"{axis} = {number} {coord.attrs.get('units', '')}".rstrip()


def _channels_first(plane: xr.DataArray) -> np.ndarray:
    """Return the pixels as an array of layers, each of them a plane; colour samples are layers too."""
    values = plane.values
    if "s" in plane.dims:
        if "c" in plane.dims:
            values = values[0]
        return np.moveaxis(values, -1, 0)[:3]
    if "c" not in plane.dims:
        return values[np.newaxis]
    return values[:3] if is_rgb([str(c) for c in plane.c.values] if "c" in plane.coords else []) else values


def _names(plane: xr.DataArray, count: int) -> list[str]:
    if "s" in plane.dims:
        return list(RGB[:3])
    if "c" in plane.coords:
        return [str(c) for c in np.atleast_1d(plane.c.values)[:count]]
    return [f"channel {n}" for n in range(count)] if "c" in plane.dims else [""]


def _overlay(
    obj: xr.Dataset | xr.DataArray, name: str, projection: str | None, indexers: Mapping[str, Any]
) -> np.ndarray:
    """Return the picture of a variable of labels at the place that is shown."""
    if isinstance(obj, xr.DataArray):
        raise KeyError(f"labels={name!r} is a variable of a Dataset; this is one variable alone")
    array = _variable(obj, name)
    along = "max" if projection and "z" in array.dims else None
    plane, _ = _plane(array, along, {a: k for a, k in indexers.items() if a in array.dims})
    picture = label_colors(_channels_first(plane)[0])
    picture[..., 3] *= 0.45
    return picture


# drawing


def _frame(plane: xr.DataArray) -> _Frame:
    """Return where the plane lies, in the unit of x where both axes have a spacing, else in pixels."""
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
    """How many `to` one `unit` is; None if they cannot be compared or nothing is known of them."""
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
        raise ValueError(f"ax holds {len(axes)} axes, but {count} panel{'s are' if count > 1 else ' is'} drawn")
    return axes


def _draw(ax: Any, picture: np.ndarray, frame: _Frame, title: list[tuple[str, Any]], over: np.ndarray | None,
          scale_bar: bool, places: list[str]) -> None:  # fmt: skip
    if picture.shape[-1] == 4:
        ax.set_facecolor("black")
    ax.imshow(picture, extent=frame.extent, aspect=frame.aspect, interpolation="nearest", origin="upper")
    if over is not None:
        ax.imshow(over, extent=frame.extent, aspect=frame.aspect, interpolation="nearest", origin="upper")
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
        text = ax.annotate(name, (0, 1), (6, -6 - 13 * n), xycoords="axes fraction", textcoords="offset points",
                           va="top", color=legible(tint), fontsize=9, fontweight="bold", clip_on=True)  # fmt: skip
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
    bar = AnchoredSizeBar(ax.transData, length, label, "lower right", pad=0.5, sep=4, frameon=False, color=color,
                          size_vertical=thickness, fill_bar=True)  # fmt: skip
    bar.txt_label._text.set_path_effects([withStroke(linewidth=2, foreground=edge)])
    ax.add_artist(bar)


def bar_length(width: float, unit: str) -> tuple[float, str]:
    """Return a length of about a fifth of `width`, 1, 2 or 5 times a power of ten, and its label.

    Parameters
    ----------
    width : float
        Width of the picture.
    unit : str
        Its unit; the label may have another one of the metric system.

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
