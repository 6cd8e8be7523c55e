"""The parsed index of a TIFF file: its images, and the offsets of their strips and tiles.

tifffile reads the structure once; what is kept are plain arrays of offsets and byte counts and tifffile's decoders,
which need no open file and may be called from many threads. Everything that guards against damaged structure is here.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.tif.ycbcr import becomes_rgb, colour_decoder
from intake_img.storage.files import ByteReader, File

if TYPE_CHECKING:
    import tifffile

__all__ = ["SegmentLayout", "StoredPages", "grid_of", "layout_of", "listening"]

_PLAIN_BITS = (8, 16, 32, 64, 128)
# a real strip or tile of this many bytes never decompresses by this much; simple codecs cannot do it at all
_BOMB, _SIMPLE_BOMB, _SIMPLE = (2**28, 50_000), (2**24, 4_000), {5, 8, 32773, 32946}


@dataclass(frozen=True)
class StoredPages:
    """An array in the file as tifffile's series describe it: axes, shape, and the pages that contain it.

    Attributes
    ----------
    axes : str
        tifffile's letters, one for each axis of `shape`.
    pages : sequence
        ``TiffPage`` or ``TiffFrame``, None where a page is missing.
    files : sequence of File, optional
        The file of each page, where they are several.
    offset : int, optional
        Where the pixels lie as one piece, if they do and the pages do not say so.
    """

    axes: str
    shape: tuple[int, ...]
    pages: Sequence[Any]
    keyframe: tifffile.TiffPage
    files: Sequence[File] | None = None
    offset: int | None = None


@dataclass(frozen=True)
class SegmentLayout:
    """Where the pixels of an array lie.

    A page is an array of five axes (planar sample, depth, row, column, interleaved sample), cut into segments: strips
    or tiles. The trailing axes of `shape` are those of a page, the leading ones count pages.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        Of decoded pixels, native.
    raw : numpy.dtype or None
        Of the bytes in the file, where they need no decoding.
    offset : int or None
        Offset of the array, if it is contiguous.
    page, segment : tuple of int
        Shape of a page; shape of a segment, without the planar axis.
    offsets, counts : ndarray of int64, shape (pages, segments)
        Place of each segment; both 0 where it is missing.
    whole : bool
        Each segment contains a complete page (or planar sample) without gaps, so that any row of it can be read.
    lead : int
        Number of leading axes.
    places : tuple of (int or None)
        Which axis of `shape` each axis of a page is; None for a length of 1.
    inflate : callable, optional
        ``inflate(data, out=array)`` decompresses a segment of which nothing else need be decoded.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    raw: np.dtype | None
    offset: int | None
    page: tuple[int, ...] = ()
    segment: tuple[int, ...] = ()
    offsets: np.ndarray | None = None
    counts: np.ndarray | None = None
    whole: bool = False
    lead: int = 0
    places: tuple[int | None, ...] = ()
    fill: Any = 0
    tiled: bool = False
    decode: Callable[..., Any] | None = field(default=None, repr=False)
    tables: Sequence[bytes | None] | None = field(default=None, repr=False)
    header: bytes | None = field(default=None, repr=False)
    inflate: Callable[..., Any] | None = field(default=None, repr=False)
    files: Sequence[File] | None = field(default=None, repr=False)

    @cached_property
    def tiles(self) -> tuple[int, ...]:
        """Shape of the unit of reading, in the axes of `shape`."""
        if self.offset is not None or self.whole:
            row = [1] * len(self.shape)
            last = max((k for k, n in enumerate(self.shape) if n > 1), default=len(self.shape) - 1)
            for k in range(last, len(row)):
                row[k] = self.shape[k]
            if self.whole and self.page[4] > 1 and self.places[3] is not None:
                row[self.places[3]] = self.page[3]
            return tuple(row)
        tile = [1] * len(self.shape)
        for place, n in zip(self.places[1:], self.segment, strict=True):
            if place is not None:
                tile[place] = n
        return tuple(tile)


# what tifffile complains about


class _Ear(threading.local):
    def __init__(self) -> None:
        self.heard: list[str] | None = None


_EAR = _Ear()


