"""Zeiss CZI: mosaics of tiles (subblocks) in scenes, planes and levels of a pyramid.

Read by our own index, so that files of any number of subblocks, local or remote, open fast and a region costs only the
tiles that it meets; written by libCZI (pylibCZIrw). Format: ZEISS, "CZI image file format", DS_ZISRAW-FileFormat.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
import os
import struct
import threading
import warnings
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, MissingExtraError, SceneError
from intake_img.formats.czi.codecs import decoded
from intake_img.formats.czi.index import (
    ABSENT,
    COMPRESSIONS,
    LETTERS,
    PIXEL_TYPES,
    Directory,
    Mosaic,
    agree,
    distinct,
    parse_directory,
)
from intake_img.formats.czi.metadata import Facts, parse_metadata, without_record
from intake_img.formats.czi.write import WRITTEN_AXES, write_czi
from intake_img.formats.source import ImageSource, check_level, translated_errors
from intake_img.model.axes import CANONICAL, RGB
from intake_img.model.chunks import CHUNK_BYTES, Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.storage.files import ByteReader, File
from intake_img.storage.raw import read_raw

__all__ = ["CziSource"]

_CANVAS = "canvas"
_SEGMENT = struct.Struct("<16sqq")  # identifier, allocated and used size
_FILE = struct.Struct("<iiii16s16siqqiq")
_CACHE_BYTES = 64 * 2**20
_DOUBTFUL = 256  # subblocks that are looked at when a file is opened: some writers never mark pyramids


class _Handle:
    """An open file: its index, what its XML says, and tiles that were decoded lately."""

    def __init__(self, file: File) -> None:
        self.source: ByteReader = file.open()
        self.lock = threading.Lock()
        self.mosaics: dict[tuple[int | None, int], Mosaic] = {}
        self.layouts: dict[tuple[int | None, int], _Layout] = {}
        self.cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self.cached = 0
        self.libczi: Any = None
        try:
            with _about(file):
                self._load()
        except BaseException:
            self.source.close()
            raise

    def _load(self) -> None:
        size = self.source.size
        if size < 112:
            raise FormatError(f"{self.source.file}: {size} bytes are no CZI file; it is truncated")
        head = self.source.ranges([0], [112])[0]
        if head[:10] != b"ZISRAWFILE":
            raise FormatError(f"{self.source.file}: begins with {head[:10]!r}, expected b'ZISRAWFILE'")
        major, minor, *_, directory, metadata, _, attachments = _FILE.unpack_from(head, 32)
        self.version = (major, minor)
        wanted = [(directory, b"ZISRAWDIRECTORY", 160)]
        wanted += [(metadata, b"ZISRAWMETADATA", 288)] if metadata else []
        wanted += [(attachments, b"ZISRAWATTDIR", 288)] if 0 < attachments <= size - 288 else []
        heads = self.source.ranges([p for p, _, _ in wanted], [n for _, _, n in wanted])
        places = []
        for (position, identifier, n), found in zip(wanted, heads, strict=True):
            name, allocated, used = _SEGMENT.unpack_from(found)
            if name.rstrip(b"\0") != identifier:
                if identifier == b"ZISRAWATTDIR":
                    continue
                raise FormatError(f"{self.source.file}: no {identifier.decode()} at {position}: damaged or truncated")
            length = max(used, allocated if used <= 0 else 0) + 32 - n
            if identifier == b"ZISRAWMETADATA":
                length = int.from_bytes(found[32:36], "little", signed=True)
            elif identifier == b"ZISRAWATTDIR":
                length = 128 * max(0, int.from_bytes(found[32:36], "little", signed=True))
            limit = size - position - n
            if identifier != b"ZISRAWMETADATA":
                length = min(length, limit)
            places.append((identifier, position + n, length, int.from_bytes(found[32:36], "little", signed=True)))
        bodies = self.source.ranges([p for _, p, _, _ in places], [n for _, _, n, _ in places])
        parts = {k[0]: body for k, body in zip(places, bodies, strict=True)}
        self.index: Directory = parse_directory(parts[b"ZISRAWDIRECTORY"], places[0][3])
        self.xml = parts.get(b"ZISRAWMETADATA", b"").decode("utf-8", "replace").strip("\0\ufeff \r\n")
        self.attachments = _attachments(parts.get(b"ZISRAWATTDIR", b""))
        self.data_offset = np.full(len(self.index), -1, np.int64)
        self.data_size = np.zeros(len(self.index), np.int64)
        if self.source.file.local:
            self.locate(self.index.doubtful[:_DOUBTFUL])

    @cached_property
    def facts(self) -> Facts:
        try:
            return parse_metadata(self.xml) if self.xml else Facts()
        except ET.ParseError as exc:
            warnings.warn(
                f"{self.source.file}: its XML is damaged ({exc}); names of channels and spacing are unknown",
                stacklevel=2,
            )
            return Facts()

    def mosaic(self, scene: int | None, level: int) -> Mosaic:
        with self.lock:
            key = scene, level
            if key not in self.mosaics:
                with _about(self.source.file):
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

    def locate(self, blocks: Sequence[int]) -> None:
        """Find where the pixels of subblocks begin, and that each is what the directory says."""
        new = [k for k in blocks if self.data_offset[k] < 0]
        if not new:
            return
        entries = [self.index.entry(k) for k in new]
        positions = [int(self.index.position[k]) for k in new]
        heads = self.source.ranges(positions, [48 + len(e) for e in entries])
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

    def remembered(self, k: int) -> np.ndarray | None:
        with self.lock:
            if k in self.cache:
                self.cache.move_to_end(k)
                return self.cache[k]
        return None

    def remember(self, k: int, tile: np.ndarray) -> None:
        """Keep a tile of which only a part was asked for: its other parts are likely to be."""
        if tile.nbytes > _CACHE_BYTES // 4:
            return
        with self.lock:
            if k not in self.cache:
                self.cache[k] = tile
                self.cached += tile.nbytes
            while self.cached > _CACHE_BYTES:
                self.cached -= self.cache.popitem(last=False)[1].nbytes

    def close(self) -> None:
        if self.libczi is not None:
            self.libczi.close()
        self.source.close()


@contextlib.contextmanager
def _about(file: File) -> Iterator[None]:
    """Let errors of what lies in a file name it."""
    try:
        yield
    except FormatError as exc:
        if str(file) in str(exc):
            raise
        raise FormatError(f"{file}: {exc}") from exc


def _attachments(entries: bytes) -> dict[str, int]:
    """Return the offset of each attachment by its name."""
    found = {}
    for at in range(0, len(entries) - 127, 128):
        if entries[at : at + 2] == b"A1":
            name = entries[at + 48 : at + 128].split(b"\0", 1)[0].decode("utf-8", "replace")
            found[name] = int.from_bytes(entries[at + 12 : at + 20], "little", signed=True)
    return found


@dataclass(frozen=True)
class _Layout:
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


def _layout(handle: _Handle, scene: int | None, level: int) -> _Layout:
    if (known := handle.layouts.get((scene, level))) is None:
        known = handle.layouts[scene, level] = _find_layout(handle, scene, level)
    return known


def _find_layout(handle: _Handle, scene: int | None, level: int) -> _Layout:
    mosaic = handle.mosaic(scene, level)
    blocks = mosaic.blocks if len(mosaic.blocks) else handle.mosaic(scene, 0).blocks
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
    return _Layout(mosaic, dtype, samples, merged, (height, width))


class CziSource(ImageSource):
    """Image in a Zeiss CZI file.

    Axes are the dimensions that the file's subblocks name, in its own order, also those of length 1: ``t c z y x``, and
    phase ``h``, view ``v``, block ``b``, rotation ``r``, illumination ``u``. Colour samples become ``c`` (R, G, B), or
    ``s`` beside several channels. Channels of different pixel types are promoted to one that holds them all, grey ones
    beside colours to equal samples. Pixels that the file lacks are 0, and then there is a second variable,
    ``valid_mask``. Where a file has several scenes, the coordinates of each start at its place on the stage, in pixels
    of the file times the spacing.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    scene : int, str or None
        Number or name of the scene; None for the first (of files that `write` made from a stack of scenes: for all of
        them), ``"all"`` to stack equal ones on ``i``, ``"canvas"`` for the whole stage with all scenes in their places.
    level : int
        Level of the pyramid.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units``, ``coords`` to add to or overrule what the file says.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "czi"
    format_name = "Zeiss CZI"
    extensions = (".czi",)
    extras = {"codecs": "JPEG, LZW and faster JPEG XR"}
    magic = ((0, b"ZISRAWFILE"),)
    special_scenes = (_CANVAS,)

    def __init__(
        self,
        uri: Any,
        *,
        scene: int | str | None = None,
        level: int = 0,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            scene=scene,
            level=level,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def open(cls, file: File) -> _Handle:
        return _Handle(file)

    def rectangles(self) -> dict[int | None, tuple[int, int, int, int]]:
        """Return where each scene lies on the stage: its number, and x, y, width and height in pixels of the file.

        A file without scenes has one entry, whose key is None.
        """
        with translated_errors(type(self), self.file), self._file_reader().lease() as handle:
            found: list[tuple[int | None, int | None]] = list(enumerate(handle.index.scenes)) or [(None, None)]
            mosaics = {number: handle.mosaic(key, 0) for number, key in found}
            return {number: (m.x, m.y, m.width, m.height) for number, m in mosaics.items()}

    @classmethod
    def scene_names(cls, handle: _Handle) -> Sequence[str]:
        stacked = _stacked_names(handle)
        if stacked is not None:
            return stacked
        return [handle.facts.scenes.get(s, str(s)) for s in handle.index.scenes] or ["0"]

    def _describe_scene(self, handle: _Handle, names: list[str]) -> Image:
        if self.scene is None and self.level == 0 and _stacked_names(handle) is not None:
            images = [replace(self.describe_image(handle, k, 0), scene=name) for k, name in enumerate(names)]
            whole = Image.stacked(images).restored(handle.facts.record)
            return replace(whole, scene="all", scenes=tuple(names))
        return super()._describe_scene(handle, names)

    def describe_image(self, handle: _Handle, scene: int | str, level: int) -> Image:
        check_level(level, len(handle.index.factors), self.file)
        scenes = handle.index.scenes
        key = scenes[scene] if isinstance(scene, int) and scenes else None
        layout = _layout(handle, key, level)
        mosaic = layout.mosaic
        if scene == _CANVAS:
            _check_canvas(mosaic, self.file, self.scene_names(handle))
        shape = (*layout.plane_shape, mosaic.height, mosaic.width)
        tiles = (*[1] * len(layout.plane_shape), *layout.tile)
        axes = (*layout.plane_axes, "y", "x")
        if layout.samples > 1:
            pixels = self.pixels(
                (key, level, "image"), (*shape, layout.samples), layout.dtype, (*tiles, layout.samples)
            )
        else:
            pixels = self.pixels((key, level, "image"), shape, layout.dtype, tiles)
        variables = {"image": Variable(pixels, axes + layout.sample_axis)}
        if not mosaic.complete:
            mask = self.pixels((key, level, "valid_mask"), shape, bool, tiles)
            variables["valid_mask"] = Variable(mask, axes, {"kind": "mask"})
        image = Image(variables, header=_header(handle), **_axis_facts(handle, layout, len(scenes)))
        if level == 0 and len(scenes) < 2:
            return image.restored(handle.facts.record)
        return image

    @classmethod
    def read_region(
        cls, handle: _Handle, address: tuple[int | None, int, str], region: Region, out: np.ndarray
    ) -> None:
        scene, level, what = address
        layout = _layout(handle, scene, level)
        if layout.merged is not None:
            region = (*region[: layout.merged], slice(0, 1), *region[layout.merged :])
            out = np.expand_dims(out, layout.merged)
        n = len(layout.mosaic.dims)
        draw = _draw if what == "image" else _draw_mask
        for place in itertools.product(*(range(s.start, s.stop) for s in region[:n])):
            plane = 0
            for index, size in zip(place, layout.mosaic.shape, strict=True):
                plane = plane * size + index
            view = out[tuple(k - s.start for k, s in zip(place, region, strict=False))]
            with _about(handle.source.file):
                draw(handle, layout, plane, region[n:], view)

    @classmethod
    def decodes(cls, handle: _Handle, address: tuple[int | None, int, str]) -> bool:
        scene, level, _ = address
        return bool(handle.index.compression[handle.mosaic(scene, level).blocks].any())

    @classmethod
    def file_axes(cls, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str]:
        shape = variable.pixels.shape
        return [a for a, n in zip(variable.axes, shape, strict=True) if a in WRITTEN_AXES or n == 1]

    @classmethod
    def write(cls, image: Image, path: str, *, compress: Any = None,
              progress: Callable[[int], None] | None = None) -> None:  # fmt: skip
        """Write one variable with the axes ``t c z y x`` and ``i`` (scenes, side by side on the stage).

        Further axes are kept if they are of length 1, which libCZI does not write.

        Parameters
        ----------
        image, path, progress
            See `ImageSource.write`. Pixels are uint8, uint16, float32, or bool or float16 (stored as uint8, float32).
            Three channels named R, G, B, and an axis ``s`` of three, are stored as colour pixels (integers only).
        compress : bool or str, optional
            None and False store plain pixels; True, ``"zstd1"`` and ``"zstd0"`` compress them without loss; or options
            that libCZI understands, e.g. ``"zstd1:ExplicitLevel=3"``.
        """
        write_czi(image, path, compress, progress)

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        from pylibCZIrw import czi

        path = os.path.join(folder, "sample.czi")
        values = np.arange(2 * 2 * 3 * 12 * 20, dtype="u2").reshape(2, 2, 3, 12, 20)
        with czi.create_czi(path, compression_options="zstd1:ExplicitLevel=1") as document:
            for t, c, z in np.ndindex(2, 2, 3):
                for x in (0, 10):  # two tiles to a plane
                    tile = np.ascontiguousarray(values[t, c, z, :, x : x + 10])
                    document.write(tile, location=(x, 0), plane={"T": t, "C": c, "Z": z})
            document.write_metadata(channel_names={0: "DAPI", 1: "GFP"}, scale_x=2.5e-7, scale_y=2.5e-7, scale_z=1.5e-6)
        coords = {
            a: xr.Variable(a, step * np.arange(n), {"units": "µm", "spacing": step})
            for a, n, step in (("z", 3, 1.5), ("y", 12, 0.25), ("x", 20, 0.25))
        }
        return path, xr.Dataset({"image": (("t", "c", "z", "y", "x"), values)}, {**coords, "c": ["DAPI", "GFP"]})


# what the file says of its axes


def _header(handle: _Handle) -> dict[str, Any]:
    codes = distinct(handle.index.compression)
    return {
        "version": list(handle.version),
        "subblocks": len(handle.index),
        "levels": handle.index.factors,
        "compression": [COMPRESSIONS.get(k, str(k)) for k in codes],
        "attachments": list(handle.attachments),
        "xml": without_record(handle.xml),
    }


def _axis_facts(handle: _Handle, layout: _Layout, scenes: int) -> dict[str, Any]:
    mosaic, facts = layout.mosaic, handle.facts
    starts = dict(zip(mosaic.dims, mosaic.starts, strict=True))
    sizes = dict(zip(mosaic.dims, mosaic.shape, strict=True))
    spacing = dict(facts.spacing)
    units = dict.fromkeys(spacing, "µm")
    origin, coords = {}, {}
    if scenes > 1:
        origin = {a: p * spacing[a] for a, p in (("x", mosaic.x), ("y", mosaic.y)) if a in spacing}
    for a in ("x", "y"):
        if a in spacing:
            spacing[a] *= mosaic.factor
    if sizes.get("T", 1) > 1:
        times = _times(handle, starts["T"], sizes["T"])
        if times is not None:
            coords["t"] = Coordinate(("t",), times, {"units": "s"})
        elif facts.interval is not None:
            spacing["t"] = facts.interval
        units["t"] = "s"
    if layout.sample_axis:
        coords[layout.sample_axis[0]] = Coordinate(layout.sample_axis, np.asarray(RGB[: layout.samples]))
    if "c" in layout.plane_axes:
        names = _part(facts.channels, starts["C"], sizes["C"])
        colors = _part(facts.colors, starts["C"], sizes["C"])
        if names and all(names):
            coords["c"] = Coordinate(("c",), np.asarray(names), {"color": colors} if all(colors) else {})
    return {"spacing": spacing, "units": units, "origin": origin, "coords": coords}


def _times(handle: _Handle, start: int, count: int) -> np.ndarray | None:
    stamps = handle.time_stamps()
    for values in (stamps, handle.facts.times):
        part = _part(list(values), start, count) if values is not None else []
        if part and (np.diff(part) > 0).all():
            return np.asarray(part, float)
    return None


def _part(values: Sequence[Any], start: int, count: int) -> list[Any]:
    """Return what is known of indices from `start` on: some files describe all that was acquired, some what is left."""
    if len(values) >= start + count:
        return list(values[start : start + count])
    return list(values) if len(values) == count else []


def _check_canvas(mosaic: Mosaic, file: File, names: Sequence[str]) -> None:
    area = mosaic.height * mosaic.width
    if area > 2**24 and area * mosaic.planes > 64 * mosaic.covered:
        shown = ", ".join(f"{n}: {name!r}" for n, name in enumerate(names[:20])) + (", …" if len(names) > 20 else "")
        raise SceneError(
            f"{file}: scene='canvas' would be {mosaic.height} x {mosaic.width} pixels a plane, of which "
            f"{100 * mosaic.covered / area / mosaic.planes:.2g} % hold pixels; load the scenes one by one ({shown})"
        )


def _stacked_names(handle: _Handle) -> list[str] | None:
    """Names of scenes that were written from one image with the axis i; None for all other files."""
    record = handle.facts.record
    try:
        (facts,) = record["variables"].values()
        n = facts["shape"][facts["axes"].index("i")]
        labels = record["coords"].get("i", {}).get("values", range(n))
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):
        return None
    scenes = handle.index.scenes
    return [str(v) for v in labels] if len(scenes) == n == len(labels) and n > 1 else None


