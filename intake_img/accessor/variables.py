"""Which variables of an xarray object are images, as lazy arrays, and how a result gets its names back.

Here alone it is decided which axes are batch axes and which are space, that labels and masks pass through a Dataset
untouched, and which coordinates a result keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from intake_img.errors import AxesError
from intake_img.model.axes import SPATIAL, spell
from intake_img.model.image import _data, spacing_of
from intake_img.model.pixels import Pixels

if TYPE_CHECKING:
    import dask.array

__all__ = ["XarrayObject", "batch_axes", "each_image", "image_axes", "images", "is_image", "joined", "lazy", "reduced",
           "spatial_axes", "step_of", "with_data"]  # fmt: skip

XarrayObject = TypeVar("XarrayObject", xr.Dataset, xr.DataArray)


def batch_axes(array: xr.DataArray) -> tuple[str, ...]:
    """Axes along which images lie: ``i``, ``t`` and any other that is neither channel, colour sample nor space."""
    return tuple(str(d) for d in array.dims if d not in ("c", "s", *SPATIAL))


def image_axes(array: xr.DataArray) -> tuple[str, ...]:
    """Axes of one image: all that are not batch axes."""
    return tuple(str(d) for d in array.dims if d not in batch_axes(array))


def spatial_axes(array: xr.DataArray) -> tuple[str, ...]:
    """Those of ``z y x`` that the array has, in this order, in whatever order the array has them."""
    return tuple(d for d in SPATIAL if d in array.dims)


def is_image(array: xr.DataArray) -> bool:
    """Whether a variable is processed: it is unless it holds labels or a mask."""
    return array.attrs.get("kind") not in ("labels", "mask")


def images(obj: xr.Dataset | xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the image variables by name; of a DataArray, the array itself.

    Raises
    ------
    ValueError
        If a Dataset has none.
    """
    if isinstance(obj, xr.DataArray):
        return {str(obj.name or "image"): obj}
    found = {str(n): v for n, v in obj.data_vars.items() if is_image(v)}
    if not found:
        raise ValueError(
            f"the Dataset has no image variable (it has {', '.join(map(str, obj.data_vars)) or 'none'}); "
            "to process labels, take them as a DataArray: ds['labels'].img"
        )
    return found


def each_image(obj: XarrayObject, change: Callable[[xr.DataArray], xr.DataArray]) -> XarrayObject:
    """Apply `change` to a DataArray, or to every image variable of a Dataset; other variables pass through."""
    if isinstance(obj, xr.DataArray):
        return change(obj)
    return joined(obj, {name: change(array) for name, array in images(obj).items()})


def joined(ds: xr.Dataset, results: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Return `ds` with variables replaced or added.

    Raises
    ------
    ValueError
        If the sizes or coordinates of the results do not fit those of the other variables.
    """
    variables: dict[Hashable, xr.DataArray] = {n: v for n, v in ds.data_vars.items() if n not in results}
    variables = {n: results.get(str(n), v) for n, v in ds.data_vars.items()} | dict(results)
    try:
        xr.align(*variables.values(), join="exact", copy=False)
        new = xr.Dataset({n: v.rename(None) for n, v in variables.items()}, attrs=ds.attrs)
    except ValueError as exc:
        shapes = ", ".join(f"{n} {dict(v.sizes)}" for n, v in variables.items())
        raise ValueError(
            f"the result does not fit beside the other variables ({shapes}): process one by itself, "
            f"e.g. ds[{next(iter(results))!r}].img"
        ) from exc
    kept = {
        n: c for n, c in ds.coords.items()
        if n not in new.variables and all(new.sizes.get(d) == s for d, s in c.sizes.items())
    }  # fmt: skip
    return new.assign_coords({n: c.variable for n, c in kept.items()})


def lazy(array: xr.DataArray) -> dask.array.Array:
    """Return the data of an array as a dask array, without reading them.

    Data in memory are cut into chunks of some MiB (views), unread files into whole tiles.
    """
    import dask.array as da

    data = _data(array.variable)
    if hasattr(data, "dask"):
        return data
    if isinstance(data, Pixels):
        return data.dask()
    planes = [d in ("y", "x") for d in array.dims]
    tiles = tuple(n if plane else 1 for n, plane in zip(data.shape, planes, strict=True))
    pixels = Pixels(Pixels.of(data).reader, data.shape, data.dtype, tiles)
    chunks = pixels.auto_chunks()
    return da.from_array(np.asarray(data), chunks=chunks, name=False, meta=np.empty((0,) * data.ndim, data.dtype))


def with_data(array: xr.DataArray, data: Any, dims: Sequence[str] | None = None,
              coords: Mapping[str, xr.Variable | None] | None = None) -> xr.DataArray:  # fmt: skip
    """Return `data` with the name, attributes and fitting coordinates of `array`.

    Parameters
    ----------
    array : xarray.DataArray
    data : array
    dims : sequence of str, optional
        Its axes, if they are not those of `array`.
    coords : mapping, optional
        Coordinates to put in place of the old ones; None drops one.
    """
    dims = tuple(map(str, array.dims)) if dims is None else tuple(dims)
    sizes = dict(zip(dims, data.shape, strict=True))
    changed = dict(coords or {})
    kept: dict[Hashable, Any] = {
        n: c.variable for n, c in array.coords.items()
        if n not in changed and all(sizes.get(str(d)) == s for d, s in c.sizes.items())
    }  # fmt: skip
    kept.update({n: c for n, c in changed.items() if c is not None})
    return xr.DataArray(data, dims=dims, coords=kept, name=array.name, attrs=array.attrs)


def reduced(array: xr.DataArray, dim: Any, name: str = "dim") -> tuple[str, ...]:
    """Return the axes to reduce: those named, or all batch axes.

    Raises
    ------
    AxesError
        If the array lacks one, or has no batch axis and none was named.
    """
    if dim is None:
        if axes := batch_axes(array):
            return axes
        raise AxesError(
            f"the image has axes {spell(tuple(map(str, array.dims)))!r} and no batch axis (i, t, ...): name one with "
            f"{name}="
        )
    axes = (dim,) if isinstance(dim, str) else tuple(dim) if isinstance(dim, (tuple, list)) else ()
    if not axes or not all(isinstance(a, str) for a in axes):
        raise TypeError(f"{name}={dim!r} ({type(dim).__name__}): expected the name of an axis, or several")
    if missing := [a for a in axes if a not in array.dims]:
        raise AxesError(
            f"{name}={dim!r}: the image has no axis {missing[0]!r}, it has {spell(tuple(map(str, array.dims)))!r}"
        )
    return axes


def step_of(array: xr.DataArray, axis: str) -> float:
    """Return the spacing of an axis.

    Raises
    ------
    ValueError
        If it is not known.
    """
    step = spacing_of(array[axis]) if axis in array.coords else None
    if step is None:
        raise ValueError(
            f"units='physical': the spacing of axis {axis!r} is not known; give pixels (units='pixel'), or load with "
            f"metadata={{'spacing': {{{axis!r}: ...}}}}"
        )
    return step