def _hear(record: logging.LogRecord) -> bool:
    if _EAR.heard is None:
        return True
    if record.levelno >= logging.ERROR or "missing files" in record.getMessage():
        _EAR.heard.append(record.getMessage())
    return False


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread, errors and missing files, and goes on after; nothing is printed."""
    logger = logging.getLogger("tifffile")
    if _hear not in logger.filters:
        logger.addFilter(_hear)
    before, _EAR.heard = _EAR.heard, []
    try:
        yield _EAR.heard
    finally:
        _EAR.heard = before


# layouts


def layout_of(stored: StoredPages, source: ByteReader, name: object) -> SegmentLayout:
    """Return where the pixels of an array lie.

    Raises
    ------
    FormatError
        If the structure states more than the file contains, or is of a kind that cannot be read.
    """
    key = stored.keyframe
    if key.dtype is None or key._dtype is None:
        raise FormatError(f"{name}: {key.bitspersample} bits a sample of format {key.sampleformat!r} are not supported")
    dtype = np.dtype(key.dtype).newbyteorder("=")
    shape = tuple(int(n) for n in stored.shape)
    if not shape or min(shape) < 1:
        raise FormatError(f"{name}: an image of shape {shape} contains no pixels")
    raw = _raw_dtype(key)
    nbytes = math.prod(shape) * dtype.itemsize
    if stored.offset is not None:
        if raw is None:
            raise FormatError(f"{name}: a stack in one piece that is compressed: its planes cannot be told apart")
        _check_fits(stored.offset, nbytes, source, name)
        return SegmentLayout(shape, dtype, raw, stored.offset)
    page, segment, tiled = _geometry(key, name)
    lead, places = _places(shape, page, len(stored.pages), name)
    if raw is not None and (offset := _one_strip(stored, page, segment, nbytes)):
        _check_fits(offset, nbytes, source, name)
        return SegmentLayout(shape, dtype, raw, offset)
    listed = _segments(stored, page, segment, name)
    offsets, counts = _completed(*listed, stored, 2 * math.prod(segment) * dtype.itemsize + 2**16)
    base = SegmentLayout(
        shape,
        dtype,
        raw,
        None,
        page,
        segment,
        offsets,
        counts,
        False,
        lead,
        places,
        key.nodata,
        tiled,
        files=stored.files,
    )
    return _plain_layout(base, source, name) if raw is not None else _coded_layout(base, stored, listed[1], name)


def _one_strip(stored: StoredPages, page: Sequence[int], segment: Sequence[int], nbytes: int) -> int | None:
    """Return the offset of pages of one strip each that follow one another; None for others, and where in doubt."""
    if stored.files is not None or None in stored.pages or stored.keyframe.is_tiled:
        return None
    if math.prod(grid_of(page, segment)) != 1:
        return None
    places = [(p.dataoffsets[0], _counts_of(p, 1)[0]) for p in stored.pages if p.dataoffsets]
    if len(places) != len(stored.pages) or not all(type(n) is int and n > 0 for place in places for n in place):
        return None
    first = int(places[0][0])
    return first if [at for at, _ in places] == [*range(first, first + nbytes, nbytes // len(places))] else None


def _plain_layout(base: SegmentLayout, source: ByteReader, name: object) -> SegmentLayout:
    """Return the layout of pixels that need no decoding: in one piece, as whole planes, or segment by segment."""
    page, itemsize, offsets = base.page, base.dtype.itemsize, base.offsets
    assert offsets is not None
    assert base.counts is not None
    counts = _plain_counts(offsets, page, base.segment, base.tiled, itemsize)
    if base.files is None:
        _check_fits(0, int((offsets + counts).max()), source, name)
    segment, whole = base.segment, False
    if not base.tiled:
        offsets, counts, segment, whole = _merged(offsets, counts, page, segment)
    if whole and base.files is None and _one_piece(offsets, math.prod(page) * itemsize, page):
        return SegmentLayout(base.shape, base.dtype, base.raw, int(offsets[0, 0]))
    return replace(base, offsets=offsets, counts=counts, segment=segment, whole=whole)


def _coded_layout(base: SegmentLayout, stored: StoredPages, listed: np.ndarray, name: object) -> SegmentLayout:
    """Return the layout of compressed pixels, with what decodes them; `listed` are the byte counts of the header."""
    key = stored.keyframe
    assert base.counts is not None
    if guessed := int((base.counts != listed).sum()):
        _warn(
            f"{name}: the header lacks the byte counts of {guessed} compressed strips or tiles: each is read up to "
            "where the next begins"
        )
    _check_bomb(base.segment, base.counts, base.dtype.itemsize, key.compression, name)
    jpeg = key.compression in (6, 7, 34892, 33007)
    return replace(
        base,
        decode=colour_decoder(key, name),
        tables=[getattr(p, "jpegtables", None) for p in stored.pages] if jpeg else None,
        header=key.jpegheader if jpeg else None,
        inflate=_inflater(key),
    )


def _inflater(key: tifffile.TiffPage) -> Callable[..., Any] | None:
    """Return the decompressor of segments that have native numbers as they stand, compressed by deflate; else None."""
    plain = key.predictor == 1 and key.fillorder == 1 and key.photometric != 6 and key.compression in (8, 32946)
    item = 0 if key.dtype is None else key.dtype.itemsize
    if not plain or item * 8 != key.bitspersample:
        return None
    native = item == 1 or (key.parent.byteorder == "<") == (sys.byteorder == "little")
    try:
        import imagecodecs
    except ImportError:
        return None
    return getattr(imagecodecs, "deflate_decode", None) if native and imagecodecs.DEFLATE.available else None


def _raw_dtype(key: tifffile.TiffPage) -> np.dtype | None:
    """The dtype of the bytes in the file, if they are pixels as they stand."""
    plain = (
        key.compression == 1
        and key.predictor == 1
        and key.fillorder == 1
        and key.bitspersample in _PLAIN_BITS
        and key.sampleformat != 5
        and not key.is_subsampled
        and not becomes_rgb(key)
        and np.dtype(key.dtype).itemsize * 8 == key.bitspersample
    )
    return np.dtype(key.dtype).newbyteorder(key.parent.byteorder) if plain else None


def _geometry(key: tifffile.TiffPage, name: object) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    page = tuple(int(n) for n in key.shaped)
    if key.is_tiled:
        segment = (key.tiledepth, key.tilelength, key.tilewidth, page[4])
    else:
        segment = (1, min(key.rowsperstrip, page[2]), page[3], page[4])
    if min(page) < 1 or min(segment) < 1:
        raise FormatError(f"{name}: a page of shape {page} in pieces of {segment} contains no pixels")
    return page, tuple(int(n) for n in segment), bool(key.is_tiled)


def grid_of(page: Sequence[int], segment: Sequence[int]) -> tuple[int, int, int, int]:
    """Number of segments along the planar sample, depth, row and column of a page."""
    return (page[0], *(-(-n // s) for n, s in zip(page[1:4], segment[:3], strict=True)))  # type: ignore[return-value]


def _places(
    shape: tuple[int, ...], page: tuple[int, ...], pages: int, name: object
) -> tuple[int, tuple[int | None, ...]]:
    """Match the trailing axes of an array with the axes of a page; axes of length 1 match anything."""
    places: list[int | None] = [None] * 5
    axis = len(shape) - 1
    for k in reversed(range(5)):
        if page[k] == 1:
            continue
        while axis >= 0 and shape[axis] == 1:
            axis -= 1
        if axis < 0 or shape[axis] != page[k]:
            raise FormatError(f"{name}: pages of shape {page} do not make an array of shape {shape}")
        places[k] = axis
        axis -= 1
    lead = axis + 1
    if math.prod(shape[:lead]) != pages:
        raise FormatError(f"{name}: an array of shape {shape} needs {math.prod(shape[:lead])} pages, there are {pages}")
    return lead, tuple(places)


def _segments(
    stored: StoredPages, page: tuple[int, ...], segment: tuple[int, ...], name: object
) -> tuple[np.ndarray, np.ndarray]:
    need = math.prod(grid_of(page, segment))
    known = next(p for p in stored.pages if p is not None)
    if len(known.dataoffsets) < need:  # before anything of that length is made
        raise FormatError(f"{name}: a page needs {need} strips or tiles, its header lists {len(known.dataoffsets)}")
    absent = (0,) * need
    offsets = _table([absent if p is None else p.dataoffsets for p in stored.pages], need, "offsets", name)
    counts = _table([absent if p is None else _counts_of(p, need) for p in stored.pages], need, "byte counts", name)
    if lost := int(((offsets == 0) & (counts > 0)).sum()):
        _warn(
            f"{name}: the header places {lost} strips or tiles at byte 0, where none can be: they read as "
            f"{stored.keyframe.nodata}"
        )
    return offsets, np.where(offsets == 0, 0, counts)


def _table(rows: Sequence[Any], need: int, what: str, name: object) -> np.ndarray:
    """Return what the headers list for each page, as an array of shape (pages, segments)."""
    if short := next((len(row) for row in rows if len(row) < need), None):
        raise FormatError(f"{name}: a page needs {need} strips or tiles, its header lists {short} {what}")
    if any(len(row) != need for row in rows):
        rows = [row[:need] for row in rows]
    table = np.array(rows).reshape(len(rows), need)
    if table.dtype.kind not in "iu":
        raise FormatError(
            f"{name}: the {what} of strips or tiles are {table.dtype} numbers, expected integers: the file is damaged"
        )
    table = table.astype(np.int64)
    if (table < 0).any():
        raise FormatError(f"{name}: the place of a strip or tile is negative: the file is damaged")
    return table


def _counts_of(page: Any, need: int) -> Sequence[int]:
    """Byte counts that the header of a page lists; 0 where it lists none."""
    tags = getattr(page, "tags", None)
    if tags is not None and not any(code in tags for code in (279, 325, 514)):
        return (0,) * need  # tifffile makes one up
    counts = page.databytecounts
    return counts if len(counts) >= need else (*counts, *(0,) * (need - len(counts)))


def _completed(
    offsets: np.ndarray, counts: np.ndarray, stored: StoredPages, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Complete byte counts that the header lacks: a strip or tile ends where the next thing in the file begins.

    One that begins where another thing does has no bytes: slide scanners leave out empty tiles in this way.
    """
    unknown = (offsets > 0) & (counts == 0)
    if not unknown.any():
        return offsets, counts
    offsets, counts = offsets.copy(), counts.copy()
    parents = [None if p is None else p.parent for p in stored.pages]
    for parent in {id(p): p for p in parents if p is not None}.values():
        rows = np.array([p is parent for p in parents])[:, None]
        pages = [p.offset or 0 for p in stored.pages if p is not None and p.parent is parent]
        others = np.concatenate([offsets[rows & ~unknown], pages, [parent.filehandle.size]])
        starts = offsets[rows & unknown]
        begins = np.unique(np.concatenate([others, starts]))
        following = np.searchsorted(begins, starts, side="right").clip(max=len(begins) - 1)
        sizes = np.clip(begins[following] - starts, 0, most)
        counts[rows & unknown] = np.where(np.isin(starts, others), 0, sizes)
    offsets[counts == 0] = 0
    return offsets, counts


