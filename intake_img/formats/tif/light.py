"""The directories of simple TIFF files, read without tifffile's objects, which take most of the time of an opening.

Only files are read of which nothing can be understood in two ways: grey values of whole bytes, known tags alone, pages
that differ in the place of their pixels alone. All others are `Doubtful`: they are for tifffile. Pages have the
attributes of tifffile's that the rest of this package uses, with the same values.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from intake_img.formats.tif.ycbcr import colour_decoder
from intake_img.storage.files import ByteReader

__all__ = ["Doubtful", "LightPage", "LightTiff", "light_tiff", "need"]

_WINDOW = 2**13  # bytes that are read together
_MOST_PAGES, _MOST_TAGS = 2**16, 64
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 16: 8}
_WHOLE = {3: "H", 4: "I", 16: "Q"}
_PLACES = {273, 279, 324, 325}  # where pixels lie, page by page
_GEOMETRY = {254, 256, 257, 258, 259, 262, 266, 274, 277, 278, 284, 296, 317, 322, 323, 339}  # one whole number each
_TEXTS = {269, 270, 271, 272, 305, 306, 315, 316, 65100}
_LISTS = {50838, 50839}  # of ImageJ
_RATIOS = {282, 283}
_TURN = threading.Lock()
_KNOWN = _PLACES | _GEOMETRY | _TEXTS | _RATIOS | _LISTS
_DTYPES = {
    (1, 8): "u1",
    (1, 16): "u2",
    (1, 32): "u4",
    (1, 64): "u8",
    (2, 8): "i1",
    (2, 16): "i2",
    (2, 32): "i4",
    (2, 64): "i8",
    (3, 16): "f2",
    (3, 32): "f4",
    (3, 64): "f8",
}
_USUAL: Mapping[int, Sequence[int]] = {
    254: (0, 2),
    259: (1, 5, 8, 32946, 50000),  # none, LZW, deflate, deflate, zstd
    262: (0, 1),
    266: (1,),
    277: (1,),
    284: (1,),
    296: (2, 1, 3),
    317: (1, 2, 3),
}
"""Values of tags, the default first."""


class Doubtful(Exception):
    """The file is for tifffile."""


def need(sure: object) -> None:
    """Raise `Doubtful` unless something is sure."""
    if not sure:
        raise Doubtful


class _Kind(NamedTuple):
    """How a file spells numbers: byte order, letters of offsets and of the number of tags, BigTIFF."""

    order: str
    offset: str
    number: str
    big: bool

    @property
    def entry(self) -> struct.Struct:
        return _struct(f"{self.order}HH{self.offset}{8 if self.big else 4}s")

    @property
    def magic(self) -> bytes:
        """The bytes before the offset of the first directory."""
        mark = b"II" if self.order == "<" else b"MM"
        return mark + (_struct(f"{self.order}HHH").pack(43, 8, 0) if self.big else _struct(f"{self.order}H").pack(42))

    @property
    def header(self) -> int:
        return 16 if self.big else 8


_KINDS = {
    b"II*\0": _Kind("<", "I", "H", False),
    b"MM\0*": _Kind(">", "I", "H", False),
    b"II+\0": _Kind("<", "Q", "Q", True),
    b"MM\0+": _Kind(">", "Q", "Q", True),
}
_struct = cache(struct.Struct)


class _Entry(NamedTuple):
    """A tag, with the names that tifffile gives to its parts."""

    dtype: int
    count: int  # type: ignore[assignment]
    raw: bytes
    valueoffset: int


class _Bytes:
    """The bytes of a file, some KiB at a time."""

    def __init__(self, source: ByteReader) -> None:
        self.source, self.start, self.held = source, 0, b""

    def at(self, offset: int, count: int) -> bytes:
        begin = offset - self.start
        if begin < 0 or begin + count > len(self.held):
            need(0 <= offset <= offset + count <= self.source.size)
            size = min(max(count, _WINDOW), self.source.size - offset)
            self.held, self.start, begin = self.source.ranges([offset], [size])[0], offset, 0
        return self.held[begin : begin + count]


class LightTags:
    """The tags of a page, as tifffile's ``TiffTags``: values are read when they are asked for."""

    def __init__(self, entries: Mapping[int, _Entry], kind: _Kind, data: _Bytes) -> None:
        self.entries, self.kind, self._data = entries, kind, data
        self._values: dict[int, Any] = {}

    def __contains__(self, code: int) -> bool:
        return code in self.entries

    def __getitem__(self, code: int) -> _Entry:
        return self.entries[code]

    def valueof(self, code: int, default: Any = None) -> Any:
        """Return the value of a tag."""
        if code not in self.entries:
            return default
        if code not in self._values:
            self._values[code] = self._value(code, self.entries[code])
        return self._values[code]

    def _value(self, code: int, entry: _Entry) -> Any:
        data = self.bytes_of(entry)
        if code in _TEXTS:
            return _text(data)
        if code in _RATIOS:
            return _struct(f"{self.kind.order}2I").unpack(data)
        found = self.numbers(code)
        return found if code in _PLACES or code in _LISTS else _names().resunit(found[0]) if code == 296 else found[0]

    def bytes_of(self, entry: _Entry) -> bytes:
        size = entry.count * _SIZES[entry.dtype]
        return entry.raw[:size] if size <= len(entry.raw) else self._data.at(entry.valueoffset, size)

    def numbers(self, code: int) -> tuple[int, ...]:
        """Return the whole numbers of a tag."""
        entry = self.entries[code]
        return struct.unpack(f"{self.kind.order}{entry.count}{_WHOLE[entry.dtype]}", self.bytes_of(entry))


