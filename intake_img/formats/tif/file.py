"""An open TIFF file: its images, each with its levels and facts, and a reader of bytes.

Series are found by tifffile. Sets of several OME-TIFF files, companion files and OME-XML that tifffile does not
understand are assembled here, from the document as `intake_img.formats.tif.ome` reads it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.tif.facts import Facts, facts_of, header_of, ome_facts, samples_named
from intake_img.formats.tif.index import Layout, Stored, layout_of, listening
from intake_img.formats.tif.ome import OmeDocument, OmeImage, TiffData, parse_ome
from intake_img.formats.tif.tags import check_chain, check_tags
from intake_img.storage.files import ByteReader, File

if TYPE_CHECKING:
    import tifffile

__all__ = ["RECORD_TAG", "Scene", "TiffHandle", "open_tiff"]

_FRAME = 2**18  # bytes of structure that are compared to tell that two files are laid out alike
_UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}  # data types of TIFF tags that hold offsets and counts
RECORD_TAG = 65100
"""Private tag of the first page: the record (JSON) of an image that this package wrote."""
# tags without which an image is another one: geometry, place and coding of pixels, and what dialects say in
_VITAL_TAGS = {256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 283, 284, 296, 317, 322, 323, 324, 325,
               330, 338, 339, 347, 530, 32997, 32998, 33628, 33629, 33630, 33631, 34412, 50838, 50839,
               RECORD_TAG}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One image of a file.

    Attributes
    ----------
    axes : tuple of str
        Names of the axes of every level.
    levels : sequence of Layout
        Full resolution first.
    """

    name: str
    axes: tuple[str, ...]
    levels: Sequence[Layout]
    facts: Facts
    header: Mapping[str, Any] = field(repr=False)
    record: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class _Tables:
    """Where a header holds the offsets and the byte counts of strips or tiles: first byte, number, dtype of each."""

    offsets: tuple[int, int, np.dtype]
    counts: tuple[int, int, np.dtype]

    def read(self, head: bytes) -> list[np.ndarray]:
        return [np.frombuffer(head, dtype, n, at).astype(np.int64) for at, n, dtype in (self.offsets, self.counts)]

    def others(self, head: bytes) -> list[bytes]:
        """Return what `head` holds beside them."""
        (a, n, one), (b, m, two) = sorted((self.offsets, self.counts), key=lambda table: table[0])
        return [head[:a], head[a + n * one.itemsize : b], head[b + m * two.itemsize :]]


class TiffHandle:
    """The index of a file, and its bytes."""

    def __init__(self, source: ByteReader, scenes: Sequence[Scene], tables: _Tables | None = None) -> None:
        self.source, self.scenes, self.tables = source, scenes, tables

    def close(self) -> None:
        self.source.close()

    @cached_property
    def frame(self) -> tuple[list[int], list[int], list[bytes]] | None:
        """Offsets, counts and content of the bytes that are no pixels; None if they are many, or in several files."""
        spans = [span for scene in self.scenes for layout in scene.levels for span in _spans(layout)]
        if any(layout.files for scene in self.scenes for layout in scene.levels):
            return None
        gaps, at = [], 0
        for start, stop in [*sorted(spans), (self.source.size, self.source.size)]:
            if start > at:
                gaps.append((at, start - at))
            at = max(at, stop)
        offsets, counts = [a for a, _ in gaps], [n for _, n in gaps]
        if sum(counts) > _FRAME:
            return None
        return offsets, counts, self.source.ranges(offsets, counts)

    @cached_property
    def head(self) -> bytes | None:
        """What precedes the pixels of one compressed page, if that is all there is beside them."""
        if self.tables is None or self.frame is None:
            return None
        offsets, counts, content = self.frame
        if offsets[:1] != [0] or any(n > 3 for n in counts[1:]):  # others than the bytes that align pieces
            return None
        layout, head = self.scenes[0].levels[0], content[0]
        try:
            found = self.tables.read(head)
        except ValueError:  # they lie elsewhere
            return None
        same = np.array_equal(found[0], layout.offsets[0]) and np.array_equal(found[1], layout.counts[0])  # type: ignore[index]
        return head if same else None

    def twin(self, file: File) -> TiffHandle | None:
        """Return a handle of another file whose structure, apart from where its compressed pixels lie, is the same."""
        if self.frame is None:
            return None
        source = file.open()
        try:
            if self.head is not None:
                scenes = self._moved(source)
            else:
                offsets, counts, content = self.frame
                same = source.size == self.source.size and source.ranges(offsets, counts) == content
                scenes = self.scenes if same else None
            if scenes is not None:
                return TiffHandle(source, scenes, self.tables)
        except BaseException:
            source.close()
            raise
        source.close()
        return None

    def _moved(self, source: ByteReader) -> Sequence[Scene] | None:
        """Return the one scene as it lies in a file with the same header but for its tables of strips or tiles."""
        mine, tables = self.head, self.tables
        if mine is None or tables is None or source.size < len(mine):
            return None
        head = source.ranges([0], [len(mine)])[0]
        if tables.others(head) != tables.others(mine):
            return None
        scene, (offsets, counts) = self.scenes[0], tables.read(head)
        layout = scene.levels[0]
        if offsets.min() < 1 or counts.min() < 1 or 64 * counts.max() < layout.counts.max():  # type: ignore[union-attr]
            return None  # missing pieces, or pixels that would inflate far more: for the parser
        return [replace(scene, levels=[replace(layout, offsets=offsets[None], counts=counts[None])])]


