"""Raw files of cameras (DNG, NEF, ARW, CR2, ...) through rawpy: undeveloped sensor values.

Many of them are TIFF files whose first page is a small preview; that must never pass for the picture.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, MissingExtraError
from intake_img.formats.base import Format, Handle, NoOptions, PlaneArray
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["CameraRaw", "CameraRawSource"]

_TIFF = (b"II*\0", b"MM\0*")
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
_DNG_VERSION = 50706
_MOST = 64  # pages and previews
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
        if head.startswith(_TIFF):
            named = probe.name.lower().endswith(_TIFF_ENDINGS)
            return 2 * (named or head[8:10] == b"CR" or _DNG_VERSION in probe.tiff_tags)
        return 2 * (head.startswith(_MAGIC) or head[4:12] == b"ftypcrx ")

    def open(self, file: File, options: NoOptions) -> Handle:
        try:
            import rawpy
        except ImportError as exc:
            raise MissingExtraError("rawpy", "raw", "reading raw files of cameras") from exc
        return _RawHandle(file, rawpy)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        """A DNG as cameras write it: a preview first, the sensor behind it."""
        import tifffile

        values = np.random.default_rng(5).integers(600, 16000, (40, 48)).astype("u2")
        path = os.path.join(folder, "sample.dng")
        with tifffile.TiffWriter(path) as tif:
            camera: list[Any] = [
                (_DNG_VERSION, 1, 4, bytes([1, 4, 0, 0]), True),
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


class _RawHandle(Handle):
    """An open file; the sensor's numbers are unpacked when they are first asked for."""

    def __init__(self, file: File, rawpy: Any) -> None:
        source = file.open()
        try:
            data = source.ranges([0], [source.size])[0]
        finally:
            source.close()
        _check_whole(data, file)
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
        return np.array(found)  # of its own memory: LibRaw frees what it lends

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


def _check_whole(data: bytes, file: File) -> None:
    """Raise `FormatError` for a TIFF that ends before the pixels of a page, which LibRaw does not mind."""
    if not data.startswith(_TIFF):
        return
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        pages: list[Any] = list(tif.pages)
        for page in pages:
            pages += list(page.pages or ())[: _MOST - len(pages)]
            ends = (a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False))
            if (end := max(ends, default=0)) > len(data):
                raise FormatError(
                    f"{file}: the header states pixels up to byte {end}, the file ends at {len(data)}: truncated"
                )


CameraRawSource = source_of(CameraRaw())
