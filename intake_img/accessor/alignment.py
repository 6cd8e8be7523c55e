"""Alignment of masks, labels and other images with the pixels of an image.

The rule for all of ``ds.img``: along an axis for which both have a coordinate, they are aligned by coordinates (units
are converted), along all others by shape. Pixels that the other image does not cover lie outside of it. Images that
cannot be aligned are an error.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.variables import lazy, native
from intake_img.errors import AxesError
from intake_img.model.datasets import spacing_of
from intake_img.model.units import convert, differ

__all__ = ["aligned", "aligned_both", "in_unit_of", "inside"]

TOLERANCE = 1e-3
"""Coordinates agree if they differ by less than this share of a pixel, or by 1e-6 of the extent of the axis."""


def inside(mask: Any) -> Any:
    """Return a bool array that is True where a mask is neither 0 nor NaN.

    Parameters
    ----------
    mask : ndarray, dask array or DataArray of bool, integers or floats

    Examples
    --------
    >>> import numpy as np
    >>> inside(np.array([0, np.nan, 0.5, -1, np.inf]))
    array([False, False,  True,  True,  True])
    """
    if mask.dtype.kind == "b":
        return mask
    return (mask != 0) & (mask == mask) if mask.dtype.kind in "fc" else mask != 0


def aligned(
    name: str, array: xr.DataArray, reference: xr.DataArray, *, cover: bool = False, other: str = "the image"
) -> xr.DataArray:
    """Return an array aligned with the pixels of a reference.

    Parameters
    ----------
    name, other : str
        The names of the array and the reference in errors.
    array : DataArray
        Axes that the reference lacks are not changed.
    reference : DataArray
    cover : bool
        Whether the array must cover the reference. Otherwise pixels that it does not cover become 0.

    Returns
    -------
    DataArray
        With the lengths and coordinates of the reference along the axes of the array.

    Raises
    ------
    AxesError
        If coordinates of the reference lie between those of the array (another spacing, or a shift by part of a pixel),
        if they have no sample in common, or if lengths differ along an axis without coordinates. The error names the
        axis and the offset.
    """
    array = native(array)
    for axis in [a for a in array.dims if a in reference.dims]:
        if axis not in array.coords or axis not in reference.coords:
            if array.sizes[axis] != reference.sizes[axis]:
                raise AxesError(
                    f"{name} has length {array.sizes[axis]} along {axis!r}, {other} {reference.sizes[axis]}; "
                    "give both a coordinate to align them by"
                )
            continue
        index = _places(name, array[axis], reference[axis], other)
        if cover and index is not None and (index < 0).any():
            raise AxesError(_gap(name, array[axis], reference[axis], other))
        array = array if index is None else _taken(array, axis, index)
        array = array.assign_coords({axis: reference[axis].variable})
    return array


def aligned_both(names: tuple[str, str], one: xr.DataArray, two: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return two arrays on a common grid that covers both; pixels that one of them does not cover become 0.

    Raises
    ------
    AxesError
        See `aligned`.
    """
    sizes, coords = dict(one.sizes), {axis: one[axis].variable for axis in one.dims if axis in one.coords}
    for axis in [a for a in coords if a in two.coords]:
        missing = _missing(names, one[axis], two[axis])
        if missing.size:
            values = np.sort(np.concatenate([one[axis].values, missing]))
            sizes[axis], coords[axis] = len(values), xr.Variable(axis, values, one[axis].attrs)
    grid = xr.DataArray(np.broadcast_to(0, tuple(sizes.values())), dims=one.dims, coords=coords)
    return aligned(names[0], one, grid, other=names[1]), aligned(names[1], two, grid, other=names[0])


def _missing(names: tuple[str, str], one: xr.DataArray, two: xr.DataArray) -> np.ndarray:
    """Values of the second coordinate that the first lacks, in the unit of the first."""
    index = _places(names[0], one, two, names[1])
    return np.empty(0) if index is None else in_unit_of(two, one)[index < 0]


def in_unit_of(coord: xr.DataArray, reference: xr.DataArray) -> np.ndarray:
    """Return the values of a coordinate in the unit of another; unchanged if one of them has no unit.

    Raises
    ------
    UnitsError
        If the units do not convert, such as a length and a time, or pixels and a length.
    """
    units = [str(c.attrs.get("units", "")) for c in (coord, reference)]
    values = coord.values
    if values.dtype.kind not in "iuf" or not differ(*units):
        return values
    ratio = convert(1.0, *units)
    return values * ratio if ratio >= 1 else values / convert(1.0, *units[::-1])


def _places(name: str, own: xr.DataArray, reference: xr.DataArray, other: str) -> np.ndarray | None:
    """Index of each sample of the reference in an axis, -1 if it is missing; None if both are equal."""
    values, wanted = in_unit_of(own, reference), reference.values
    if values.shape == wanted.shape and (values == wanted).all():
        return None
    numeric = all(v.dtype.kind in "iuf" for v in (values, wanted))
    index = _nearest(values, wanted, own, reference) if numeric else _by_label(name, wanted, own, other)
    if index.size and (index == -1).all():
        raise AxesError(_gap(name, own, reference, other))
    if (index == _BETWEEN).any():
        raise AxesError(_beside(name, own, reference, other, int(np.flatnonzero(index == _BETWEEN)[0])))
    same = len(values) == len(wanted) and (index == np.arange(len(wanted))).all()
    return None if same else index


_BETWEEN = -2


