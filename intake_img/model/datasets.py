"""Conversion between `Pixels` and xarray's lazily indexed arrays, and the spacing of coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing
from xarray.indexes import PandasIndex

from intake_img.model.indices import settled
from intake_img.model.pixels import Pixels
from intake_img.model.units import known_spacing

__all__ = [
    "FILE_ATTRS",
    "attributes_of",
    "coordinate",
    "data_of",
    "dataset_of",
    "indexed_lazily",
    "of_samples",
    "remember_names",
    "spacing_of",
    "step_of",
]

_NAMES = "channels"  # key of an encoding


FILE_ATTRS = ("uri", "driver", "scene", "scenes", "original_axes", "original_shape", "fileheader")
"""Attributes of a loaded Dataset that describe the file it came from, not the image."""


def spacing_of(coord: xr.DataArray) -> float | None:
    """Return the spacing of an axis from its coordinate, or None if it is unknown or not even.

    It is the difference of the values. ``attrs["spacing"]`` is used if there is only one value, or if it agrees with
    the difference, since it is exact.
    """
    if coord.ndim != 1 or coord.name in ("i", "c"):
        return None
    return step_of(coord.values, coord.attrs.get("spacing"))


def step_of(values: np.ndarray, spacing: Any) -> float | None:
    """Return the spacing of the values along an axis, or None if it is unknown or not even; see `spacing_of`."""
    stated = known_spacing(spacing)
    if values.dtype.kind not in "iuf":
        return None
    if values.size < 2:
        return stated
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all() or np.abs(values).max() > 1e300:
        return None
    step = float(values[-1] - values[0]) / (len(values) - 1)
    tolerance = 1e-6 * abs(step) + 4 * np.spacing(np.abs(values).max())
    if known_spacing(step) is None or not (np.abs(np.diff(values) - step) <= tolerance).all():
        return None
    if stated is not None and math.isclose(stated, step, rel_tol=1e-6):
        return stated
    return step


def remember_names(coord: xr.Variable) -> None:
    """Keep the names of channels in the encoding of their coordinate, beside attributes that list a value for each.

    xarray leaves attributes as they are when channels are selected or sorted; see `attributes_of`.
    """
    if coord.dims == ("c",) and any(_is_each(v, coord.size) for v in coord.attrs.values()):
        coord.encoding[_NAMES] = coord.values.tolist()


def attributes_of(coord: xr.Variable | xr.DataArray) -> dict[Any, Any]:
    """Return the attributes of a coordinate; what lists a value for each channel follows a selection of channels."""
    names, now = coord.encoding.get(_NAMES), np.atleast_1d(coord.values).tolist()
    if names is None or now == names or any(names.count(name) != 1 for name in now):
        return dict(coord.attrs)
    return of_samples(coord.attrs, len(names), [names.index(name) for name in now])


def of_samples(attrs: Mapping[Any, Any], n: int, kept: Sequence[int]) -> dict[Any, Any]:
    """Return attributes in which lists of a value for each of `n` channels (colours, wavelengths) have those kept."""
    return {k: [v[i] for i in kept] if _is_each(v, n) else v for k, v in attrs.items()}


def _is_each(value: Any, n: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == n


def coordinate(name: str, axes: Sequence[str], values: np.ndarray, attrs: Mapping[str, Any]) -> xr.Variable:
    """Return a coordinate, equal to ``xr.Variable(axes, values, attrs)``.

    That would import dask.array, and pint where it is installed, only to test which kind of array it was given, which
    takes longer than to read the metadata of most files. Numbers and texts of an axis are given to it as its index.
    """
    plain = type(values) is np.ndarray and values.dtype.kind in "iufU" and values.dtype != np.float16
    if not plain or tuple(axes) != (name,) or values.ndim != 1:
        return xr.Variable(axes, values, attrs)
    try:
        index = pd.Index(values, name=name)
    except UnicodeEncodeError:  # lone surrogates
        return xr.Variable(axes, values, attrs)
    return xr.Variable(axes, indexing.PandasIndexingAdapter(index, dtype=values.dtype), attrs)


def dataset_of(variables: Mapping[str, xr.Variable], coords: Mapping[str, xr.Variable]) -> xr.Dataset:
    """Return a Dataset, equal to ``xr.Dataset(variables, coords=coords)``.

    Where all coordinates that need an index have one, and all lengths agree, nothing has to be aligned, which would
    take longer than to read the metadata of most files.
    """
    every: dict[Any, xr.Variable] = {**variables, **coords}
    sizes = {dim: n for v in every.values() for dim, n in zip(v.dims, v.shape, strict=True)}
    agree = all(sizes[dim] == n for v in every.values() for dim, n in zip(v.dims, v.shape, strict=True))
    named = len(every) == len(variables) + len(coords) and all(every[dim].dims for dim in sizes.keys() & every.keys())
    indexes: dict[Any, Any] = {}
    for name, v in coords.items():
        if v.dims == (name,) and isinstance(v._data, indexing.PandasIndexingAdapter):
            indexes[name] = PandasIndex(v._data.array, name, v.dtype, fastpath=True)
            every[name] = xr.IndexVariable((name,), v._data, v._attrs, v._encoding, fastpath=True)
    if not (agree and named and all(v.dims != (name,) or name in indexes for name, v in coords.items())):
        return xr.Dataset(variables, coords=coords)
    return xr.Dataset._construct_direct(every, set(coords), sizes, indexes=indexes)


def data_of(variable: xr.Variable) -> Any:
    """Return the array of a variable without loading it, if xarray indexes it lazily."""
    wrapped = variable._data
    if isinstance(wrapped, np.ndarray) or hasattr(wrapped, "dask"):
        return wrapped
    if variable._in_memory:
        return np.asarray(wrapped)
    inner = wrapped
    while isinstance(inner, (indexing.CopyOnWriteArray, indexing.MemoryCachedArray)):
        inner = inner.array
    if isinstance(inner, _LazyArray):
        return inner.part
    tile = variable.encoding.get("preferred_chunks", {})
    tiles = tuple(tile.get(d, n) for d, n in zip(variable.dims, variable.shape, strict=True))
    return Pixels(_XarrayReader(variable), variable.shape, variable.dtype, tiles)


@dataclass(frozen=True, eq=False)
class _XarrayReader:
    variable: xr.Variable

    def read_into(self, region: tuple[slice, ...], out: np.ndarray) -> None:
        out[...] = self.variable[region].values


class _LazyPixels(BackendArray):
    """Pixels for xarray's own lazy indexing."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, indexing.BasicIndexer):  # integers and slices
            return self.pixels.read_part(key.tuple)
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self.pixels.read_part)


