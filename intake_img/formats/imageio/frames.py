"""Open pictures and videos: one frame is decoded at a time, and decoded frames are cached."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import math
import struct
import threading
from collections.abc import Iterator
from functools import cache, cached_property
from typing import IO, Any

import numpy as np

from intake_img.errors import FormatError, TooLargeError, warn
from intake_img.formats.imageio import containers as _containers
from intake_img.formats.imageio.boxes import kind_of_boxes
from intake_img.formats.imageio.containers import ContainerFacts
from intake_img.formats.imageio.video import Video
from intake_img.formats.palettes import palette_attrs
from intake_img.model.machine import memory
from intake_img.model.packages import imported
from intake_img.model.process_state import quiet
from intake_img.model.record import plain
from intake_img.storage.cache import Shelf
from intake_img.storage.files import File

__all__ = ["Film", "Frames", "Plain", "kind_of"]

_HEAD = 2**16  # a Netpbm header with our record in a comment fits

_RATIO = 10_000  # no codec here packs tighter: a 1-bit PNG of one colour reaches 8256 bytes of pixels to one of a file

_SHARE = 0.5  # of the cache: the largest frame that is kept for the next region

_PLUGINS = {
    "png": ("PngImagePlugin", "PngImageFile"),
    "jpeg": ("JpegImagePlugin", "JpegImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
    "netpbm": ("PpmImagePlugin", "PpmImageFile"),
    "tga": ("TgaImagePlugin", "TgaImageFile"),
}

_WALKS = {"png": _containers.png, "jpeg": _containers.jpeg, "webp": _containers.webp}


def kind_of(head: bytes, name: str) -> str | None:
    """Name of the format that bytes, or for formats without magic a name, tell."""
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "video"}.get(head[8:12])
    if coded := kind_of_boxes(head):
        return coded
    if head[4:8] == b"ftyp":
        return None if head[8:12] == b"crx " else "video"
    if head[:4] == b"\x1a\x45\xdf\xa3" or head[4:8] in (b"moov", b"mdat", b"wide"):
        return "video"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[14:18] in _BMP_HEADERS:
        return "bmp"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "netpbm"
    starts = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}
    found = next((kind for start, kind in starts.items() if head.startswith(start)), None)
    return found or ("tga" if name.lower().endswith(".tga") else None)


_BMP_HEADERS = [struct.pack("<I", n) for n in (12, 16, 40, 52, 56, 64, 108, 124)]


class Frames:
    """A still or an animation that Pillow decodes.

    An animation is decoded from its beginning on; the frames passed on the way are kept, up to some MiB, so that
    readers that come out of order (dask starts with the last) seldom make the decoder start over.
    """

    def __init__(self, file: File, kind: str, rgb: bool = False) -> None:
        self.kind, self.source, self.rgb = kind, file.open(), rgb
        self.lock = threading.RLock()
        self._decoder: tuple[Any, IO[bytes]] | None = None
        self._shelf = Shelf()
        self._checked = kind != "png"
        try:
            self._bytes = None if file.local else self.source.ranges([0], [self.source.size])[0]
            self.facts = self._walk()
            self._describe()
        except BaseException:
            self.close()
            raise

    def _walk(self) -> ContainerFacts:
        if self.kind == "gif":  # frames are found by scanning the file, without mapping all of it
            return _containers.gif(_containers.Pages(self._range, self.source.size))
        if self.kind == "netpbm":
            self._tell_of_others()
        if self.kind not in _WALKS:
            return ContainerFacts()
        with self._view() as view:
            facts = _WALKS[self.kind](view)
        if facts.pictures > 1:
            warn(f"{self.source.file} contains {facts.pictures} pictures: only the first one is read")
        if self.kind == "jpeg" and facts.depth != 8:
            raise FormatError(f"a JPEG of {facts.depth} bits is not read: convert it to .tif or 16-bit .png")
        return facts

    def _tell_of_others(self) -> None:
        """Warn if a PBM is followed by another one."""
        stop = _containers.pbm_end(self._range(0, min(_HEAD, self.source.size)))
        if stop is not None and self._range(stop, min(2, max(0, self.source.size - stop))) == b"P4":
            warn(f"{self.source.file} contains several pictures: only the first one is read")

    def _range(self, at: int, count: int) -> bytes:
        if self._bytes is not None:
            return self._bytes[at : at + count]
        with self.source.window(at, count) as view:
            return bytes(view)

    @contextlib.contextmanager
    def _view(self) -> Iterator[memoryview]:
        if self._bytes is not None:
            yield memoryview(self._bytes)
            return
        if self.source.size <= _HEAD:  # a map costs more than a read
            yield memoryview(self.source.ranges([0], [self.source.size])[0])
            return
        with self.source.window(0, self.source.size) as view:
            yield view

    def _describe(self) -> None:
        im = self._opened()
        if self.facts.first:
            im.seek(self.facts.first)
        self.squeezed = self.kind == "png" and self.facts.depth == 16 and self.facts.colour != 0
        self.mode, dtype, self.bands = _mode(im, self.facts, self.kind, self.rgb)
        self.attrs = palette_attrs(_palette(im)) if self.mode == "P" else {}
        if self.squeezed:
            _imagecodecs()
            dtype = np.dtype(np.uint16)
            self.bands = {2: ("R", "G", "B"), 4: ("L", "A"), 6: ("R", "G", "B", "A")}[self.facts.colour]
        self.plain = (  # imagecodecs decodes these to the same values, in half the time
            self.kind == "png"
            and self.facts.frames == 1
            and self.facts.colour in (0, 2, 4, 6)
            and self.facts.depth >= 8
            and self.mode == im.mode
            and "transparency" not in im.info
            and _has_imagecodecs()
        )
        self.dtype = dtype
        self.plane = (im.height, im.width, len(self.bands)) if self.bands else (im.height, im.width)
        if not self._fits() or 0 in self.plane:
            need = math.prod(self.plane) * dtype.itemsize
            raise FormatError(
                f"the header states frames of {im.width} x {im.height} pixels, {need} bytes each, in a file of "
                f"{self.source.size}: it is damaged"
            )
        self.shape = (self.facts.frames, *self.plane) if self.facts.frames > 1 else self.plane
        self.header = _header(im, self.facts)

    @cached_property
    def frame_of_file(self) -> tuple[bytes, ...] | None:
        """All bytes except pixels of a PNG of one picture; None for others."""
        if self.kind != "png" or self.facts.frames != 1 or self.facts.first or self._bytes is not None:
            return None
        with self._view() as view:
            found = _containers.around_pixels(view)
        return found if sum(map(len, found)) <= _HEAD else None

    def reuse_for(self, file: File) -> Frames | None:
        """Return an open PNG that differs in its pixels alone; None if it is none."""
        if (mine := self.frame_of_file) is None:
            return None
        new = object.__new__(Frames)
        new.__dict__.update(self.__dict__, source=file.open(), lock=threading.RLock(), _decoder=None, _checked=False)
        new._shelf = Shelf()
        try:
            with new._view() as view:
                same = _containers.around_pixels(view) == mine
            if same and new._fits():
                return new
        except BaseException:
            new.close()
            raise
        new.close()
        return None

    def _fits(self) -> bool:
        """Whether the pixels may be in so small a file."""
        return math.prod(self.plane) * self.dtype.itemsize <= _RATIO * self.source.size + 2**20

    # decoding

    def _opened(self) -> Any:
        if self._decoder is None:
            module, name = _PLUGINS[self.kind]
            stream = io.BytesIO(self._bytes) if self._bytes is not None else self.source.stream()
            try:
                self._decoder = getattr(importlib.import_module(f"PIL.{module}"), name)(stream), stream
            except BaseException:
                stream.close()
                raise
        return self._decoder[0]

    def frame(self, number: int) -> np.ndarray:
        """Return a frame, of shape `plane`; not to be written to."""
        with self.lock:
            known: np.ndarray | None = self._shelf.get(number)
            if known is not None:
                return known
            self._check_memory()
            return self._deep(number) if self.squeezed or self.plain else self._pillow(number)

    def _keep(self, number: int, array: np.ndarray) -> np.ndarray:
        if array.shape != self.plane or array.dtype != self.dtype:
            raise FormatError(
                f"frame {number} is {array.dtype} of shape {array.shape}, the header says {self.dtype} {self.plane}"
            )
        self._shelf.put(number, array, _SHARE)
        return array

    def _check_memory(self) -> None:
        need = math.prod(self.plane) * self.dtype.itemsize
        if need > memory():
            raise TooLargeError(
                f"a frame of shape {self.plane} and dtype {self.dtype} needs {need / 2**30:.1f} GiB, and this format "
                f"is decoded as a whole: this machine has {memory() / 2**30:.1f} GiB"
            )

    def _check(self) -> None:
        if not self._checked:
            with self._view() as view:
                _containers.check_png(view)
            self._checked = True

    def _pillow(self, number: int) -> np.ndarray:
        self._check()
        first, im = self.facts.first, self._opened()
        if im.tell() > first + number:  # opened again, as Pillow's rewinding of APNG fails from a frame in the middle
            self._shut()
            im = self._opened()
        try:
            for k in range(max(0, im.tell() - first), number + 1):
                im.seek(first + k)
                array = self._keep(k, np.asarray(im.convert(self.mode) if im.mode != self.mode else im))
        except EOFError as exc:
            raise FormatError(f"frame {number} of {self.facts.frames} is missing: the file is truncated") from exc
        finally:
            if self.facts.frames == 1:  # the pixels, if they are kept, are kept once
                self._shut()
        return array

    def _deep(self, number: int) -> np.ndarray:
        self._check()
        with self._view() as view:
            data = bytes(view)
        decoded = (
            _imagecodecs().png_decode(data)
            if self.facts.frames == 1
            else _imagecodecs().apng_decode(data, index=self.facts.first + number)
        )
        return self._keep(number, np.asarray(decoded))

    def _shut(self) -> None:
        if self._decoder is not None:
            im, stream = self._decoder
            self._decoder = None
            im.close()
            stream.close()

    def close(self) -> None:
        self._shut()
        self._shelf.clear()
        self._bytes = None
        self.source.close()


@cache
def _has_imagecodecs() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _imagecodecs() -> Any:
    return imported("imagecodecs", "codecs", "reading 16-bit colour PNG")


def _mode(im: Any, facts: ContainerFacts, kind: str, rgb: bool) -> tuple[str, np.dtype, tuple[str, ...]]:
    """Return the mode to convert frames to, the dtype of their samples, and the names of these if there are several."""
    mode = im.mode
    if kind == "gif" and facts.frames > 1:
        mode = "L" if facts.gray and not facts.alpha else "RGBA" if facts.alpha else "RGB"
    elif mode in ("P", "PA") and (rgb or mode == "PA" or facts.frames > 1):
        mode = "RGBA" if mode == "PA" or "transparency" in im.info else "RGB"
    elif mode == "RGBX":
        mode = "RGB"
    dtypes = {"1": np.bool_, "I;16": np.uint16, "I;16B": np.uint16, "I": np.int32, "F": np.float32}
    bands = {
        "L": (),
        "1": (),
        "P": (),
        "RGB": tuple("RGB"),
        "RGBA": tuple("RGBA"),
        "LA": ("L", "A"),
        "CMYK": tuple("CMYK"),
    }
    if mode not in dtypes and mode not in bands:
        raise FormatError(f"pictures of Pillow's mode {mode!r} are not read")
    return mode, np.dtype(dtypes.get(mode, np.uint8)), bands.get(mode, ())


_ORDERS = {
    "RGB": (0, 1, 2),
    "BGR": (2, 1, 0),
    "RGBX": (0, 1, 2),
    "BGRX": (2, 1, 0),
    "RGBA": (0, 1, 2, 3),
    "BGRA": (2, 1, 0, 3),
}


def _palette(im: Any) -> np.ndarray | None:
    """Return the palette of a picture that is not decoded yet, with alpha where some colours have less than all."""
    order = _ORDERS.get(im.palette.rawmode or im.palette.mode)
    if order is None:
        return None
    data, count = bytes(im.palette.palette), len(im.palette.rawmode or im.palette.mode)
    table = np.frombuffer(data[: len(data) // count * count], np.uint8).reshape(-1, count)[:, order]
    clear = im.info.get("transparency")
    if clear is None:
        return table
    alpha = np.full((len(table), 1), 255, np.uint8)
    if isinstance(clear, bytes):
        alpha[: len(clear), 0] = np.frombuffer(clear[: len(alpha)], np.uint8)
    elif 0 <= clear < len(alpha):
        alpha[clear] = 0
    return np.concatenate([table[:, :3], alpha], axis=1)


def _header(im: Any, facts: ContainerFacts) -> dict[str, Any]:
    """The metadata of a picture, without long binary values."""
    long = ("icc_profile", "exif", "xmp", "photoshop", "comment", "transparency")
    header = {
        "format": im.format,
        "mode": im.mode,
        "size": [im.width, im.height],
        "frames": facts.frames,
        "durations_ms": facts.durations,
        **{str(k): plain(v) for k, v in im.info.items() if k not in long and str(k) != _containers.KEY},
    }
    if "exif" in im.info:
        with contextlib.suppress(Exception), quiet():  # what cameras write there is often broken
            from PIL.ExifTags import TAGS

            header["exif"] = {TAGS.get(k, str(k)): plain(v) for k, v in im.getexif().items()}
            if "Orientation" in header["exif"]:
                header["orientation"] = header["exif"]["Orientation"]
    return header


class Film:
    """A video."""

    def __init__(self, file: File) -> None:
        self.video = Video(file)
        self.attrs: dict[str, Any] = {}
        self.shape: tuple[int, ...] = self.video.shape
        self.dtype, self.header = self.video.dtype, self.video.header
        self.bands = tuple("RGB") if len(self.shape) == 4 else ()
        self.facts = ContainerFacts(frames=self.shape[0], durations=self.video.durations)
        try:
            self.facts.record = _containers.keyed_record(self.video.record)
        except BaseException:
            self.video.close()
            raise
        self.frame, self.close, self.lock = self.video.frame, self.video.close, self.video.lock
        if self.shape[0] == 1:
            self.shape = self.shape[1:]


class Plain:
    """A PGM or PPM, whose samples lie in the file as they are."""

    def __init__(self, file: File) -> None:
        self.source = file.open()
        self.attrs: dict[str, Any] = {}
        try:
            self.raws = self._images()
        except BaseException:
            self.close()
            raise
        first = self.raws[0]
        self.shape, self.dtype = first.shape, np.dtype(first.dtype).newbyteorder("=")
        self.bands = tuple("RGB") if len(self.shape) == 3 else ()
        if len(self.raws) > 1:
            self.shape = (len(self.raws), *self.shape)
        self.facts = ContainerFacts(record=first.record)
        self.header = {"format": first.magic, "maxval": first.maxval, "images": len(self.raws)}

    def _images(self) -> list[_containers.Raw]:
        """Return the images that follow each other in the file; the first alone if they differ."""
        found: list[_containers.Raw] = []
        at = 0
        while not found or self._begins(at, found[0].magic):
            head = self.source.ranges([at], [min(_HEAD, self.source.size - at)])[0]
            found.append(_containers.netpbm(head, self.source.size, at))
            at = found[-1].stop
        kinds = {(raw.shape, raw.dtype, raw.maxval) for raw in found}
        if len(kinds) > 1:
            warn(
                f"{self.source.file} contains {len(found)} images of {len(kinds)} sizes or ranges of values: only the "
                "first one is read; split the file to read the others"
            )
            return found[:1]
        return found

    def _begins(self, at: int, magic: str) -> bool:
        if at + 3 > self.source.size:
            return False
        start = self.source.ranges([at], [3])[0]
        return start[:2] == magic.encode() and start[2:].isspace()

    def close(self) -> None:
        self.source.close()