# pixels


def _draw_mask(handle: _Handle, layout: _Layout, plane: int, region: Region, view: np.ndarray) -> None:
    m = layout.mosaic
    ys, xs = region[:2]
    view[...] = False
    for k in m.find(plane, ys.start, ys.stop, xs.start, xs.stop):
        view[
            max(m.top[k] - ys.start, 0) : m.bottom[k] - ys.start, max(m.left[k] - xs.start, 0) : m.right[k] - xs.start
        ] = True


def _draw(handle: _Handle, layout: _Layout, plane: int, region: Region, view: np.ndarray) -> None:
    """Fill `view` (y, x and samples) with a region of a plane: background, then tiles, the lower ones first."""
    m = layout.mosaic
    ys, xs = region[:2]
    samples = region[2] if len(region) > 2 else slice(0, 1)
    found = m.find(plane, ys.start, ys.stop, xs.start, xs.stop).tolist()
    pieces: list[tuple[int, Region, np.ndarray]] = []
    whole = False
    for n in found:
        top, left = int(m.top[n]), int(m.left[n])
        y0, y1 = max(ys.start, top), min(ys.stop, int(m.bottom[n]))
        x0, x1 = max(xs.start, left), min(xs.stop, int(m.right[n]))
        covers = (y0, y1, x0, x1) == (ys.start, ys.stop, xs.start, xs.stop)
        if covers:  # hides all that is below
            pieces.clear()
            whole = True
        window: Region = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        pieces.append((int(m.blocks[n]), window, view[y0 - ys.start : y1 - ys.start, x0 - xs.start : x1 - xs.start]))
    if not whole:
        view[...] = 0
    blocks = [k for k, _, _ in pieces]
    handle.locate(blocks)
    if (missing := _undecodable(handle, blocks)) and not _read_by_libczi(handle, layout, plane, region, view, missing):
        raise MissingExtraError("imagecodecs", "codecs", f"reading {missing} compressed CZI files")
    if missing:
        return
    for (k, window, target), data in zip(pieces, _payloads(handle, pieces), strict=True):
        _copy(handle, k, window, data, samples, target)


