"""Drawing subblocks into a region: finding and decoding its tiles, and the mask of covered pixels."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence

import numpy as np

from intake_img.errors import FormatError, MissingExtraError
from intake_img.formats.czi.ahead import Fetched, Span, span_of
from intake_img.formats.czi.codecs import decoded
from intake_img.formats.czi.handle import CziHandle, CziLayout
from intake_img.formats.czi.index import (
    ABSENT,
    COMPRESSIONS,
    distinct,
)
from intake_img.model.chunks import Region
from intake_img.storage.byte_readers import ByteReader
from intake_img.storage.raw import read_raw

__all__ = ["draw", "draw_mask", "spans_of"]


def draw_mask(handle: CziHandle, layout: CziLayout, plane: int, region: Region, view: np.ndarray) -> None:
    m = layout.mosaic
    ys, xs = region[:2]
    view[...] = False
    for k in m.find(plane, ys.start, ys.stop, xs.start, xs.stop):
        view[
            max(m.top[k] - ys.start, 0) : m.bottom[k] - ys.start, max(m.left[k] - xs.start, 0) : m.right[k] - xs.start
        ] = True


def spans_of(handle: CziHandle, layout: CziLayout, plane: int, region: Region) -> list[Span]:
    """Return the ranges of a remote file that a region of a plane needs, without those that are read row by row."""
    found = [span_of(handle, k, window) for k, window, _ in _tiles(layout, plane, region)[0]]
    return list(dict.fromkeys(span for span in found if span is not None))


def _tiles(layout: CziLayout, plane: int, region: Region) -> tuple[list[tuple[int, Region, Region]], bool]:
    """Return the subblocks in a region, the lower ones first, with what is drawn of them, and where; and whether it is
    complete with them.
    """
    m = layout.mosaic
    ys, xs = region[:2]
    pieces: list[tuple[int, Region, Region]] = []
    complete = False
    for n in m.find(plane, ys.start, ys.stop, xs.start, xs.stop).tolist():
        top, left = int(m.top[n]), int(m.left[n])
        y0, y1 = max(ys.start, top), min(ys.stop, int(m.bottom[n]))
        x0, x1 = max(xs.start, left), min(xs.stop, int(m.right[n]))
        if (y0, y1, x0, x1) == (ys.start, ys.stop, xs.start, xs.stop):  # hides all that is below
            pieces.clear()
            complete = True
        window: Region = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        place: Region = (slice(y0 - ys.start, y1 - ys.start), slice(x0 - xs.start, x1 - xs.start))
        pieces.append((int(m.blocks[n]), window, place))
    return pieces, complete


def draw(
    handle: CziHandle, layout: CziLayout, plane: int, region: Region, view: np.ndarray, fetched: Fetched | None = None
) -> None:
    """Fill `view` (y, x and samples) with a region of a plane: background, then tiles, the lower ones first."""
    samples = region[2] if len(region) > 2 else slice(0, 1)
    tiles, complete = _tiles(layout, plane, region)
    pieces = [(k, window, view[place]) for k, window, place in tiles]
    if not complete:
        view[...] = 0
    blocks = [k for k, _, _ in pieces]
    source = fetched or handle.source
    handle.locate(blocks, source)
    if (missing := _undecodable(handle, blocks)) and not _read_by_libczi(handle, layout, plane, region, view, missing):
        raise MissingExtraError("imagecodecs", "codecs", f"reading {missing} compressed CZI files")
    if missing:
        return
    for (k, window, target), data in zip(pieces, _payloads(handle, pieces, source), strict=True):
        _copy(handle, k, window, data, samples, target)


def _payloads(
    handle: CziHandle, pieces: Sequence[tuple[int, Region, np.ndarray]], source: ByteReader | Fetched
) -> Iterator[bytes | None]:
    """Yield the bytes to decode for each tile, None if the tile is cached or is read in place.

    From remote files they are fetched together; of uncompressed tiles only the rows of the window.
    """
    places = []
    for k, (rows, _), _ in pieces:
        offset, size = int(handle.data_offset[k]), int(handle.data_size[k])
        if not handle.index.compression[k]:
            dtype, shape = handle.stored(k)
            row = math.prod(shape[1:]) * dtype.itemsize
            if size < row * shape[0]:
                raise FormatError(f"a subblock contains {size} of {row * shape[0]} bytes: it is damaged")
            places.append(None if handle.source.file.local else (offset + rows.start * row, _span(rows) * row))
        else:
            places.append(None if k in handle.shelf else (offset, size))
    if handle.source.file.local:
        for place in places:
            yield None if place is None else source.ranges(place[:1], place[1:])[0]
        return
    fetch = [place for place in places if place is not None]
    found = iter(source.ranges([o for o, _ in fetch], [n for _, n in fetch]) if fetch else [])
    for place in places:
        yield None if place is None else next(found)


def _span(s: slice) -> int:
    return s.stop - s.start


def _copy(handle: CziHandle, k: int, window: Region, data: bytes | None, samples: slice, target: np.ndarray) -> None:
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


def _unpacked(handle: CziHandle, k: int, data: bytes | None, target: np.ndarray) -> np.ndarray:
    """Return a complete tile: from the cache, decoded from `data`, or the filled `target`, if that is the tile."""
    known: np.ndarray | None = handle.shelf.get(k)
    if known is not None:
        return known
    if data is None:  # it has left the cache meanwhile
        data = handle.source.ranges([int(handle.data_offset[k])], [int(handle.data_size[k])])[0]
    dtype, shape = handle.stored(k)
    grey = target.ndim == len(shape) == 2
    direct = target if grey and target.shape == shape and target.dtype == dtype else None
    tile = decoded(data, int(handle.index.compression[k]), dtype, shape, direct)
    if target.shape[:2] != shape[:2]:
        handle.shelf.put(k, tile)  # other parts of it are likely to follow
    return tile


def _undecodable(handle: CziHandle, blocks: Sequence[int]) -> str | None:
    """Return the name of a compression that cannot be decoded here."""
    for code in set(handle.index.compression[blocks].tolist()) - {0, 5, 6}:
        if code not in COMPRESSIONS:
            raise FormatError(f"{handle.source.file}: compression {code} is unknown")
        if importlib.util.find_spec("imagecodecs") is None:
            return COMPRESSIONS[code]
    return None


def _read_by_libczi(
    handle: CziHandle, layout: CziLayout, plane: int, region: Region, view: np.ndarray, compression: str
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
