"""The image variables of an xarray object as lazy arrays, and the names of results.

An *image variable* has at least the axes ``y`` and ``x``, has numbers or bool, and is neither labels nor a mask (see
`kind_of`). Methods of a Dataset work on these. All other variables (labels, an ``exposure`` along
``t``, ``spatial_ref``, names) pass through unchanged, if their axes keep their lengths. A DataArray is always taken as
an image. This module also distinguishes batch axes from spatial axes, and decides which coordinates a result keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from intake_img.errors import AxesError
from intake_img.model.axes import CANONICAL, SPATIAL, spell
from intake_img.model.datasets import data_of
from intake_img.model.pixels import Pixels
from intake_img.model.variables import kind_of

if TYPE_CHECKING:
    import dask.array

__all__ = [
    "XarrayObject",
    "batch_axes",
    "checked_output",
    "each_image",
    "first_image",
    "gridded",
    "image_axes",
    "images",
    "in_units",
    "is_categorical",
    "is_image",
    "joined",
    "lacking_plane",
    "lazy",
    "memory_chunks",
    "native",
    "reduced",
    "sized",
    "spatial_axes",
    "with_data",
]

XarrayObject = TypeVar("XarrayObject", xr.Dataset, xr.DataArray)


def batch_axes(array: xr.DataArray) -> tuple[str, ...]:
    """Batch axes: ``i``, ``t`` and any other axis that is neither channel, colour sample nor space."""
    return tuple(str(d) for d in array.dims if d not in ("c", "s", *SPATIAL))


def image_axes(array: xr.DataArray) -> tuple[str, ...]:
    """Axes of one image: all axes that are not batch axes."""
    return tuple(str(d) for d in array.dims if d not in batch_axes(array))


def spatial_axes(array: xr.DataArray) -> tuple[str, ...]:
    """The axes among ``z y x`` that the array has, in this order, whatever their order in the array."""
    return tuple(d for d in SPATIAL if d in array.dims)


def lacking_plane(array: xr.DataArray) -> str | None:
    """Return a message if the plane axes are missing or not named ``y`` and ``x``; None if the array has them.

    An array that lacks one of the two and has no axis of an unknown name (``zx`` after a projection) is accepted.
    """
    dims = tuple(map(str, array.dims))
    lacks = [d for d in ("y", "x") if d not in dims]
    others = [d for d in dims if d not in CANONICAL and d != "s"]
    if not lacks or (len(lacks) == 1 and not any(len(d) > 1 for d in others)):
        return None
    wanted = dict(zip(others[-len(lacks) :], lacks[-len(others) :], strict=True)) if others else {}
    hint = ", ".join(f"{old}={new!r}" for old, new in wanted.items()) or "...='y', ...='x'"
    return (
        f"the array lacks the axes {' and '.join(map(repr, lacks))}: it has ({', '.join(dims)}). Rename those of its "
        f"plane, e.g. ds.rename({hint})"
    )


def is_categorical(array: xr.DataArray) -> bool:
    """Whether a variable contains labels or a mask, whose values must not be averaged."""
    return kind_of(array.attrs, array.dtype) is not None


def is_image(array: xr.DataArray) -> bool:
    """Whether a variable of a Dataset is an image; see above."""
    return array.dtype.kind in "biufc" and {"y", "x"} <= set(array.dims) and not is_categorical(array)


def images(obj: xr.Dataset | xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the image variables by name; for a DataArray, the array itself.

    For a Dataset without any, the variable ``image``, or the only numeric variable that is not categorical (for example
    an image after a projection along ``y``).

    Raises
    ------
    ValueError
        If there is no such variable.
    """
    if isinstance(obj, xr.DataArray):
        return {str(obj.name or "image"): obj}
    found = {str(n): v for n, v in obj.data_vars.items() if is_image(v)}
    if found:
        return found
    left = {str(n): v for n, v in obj.data_vars.items() if v.dtype.kind in "biufc"}
    if "image" in left or len(left) == 1:
        name = "image" if "image" in left else next(iter(left))
        if not is_categorical(left[name]):
            return {name: left[name]}
    described = ", ".join(map(_described, obj.data_vars.values()))
    raise ValueError(
        f"the Dataset has no image variable, with numbers and the axes y and x (it has {described or 'none'}); "
        "to process labels or another variable, take it as a DataArray: ds['labels'].img. A product of an image and "
        "labels > 0 keeps the attribute kind of the labels: write image.where(labels > 0, 0)"
    )


