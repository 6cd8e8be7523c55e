"""Everyday pictures and films: PNG, JPEG, GIF, BMP, WebP, Netpbm and TGA through Pillow, videos through PyAV.

A frame is decoded as a whole, so a frame is a tile. Values are those of the file: bits are kept (16 bits of colour need
imagecodecs, as Pillow would squeeze them), orientation tags are reported and not applied, palettes become the colours
that they stand for. Resolutions of screens and printers are no spacing; only a pixel below 10 µm is believed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import itertools
import math
import struct
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import IO, Any

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError, FormatError, MissingExtraError, TooLargeError
from intake_img.formats.imageio import containers as _containers
from intake_img.formats.imageio import pictures as _pictures
from intake_img.formats.imageio.containers import Facts
from intake_img.formats.imageio.video import Video
from intake_img.formats.source import ImageSource, Probe
from intake_img.model.axes import CANONICAL
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.machine import memory
from intake_img.model.record import plain
from intake_img.storage.files import File
from intake_img.storage.raw import read_raw

__all__ = ["ImageioSource"]

_HEAD = 2**16  # a Netpbm header with our record in a comment fits
_RATIO = 10_000  # no codec here packs tighter: a 1-bit PNG of one colour reaches 8256 bytes of pixels to one of a file
_KEPT = 2**26  # bytes of decoded frames that are kept for the next region
_MICROSCOPE = 10.0  # µm; coarser pixels are those of screens, printers and scanners

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


def _kind(head: bytes, name: str) -> str | None:
    """Name of the format that bytes, or for formats without magic a name, tell."""
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "video"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return None if head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"crx ") else "video"
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


class _Frames:
    """A still or an animation that Pillow decodes.

    An animation is decoded from its beginning on; the frames passed on the way are kept, up to some MiB, so that
    readers that come out of order (dask starts with the last) seldom make the decoder start over.
    """

    def __init__(self, file: File, kind: str) -> None:
        self.kind, self.source = kind, file.open()
        self.lock = threading.RLock()
        self._decoder: tuple[Any, IO[bytes]] | None = None
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._checked = kind != "png"
        try:
            self._bytes = None if file.local else self.source.ranges([0], [self.source.size])[0]
            self.facts = self._walk()
            self._describe()
        except BaseException:
            self.close()
            raise

    def _walk(self) -> Facts:
        if self.kind == "gif":  # its frames are found by walking the whole file, which is not mapped at once for that
            return _containers.gif(_containers.Pages(self._range, self.source.size))
        if self.kind == "netpbm":
            self._tell_of_others()
        if self.kind not in _WALKS:
            return Facts()
        with self._view() as view:
            facts = _WALKS[self.kind](view)
        if facts.pictures > 1:
            warnings.warn(
                f"{self.source.file} holds {facts.pictures} pictures: the first one alone is read", stacklevel=2
            )
        if self.kind == "jpeg" and facts.depth != 8:
            raise FormatError(f"a JPEG of {facts.depth} bits is not read: convert it to .tif or 16-bit .png")
        return facts

    def _tell_of_others(self) -> None:
        """Warn if a PBM is followed by another one."""
        stop = _containers.pbm_end(self._range(0, min(_HEAD, self.source.size)))
        if stop is not None and self._range(stop, min(2, max(0, self.source.size - stop))) == b"P4":
            warnings.warn(f"{self.source.file} holds several pictures: the first one alone is read", stacklevel=2)

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
        with self.source.window(0, self.source.size) as view:
            yield view

    def _describe(self) -> None:
        im = self._opened()
        if self.facts.first:
            im.seek(self.facts.first)
        self.squeezed = self.kind == "png" and self.facts.depth == 16 and self.facts.colour != 0
        self.mode, dtype, self.bands = _mode(im, self.facts, self.kind)
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
        need = math.prod(self.plane) * dtype.itemsize
        if need > _RATIO * self.source.size + 2**20 or 0 in self.plane:
            raise FormatError(
                f"the header promises frames of {im.width} x {im.height} pixels, {need} bytes each, in a file of "
                f"{self.source.size}: it is damaged"
            )
        self.shape = (self.facts.frames, *self.plane) if self.facts.frames > 1 else self.plane
        self.header = _header(im, self.kind, self.facts)

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
            if number in self._kept:
                return self._kept[number]
            self._check_memory()
            return self._deep(number) if self.squeezed or self.plain else self._pillow(number)

    def _keep(self, number: int, array: np.ndarray) -> np.ndarray:
        if array.shape != self.plane or array.dtype != self.dtype:
            raise FormatError(
                f"frame {number} is {array.dtype} of shape {array.shape}, the header says {self.dtype} {self.plane}"
            )
        self._kept[number] = array
        while self._kept and len(self._kept) * array.nbytes > _KEPT:
            self._kept.popitem(last=False)
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
        if im.tell() > first + number:  # opened anew, as Pillow's rewinding of APNG fails from a frame in the middle
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
        self._kept.clear()
        self._bytes = None
        self.source.close()


@cache
def _has_imagecodecs() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError as exc:
        raise MissingExtraError("imagecodecs", "codecs", "reading 16-bit colour PNG") from exc
    return imagecodecs


def _mode(im: Any, facts: Facts, kind: str) -> tuple[str, np.dtype, tuple[str, ...]]:
    """Return the mode to convert frames to, the dtype of their samples, and the names of these if there are several."""
    mode = im.mode
    if kind == "gif" and facts.frames > 1:
        mode = "L" if facts.gray and not facts.alpha else "RGBA" if facts.alpha else "RGB"
    elif mode in ("P", "PA"):
        mode = "RGBA" if mode == "PA" or "transparency" in im.info else "RGB"
    elif mode == "RGBX":
        mode = "RGB"
    dtypes = {"1": np.bool_, "I;16": np.uint16, "I;16B": np.uint16, "I": np.int32, "F": np.float32}
    bands = {"L": (), "1": (), "RGB": tuple("RGB"), "RGBA": tuple("RGBA"), "LA": ("L", "A"), "CMYK": tuple("CMYK")}
    if mode not in dtypes and mode not in bands:
        raise FormatError(f"pictures of Pillow's mode {mode!r} are not read")
    return mode, np.dtype(dtypes.get(mode, np.uint8)), bands.get(mode, ())


def _header(im: Any, kind: str, facts: Facts) -> dict[str, Any]:
    """What a picture says of itself, without what is long and binary."""
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
        with contextlib.suppress(Exception), warnings.catch_warnings():  # what cameras write there is often broken
            warnings.simplefilter("ignore")
            from PIL.ExifTags import TAGS

            header["exif"] = {TAGS.get(k, str(k)): plain(v) for k, v in im.getexif().items()}
            if "Orientation" in header["exif"]:
                header["orientation"] = header["exif"]["Orientation"]
    return header


class _Film:
    """A video."""

    def __init__(self, file: File) -> None:
        self.video = Video(file)
        self.shape: tuple[int, ...] = self.video.shape
        self.dtype, self.header = self.video.dtype, self.video.header
        self.bands = tuple("RGB") if len(self.shape) == 4 else ()
        self.facts = Facts(frames=self.shape[0], durations=self.video.durations)
        try:
            self.facts.record = _containers.keyed_record(self.video.record)
        except BaseException:
            self.video.close()
            raise
        self.frame, self.close, self.lock = self.video.frame, self.video.close, self.video.lock
        if self.shape[0] == 1:
            self.shape = self.shape[1:]


class _Plain:
    """A PGM or PPM, whose samples lie in the file as they are."""

    def __init__(self, file: File) -> None:
        self.source = file.open()
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
        self.facts = Facts(record=first.record)
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
            warnings.warn(
                f"{self.source.file} holds {len(found)} images of {len(kinds)} sizes or ranges of values: the first "
                "one alone is read; split the file to read the others",
                stacklevel=2,
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


class ImageioSource(ImageSource):
    """Picture, animation or video: PNG, JPEG, GIF, BMP, WebP, PGM/PPM, TGA, and MP4, MOV, AVI, MKV with PyAV.

    Frames are on ``t``, in seconds (evenly spaced, or with their own times); colour samples are on ``c``.
    An EXIF orientation is reported in the header and not applied. A resolution becomes spacing only where a pixel is
    smaller than 10 µm: those of screens, printers and scanners say nothing of a specimen.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays. A frame is decoded as a whole.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units``, ``coords`` in the place of what the file says.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "imageio"
    format_name = "picture or video"
    extensions = tuple(_pictures.KINDS)
    pixels_only = (".bmp",)
    extras = {"codecs": "16-bit colour PNG", "video": "videos"}
    magic = (
        (0, b"\x89PNG\r\n\x1a\n"),
        (0, b"\xff\xd8\xff"),
        (0, b"GIF87a"),
        (0, b"GIF89a"),
        (0, b"BM"),
        (8, b"WEBP"),
        (0, b"P5"),
        (0, b"P6"),
        (4, b"ftyp"),
        (8, b"AVI "),
        (0, b"\x1a\x45\xdf\xa3"),
    )

    def __init__(
        self,
        uri: Any,
        *,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def claims(cls, probe: Probe) -> bool:
        return not probe.folder and _kind(probe.head, "") is not None

    @classmethod
    def open(cls, file: File) -> _Frames | _Film | _Plain:
        head = file.head()
        kind = _kind(head, file.name)
        if kind is None:
            raise FormatError(f"{file} starts with {head[:16]!r}: it is no picture or video that is known here")
        if kind == "video":
            return _Film(file)
        return _Plain(file) if head[:2] in (b"P5", b"P6") else _Frames(file, kind)

    def describe_image(self, handle: _Frames | _Film | _Plain, scene: int | str, level: int) -> Image:
        facts = handle.facts
        raw = isinstance(handle, _Plain)
        stack = isinstance(handle, _Plain) and len(handle.raws) > 1
        axes = ("t",) * (facts.frames > 1) + ("i",) * stack + ("y", "x") + ("c",) * bool(handle.bands)
        tiles = (1, *handle.shape[1:]) if raw or facts.frames > 1 else handle.shape
        pixels = self.pixels("", handle.shape, handle.dtype, tiles, parallel=raw)
        pitch = _pitch(handle)
        spacing = {"y": pitch[0], "x": pitch[1]} if pitch else {}
        units = dict.fromkeys(spacing, "µm")
        coords = {}
        if facts.frames > 1 and (times := _times(facts)) is not None:
            units["t"] = "s"
            if (step := _even(times)) is not None:
                spacing["t"] = step
            else:
                coords["t"] = Coordinate(("t",), times, {"units": "s"})
        image = Image.single(
            pixels,
            axes,
            channels=handle.bands or None,
            spacing=spacing,
            units=units,
            coords=coords,
            header=handle.header,
        )
        return image.restored(facts.record)

    @classmethod
    def read_region(cls, handle: _Frames | _Film | _Plain, address: str, region: Region, out: np.ndarray) -> None:
        if isinstance(handle, _Plain):
            raws = handle.raws[region[0]] if len(handle.raws) > 1 else handle.raws
            for raw, place in zip(raws, out if len(handle.raws) > 1 else [out], strict=True):
                inner = region[-len(raw.shape) :]
                read_raw(handle.source, raw.offset, np.dtype(raw.dtype), raw.shape, inner, place)
        elif handle.facts.frames == 1:
            out[...] = handle.frame(0)[region]
        else:
            with handle.lock:  # frames of a region follow each other, whoever else is reading
                for place, number in enumerate(range(region[0].start, region[0].stop)):
                    out[place] = handle.frame(number)[region[1:]]

    @classmethod
    def file_axes(cls, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        return _pictures.axes_of(variable, channels, name)

    @classmethod
    def write(
        cls,
        image: Image,
        path: str,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".png",
        lossy: bool = False,
        quality: int = 95,
    ) -> None:
        """Write a picture (png, webp, pgm, ppm, bmp; jpg) or an animation (apng, gif; mp4, mov, avi, mkv).

        All but ``.bmp`` keep axes, coordinates and attributes, in a text of their own.

        Parameters
        ----------
        image, path, progress
            See `ImageSource.write`.
        compress : bool or "deflate", optional
            False stores PNG without compression. The other formats have no choice.
        name : str
            Name of the target, whose extension is the format.
        lossy : bool
            Has to be True for JPEG and videos, which change the pixels; makes WebP lossy too.
        quality : int
            1 to 100, for lossy formats.
        """
        if compress not in (None, True, False, "deflate"):
            raise CannotWriteError(f"compress={compress!r}: pictures know True ('deflate') and False, for PNG")
        if not 1 <= quality <= 100:
            raise ValueError(f"quality={quality}: expected 1 to 100")
        _pictures.write(image, path, name, compress is not False, lossy, quality, progress)

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        """See `ImageSource.sample`."""
        import os

        from PIL import Image as Pillow

        values = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
        path = os.path.join(folder, "sample.png")
        Pillow.fromarray(values).save(path)
        return path, xr.Dataset({"image": (("y", "x", "c"), values)}, {"c": list("RGB")}).transpose("c", "y", "x")


def _pitch(handle: Any) -> tuple[float, float] | None:
    pitch = handle.facts.pitch
    if pitch is None and handle.header.get("format") in ("JPEG", "BMP") and "dpi" in handle.header:
        with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
            x, y = (25400 / float(v) for v in handle.header["dpi"])
            pitch = (y, x)
    return pitch if pitch and all(0 < p < _MICROSCOPE for p in pitch) else None


def _times(facts: Facts) -> np.ndarray | None:
    """When each frame is shown, in seconds; None where the file does not say so for every one."""
    steps = facts.durations[: facts.frames - 1]
    if len(steps) < facts.frames - 1 or not all(step > 0 for step in steps):
        return None
    return np.asarray([0.0, *itertools.accumulate(steps)]) / 1000


def _even(times: np.ndarray) -> float | None:
    step = float(times[-1] - times[0]) / (len(times) - 1)
    even = np.abs(np.diff(times) - step).max() <= 1e-9 * max(1.0, float(times[-1]))
    return float(f"{step:.12g}") if even else None
