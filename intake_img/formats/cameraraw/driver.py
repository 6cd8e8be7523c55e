"""Raw files of cameras (DNG, NEF, ARW, CR2, ...) through rawpy: undeveloped sensor values.

Many of them are TIFF files whose first page is a small preview; that must never pass for the picture.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions, PlaneArray
from intake_img.formats.cameraraw.tiff_pages import DNG_VERSION, TIFF, check_whole
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["CameraRaw", "CameraRawSource"]

_TIFF_ENDINGS = (
    ".dng",
    ".nef",
    ".nrw",
    ".arw",
    ".sr2",
    ".srf",
    ".cr2",
    ".pef",
    ".srw",
    ".3fr",
    ".erf",
    ".kdc",
    ".dcr",
    ".mos",
    ".iiq",
    ".rwl",
    ".mef",
)
_MAGIC = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW")
_SHOWN = ("black_level_per_channel", "white_level", "camera_whitebalance", "daylight_whitebalance", "num_colors")


class CameraRaw(Format):
    """Raw file of a camera, with the extra ``raw``: the visible pixels of the sensor as they were recorded.

    Pixels under a colour filter array are one plane; the filter of each is in ``attrs["cfa"]``, the rows of the pattern
    that repeats (``["RG", "GB"]``). Levels of black and white and the white balance are in the header. Nothing is
    developed: no demosaicing, no gamma, no rotation.
    """

    name = "cameraraw"
    title = "raw file of a camera"
    private = "gps|serial_?number|maker_?note|user_?comment|^xp"  # where and by whom a photo was taken
    extensions = (*_TIFF_ENDINGS, ".cr3", ".orf", ".rw2", ".raf")
    extras = {"raw": "raw files of cameras"}
    magic = tuple((0, start) for start in _MAGIC)
    serial = True

    def claims(self, probe: Probe) -> int:
        head = probe.head
        if head.startswith(TIFF):
            named = probe.name.lower().endswith(_TIFF_ENDINGS)
            return 2 * (named or head[8:10] == b"CR" or DNG_VERSION in probe.tiff_tags)
        return 2 * (head.startswith(_MAGIC) or head[4:12] == b"ftypcrx ")

    def open(self, file: File, options: NoOptions) -> Handle:
        rawpy = imported("rawpy", "raw", "reading raw files of cameras")
        return _RawHandle(file, rawpy)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from intake_img.formats.cameraraw.sample import write_sample

        return write_sample(folder)


class _RawHandle(Handle):
    """An open file; the sensor's numbers are unpacked when they are first asked for."""

    def __init__(self, file: File, rawpy: Any) -> None:
        source = file.open()
        try:
            data = source.ranges([0], [source.size])[0]
        finally:
            source.close()
        check_whole(data, file)
        self.raw = rawpy.imread(io.BytesIO(data))
        sizes = self.raw.sizes
        self.shape: tuple[int, ...] = (sizes.height, sizes.width)
        if min(self.shape) < 1 or sizes.height > sizes.raw_height or sizes.width > sizes.raw_width:
            raise FormatError(f"the sensor has {self.shape} visible pixels: expected 1 or more, within the sensor")

    def visible(self) -> np.ndarray:
        found = self.raw.raw_image_visible
        if found is None or found.shape != self.shape or found.dtype != np.uint16:
            shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
            raise FormatError(
                f"its sensor gives {dtype} of shape {shape}, expected uint16 of {self.shape}: raw files of several "
                "samples a pixel are not read"
            )
        return np.array(found)  # of its own memory: LibRaw frees its buffer

    def array(self, address: None) -> PlaneArray:
        return _Sensor(self)

    def describe(self, scene: int | str, level: int) -> Image:
        raw, pattern = self.raw, self.raw.raw_pattern
        filters = raw.color_desc.decode("ascii", "replace")
        rows = ["".join(filters[k] for k in row) for row in pattern] if pattern is not None else []
        header = {
            "format": "raw",
            "color_desc": filters,
            "sizes": dict(raw.sizes._asdict()),
            **{key: getattr(raw, key, None) for key in _SHOWN},
        }
        return Image.single(self.pixels(), "yx", variable_attrs={"cfa": rows} if rows else {}, header=header)

    def close(self) -> None:
        self.raw.close()


class _Sensor(PlaneArray):
    def __init__(self, handle: _RawHandle) -> None:
        super().__init__(handle.shape, np.dtype(np.uint16), handle=handle)
        self.open = handle

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        return self.open.visible()


CameraRawSource = source_of(CameraRaw())
