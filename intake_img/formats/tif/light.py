"""The directories of simple TIFF files, read without tifffile's objects, which take most of the time of an opening.

Only files are read of which nothing can be understood in two ways: grey values of whole bytes, known tags alone, pages
that differ in the place of their pixels alone. All others are `Doubtful`: they are for tifffile. Pages have the
attributes of tifffile's that the rest of this package uses, with the same values.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from intake_img.formats.tif.ycbcr import colour_decoder
from intake_img.storage.files import ByteReader
from intake_img.storage.locks import ProcessLock

__all__ = ["Doubtful", "LightPage", "LightTiff", "light_tiff", "need"]

_WINDOW = 2**14  # bytes that are read together
_CHAIN = 2**16  # bytes of directories that are compared together
_MOST_PAGES, _MOST_TAGS = 2**16, 64
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 16: 8}
_WHOLE = {3: "H", 4: "I", 16: "Q"}
_PLACES = {273, 279, 324, 325}  # where pixels lie, page by page
_GEOMETRY = {254, 256, 257, 258, 259, 262, 266, 274, 277, 278, 284, 296, 317, 322, 323, 339}  # one whole number each
_TEXTS = {269, 270, 271, 272, 305, 306, 315, 316, 65100}
_LISTS = {50838, 50839}  # of ImageJ
_RATIOS = {282, 283}
_TURN = ProcessLock()
_KNOWN = _PLACES | _GEOMETRY | _TEXTS | _RATIOS | _LISTS
_SINGLE = _GEOMETRY | _RATIOS
_TYPES: Mapping[int, Sequence[int]] = {
    50838: (4,),
    50839: (1,),
    **dict.fromkeys(_TEXTS, (2,)),
    **dict.fromkeys(_RATIOS, (5,)),
}
"""Types of tags that are not whole numbers."""
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
    296: (1, 2, 3),
    317: (1, 2, 3),
}
"""Values of tags, where not all are for these pages."""


class Doubtful(Exception):
    """The file is for tifffile."""


def need(sure: object) -> None:
    """Raise `Doubtful` unless something is sure."""
    if not sure:
        raise Doubtful


class _Kind:
    """How a file spells numbers: byte order, letters of offsets and of the number of tags, BigTIFF."""

    def __init__(self, byteorder: str, big: bool) -> None:
        self.byteorder, self.big, self.wide = byteorder, big, "Q" if big else "I"
        more = struct.pack(f"{byteorder}HHH", 43, 8, 0) if big else struct.pack(f"{byteorder}H", 42)
        self.magic = (b"II" if byteorder == "<" else b"MM") + more
        self.number, self.link = struct.Struct(byteorder + "HQ"[big]), struct.Struct(byteorder + self.wide)
        self.entry = struct.Struct(f"{byteorder}HH{self.wide}{self.link.size}s")
        self.header = len(self.magic) + self.link.size


_KINDS = {kind.magic[:4]: kind for kind in (_Kind(order, big) for order in "<>" for big in (False, True))}


class _Entry(NamedTuple):
    """A tag, with the names that tifffile gives to its parts."""

    dtype: int
    count: int  # type: ignore[assignment]
    raw: bytes
    valueoffset: int


class _Bytes:
    """The bytes of a file, some KiB at a time; its first ones are kept."""

    def __init__(self, source: ByteReader) -> None:
        self.source, self.size, self.start = source, source.size, 0
        self.head = self.held = source.ranges([0], [min(_WINDOW, source.size)])[0]

    def at(self, offset: int, count: int) -> bytes:
        if 0 <= offset <= offset + count <= len(self.head):
            return self.head[offset : offset + count]
        begin = offset - self.start
        if begin < 0 or begin + count > len(self.held):
            need(0 <= offset <= offset + count <= self.size)
            self.held = self.source.ranges([offset], [min(max(count, _WINDOW), self.size - offset)])[0]
            self.start, begin = offset, 0
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
            return struct.unpack(f"{self.kind.byteorder}2I", data)
        found = self.numbers(code)
        return found if code in _PLACES or code in _LISTS else _names().resunit(found[0]) if code == 296 else found[0]

    def bytes_of(self, entry: _Entry) -> bytes:
        size = entry.count * _SIZES[entry.dtype]
        return entry.raw[:size] if size <= len(entry.raw) else self._data.at(entry.valueoffset, size)

    def numbers(self, code: int) -> tuple[int, ...]:
        """Return the whole numbers of a tag."""
        entry = self.entries[code]
        return struct.unpack(f"{self.kind.byteorder}{entry.count}{_WHOLE[entry.dtype]}", self.bytes_of(entry))


def _text(data: bytes) -> str:
    try:
        return data.rstrip(b"\0").decode().strip()
    except UnicodeDecodeError:
        raise Doubtful from None


class LightFrame(NamedTuple):
    """A page after the first one: the place of its pixels."""

    parent: _Kind  # not the file: objects that lead back to each other live longer
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
    """Return a TIFF file with the tags of a page that state how its pixels are coded, and no pixels."""
    kind, entries = page.parent, page.tags.entries
    codes = [code for code in sorted(entries) if code in _GEOMETRY | _PLACES]
    entry, number, link = kind.entry, kind.number, kind.link
    start, count = kind.header + number.size + len(codes) * entry.size + link.size, len(page.dataoffsets)
    places = struct.pack(f"{kind.byteorder}{count}{kind.wide}", *[1] * count)
    long, value = (16 if kind.big else 4), places if count == 1 else link.pack(start)
    block = [entry.pack(c, long, count, value) if c in _PLACES else entry.pack(c, *entries[c][:3]) for c in codes]
    return b"".join([kind.magic, link.pack(kind.header), number.pack(len(codes)), *block, link.pack(0), places])


class LightTiff:
    """A file: see tifffile's ``TiffFile`` for what its attributes mean."""

    imagej_metadata: Mapping[str, Any] | None = None
    shaped_metadata: Sequence[Mapping[str, Any]] | None = None

    def __init__(self, kind: _Kind, tags: LightTags) -> None:
        self.byteorder, self.is_bigtiff = kind.byteorder, kind.big
        self.offsets: list[int] = []  # of the directories
        self.starts: list[Sequence[int]] = []  # of the strips or tiles of each page
        self.counts: list[Sequence[int]] = []
        self.tags = tags

    def __len__(self) -> int:
        return len(self.offsets)

    def frames(self) -> list[LightFrame]:
        """Return the pages without their tags."""
        kind, places = self.tags.kind, zip(self.offsets, self.starts, self.counts, strict=True)
        return [LightFrame(kind, offset, tuple(starts), tuple(counts)) for offset, starts, counts in places]

    @cached_property
    def first(self) -> LightPage:
        start, count = tuple(self.starts[0]), tuple(self.counts[0])
        return LightPage(self.tags, LightFrame(self.tags.kind, self.offsets[0], start, count))

    @cached_property
    def in_one_piece(self) -> bool:
        """Whether the strips or tiles of all pages follow one another, and are as long as pixels not compressed."""
        starts, counts = np.array(self.starts), np.array(self.counts)
        full = math.prod(self.first.shape) * self.first.dtype.itemsize
        follow = (starts + counts).ravel()[:-1] == starts.ravel()[1:]
        return bool(follow.all() and (counts.sum(axis=1) == full).all())


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
    kind = _KINDS[data.head[:4]]
    need(data.head.startswith(kind.magic))
    (offset,) = kind.link.unpack(data.at(len(kind.magic), kind.link.size))
    first = model = _directory(data, kind, offset)
    sound: dict[Any, int] = {}
    _check_types(first, kind, data.size, sound)
    tags = LightTags(first.tags(kind), kind, data)
    _check_first(tags)
    tiff, seen, geometry = LightTiff(kind, tags), {0}, _geometry(first.entries)
    step = 0
    while offset:
        need(offset not in seen and len(seen) < _MOST_PAGES)
        seen.add(offset)
        block = data.at(offset, max(0, min(len(model.block), data.size - offset))) if len(tiff) else first.block
        alike = model.fits(block, kind, data.size)
        if not alike:
            model = _directory(data, kind, offset)
            block = model.block
            need(_geometry(model.entries) == geometry)
            _check_types(model, kind, data.size, sound)
        tiff.offsets.append(offset)
        for listed, field in zip((tiff.starts, tiff.counts), model.places, strict=True):
            listed.append(_place(data, kind, block, *field))
        last, (offset,) = offset, kind.link.unpack(block[-kind.link.size :])
        before, step = step, offset - last
        if alike and step == before:
            row, starts, counts = _row(data, kind, model, offset, step)
            need(seen.isdisjoint(row))
            seen.update(row)
            tiff.offsets += row
            tiff.starts += starts
            tiff.counts += counts
            offset += len(row) * step
    _check_geometry(tiff)
    return tiff


