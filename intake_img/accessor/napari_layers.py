"""Images as napari layers: names, colours, contrast limits, scale, units, labels; pixels stay lazy.

Layers are napari's LayerData tuples, ``(data, attributes, "image" or "labels")``; napari is not needed to make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from intake_img.accessor.colors import default_colors, is_rgb, limits_of, stated_colors
from intake_img.errors import AxesError
from intake_img.model.datasets import spacing_of
from intake_img.model.packages import imported
from intake_img.model.variables import kind_of

if TYPE_CHECKING:
    import napari

__all__ = ["LayerData", "layers_of", "to_napari"]

LayerData: TypeAlias = "tuple[Any, dict[str, Any], str]"
_SIDE = 256  # contrast limits come from this many pixels in the middle of a plane


def layers_of(obj: xr.Dataset | xr.DataArray, levels: Sequence[xr.Dataset] = ()) -> list[LayerData]:
    """Return the layers of an image, one for each channel; labels become layers of labels, likewise.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    levels : sequence of xarray.Dataset
        Coarser levels of the same image, finest first.

    Raises
    ------
    AxesError
        If a variable lacks y or x.
    """
    ds = obj if isinstance(obj, xr.Dataset) else obj.to_dataset(name=obj.name or "image")
    images = [v for v in ds.data_vars.values() if kind_of(v.attrs, v.dtype) != "labels"]
    found: list[LayerData] = []
    for name, array in ds.data_vars.items():
        arrays = [array, *(lv[name] for lv in levels if name in lv and lv[name].dims == array.dims)]
        found += _layers(str(name), arrays, alone=len(images) == 1)
    return found


def to_napari(obj: xr.Dataset | xr.DataArray, viewer: napari.Viewer | None = None) -> napari.Viewer:
    """Add the layers of an image to a napari viewer; see `ImgAccessor.to_napari`."""
    napari = imported("napari", "napari", "showing an image in napari")
    from napari.layers import Layer

    window: Any = napari.Viewer() if viewer is None else viewer
    for data in layers_of(obj):
        window.add_layer(Layer.create(*data))
    return window


def _layers(name: str, arrays: list[xr.DataArray], alone: bool) -> list[LayerData]:
    first = arrays[0]
    if lacking := [a for a in "yx" if a not in first.dims]:
        raise AxesError(f"napari shows planes of y and x, but {name!r} has no {lacking[0]!r}")
    labels = kind_of(first.attrs, first.dtype) == "labels"
    if "c" not in first.dims:
        return [_layer(name, arrays, "gray", labels)]
    names = [str(c) for c in first["c"].values] if "c" in first.coords else [str(k) for k in range(first.sizes["c"])]
    if labels:
        titles = [f"{name} {n}" for n in names] if len(names) > 1 else [name]
        return [_layer(title, [a.isel(c=k) for a in arrays], "gray", True) for k, title in enumerate(titles)]
    if is_rgb(names):
        last = (*(a for a in first.dims if a != "c"), "c")
        return [_layer(name, [a.transpose(*last) for a in arrays], None, False)]
    stated = stated_colors(first) or {}
    colors = [stated.get(k) or c for k, c in enumerate(default_colors(names))]
    titles = names if alone else [f"{name} {n}" for n in names]
    return [_layer(titles[k], [a.isel(c=k) for a in arrays], colors[k], False) for k in range(len(names))]


def _layer(name: str, arrays: list[xr.DataArray], color: str | None, labels: bool) -> LayerData:
    first = arrays[0]
    axes = [str(a) for a in first.dims if color is not None or a != "c"]
    steps = {a: spacing_of(first[a]) for a in axes if a in first.coords}
    attributes: dict[str, Any] = {
        "name": name,
        "scale": [steps.get(a) or 1.0 for a in axes],
        "translate": [float(first[a].values[0]) if steps.get(a) else 0.0 for a in axes],
        "units": [str(first[a].attrs.get("units") or "pixel") if steps.get(a) else "pixel" for a in axes],
        "axis_labels": axes,
        "metadata": {"uri": first.attrs.get("uri")},
    }
    data = [a.data for a in arrays]
    if labels:
        return data if len(data) > 1 else data[0], attributes, "labels"
    if color is None:
        attributes["rgb"] = True
    else:
        attributes |= {"colormap": color, "blending": "additive", "contrast_limits": _limits(arrays[-1])}
    return data if len(data) > 1 else data[0], attributes, "image"


def _limits(array: xr.DataArray) -> tuple[float, float]:
    """Take limits from the middle of the middle plane."""
    middle = {a: n // 2 for a, n in array.sizes.items() if a not in ("y", "x")}
    part = {a: slice(max(0, (array.sizes[a] - _SIDE) // 2), (array.sizes[a] + _SIDE) // 2) for a in "yx"}
    plane = np.asarray(array.isel({**middle, **part}).values)
    [(low, high)] = limits_of(plane[np.newaxis], [""], None, (0.2, 99.8))
    return low, high if high > low else low + 1
