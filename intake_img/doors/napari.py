"""The napari plug-in: it reads and writes with the drivers, and has a sample. See ``napari.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.napari_layers import LayerData, layers_of
from intake_img.errors import IntakeImgError
from intake_img.io import imload, imsave

__all__ = ["get_reader", "read", "sample", "write"]

_MOST_LEVELS = 32


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return the function that reads a path; napari chose this plug-in by the extension. No file is opened."""
    return read if path else None


def read(path: str | Sequence[str]) -> list[LayerData]:
    """Return the layers of an image, or of several files as one."""
    if not isinstance(path, str):
        return layers_of(imload(list(path)))
    return layers_of(imload(path), _coarser(path))


def _coarser(path: str) -> list[xr.Dataset]:
    """Return the coarser levels of the file."""
    found: list[xr.Dataset] = []
    for level in range(1, _MOST_LEVELS):
        try:
            found.append(imload(path, level=level))
        except (IntakeImgError, LookupError, TypeError, ValueError):  # no such level, or a format without levels
            break
    return found


def write(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write layers of one shape as channels, and labels beside them; return the paths written."""
    images = [(data, meta) for data, meta, kind in layers if kind == "image"]
    variables = {str(meta["name"]): _array(data, meta, "labels") for data, meta, kind in layers if kind == "labels"}
    if images:
        stacked = xr.concat([_array(data, meta, "image") for data, meta in images], dim="c", join="override")
        variables = {"image": stacked.assign_coords(c=[str(meta["name"]) for _, meta in images]), **variables}
    return imsave(xr.Dataset(variables), path, overwrite=True)


def sample() -> list[LayerData]:
    """Return simulated cells with labels."""
    from intake_img.create import from_example

    return layers_of(from_example("cells"))


def _array(data: Any, meta: dict[str, Any], kind: str) -> xr.DataArray:
    full = data[0] if isinstance(data, (list, tuple)) else data
    dims = _axes(np.ndim(full), meta.get("axis_labels") or ())
    units = [str(u) for u in meta.get("units") or ["pixel"] * len(dims)]
    starts = meta.get("translate", [0.0] * len(dims))
    coords = {
        a: (a, float(start) + np.arange(n) * float(s), {"units": _symbol(u)})
        for a, n, s, start, u in zip(dims, np.shape(full), meta.get("scale", ()), starts, units, strict=False)
        if _symbol(u) != "pixel"
    }
    return xr.DataArray(full, dims=dims, coords=coords, attrs={"kind": "labels"} if kind == "labels" else {})


def _axes(count: int, given: Sequence[str]) -> list[str]:
    """Return the names of axes: the given ones, if each is a letter, else the last of tzyx."""
    fit = len(given) == count and len(set(given)) == count and all(len(a) == 1 and a.isalpha() for a in given)
    return list(given) if fit else list("hitzyx")[-count:]


def _symbol(unit: str) -> str:
    return {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "second": "s"}.get(unit, unit)