def _spans(layout: Layout) -> list[tuple[int, int]]:
    """First and last byte of each piece of pixels."""
    if layout.offset is not None:
        size = math.prod(layout.shape) * (layout.raw or layout.dtype).itemsize
        return [(layout.offset, layout.offset + size)]
    if layout.offsets is None or layout.counts is None:
        return []
    starts = layout.offsets.ravel()
    return list(zip(starts.tolist(), (starts + layout.counts.ravel()).tolist(), strict=True))


def _tables(page: tifffile.TiffPage, layout: Layout) -> _Tables | None:
    if layout.offsets is None or layout.raw is not None:
        return None
    found = []
    for codes in ((273, 324), (279, 325)):
        tags = [page.tags[code] for code in codes if code in page.tags]
        if len(tags) != 1 or tags[0].count != layout.offsets.size or tags[0].dtype not in _UNSIGNED:
            return None
        dtype = np.dtype(page.parent.byteorder + _UNSIGNED[tags[0].dtype])
        found.append((int(tags[0].valueoffset), int(tags[0].count), dtype))
    return _Tables(*found)


def open_tiff(file: File) -> TiffHandle:
    """Parse the structure of a file.

    Raises
    ------
    FormatError
        If it is damaged, or promises more than it holds.
    FileNotFoundError
        If a member of a set of files is missing; the message names it.
    """
    source = file.open()
    try:
        with _Parser(file, source) as parser:
            scenes = parser.scenes()
            return TiffHandle(source, scenes, parser.tables)
    except BaseException:
        source.close()
        raise


