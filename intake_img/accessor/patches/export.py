"""Patches in a Zarr group, with the table beside the arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.formats.registry import check_replaced
from intake_img.model.progress_bar import meter
from intake_img.model.variables import kind_of
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["write_zarr"]

_CHUNK_BYTES = 2**20
_WINDOW_BYTES = 2**25


def write_zarr(
    patches: Any,
    path: Any,
    variables: Sequence[str],
    chunk: int | None,
    compress: Any,
    overwrite: bool,
    progress: bool | None,
) -> str:
    """Write patches into a Zarr group; see `Loaders.to_zarr`."""
    from intake_img.formats.omezarr.target import Target

    target, n = File.parse(path), len(patches)
    _one_shape(patches)
    if overwrite:
        check_replaced(target)
    table = patches.table
    coords = {str(c): _column(table[c]) for c in table.columns}
    beside = _beside(patches, variables)
    listed = [*coords, *(k for k, c in beside.items() if c.dims != (k,))]
    attributes = {"coordinates": " ".join(listed), "plan": patches.plan.id}
    with replacing(target, overwrite=overwrite, folder=True) as folder, Target(folder, 3, {"": attributes}) as made:
        arrays = {}
        for v in variables:
            shape, dtype = patches.shape(v), patches.dtype(v)
            lead = chunk or max(1, _CHUNK_BYTES // max(1, math.prod(shape) * dtype.itemsize))
            arrays[v] = made.create(
                v,
                (n, *shape),
                dtype,
                patches.dims(v),
                (max(1, min(lead, n)), *shape),
                None,
                compress,
                _plain_attrs(patches, v),
            )
        for name, values in coords.items():
            _put(made, name, values, ("patch",), {})
        for name, c in beside.items():
            values = np.asarray(c.values).astype(object) if c.dtype.kind in "UO" else np.asarray(c.values)
            _put(made, name, values, c.dims, {"units": c.attrs["units"]} if "units" in c.attrs else {})
        with meter(progress, n * len(variables), f"saving {target.name}", "patch") as step:
            for v in variables:
                _fill(patches, v, arrays[v], step)
    return str(target)


def _beside(patches: Any, variables: Sequence[str]) -> dict[str, Any]:
    """Return the coordinates of kept axes: names of channels."""
    source = patches.sources[0]
    kept = {d for v in variables for d in source.layers[v].kept}
    found = {str(k): c for k, c in source.coords.coords.items() if c.dims and set(map(str, c.dims)) <= kept}
    return {k: c for k, c in found.items() if c.dtype.kind in "biufUO"}


def _one_shape(patches: Any) -> None:
    shape = patches.plan.shape
    if len(shape) and (shape != shape[0]).any():
        raise ValueError(
            "patches of different shapes (edge='partial') do not fit into a Zarr array: use edge='pad' or 'shift'"
        )


def _plain_attrs(patches: Any, variable: str) -> dict[str, Any]:
    layer = patches.sources[0].layers[variable]
    kind = kind_of(layer.attrs, layer.pixels.dtype)
    return {"kind": kind} if kind else {}


def _column(column: Any) -> np.ndarray:
    values = column.to_numpy()
    return values.astype(object) if values.dtype.kind in "UO" or not hasattr(values.dtype, "kind") else values


def _put(made: Any, name: str, values: np.ndarray, dims: Sequence[str], attrs: dict[str, Any]) -> None:
    whole = tuple(max(1, min(k, 2**16)) for k in values.shape)
    array = made.create(name, values.shape, values.dtype, dims, whole, None, None, attrs, fill=None)
    if values.size:
        array[...] = values


def _fill(patches: Any, variable: str, array: Any, step: Any) -> None:
    """Fill an array, complete chunks at a time."""
    chunk = array.chunks[0]
    item = max(1, math.prod(patches.shape(variable)) * patches.dtype(variable).itemsize)
    many = max(1, _WINDOW_BYTES // (chunk * item)) * chunk
    for k in range(0, len(patches), many):
        stop = min(k + many, len(patches))
        array[k:stop] = patches.read(slice(k, stop), variable)
        step(stop - k)
