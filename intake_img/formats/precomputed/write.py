"""Writing volumes: an info, and for each scale a folder of chunks."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.precomputed.codecs import encoder
from intake_img.formats.precomputed.handle import INFO, RECORD
from intake_img.formats.precomputed.info import VolumeInfo
from intake_img.model.axes import canonical_order
from intake_img.model.blocks import blocks_of
from intake_img.model.chunks import Region
from intake_img.model.engine import Tasks
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.record import seal_of
from intake_img.model.units import convert, known_spacing, parse_unit
from intake_img.storage.files import File
from intake_img.storage.shared import SharedFolder
from intake_img.storage.streams import Once

__all__ = ["WRITTEN_AXES", "WrittenBlock", "begin_volume", "chunk_shape"]

WRITTEN_AXES = "czyx"
_LEAST = 2**22  # bytes of a block that a task writes
_MOST = 2**25  # bytes of a block of complete tiles
_BUDGET = 2**26  # bytes of planes that blocks cut
_STORED = {"bool": "uint8", "float16": "float32"}  # dtypes that are kept in larger ones
_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")


@dataclass(frozen=True)
class _Level:
    """Pixels in the order c, z, y, x, and where they lie; lengths in nm, x first."""

    pixels: Pixels
    resolution: tuple[float, ...]
    offset: tuple[int, ...]


class WrittenBlock(NamedTuple):
    """What a task reports of a block: the bytes of its pixels."""

    nbytes: int


@dataclass(frozen=True)
class _Scale:
    """A folder of chunks.

    Parameters
    ----------
    folder : SharedFolder
    chunk : tuple of int
        Shape of a chunk: channels, z, y, x.
    offset : tuple of int
        Position of the first voxel, x first.
    encode : callable
        Returns the bytes of a chunk.
    """

    folder: SharedFolder
    chunk: tuple[int, ...]
    offset: tuple[int, ...]
    encode: Callable[[np.ndarray], bytes]

    def of_tasks(self, itemsize: int) -> tuple[int, ...]:
        """Return the shape of the blocks that tasks write: complete chunks, some MiB."""
        times = max(1, _LEAST // (math.prod(self.chunk) * itemsize))
        return (*self.chunk[:-1], self.chunk[-1] * times)

    def of_tiles(self, pixels: Pixels) -> tuple[int, ...]:
        """Return the shape of blocks of complete chunks and tiles of the source, or of a chunk if that is too much."""
        both = [
            math.lcm(c, t) if t < n else -(-n // c) * c
            for c, t, n in zip(self.chunk, pixels.tiles, pixels.shape, strict=True)
        ]
        return tuple(both) if math.prod(both) * pixels.dtype.itemsize <= _MOST else self.chunk

    def write(self, region: Region, pixels: np.ndarray) -> WrittenBlock:
        """Write the chunks of a block of complete ones."""
        pixels = np.asarray(pixels)
        for part in _pieces(pixels.shape, self.chunk):
            at = [slice(p.start + s.start, p.stop + s.start) for p, s in zip(part, region, strict=True)]
            spans = zip(at[:0:-1], self.offset, strict=True)
            name = "_".join(f"{s.start + first}-{s.stop + first}" for s, first in spans)
            self.folder.put(name, self.encode(pixels[part]))
        return WrittenBlock(pixels.nbytes)


def begin_volume(
    image: Image,
    levels: Sequence[Image],
    folder: File,
    compress: Any,
    chunks: Any,
    progress: Callable[[int], None] | None,
    *,
    in_tasks: bool,
) -> tuple[Tasks, Callable[[Sequence[WrittenBlock]], None]]:
    """Return the tasks that write the chunks of an image and its further levels, and what writes the info.

    What is in memory is written now, and all else too unless `in_tasks`; see `Precomputed.write_in_tasks`.
    """
    ready = _with_resolutions([_level(one) for one in (image, *levels)])
    first = ready[0].pixels
    labels = image.only.kind == "labels"
    about, encode = encoder(compress, first.dtype, first.shape[0], labels)
    scales: list[dict[str, Any]] = []
    parts: list[tuple[_Scale, Pixels]] = []
    for level in ready:
        if (level.pixels.shape[0], level.pixels.dtype) != (first.shape[0], first.dtype):
            raise CannotWriteError("the levels differ in channels or dtype: a volume has one of each")
        chunk = chunk_shape(chunks, level.pixels.shape[:0:-1])
        key = _key(level.resolution, {s["key"] for s in scales})
        scales.append(
            {
                "key": key,
                "size": list(level.pixels.shape[:0:-1]),
                "resolution": list(level.resolution),
                "voxel_offset": list(level.offset),
                "chunk_sizes": [list(chunk)],
                **about,
            }
        )
        if folder.local:
            os.makedirs(f"{folder.path}/{key}")
        place = SharedFolder(folder / key)
        parts.append((_Scale(place, (first.shape[0], *chunk[::-1]), level.offset, encode), level.pixels))
    info: dict[str, Any] = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation" if labels and first.dtype.kind == "u" else "image",
        "data_type": str(first.dtype),
        "num_channels": first.shape[0],
        "scales": scales,
    }
    info[RECORD] = {
        "seal": seal_of(*VolumeInfo.of(info).sealed_facts()),
        **image.record(canonical_order(image.only.axes)),
    }
    lazy = []
    for scale, pixels in parts:
        if in_tasks and not pixels.in_memory:
            lazy.append((scale, pixels))
        else:
            _write_now(scale, pixels, progress)
    return _tasks(lazy), partial(_finish, folder, json.dumps(info).encode())


def _write_now(scale: _Scale, pixels: Pixels, progress: Callable[[int], None] | None) -> None:
    folder = scale.folder.folder
    with contextlib.closing(Once(pixels, folder.parent.path if folder.local else None, _BUDGET)) as source:
        for region in _pieces(pixels.shape, scale.of_tiles(pixels)):
            out = np.empty([s.stop - s.start for s in region], pixels.dtype)
            source.read_into(region, out)
            written = scale.write(region, out)
            if progress is not None:
                progress(written.nbytes)


def _tasks(scales: Sequence[tuple[_Scale, Pixels]]) -> Tasks:
    """Return tasks of a block each; what several scales are computed from is computed once."""
    tasks = Tasks()
    if not scales:
        return tasks
    blocks = [scale.of_tasks(pixels.dtype.itemsize) for scale, pixels in scales]
    sources = blocks_of([(pixels, block) for (_, pixels), block in zip(scales, blocks, strict=True)])
    for (scale, pixels), block, source in zip(scales, blocks, sources, strict=True):
        made = {
            tuple(s.start // b for s, b in zip(region, block, strict=True)): region
            for region in _pieces(pixels.shape, block)
        }
        name = f"write-{scale.folder.folder.name}"
        tasks.add(name, {p: (partial(scale.write, region), (source.name, *p)) for p, region in made.items()}, source)
    return tasks


def _pieces(shape: Sequence[int], piece: Sequence[int]) -> Iterator[Region]:
    """Yield the regions into which pieces of one shape cut pixels."""
    return product(*([slice(a, min(a + p, n)) for a in range(0, n, p)] for n, p in zip(shape, piece, strict=True)))


def _finish(folder: File, info: bytes, written: Sequence[WrittenBlock]) -> None:
    """Write the info, by which the folder becomes a volume."""
    for place, _, names in os.walk(folder.path) if folder.local else ():
        for name in names:
            if name.startswith(".~"):  # of a worker that was killed; another one has written the chunk since
                os.unlink(os.path.join(place, name))
    SharedFolder(folder).put(INFO, info)


def chunk_shape(asked: Any, size: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of chunks, x first.

    Parameters
    ----------
    asked : None, int or mapping
        None for 128 x 128 x 16, or 512 x 512 of a single plane; a length for all axes; or lengths by axis.
    size : sequence of int
        Of the volume, x first.
    """
    shape = dict(zip("xyz", (512, 512, 1) if size[2] == 1 else (128, 128, 16), strict=True))
    if isinstance(asked, Mapping) and set(asked) <= set("xyz"):
        shape |= {a: size["xyz".index(a)] if n == -1 else n for a, n in asked.items()}
    elif asked is not None:
        shape = dict.fromkeys("xyz", asked)
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in shape.values()):
        raise CannotWriteError(f"chunks={asked!r}: expected a positive length, or lengths by axis: {{'x': 64, 'z': 1}}")
    return tuple(min(int(shape[a]), n) for a, n in zip("xyz", size, strict=True))


