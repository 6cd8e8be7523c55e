"""Zeiss CZI: mosaics of tiles (subblocks) in scenes, planes and levels of a pyramid.

Read by our own index, so that files of any number of subblocks, local or remote, open fast and a region costs only the
tiles that it meets; written by libCZI (pylibCZIrw). Format: ZEISS, "CZI image file format", DS_ZISRAW-FileFormat.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.czi.describe import CANVAS, CziImages
from intake_img.formats.format_source import source_of
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File

__all__ = ["Czi", "CziSource"]


class Czi(Format):
    """Image in a Zeiss CZI file.

    Axes are the dimensions that the file's subblocks name, in its own order, also those of length 1: ``t c z y x``, and
    phase ``h``, view ``v``, block ``b``, rotation ``r``, illumination ``u``. Colour samples become ``c`` (R, G, B), or
    ``s`` beside several channels. Channels of different pixel types are promoted to one that has them all, grey ones
    beside colours to equal samples. Pixels that the file lacks are 0, and then there is a second variable,
    ``valid_mask``. Where a file has several scenes, the coordinates of each start at its place on the stage, in pixels
    of the file times the spacing.
    """

    name = "czi"
    title = "Zeiss CZI"
    private = "^User|^ImportedFrom"
    extensions = (".czi",)
    extras = {"codecs": "JPEG, LZW and faster JPEG XR"}
    magic = ((0, b"ZISRAWFILE"),)
    has_scenes = True
    has_levels = True
    special_scenes = (CANVAS,)
    option_docs = {
        "scene": "Number or name of the scene; None for the first (of files that `write` made from a stack of scenes: "
        'for all of them), ``"all"`` to stack equal ones on ``i``, ``"canvas"`` for the complete stage with all '
        "scenes in their places.",
    }

    def open(self, file: File, options: NoOptions) -> Handle:
        return CziImages(file)

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str]:
        from intake_img.formats.czi.write import WRITTEN_AXES

        shape = variable.pixels.shape
        return [a for a, n in zip(variable.axes, shape, strict=True) if a in WRITTEN_AXES or n == 1]

    def write(
        self, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write one variable with the axes ``t c z y x`` and ``i`` (scenes, side by side on the stage).

        Further axes are kept if they are of length 1, which libCZI does not write.

        Parameters
        ----------
        image, path, progress
            See `Format.write`. Pixels are uint8, uint16, float32, or bool or float16 (stored as uint8, float32).
            Three channels named R, G, B, and an axis ``s`` of three, are stored as colour pixels (integers only).
        compress : bool or str, optional
            None and False store plain pixels; True, ``"zstd1"`` and ``"zstd0"`` compress them without loss; or options
            that libCZI understands, e.g. ``"zstd1:ExplicitLevel=3"``.
        """
        from intake_img.formats.czi.write import write_czi

        write_czi(image, path, compress, progress)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from pylibCZIrw import czi

        path = os.path.join(folder, "sample.czi")
        values = np.arange(2 * 2 * 3 * 12 * 20, dtype="u2").reshape(2, 2, 3, 12, 20)
        with czi.create_czi(path, compression_options="zstd1:ExplicitLevel=1") as document:
            for t, c, z in np.ndindex(2, 2, 3):
                for x in (0, 10):  # two tiles to a plane
                    tile = np.ascontiguousarray(values[t, c, z, :, x : x + 10])
                    document.write(tile, location=(x, 0), plane={"T": t, "C": c, "Z": z})
            document.write_metadata(channel_names={0: "DAPI", 1: "GFP"}, scale_x=2.5e-7, scale_y=2.5e-7, scale_z=1.5e-6)
        coords = {
            a: xr.Variable(a, step * np.arange(n), {"units": "µm", "spacing": step})
            for a, n, step in (("z", 3, 1.5), ("y", 12, 0.25), ("x", 20, 0.25))
        }
        return path, xr.Dataset({"image": (("t", "c", "z", "y", "x"), values)}, {**coords, "c": ["DAPI", "GFP"]})


CziSource = source_of(Czi())