class _Parser:
    """Holds tifffile's objects, and the streams they read, while the index is being made."""

    def __init__(self, file: File, source: ByteReader) -> None:
        self.file, self.source = file, source
        self.opened = contextlib.ExitStack()
        self.members: dict[str, tuple[File, tifffile.TiffFile]] = {}
        self.errors: list[str] = []
        self.tables: _Tables | None = None

    def __enter__(self) -> _Parser:
        return self

    def __exit__(self, *exc: object) -> None:
        self.opened.close()

    def tiff(self, file: File, source: ByteReader | None = None) -> tifffile.TiffFile:
        import tifffile

        if file.local:
            file.check()
            tif = self.opened.enter_context(tifffile.TiffFile(file.path))
        else:
            reader = source or self.opened.enter_context(contextlib.closing(file.open()))
            stream = self.opened.enter_context(contextlib.closing(reader.stream()))
            tif = self.opened.enter_context(tifffile.TiffFile(stream, name=file.name))
        if not tif.pages:
            raise FormatError(f"{file} holds no image: its header points to no page")
        check_chain(tif, file)
        return tif

    def scenes(self) -> list[Scene]:
        with listening() as self.errors:
            if self.is_companion():
                document = parse_ome(self.file.read().decode("utf-8", "replace"))
                scenes = self.assembled(document, None)
            else:
                tif = self.tiff(self.file, self.source)
                scenes = self.of_tiff(tif)
                if len(scenes) == 1 and len(scenes[0].levels) == len(tif.pages) == 1:
                    self.tables = _tables(tif.pages.first, scenes[0].levels[0])
        if fatal := [e for e in self.errors if _is_vital(e)]:
            raise FormatError(f"{self.file} is truncated or damaged: {fatal[0].split('>', 1)[-1].strip()}")
        if not scenes:
            raise FormatError(f"{self.file} holds no image")
        return scenes

    def of_tiff(self, tif: tifffile.TiffFile) -> list[Scene]:
        document = self.document(tif)
        if document and (coloured := _coloured(document, tif.pages.first)) is not document:
            return self.assembled(coloured, tif)  # tifffile would take the colours of a page for planes
        if document and not document.is_simple(self.file.name):
            if document.metadata_file:
                document = self.companion(document.metadata_file)
            return self.assembled(document, tif)
        if self.file.local:
            for name in _members(tif):
                self.file.sibling(name).check()
            tif._multifile = tif.is_mmstack  # the files of other sets are opened here, not by tifffile
        try:
            series = _series(tif)
        except (KeyError, ValueError, IndexError):
            if not document:
                raise
            series = []
        if document and document.images and not any(s.kind == "ome" for s, _ in series):
            self.errors[:] = [e for e in self.errors if "OME series" not in e]  # tifffile is less tolerant
            return self.assembled(document, tif)
        kept = [pair for pair in series if not (pair[0].kind == "lsm" and pair[0].keyframe.is_reduced)]  # thumbnails
        kept, further = _pyramids(kept)
        omes = _matched([s for s, _ in kept], document.images) if document else [None] * len(kept)
        record = _record(tif)
        scenes = []
        for n, ((one, axes), ome) in enumerate(zip(kept, omes, strict=True)):
            stored = [_stored(level, self.file) for level in [*one.levels, *further[n]]]
            name = one.name.strip() or str(n)
            page = one.keyframe
            stored = _squeezed(stored, axes + ("C" if ome and _one_named(ome) else ""))
            scenes.append(self.scene(tif, name, stored, one.kind, page, ome, document, record if n == 0 else None))
        return scenes

    def scene(self, tif: tifffile.TiffFile, name: str, stored: list[Stored], kind: str, page: tifffile.TiffPage,
              ome: OmeImage | None, document: OmeDocument | None, record: Any) -> Scene:  # fmt: skip
        if missing := sum(p is None for p in stored[0].pages):
            warnings.warn(
                f"{self.file}: {missing} of {len(stored[0].pages)} planes of {name!r} are missing; they read as "
                f"{page.nodata}",
                stacklevel=2,
            )
        for level in stored:
            check_tags(level.keyframe, self.file)
        levels = [layout_of(level, self.source, self.file) for level in stored]
        axes = _axis_names(stored[0].axes)
        if ome is not None:
            facts = ome_facts(ome)
        else:
            facts = facts_of(tif, kind, axes, levels[0].shape, page, page is tif.pages.first)
        if "S" in stored[0].axes and "s" not in axes:
            names = samples_named(levels[0].shape[axes.index("c")], page)
            facts = Facts(facts.spacing, facts.units, facts.origin, names, {}, facts.times)
        header = header_of(tif, kind, page, document.text if document and ome is not None else None)
        return Scene(name, axes, levels, facts, header, record)

    # OME-XML

    def is_companion(self) -> bool:
        """True for a companion file: OME-XML without pixels."""
        if not self.file.local and not self.file.name.lower().endswith(".ome"):  # spare a request
            return False
        start = self.source.ranges([0], [min(64, self.source.size)])[0]
        return start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")

    def document(self, tif: tifffile.TiffFile) -> OmeDocument | None:
        text = tif.pages.first.description if tif.pages.first.is_ome else None
        return parse_ome(text) if text else None

    def companion(self, name: str) -> OmeDocument:
        file = self.file.sibling(name)
        if not file.exists():
            raise FileNotFoundError(
                f"{self.file} is part of a set that {name} describes; it is missing: put it into the same folder"
            )
        head = file.head(4)
        document = self.document(self.member(file)) if head[:2] in (b"II", b"MM") else parse_ome(_text(file))
        if document is None or not document.images:
            raise FormatError(f"{file}, which describes {self.file}, holds no OME-XML of images")
        return document

    def member(self, file: File) -> tifffile.TiffFile:
        if file.path not in self.members:
            if not file.exists():
                raise FileNotFoundError(
                    f"{self.file} is part of a set of files; the member {file.name!r} is missing: put all of them into "
                    "one folder"
                )
            self.members[file.path] = (file, self.tiff(file))
        return self.members[file.path][1]

    def assembled(self, document: OmeDocument, tif: tifffile.TiffFile | None) -> list[Scene]:
        """Return the images of a document, with planes from the files that it names."""
        if tif is not None:
            self.members[self.file.path] = (self.file, tif)
        others = document.members(self.file.name if tif is not None else "")
        scenes = []
        before = 0
        for n, ome in enumerate(document.images):
            pages, files = self.planes(ome, others, tif, before)
            before += len(pages)
            key = next((p for p in pages if p is not None), None)
            if key is None:
                continue
            if odd := next((p for p in pages if p is not None and p.hash != key.hash), None):
                raise FormatError(f"{self.file}: pages of {ome.name!r} differ: {key.shape} {key.dtype}, {odd.shape} "
                                  f"{odd.dtype}")  # fmt: skip
            whole = _assembled(ome, pages, key, files)
            wanted = "".join(a for a, n in zip(whole.axes, whole.shape, strict=True) if n > 1 or a in "YX")
            stored = _squeezed([whole], wanted + ("C" if _one_named(ome) else ""))
            name = ome.name.strip() or str(n)
            scenes.append(self.scene(key.parent, name, stored, "ome", key, ome, document, None))
        return scenes

    def planes(self, ome: OmeImage, others: Mapping[str, str], tif: tifffile.TiffFile | None,
               before: int) -> tuple[list[Any], list[File]]:  # fmt: skip
        """Return the page and file of each plane; without TiffData, the pages of this file after those `before`."""
        lead = ome.order[:-2]
        shape = tuple(ome.sizes[a] for a in lead)
        if math.prod(shape) > 10**7:
            raise FormatError(f"{self.file}: the OME-XML promises {math.prod(shape)} planes")
        pages: list[Any] = [None] * math.prod(shape)
        files = [self.file] * len(pages)
        for data in ome.data or (TiffData(before, None, dict.fromkeys(lead, 0), None, None),):
            other = others.get(data.uuid or data.filename or "")
            file = self.file.sibling(other) if other else self.file
            if file is self.file and tif is None:
                raise FormatError(f"{self.file}: the OME-XML does not say which files hold the planes")
            member = self.member(file)
            start = int(np.ravel_multi_index([data.first[a] for a in lead], shape))
            count = len(member.pages) - data.ifd if data.count is None else data.count
            for k in range(min(count, len(pages) - start)):
                if data.ifd + k >= len(member.pages):
                    raise FormatError(f"{file} has {len(member.pages)} pages, the OME-XML names page {data.ifd + k}")
                pages[start + k], files[start + k] = member.pages.get(data.ifd + k), file
        return pages, files


