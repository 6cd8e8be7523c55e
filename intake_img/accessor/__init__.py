"""``ds.img``: what xarray objects say of themselves as images, by axis name, channel name and physical unit."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from intake_img.axes import spell
from intake_img.image import spacing_of

__all__ = ["ImgAccessor"]


@xr.register_dataset_accessor("img")
@xr.register_dataarray_accessor("img")
class ImgAccessor:
    """Image view of a Dataset or DataArray.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self._obj = obj

    @property
    def _first(self) -> xr.DataArray:
        obj = self._obj
        if isinstance(obj, xr.DataArray):
            return obj
        if not obj.data_vars:
            raise ValueError("the Dataset has no variable: there is no image in it")
        return obj["image"] if "image" in obj.data_vars else next(iter(obj.data_vars.values()))

    @property
    def axes(self) -> str:
        """Axes of the image, in their order, e.g. ``"tczyx"``."""
        return spell(tuple(map(str, self._first.dims)))

    @property
    def spacing(self) -> dict[str, float]:
        """Distance of neighbouring samples for each axis where it is known, in `units`."""
        first = self._first
        found = {str(a): spacing_of(first[a]) for a in first.dims if a in first.coords}
        return {a: s for a, s in found.items() if s is not None}

    @property
    def units(self) -> dict[str, str]:
        """Unit of the coordinate of each axis where it is known, e.g. ``{"y": "µm"}``."""
        first = self._first
        return {str(a): str(u) for a in first.dims if a in first.coords and (u := first[a].attrs.get("units"))}

    @property
    def channels(self) -> list[str] | None:
        """Names of the channels; None if they are unknown."""
        return [str(c) for c in self._obj["c"].values.ravel()] if "c" in self._obj.coords else None

    @property
    def scene(self) -> str | None:
        """Name of the image in its file."""
        return self._obj.attrs.get("scene")

    @property
    def header(self) -> dict[str, Any]:
        """The format's own header; empty if there is none."""
        return json.loads(self._obj.attrs.get("fileheader") or "{}")
