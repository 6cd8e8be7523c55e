"""An open CZI file: its directory, metadata and the layouts of its scenes."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Handle
from intake_img.formats.czi.index import (
    LETTERS,
    PIXEL_TYPES,
    Mosaic,
    agree,
    distinct,
)
from intake_img.formats.czi.metadata import CziFacts, parse_metadata
from intake_img.formats.czi.segments import contents_of
from intake_img.model.chunks import CHUNK_BYTES
from intake_img.storage.files import ByteReader, File

__all__ = ["CziHandle", "CziLayout", "about", "layout_of"]
_DOUBTFUL = 256  # subblocks that are looked at when a file is opened: some writers never mark pyramids


class CziHandle(Handle):
    """An open file: its index, and what its XML says; decoded tiles are on its shelf."""

    def __init__(self, file: File) -> None:
        self.source: ByteReader = file.open()
        self.lock = threading.Lock()
        self.mosaics: dict[tuple[int | None, int], Mosaic] = {}
        self.layouts: dict[tuple[int | None, int], CziLayout] = {}
        self.libczi: Any = None
        try:
            with about(file):
                self._load()
        except BaseException:
            self.source.close()
            raise

    def _load(self) -> None:
        found = contents_of(self.source)
        self.version, self.index = found.version, found.index
        self.xml, self.attachments = found.xml, found.attachments
        self.data_offset = np.full(len(self.index), -1, np.int64)
        self.data_size = np.zeros(len(self.index), np.int64)
        if self.source.file.local:
            self.locate(self.index.doubtful[:_DOUBTFUL])

    @cached_property
    def facts(self) -> CziFacts:
        try:
            return parse_metadata(self.xml) if self.xml else CziFacts()
        except FormatError as exc:
            warn(f"{self.source.file}: {exc}; names of channels and spacing are unknown")
            return CziFacts()

    def mosaic(self, scene: int | None, level: int) -> Mosaic:
        with self.lock:
            key = scene, level
            if key not in self.mosaics:
                with about(self.source.file):
                    self.mosaics[key] = self.index.mosaic(scene, level)
            return self.mosaics[key]

    def time_stamps(self) -> np.ndarray | None:
        """Seconds of each time point, from the attachment of that name."""
        position = self.attachments.get("TimeStamps")
        if position is None:
            return None
        with contextlib.suppress(FormatError):
            head = self.source.ranges([position], [32 + 256 + 8])[0]
            count = int.from_bytes(head[292:296], "little", signed=True)
            if head.startswith(b"ZISRAWATTACH") and 0 < count <= (self.source.size - position) // 8:
                stamps = np.frombuffer(self.source.ranges([position + 296], [8 * count])[0], "<f8")
                return stamps if np.isfinite(stamps).all() else None
        return None

    # subblocks

    @cached_property
    def positions(self) -> np.ndarray:
        """Where subblocks begin in the file, ascending."""
        return np.unique(self.index.position)

    def locate(self, blocks: Sequence[int], source: Any = None) -> None:
        """Find where the pixels of subblocks begin, and that each is what the directory says."""
        new = [k for k in blocks if self.data_offset[k] < 0]
        if not new:
            return
        entries = [self.index.entry(k) for k in new]
        positions = [int(self.index.position[k]) for k in new]
        heads = (source or self.source).ranges(positions, [48 + len(e) for e in entries])
        for k, position, entry, head in zip(new, positions, entries, heads, strict=True):
            metadata, _, data = struct.unpack_from("<iiq", head, 32)
            if head[:14] != b"ZISRAWSUBBLOCK" or not agree(entry, head[48:]):
                raise FormatError(
                    f"{self.source.file}: the subblock at {position} is not the one of the directory: it is damaged"
                )
            offset = position + 32 + max(256, 16 + len(entry)) + metadata
            if metadata < 0 or data < 0 or offset + data > self.source.size:
                raise FormatError(f"{self.source.file}: the subblock at {position} reaches beyond the end: truncated")
            self.data_size[k] = data
            self.data_offset[k] = offset

    def stored(self, k: int) -> tuple[np.dtype, tuple[int, ...]]:
        """Return dtype and shape of a subblock as it is stored; colour samples are the last axis."""
        code, samples = PIXEL_TYPES[int(self.index.pixel_type[k])]
        shape = int(self.index.stored_height[k]), int(self.index.stored_width[k])
        return np.dtype(code), shape if samples == 1 else (*shape, samples)

    def close(self) -> None:
        if self.libczi is not None:
            self.libczi.close()
        self.source.close()


@contextlib.contextmanager
def about(file: File) -> Iterator[None]:
    """Let errors of what lies in a file name it."""
    try:
        yield
    except FormatError as exc:
        if str(file) in str(exc):
            raise
        raise FormatError(f"{file}: {exc}") from exc


@dataclass(frozen=True)
class CziLayout:
    """How an image lies in the file's planes: its mosaic, its colour samples, its axes in the file's order."""

    mosaic: Mosaic
    dtype: np.dtype
    samples: int  # 1 for grey
    merged: int | None  # place among the plane's dimensions of the channel that the samples take the place of
    tile: tuple[int, int]

    @property
    def plane_axes(self) -> tuple[str, ...]:
        return tuple(LETTERS[k] for n, k in enumerate(self.mosaic.dims) if n != self.merged)

    @property
    def plane_shape(self) -> tuple[int, ...]:
        return tuple(size for n, size in enumerate(self.mosaic.shape) if n != self.merged)

    @property
    def sample_axis(self) -> tuple[str, ...]:
        if self.samples == 1:
            return ()
        return ("s",) if "c" in self.plane_axes else ("c",)


def layout_of(handle: CziHandle, scene: int | None, level: int) -> CziLayout:
    if (known := handle.layouts.get((scene, level))) is None:
        known = handle.layouts[scene, level] = _find_layout(handle, scene, level)
    return known


def _find_layout(handle: CziHandle, scene: int | None, level: int) -> CziLayout:
    mosaic = handle.mosaic(scene, level)
    blocks = mosaic.blocks if len(mosaic.blocks) else handle.mosaic(scene, 0).blocks
    if not len(blocks):  # all of them are lost
        blocks = np.arange(len(handle.index))
    kinds = [PIXEL_TYPES[k] for k in distinct(handle.index.pixel_type[blocks])]
    dtype = np.result_type(*[np.dtype(code) for code, _ in kinds]).newbyteorder("=")
    counts = {n for _, n in kinds}
    samples = counts.pop() if len(counts) == 1 else 3
    channel = mosaic.dims.index("C") if "C" in mosaic.dims else None
    merged = channel if samples > 1 and channel is not None and mosaic.shape[channel] == 1 else None
    height, width = mosaic.tile_shape
    row = width * samples * dtype.itemsize
    if not handle.index.compression[blocks].any():  # any rows can be read by themselves
        height = min(height, max(1, CHUNK_BYTES // row))
    return CziLayout(mosaic, dtype, samples, merged, (height, width))
