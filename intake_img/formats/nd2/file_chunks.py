"""The chunks and frames of an ND2 file: their positions, and reading a region of a frame.

A file is a sequence of chunks: magic, length of the name, length of the data, name, data. Its last 40 bytes point to
the map of all chunks. A frame is the chunk ``ImageDataSeq|k!``: the time as 8 bytes, then rows of pixels whose
components are interleaved; rows are padded to a multiple of 4 bytes. Layout after the library nd2
(``nd2._parse._chunk_decode``).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import IO

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Handle, PlaneArray, StoredArray
from intake_img.formats.inflating import inflated_quickly
from intake_img.formats.nd2.lost_map import CHUNK, DETAILS, END, MAGIC, scanned, with_map
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader
from intake_img.storage.raw import read_raw

__all__ = ["Chunks", "Frame", "PackedFrames", "PlainFrames"]

_ENTRY = struct.Struct("<QQ")
_TIME = 8  # bytes before the pixels of a frame


class Chunks:
    """The chunks of a file, by name.

    Attributes
    ----------
    places : dict of bytes to int
        Where each begins.
    mapped : bool
        Whether the file has a map of them; that of a file that was cut off is made again.
    """

    def __init__(self, source: ByteReader) -> None:
        self.source, self.mapped = source, True
        try:
            self.places = _entries(self._data(_end(source)))
        except FormatError:
            self.places, self.mapped = scanned(source), False
            if not self.frames:
                raise

    def __contains__(self, name: str) -> bool:
        return name.encode() in self.places

    @property
    def described(self) -> bool:
        """Whether the size and type of frames are known."""
        return self.mapped or any(name in self for name in ("ImageAttributesLV!", "ImageAttributes!"))

    @property
    def detailed(self) -> bool:
        """Whether channels and the size of pixels are known."""
        return self.mapped or any(name in self.places for name in DETAILS)

    def read(self, name: str) -> bytes:
        """Return the data of a chunk."""
        return self._data(self.places[name.encode()])

    def extent(self, at: int) -> tuple[int, int]:
        """Return offset and length of the data of the chunk that begins at `at`."""
        magic, name, count = CHUNK.unpack(self.source.ranges([at], [CHUNK.size])[0])
        start = at + CHUNK.size + name
        if magic != MAGIC or start + count > self.source.size:
            raise FormatError(f"{self.source.file}: no complete chunk begins at byte {at}: truncated or damaged")
        return start, count

    def _data(self, at: int) -> bytes:
        start, count = self.extent(at)
        return self.source.ranges([start], [count])[0]

    def frame(self, number: int) -> tuple[int, int] | None:
        """Return offset and length of the pixels of a frame; None if the file lacks it."""
        if (at := self.places.get(b"ImageDataSeq|%d!" % number)) is None:
            return None
        start, count = self.extent(at)
        return start + _TIME, count - _TIME

    @cached_property
    def frames(self) -> int:
        """One more than the number of the last frame that the file contains; without a map, of those without a gap."""
        names = (n[13:-1] for n in self.places if n.startswith(b"ImageDataSeq|"))
        numbers = {int(n) for n in names if n.isdigit()}
        if self.mapped:
            return max(numbers, default=-1) + 1
        return next(k for k in range(len(numbers) + 1) if k not in numbers)

    def stream(self) -> IO[bytes]:
        """Return a file that the library nd2 can parse."""
        return self.source.stream() if self.mapped else with_map(self.source, self.places)

    @cached_property
    def times(self) -> np.ndarray:
        """Times of all frames in ms, empty if the file does not state them."""
        if "CustomData|AcqTimesCache!" not in self:
            return np.empty(0)
        data = self.read("CustomData|AcqTimesCache!")
        return np.frombuffer(data[: len(data) // 8 * 8], "<f8")


def _end(source: ByteReader) -> int:
    """Return where the map is."""
    tail = source.ranges([max(source.size - 40, 0)], [min(source.size, 40)])[0]
    if len(tail) < 40 or tail[:32] != END:
        raise FormatError(
            f"{source.file}: its last bytes are not those of an ND2 file: the recording or a copy was interrupted "
            "before the first frame; copy it again, or repair it in NIS-Elements"
        )
    return int.from_bytes(tail[32:], "little")


def _entries(data: bytes) -> dict[bytes, int]:
    found, at = {}, 0
    while (stop := data.find(b"!", at) + 1) and (name := data[at:stop]) != END:
        if stop + _ENTRY.size > len(data):
            break
        found[name] = _ENTRY.unpack_from(data, stop)[0]
        at = stop + _ENTRY.size
    return found


@dataclass(frozen=True)
class Frame:
    """Layout of every frame of a file."""

    height: int
    width: int
    row: int  # bytes
    channels: int
    samples: int
    dtype: np.dtype

    @property
    def pixel(self) -> int:
        """Number of components of a pixel."""
        return self.channels * self.samples

    @property
    def nbytes(self) -> int:
        return self.height * self.row

    @property
    def shape(self) -> tuple[int, ...]:
        """Channel, y, x, sample."""
        return (self.channels, self.height, self.width, self.samples)

    def view(self, data: bytes | bytearray | memoryview) -> np.ndarray:
        """Return the bytes of a frame as an array of `shape`."""
        size = self.dtype.itemsize
        strides = (self.samples * size, self.row, self.pixel * size, size)
        return np.ndarray(self.shape, self.dtype, data, 0, strides)


class PlainFrames(StoredArray):
    """Frames that are not compressed, along the loops of an experiment: (*loops, c, y, x, s).

    Parameters
    ----------
    chunks : Chunks
    frame : Frame
    numbers : ndarray of int
        Number of the frame at each step of the loops.
    """

    decodes = False

    def __init__(self, chunks: Chunks, frame: Frame, numbers: np.ndarray) -> None:
        self.chunks, self.frame, self.numbers = chunks, frame, numbers
        self.shape, self.dtype = (*numbers.shape, *frame.shape), frame.dtype
        self.tiles = (*[1] * numbers.ndim, frame.channels, 1, frame.width, frame.samples)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        outer, inner = region[: self.numbers.ndim], region[self.numbers.ndim :]
        for index in product(*(range(s.start, s.stop) for s in outer)):
            place = tuple(k - s.start for k, s in zip(index, outer, strict=True))
            self._read_frame(int(self.numbers[index]), inner, out[place])

    def _read_frame(self, number: int, region: Region, out: np.ndarray) -> None:
        frame = self.frame
        if (found := self.chunks.frame(number)) is None:
            out[...] = 0
            return
        if found[1] < frame.nbytes:
            raise FormatError(f"frame {number} has {found[1]} bytes, but {frame.nbytes} were expected: it is damaged")
        if frame.pixel == 1 and not self.chunks.source.file.local:
            _, y, x, _ = region
            shape = (frame.height, frame.row // frame.dtype.itemsize)
            read_raw(self.chunks.source, found[0], frame.dtype, shape, (y, x), out[0, :, :, 0])
            return
        y = region[1]
        rows = (found[0] + y.start * frame.row, (y.stop - y.start) * frame.row)
        with self.chunks.source.window(*rows) as window:
            view = replace(frame, height=y.stop - y.start).view(window)
            out[...] = view[region[0], :, region[2], region[3]]
            del view


class PackedFrames(PlaneArray):
    """Frames with lossless compression, which are decoded completely; for the parameters see `PlainFrames`."""

    def __init__(self, chunks: Chunks, frame: Frame, numbers: np.ndarray, handle: Handle) -> None:
        super().__init__((*numbers.shape, *frame.shape), frame.dtype, 4, handle=handle, address=int(numbers.flat[0]))
        self.chunks, self.frame, self.numbers = chunks, frame, numbers

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        number = int(self.numbers[index])
        if (found := self.chunks.frame(number)) is None:
            return np.zeros(self.frame.shape, self.dtype)
        packed = self.chunks.source.ranges([found[0]], [found[1]])[0]
        quick = inflated_quickly(packed, self.frame.nbytes, "zlib")
        data = zlib.decompressobj().decompress(packed, self.frame.nbytes) if quick is None else quick
        if len(data) < self.frame.nbytes:
            raise FormatError(f"frame {number} inflates to {len(data)} of {self.frame.nbytes} bytes: it is damaged")
        return self.frame.view(data)
