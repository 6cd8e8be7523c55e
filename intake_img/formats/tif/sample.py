"""A tiny OME-TIFF for the conformance suite, written by tifffile."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write an OME-TIFF of two channels and three planes in compressed strips; see `Format.sample`."""
    import tifffile

    values = np.arange(3 * 2 * 20 * 30, dtype="u2").reshape(3, 2, 20, 30)
    path = os.path.join(folder, "sample.ome.tif")
    metadata = {
        "axes": "ZCYX",
        "Channel": {"Name": ["nuclei", "actin"]},
        "PhysicalSizeX": 0.25,
        "PhysicalSizeY": 0.25,
        "PhysicalSizeZ": 2.0,
    }
    tifffile.imwrite(
        path, values, ome=True, photometric="minisblack", metadata=metadata, compression="zlib", rowsperstrip=7
    )
    coords: dict[str, Any] = {"c": ("c", ["nuclei", "actin"])}
    for axis, spacing, n in (("z", 2.0, 3), ("y", 0.25, 20), ("x", 0.25, 30)):
        coords[axis] = (axis, spacing * np.arange(n), {"units": "µm", "spacing": spacing})
    return path, xr.Dataset({"image": (tuple("zcyx"), values)}, coords)
