"""Regions of images in TIFF files: which strips and tiles a region touches, fetched together, decoded, pasted.

The layout says where they lie; see `intake_img.formats.tif.index`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from intake_img.errors import FormatError, MissingExtraError
from intake_img.formats.tif.index import SegmentLayout, grid_of
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader, File
from intake_img.storage.raw import read_raw

__all__ = ["read_layout"]

_BATCH = 2**26  # compressed bytes in memory at a time
_RUN = 2**22  # bytes that are read together
_GAP = 64  # bytes between two segments that are read and discarded


class _Piece(NamedTuple):
    """A segment that a region touches: page and number, where it begins in the page, the part of `out` for the page."""

    page: int
    number: int
    start: tuple[int, int, int, int]  # planar sample, depth, row, column
    out: np.ndarray  # the five axes of a page
    region: Region


def read_layout(source: ByteReader, layout: SegmentLayout, region: Region, out: np.ndarray) -> None:
    """Fill `out` with a region of the array.

    Parameters
    ----------
    source : ByteReader
    layout : SegmentLayout
    region : tuple of slice
    out : ndarray
        Of the shape of `region`.
    """
    if 0 in out.shape:
        return
    if layout.offset is not None:
        if layout.raw is None:
            raise FormatError(f"{source.file}: compressed pixels are not in one piece")
        read_raw(source, layout.offset, layout.raw, layout.shape, region, out)
        return
    offsets, counts = layout.offsets, layout.counts
    if offsets is None or counts is None:
        raise FormatError(f"{source.file}: no place of pixels is known")
    with contextlib.ExitStack() as opened:
        readers: dict[str, ByteReader] = {source.file.path: source}
        groups: dict[str, list[_Piece]] = {}
        for piece in _pieces(layout, region, out):
            if offsets[piece.page, piece.number] == 0:
                _fill(layout, piece)
                continue
            file = layout.files[piece.page] if layout.files else source.file
            if file.path not in readers:
                readers[file.path] = opened.enter_context(_opened(file))
            groups.setdefault(file.path, []).append(piece)
        for path, pieces in groups.items():
            _read_pieces(readers[path], layout, pieces, offsets, counts)


@contextlib.contextmanager
def _opened(file: File) -> Iterator[ByteReader]:
    with contextlib.closing(file.open()) as reader:
        yield reader


def _pieces(layout: SegmentLayout, region: Region, out: np.ndarray) -> Iterator[_Piece]:
    lead, shape = layout.lead, layout.shape
    inner = tuple(slice(0, 1) if k is None else region[k] for k in layout.places)
    grid = grid_of(layout.page, layout.segment)
    steps = (1, *layout.segment[:3])
    ranges = [
        range(s.start // step, min(n, -(-s.stop // step))) for s, step, n in zip(inner[:4], steps, grid, strict=True)
    ]
    # the axes of `out` after the leading ones: the axes of the page, and others of length 1
    view = tuple(slice(None) if k in layout.places else 0 for k in range(lead, len(shape)))
    spread = tuple(None if k is None else slice(None) for k in layout.places)
    for place in product(*(range(s.stop - s.start) for s in region[:lead])):
        page = 0
        for k, n in enumerate(place):
            page = page * shape[k] + region[k].start + n
        target = out[(*place, ..., *view)][spread]  # the ellipsis: a view, even of a single pixel
        for at in product(*ranges):
            index = ((at[0] * grid[1] + at[1]) * grid[2] + at[2]) * grid[3] + at[3]
            start = tuple(k * step for k, step in zip(at, steps, strict=True))
            yield _Piece(page, index, start, target, inner)  # type: ignore[arg-type]


def _paste(piece: _Piece, data: np.ndarray, start: Sequence[int]) -> None:
    """Copy what a decoded segment (depth, row, column, sample) shares with the region."""
    target: list[Any] = [piece.start[0] - piece.region[0].start]
    source: list[slice] = []
    for s, begin, n in zip(piece.region[1:4], start, data.shape[:3], strict=True):
        low, high = max(s.start, begin), min(s.stop, begin + n)
        if high <= low:
            return
        target.append(slice(low - s.start, high - s.start))
        source.append(slice(low - begin, high - begin))
    piece.out[tuple(target)] = data[(*source, piece.region[4])]


def _fill(layout: SegmentLayout, piece: _Piece) -> None:
    empty = np.broadcast_to(np.asarray(layout.fill).astype(layout.dtype), layout.segment)
    _paste(piece, empty, piece.start[1:])


def _read_pieces(
    source: ByteReader, layout: SegmentLayout, pieces: Sequence[_Piece], offsets: np.ndarray, counts: np.ndarray
) -> None:
    if layout.whole:
        _read_whole(source, layout, pieces, offsets)
        return
    decode = _plain(layout) if layout.raw is not None else _decoder(layout)
    batch: list[_Piece] = []
    size = 0
    for n, piece in enumerate(pieces):
        batch.append(piece)
        size += int(counts[piece.page, piece.number])
        if size < _BATCH and n + 1 < len(pieces):
            continue
        places = [int(offsets[p.page, p.number]) for p in batch]
        found = _fetched(source, places, [int(counts[p.page, p.number]) for p in batch])
        # found before, so that threads that inflate short strips seldom wait for each other
        targets = [None if layout.inflate is None else _target(layout, p) for p in batch]
        for p, data, target in zip(batch, found, targets, strict=True):
            if target is None or not _inflated(layout.inflate, data, target):
                _paste(p, decode(bytes(data), p), p.start[1:])
        batch, size = [], 0


def _fetched(source: ByteReader, offsets: Sequence[int], counts: Sequence[int]) -> Sequence[bytes | memoryview]:
    """Return ranges of bytes; of a local file, those that follow one another are read together."""
    if not source.file.local:  # whose reader merges them
        return source.ranges(offsets, counts)
    starts: list[int] = []
    stops: list[int] = []
    members: list[int] = []  # the run that each range is a part of
    for offset, count in zip(offsets, counts, strict=True):
        if stops and 0 <= offset - stops[-1] <= _GAP and offset + count - starts[-1] <= _RUN:
            stops[-1] = offset + count
        else:
            starts.append(offset)
            stops.append(offset + count)
        members.append(len(starts) - 1)
    read = source.ranges(starts, [b - a for a, b in zip(starts, stops, strict=True)])
    views = [memoryview(data) for data in read]
    return [
        views[k][offset - starts[k] : offset - starts[k] + count]
        for k, offset, count in zip(members, offsets, counts, strict=True)
    ]


def _inflated(inflate: Any, data: bytes | memoryview, target: np.ndarray) -> bool:
    """Decompress a segment into its place; return whether it has filled it."""
    try:
        return len(inflate(data, out=target)) == target.nbytes
    except RuntimeError:  # damaged: it is decoded again, for the message
        return False


def _target(layout: SegmentLayout, piece: _Piece) -> np.ndarray | None:
    """Return the place of a segment, as bytes, if all of it is wanted and it is in one piece; else None."""
    target: list[Any] = [piece.start[0] - piece.region[0].start]
    for s, begin, n, whole in zip(
        piece.region[1:], (*piece.start[1:], 0), layout.segment, layout.page[1:], strict=True
    ):
        stop = min(begin + n, whole)
        if begin < s.start or stop > s.stop or (layout.tiled and stop < begin + n):
            return None
        target.append(slice(begin - s.start, stop - s.start))
    out = piece.out[tuple(target)]
    return out.reshape(-1).view(np.uint8) if out.flags.c_contiguous else None


def _read_whole(source: ByteReader, layout: SegmentLayout, pieces: Sequence[_Piece], offsets: np.ndarray) -> None:
    """Read only the needed rows of contiguous pages."""
    raw = layout.raw
    depth, _, columns, samples = layout.segment
    if raw is None:
        raise FormatError(f"{source.file}: compressed pages cannot be read in part")
    if source.file.local or depth > 1:
        for p in pieces:
            target = p.out[p.start[0] - p.region[0].start]
            read_raw(source, int(offsets[p.page, p.number]), raw, layout.segment, p.region[1:], target)
        return
    rows = pieces[0].region[2]
    line = columns * samples * raw.itemsize
    places = [int(offsets[p.page, p.number]) + rows.start * line for p in pieces]
    found = source.ranges(places, [(rows.stop - rows.start) * line] * len(pieces))
    for p, data in zip(pieces, found, strict=True):
        _paste(p, np.frombuffer(data, raw).reshape(1, -1, columns, samples), (0, rows.start, 0))


def _plain(layout: SegmentLayout) -> Callable[[bytes, _Piece], np.ndarray]:
    def decode(data: bytes, piece: _Piece) -> np.ndarray:
        shape = list(layout.segment)
        if not layout.tiled:  # the last strip ends with the page
            shape[1] = min(shape[1], layout.page[2] - piece.start[2])
        return np.frombuffer(data, layout.raw).reshape(shape)

    return decode


def _decoder(layout: SegmentLayout) -> Callable[[bytes, _Piece], np.ndarray]:
    def decode(data: bytes, piece: _Piece) -> np.ndarray:
        tables = {"jpegtables": layout.tables[piece.page], "jpegheader": layout.header} if layout.tables else {}
        if layout.decode is None:
            raise FormatError("no decoder")
        try:
            found = layout.decode(data, piece.number, **tables)[0]
        except (ValueError, ImportError) as exc:
            if isinstance(exc, ImportError) or "imagecodecs" in str(exc):
                raise MissingExtraError("imagecodecs", "codecs", "decoding this TIFF file") from exc
            raise
        need = [
            min(n, whole - at)
            for n, whole, at in zip(layout.segment, layout.page[1:], (*piece.start[1:], 0), strict=True)
        ]
        if any(n < m for n, m in zip(found.shape, need, strict=True)):
            raise FormatError(f"a strip or tile decodes to {found.shape}, expected {tuple(need)}: it is truncated")
        return found

    return decode