def _text(data: bytes) -> str:
    try:
        return data.rstrip(b"\0").decode().strip()
    except UnicodeDecodeError:
        raise Doubtful from None


class LightFrame(NamedTuple):
    """A page after the first one: the place of its pixels."""

    parent: LightTiff
    offset: int
    dataoffsets: tuple[int, ...]
    databytecounts: tuple[int, ...]


class LightPage:
    """The first page: see tifffile's ``TiffPage`` for what its attributes mean."""

    samplesperpixel = planarconfig = fillorder = tiledepth = 1
    index = nodata = 0
    is_subsampled = False
    jpegtables = jpegheader = None

    def __init__(self, tags: LightTags, frame: LightFrame) -> None:
        self.tags, (self.parent, self.offset, self.dataoffsets, self.databytecounts) = tags, frame
        value, names = tags.valueof, _names()
        self.compression, self.photometric = names.compression(value(259, 1)), names.photometric(value(262))
        self.predictor, self.planarconfig = names.predictor(value(317, 1)), names.planarconfig(value(284, 1))
        self.bitspersample, self.sampleformat = value(258), value(339, 1)
        self.dtype = self._dtype = np.dtype(_DTYPES[self.sampleformat, self.bitspersample])
        self.is_tiled, self.tilewidth, self.tilelength = 322 in tags, value(322, 0), value(323, 0)
        self.axes, self.shape = "YX", (value(257), value(256))
        self.rowsperstrip = 0 if self.is_tiled else min(value(278, self.shape[0]), self.shape[0])
        self.shaped = (1, 1, *self.shape, 1)
        self.description: str = value(270, "")

    @property
    def shaped_description(self) -> str | None:
        return self.description if self.description[:1] == "{" and '"shape":' in self.description else None

    def decode(self, data: bytes, index: int, **options: Any) -> tuple[Any, ...]:
        """Decode a strip or tile, as tifffile does."""
        found: tuple[Any, ...] = self._decoder(data, index, **options)
        return found

    @cached_property
    def _decoder(self) -> Callable[..., Any]:
        import tifffile

        with _TURN, tifffile.TiffFile(io.BytesIO(_alone(self))) as tif:
            return colour_decoder(tif.pages.first, "")


def _alone(page: LightPage) -> bytes:
    """Return a TIFF file with the tags of a page that tell how its pixels are coded, and no pixels."""
    kind, entries = page.parent.kind, page.tags.entries
    codes = [code for code in sorted(entries) if code in _GEOMETRY | _PLACES]
    entry, number, link = kind.entry, _struct(kind.order + kind.number), _struct(kind.order + kind.offset)
    start, count = kind.header + number.size + len(codes) * entry.size + link.size, len(page.dataoffsets)
    places = struct.pack(f"{kind.order}{count}{kind.offset}", *[1] * count)
    long, value = (16 if kind.big else 4), places if count == 1 else link.pack(start)
    block = [entry.pack(c, long, count, value) if c in _PLACES else entry.pack(c, *entries[c][:3]) for c in codes]
    return b"".join([kind.magic, link.pack(kind.header), number.pack(len(codes)), *block, link.pack(0), places])


class LightTiff:
    """A file: see tifffile's ``TiffFile`` for what its attributes mean."""

    imagej_metadata: Mapping[str, Any] | None = None
    shaped_metadata: Sequence[Mapping[str, Any]] | None = None

    def __init__(self, kind: _Kind, tags: LightTags) -> None:
        self.kind, self.byteorder, self.is_bigtiff = kind, kind.order, kind.big
        self.frames: list[LightFrame] = []
        self.tags = tags

    @cached_property
    def first(self) -> LightPage:
        return LightPage(self.tags, self.frames[0])


class _Names(NamedTuple):
    compression: Callable[[int], Any]
    photometric: Callable[[int], Any]
    predictor: Callable[[int], Any]
    planarconfig: Callable[[int], Any]
    resunit: Callable[[int], Any]


