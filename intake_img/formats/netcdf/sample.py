"""A tiny classic netCDF file for the conformance suite, written with scipy."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write packed numbers with their coordinates; see `Format.sample`."""
    from scipy import io

    path = os.path.join(folder, "sample.nc")
    values = np.arange(2 * 3 * 12 * 20, dtype="i2").reshape(2, 3, 12, 20)
    with io.netcdf_file(path, "w") as f:
        f.createDimension("time", None)
        for name, n in (("z", 3), ("y", 12), ("x", 20)):
            f.createDimension(name, n)
        made = f.createVariable("intensity", "i2", ("time", "z", "y", "x"))
        made[:], made.scale_factor, made.add_offset = values, 0.5, 5.0
        for name, n, step, unit in (("time", 2, 30.0, "s"), ("y", 12, 0.25, "um"), ("x", 20, 0.25, "um")):
            axis = f.createVariable(name, "f8", (name,))
            axis[:], axis.units = step * np.arange(n), unit
    coords = {
        a: xr.Variable(a, step * np.arange(n), {"units": unit, "spacing": step})
        for a, n, step, unit in (("t", 2, 30.0, "s"), ("y", 12, 0.25, "µm"), ("x", 20, 0.25, "µm"))
    }
    return path, xr.Dataset({"image": (tuple("tzyx"), 0.5 * values + 5.0)}, coords)