class _LazyArray(indexing.LazilyIndexedArray):
    """xarray's lazy indexing, which remains a selection of pixels after a transposition."""

    __slots__ = ()
    array: _LazyPixels

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray:
        return np.asarray(
            self.array[self.key], dtype=dtype, copy=copy
        )  # xarray asks for the version of numpy each time

    def _updated_key(self, new_key: indexing.ExplicitIndexer) -> indexing.BasicIndexer | indexing.OuterIndexer:
        """Return the key of a selection of the selection.

        xarray takes slices with a negative step that select nothing for others (release 2026.9): they are given to it,
        and returned, as ``slice(0, 0)``.
        """
        given = indexing.expanded_indexer(new_key.tuple, self.ndim)
        if not any(isinstance(k, slice) and k.step is not None and k.step < 0 for k in (*given, *self.key.tuple)):
            return super()._updated_key(new_key)
        found = super()._updated_key(type(new_key)(tuple(map(settled, given, self.shape))))
        return type(found)(tuple(map(settled, found.tuple, self.array.shape)))

    @property
    def part(self) -> Pixels:
        """The selected pixels, unread."""
        key = self.key.tuple
        kept = [k for k, index in enumerate(key) if not isinstance(index, (int, np.integer))]
        return self.array.pixels.select(key).reshape(kept)

    def transpose(self, order: Any) -> _LazyArray:
        return indexed_lazily(self.part.transpose(order))


def indexed_lazily(pixels: Pixels) -> _LazyArray:
    """Return pixels wrapped in xarray's lazy indexing."""
    return _LazyArray(_LazyPixels(pixels))
