"""JPEG 2000, JPEG XL and AVIF through imagecodecs, HEIF through pi-heif: pictures that are decoded completely.

Neither library reports type and samples without decoding: a picture is decoded when it is opened, and kept for a while.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.errors import FormatError, TooLargeError, warn
from intake_img.formats.base import Handle, PlaneArray, StoredArray
from intake_img.formats.imageio.boxes import JXL, box, boxes, check_whole, pixels_of, text_of
from intake_img.formats.imageio.containers import xmp_record
from intake_img.model.image import Image
from intake_img.model.machine import memory
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["CodedHandle", "boxed"]

_TITLES = {"jpeg2000": "JPEG 2000", "jpegxl": "JPEG XL", "avif": "AVIF", "heif": "HEIF"}
_CODECS = {"jpeg2000": "jpeg2k", "jpegxl": "jpegxl", "avif": "avif"}
_BANDS = {2: ("L", "A"), 3: tuple("RGB"), 4: tuple("RGBA")}
_RATIO = 2_000_000  # bytes of pixels to one of a file: uniform pictures are packed so tightly
_LONG = ("exif", "xmp", "metadata", "thumbnails", "depth_images", "aux", "icc_profile")


class CodedHandle(Handle):
    """An open picture of these formats."""

    def __init__(self, file: File, kind: str) -> None:
        self.kind, self.source, self.lock = kind, file.open(), threading.Lock()
        self.header: Mapping[str, Any] = {"format": _TITLES[kind]}
        self.record: Any = None
        try:
            decoded = self.decoded()
        except BaseException:
            self.close()
            raise
        self.shape, self.dtype = decoded.shape, decoded.dtype

    def decoded(self) -> np.ndarray:
        with self.lock:
            return self.kept("picture", self._decode)

    def _decode(self) -> np.ndarray:
        data = self.source.ranges([0], [self.source.size])[0]
        if self.kind == "heif":
            return self._heif(data)
        check_whole(self.kind, memoryview(data))
        self._check(pixels_of(self.kind, memoryview(data)), len(data))
        if self.kind != "avif" and data[4:8] in (b"jP  ", b"JXL "):
            self.record = next(filter(None, map(xmp_record, text_of(data))), None)
        found = np.asarray(getattr(_imagecodecs(self.kind), f"{_CODECS[self.kind]}_decode")(data))
        if found.dtype.kind not in "uif" or found.ndim < 2:
            raise FormatError(f"it decodes to {found.dtype} of shape {found.shape}: no picture")
        return found

    def _check(self, count: int, size: int) -> None:
        if count > _RATIO * size + 2**20:
            raise FormatError(f"the header states {count} samples in a file of {size} bytes: it is damaged")
        if 2 * count > memory():
            raise TooLargeError(f"{count} samples are decoded as a whole: this machine has {memory() / 2**30:.1f} GiB")

    def _heif(self, data: bytes) -> np.ndarray:
        pi_heif = imported("pi_heif", "heif", "reading HEIF")
        found = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        if len(found) > 1 and "pictures" not in self.header:
            warn(f"{self.source.file} contains {len(found)} pictures: only the primary one is read")
        width, height = found.size
        self._check(width * height * 4, len(data))
        depth = int(found.info.get("bit_depth", 8))
        facts = {k: v for k, v in found.info.items() if k not in _LONG}
        self.header = {**self.header, "mode": found.mode, "pictures": len(found), **facts}
        array = np.array(found)  # of its own memory
        return array >> np.uint16(16 - depth) if array.dtype == np.uint16 and 8 < depth < 16 else array

    def array(self, address: None) -> StoredArray:
        return _Picture(self)

    @property
    def axes(self) -> tuple[str, ...]:
        """Frames, rows, columns, samples: samples are few, and the last axis."""
        samples = len(self.shape) > 3 or (len(self.shape) == 3 and self.samples)
        return ("t",) * (len(self.shape) - 2 - samples) + ("y", "x") + ("c",) * samples

    @property
    def samples(self) -> bool:
        return self.kind in ("jpeg2000", "heif") or self.shape[-1] in _BANDS

    def describe(self, scene: int | str, level: int) -> Image:
        bands = _BANDS.get(self.shape[-1]) if self.axes[-1] == "c" else None
        header = {**self.header, "size": [self.shape[self.axes.index(a)] for a in "xy"]}
        return Image.single(self.pixels(), self.axes, channels=bands, header=header).restored(self.record)

    def close(self) -> None:
        self.source.close()


class _Picture(PlaneArray):
    parallel = False

    def __init__(self, handle: CodedHandle) -> None:
        super().__init__(handle.shape, handle.dtype, len(handle.shape) - ("t" in handle.axes))
        self.open = handle

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        found = self.open.decoded()
        if found.shape != self.shape or found.dtype != self.dtype:
            raise FormatError(
                f"it decodes to {found.dtype} of shape {found.shape}, and did to {self.dtype} {self.shape}"
            )
        return found[index]


def _imagecodecs(kind: str) -> Any:
    return imported("imagecodecs", "codecs", f"reading {_TITLES[kind]}")


def boxed(kind: str, pixels: np.ndarray, packet: bytes) -> bytes:
    """Return pixels as lossless JPEG 2000 or JPEG XL, with an XMP packet in a box of its own.

    Parameters
    ----------
    kind : {"JP2", "JXL"}
    pixels : ndarray of shape (y, x) or (y, x, samples)
    packet : bytes
    """
    pixels = np.ascontiguousarray(pixels)
    if kind == "JP2":
        data = bytes(_imagecodecs("jpeg2000").jpeg2k_encode(pixels, level=0, reversible=True))
        at = next(start for name, start, _ in boxes(data) if name == b"jp2c") - 8
        return data[:at] + box(b"xml ", packet) + data[at:]
    data = bytes(_imagecodecs("jpegxl").jpegxl_encode(pixels, lossless=True))
    if data[4:8] != b"JXL ":
        data = JXL + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"jxlc", data)
    return data + box(b"xml ", packet)
