"""WKW datasets of WEBKNOSSOS: the contract of the format. `layers` knows what a dataset contains, `cubes` reads it."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.chunked import file_json, folder_stamp, morton
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.wkw.cubes import HEADER, CubeArray
from intake_img.formats.wkw.layers import PROPERTIES, WkwLayer, layers_in
from intake_img.model.axes import RGB
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Wkw", "WkwSource"]


class WkwHandle(Handle):
    """An open dataset; its description is read once, until an image is described again."""

    def __init__(self, file: File) -> None:
        self.file = file
        if file.local and not os.path.isdir(file.path):
            raise FormatError(f"{file} is a file, but a WKW dataset is a folder: give that of {PROPERTIES}")
        self.layers = layers_in(file)
        self._arrays: dict[tuple[str, tuple[int, ...]], CubeArray] = {}
        self._described = False
        if not self.layers:
            raise FormatError(f"{file} contains no layer of WKW: neither a {PROPERTIES} that names one nor a {HEADER}")

    def renew(self) -> None:
        if self._described:
            self.layers = layers_in(self.file)
        self._described = True

    @property
    def scene_names(self) -> Sequence[str]:
        return [layer.name for layer in self.layers]

    def describe(self, scene: int | str, level: int) -> Image:
        layer: WkwLayer = self.layers[int(scene)]
        mag = layer.mags[check_level(level, len(layer.mags), self.file)]
        first, end = layer.span(mag)
        whole = self.pixels((mag.folder.path, end))
        pixels = whole.select([*(slice(a, b) for a, b in zip(first[::-1], end[::-1], strict=True)), slice(None)])
        scale = dict(zip("xyz", layer.scale, strict=False))
        factors = dict(zip("xyz", mag.factors, strict=True))
        middle = {a: factors[a] * n + (factors[a] - 1) / 2 for a, n in zip("xyz", first, strict=True)}
        return Image.single(
            pixels,
            "zyxc",
            spacing={a: s * factors[a] for a, s in scale.items()},
            units=dict.fromkeys(scale, layer.unit),
            origin={a: s * middle[a] for a, s in scale.items()},
            channels=RGB[:3] if layer.colour and pixels.shape[-1] == 3 else None,
            variable_attrs={"kind": "labels"} if layer.labels and pixels.dtype.kind in "iu" else {},
            header=dict(layer.about),
        )

    def array(self, address: tuple[str, tuple[int, ...]]) -> CubeArray:
        if address not in self._arrays:
            path, size = address
            self._arrays[address] = CubeArray(self.file.at(path), size)
        return self._arrays[address]

    def close(self) -> None:
        for array in self._arrays.values():
            array.readers.close()


class Wkw(Format):
    """Image or labels in a WKW dataset of WEBKNOSSOS: the folder or URL of the dataset, a layer, or a magnification."""

    name = "wkw"
    title = "WEBKNOSSOS WKW"
    extensions = (".wkw",)
    starts = ()
    folder = True
    has_scenes = True
    has_levels = True

    def claims(self, probe: Probe) -> int:
        if not probe.folder:
            return 0
        try:
            about = file_json(probe.file / PROPERTIES)
        except (FormatError, OSError):
            about = None
        layers = about.get("dataLayers") if about else None
        if isinstance(layers, list) and any(isinstance(la, dict) and la.get("dataFormat") == "wkw" for la in layers):
            return 1
        return int(probe.holds(HEADER) or probe.holds(f"1/{HEADER}"))

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when the folder is replaced, or what describes it is written again."""
        return folder_stamp(file, PROPERTIES, HEADER)

    def open(self, file: File, options: NoOptions) -> Handle:
        return WkwHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        path = os.path.join(folder, "sample.wkw")
        pixels = np.zeros((8, 8, 8, 2), "<u2")
        pixels[:3, :5, :7] = np.arange(210).reshape(3, 5, 7, 2)
        blocks = {}
        for z, y, x in np.ndindex(2, 2, 2):
            blocks[morton((x, y, z), (2, 2, 2))] = pixels[4 * z : 4 * z + 4, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        header = b"WKW\x01" + struct.pack("<BBBB", 1 << 4 | 2, 1, 2, 4)
        os.makedirs(f"{path}/color/1/z0/y0")
        Path(f"{path}/color/1/{HEADER}").write_bytes(header + struct.pack("<Q", 0))
        cube = header + struct.pack("<Q", 16) + b"".join(blocks[n].tobytes() for n in range(8))
        Path(f"{path}/color/1/z0/y0/x0.wkw").write_bytes(cube)
        layer: dict[str, Any] = {
            "name": "color",
            "dataFormat": "wkw",
            "category": "color",
            "elementClass": "uint16",
            "numChannels": 2,
        }
        layer |= {"boundingBox": {"topLeft": [1, 0, 0], "width": 6, "height": 5, "depth": 3}}
        layer |= {"wkwResolutions": [{"resolution": 1, "cubeLength": 8}]}
        Path(f"{path}/{PROPERTIES}").write_bytes(
            json.dumps({"dataLayers": [layer], "scale": [11.24, 11.24, 25.0]}).encode()
        )
        coords = {}
        for axis, step, first, n in (("z", 25.0, 0, 3), ("y", 11.24, 0, 5), ("x", 11.24, 1, 6)):
            coords[axis] = (axis, first * step + step * np.arange(n), {"units": "nm", "spacing": step})
        return path, xr.Dataset({"image": (tuple("zyxc"), pixels[:3, :5, 1:7].astype("u2"))}, coords=coords)


WkwSource = source_of(Wkw())
