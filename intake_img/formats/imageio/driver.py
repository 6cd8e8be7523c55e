"""Everyday pictures and films: PNG, JPEG, GIF, BMP, WebP, Netpbm and TGA through Pillow, videos through PyAV.

A frame is decoded as a whole, so a frame is a tile. Values are those of the file: bits are kept (16 bits of colour need
imagecodecs, as Pillow would squeeze them), orientation tags are reported and not applied, palettes become the colours
that they stand for. Resolutions of screens and printers are no spacing; only a pixel below 10 µm is believed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.imageio import pictures as _pictures
from intake_img.formats.imageio.containers import Facts
from intake_img.formats.imageio.frames import Film, Frames, Plain, kind_of
from intake_img.formats.reading import Probe
from intake_img.formats.source import ImageSource
from intake_img.model.axes import CANONICAL
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.storage.files import File
from intake_img.storage.raw import read_raw

__all__ = ["ImageioSource"]

_MICROSCOPE = 10.0  # µm; coarser pixels are those of screens, printers and scanners


class ImageioSource(ImageSource):
    """Picture, animation or video: PNG, JPEG, GIF, BMP, WebP, PGM/PPM, TGA, and MP4, MOV, AVI, MKV with PyAV.

    Frames are on ``t``, in seconds (evenly spaced, or with their own times); colour samples are on ``c``.
    An EXIF orientation is reported in the header and not applied. A resolution becomes spacing only where a pixel is
    smaller than 10 µm: those of screens, printers and scanners say nothing of a specimen.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays. A frame is decoded as a whole.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units``, ``coords`` in the place of what the file says.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "imageio"
    format_name = "picture or video"
    extensions = tuple(_pictures.KINDS)
    pixels_only = (".bmp",)
    extras = {"codecs": "16-bit colour PNG", "video": "videos"}
    magic = (
        (0, b"\x89PNG\r\n\x1a\n"),
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
    )

    def __init__(
        self,
        uri: Any,
        *,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def claims(cls, probe: Probe) -> bool:
        return not probe.folder and kind_of(probe.head, "") is not None

    @classmethod
    def open(cls, file: File) -> Frames | Film | Plain:
        head = file.head()
        kind = kind_of(head, file.name)
        if kind is None:
            raise FormatError(f"{file} starts with {head[:16]!r}: it is no picture or video that is known here")
        if kind == "video":
            return Film(file)
        return Plain(file) if head[:2] in (b"P5", b"P6") else Frames(file, kind)

    def describe_image(self, handle: Frames | Film | Plain, scene: int | str, level: int) -> Image:
        facts = handle.facts
        raw = isinstance(handle, Plain)
        stack = isinstance(handle, Plain) and len(handle.raws) > 1
        axes = ("t",) * (facts.frames > 1) + ("i",) * stack + ("y", "x") + ("c",) * bool(handle.bands)
        tiles = (1, *handle.shape[1:]) if raw or facts.frames > 1 else handle.shape
        pixels = self.pixels("", handle.shape, handle.dtype, tiles, parallel=raw)
        pitch = _pitch(handle)
        spacing = {"y": pitch[0], "x": pitch[1]} if pitch else {}
        units = dict.fromkeys(spacing, "µm")
        coords = {}
        if facts.frames > 1 and (times := _times(facts)) is not None:
            units["t"] = "s"
            if (step := _even(times)) is not None:
                spacing["t"] = step
            else:
                coords["t"] = Coordinate(("t",), times, {"units": "s"})
        image = Image.single(
            pixels,
            axes,
            channels=handle.bands or None,
            spacing=spacing,
            units=units,
            coords=coords,
            header=handle.header,
        )
        return image.restored(facts.record)

    @classmethod
    def read_region(cls, handle: Frames | Film | Plain, address: str, region: Region, out: np.ndarray) -> None:
        if isinstance(handle, Plain):
            raws = handle.raws[region[0]] if len(handle.raws) > 1 else handle.raws
            for raw, place in zip(raws, out if len(handle.raws) > 1 else [out], strict=True):
                inner = region[-len(raw.shape) :]
                read_raw(handle.source, raw.offset, np.dtype(raw.dtype), raw.shape, inner, place)
        elif handle.facts.frames == 1:
            out[...] = handle.frame(0)[region]
        else:
            with handle.lock:  # frames of a region follow each other, whoever else is reading
                for place, number in enumerate(range(region[0].start, region[0].stop)):
                    out[place] = handle.frame(number)[region[1:]]

    @classmethod
    def file_axes(cls, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        return _pictures.axes_of(variable, channels, name)

    @classmethod
    def write(
        cls,
        image: Image,
        path: str,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".png",
        lossy: bool = False,
        quality: int = 95,
    ) -> None:
        """Write a picture (png, webp, pgm, ppm, bmp; jpg) or an animation (apng, gif; mp4, mov, avi, mkv).

        All but ``.bmp`` keep axes, coordinates and attributes, in a text of their own.

        Parameters
        ----------
        image, path, progress
            See `ImageSource.write`.
        compress : bool or "deflate", optional
            False stores PNG without compression. The other formats have no choice.
        name : str
            Name of the target, whose extension is the format.
        lossy : bool
            Has to be True for JPEG and videos, which change the pixels; makes WebP lossy too.
        quality : int
            1 to 100, for lossy formats.
        """
        if compress not in (None, True, False, "deflate"):
            raise CannotWriteError(f"compress={compress!r}: pictures know True ('deflate') and False, for PNG")
        if not 1 <= quality <= 100:
            raise ValueError(f"quality={quality}: expected 1 to 100")
        _pictures.write(image, path, name, compress is not False, lossy, quality, progress)

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        """See `ImageSource.sample`."""
        import os

        from PIL import Image as Pillow

        values = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
        path = os.path.join(folder, "sample.png")
        Pillow.fromarray(values).save(path)
        return path, xr.Dataset({"image": (("y", "x", "c"), values)}, {"c": list("RGB")}).transpose("c", "y", "x")


def _pitch(handle: Any) -> tuple[float, float] | None:
    pitch = handle.facts.pitch
    if pitch is None and handle.header.get("format") in ("JPEG", "BMP") and "dpi" in handle.header:
        with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
            x, y = (25400 / float(v) for v in handle.header["dpi"])
            pitch = (y, x)
    return pitch if pitch and all(0 < p < _MICROSCOPE for p in pitch) else None


def _times(facts: Facts) -> np.ndarray | None:
    """When each frame is shown, in seconds; None where the file does not say so for every one."""
    steps = facts.durations[: facts.frames - 1]
    if len(steps) < facts.frames - 1 or not all(step > 0 for step in steps):
        return None
    return np.asarray([0.0, *itertools.accumulate(steps)]) / 1000


def _even(times: np.ndarray) -> float | None:
    step = float(times[-1] - times[0]) / (len(times) - 1)
    even = np.abs(np.diff(times) - step).max() <= 1e-9 * max(1.0, float(times[-1]))
    return float(f"{step:.12g}") if even else None
