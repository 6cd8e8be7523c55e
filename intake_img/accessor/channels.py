"""Channels by name and number: this module decides which channel is meant.

A channel is given by its *name*, its label on the coordinate ``c``. Channels whose names are texts, or that have no
names, are also given by their *number*: from 0, or -1 for the last. Where names are integers (wavelengths, numbers in
the names of files), an integer is always a name: of the names 1, 2, 3 a 2 would else be two channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import AxesError

__all__ = ["by_number", "channel_names", "channel_number"]


def channel_names(array: xr.DataArray) -> list[str | int]:
    """Return the names of the channels; their numbers if they have no names."""
    if "c" in array.coords:
        values = np.atleast_1d(array["c"].values).tolist()
        return [v if isinstance(v, int) else str(v) for v in values]
    return list(range(array.sizes["c"]))


def channel_number(array: xr.DataArray, channel: Any) -> int:
    """Return the number of a channel; see above.

    Parameters
    ----------
    array : xarray.DataArray
        With the axis ``c``.
    channel : str, int or float
        A float is the label on a coordinate of floats; a text of digits, as commands get it, is a name, or else a
        number.

    Raises
    ------
    AxesError
        If there is no such channel, or several have the name.
    """
    names = channel_names(array)
    if isinstance(channel, (float, np.floating)):
        channel = str(float(channel))
    whole = isinstance(channel, (int, np.integer)) and not isinstance(channel, bool)
    found = [k for k, name in enumerate(names) if (name if whole else str(name)) == channel]
    if len(found) > 1:
        hint = "" if whole else ": give the number instead"
        raise AxesError(f"{len(found)} channels are named {channel!r}{hint}")
    if found:
        return found[0]
    number = int(channel) if whole or (isinstance(channel, str) and channel.isdecimal()) else None
    counted = "c" not in array.coords or all(isinstance(n, str) for n in names)
    if number is None or not counted or not -len(names) <= number < len(names):
        raise AxesError(f"there is no channel {channel!r}; the image has {', '.join(map(repr, names))}")
    return number % len(names)


def by_number(what: str, given: Mapping[Any, Any], array: xr.DataArray) -> dict[int, Any]:
    """Return a mapping from channels, by name or number, as one from their numbers.

    Raises
    ------
    AxesError
        If the image has no such channel, or two keys are one channel.
    """
    found: dict[int, Any] = {}
    for key, value in given.items():
        try:
            number = channel_number(array, key)
        except AxesError as exc:
            raise AxesError(f"{what}[{key!r}]: {exc}") from exc
        if number in found:
            raise AxesError(f"{what}={given!r} names the channel {channel_names(array)[number]!r} twice")
        found[number] = value
    return found
