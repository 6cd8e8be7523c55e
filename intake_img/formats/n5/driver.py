"""N5 containers, groups and datasets, local and remote: the format. See `handle` for their contents."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.chunked import file_json, folder_stamp
from intake_img.formats.format_source import source_of
from intake_img.formats.n5.handle import N5Handle
from intake_img.formats.n5blocks import ATTRIBUTES
from intake_img.formats.probe import Probe
from intake_img.storage.files import File

__all__ = ["N5", "N5Source"]

_KNOWN = {
    "n5",
    "dimensions",
    "multiscales",
    "multiScale",
    "scales",
    "downsamplingFactors",
    "pixelResolution",
    "resolution",
    "painteraData",
}


class N5(Format):
    """Image in an N5 container: a folder or URL of a container, of a group of levels, or of a dataset.

    The scenes of a container are its groups of levels and its datasets, by their paths.
    """

    name = "n5"
    title = "N5"
    extensions = (".n5",)
    starts = ()
    folder = True
    has_scenes = True
    has_levels = True

    def claims(self, probe: Probe) -> int:
        if not probe.folder:
            return 0
        try:
            found = file_json(probe.file / ATTRIBUTES)
        except (FormatError, OSError):
            return 0
        if found is None:
            return int(probe.holds(f"s0/{ATTRIBUTES}"))
        return int(bool(_KNOWN & set(found)) or probe.holds(f"s0/{ATTRIBUTES}"))

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when the folder is replaced, or the attributes at its root are written again."""
        return folder_stamp(file, ATTRIBUTES)

    def open(self, file: File, options: NoOptions) -> Handle:
        return N5Handle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        pixels = np.arange(3 * 5 * 7, dtype=">u2").reshape(3, 5, 7)
        path = os.path.join(folder, "sample.n5")
        about = {"dataType": "uint16", "dimensions": [7, 5, 3], "blockSize": [4, 5, 2], "compression": {"type": "gzip"}}
        os.makedirs(f"{path}/raw/s0")
        Path(f"{path}/{ATTRIBUTES}").write_bytes(json.dumps({"n5": "2.5.1"}).encode())
        resolution = {"unit": "um", "dimensions": [0.25, 0.25, 2.0]}
        Path(f"{path}/raw/{ATTRIBUTES}").write_bytes(json.dumps({"pixelResolution": resolution}).encode())
        Path(f"{path}/raw/s0/{ATTRIBUTES}").write_bytes(json.dumps(about).encode())
        for x, z in ((0, 0), (1, 0), (0, 1)):  # the fourth is missing
            block = pixels[2 * z : 2 * z + 2, :, 4 * x : 4 * x + 4]
            packed = zlib.compressobj(wbits=31)
            data = struct.pack(">HHIII", 0, 3, *block.shape[::-1]) + packed.compress(block.tobytes()) + packed.flush()
            os.makedirs(f"{path}/raw/s0/{x}/0", exist_ok=True)
            Path(f"{path}/raw/s0/{x}/0/{z}").write_bytes(data)
        expected = pixels.astype("u2")
        expected[2:, :, 4:] = 0
        known = {"z": 2.0, "y": 0.25, "x": 0.25}
        coords = {
            a: (a, s * np.arange(n), {"units": "µm", "spacing": s})
            for (a, s), n in zip(known.items(), pixels.shape, strict=True)
        }
        return path, xr.Dataset({"image": (tuple("zyx"), expected)}, coords=coords)


N5Source = source_of(N5())