@cache
def _names() -> _Names:
    import tifffile

    kinds = (tifffile.COMPRESSION, tifffile.PHOTOMETRIC, tifffile.PREDICTOR, tifffile.PLANARCONFIG, tifffile.RESUNIT)
    return _Names(*(cache(kind) for kind in kinds))  # type: ignore[arg-type]


def light_tiff(source: ByteReader) -> LightTiff:
    """Return the pages of a simple file.

    Parameters
    ----------
    source : ByteReader
        Of a local file.

    Raises
    ------
    Doubtful
        If it is not one, or anything is in doubt.
    """
    try:
        return _tiff(_Bytes(source))
    except (ArithmeticError, LookupError, ValueError, struct.error) as exc:
        raise Doubtful from exc


def _tiff(data: _Bytes) -> LightTiff:
    kind = _KINDS[data.at(0, 4)]
    need(data.at(0, len(kind.magic)) == kind.magic)
    link = _struct(kind.order + kind.offset)
    (offset,) = link.unpack(data.at(len(kind.magic), link.size))
    tags, following = _directory(data, kind, offset)
    _check_first(tags, data.source.size)
    tiff, seen = LightTiff(kind, tags), {0}
    while True:
        seen.add(offset)
        tiff.frames.append(_frame(tags, tiff, offset))
        if not following:
            break
        offset = following
        need(offset not in seen and len(seen) < _MOST_PAGES)
        tags, following = _directory(data, kind, offset)
        need(_alike(tags.entries, tiff.tags.entries))
    _check_geometry(tiff)
    return tiff


def _directory(data: _Bytes, kind: _Kind, offset: int) -> tuple[LightTags, int]:
    """Return the tags of the directory at `offset`, and where the next one is."""
    number, link, entry = _struct(kind.order + kind.number), _struct(kind.order + kind.offset), kind.entry
    (count,) = number.unpack(data.at(offset, number.size))
    need(0 < count <= _MOST_TAGS)
    start = offset + number.size
    block = data.at(start, count * entry.size + link.size)
    found: dict[int, _Entry] = {}
    at = start + entry.size - link.size
    for code, dtype, n, raw in entry.iter_unpack(block[: -link.size]):
        found[code] = _Entry(dtype, n, raw, at if n * _SIZES[dtype] <= link.size else link.unpack(raw)[0])
        at += entry.size
    need(len(found) == count)
    return LightTags(found, kind, data), link.unpack(block[-link.size :])[0]


def _alike(entries: Mapping[int, _Entry], first: Mapping[int, _Entry]) -> bool:
    """Whether a page differs from the first one in the place of its pixels, and in what is said of it, alone."""
    for code in _GEOMETRY | _PLACES:
        own, other = entries.get(code), first.get(code)
        if own is None or other is None:
            if own is not other and code != 254:
                return False
        elif own[:2] != other[:2] or (code in _GEOMETRY and own.raw != other.raw):
            return False
    return entries.keys() <= _KNOWN


def _check_first(tags: LightTags, size: int) -> None:
    """Raise `Doubtful` unless the tags of the first page are known ones, of the usual types, with usual values."""
    for code, entry in tags.entries.items():
        need(_is_usual(code, entry, tags.kind.big))
        nbytes = entry.count * _SIZES[entry.dtype]
        need(entry.valueoffset >= 8 and entry.valueoffset + nbytes <= size)
    need({256, 257, 258, 262} <= tags.entries.keys())
    need(all(tags.valueof(code, values[0]) in values for code, values in _USUAL.items()))


def _is_usual(code: int, entry: _Entry, big: bool) -> bool:
    if code in _TEXTS:
        return entry.dtype == 2 and entry.count > 0
    if code in _RATIOS:
        return entry.dtype == 5 and entry.count == 1
    if code in _LISTS:
        return (code, entry.dtype) in ((50838, 4), (50839, 1))
    whole = entry.dtype in _WHOLE and (big or entry.dtype != 16)
    return whole and (entry.count == 1 if code in _GEOMETRY else code in _PLACES and entry.count > 0)


def _frame(tags: LightTags, tiff: LightTiff, offset: int) -> LightFrame:
    places = (324, 325) if 322 in tags else (273, 279)
    need(tags.entries.keys() & _PLACES == {*places})
    found = LightFrame(tiff, offset, *(tags.numbers(code) for code in places))
    need(min(found.dataoffsets) > 0 and min(found.databytecounts) > 0)
    return found


def _check_geometry(tiff: LightTiff) -> None:
    page = tiff.first
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.shape[1])
    need(min(rows, columns, *page.shape) > 0)
    pieces = -(-page.shape[0] // rows) * -(-page.shape[1] // columns)
    need(pieces == len(page.dataoffsets) == len(page.databytecounts))
    need(page.predictor == 1 or page.compression != 1)