def _row(data: _Bytes, kind: _Kind, model: _Directory, start: int, step: int) -> tuple[range, list[Any], list[Any]]:
    """Return the directories at equal distances from `start` that say the same as `model`, but for the last of them.

    These are their offsets, and the offsets and counts of the strips or tiles of each.
    """
    block, width, count = model.block, kind.link.size, min(_CHAIN, data.size - start) // max(step, 1)
    if count < 2 or step < len(block) or any(n * _SIZES[dtype] > width for _, dtype, n in model.places):
        return range(0), [], []
    rows = np.frombuffer(data.at(start, count * step), "u1").reshape(count, step)[:, : len(block)]
    free = np.ones(len(block), bool)
    for part in model.kept(width):
        free[part] = False
    offsets = range(start, start + count * step, step)
    links = _numbers(rows, kind, len(block) - width, kind.wide, 1)[:, 0]
    good = ((rows == np.frombuffer(block, "u1")) | free).all(axis=1) & (links == np.add(offsets, step))
    for at, nbytes in model.elsewhere:
        where = _numbers(rows, kind, at, kind.wide, 1)[:, 0]
        good &= (where >= 8) & (where <= data.size - nbytes)
    found = count if good.all() else int(good.argmin())
    starts, counts = (_numbers(rows[:found], kind, at, _WHOLE[dtype], n) for at, dtype, n in model.places)
    need(starts.all() and counts.all())
    return offsets[:found], starts.tolist(), counts.tolist()


