"""Images of a table as one Dataset: what differs is refused, since xarray would fill in, broadcast or drop it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import CatalogError, warn

__all__ = ["joined"]


def joined(images: Mapping[str, xr.Dataset], along: str, axis: str) -> xr.Dataset:
    """Return images joined along an axis that all of them have, or none.

    Parameters
    ----------
    images : mapping of str to Dataset
        In order, by name.
    along : str
        What the caller asked for; for messages.
    axis : str

    Raises
    ------
    CatalogError
        If their variables, dtypes, axes, lengths, spacings, units or names of channels differ; it names an image and
        what differs.
    """
    (model, first), *others = images.items()
    for name, one in others:
        for what, own, wanted in _compared(one, first, axis):
            if own != wanted:
                raise CatalogError(
                    f"the images cannot be joined along {along!r}: {name!r} has {what} {_short(own)}, "
                    f"{model!r} has {_short(wanted)}"
                )
    try:
        ds = xr.concat(
            list(images.values()),
            axis,
            join="exact",
            coords="minimal",
            compat="override",
            combine_attrs="drop_conflicts",
        )
    except ValueError as exc:
        raise CatalogError(f"the images cannot be joined along {along!r}: {str(exc)[:300]}") from exc
    return _with_true_positions(ds, axis)


def _compared(one: xr.Dataset, first: xr.Dataset, axis: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be equal: its name, and the values of both images."""
    yield "the variables", list(map(str, one.data_vars)), list(map(str, first.data_vars))
    for name, v in first.data_vars.items():
        yield f"{name} of the dtype", str(one[name].dtype), str(v.dtype)
        yield f"{name} of the axes and lengths", _lengths(one[name], axis), _lengths(v, axis)
    yield "the coordinates", sorted(map(str, one.coords)), sorted(map(str, first.coords))
    for coord, values in first.coords.items():
        yield f"the units of {coord}", one[coord].attrs.get("units"), values.attrs.get("units")
        if axis not in values.dims:
            yield f"the spacing of {coord}", one[coord].attrs.get("spacing"), values.attrs.get("spacing")
            yield f"the values of {coord}", one[coord].values.tolist(), values.values.tolist()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:119] + "…"


def _lengths(v: xr.DataArray, axis: str) -> dict[Hashable, int | str]:
    return {a: n if a != axis else "any" for a, n in v.sizes.items()}


def _with_true_positions(ds: xr.Dataset, axis: str) -> xr.Dataset:
    """Return a Dataset without positions along an axis that go back, and without a spacing that is none any more."""
    coord = ds.coords.get(axis)
    if coord is None or coord.dtype.kind not in "iuf":
        return ds
    steps = np.diff(coord.values.astype(float))
    if (steps <= 0).any():  # each image counts from its own start
        warn(f"the positions along {axis!r} start again in each image: the joined image has no coordinate {axis!r}")
        return ds.drop_vars(axis)
    spacing = coord.attrs.get("spacing")
    if spacing is None or np.allclose(steps, spacing, rtol=1e-6, atol=0):
        return ds
    attrs = {k: v for k, v in coord.attrs.items() if k != "spacing"}
    return ds.assign_coords({axis: (axis, coord.values, attrs)})
