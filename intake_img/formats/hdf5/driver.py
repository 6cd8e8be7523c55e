"""HDF5: arrays of any file, with the conventions of ilastik, Fiji and others; ilastik and Fiji read written files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.format_source import source_of
from intake_img.formats.h5.file import SIGNATURE
from intake_img.formats.hdf5.handle import Hdf5Handle
from intake_img.formats.hdf5.write import write_hdf5
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Hdf5", "Hdf5Source"]


class Hdf5(Format):
    """Arrays in an HDF5 file: plain, of ilastik (``.h5``, ``.ilp``), Fiji, NeXus, MATLAB 7.3, or HDF5 Image.

    Each array of numbers with at least two axes is a scene, called by its path. Axes are what the first of these says:
    ilastik's ``axistags``, names of dimensions and their scales, NeXus' ``axes``, HDF5 Image, MATLAB's order; else they
    are the last of the canonical ones (``zyx``, ``czyx``, ...). Spacing comes from the same, or from Fiji's
    ``element_size_um``. Of a project of ilastik the scenes are the labels that were drawn, and data stored in it; where
    its raw data are, the header says.
    """

    name = "hdf5"
    title = "HDF5"
    extensions = (".h5", ".hdf5", ".hdf", ".nxs", ".ilp")
    only_read = (".nxs", ".ilp")
    magic = ((0, SIGNATURE), (0, b"MATLAB 7.3 MAT-file"))
    has_scenes = True
    extras = {"hdf5": "reading and writing", "hdf5plugin": "Blosc, Zstandard, LZ4, Bitshuffle and further filters"}

    def open(self, file: File, options: NoOptions) -> Handle:
        return Hdf5Handle(file)

    def many_variables(self, name: str) -> bool:
        return True

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write a dataset for each variable, with the axes as ilastik and Fiji read them. Any image is kept.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : bool or str, optional
            None and False store plain bytes; True or ``"gzip"``, and ``"lzf"``, compress chunks of 256 x 256 pixels.
        """
        write_hdf5(image, path, compress, progress)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import h5py

        path = os.path.join(folder, "sample.h5")
        values = np.arange(2 * 3 * 12 * 20, dtype=">u2").reshape(2, 3, 12, 20)
        keys = [("c", 0.0), ("z", 1.5), ("y", 0.25), ("x", 0.25)]
        tags = [{"key": k, "typeFlags": 2, "resolution": r, "description": ""} for k, r in keys]
        with h5py.File(path, "w") as f:
            stored = f.create_dataset("volume/data", data=values, chunks=(1, 2, 8, 8), compression="gzip", shuffle=True)
            stored.attrs["axistags"] = json.dumps({"axes": tags})
            stored.attrs["axis_units"] = json.dumps({"z": "um", "y": "um", "x": "um"})
            f["volume/labels"] = values[0] // 100
        coords = {
            a: xr.Variable(a, step * np.arange(n), {"units": "µm", "spacing": step})
            for a, n, step in (("z", 3, 1.5), ("y", 12, 0.25), ("x", 20, 0.25))
        }
        return path, xr.Dataset({"image": (tuple("czyx"), values.astype("u2"))}, coords)


Hdf5Source = source_of(Hdf5())