def _numbers(rows: np.ndarray, kind: _Kind, at: int, letter: str, count: int) -> np.ndarray:
    """Return `count` numbers that stand in each of the rows of bytes at column `at`."""
    dtype = np.dtype(kind.byteorder + letter)
    return np.ascontiguousarray(rows[:, at : at + count * dtype.itemsize]).view(dtype)


class _Directory(NamedTuple):
    """A directory, as bytes from the number of its tags to the place of the next one, and its entries.

    `places` says of the offsets and the counts of strips or tiles where in the bytes they or their place stand, with
    their type and number; `elsewhere` says where the places of other values stand, and how many bytes these have.
    """

    block: bytes
    entries: Sequence[tuple[int, int, int, bytes]]
    places: tuple[tuple[int, int, int], ...]
    elsewhere: tuple[tuple[int, int], ...]
    start: int  # in the file

    def kept(self, width: int) -> list[slice]:
        """Return the bytes that are equal in directories that say the same: all but places, and the last ones."""
        free = sorted([at for at, *_ in (*self.places, *self.elsewhere)])
        ends = [*free, len(self.block) - width]
        return [slice(begin, end) for begin, end in zip([0, *(at + width for at in free)], ends, strict=True)]

    def fits(self, block: bytes, kind: _Kind, size: int) -> bool:
        """Whether another one of the file of this size says the same, but for the places."""
        width, mine = kind.link.size, self.block
        if block is mine:
            return True
        if len(block) != len(mine) or any(block[part] != mine[part] for part in self.kept(width)):
            return False
        found = ((*kind.link.unpack(block[at : at + width]), nbytes) for at, nbytes in self.elsewhere)
        return all(8 <= at <= size - nbytes for at, nbytes in found)

    def tags(self, kind: _Kind) -> dict[int, _Entry]:
        width, size = kind.link.size, kind.entry.size
        at = range(self.start + kind.number.size + size - width, self.start + len(self.block), size)
        return {
            code: _Entry(dtype, n, raw, at[k] if n * _SIZES[dtype] <= width else kind.link.unpack(raw)[0])
            for k, (code, dtype, n, raw) in enumerate(self.entries)
        }


