"""OpenEXR: parts as scenes, channels by name, through the OpenEXR library."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.compression import codec_of
from intake_img.formats.exr.handle import KEY, ExrHandle, library
from intake_img.formats.exr.written_planes import names_of, planes_of
from intake_img.formats.format_source import source_of
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File

__all__ = ["Exr", "ExrSource"]

_CODECS = {None: "ZIP", True: "ZIP", False: "NO", "zip": "ZIP", "zips": "ZIPS", "rle": "RLE", "piz": "PIZ"}


class Exr(Format):
    """OpenEXR image, with the extra ``exr``.

    Each part is a scene. Its channels are on ``c`` with their names, colours in the order R, G, B, A; those of another
    size (chroma that is stored for every other pixel) are a scene of their own. Channels of several types get the
    smallest type that has them all. Where the data window does not begin at 0, ``y`` and ``x`` are the numbers of its
    rows and columns.
    """

    name = "exr"
    title = "OpenEXR"
    extensions = (".exr",)
    magic = ((0, b"v/1\x01"),)
    has_scenes = True
    serial = True
    extras = {"exr": "OpenEXR"}

    def open(self, file: File, options: NoOptions) -> Handle:
        return ExrHandle(file)

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
        return tuple(a for a, n in sizes.items() if a in "cyx" or n == 1)

    def write(
        self, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write one part: a channel for each of ``c``, float16, float32 or uint32.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : str or bool, optional
            ``"zip"`` (the default), ``"zips"``, ``"rle"``, ``"piz"``, or False for none.
        """
        codec = codec_of(compress, _CODECS, "OpenEXR")
        pixels, axes = planes_of(image)
        names = names_of(image, pixels.shape[0])
        exr = library()
        planes = np.ascontiguousarray(pixels.read())
        text = json.dumps({"record": image.record(stored_axes=axes), "channels": names})
        header = {
            "compression": getattr(exr, f"{codec}_COMPRESSION"),
            "type": exr.scanlineimage,
            KEY: text,
        }
        exr.File(header, dict(zip(names, planes, strict=True))).write(path)
        if progress is not None:
            progress(planes.nbytes)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import OpenEXR

        values = np.arange(3 * 20 * 30, dtype="f4").reshape(3, 20, 30) / 7
        path = os.path.join(folder, "sample.exr")
        window = (np.array([0, 0], "i4"), np.array([29, 19], "i4"))
        header = {"dataWindow": window, "compression": OpenEXR.PIZ_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, dict(zip("RGB", values, strict=True))).write(path)
        return path, xr.Dataset({"image": (("c", "y", "x"), values)}, {"c": list("RGB")})


ExrSource = source_of(Exr())
