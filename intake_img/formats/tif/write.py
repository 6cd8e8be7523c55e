"""TIFF files from images: pixels streamed plane by plane, and the levels of pyramids made on the way.

tifffile does the writing. Whatever a dialect cannot say goes into the record, a private tag of the first page.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import IO, Any

import numpy as np

from intake_img.errors import CannotWriteError, IntakeImgError, MissingExtraError
from intake_img.formats.tif.description import letters, metadata_of, resolution_tags
from intake_img.formats.tif.encoding import (
    TiffEncoding,
    checked_level,
    checked_tile,
    codec_of,
    options_of,
    plan_of,
    stored_as,
)
from intake_img.formats.tif.file import RECORD_TAG, sealed_facts
from intake_img.model.axes import spell
from intake_img.model.image import Image
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels
from intake_img.model.record import seal_of
from intake_img.storage.streams import iter_planes

__all__ = ["write_tiff"]

_LEAST_SHARED = 2**15  # bytes of a strip or tile that are worth the way to another thread
_BUFFER = 2**25  # bytes
_SEALED = '{"seal": "' + 8 * "-"
"""The beginning of the record until the file is complete, and its description known."""


def write_tiff(
    image: Image,
    path: str,
    *,
    compress: Any = None,
    progress: Callable[[int], None] | None = None,
    name: str = ".tif",
    tile: int | Sequence[int] | None = None,
    pyramid: int = 0,
    levels: Sequence[Image] = (),
    rgb: bool | None = None,
    bigtiff: bool | None = None,
    byteorder: str | None = None,
) -> None:
    """Write an image; for the parameters see `intake_img.formats.tif.driver.Tif.write`.

    Raises
    ------
    CannotWriteError
        If TIFF, or OME-TIFF where the name asks for it, cannot store the image.
    MissingExtraError
        If the codec asked for is not installed.
    """
    _check_request(name, byteorder, pyramid, levels)
    plan = plan_of(image, name.lower(), checked_tile(tile), codec_of(compress), rgb, bigtiff, bool(pyramid or levels))
    smaller = [stored_as(checked_level(level, image), plan).pixels for level in levels]
    source = _Source(progress, os.path.dirname(os.path.abspath(path)))
    labels = image.only.kind == "labels" or image.only.pixels.dtype.kind == "b"
    try:
        record = json.dumps(image.record(plan.order))
        tags = {
            "extratags": [(RECORD_TAG, "s", 0, f'{_SEALED}", {record[1:]}', True)],
            "metadata": metadata_of(image, plan, name + record),
            **resolution_tags(image, plan),
        }
        _write_levels(path, plan, source, smaller or _depth(plan, pyramid), tags, labels=labels, byteorder=byteorder)
        _seal(path)
    except (ValueError, TypeError, RuntimeError, NotImplementedError, KeyError, ImportError) as exc:
        if source.failed or isinstance(exc, IntakeImgError):
            raise
        if isinstance(exc, ImportError):
            raise MissingExtraError("imagecodecs", "codecs", f"compress={compress!r}") from exc
        raise CannotWriteError(
            f"an image of axes {spell(plan.axes)}, shape {plan.pixels.shape} and dtype {plan.pixels.dtype} cannot "
            f"be written as {plan.kind} TIFF with compress={compress!r}: {exc}"
        ) from exc


def _write_levels(
    path: str,
    plan: TiffEncoding,
    source: _Source,
    smaller: Sequence[Pixels] | int,
    tags: dict[str, Any],
    *,
    labels: bool,
    byteorder: Any,
) -> None:
    """Write the image and its smaller levels: those given, or this many halved ones."""
    import tifffile

    options = {**options_of(plan), "dtype": plan.pixels.dtype, **_threads(plan)}
    dialect: dict[str, Any] = {kind: plan.kind == kind for kind in ("imagej", "ome", "shaped")}
    count, given = (smaller, ()) if isinstance(smaller, int) else (len(smaller), smaller)
    with (
        tifffile.TiffWriter(path, bigtiff=plan.bigtiff, byteorder=byteorder, **dialect) as writer,
        contextlib.ExitStack() as files,
    ):
        spools = [files.enter_context(_spool(path)) for _ in range(0 if given else count)]
        first = source.planes(plan.pixels, plan.page, spools[0] if spools else None, labels)
        with contextlib.closing(first) as planes:  # else they read ahead for as long as an error lives
            writer.write(_pieces(planes, plan), shape=plan.pixels.shape, subifds=count or None, **tags, **options)
        for shape, further in _smaller(source, given, spools, plan, labels):
            axes = {"axes": letters(plan)}
            with contextlib.closing(further) as planes:
                writer.write(_pieces(planes, plan), shape=shape, subfiletype=1, metadata=axes, **options)


def _seal(path: str) -> None:
    """Complete the record with the checksum of what other programs are told, and may change."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        seal, place = seal_of(*sealed_facts(page)), page.tags[RECORD_TAG].valueoffset + len(_SEALED)
    with open(path, "r+b") as stream:
        stream.seek(place - len(seal))
        stream.write(seal.encode())


def _check_request(name: str, byteorder: str | None, pyramid: int, levels: Sequence[Image]) -> None:
    if byteorder not in (None, "<", ">"):
        raise ValueError(f"byteorder={byteorder!r}: expected '<' (little) or '>' (big)")
    if pyramid < 0 or (pyramid and levels):
        raise ValueError(
            f"pyramid={pyramid!r}: expected the number of further levels" + " or levels, not both" * bool(levels)
        )