def _warn(text: str) -> None:
    warn(text)


def _plain_counts(
    offsets: np.ndarray, page: tuple[int, ...], segment: tuple[int, ...], tiled: bool, itemsize: int
) -> np.ndarray:
    """Byte counts as the geometry has them: headers are often wrong about them, and nobody minds."""
    sizes = np.full(grid_of(page, segment), math.prod(segment) * itemsize, dtype=np.int64)
    if not tiled and page[2] % segment[1]:
        sizes[:, :, -1, :] = page[2] % segment[1] * segment[2] * segment[3] * itemsize
    return np.where(offsets == 0, 0, sizes.reshape(1, -1))


def _merged(
    offsets: np.ndarray, counts: np.ndarray, page: tuple[int, ...], segment: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], bool]:
    """Take strips that follow each other without gaps as one segment for each planar sample of each page."""
    n = len(offsets)
    o, c = offsets.reshape(n, page[0], -1), counts.reshape(n, page[0], -1)
    missing = (c == 0).all(axis=2)
    follows = ((o[:, :, 1:] == o[:, :, :-1] + c[:, :, :-1]) & (c[:, :, 1:] > 0)).all(axis=2)
    if not (missing | follows).all():
        return offsets, counts, segment, False
    return o[:, :, 0].copy(), c.sum(axis=2), page[1:], True


def _one_piece(offsets: np.ndarray, nbytes: int, page: tuple[int, ...]) -> bool:
    flat = offsets.reshape(-1)
    return bool(flat[0] > 0 and (np.diff(flat) == nbytes // page[0]).all())


def _check_fits(offset: int, nbytes: int, source: ByteReader, name: object) -> None:
    if offset < 0 or offset + nbytes > source.size:
        raise FormatError(
            f"{name}: the header states pixels up to byte {offset + nbytes}, but the file ends at {source.size}: "
            "it is truncated or damaged"
        )


def _check_bomb(segment: tuple[int, ...], counts: np.ndarray, itemsize: int, codec: int, name: object) -> None:
    least, ratio = _SIMPLE_BOMB if codec in _SIMPLE else _BOMB
    size = math.prod(segment) * itemsize
    known = counts[counts > 0]
    if size > least and known.size and size > ratio * int(known.max()):
        raise FormatError(
            f"{name}: the header states {size} bytes in a piece of {int(known.max())} compressed ones: refused"
        )