def _nearest(values: np.ndarray, wanted: np.ndarray, own: xr.DataArray, reference: xr.DataArray) -> np.ndarray:
    """Index of the wanted positions: -1 for those beyond all values, `_BETWEEN` for those between two."""
    if not len(values) or not len(wanted):
        return np.full(len(wanted), -1)
    limit = _tolerance(values, wanted, own, reference)
    order = np.argsort(values, kind="stable")
    ascending = values[order].astype(float)
    after = np.searchsorted(ascending, wanted).clip(0, len(values) - 1)
    before = (after - 1).clip(0)
    closer = np.where(np.abs(ascending[before] - wanted) < np.abs(ascending[after] - wanted), before, after)
    beyond = (wanted < ascending[0] - limit) | (wanted > ascending[-1] + limit)
    found = np.abs(ascending[closer] - wanted) <= limit
    return np.where(found, order[closer], np.where(beyond, -1, _BETWEEN))


def _tolerance(values: np.ndarray, wanted: np.ndarray, own: xr.DataArray, reference: xr.DataArray) -> float:
    largest = max(float(np.abs(v).max()) for v in (values, wanted))
    rounding = max(np.finfo(v.dtype).eps if v.dtype.kind == "f" else 0.0 for v in (own.values, reference.values))
    extent = max(float(np.ptp(v)) for v in (values, wanted))
    smallest = min((s for s in (_step(own, reference), _step(reference, reference)) if s), default=1e-3 * largest)
    return max(TOLERANCE * smallest, min(1e-6 * extent, smallest / 4)) + 4 * float(rounding) * largest


def _step(coord: xr.DataArray, unit_of: xr.DataArray) -> float | None:
    """Smallest distance of samples in the unit of a coordinate; for a single sample, the stated spacing, if any."""
    if coord.size < 2:
        stated = spacing_of(coord)
        return stated and float(in_unit_of(xr.DataArray(stated, attrs=coord.attrs), unit_of))
    steps = np.diff(np.sort(in_unit_of(coord, unit_of).astype(float)))
    return float(steps[steps > 0].min(initial=np.inf)) if (steps > 0).any() else None


def _by_label(name: str, wanted: np.ndarray, own: xr.DataArray, other: str) -> np.ndarray:
    """Index of the wanted labels, -1 for missing ones."""
    index = own.to_index()
    if not index.is_unique:
        raise AxesError(
            f"{name} and {other} differ along {own.name!r}, where {name} repeats labels: select the samples that "
            f"belong together, or leave the coordinate out (drop_vars({own.name!r})) to align by position"
        )
    return np.asarray(index.get_indexer(list(wanted)))


def _span(coord: xr.DataArray, unit_of: xr.DataArray) -> str:
    if not coord.size:
        return "no sample"
    values, unit = in_unit_of(coord, unit_of), unit_of.attrs.get("units", "")
    first, last = (f"{v:.7g}" if isinstance(v, float) else str(v) for v in (values[0].item(), values[-1].item()))
    return f"{first} to {last} {unit}".strip()


def _gap(name: str, own: xr.DataArray, reference: xr.DataArray, other: str) -> str:
    """The error for an array that does not cover the reference."""
    values = in_unit_of(own, reference)
    offset = ""
    if own.size and reference.size and all(v.dtype.kind in "iuf" for v in (values, reference.values)):
        offset = f", an offset of {float(values[0]) - float(reference.values[0]):.6g}"
    return (
        f"{name} does not cover {other} along {own.name!r}: {name} has {_span(own, reference)}, {other} "
        f"{_span(reference, reference)}{offset}; select what both have, or drop_vars({own.name!r}) to align by position"
    )


def _beside(name: str, own: xr.DataArray, reference: xr.DataArray, other: str, place: int) -> str:
    """The error for samples that lie between those of the other."""
    values, wanted = in_unit_of(own, reference).astype(float), float(reference.values[place])
    offset = float(values[np.argmin(np.abs(values - wanted))]) - wanted
    steps = [_step(own, reference), _step(reference, reference)]
    spacing = f", spacing {steps[0]:.6g} and {steps[1]:.6g}" if all(steps) else ""
    return (
        f"{name} cannot be aligned with {other} along {own.name!r}: at {wanted:.7g} "
        f"{reference.attrs.get('units', '')} the nearest sample of {name} has an offset of {offset:.6g}{spacing}; "
        f"interpolate it first (xarray's interp), or drop_vars({own.name!r}) to align by position"
    )


def _taken(array: xr.DataArray, axis: Hashable, index: np.ndarray) -> xr.DataArray:
    """Return the samples of an axis by index, 0 where it is -1; lazily."""
    good = np.flatnonzero(index >= 0)
    contiguous = len(good) and (np.diff(index[good]) == 1).all() and good[-1] - good[0] == len(good) - 1
    array = array.drop_vars([n for n, c in array.coords.items() if axis in c.dims])
    if contiguous:
        first = int(index[good[0]])
        array = array.isel({axis: slice(first, first + len(good))})
    else:
        array = array.isel({axis: index[good]})
        if len(good) == len(index):
            return array
    if len(good) == len(index):
        return array
    if not isinstance(array.variable._data, np.ndarray):
        array = array.copy(data=lazy(array))
    if contiguous:
        around = (int(good[0]), len(index) - 1 - int(good[-1]))
        return array.pad({axis: around}, constant_values=array.dtype.type(0))
    back = np.searchsorted(good, np.arange(len(index))).clip(0, max(0, len(good) - 1))
    there = xr.DataArray(index >= 0, dims=(axis,))
    return array.isel({axis: back}).where(there, array.dtype.type(0))
