"""A tiny NDTiff dataset for the conformance suite: an index and a stack of raw planes."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import xarray as xr

from intake_img.formats.ndtiff.dataset import INDEX
from intake_img.formats.ndtiff.index import MAGIC

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write three channels of one plane; see `Format.sample`."""
    names = ["DAPI", "FITC", "GFP"]
    values = np.arange(3 * 5 * 7, dtype="<u2").reshape(3, 5, 7)
    path = os.path.join(folder, "sample")
    os.mkdir(path)
    summary, about = b'{"PixelSize_um": 0.5}', b'{"PixelSizeUm": 0.5, "Channel": "Default"}'
    head = b"II*\0" + bytes(4) + MAGIC + struct.pack("<4I", 3, 3, 2355492, len(summary)) + summary
    with open(f"{path}/sample_NDTiffStack.tif", "wb") as stack, open(f"{path}/{INDEX}", "wb") as index:
        stack.write(head)
        for channel, plane in zip(names, values, strict=True):
            offset, size = stack.tell(), plane.nbytes
            stack.write(plane.tobytes() + about)
            axes, name = json.dumps({"channel": channel}).encode(), b"sample_NDTiffStack.tif"
            for text in (axes, name):
                index.write(struct.pack("<I", len(text)) + text)
            index.write(struct.pack("<8I", offset, 7, 5, 4, 0, offset + size, len(about), 0))
    coords = {a: (a, 0.5 * np.arange(n), {"units": "µm", "spacing": 0.5}) for a, n in (("y", 5), ("x", 7))}
    return path, xr.Dataset({"image": (tuple("cyx"), values)}, {**coords, "c": names})