def _directory(data: _Bytes, kind: _Kind, offset: int) -> _Directory:
    """Return the directory at `offset`."""
    (count,) = kind.number.unpack(data.at(offset, kind.number.size))
    need(0 < count <= _MOST_TAGS)
    start, size, width = kind.number.size, kind.entry.size, kind.link.size
    block = data.at(offset, start + count * size + width)
    entries = [*kind.entry.iter_unpack(block[start:-width])]
    numbers = {code: k for k, (code, *_) in enumerate(entries)}
    need(len(numbers) == count)
    codes = (324, 325) if 322 in numbers else (273, 279)
    need(numbers.keys() & _PLACES == {*codes})
    fields = {code: (start + k * size + size - width, *entries[k][1:3]) for code, k in numbers.items()}
    others = [(at, _SIZES[dtype] * n) for code, (at, dtype, n) in fields.items() if code not in codes]
    elsewhere = tuple((at, nbytes) for at, nbytes in others if nbytes > width)
    return _Directory(block, entries, tuple(fields[code] for code in codes), elsewhere, offset)


def _place(data: _Bytes, kind: _Kind, block: bytes, at: int, dtype: int, count: int) -> tuple[int, ...]:
    """Return offsets or counts of strips or tiles."""
    size, raw = count * _SIZES[dtype], block[at : at + kind.link.size]
    if size > len(raw):
        raw = data.at(kind.link.unpack(raw)[0], size)
    found = struct.unpack(f"{kind.byteorder}{count}{_WHOLE[dtype]}", raw[:size])
    need(min(found) > 0)
    return found


def _geometry(entries: Sequence[Any]) -> list[Any]:
    """Return what is equal in the directories of pages that differ in the place of their pixels alone."""
    same = [entry for entry in entries if entry[0] in _GEOMETRY and entry[0] != 254]
    return same + [entry[:3] for entry in entries if entry[0] in _PLACES]


def _check_types(page: _Directory, kind: _Kind, size: int, sound: dict[Any, int]) -> None:
    """Raise `Doubtful` unless the tags of a page are known ones, of the usual types, with their values in the file.

    `sound` contains those that were checked, without their values.
    """
    integers = (3, 4, 16) if kind.big else (3, 4)
    for entry in page.entries:
        if (nbytes := sound.get(entry[:3])) is None:
            code, dtype, count, _ = entry
            need(code in _KNOWN and count > 0 and dtype in _TYPES.get(code, integers))
            need(count == 1 or code not in _SINGLE)
            nbytes = sound[entry[:3]] = count * _SIZES[dtype]
        if nbytes > kind.link.size:
            need(8 <= kind.link.unpack(entry[3])[0] <= size - nbytes)


def _check_first(tags: LightTags) -> None:
    """Raise `Doubtful` unless the first page has the tags that it needs, and usual values."""
    need({256, 257, 258, 262} <= tags.entries.keys())
    need(all(tags.valueof(code) in _USUAL[code] for code in tags.entries.keys() & _USUAL.keys()))


def _check_geometry(tiff: LightTiff) -> None:
    page = tiff.first
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.shape[1])
    need(min(rows, columns, *page.shape) > 0)
    pieces = -(-page.shape[0] // rows) * -(-page.shape[1] // columns)
    need(pieces == len(page.dataoffsets) == len(page.databytecounts))
    need(page.predictor == 1 or page.compression != 1)