def _members(tif: tifffile.TiffFile) -> Iterator[str]:
    """Give the names of the files that tifffile opens by itself to make a series: those of Micro-Manager."""
    import tifffile

    folder = tif.filehandle.dirname
    if tif.is_mmstack:
        yield from fnmatch.filter(os.listdir(folder), "*_MMStack*.tif")
    elif tif.is_ndtiff:
        index = "NDTiff.index"
        yield index
        yield from dict.fromkeys(row[1] for row in tifffile.read_ndtiff_index(os.path.join(folder, index)))


def _coloured(document: OmeDocument, page: tifffile.TiffPage) -> OmeDocument:
    """Return the document with channels as the colours of RGB pages, where it counts them as planes."""
    if int(page.photometric) not in (2, 6) or not document.is_simple(page.parent.filename):
        return document
    images = tuple(image.with_samples(page.samplesperpixel) for image in document.images)
    same = all(a is b for a, b in zip(images, document.images, strict=True))
    return document if same else replace(document, images=images)


def _is_vital(error: str) -> bool:
    """True for what tifffile logs of damage that changes the image, and not just some tag about the camera."""
    if found := re.search(r"TiffTag (\d+) @", error):
        return int(found[1]) in _VITAL_TAGS
    harmless = ("read_tags", "ByteCounts", "incorrect StripOffsets count")  # the last two are judged by the layout
    return not error.startswith("invalid data type") and not any(text in error for text in harmless)


def _text(file: File) -> str:
    return file.read().decode("utf-8", "replace")


def _record(tif: tifffile.TiffFile) -> Any:
    value = tif.pages.first.tags.valueof(RECORD_TAG)
    if not isinstance(value, (str, bytes)):
        return None
    try:
        return json.loads(value)
    except ValueError:
        return None


def _series(tif: tifffile.TiffFile) -> list[tuple[Any, str]]:
    """Return tifffile's series, and the axes of each that it does not squeeze out."""
    if not callable(tif.series):  # tifffile before November 2026
        return [(s, s.axes) for s in tif.series]
    every: Any = tif.series
    pairs = zip(every(squeeze=False), every, strict=True)
    return [(s, q.axes) if len(set(s.axes)) == len(s.axes) else (q, q.axes) for s, q in pairs]


