"""Frames of DICOM files as arrays: uncompressed frames by region, compressed frames completely; slices of many files.

Compressed frames are decoded by pydicom and what it finds (Pillow, pyjpegls, pylibjpeg-openjpeg), lossless and 12-bit
JPEG by imagecodecs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np

from intake_img.errors import FormatError, MissingExtraError
from intake_img.formats.base import Handle, PlaneArray, StoredArray
from intake_img.formats.dicom.cut import decoded_alone
from intake_img.formats.dicom.header import DicomHeader, whole_number
from intake_img.model.chunks import Region
from intake_img.model.packages import imported
from intake_img.model.process_state import quiet
from intake_img.storage.files import ByteReader
from intake_img.storage.raw import map_raw, read_raw

__all__ = ["Arranged", "DecodedFrames", "NativeFrames", "frames_of"]

_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_END = b"\xff\xd9"  # the marker EOI of JPEG
_JPEG = {"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}  # extended, lossless
_BIG = "1.2.840.10008.1.2.2"
_RATIO = 2000  # no codec here packs tighter


class NativeFrames(StoredArray):
    """Frames that lie in the file as they are: (frame, y, x), and sample before or behind y and x for colours."""

    decodes = False

    def __init__(self, source: ByteReader, header: DicomHeader, dtype: np.dtype, shape: Sequence[int]) -> None:
        self.offset, length = header.place or (0, 0)
        self.source, self.stored, self.shape = source, dtype, tuple(shape)
        self.dtype = dtype.newbyteorder("=")
        need = math.prod(shape) * dtype.itemsize
        if need > length or self.offset + need > source.size:
            raise FormatError(
                f"{header.file}: {shape[0]} frames of {shape[1:]} {dtype} need {need} bytes, but the file contains "
                f"{min(length, source.size - self.offset)}: truncated or damaged"
            )
        bits, high = whole_number(header.item, "BitsStored"), whole_number(header.item, "HighBit")
        whole = 8 * dtype.itemsize
        self.spare = (whole - bits, high - bits + 1) if dtype.kind in "iu" and 0 < bits < whole else None
        self.tiles = (1,) * (len(shape) - 1) + (shape[-1],)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        read_raw(self.source, self.offset, self.stored, self.shape, region, out)
        if self.spare is not None:  # the bits beyond those stored may contain overlays
            unused, low = self.spare
            np.left_shift(out, unused - low, out=out)
            np.right_shift(out, unused, out=out)

    def mapped(self) -> np.ndarray | None:
        return map_raw(self.source, self.offset, self.stored, self.shape) if self.spare is None else None


class DecodedFrames(PlaneArray):
    """Frames that are compressed, or whose bits are packed: (frame, y, x) or (frame, y, x, sample)."""

    def __init__(
        self,
        handle: Handle,
        source: ByteReader,
        header: DicomHeader,
        dtype: np.dtype,
        shape: Sequence[int],
        address: Any = None,
    ) -> None:
        super().__init__(shape, dtype, len(shape) - 1, handle=handle, address=address)
        self.source, self.header = source, header
        if math.prod(shape) * dtype.itemsize > _RATIO * source.size + 2**24:
            raise FormatError(f"{header.file}: has {source.size} bytes, too few for {shape} {dtype}: damaged")

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        if self.dtype == np.uint8 and self.header.place is not None and self.header.ds.get("BitsAllocated") == 1:
            found = self._bits(index[0])
        elif self.header.syntax in _JPEG:
            found = self._jpeg(index[0])
        else:
            self._check_end(index[0])
            found = self._pydicom(index[0])
        if found.shape != self.shape[1:]:
            raise FormatError(
                f"{self.header.file}: frame {index[0]} is {found.shape}, the header says {self.shape[1:]}"
            )
        return found.astype(self.dtype, copy=False)

    def _bits(self, number: int) -> np.ndarray:
        """Return a frame of one bit a pixel; bits run on from frame to frame."""
        offset, length = self.header.place or (0, 0)
        size = math.prod(self.shape[1:])
        first, stop = number * size, (number + 1) * size
        if -(-stop // 8) > length:
            raise FormatError(
                f"{self.header.file}: {length} bytes are too few for {self.shape[0]} frames of {size} bits: damaged"
            )
        data = self.source.ranges([offset + first // 8], [-(-stop // 8) - first // 8])[0]
        bits = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")
        return bits[first % 8 : first % 8 + size].reshape(self.shape[1:])

    @cached_property
    def _whole(self) -> Any:
        """The complete data set, of a file in which the pixels have no known place."""
        import pydicom

        with self.source.stream() as stream, quiet():
            return pydicom.dcmread(stream, force=True)

    def _pydicom(self, number: int) -> np.ndarray:
        from pydicom import pixels

        if self.header.start is None:
            return pixels.pixel_array(self._whole, index=number)
        with self.source.stream() as stream:
            try:
                if self.header.held is not None:
                    return decoded_alone(self.header, self._compressed(number))
                return pixels.pixel_array(cast(Any, stream), index=number)
            except RuntimeError as exc:
                if "missing dependencies" in str(exc).lower() or "unable to decompress" in str(exc).lower():
                    raise MissingExtraError("pylibjpeg-openjpeg", "dicom", f"decoding {self.header.syntax}") from exc
                raise

    def _jpeg(self, number: int) -> np.ndarray:
        imagecodecs = imported("imagecodecs", "codecs", "decoding lossless and 12-bit JPEG")
        decode = imagecodecs.jpeg_decode if self.header.syntax.endswith(".51") else imagecodecs.ljpeg_decode
        return np.asarray(decode(self._compressed(number)))

    def _compressed(self, number: int) -> bytes:
        """Return a frame as it is stored."""
        if self.header.fragments is not None:
            places = self.header.fragments[number]
            return b"".join(self.source.ranges([o for o, _ in places], [n for _, n in places]))
        if self.header.place is not None:
            size = math.prod(self.shape[1:]) * self.dtype.itemsize
            return self.source.ranges([self.header.place[0] + number * size], [size])[0]
        from pydicom import encaps

        with self.source.stream() as stream:
            stream.seek(self._encapsulated())
            return encaps.get_frame(stream, number, number_of_frames=self.shape[0])

    def _check_end(self, number: int) -> None:
        """Refuse a frame of JPEG-LS that is truncated: CharLS would look for its end for ever."""
        if self.header.syntax in _JPEG_LS and not self._compressed(number).rstrip(b"\0").endswith(_END):
            raise FormatError(f"{self.header.file}: frame {number} ends before its last marker: it is truncated")

    def _encapsulated(self) -> int:
        import pydicom

        with self.source.stream() as stream:
            pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            return stream.tell() + 12


class Arranged(StoredArray):
    """Frames of one or many arrays at their positions: the outer axes of a table, then the axes of a frame.

    Parameters
    ----------
    table : ndarray of int
        Number of the frame at each place; -1 where there is none, which reads as 0.
    arrays : callable
        Returns a context manager for a number of the table: an array ``(frame, ...)``, and the frame's number in it.
    frame : tuple of int
        Shape of a frame.
    dtype : dtype
    tiles : tuple of int
        Of a frame.
    """

    def __init__(
        self, table: np.ndarray, arrays: Any, frame: Sequence[int], dtype: np.dtype, tiles: Sequence[int], decodes: bool
    ) -> None:
        self.table, self.arrays, self.dtype, self.decodes = table, arrays, dtype, decodes
        self.shape = (*table.shape, *frame)
        self.tiles = (*[1] * table.ndim, *tiles)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        outer, inner = region[: self.table.ndim], region[self.table.ndim :]
        for index in itertools.product(*(range(s.start, s.stop) for s in outer)):
            place = tuple(k - s.start for k, s in zip(index, outer, strict=True))
            number = int(self.table[index])
            if number < 0:
                out[place] = 0
                continue
            with self.arrays(number) as (array, k):
                array.read_into((slice(k, k + 1), *inner), out[place][None])


def frames_of(handle: Handle, source: ByteReader, header: DicomHeader) -> tuple[StoredArray, bool]:
    """Return the frames of a file, and whether the samples of colours come before y and x.

    Raises
    ------
    FormatError
        If the header does not describe an image.
    """
    ds = header.ds
    rows, columns, samples = (whole_number(header.item, n) for n in ("Rows", "Columns", "SamplesPerPixel"))
    samples, frames = samples or 1, header.frames
    if not header.holds_pixels or min(rows, columns, samples, frames) < 1 or samples > 4:
        raise FormatError(
            f"{header.file} ({header.kind or 'of unknown kind'}) contains no image: {frames} frames of {rows} x "
            f"{columns} with {samples} samples"
        )
    bits, dtype = whole_number(header.item, "BitsAllocated"), _dtype(header)
    planar = samples > 1 and whole_number(header.item, "PlanarConfiguration") == 1
    tone = str(header.item.get("PhotometricInterpretation") or "")
    colours = () if samples == 1 else (samples,)
    swapped = bits == 8 and not ds.is_little_endian  # two by two
    if header.place is not None and bits % 8 == 0 and not tone.startswith("YBR") and not swapped:
        shape = (frames, *(colours if planar else ()), rows, columns, *(() if planar else colours))
        return NativeFrames(source, header, dtype, shape), planar
    whole = (frames, rows, columns, *colours)
    return DecodedFrames(handle, source, header, dtype.newbyteorder("="), whole, header.file.path), False


def _dtype(header: DicomHeader) -> np.dtype:
    ds, order = header.ds, ">" if header.syntax == _BIG else "<"
    item = header.item
    bits = whole_number(item, "BitsAllocated")
    if bits == 1:
        return np.dtype("u1")
    if header.place is not None and not ds.is_little_endian:
        order = ">"
    kind = "i" if whole_number(item, "PixelRepresentation") == 1 else "u"
    if "PixelRepresentation" not in item and bits in (32, 64):  # Float Pixel Data
        kind = "f"
    if bits not in (8, 16, 32, 64):
        raise FormatError(f"{header.file}: pixels of {bits} bits are not supported")
    return np.dtype(f"{order}{kind}{bits // 8}")
