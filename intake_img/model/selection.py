"""Parts of an image by index or label, still unread."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import AxesError
from intake_img.model.axes import spell
from intake_img.model.image import Image
from intake_img.model.variables import Coordinate

__all__ = ["select"]


def select(image: Image, indexers: Mapping[Hashable, Any]) -> tuple[Image, dict[str, int]]:
    """Return the part of an image, still unread, and the axes that an index of one sample leaves out.

    Parameters
    ----------
    image : Image
    indexers : mapping
        For each axis an index (int), a label (text or float), a slice of either, or a list of either.

    Raises
    ------
    AxesError
        If the image lacks an axis.
    LookupError
        If there is no such index or label.
    """
    sizes = image.sizes
    if unknown := [a for a in indexers if a not in sizes]:
        raise AxesError(f"partition names the axis {unknown[0]!r}, but the image has {spell(tuple(sizes))!r}")
    coords = image.coordinates()
    keys = {str(a): _positions(str(a), key, sizes[str(a)], coords.get(str(a))) for a, key in indexers.items()}
    variables = {
        n: replace(v, pixels=v.pixels.select([_kept(keys.get(a, slice(None))) for a in v.axes]))
        for n, v in image.variables.items()
    }
    explicit = {}
    for name, c in coords.items():  # evenly spaced ones too: a part of them need not start at the origin
        picked = c[tuple(_kept(keys.get(str(a), slice(None))) for a in c.dims)]
        explicit[name] = Coordinate(tuple(map(str, c.dims)), np.asarray(picked.values), dict(c.attrs))
    dropped = {a: 0 for a, key in keys.items() if isinstance(key, int)}
    return replace(image, variables=variables, coords=explicit), dropped


def _kept(key: Any) -> Any:
    return [key] if isinstance(key, int) else key


def _positions(axis: str, key: Any, n: int, coord: xr.Variable | None) -> int | slice | list[int]:
    def position(label: Any) -> int:
        if isinstance(label, (bool, np.bool_)):
            raise IndexError(f"partition of {axis!r}: expected an index or a label, got {label!r}")
        if isinstance(label, (int, np.integer)):
            if not -n <= label < n:
                raise IndexError(f"partition of {axis!r}: index {int(label)} is out of range for {n} samples")
            return int(label) % n
        if coord is None:
            raise KeyError(
                f"partition of {axis!r}: there is no label {label!r}, the axis has no coordinate; use an index"
            )
        values = coord.values
        if isinstance(label, (float, np.floating)) and values.dtype.kind in "iuf":
            nearest = int(np.abs(values - label).argmin())
            step = np.abs(np.diff(values)).min() if n > 1 else 1.0
            if abs(values[nearest] - label) <= 1e-6 * max(step, 1e-300) + 4 * np.spacing(abs(float(label))):
                return nearest
        elif (found := np.flatnonzero(values == label)).size:
            return int(found[0])
        shown = ", ".join(map(str, values[:8])) + (", …" if n > 8 else "")
        raise KeyError(f"partition of {axis!r}: no label {label!r}; there are {shown}")

    if isinstance(key, slice):
        if all(k is None or isinstance(k, (int, np.integer)) for k in (key.start, key.stop)):
            return key
        if coord is not None and coord.dtype.kind in "iuf":  # a range of positions, ends included as in xarray
            values = coord.values
            slack = 1e-6 * np.abs(np.diff(values)).min() if n > 1 else 0.0  # 3 * 0.2 is a little more than 0.6
            low = -np.inf if key.start is None else key.start - slack
            high = np.inf if key.stop is None else key.stop + slack
            return np.flatnonzero((values >= low) & (values <= high))[:: key.step].tolist()
        start = None if key.start is None else position(key.start)
        return slice(start, None if key.stop is None else position(key.stop) + 1, key.step)
    if isinstance(key, (list, tuple, range, np.ndarray)):
        array = np.asarray(key)
        if array.dtype.kind == "b" and array.shape == (n,):
            return np.flatnonzero(array).tolist()
        return [position(k) for k in key]
    return position(key)
