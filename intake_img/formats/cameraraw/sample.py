"""A tiny DNG for the conformance suite, as cameras write it: a preview first, the sensor behind it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.cameraraw.tiff_pages import DNG_VERSION

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write a DNG of 40 x 48 pixels under filters; see `Format.sample`."""
    import tifffile

    values = np.random.default_rng(5).integers(600, 16000, (40, 48)).astype("u2")
    path = os.path.join(folder, "sample.dng")
    with tifffile.TiffWriter(path) as tif:
        camera: list[Any] = [
            (DNG_VERSION, 1, 4, bytes([1, 4, 0, 0]), True),
            (50707, 1, 4, bytes([1, 1, 0, 0]), True),
            (50708, 2, 0, "Test", True),
            (271, 2, 0, "Test", True),
            (272, 2, 0, "Test", True),
            (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
            (50728, 5, 3, (1, 2, 1, 1, 1, 2), True),
            (50778, 3, 1, 21, True),
        ]
        sensor: list[Any] = [
            (33421, 3, 2, (2, 2), True),
            (33422, 1, 4, bytes([0, 1, 1, 2]), True),
            (50714, 4, 1, 512, True),
            (50717, 4, 1, 16383, True),
        ]
        preview = np.full((5, 6, 3), 77, "u1")
        tif.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=camera)
        tif.write(values, photometric="cfa", subfiletype=0, metadata=None, extratags=sensor)
    return path, xr.Dataset({"image": (("y", "x"), values, {"cfa": ["RG", "GB"]})})
