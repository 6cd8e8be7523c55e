"""An image that is a region of another one, or that another one extends: shapes and coordinates, no pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import AxesError, CannotWriteError
from intake_img.model.axes import spell
from intake_img.model.datasets import spacing_of
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.units import known_spacing

__all__ = ["check_part", "fitted", "joined", "region_of"]


def fitted(part: Image, whole: Image, axes: Mapping[str, Any]) -> Image:
    """Return an image with the axes of another one, in its order.

    Parameters
    ----------
    part, whole : Image
    axes : mapping of str to object
        Axes along which `part` extends `whole` or lies in it; an axis that `part` lacks is added with length 1.

    Raises
    ------
    CannotWriteError
        If variables, other axes or dtypes differ.
    """
    variables = {}
    for name, v in part.variables.items():
        other = whole.variables.get(name)
        if other is None:
            raise CannotWriteError(f"{name!r} is not in the store, which has {', '.join(whole.variables)}")
        lacking = [a for a in other.axes if a not in v.axes]
        if set(v.axes) - set(other.axes) or set(lacking) - set(axes):
            raise AxesError(f"{name!r} has the axes {spell(v.axes)}, in the store {spell(other.axes)}")
        if v.pixels.dtype != other.pixels.dtype:
            raise CannotWriteError(
                f"{name!r} has dtype {v.pixels.dtype}, in the store {other.pixels.dtype}: cast it with .astype"
            )
        if v.kind not in (None, other.kind):
            raise CannotWriteError(
                f"{name!r} has attrs['kind'] == {v.kind!r}, in the store {other.kind!r}: the levels of its pyramid "
                "would be made in another way"
            )
        order = [v.axes.index(a) if a in v.axes else None for a in other.axes]
        pixels = v.pixels.transpose([k for k in order if k is not None])
        kept = iter(range(pixels.ndim))
        variables[name] = replace(
            v, axes=other.axes, pixels=pixels.reshape([None if k is None else next(kept) for k in order])
        )
    have = whole.coordinates()
    coords = {
        k: _with_axes(c, [str(a) for a in have[k].dims if a in axes] if k in have else [])
        for k, c in part.coords.items()
    }
    return replace(part, variables=variables, coords=coords)


def _with_axes(c: Coordinate, wanted: Sequence[str]) -> Coordinate:
    """Return a coordinate with the axes that it lacks, of length 1."""
    lacking = [a for a in wanted if a not in c.axes]
    values = np.asarray(c.values)
    return replace(c, axes=(*lacking, *c.axes), values=values.reshape((1,) * len(lacking) + values.shape))


def check_part(part: Image, whole: Image, at: Mapping[str, slice]) -> None:
    """Raise `CannotWriteError` if an image does not fit into another one at a position.

    Parameters
    ----------
    part, whole : Image
    at : mapping of str to slice
        Where `part` lies in `whole`; other axes are covered completely.
    """
    for name, v in part.variables.items():
        for axis, n in zip(v.axes, v.pixels.shape, strict=True):
            room = at[axis].stop - at[axis].start if axis in at else whole.sizes[axis]
            if n != room:
                raise CannotWriteError(f"{name!r} has {n} samples along {axis!r}, where the store has room for {room}")
    have = whole.coordinates()
    for key, c in part.coordinates().items():
        other = have.get(key)
        if other is None or not set(c.dims) <= set(whole.sizes):
            continue
        if not _equal(other.isel({a: s for a, s in at.items() if a in other.dims}), c):
            raise CannotWriteError(
                f"the coordinate {key!r} differs from that of the store: give it the store's values, or leave it "
                f"out (ds.drop_vars({key!r}))"
            )


def joined(whole: Image, part: Image, axis: str) -> Image:
    """Return `whole` extended by `part` along an axis: its pixels cannot be read.

    Raises
    ------
    CannotWriteError
        If they do not fit.
    """
    if missing := [n for n, v in whole.variables.items() if axis in v.axes and n not in part.variables]:
        raise CannotWriteError(f"the variable {missing[0]!r}, which has the axis {axis!r}, is missing")
    if fixed := [n for n in part.variables if axis not in whole.variables[n].axes]:
        raise CannotWriteError(f"{fixed[0]!r} has no axis {axis!r} in the store: leave it out")
    n = whole.sizes[axis]
    more = part.sizes[axis]
    check_part(replace(part, coords={}, spacing={}, units={}, origin={}), whole, {axis: slice(n, n + more)})
    coords = _joined_coordinates(whole, part, axis)
    facts = Image.from_xarray(xr.Dataset({"none": ((), np.uint8(0))}, coords=coords))
    variables = {
        name: _longer(v, v.axes.index(axis), more) if axis in v.axes else v for name, v in whole.variables.items()
    }
    return replace(facts, variables=variables, attrs=whole.attrs, header=whole.header, scene=whole.scene)


def _joined_coordinates(whole: Image, part: Image, axis: str) -> dict[str, xr.Variable]:
    have, new = whole.coordinates(), part.coordinates()
    along, added = ({k for k, c in cs.items() if axis in c.dims} for cs in (have, new))
    if along != added:
        raise CannotWriteError(
            f"the coordinates along {axis!r} are {', '.join(sorted(added)) or 'none'}, in the store "
            f"{', '.join(sorted(along)) or 'none'}: give the same ones"
        )
    found = {}
    for key, c in have.items():
        if key not in along:
            if key in new and not _equal(c, new[key]):
                raise CannotWriteError(
                    f"the coordinate {key!r} differs from that of the store: an append changes none but those along "
                    f"{axis!r}"
                )
            found[key] = c
            continue
        other = new[key].transpose(*c.dims)
        if np.asarray(c.values).dtype.kind != np.asarray(other.values).dtype.kind:
            raise CannotWriteError(f"the coordinate {key!r} has dtype {other.dtype}, in the store {c.dtype}")
        if c.attrs.get("units") != other.attrs.get("units"):
            raise CannotWriteError(
                f"the coordinate {key!r} is in {other.attrs.get('units')}, in the store in {c.attrs.get('units')}"
            )
        found[key] = _truly_spaced(xr.Variable.concat([c, other], axis), key)
    return found


def _truly_spaced(c: xr.Variable, name: str) -> xr.Variable:
    """Return a coordinate without the attribute ``spacing`` if its values are not evenly spaced by it."""
    if (
        known_spacing(c.attrs.get("spacing")) is not None
        and spacing_of(xr.DataArray(c, name=name)) != c.attrs["spacing"]
    ):
        return xr.Variable(c.dims, c.values, {k: v for k, v in c.attrs.items() if k != "spacing"})
    return c


def _equal(one: xr.Variable, other: xr.Variable) -> bool:
    if set(one.dims) != set(other.dims) or one.attrs.get("units") != other.attrs.get("units"):
        return False
    a, b = np.asarray(one.values), np.asarray(other.transpose(*one.dims).values)
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf" and a.shape == b.shape:
        return bool(np.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True))
    return bool(np.array_equal(a, b))


def _longer(v: Variable, k: int, more: int) -> Variable:
    nothing: Any = None
    shape = tuple(n + more * (k == j) for j, n in enumerate(v.pixels.shape))
    return replace(v, pixels=replace(v.pixels, reader=nothing, shape=shape, cuts=()))


def region_of(part: Image, whole: Image, region: Any) -> dict[str, slice]:
    """Return where an image lies in another one, as slices.

    Parameters
    ----------
    part, whole : Image
    region : mapping of str to (int or slice), or "auto"
        ``"auto"`` finds it by the coordinates.

    Raises
    ------
    CannotWriteError
        If it lies outside, or is not found.
    """
    if region == "auto":
        found = {a: _found(part, whole, a) for a in part.sizes if a in whole.sizes}
        return {a: s for a, s in found.items() if s is not None}
    if not isinstance(region, Mapping):
        raise TypeError(f"region={region!r}: expected a mapping from axes to slices, or 'auto'")
    at = {}
    for axis, asked in region.items():
        if axis not in whole.sizes:
            raise AxesError(f"region names the axis {axis!r}, but the store has {spell(tuple(whole.sizes))}")
        n = whole.sizes[axis]
        if isinstance(asked, (int, np.integer)) and not isinstance(asked, bool):
            place = range(n)[asked] if -n <= asked < n else n
            asked = slice(place, place + 1)
        if not isinstance(asked, slice) or asked.step not in (None, 1):
            raise TypeError(f"region[{axis!r}] is {asked!r}: expected an index or a slice without a step")
        start, stop = 0 if asked.start is None else int(asked.start), n if asked.stop is None else int(asked.stop)
        if not 0 <= start < stop <= n:
            raise CannotWriteError(
                f"region[{axis!r}] is {start}:{stop}, but the store has {n} samples along it; append_dim={axis!r} adds "
                "some at its end"
            )
        at[axis] = slice(start, stop)
    return at


def _found(part: Image, whole: Image, axis: str) -> slice | None:
    """Return the indices of an axis's samples in another image, by its coordinate; None for all samples."""
    have, new = whole.coordinates().get(axis), part.coordinates().get(axis)
    n, size = part.sizes[axis], whole.sizes[axis]
    if have is None or new is None:
        if n == size:
            return None
        raise CannotWriteError(f"region='auto' needs the coordinate {axis!r} of the image and of the store")
    start = next((k for k in range(size - n + 1) if _equal(have[k : k + n], new)), None)
    if start is None:
        raise CannotWriteError(f"region='auto': the coordinate {axis!r} of the image is not found in that of the store")
    return None if n == size else slice(start, start + n)
