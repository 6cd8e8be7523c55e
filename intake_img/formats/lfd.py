"""SimFCS files of the Laboratory for Fluorescence Dynamics: square images of intensity, phase and modulation.

They have no magic bytes: the extension says what they are, and their size has to fit. Layouts: lfdfiles (C. Gohlke),
https://github.com/cgohlke/lfdfiles, whose classes SimfcsRef, SimfcsR64, ... describe them.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions, RawArray, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.model.image import Image
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated

__all__ = ["Lfd", "LfdSource"]

_REFERENCED = ("dc", "ph1", "md1", "ph2", "md2")  # intensity; phase in degrees and modulation of two harmonics
_MOST = 4096  # pixels of a side


@dataclass(frozen=True)
class _Kind:
    """One of the layouts.

    Parameters
    ----------
    axis : str
        The axis of the images in the file.
    dtype : str
    numbers : int
        How many int32 precede the pixels: the length of a side; the number of images.
    packed : bool
        Whether it is a zlib stream.
    side : int
        Length of a side where no number says it; 0 if it follows from the size of the file.
    images : int
        How many images; 0 if it follows from the size.
    """

    axis: str
    dtype: str = "<f4"
    numbers: int = 0
    packed: bool = False
    side: int = 256
    images: int = 0


_KINDS = {
    ".ref": _Kind("c", side=0, images=5),
    ".r64": _Kind("c", numbers=1, packed=True),
    ".b64": _Kind("i", dtype="<i2", numbers=1),
    ".i64": _Kind("i", numbers=1, packed=True),
    ".z64": _Kind("h", numbers=2, packed=True),
    ".b&h": _Kind("h"),
    ".int": _Kind("i", images=1),
    ".phs": _Kind("i", images=1),
    ".mod": _Kind("i", images=1),
    ".ac": _Kind("i", images=1),
}


class _LfdHandle(Handle):
    def __init__(self, file: File) -> None:
        extension = next((e for e in _KINDS if file.name.lower().endswith(e)), None)
        if extension is None:
            raise FormatError(f"{file} does not have an extension of SimFCS: {', '.join(_KINDS)}")
        self.kind, self.extension, self.file = _KINDS[extension], extension, file
        self.stored = file.open()
        if not self.stored.size:
            raise FormatError(f"{file} is empty (0 bytes): expected a file of SimFCS")
        self.source: ByteReader = Inflated(self.stored, "zlib") if self.kind.packed else self.stored
        self.shape, self.dtype = self._layout()

    def _layout(self) -> tuple[tuple[int, int, int], np.dtype]:
        kind, start = self.kind, 4 * self.kind.numbers
        numbers = struct.unpack(f"<{kind.numbers}i", self.source.ranges([0], [start])[0])
        if not all(0 < n <= _MOST for n in numbers):
            raise self._misfit(f"begins with {numbers}: expected the length of a side, at most {_MOST}")
        size, dtype = self.source.size - start, np.dtype(kind.dtype)
        if self.extension in (".int", ".ac") and size == 256 * 256 * 2:
            dtype = np.dtype("<u2")  # of older versions
        side = numbers[0] if numbers else kind.side or math.isqrt(size // (dtype.itemsize * kind.images))
        images = kind.images or size // max(1, side * side * dtype.itemsize)
        if kind.numbers == 2 and images != numbers[1]:
            raise self._misfit(f"says that it contains {numbers[1]} images, and contains {images}")
        if not images or images * side * side * dtype.itemsize != size:
            raise self._misfit(f"has {size} bytes of pixels: expected a whole number of {side} x {side} {dtype.name}")
        return (images, side, side), dtype

    def _misfit(self, what: str) -> FormatError:
        return FormatError(f"{self.file}: a SimFCS file {self.extension} {what}; it is damaged or something else")

    def array(self, address: None) -> StoredArray:
        return RawArray(self.source, 4 * self.kind.numbers, self.dtype, self.shape)

    def describe(self, scene: int | str, level: int) -> Image:
        pixels = self.pixels()
        if self.shape[0] == 1:
            return Image.single(pixels.reshape((1, 2)), "yx")
        names: Sequence[str] | None = _REFERENCED if self.kind.axis == "c" and self.shape[0] == 5 else None
        return Image.single(pixels, f"{self.kind.axis}yx", channels=names)

    def close(self) -> None:
        self.stored.close()


class Lfd(Format):
    """SimFCS image: ``.ref``, ``.r64`` (intensity, phase, modulation), ``.b64``, ``.i64``, ``.z64``, ``.int``, ...

    Referenced images have the channels ``dc``, ``ph1``, ``md1``, ``ph2`` and ``md2``, phases in degrees. Files of
    several images stack them on ``i``, histograms of delays on ``h``. The files say nothing of the size of a pixel.
    """

    name = "lfd"
    title = "SimFCS"
    extensions = tuple(_KINDS)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _LfdHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.linspace(0, 1, 5 * 16 * 16, dtype="<f4").reshape(5, 16, 16)
        path = os.path.join(folder, "sample.r64")
        with open(path, "wb") as stream:
            stream.write(zlib.compress(struct.pack("<i", 16) + values.tobytes()))
        return path, xr.Dataset({"image": (tuple("cyx"), values)}, {"c": list(_REFERENCED)})


LfdSource = source_of(Lfd())
