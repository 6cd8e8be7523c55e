"""A series of images or spectra in a ``.ser`` file: its header, and its elements at any offsets.

Format after C. Boothroyd, "TIA (Emispec) file format" (https://personal.ntu.edu.sg/cbb/info/TIAformat/). Offsets have
32 bits in files of version 0x210, and 64 from 0x220 on.
"""

from __future__ import annotations

import math
import struct
from itertools import product
from typing import NamedTuple

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import StoredArray
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader
from intake_img.storage.raw import map_raw, read_raw

_SMALL = 2**18  # bytes that are read, not mapped

__all__ = ["MAGIC", "Calibration", "Elements", "TiaDimension", "TiaSeries"]

MAGIC = b"II\x97\x01"
_TYPES = {1: "u1", 2: "u2", 3: "u4", 4: "i1", 5: "i2", 6: "i4", 7: "f4", 8: "f8", 9: "c8", 10: "c16"}
_SPECTRA, _IMAGES = 0x4120, 0x4122


class Calibration(NamedTuple):
    """The value at index k is ``offset + (k - element) * delta``."""

    offset: float
    delta: float
    element: int

    @property
    def origin(self) -> float:
        return self.offset - self.element * self.delta


class TiaDimension(NamedTuple):
    """An axis along which the elements were taken."""

    size: int
    calibration: Calibration
    description: str
    unit: str


class TiaSeries:
    """The header of an open file.

    Attributes
    ----------
    images : bool
        Whether the elements are images, not spectra.
    dimensions : list of TiaDimension
        The one that runs fastest first.
    recorded : int
        Number of elements that were recorded.
    offsets : ndarray of int
        Where each of them begins; of a file that was cut off, up to the last one that is complete.
    calibrations : list of Calibration
        Of an element: x and y of an image, the energy of a spectrum.
    shape : tuple of int
        Of an element.
    dtype : numpy.dtype
    """

    def __init__(self, source: ByteReader) -> None:
        self.source = source
        head = source.ranges([0], [min(34, source.size)])[0]
        if len(head) < 34 or not head.startswith(MAGIC):
            raise FormatError(f"{source.file} begins with {head[:4]!r}: expected a TIA series, {MAGIC!r}")
        self.version, kind, self.tags, total, valid = struct.unpack_from("<H4I", head, 4)
        if kind not in (_SPECTRA, _IMAGES):
            raise FormatError(f"{source.file}: elements of the unknown kind {kind:#x}: expected images or spectra")
        self.images = kind == _IMAGES
        wide = self.version >= 0x220
        table, count = struct.unpack_from("<QI" if wide else "<II", head, 22)
        self.dimensions = self._dimensions(34 if wide else 30, count)
        width = 8 if wide else 4
        if not 0 < valid <= total or math.prod(d.size for d in self.dimensions) != total or total * width > source.size:
            raise FormatError(
                f"{source.file}: {valid} of {total} elements along {[d.size for d in self.dimensions]} were recorded: "
                "nothing to read, or the header is damaged"
            )
        data = source.ranges([table], [width * valid])[0]
        self.recorded = valid
        self.offsets = np.frombuffer(data, "<u8" if wide else "<u4").astype(np.int64)
        self.calibrations, self.shape, self.dtype = self._element(int(self.offsets[0]))
        most = source.size - self.lead - math.prod(self.shape) * self.dtype.itemsize
        held = np.flatnonzero((self.offsets >= 0) & (self.offsets <= most))
        self.offsets = self.offsets[: held[-1] + 1]

    def _dimensions(self, at: int, count: int) -> list[TiaDimension]:
        found = []
        for _ in range(count):
            size, offset, delta, element, length = struct.unpack("<IddiI", self._take(at, 28))
            description, at = self._text(at + 28, length)
            unit, at = self._text(at + 4, int.from_bytes(self._take(at, 4), "little"))
            found.append(TiaDimension(size, Calibration(offset, delta, element), description, unit))
            if len(found) > 8:
                raise FormatError(f"{self.source.file}: {count} dimensions: the header is damaged")
        return found

    def _text(self, at: int, length: int) -> tuple[str, int]:
        return self._take(at, length).decode("latin-1").strip("\0 "), at + length

    def _take(self, at: int, count: int) -> bytes:
        return self.source.ranges([at], [count])[0]

    @property
    def lead(self) -> int:
        """Bytes before the values of an element."""
        return 50 if self.images else 26

    def _element(self, at: int) -> tuple[list[Calibration], tuple[int, ...], np.dtype]:
        """Return calibrations, shape and type of the element at an offset."""
        data = self._take(at, self.lead)
        axes = 2 if self.images else 1
        calibrations = [Calibration(*struct.unpack_from("<ddi", data, 20 * k)) for k in range(axes)]
        code, *sizes = struct.unpack_from(f"<H{axes}i", data, 20 * axes)
        if code not in _TYPES or min(sizes) < 1:
            raise FormatError(f"{self.source.file}: an element of {sizes} values of type {code}: it is damaged")
        dtype = np.dtype("<" + _TYPES[code])
        if at + self.lead + math.prod(sizes) * dtype.itemsize > self.source.size:
            raise FormatError(
                f"{self.source.file}: an element of {sizes} values reaches beyond the end: it is truncated"
            )
        return calibrations, tuple(sizes[::-1]), dtype

    def values_of(self, number: int) -> int:
        """Return where the values of an element begin, and check that it is like the first one."""
        at = int(self.offsets[number])
        _, shape, dtype = self._element(at)
        if (shape, dtype) != (self.shape, self.dtype):
            raise FormatError(
                f"{self.source.file}: element {number} has {shape} values of {dtype}, but the first {self.shape} of "
                f"{self.dtype}"
            )
        return at + self.lead


class Elements(StoredArray):
    """The elements of a series along its dimensions, outermost first; those that were not recorded are 0.

    Rows of images are stored from below; here they run from above, as TIA shows them.
    """

    decodes = False

    def __init__(self, series: TiaSeries, outer: tuple[int, ...]) -> None:
        self.series, self.outer = series, outer
        self.shape, self.dtype = (*outer, *series.shape), series.dtype
        self.tiles = (*[1] * (len(self.shape) - 1), self.shape[-1])

    def read_into(self, region: Region, out: np.ndarray) -> None:
        n = len(self.outer)
        for index in product(*(range(s.start, s.stop) for s in region[:n])):
            number = int(np.ravel_multi_index(index, self.outer)) if n else 0
            view = out[tuple(k - s.start for k, s in zip(index, region, strict=False))]
            if number >= len(self.series.offsets):
                view[...] = 0
                continue
            place, inner = self.series.values_of(number), region[n:]
            if not self.series.images:
                read_raw(self.series.source, place, self.dtype, self.series.shape, inner, view)
                continue
            below = _mirrored(inner[0], self.series.shape[0])  # stored from the lowest row on
            self._read_image(place, (below, inner[1]), view[::-1])

    def _read_image(self, place: int, region: Region, out: np.ndarray) -> None:
        """Fill `out` with a region of an image; a large one from a map of the file, which threads share."""
        plane = None if out.nbytes <= _SMALL else map_raw(self.series.source, place, self.dtype, self.series.shape)
        if plane is None:
            read_raw(self.series.source, place, self.dtype, self.series.shape, region, out)
        else:
            out[...] = plane[region]


def _mirrored(rows: slice, height: int) -> slice:
    return slice(height - rows.stop, height - rows.start)
