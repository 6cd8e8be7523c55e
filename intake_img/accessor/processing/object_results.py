"""Selection of the variable for methods on objects, and placement of the result in the Dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xarray as xr

from intake_img.accessor.arguments import flag
from intake_img.accessor.variables import checked_output, images, joined
from intake_img.model.variables import kind_of

__all__ = ["derived", "replaced"]

Make = Callable[[xr.DataArray], xr.DataArray]


def derived(obj: Any, make: Make, output: str, overwrite: bool, of: str | None = None) -> Any:
    """Return the result for a DataArray, or a Dataset with the result as a further variable.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    make : callable
    output : str
        Name of the result.
    overwrite : bool
        Allow it to replace a variable.
    of : {"mask", "labels"}, optional
        Use the only variable of this kind, if there is one, instead of the image.
    """
    flag("overwrite", overwrite)
    if not isinstance(output, str):
        raise TypeError(f"output={output!r}: expected the name of a variable")
    if isinstance(obj, xr.DataArray):
        return make(obj).rename(output)
    chosen = _of_kind(obj, of) if of else {}
    found = checked_output(obj, output, overwrite, chosen if len(chosen) == 1 else images(obj))
    return joined(obj, {output: make(next(iter(found.values()))).rename(output)})


def replaced(obj: Any, make: Make, *kinds: str) -> Any:
    """Return a DataArray, or the masks or labels of a Dataset, changed.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    make : callable
    *kinds : {"mask", "labels"}
        Kinds of variables, in order of preference: the first kind that a Dataset has is used.
    """
    if isinstance(obj, xr.DataArray):
        return make(obj)
    for kind in kinds:
        if found := _of_kind(obj, kind):
            return joined(obj, {name: make(array) for name, array in found.items()})
    advice = "make one with .img.threshold()" if "mask" in kinds else "number a mask with .img.label()"
    raise ValueError(
        f"the Dataset has no variable whose kind is {' or '.join(map(repr, kinds))}, only {', '.join(obj.data_vars)}: "
        f"{advice}, or take a variable by itself: ds['name'].img"
    )


def _of_kind(ds: xr.Dataset, kind: str | None) -> dict[str, xr.DataArray]:
    """Return the variables of a kind; where none states it, boolean images are masks."""
    found = {str(n): v for n, v in ds.data_vars.items() if kind_of(v.attrs, v.dtype) == kind}
    if kind != "mask" or found:
        return found
    return {n: v for n, v in images(ds).items() if v.dtype == bool}
