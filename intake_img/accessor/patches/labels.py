"""Datasets of patches, with coordinates that describe the origin of each patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.patches.cutting import own_boxes
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.sources import Layer, Source
from intake_img.model.datasets import FILE_ATTRS, spacing_of

__all__ = ["as_dataset", "one"]

PATCH = "patch"


def as_dataset(
    arrays: Mapping[str, np.ndarray], plan: Plan, numbers: np.ndarray, sources: Sequence[Source], valid: bool
) -> xr.Dataset:
    """Return patches with their coordinates.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        For each variable, (n, kept axes, cut axes).
    plan : Plan
        The plan of these patches.
    numbers : ndarray of int
        Their numbers.
    sources : sequence of Source
    valid : bool
        Whether to add coordinates for the part of each patch that lies in the image.
    """
    first = sources[0]
    variables = {
        n: xr.Variable((PATCH, *first.layers[n].patch_dims), a, dict(first.layers[n].attrs)) for n, a in arrays.items()
    }
    coords: dict[str, Any] = {PATCH: xr.Variable(PATCH, np.asarray(numbers, np.int64))}
    for k, a in enumerate(plan.over):
        coords[f"{a}0"] = xr.Variable(PATCH, plan.index[:, k])
        if (labels := _labels(a, plan.index[:, k], plan.source, sources)) is not None:
            coords[a] = labels
    for k, a in enumerate(plan.axes):
        coords[f"{a}0"] = xr.Variable(PATCH, plan.start[:, k])
        if valid:
            length = np.array([s.sizes[a] for s in sources], np.int64)[plan.source]
            low = np.clip(-plan.start[:, k], 0, plan.shape[:, k])
            coords[f"valid_{a}0"] = xr.Variable(PATCH, low)
            coords[f"valid_{a}1"] = xr.Variable(PATCH, np.clip(length - plan.start[:, k], low, plan.shape[:, k]))
    coords["source"] = xr.Variable(PATCH, plan.source)
    for name in ("uri", "scene"):
        texts = [getattr(s, name) for s in sources]
        if any(texts):
            coords[name] = xr.Variable(PATCH, np.array(texts, dtype=object)[plan.source].astype(str))
    if plan.weight is not None:
        coords["weight"] = xr.Variable(PATCH, plan.weight)
    for n, array in arrays.items():
        coords.update(_positions(n, array.shape, plan, sources))
    kept = {d for n in arrays for d in first.layers[n].kept}
    for key, c in first.coords.coords.items():
        if c.dims and set(c.dims) <= kept and str(key) not in coords:
            coords[str(key)] = c.variable
    attrs = (
        dict(first.coords.attrs)
        if len(sources) == 1
        else {k: v for k, v in first.coords.attrs.items() if k not in FILE_ATTRS}
    )
    return xr.Dataset(variables, {n: c for n, c in coords.items() if n not in variables}, attrs)


def one(ds: xr.Dataset) -> xr.Dataset:
    """Return the only patch of a Dataset, its positions as ordinary coordinates."""
    ds = ds.isel({PATCH: 0})
    again = {n: ds[n].variable for n in ds.coords if ds[n].dims == (n,)}
    return ds.drop_vars(list(again)).assign_coords(again)


def _labels(axis: str, index: np.ndarray, source: np.ndarray, sources: Sequence[Source]) -> xr.Variable | None:
    """Return the labels of positions along an iterated axis, if all sources have them."""
    found = [s.coords.coords[axis] for s in sources if axis in s.coords.coords and s.coords[axis].dims == (axis,)]
    if len(found) < len(sources):
        return None
    if len(found) == 1:
        return xr.Variable(PATCH, found[0].values[index], dict(found[0].attrs))
    offset = np.concatenate([[0], np.cumsum([c.size for c in found])])
    values = np.concatenate([c.values for c in found])[offset[source] + index]
    return xr.Variable(PATCH, values, dict(found[0].attrs))


def _positions(name: str, shape: tuple[int, ...], plan: Plan, sources: Sequence[Source]) -> dict[str, xr.Variable]:
    """Return the physical positions of the pixels of patches, (patch, axis), for axes that have them."""
    layer = sources[0].layers[name]
    found = {}
    boxes = [own_boxes(plan, s.layers[name]) for s in sources]
    for k, a in enumerate(layer.cut):
        coords = [_coordinate(s, s.layers[name], a) for s in sources]
        if any(c is None for c in coords):
            continue
        length = shape[1 + len(layer.kept) + k]
        values = np.empty((len(plan), length))
        for number, c in enumerate(coords):
            rows = np.flatnonzero(plan.source == number)
            if len(rows) and c is not None:
                values[rows] = _along(c, boxes[number][0][rows, k, None] + np.arange(length))
        dim = layer.names.get(a, a)
        attrs = dict(coords[0].attrs) if coords[0] is not None else {}
        if coords[0] is not None and (step := spacing_of(coords[0])) is not None:
            attrs["spacing"] = step  # a patch of one pixel keeps it
        found[dim] = xr.Variable((PATCH, dim), values, attrs)
    return found


def _coordinate(source: Source, layer: Layer, axis: str) -> xr.DataArray | None:
    if axis in layer.coords:
        return xr.DataArray(layer.coords[axis], dims=(axis,), name=axis)
    if layer.names.get(axis, axis) != axis or axis not in source.coords.coords:
        return None
    c = source.coords.coords[axis]
    return c if c.dims == (axis,) and c.dtype.kind in "iuf" else None


def _along(coord: xr.DataArray, places: np.ndarray) -> np.ndarray:
    """Return the coordinate at indices; outside of the image it is extrapolated, or NaN if it is not evenly spaced."""
    values = np.asarray(coord.values, np.float64)
    inside = (places >= 0) & (places < len(values))
    found = values[np.clip(places, 0, len(values) - 1)]
    if inside.all():
        return found
    step = spacing_of(coord)
    beyond = np.nan if step is None else values[0] + step * places
    return np.where(inside, found, beyond)
