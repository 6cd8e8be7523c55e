"""OpenEXR: parts as scenes, channels by name, through the OpenEXR library."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError, FormatError, MissingExtraError
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.compression import codec_of
from intake_img.formats.exr.header import ExrChannel, Part, parts_of
from intake_img.formats.format_source import source_of
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File

__all__ = ["Exr", "ExrSource"]

_KEY = "intake_img"
_RGBA = ("R", "G", "B", "A")
_DTYPES = ("f2", "f4", "u4")
_CODECS = {None: "ZIP", True: "ZIP", False: "NO", "zip": "ZIP", "zips": "ZIPS", "rle": "RLE", "piz": "PIZ"}
_RATIO = 10_000


class Exr(Format):
    """OpenEXR image, with the extra ``exr``.

    Each part is a scene. Its channels are on ``c`` with their names, colours in the order R, G, B, A; those of another
    size (chroma that is stored for every other pixel) are a scene of their own. Channels of several types get the
    smallest type that holds them all. Where the data window does not begin at 0, ``y`` and ``x`` are the numbers of its
    rows and columns.
    """

    name = "exr"
    title = "OpenEXR"
    extensions = (".exr",)
    magic = ((0, b"v/1\x01"),)
    has_scenes = True
    serial = True
    extras = {"exr": "OpenEXR"}

    def open(self, file: File, options: NoOptions) -> Handle:
        return _ExrHandle(file)

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
        return tuple(a for a, n in sizes.items() if a in "cyx" or n == 1)

    def write(
        self, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write one part: a channel for each of ``c``, float16, float32 or uint32.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : str or bool, optional
            ``"zip"`` (the default), ``"zips"``, ``"rle"``, ``"piz"``, or False for none.
        """
        codec = codec_of(compress, _CODECS, "OpenEXR")
        pixels, axes = _planes(image)
        names = _names(image, pixels.shape[0])
        library = _library()
        planes = np.ascontiguousarray(pixels.read())
        text = json.dumps({"record": image.record(stored_axes=axes), "channels": names})
        header = {
            "compression": getattr(library, f"{codec}_COMPRESSION"),
            "type": library.scanlineimage,
            _KEY: text,
        }
        library.File(header, dict(zip(names, planes, strict=True))).write(path)
        if progress is not None:
            progress(planes.nbytes)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import OpenEXR

        values = np.arange(3 * 20 * 30, dtype="f4").reshape(3, 20, 30) / 7
        path = os.path.join(folder, "sample.exr")
        window = (np.array([0, 0], "i4"), np.array([29, 19], "i4"))
        header = {"dataWindow": window, "compression": OpenEXR.PIZ_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, dict(zip("RGB", values, strict=True))).write(path)
        return path, xr.Dataset({"image": (("c", "y", "x"), values)}, {"c": list("RGB")})