def _described(array: xr.DataArray) -> str:
    kind = kind_of(array.attrs, array.dtype)
    return f"{array.name} ({', '.join(map(str, array.dims))}) {array.dtype}{f' of kind {kind}' if kind else ''}"


def gridded(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the variables to resample when the grid of a Dataset changes: images, labels and masks, by name."""
    labels = {str(n): v for n, v in ds.data_vars.items() if is_categorical(v)}
    return labels if labels and not any(map(is_image, ds.data_vars.values())) else images(ds) | labels


def first_image(ds: xr.Dataset) -> xr.DataArray:
    """Return the main variable of a Dataset: ``image``, else its first image, else its first variable."""
    if not ds.data_vars:
        raise ValueError("the Dataset has no variable: there is no image in it")
    if "image" in ds.data_vars:
        return ds["image"]
    return next((v for v in ds.data_vars.values() if is_image(v)), next(iter(ds.data_vars.values())))


def native(obj: XarrayObject) -> XarrayObject:
    """Return the object with all numbers in native byte order, lazily where they are lazy; unchanged if they are.

    Kernels may view numbers as bits, and ufuncs refuse other byte orders as a dtype.
    """
    if isinstance(obj, xr.DataArray):
        return obj if obj.dtype.isnative else obj.copy(data=_native(obj))
    changed = {n: obj[n].copy(data=_native(obj[n])) for n, v in obj.variables.items() if _foreign(obj, n, v)}
    return obj.assign(changed) if changed else obj


def _foreign(ds: xr.Dataset, name: Hashable, variable: xr.Variable) -> bool:
    return not variable.dtype.isnative and name not in ds.coords


def _native(array: xr.DataArray) -> Any:
    data = data_of(array.variable)
    data = data.dask() if isinstance(data, Pixels) else data
    return data.astype(data.dtype.newbyteorder("="))


def each_image(obj: XarrayObject, change: Callable[[xr.DataArray], xr.DataArray]) -> XarrayObject:
    """Apply `change` to a DataArray, or to every image variable of a Dataset; other variables pass through."""
    if isinstance(obj, xr.DataArray):
        return change(obj)
    return joined(obj, {name: change(array) for name, array in images(obj).items()})


def joined(ds: xr.Dataset, results: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Return `ds` with variables replaced or added.

    Variables that are neither images nor categorical are dropped if the results have other sizes along their axes.

    Raises
    ------
    ValueError
        If the sizes or coordinates of the results do not fit those of the other images and labels.
    """
    sizes = {d: n for r in results.values() for d, n in r.sizes.items()}
    variables: dict[Hashable, xr.DataArray] = {
        n: results.get(str(n), v)
        for n, v in ds.data_vars.items()
        if n in results or is_image(v) or is_categorical(v) or all(sizes.get(d, k) == k for d, k in v.sizes.items())
    } | dict(results)
    try:
        xr.align(*variables.values(), join="exact", copy=False)
        new = xr.Dataset({n: v.rename(None) for n, v in variables.items()}, attrs=ds.attrs)
    except ValueError as exc:
        shapes = ", ".join(f"{n} {dict(v.sizes)}" for n, v in variables.items())
        raise ValueError(
            f"the result does not align with the other variables ({shapes}): process one by itself, "
            f"e.g. ds[{next(iter(results))!r}].img"
        ) from exc
    kept = {
        n: c
        for n, c in ds.coords.items()
        if n not in new.variables and all(new.sizes.get(d) == s for d, s in c.sizes.items())
    }
    return new.assign_coords({n: c.variable for n, c in kept.items()})


def lazy(array: xr.DataArray) -> dask.array.Array:
    """Return the data of an array as a dask array, without reading them.

    Data in memory are cut into chunks of some MiB (views), unread files into groups of tiles.
    """
    import dask  # all of it: a part is incomplete while another thread imports the whole
    import dask.array

    data = data_of(array.variable)
    if isinstance(data, Pixels):  # first: these have a method of the name ``dask``
        return data.dask()
    if hasattr(data, "dask"):
        sized(array)
        return data
    meta = np.empty((0,) * data.ndim, data.dtype)
    return dask.array.from_array(np.asarray(data), chunks=memory_chunks(array), name=False, meta=meta)


def memory_chunks(array: xr.DataArray) -> tuple[tuple[int, ...], ...]:
    """Return the chunks in which data in memory are worked on: planes that contain some MiB together."""
    tiles = tuple(n if d in ("y", "x") else 1 for d, n in array.sizes.items())
    return Pixels(Pixels.of(np.empty(0)).reader, array.shape, array.dtype, tiles).auto_chunks()


def sized(array: xr.DataArray) -> None:
    """Raise a ValueError if dask does not know the length of an axis."""
    if unknown := [str(d) for d, n in zip(array.dims, array.shape, strict=True) if n != n]:
        raise ValueError(
            f"the length of axis {unknown[0]!r} is not known, as after selecting by a lazy mask: call "
            "image.data.compute_chunk_sizes() first"
        )


def with_data(
    array: xr.DataArray,
    data: Any,
    dims: Sequence[str] | None = None,
    coords: Mapping[str, xr.Variable | None] | None = None,
) -> xr.DataArray:
    """Return `data` with the name, attributes and fitting coordinates of `array`.

    Parameters
    ----------
    array : xarray.DataArray
    data : array
    dims : sequence of str, optional
        Its axes, if they are not those of `array`.
    coords : mapping, optional
        Coordinates that replace the old ones; None drops one.
    """
    dims = tuple(map(str, array.dims)) if dims is None else tuple(dims)
    sizes = dict(zip(dims, data.shape, strict=True))
    changed = dict(coords or {})
    kept: dict[Hashable, Any] = {
        n: c.variable
        for n, c in array.coords.items()
        if n not in changed and all(sizes.get(str(d)) == s for d, s in c.sizes.items())
    }
    kept.update({n: c for n, c in changed.items() if c is not None})
    return xr.DataArray(data, dims=dims, coords=kept, name=array.name, attrs=array.attrs)


def in_units(array: xr.DataArray, power: int) -> xr.DataArray:
    """Return a result with the unit of its pixels (``attrs["units"]``: Hounsfield units, counts) raised to a power.

    With the power 0 it has none.
    """
    found = array.copy(deep=False)
    unit = found.attrs.pop("units", None)
    if unit and power:
        found.attrs["units"] = f"({unit})^{power}"
    return found


def reduced(array: xr.DataArray, dim: Any) -> tuple[str, ...]:
    """Return the axes to reduce: the named ones, or all batch axes.

    Raises
    ------
    AxesError
        If the array lacks a named axis, or if none is named and the array has no batch axis.
    """
    if dim is None:
        if axes := batch_axes(array):
            return axes
        raise AxesError(
            f"the image has axes {spell(tuple(map(str, array.dims)))!r} and no batch axis (i, t, ...): name one with "
            "dim="
        )
    axes = (dim,) if isinstance(dim, str) else tuple(dim) if isinstance(dim, (tuple, list)) else ()
    if not axes or not all(isinstance(a, str) for a in axes):
        raise TypeError(f"dim={dim!r} ({type(dim).__name__}): expected the name of an axis, or several")
    if missing := [a for a in axes if a not in array.dims]:
        letters = len(missing[0]) > 1 and set(missing[0]) <= set(array.dims)
        hint = f"; several axes are given as a list, dim={list(missing[0])}" if letters else ""
        raise AxesError(
            f"dim={dim!r}: the image has no axis {missing[0]!r}, it has {spell(tuple(map(str, array.dims)))!r}{hint}"
        )
    return axes


def checked_output(
    obj: Any, output: str | None, overwrite: bool, found: dict[str, xr.DataArray]
) -> dict[str, xr.DataArray]:
    """Return the images to process: all, or the one for the variable `output`."""
    if output is None:
        return found
    if not isinstance(output, str):
        raise TypeError(f"output={output!r}: expected the name of a variable")
    if isinstance(obj, xr.DataArray):
        raise ValueError(
            f"output={output!r} names a variable of a Dataset, but this is a DataArray: use .rename({output!r})"
        )
    if output in obj.coords or output in obj.dims:
        raise ValueError(f"output={output!r} is an axis or coordinate of the Dataset")
    if output in obj.variables and not overwrite:
        raise ValueError(f"output={output!r} exists in the Dataset: choose another name, or pass overwrite=True")
    name = "image" if "image" in found else next(iter(found))
    if name != "image" and len(found) > 1:
        raise ValueError(f"output={output!r} is made from one image, but the Dataset has several: {', '.join(found)}")
    return {name: found[name]}