def _full(series: Any) -> tuple[str, tuple[int, ...]]:
    """Axes and shape of a series with those of length 1, where each axis has a name of its own."""
    if not hasattr(series, "get_axes"):
        return series.axes, series.shape
    axes = series.get_axes(False)
    return (axes, series.get_shape(False)) if len(set(axes)) == len(axes) else (series.axes, series.shape)


def _pyramids(series: Sequence[tuple[Any, str]]) -> tuple[list[tuple[Any, str]], list[list[Any]]]:
    """Return the series of full resolution, and the reduced ones in their SubIFDs that tifffile does not see as levels.

    tifffile expects that z is reduced along with y and x.
    """
    bases: list[tuple[Any, str]] = []
    levels: list[list[Any]] = []
    for one, kept in series:
        key = one.keyframe
        base = bases[-1][0] if bases and key.is_subifd and key.is_reduced else None
        if (
            base is not None
            and base.keyframe.treeindex[0] == key.treeindex[0]
            and (base.axes, base.dtype) == (one.axes, one.dtype)
            and all(m <= n if a in "YX" else m == n for a, n, m in zip(one.axes, base.shape, one.shape, strict=True))
        ):
            levels[-1].append(one)
        else:
            bases.append((one, kept))
            levels.append([])
    return bases, levels


def _matched(series: Sequence[Any], images: Sequence[OmeImage]) -> list[OmeImage | None]:
    """Return the OME image of each series: tifffile leaves out images without data."""
    if len(series) == len(images):
        return list(images)
    left = list(images)
    found: list[OmeImage | None] = []
    for one in series:
        sizes = dict(zip(*_full(one), strict=True))
        fits = [im for im in left if all(sizes.get(a.upper(), 1) == n for a, n in im.sizes.items())
                and im.name == one.name]  # fmt: skip
        found.append(fits[0] if fits else None)
        if fits:
            left = left[left.index(fits[0]) + 1 :]
    return found


def _stored(series: Any, file: File) -> Stored:
    """Return what tifffile says of a series, without reading further pages."""
    if getattr(series, "transform", None) is not None:
        raise FormatError(f"{file}: TIFF of the kind {series.kind!r} is not known")
    pages = series._pages
    (axes, shape), key = _full(series), series.keyframe
    offset = None
    if len(pages) == 1 and math.prod(shape) > math.prod(key.shape):
        offset = series.dataoffset
        if offset is None:
            pages = list(series)
    files = None
    if any(p is not None and p.parent is not key.parent for p in pages):
        files = [file if p is None else file.at(p.parent.filehandle.path) for p in pages]
    return Stored(axes, shape, pages, key, files, offset)


def _squeezed(levels: Sequence[Stored], wanted: str) -> list[Stored]:
    """Keep the axes `wanted` of every level; the others have length 1."""
    found = []
    for level in levels:
        sizes = dict(zip(level.axes, level.shape, strict=True))
        if len(sizes) == len(level.axes) and all(n == 1 for a, n in sizes.items() if a not in wanted):
            axes = [a for a in level.axes if a in wanted]
            level = replace(level, axes="".join(axes), shape=tuple(sizes[a] for a in axes))
        found.append(level)
    return found


def _one_named(ome: OmeImage) -> bool:
    """True if the image has one channel, and that a name: then it keeps its axis."""
    return ome.samples == 1 and len(ome.channel_names or ()) == 1


def _axis_names(letters: str) -> tuple[str, ...]:
    """Return tifffile's letters as names: each once, samples as channels where there are no others."""
    names = [a.lower() for a in letters]
    if "s" in names and "c" not in names:
        names[names.index("s")] = "c"
    free: Iterator[str] = itertools.chain("qpomnkjihgfedbauvwrl", (f"q{k}" for k in itertools.count()))
    for k in reversed(range(len(names))):
        if names[k] in names[k + 1 :] or not names[k].isalpha():
            names[k] = next(a for a in free if a not in names)
    return tuple(names)


def _assembled(ome: OmeImage, pages: list[Any], key: Any, files: list[File]) -> Stored:
    axes = ome.order[:-2].upper()
    shape = tuple(ome.sizes[a] for a in ome.order[:-2])
    several = any(f is not files[0] for f in files) or any(p is not None and p.parent is not key.parent for p in pages)
    return Stored(axes + key.axes, shape + tuple(key.shape), pages, key, files if several else None)
