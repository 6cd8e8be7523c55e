"""Lazy selection of a region of an image by index or label."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import AxesError
from intake_img.model.axes import spell
from intake_img.model.datasets import of_samples
from intake_img.model.image import Image
from intake_img.model.variables import Coordinate

__all__ = ["select"]


def select(image: Image, indexers: Mapping[Hashable, Any]) -> tuple[Image, dict[str, int]]:
    """Return the selected region of an image, still unread, and the axes that an integer index drops.

    Parameters
    ----------
    image : Image
    indexers : mapping
        For each axis an index (int), a label (text or float), a slice of either, or a list of either. Or, for a
        coordinate along an axis, a label or a list of labels: all samples with these labels are selected.

    Raises
    ------
    AxesError
        If the image lacks an axis, or if an axis and a coordinate along it are both named.
    LookupError
        If there is no such index or label.
    """
    sizes = image.sizes
    coords = image.coordinates()
    indexers = _by_axis(indexers, sizes, coords)
    if unknown := [a for a in indexers if a not in sizes]:
        raise AxesError(f"partition names the axis {unknown[0]!r}, but the image has {spell(tuple(sizes))!r}")
    keys = {str(a): _positions(str(a), key, sizes[str(a)], coords.get(str(a))) for a, key in indexers.items()}
    variables = {
        n: replace(v, pixels=v.pixels.select([_kept(keys.get(a, slice(None))) for a in v.axes]))
        for n, v in image.variables.items()
    }
    explicit = {}
    for name, c in coords.items():  # also if evenly spaced: a selection need not start at the origin
        picked = c[tuple(_kept(keys.get(str(a), slice(None))) for a in c.dims)]
        attrs = dict(c.attrs)
        if c.dims == ("c",) and "c" in keys:
            attrs = of_samples(attrs, c.size, np.arange(c.size)[_kept(keys["c"])].tolist())
        explicit[name] = Coordinate(tuple(map(str, c.dims)), np.asarray(picked.values), attrs)
    dropped = {a: 0 for a, key in keys.items() if isinstance(key, int)}
    return replace(image, variables=variables, coords=explicit), dropped


def _by_axis(
    indexers: Mapping[Hashable, Any], sizes: Mapping[str, int], coords: Mapping[str, xr.Variable]
) -> dict[Hashable, Any]:
    """Return the indexers; indexers of coordinates are replaced by indices along their axes."""
    beside = [n for n in indexers if n not in sizes and n in coords and coords[str(n)].ndim == 1]
    masks: dict[Hashable, np.ndarray] = {}
    for name in beside:
        axis = coords[str(name)].dims[0]
        if axis in indexers:
            raise AxesError(f"partition names the axis {axis!r} and {name!r}, which lies along it: give one of them")
        found = _having(str(name), indexers[name], coords[str(name)].values)
        masks[axis] = masks.get(axis, True) & found
        if not masks[axis].any():
            raise KeyError(
                f"partition: no sample along {axis!r} has {', '.join(f'{n}={indexers[n]!r}' for n in beside)}"
            )
    kept = {a: key for a, key in indexers.items() if a not in beside}
    return kept | {a: np.flatnonzero(mask).tolist() for a, mask in masks.items()}


def _having(name: str, key: Any, values: np.ndarray) -> np.ndarray:
    """Return a mask of the samples that have one of the labels in `key`."""
    if isinstance(key, slice):
        raise TypeError(f"partition of {name!r}: expected a label or a list of labels, got {key!r}")
    mask = np.zeros(len(values), bool)
    for label in key if isinstance(key, (list, tuple, range, np.ndarray)) else [key]:
        if not (same := values == label).any():
            shown = ", ".join(dict.fromkeys(map(str, values[:1000].tolist())))[:200]
            raise KeyError(f"partition of {name!r}: no label {label!r}; there are {shown}")
        mask |= same
    return mask


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
                f"partition of {axis!r}: there is no label {label!r}, the axis has no coordinate of its own; use an "
                "index, or the name of another coordinate along it"
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
        if coord is not None and coord.dtype.kind in "iuf":  # positions, with both ends, as in xarray
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
