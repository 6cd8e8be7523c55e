"""Differences of images in dtypes that can represent them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import aligned
from intake_img.accessor.processing.in_memory import Held, chunked, is_held, mapped_blocks
from intake_img.accessor.processing.promotion import promoted
from intake_img.accessor.variables import (
    image_axes,
    lazy,
    with_data,
)
from intake_img.errors import AxesError
from intake_img.kernels.difference import checked_difference
from intake_img.model.axes import spell

__all__ = ["difference"]


def difference(array: xr.DataArray, val: Any) -> xr.DataArray:
    dims = tuple(map(str, array.dims))
    if isinstance(val, xr.DataArray):
        if missing := [d for d in val.dims if d not in dims]:
            raise AxesError(f"val has the axis {missing[0]!r}, which the image, with axes {spell(dims)!r}, has not")
        val = aligned("val", val, array, cover=True)
        turned = val.transpose(*[d for d in dims if d in val.dims])
        other: Any = turned.values if is_held(turned) else lazy(turned)
        other = other[tuple(slice(None) if d in val.dims else None for d in dims)]
    elif np.ndim(val):
        other = val if hasattr(val, "dask") else np.asarray(val)
        shape = tuple(array.sizes[d] for d in image_axes(array))
        if other.shape != shape:
            raise ValueError(
                f"val has shape {other.shape}: expected that of one image, {shape} ({spell(image_axes(array))})"
            )
        other = other[tuple(slice(None) if d in image_axes(array) else None for d in dims)]
    else:
        other = val.item() if isinstance(val, np.ndarray) else val
        if isinstance(other, (str, bytes)) or other is None or not np.isscalar(other):
            raise TypeError(f"val={val!r} ({type(val).__name__}): expected a number, an array or a DataArray")
    data = lazy(array) if hasattr(other, "dask") else chunked(array)
    if array.dtype.kind in "biu" and (wide := _as_integer(other)) is not None and _widest(array.dtype, wide):
        return with_data(array, _mapped(checked_difference, data, wide, np.dtype(np.int64)))
    dtype = promoted(array.dtype, other)
    if dtype.kind == "O":
        raise TypeError(f"val has dtype {np.asarray(val).dtype}: expected numbers")
    other = other.astype(dtype) if hasattr(other, "astype") else dtype.type(other)
    if isinstance(data, Held):
        return with_data(array, _mapped(partial(np.subtract, dtype=dtype), data, other, dtype))
    from dask import array as da

    return with_data(array, da.subtract(data, other, dtype=dtype))


def _mapped(func: Any, data: Any, other: Any, dtype: np.dtype) -> Any:
    """Return what a function makes of each chunk, and of a number or the part of an array there."""
    if isinstance(data, Held):
        if np.ndim(other):
            return mapped_blocks(data, func, dtype, [other])
        return mapped_blocks(data, lambda block: func(block, other), dtype)
    from dask import array as da

    if np.ndim(other):
        other = da.asarray(other).rechunk({k: c for k, c in enumerate(data.chunks) if other.shape[k] != 1})
    return da.map_blocks(func, data, other, dtype=dtype, meta=data._meta.astype(dtype))


def _as_integer(val: Any) -> Any:
    """Return a number or array of integers with its dtype; None if it is of another kind."""
    if hasattr(val, "dtype"):
        return val if val.dtype.kind in "biu" else None
    if not isinstance(val, int) or isinstance(val, bool):
        return None
    if not -(2**63) <= val < 2**64:
        raise OverflowError(f"val={val}: expected an integer that fits into int64 or uint64")
    return np.uint64(val) if val >= 2**63 else np.int64(val)


def _widest(dtype: np.dtype, val: Any) -> bool:
    """Whether a difference may need more than 64 bits."""
    if dtype.itemsize == 8 or np.ndim(val):
        return max(dtype.itemsize, val.dtype.itemsize) == 8
    return abs(int(val)) >= 2**62