def _payloads(handle: _Handle, pieces: Sequence[tuple[int, Region, np.ndarray]]) -> Iterator[bytes | None]:
    """Yield the bytes to be decoded for each piece, None if the tile is cached or is read in place.

    Of remote files they come all at once, of tiles that are not compressed the rows of the window.
    """
    places = []
    for k, (rows, _), _ in pieces:
        offset, size = int(handle.data_offset[k]), int(handle.data_size[k])
        if not handle.index.compression[k]:
            dtype, shape = handle.stored(k)
            row = math.prod(shape[1:]) * dtype.itemsize
            if size < row * shape[0]:
                raise FormatError(f"a subblock holds {size} of {row * shape[0]} bytes: it is damaged")
            places.append(None if handle.source.file.local else (offset + rows.start * row, _span(rows) * row))
        else:
            places.append(None if k in handle.cache else (offset, size))
    if handle.source.file.local:
        for place in places:
            yield None if place is None else handle.source.ranges(place[:1], place[1:])[0]
        return
    fetch = [place for place in places if place is not None]
    found = iter(handle.source.ranges([o for o, _ in fetch], [n for _, n in fetch]) if fetch else [])
    for place in places:
        yield None if place is None else next(found)


def _span(s: slice) -> int:
    return s.stop - s.start