def _level(image: Image) -> _Level:
    variable = image.only
    shape = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    if far := [a for a, n in shape.items() if a not in WRITTEN_AXES and n != 1]:
        raise CannotWriteError(
            f"a precomputed volume has the axes c, z, y, x, not {far[0]!r}: save one of each, or .zarr"
        )
    dtype = _STORED.get(str(variable.pixels.dtype), str(variable.pixels.dtype))
    if dtype not in _DTYPES:
        raise CannotWriteError(
            f"precomputed volumes store {', '.join(_DTYPES)}, not {dtype}: convert it with .astype()"
        )
    if 0 in shape.values():
        raise CannotWriteError("a precomputed volume needs at least one pixel; save empty images as .zarr")
    order = canonical_order(variable.axes)
    turned = variable.pixels.astype(dtype).transpose([variable.axes.index(a) for a in order])
    pixels = turned.reshape([order.index(a) if a in order else None for a in WRITTEN_AXES])
    steps = [_nanometres(known_spacing(image.spacing.get(a)), image.units.get(a)) for a in "xyz"]
    starts = [_nanometres(image.origin.get(a), image.units.get(a)) for a in "xyz"]
    offset = tuple(_whole(start, step) for start, step in zip(starts, steps, strict=True))
    return _Level(pixels, tuple(step or 0.0 for step in steps), offset)


def _nanometres(value: float | None, unit: str | None) -> float | None:
    """Return a length in nm; None if it is unknown or not a length."""
    known = parse_unit(unit)
    if value is None or known is None or known.dimension != "length" or not math.isfinite(value):
        return None
    return float(f"{convert(value, known.symbol, 'nm'):.12g}")  # 0.325 µm are 325 nm


def _whole(start: float | None, step: float | None) -> int:
    """Return a position in voxels, 0 if it is not an integer: a volume begins at a voxel boundary."""
    place = start / step if start is not None and step else 0.0
    return round(place) if abs(place) < 2**31 and abs(place - round(place)) < 1e-6 else 0


def _with_resolutions(levels: Sequence[_Level]) -> list[_Level]:
    """Return levels of which each has a resolution: where none is known 1 nm, and as much more as it is smaller."""
    first = levels[0]
    base = [step or 1.0 for step in first.resolution]
    full = first.pixels.shape[:0:-1]
    found = []
    for level in levels:
        ratios = [n / m for n, m in zip(full, level.pixels.shape[:0:-1], strict=True)]
        steps = [own or b * r for own, b, r in zip(level.resolution, base, ratios, strict=True)]
        found.append(replace(level, resolution=tuple(steps)))
    return found


def _key(resolution: Sequence[float], taken: Collection[str]) -> str:
    """Return the name of a scale, as other programs make it of the resolution."""
    name = "_".join(f"{n:.10g}" for n in resolution)
    return name if name not in taken else f"{name}_{len(taken)}"