class _ExrHandle(Handle):
    def __init__(self, file: File) -> None:
        _library()
        self.source = file.open()
        try:
            self.data = self.source.ranges([0], [self.source.size])[0]
        finally:
            self.source.close()
        self.scenes = [
            (number, part, group) for number, part in enumerate(parts_of(self.data)) for group in _groups(part)
        ]
        for _, part, group in self.scenes:
            height, width = part.size(group[0])
            if height * width > _RATIO * len(self.data) + 2**20:
                raise FormatError(
                    f"{file}: the header states {width} x {height} pixels in {len(self.data)} bytes: it is damaged"
                )

    @property
    def scene_names(self) -> Sequence[str]:
        several = {number for number, _, group in self.scenes if group is not _groups_of(self.scenes, number)[0]}
        return [
            f"{part.name} {'+'.join(c.name for c in group)}" if number in several else part.name
            for number, part, group in self.scenes
        ]

    def describe(self, scene: int | str, level: int) -> Image:
        number = int(scene)
        _, part, group = self.scenes[number]
        stored = _stored(part)
        names = [c.name for c in _ordered(group, stored.get("channels"))]
        coords = {}
        for axis, start, step, n in zip(
            "yx", part.window[1::-1], (group[0].down, group[0].across), part.size(group[0]), strict=True
        ):
            first = -(-start // step) * step
            if first or step > 1:
                coords[axis] = Coordinate((axis,), np.arange(n) * step + first)
        texts = {k: v.decode("utf-8", "replace") for k, v in part.texts.items() if k != _KEY}
        header = {"format": "OpenEXR", "part": part.name, "dataWindow": list(part.window), "attributes": texts}
        image = Image.single(self.pixels(number), "cyx", channels=names, coords=coords, header=header)
        return image.restored(stored.get("record"))

    def array(self, address: int) -> StoredArray:
        return _Group(self, address)

    def close(self) -> None:
        self.data = b""


class _Group(StoredArray):
    """Channels of one size: the library decodes all of them together; the channels of a part are cached for some
    time."""

    def __init__(self, handle: _ExrHandle, number: int) -> None:
        self.open, self.number = handle, number
        self.part, part, group = handle.scenes[number]
        self.channels = _ordered(group, _stored(part).get("channels"))
        self.dtype = np.result_type(*(c.dtype for c in group))
        self.shape = self.tiles = (len(group), *part.size(group[0]))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if out.shape == self.shape:
            self._read(out)
        else:
            out[...] = self.open.kept(self.number, lambda: self._read(np.empty(self.shape, self.dtype)))[region]

    def _read(self, out: np.ndarray) -> np.ndarray:
        with _library().File(io.BytesIO(self.open.data), separate_channels=True) as file:
            channels = file.parts[self.part].channels
            for channel, target in zip(self.channels, out, strict=True):
                found = channels[channel.name].pixels
                if found.shape != self.shape[1:]:
                    raise FormatError(
                        f"the channel {channel.name!r} has shape {found.shape}, expected {self.shape[1:]}"
                    )
                target[...] = found
        return out


def _library() -> Any:
    try:
        import OpenEXR
    except ImportError as exc:
        raise MissingExtraError("OpenEXR", "exr", "OpenEXR") from exc
    return OpenEXR


def _groups(part: Part) -> list[list[ExrChannel]]:
    """Return the channels of a part, grouped by sampling, the densest first."""
    samplings = sorted({(c.down, c.across) for c in part.channels})
    return [[c for c in part.channels if (c.down, c.across) == sampling] for sampling in samplings]


def _groups_of(scenes: Sequence[tuple[int, Part, list[ExrChannel]]], number: int) -> list[list[ExrChannel]]:
    return [group for own, _, group in scenes if own == number]


def _ordered(group: Sequence[ExrChannel], names: Any) -> list[ExrChannel]:
    """Return channels in the order in which they were written, or colours as R, G, B, A, else in that of the file."""
    own = [c.name for c in group]
    if isinstance(names, list) and sorted(map(str, names)) == sorted(own):
        order = [str(n) for n in names]
    else:
        order = [n for n in _RGBA if n in own] if set(own) <= set(_RGBA) else own
    return [group[own.index(name)] for name in order]


def _stored(part: Part) -> dict[str, Any]:
    try:
        found = json.loads(part.texts.get(_KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _planes(image: Image) -> tuple[Pixels, tuple[str, ...]]:
    """Return the pixels as channels of planes, and the axes of the image in the order in which they are stored."""
    variable = image.only
    sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    spare = [a for a, n in sizes.items() if a not in "cyx" and n != 1]
    if spare or not {"y", "x"} <= set(sizes) or 0 in sizes.values():
        raise CannotWriteError(
            f"OpenEXR holds channels of planes 'cyx', the image has {sizes}: select a plane of it, "
            "or save as .tif or .zarr"
        )
    dtype = variable.pixels.dtype
    if f"{dtype.kind}{dtype.itemsize}" not in _DTYPES:
        raise CannotWriteError(
            f"OpenEXR holds float16, float32 and uint32, the image is {dtype}: cast it with .astype, or save as .tif, "
            "which keeps it"
        )
    order = (*(a for a in sizes if a not in "cyx"), *(a for a in "cyx" if a in sizes))
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order])
    places: list[int | None] = [order.index(a) if a in order else None for a in "cyx"]
    return pixels.astype(dtype.newbyteorder("=")).reshape(places), order


def _names(image: Image, count: int) -> list[str]:
    names = image.channels if "c" in image.only.axes else None
    if names and len(set(names)) == count and all(n and "\0" not in n and len(n.encode()) < 255 for n in names):
        return list(names)
    return ["Y"] if count == 1 else [f"c{k}" for k in range(count)]


ExrSource = source_of(Exr())
