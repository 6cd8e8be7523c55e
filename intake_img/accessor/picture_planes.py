"""The pixels of a picture: one plane or projection, its channels as layers, and a text for its position.

Only the shown pixels are read; from planes larger than requested, every n-th pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.channels import by_number, channel_number
from intake_img.accessor.colors import channel_name, is_rgb
from intake_img.accessor.variables import first_image
from intake_img.errors import AxesError
from intake_img.model.axes import RGB, spell
from intake_img.model.variables import kind_of

__all__ = [
    "is_labels",
    "layers_of",
    "names_of",
    "per_channel",
    "pick_channels",
    "plane_of",
    "position_on",
    "variable_of",
]

_PROJECTIONS = ("max", "min", "mean", "sum")
_MAX_SIDE = 2048  # pixels: more than a figure shows


def variable_of(obj: xr.Dataset | xr.DataArray, name: str | None) -> xr.DataArray:
    """Return the variable to show; by default the image of a Dataset."""
    if isinstance(obj, xr.DataArray):
        if name is not None and name != obj.name:
            raise KeyError(f"variable={name!r}: this is the variable {obj.name!r} alone, not a Dataset")
        return obj
    if name is None:
        return first_image(obj)
    if name not in obj.data_vars:
        raise KeyError(f"the Dataset has no variable {name!r}; it has {', '.join(map(str, obj.data_vars))}")
    return obj[name]


def is_labels(array: xr.DataArray) -> bool:
    """True for a variable of labels."""
    return kind_of(array.attrs, array.dtype) == "labels"


def pick_channels(array: xr.DataArray, channel: Any) -> tuple[xr.DataArray, list[int]]:
    """Return the channels given by name or number (None for all), and their numbers.

    Without names they are named by their numbers. Without an axis ``c`` there is one channel, or those of the colour
    samples.
    """
    every = list(range(_channels_of(array).size))
    if channel is None:
        return _numbered(array), every
    if "c" not in array.dims:
        raise AxesError(
            f"channel={channel!r}: the image has no channels, its axes are {spell(tuple(map(str, array.dims)))!r}"
        )
    wanted = [channel] if np.ndim(channel) == 0 else list(channel)
    if not wanted:
        raise ValueError(f"channel={channel!r}: expected a channel or several; None shows all")
    numbers = [channel_number(array, key) for key in wanted]
    return _numbered(array).isel(c=numbers), every if _colour_axis(array) else numbers


def per_channel(what: str, given: Any, array: xr.DataArray) -> Any:
    """Return a mapping from channels, by name or number, as one from their numbers; anything else unchanged."""
    return by_number(what, given, _channels_of(array)) if isinstance(given, Mapping) else given


def _numbered(array: xr.DataArray) -> xr.DataArray:
    named = "c" not in array.dims or "c" in array.coords
    return array if named else array.assign_coords(c=range(array.sizes["c"]))


def _channels_of(array: xr.DataArray) -> xr.DataArray:
    """Return an array of the channels, or of the colour samples, which are layers of a picture, with their names."""
    if _colour_axis(array):
        return xr.DataArray(np.zeros(3), {"c": list(RGB[:3])}, ["c"])
    names = {"c": np.atleast_1d(array["c"].values)} if "c" in array.coords else None
    return xr.DataArray(np.zeros(array.sizes.get("c", 1)), names, ["c"])


def plane_of(
    array: xr.DataArray, projection: str | None, indexers: Mapping[str, Any], side: int = _MAX_SIDE
) -> tuple[xr.DataArray, list[str]]:
    """Return the plane to show, with the axes (c,) y, x (, s), and a text for its position on the other axes.

    Parameters
    ----------
    array : xarray.DataArray
    projection : {"max", "min", "mean", "sum"}, optional
        Along ``z``.
    indexers : mapping
        Position on the other axes.
    side : int
        The largest number of pixels along y and x: from more pixels, every n-th is taken.

    Raises
    ------
    AxesError
        If the image has no ``y`` or ``x``, or no pixels.
    """
    dims = tuple(map(str, array.dims))
    _check_places(dims, projection, indexers)
    if empty := [a for a in dims if array.sizes[a] == 0]:
        raise AxesError(f"a picture needs pixels, but the axis {empty[0]!r} of the image has the length 0")
    words, picked = [], {}
    colour = _colour_axis(array)
    for axis in dims:
        if axis in ("c", "y", "x", colour) or (axis == "z" and projection):
            continue
        default = array.sizes["z"] // 2 if axis == "z" else 0
        picked[axis] = position_on(array, axis, indexers.get(axis, default))
        if array.sizes[axis] > 1 or axis in indexers:
            words.append(_word(array, axis, picked[axis]))
    step = {a: slice(None, None, -(-array.sizes[a] // side)) for a in "yx" if array.sizes[a] > side}
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
            raise AxesError(f"{axis}={indexers[axis]!r} is not a position in this image{hint}")
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


def position_on(array: xr.DataArray, axis: str, key: Any) -> int:
    """Return the index of a position given as an index (int) or a coordinate (float: the nearest; str: exact)."""
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
    if found.size > 1:
        raise KeyError(f"{axis}={key!r}: {found.size} samples have this name, number {', '.join(map(str, found))}")
    return int(found[0])


def _word(array: xr.DataArray, axis: str, index: int) -> str:
    if axis not in array.coords:
        return f"{axis} = {index}"
    coord = array.coords[axis]
    value = coord.values[index]
    number = f"{value:.4g}" if isinstance(value, (np.number, int, float)) else str(value)
    return f"{axis} = {number} {coord.attrs.get('units', '')}".rstrip()


def layers_of(plane: xr.DataArray) -> np.ndarray:
    """Return the pixels as an array of layers, each of them a plane; colour samples are layers too."""
    values = plane.values
    if "s" in plane.dims:
        if "c" in plane.dims:
            values = values[0]
        return np.moveaxis(values, -1, 0)[:3]
    if "c" not in plane.dims:
        return values[np.newaxis]
    return values[:3] if is_rgb([channel_name(c) for c in plane.c.values] if "c" in plane.coords else []) else values


def names_of(plane: xr.DataArray, count: int) -> list[str]:
    """Return the names of the layers; channels without a name get their number."""
    if "s" in plane.dims:
        return list(RGB[:3])
    if "c" in plane.coords:
        return [channel_name(c) for c in np.atleast_1d(plane.c.values)[:count]]
    return [f"channel {n}" for n in range(count)] if "c" in plane.dims else [""]
