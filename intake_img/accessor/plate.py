"""Pictures of plates: one number, or one small picture, for each well.

Powered by matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.colors import limits_of, of_layers, overlaid, stated_colors, tinted, tints
from intake_img.accessor.picture_planes import layers_of, names_of, pick_channels, plane_of, variable_of
from intake_img.accessor.plot import matplotlib_pyplot
from intake_img.errors import AxesError
from intake_img.model.wells import row_letters

__all__ = ["plot_plate"]

_PERCENTILES = (0.5, 99.8)
_STATISTICS = ("mean", "max", "min", "sum", "std", "var", "median")
_GAP = 0.06  # of a well, between the pictures


def plot_plate(
    obj: xr.Dataset | xr.DataArray,
    show: Any,
    *,
    channel: Any,
    variable: str | None,
    projection: str | None,
    limits: Any,
    cmap: Any,
    size: int,
    ax: Any,
) -> Any:
    """Draw a plate; see `ImgAccessor.plot_plate`."""
    plt = matplotlib_pyplot()
    array = variable_of(obj, variable)
    wells = _wells(array)
    shape = _shape(obj, wells)
    if ax is None:
        _, ax = plt.subplots(
            figsize=(max(3.0, 0.45 * shape[1] + 1.2), max(2.0, 0.45 * shape[0] + 0.8)), layout="constrained"
        )
    picked, numbers = pick_channels(array, channel)
    if isinstance(show, str) and show == "thumbnail":
        colors = of_layers(stated_colors(array), numbers)
        _draw_pictures(ax, shape, _pictures(picked, wells, projection, limits, size, colors))
    else:
        values, title = _numbers(picked, show)
        _draw_numbers(ax, _table(shape, wells, values), limits, cmap, title)
    ax.set_xticks(range(shape[1]), [str(c + 1) for c in range(shape[1])], fontsize=7)
    ax.set_yticks(range(shape[0]), [row_letters(r) for r in range(shape[0])], fontsize=7)
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    return ax


def _wells(array: xr.DataArray) -> dict[tuple[int, int], list[int]]:
    """Return the images of each well, by row and column."""
    if "i" not in array.dims or any(k not in array.coords or array[k].dims != ("i",) for k in ("row", "column")):
        raise AxesError(
            "plot_plate needs images along 'i' with the coordinates 'row' and 'column', as imload(plate, scene='all') "
            f"gives them; got the axes {list(array.dims)} with the coordinates {list(array.coords)}"
        )
    found: dict[tuple[int, int], list[int]] = {}
    for k, at in enumerate(zip(array["row"].values.tolist(), array["column"].values.tolist(), strict=True)):
        found.setdefault((int(at[0]), int(at[1])), []).append(k)
    return found


def _shape(obj: xr.Dataset | xr.DataArray, wells: Mapping[tuple[int, int], Any]) -> tuple[int, int]:
    """Return the numbers of rows and columns of the plate: from the attributes, and at least as many as the wells
    need."""
    stated = (obj.attrs.get("plate_rows"), obj.attrs.get("plate_columns"))
    needed = (1 + max(at[k] for at in wells) for k in (0, 1))
    rows, columns = (max(n, s if isinstance(s, int) else 0) for n, s in zip(needed, stated, strict=True))
    return rows, columns


def _numbers(array: xr.DataArray, show: Any) -> tuple[np.ndarray, str]:
    """Return a number for each image, and its description."""
    if isinstance(show, str):
        if show not in _STATISTICS:
            raise ValueError(
                f"show={show!r}: expected 'thumbnail', {', '.join(map(repr, _STATISTICS))}, "
                "a function or a number for each image"
            )
        over = [d for d in array.dims if d != "i"]
        part = array.chunk(dict.fromkeys(over, -1)) if show == "median" and array.chunks is not None else array
        return np.asarray(getattr(part, show)(over).values, float), show
    if callable(show):
        function: Callable[[xr.DataArray], Any] = show
        values = [float(function(array.isel(i=k))) for k in range(array.sizes["i"])]
        return np.asarray(values), getattr(show, "__name__", "")
    values_ = np.asarray(show, float)
    if values_.shape != (array.sizes["i"],):
        raise ValueError(f"show has the shape {values_.shape}, but there are {array.sizes['i']} images along 'i'")
    return values_, str(getattr(show, "name", None) or "")


def _table(shape: tuple[int, int], wells: Mapping[tuple[int, int], list[int]], values: np.ndarray) -> np.ndarray:
    """Return the mean of the numbers of each well; NaN for wells without images."""
    table = np.full(shape, np.nan)
    for at, images in wells.items():
        own = values[images]
        own = own[np.isfinite(own)]
        table[at] = own.mean() if own.size else np.nan
    return table


def _draw_numbers(ax: Any, table: np.ndarray, limits: Any, cmap: Any, title: str) -> None:
    low, high = (None, None) if limits is None else limits
    shown = ax.imshow(table, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    ax.set_xticks(np.arange(-0.5, table.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, table.shape[0]), minor=True)
    ax.grid(which="minor", color="0.8", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    ax.figure.colorbar(shown, ax=ax, label=title, shrink=0.8)


def _pictures(
    array: xr.DataArray,
    wells: Mapping[tuple[int, int], list[int]],
    projection: str | None,
    limits: Any,
    size: int,
    colors: Any,
) -> dict[tuple[int, int], np.ndarray]:
    """Return a picture of the first image of each well, all with the same contrast."""
    planes = {at: plane_of(array, projection, {"i": images[0]}, side=size)[0] for at, images in wells.items()}
    layers = {at: layers_of(plane) for at, plane in planes.items()}
    first = next(iter(planes.values()))
    names = names_of(first, len(next(iter(layers.values()))))
    pooled = np.concatenate(list(layers.values()), axis=1)
    ranges = limits_of(pooled, names, limits, _PERCENTILES)
    tinge = tints(colors, names)
    return {
        at: overlaid([tinted(*each) for each in zip(stack, ranges, tinge, strict=True)], tinge)
        for at, stack in layers.items()
    }


def _draw_pictures(ax: Any, shape: tuple[int, int], pictures: Mapping[tuple[int, int], np.ndarray]) -> None:
    half = 0.5 - _GAP / 2
    for (row, column), picture in pictures.items():
        height, width = (n / max(picture.shape[:2]) * half for n in picture.shape[:2])
        extent = (column - width, column + width, row + height, row - height)
        ax.imshow(picture, extent=extent, interpolation="nearest", origin="upper")
    ax.set_xlim(-0.5, shape[1] - 0.5)
    ax.set_ylim(shape[0] - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.set_facecolor("0.92")