def _copy(handle: _Handle, k: int, window: Region, data: bytes | None, samples: slice, target: np.ndarray) -> None:
    """Fill `target` with a window of a subblock."""
    dtype, shape = handle.stored(k)
    if handle.index.compression[k]:
        tile = _unpacked(handle, k, data, target)
        if tile is target:
            return
        tile = tile[window]
    elif data is not None:
        tile = np.frombuffer(data, dtype).reshape(-1, *shape[1:])[:, window[1]]
    elif len(shape) == target.ndim == 2:
        read_raw(handle.source, int(handle.data_offset[k]), dtype, shape, window, target)
        return
    else:
        full = tuple(slice(0, n) for n in shape[2:])
        tile = np.empty((*target.shape[:2], *shape[2:]), dtype)
        read_raw(handle.source, int(handle.data_offset[k]), dtype, shape, (*window, *full), tile)
    if target.ndim == 2:
        target[...] = tile if tile.ndim == 2 else tile[..., 0]
    elif tile.ndim == 2:
        target[...] = tile[..., None]  # grey among colours
    else:
        target[...] = tile[..., [2, 1, 0, 3][: tile.shape[2]]][..., samples]


def _unpacked(handle: _Handle, k: int, data: bytes | None, target: np.ndarray) -> np.ndarray:
    """Return a whole tile: from the cache, decoded from `data`, or `target` itself, filled, where that is the tile."""
    known = handle.remembered(k)
    if known is not None:
        return known
    if data is None:  # it has left the cache meanwhile
        data = handle.source.ranges([int(handle.data_offset[k])], [int(handle.data_size[k])])[0]
    dtype, shape = handle.stored(k)
    grey = target.ndim == len(shape) == 2
    direct = target if grey and target.shape == shape and target.dtype == dtype else None
    tile = decoded(data, int(handle.index.compression[k]), dtype, shape, direct)
    if target.shape[:2] != shape[:2]:
        handle.remember(k, tile)
    return tile


