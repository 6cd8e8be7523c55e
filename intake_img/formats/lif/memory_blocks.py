"""Memory blocks: the bytes of an image, in the LIF or LOF file itself or in pictures that an XLIF file names."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np

from intake_img.errors import FormatError, MissingExtraError
from intake_img.storage.files import ByteReader, File

__all__ = ["FileBlock", "Picture", "PictureBlock", "neighbour"]


@dataclass(frozen=True)
class FileBlock:
    """A block that lies in a file as it is.

    Parameters
    ----------
    source : ByteReader
    start, size : int
    """

    source: ByteReader
    start: int
    size: int

    @property
    def local(self) -> bool:
        return self.source.file.local

    def ranges(self, offsets: Sequence[int], counts: Sequence[int]) -> Sequence[bytes]:
        return self.source.ranges([self.start + at for at in offsets], counts)

    def window(self, offset: int, count: int) -> contextlib.AbstractContextManager[memoryview]:
        return self.source.window(self.start + offset, count)

    def read_into(self, offset: int, out: memoryview) -> None:
        self.source.read_into(self.start + offset, out)


@dataclass(frozen=True)
class Picture:
    """A picture that contains a part of a block."""

    file: File
    start: int
    size: int


class PictureBlock:
    """A block whose parts are pictures, each decoded completely.

    Parameters
    ----------
    pictures : sequence of Picture
    kept : callable
        Remembers decoded pictures; see `Handle.kept`.
    """

    local = False

    def __init__(self, pictures: Sequence[Picture], kept: Callable[..., np.ndarray]) -> None:
        self.pictures, self.kept = sorted(pictures, key=lambda p: p.start), kept
        self.starts = [p.start for p in self.pictures]
        self.size = max((p.start + p.size for p in self.pictures), default=0)

    def ranges(self, offsets: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        return [self._range(at, count) for at, count in zip(offsets, counts, strict=True)]

    @contextlib.contextmanager
    def window(self, offset: int, count: int) -> Iterator[memoryview]:
        yield memoryview(self._range(offset, count))

    def read_into(self, offset: int, out: memoryview) -> None:
        out[:] = self._range(offset, out.nbytes)

    def _range(self, offset: int, count: int) -> bytes:
        parts, stop = [], offset + count
        while offset < stop:
            k = bisect_right(self.starts, offset) - 1
            picture = self.pictures[max(k, 0)]
            place = offset - picture.start
            if k < 0 or place >= picture.size:
                raise FormatError(f"no picture contains byte {offset} of the image: are all files of the folder there?")
            data = self.kept((picture.file.path, "picture"), lambda p=picture: _decoded(p))
            parts.append(data[place : place + stop - offset].tobytes())
            offset += len(parts[-1])
        return b"".join(parts)


def _decoded(picture: Picture) -> np.ndarray:
    """Return the bytes of a picture, in the order in which the XML describes them."""
    pixels = _pixels(picture.file)
    if pixels.ndim == 3 and pixels.nbytes // pixels.shape[2] == picture.size:  # grey, stored as colours
        pixels = pixels[:, :, 0]
    if pixels.nbytes != picture.size:
        raise FormatError(f"{picture.file} contains {pixels.nbytes} bytes of pixels, but {picture.size} were expected")
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)


def _pixels(file: File) -> np.ndarray:
    ending = os.path.splitext(file.name)[1].lower()
    source = file.open()
    try:
        with source.stream() as stream:
            if ending in (".tif", ".tiff"):
                import tifffile

                return tifffile.imread(stream)
            if ending in (".jpg", ".jpeg", ".png", ".bmp"):
                from PIL import Image

                return np.asarray(Image.open(stream))
    except ImportError as exc:
        raise MissingExtraError("imagecodecs", "codecs", f"reading {file.name}") from exc
    finally:
        source.close()
    raise FormatError(f"{file}: an image with pixels in {ending or 'such'} files is not supported")


def neighbour(file: File, name: Any) -> File:
    """Return the file that an XML names relative to itself, in the manner of Windows."""
    path = unquote(str(name)).replace("\\", "/")
    parts = [p for p in path.split("/") if p not in ("", ".")]
    found = file.parent
    for part in parts:
        found = found.parent if part == ".." else _member(found, part)
    return found


def _member(folder: File, name: str) -> File:
    found = folder / name
    if not folder.local or os.path.exists(found.path) or not os.path.isdir(folder.path):
        return found
    return next((folder / n for n in os.listdir(folder.path) if n.lower() == name.lower()), found)
