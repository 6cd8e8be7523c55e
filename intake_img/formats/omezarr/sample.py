"""A tiny OME-Zarr for the conformance suite, written by zarr."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write an image of two channels with spacing and origin; see `Format.sample`."""
    import zarr

    pixels = np.arange(2 * 3 * 8 * 9, dtype="uint16").reshape(2, 3, 8, 9)
    path = os.path.join(folder, "sample.ome.zarr")
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    transformations = [
        {"type": "scale", "scale": [1.0, 2.0, 0.25, 0.25]},
        {"type": "translation", "translation": [0.0, 10.0, 0.0, -1.0]},
    ]
    datasets = [{"path": "full", "coordinateTransformations": transformations}]
    omero = {"channels": [{"label": n, "color": c} for n, c in (("DAPI", "0000FF"), ("GFP", "00FF00"))]}
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}], "omero": omero}
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["ome"] = ome  # type: ignore[assignment]
    array = group.create_array("full", shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 1, 5, 4))
    array[...] = pixels
    coords: dict[str, Any] = {"c": ("c", ["DAPI", "GFP"], {"color": ["#0000FF", "#00FF00"]})}
    for axis, start, step, n in (("z", 10.0, 2.0, 3), ("y", 0.0, 0.25, 8), ("x", -1.0, 0.25, 9)):
        coords[axis] = (axis, start + step * np.arange(n), {"units": "µm", "spacing": step})
    return path, xr.Dataset({"image": (tuple("czyx"), pixels)}, coords=coords)