def _undecodable(handle: _Handle, blocks: Sequence[int]) -> str | None:
    """Return the name of a compression that cannot be decoded here."""
    for code in set(handle.index.compression[blocks].tolist()) - {0, 5, 6}:
        if code not in COMPRESSIONS:
            raise FormatError(f"{handle.source.file}: compression {code} is unknown")
        if importlib.util.find_spec("imagecodecs") is None:
            return COMPRESSIONS[code]
    return None


def _read_by_libczi(
    handle: _Handle, layout: _Layout, plane: int, region: Region, view: np.ndarray, compression: str
) -> bool:
    """Read a region with libCZI, which knows JPEG-XR; its subblocks have been checked. False where it cannot."""
    from pylibCZIrw import czi

    m = layout.mosaic
    path = handle.source.file.path
    if compression != "JPEG-XR" or not handle.source.file.local or m.factor != 1 or not path.isascii():
        return False
    with handle.lock:
        if handle.libczi is None:
            handle.libczi = czi.CziReader(path)
    place = np.unravel_index(plane, m.shape) if m.shape else ()
    coordinates = {k: int(p) + s for k, p, s in zip(m.dims, place, m.starts, strict=True)}
    scenes = set(distinct(handle.index.scene[m.blocks])) - {ABSENT}
    ys, xs = region[:2]
    roi = m.x + xs.start, m.y + ys.start, xs.stop - xs.start, ys.stop - ys.start
    found = handle.libczi.read(roi=roi, plane=coordinates, scene=scenes.pop() if len(scenes) == 1 else None)
    if view.ndim == 2:
        view[...] = found[..., 0]
    else:
        view[...] = found[..., ::-1][..., region[2]] if found.shape[2] == 3 else found
    return True
