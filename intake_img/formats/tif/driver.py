"""TIFF and its dialects: ImageJ hyperstacks, OME-TIFF, LSM, MetaMorph, slide scanners' pyramids, BigTIFF.

Structure is read by `intake_img.formats.tif.parser`, images are described by `describe`, pixels read by `read`, and
files written by `write`; here they are joined to the contract of a format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from intake_img.formats.base import Format, Handle
from intake_img.formats.format_source import source_of
from intake_img.formats.options import ScaledOption
from intake_img.formats.palettes import PaletteOption
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File

__all__ = ["Tif", "TifSource"]


@dataclass(frozen=True)
class TifOptions(PaletteOption, ScaledOption):
    """How the numbers in a file are to be understood."""


class Tif(Format):
    """Image in a TIFF file.

    Pixels are what the file stores, or the values of ImageJ's calibration by a straight line. Where 0 means white
    (MinIsWhite), the variable says so by ``attrs["photometric"] = "miniswhite"``, and TIFF files written with that
    attribute mean it as well. YCbCr becomes RGB, as libtiff converts it; deeper than 8 bits or in separate planes it
    keeps its values, in channels named Y, Cb and Cr.
    """

    name = "tif"
    title = "TIFF"
    private = "barcode|slide_?label|^reference$"  # of slides, which hospitals label with their patients\' numbers
    has_scenes = True
    has_levels = True
    options = TifOptions
    option_docs = {
        "scene": "Number or name of the image, where the file contains several (series; Images of OME-TIFF; label and "
        'macro image of a slide); None for the first, ``"all"`` to stack equal ones on ``i``.',
    }
    extensions = (
        ".tif",
        ".tiff",
        ".ome.tif",
        ".ome.tiff",
        ".btf",
        ".tf2",
        ".tf8",
        ".ome.btf",
        ".ome.tf2",
        ".ome.tf8",
        ".lsm",
        ".stk",
        ".svs",
        ".ndpi",
        ".companion.ome",
    )
    only_read = (".lsm", ".stk", ".svs", ".ndpi", ".companion.ome")
    extras = {"codecs": "LZW, JPEG, JPEG 2000 and further compressions"}
    magic = ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+"))

    def open(self, file: File, options: TifOptions) -> Handle:
        from intake_img.formats.tif.describe import TiffImages
        from intake_img.formats.tif.parser import open_tiff

        handle = open_tiff(file, TiffImages)
        handle.rgb, handle.scaled = options.rgb, options.scaled
        return handle

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        """A file is one image: ``i`` is an axis of files; OME-TIFF has no further axes either."""
        if name.lower().rpartition(".")[0].endswith(".ome"):
            return tuple(
                a for a, n in zip(variable.axes, variable.pixels.shape, strict=True) if a in "tzcyxs" or n == 1
            )
        return tuple(a for a in variable.axes if a != "i")

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".tif",
        tile: int | Sequence[int] | None = None,
        pyramid: int = 0,
        levels: Sequence[Image] = (),
        rgb: bool | None = None,
        bigtiff: bool | None = None,
        byteorder: str | None = None,
    ) -> None:
        """Write ``.ome.tif`` as OME-TIFF, other names as ImageJ hyperstack where that can store the image, else plain.

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. `compress` is True for zlib, or one of tifffile's names (``"lzw"``,
            ``"zstd"``, ...; most need the extra ``codecs``).
        name : str
            Name of the target: OME-TIFF if it ends in ``.ome.tif``.
        tile : int or (int, int), optional
            Height and width of tiles, multiples of 16; strips if absent.
        pyramid : int
            Number of further levels, each half as large in y and x: means, of labels and masks every other pixel.
        levels : sequence of Image
            Further levels, in place of `pyramid`.
        rgb : bool, optional
            Store ``c`` as the colours of each pixel. By default where the channels are named R, G, B(, A) and have 8 or
            16 bits.
        bigtiff : bool, optional
            Use 64-bit offsets; by default where the file may exceed 4 GB.
        byteorder : str, optional
            ``"<"`` or ``">"``.
        """
        from intake_img.formats.tif.write import write_tiff

        write_tiff(
            image,
            path,
            compress=compress,
            progress=progress,
            name=name,
            tile=tile,
            pyramid=pyramid,
            levels=levels,
            rgb=rgb,
            bigtiff=bigtiff,
            byteorder=byteorder,
        )

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from intake_img.formats.tif.sample import write_sample

        return write_sample(folder)


TifSource = source_of(Tif())