def _smaller(
    source: _Source, given: Sequence[Pixels], spools: Sequence[IO[bytes]], plan: TiffEncoding, labels: bool
) -> Iterator[tuple[tuple[int, ...], Generator[np.ndarray, None, None]]]:
    """Yield shape and planes of each smaller level: of those given, or halved from what the level before spooled."""
    for level in given:
        yield level.shape, source.planes(level, plan.page, None, labels)
    shape = plan.pixels.shape
    for n, spool in enumerate(spools):
        full, shape = shape, _half_shape(shape, plan)
        yield shape, _spooled(spool, full, shape, plan, spools[n + 1] if n + 1 < len(spools) else None, labels)


def _threads(plan: TiffEncoding) -> dict[str, int]:
    """Return in how many threads strips or tiles are compressed, and how many bytes of them are held for that."""
    segment = math.prod(plan.tile) * plan.pixels.dtype.itemsize if plan.tile else _LEAST_SHARED
    return {"maxworkers": cpus() if plan.codec != 1 and segment >= _LEAST_SHARED else 1, "buffersize": _BUFFER}


class _Source:
    """Iterates over planes, and remembers whether an error came from there, or from what is told of the progress,
    rather than from the writer.
    """

    def __init__(self, progress: Callable[[int], None] | None, folder: str) -> None:
        self.progress, self.folder, self.failed = progress, folder, False

    def planes(
        self, pixels: Pixels, ndim: int, spool: IO[bytes] | None, labels: bool
    ) -> Generator[np.ndarray, None, None]:
        with contextlib.closing(iter_planes(pixels, ndim, folder=self.folder)) as planes:
            while (plane := self._next(planes, spool, labels)) is not None:
                yield plane

    def _next(self, planes: Iterator[np.ndarray], spool: IO[bytes] | None, labels: bool) -> np.ndarray | None:
        try:
            plane = next(planes, None)
            if plane is not None and spool is not None:
                _halved(plane, labels).tofile(spool)
            if plane is not None and self.progress is not None:
                self.progress(plane.nbytes)
        except BaseException:
            self.failed = True
            raise
        return plane


def _pieces(planes: Iterator[np.ndarray], plan: TiffEncoding) -> Iterator[np.ndarray]:
    """Cut planes into tiles, where tiles are written."""
    if plan.tile is None:
        yield from planes
        return
    height, width = plan.tile
    for plane in planes:
        plane = plane[..., np.newaxis] if plane.ndim == 2 else plane  # tifffile tells the columns by the axis after
        for y in range(0, plane.shape[0], height):
            for x in range(0, plane.shape[1], width):
                yield plane[y : y + height, x : x + width]


def _depth(plan: TiffEncoding, pyramid: int) -> int:
    """Number of levels that can be made: down to a single pixel."""
    if plan.axes[plan.pixels.ndim - plan.page :][:2] != ("y", "x"):
        if pyramid:
            raise CannotWriteError(f"a pyramid needs the axes y and x, the image has {','.join(plan.axes)}")
        return 0
    y, x = plan.pixels.shape[plan.axes.index("y")], plan.pixels.shape[plan.axes.index("x")]
    return min(pyramid, math.ceil(math.log2(max(y, x))) if max(y, x) > 1 else 0)


def _half_shape(shape: Sequence[int], plan: TiffEncoding) -> tuple[int, ...]:
    at = len(shape) - plan.page
    return (*shape[:at], -(-shape[at] // 2), -(-shape[at + 1] // 2), *shape[at + 2 :])


def _halved(plane: np.ndarray, nearest: bool) -> np.ndarray:
    """Return a plane half as large: means of 2x2 pixels (rounded for integers), or every other pixel."""
    if nearest:
        return np.ascontiguousarray(plane[::2, ::2])
    dtype = plane.dtype
    for axis in (0, 1):
        if plane.shape[axis] % 2:
            plane = np.concatenate([plane, np.take(plane, [-1], axis)], axis)
    kind = {"u": "u8", "i": "i8"}.get(dtype.kind, "c16" if dtype.kind == "c" else "f8")
    if dtype.kind in "ui" and dtype.itemsize == 8:
        kind = "f8"
    elif dtype.kind in "ui" and dtype.itemsize <= 2:
        kind = "i4"
    total = plane[::2, ::2].astype(kind)
    for part in (plane[1::2, ::2], plane[::2, 1::2], plane[1::2, 1::2]):
        total += part
    if dtype.kind in "ui" and total.dtype.kind in "ui":
        return ((total + 2) // 4).astype(dtype)
    total /= 4
    return (np.rint(total) if dtype.kind in "ui" else total).astype(dtype)


@contextlib.contextmanager
def _spool(path: str) -> Iterator[IO[bytes]]:
    """A nameless file beside the target, for the planes of the next level."""
    with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))) as file:
        yield file


def _spooled(
    file: IO[bytes],
    full: Sequence[int],
    shape: Sequence[int],
    plan: TiffEncoding,
    spool: IO[bytes] | None,
    labels: bool,
) -> Generator[np.ndarray, None, None]:
    page = tuple(shape[len(shape) - plan.page :])
    size = math.prod(page)
    file.seek(0)
    for _ in range(math.prod(full[: len(full) - plan.page])):
        plane = np.fromfile(file, plan.pixels.dtype, size).reshape(page)
        if spool is not None:
            _halved(plane, labels).tofile(spool)
        yield plane
