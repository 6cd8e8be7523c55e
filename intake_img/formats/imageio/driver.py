"""Common pictures and videos: PNG, JPEG, GIF, BMP, WebP, Netpbm and TGA through Pillow, videos through PyAV.

A frame is decoded completely, so a frame is a tile. Values are those of the file: bits are kept (16 bits of colour need
imagecodecs, as Pillow would squeeze them), orientation tags are reported and not applied, values that stand for colours
of a palette stay; frames of animations, which may have palettes of their own, are composed of colours. Resolutions of
screens and printers are no spacing; only a pixel below 10 µm is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle
from intake_img.formats.compression import codec_of
from intake_img.formats.format_source import source_of
from intake_img.formats.imageio import pictures as _pictures
from intake_img.formats.imageio.boxes import JP2, JXL
from intake_img.formats.imageio.coded import CodedHandle
from intake_img.formats.imageio.describe import PictureHandle
from intake_img.formats.imageio.frames import Film, Frames, Plain, kind_of
from intake_img.formats.palettes import PaletteOption
from intake_img.formats.probe import Probe
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File

__all__ = ["Imageio", "ImageioSource"]


_PNG = b"\x89PNG\r\n\x1a\n"
_CODED = ("jpeg2000", "jpegxl", "avif", "heif")


class Imageio(Format):
    """Picture, animation or video: PNG, JPEG, GIF, BMP, WebP, PGM/PPM, TGA, and MP4, MOV, AVI, MKV with PyAV.

    JPEG 2000, JPEG XL and AVIF need imagecodecs, HEIF needs pi-heif; their values have the depth that the file says.

    Frames are on ``t``, in seconds (evenly spaced, or with their own times); colour samples are on ``c``.
    An EXIF orientation is reported in the header and not applied. A resolution becomes spacing only where a pixel is
    smaller than 10 µm: those of screens, printers and scanners say nothing of a specimen.
    """

    name = "imageio"
    title = "picture or video"
    private = "gps|serial_?number|maker_?note|user_?comment|^xp"  # where and by whom a photo was taken
    extensions = tuple(_pictures.KINDS)
    only_read = tuple(extension for extension, kind in _pictures.KINDS.items() if kind not in _pictures.HELD)
    pixels_only = (".bmp",)
    options = PaletteOption
    extras = {"codecs": "16-bit colour PNG, JPEG 2000, JPEG XL, AVIF", "heif": "HEIF", "video": "videos"}
    magic = (
        (0, _PNG),
        (0, b"\xff\xd8\xff"),
        (0, b"GIF87a"),
        (0, b"GIF89a"),
        (0, b"BM"),
        (8, b"WEBP"),
        (0, b"P5"),
        (0, b"P6"),
        (4, b"ftyp"),
        (8, b"AVI "),
        (0, b"\x1a\x45\xdf\xa3"),
        (0, JP2),
        (0, b"\xff\x4f\xff\x51"),
        (0, JXL),
        (0, b"\xff\x0a"),
    )

    def claims(self, probe: Probe) -> int:
        if probe.folder or probe.name.lower().endswith(".nd2"):  # old ones are JPEG 2000 with more behind it
            return 0
        if probe.head.startswith(_PNG):
            return 2
        return int(kind_of(probe.head, "") is not None)

    def open(self, file: File, options: PaletteOption) -> Handle:
        head = file.head()
        kind = kind_of(head, file.name)
        if kind is None:
            raise FormatError(f"{file} starts with {head[:16]!r}: it is not a known picture or video format")
        if kind in _CODED:
            return CodedHandle(file, kind)
        if kind == "video":
            return PictureHandle(Film(file))
        return PictureHandle(Plain(file) if head[:2] in (b"P5", b"P6") else Frames(file, kind, options.rgb))

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        return _pictures.axes_of(variable, channels, name)

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".png",
        lossy: bool = False,
        quality: int = 95,
    ) -> None:
        """Write a picture (png, webp, jp2, jxl, pgm, ppm, bmp; jpg) or an animation (apng, gif; mp4, mov, avi, mkv).

        All but ``.bmp`` keep axes, coordinates and attributes, in a text of their own.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : bool or "deflate", optional
            False stores PNG without compression. The other formats have no choice.
        name : str
            Name of the target, whose extension is the format.
        lossy : bool
            Has to be True for JPEG and videos, which change the pixels; makes WebP lossy too.
        quality : int
            1 to 100, for lossy formats.
        """
        packed = codec_of(
            compress, {None: True, True: True, False: False, "deflate": True}, "PNG, others have no choice"
        )
        if not 1 <= quality <= 100:
            raise ValueError(f"quality={quality}: expected 1 to 100")
        _pictures.write(image, path, name, packed, lossy, quality, progress)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import os

        from PIL import Image as Pillow

        values = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
        path = os.path.join(folder, "sample.png")
        Pillow.fromarray(values).save(path)
        return path, xr.Dataset({"image": (("y", "x", "c"), values)}, {"c": list("RGB")}).transpose("c", "y", "x")


ImageioSource = source_of(Imageio())
