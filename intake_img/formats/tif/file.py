"""An open TIFF file: its images, each with its levels and facts, and a reader of bytes.

Files that are laid out alike, such as the members of a sequence, share one index: see `TiffHandle.reuse_for`. The index
is made by `intake_img.formats.tif.parser`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from intake_img.formats.base import Handle
from intake_img.formats.tif.facts import TiffFacts
from intake_img.formats.tif.index import SegmentLayout
from intake_img.model.record import unsealed_record
from intake_img.model.wells import Place
from intake_img.storage.files import ByteReader, File

if TYPE_CHECKING:
    import tifffile

__all__ = ["RECORD_TAG", "Tables", "TiffHandle", "TiffScene", "record_of", "sealed_facts", "tables_of"]

_FRAME = 2**18  # bytes of structure that are compared to find out whether two files are laid out alike
_UUID = re.compile("urn:uuid:[0-9A-Fa-f-]{36}")
_UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}  # data types of TIFF tags that contain offsets and counts
_OWN_UUID = re.compile(rb'<OME [^<>]*?UUID="(urn:uuid:[0-9A-Fa-f\-]{36})"')
RECORD_TAG = 65100
"""Private tag of the first page: the record (JSON) of an image that this package wrote."""


@dataclass(frozen=True)
class TiffScene:
    """One image of a file.

    Attributes
    ----------
    axes : tuple of str
        Names of the axes of every level.
    levels : sequence of SegmentLayout
        Full resolution first.
    attrs : mapping
        Attributes of the variable: the palette of its values.
    """

    name: str
    axes: tuple[str, ...]
    levels: Sequence[SegmentLayout]
    facts: TiffFacts
    header: Mapping[str, Any] = field(repr=False)
    record: Any = field(default=None, repr=False)
    place: Place | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Tables:
    """Where a header contains the offsets and the byte counts of strips or tiles: first byte, number, dtype of each."""

    offsets: tuple[int, int, np.dtype]
    counts: tuple[int, int, np.dtype]

    def read(self, head: bytes) -> list[np.ndarray]:
        return [np.frombuffer(head, dtype, n, at).astype(np.int64) for at, n, dtype in (self.offsets, self.counts)]

    def others(self, head: bytes) -> list[bytes]:
        """Return what `head` contains besides them."""
        (a, n, one), (b, m, two) = sorted((self.offsets, self.counts), key=lambda table: table[0])
        return [head[:a], head[a + n * one.itemsize : b], head[b + m * two.itemsize :]]


class TiffHandle(Handle):
    """The index of a file, and its bytes."""

    _bare: tuple[list[bytes], list[bytes]] | None = None  # a structure, and the same without the name of the file
    rgb = False  # colours are wanted in place of the values that stand for them
    scaled = True  # calibrated values are wanted in place of the stored numbers

    def __init__(self, source: ByteReader, scenes: Sequence[TiffScene], tables: Tables | None = None) -> None:
        self.source, self.scenes, self.tables = source, scenes, tables

    def close(self) -> None:
        self.source.close()

    @cached_property
    def frame(self) -> tuple[list[int], list[int], list[bytes]] | None:
        """Offsets, counts and contents of all bytes except pixels; None if they are many, or in several files."""
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
        """What precedes the pixels of one compressed page, if there is nothing else."""
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

    def reuse_for(self, file: File) -> Self | None:
        """Return a handle of another file whose structure, apart from where its compressed pixels lie, is the same."""
        if self.frame is None:
            return None
        source = file.open()
        try:
            if self.head is not None:
                scenes = self._moved(source)
            else:
                offsets, counts, content = self.frame
                same = source.size == self.source.size and self._same(source, source.ranges(offsets, counts), content)
                scenes = self.scenes if same else None
            if scenes is not None:
                other = type(self)(source, scenes, self.tables)
                other.rgb, other.scaled = self.rgb, self.scaled
                return other
        except BaseException:
            source.close()
            raise
        source.close()
        return None

    def _same(self, source: ByteReader, theirs: list[bytes], mine: list[bytes]) -> bool:
        """Whether structures are the same, but for the name of the file and the UUID that OME-XML gives it."""
        if theirs == mine:
            return True
        if list(map(len, theirs)) != list(map(len, mine)):
            return False
        if self._bare is None or self._bare[0] != mine:
            self._bare = mine, _nameless(mine, self.source.file)
        return _nameless(theirs, source.file) == self._bare[1]

    def _moved(self, source: ByteReader) -> Sequence[TiffScene] | None:
        """Return the one scene as it lies in a file with the same header but for its tables of strips or tiles."""
        mine, tables = self.head, self.tables
        if mine is None or tables is None or source.size < len(mine):
            return None
        head = source.ranges([0], [len(mine)])[0]
        if not self._same(source, tables.others(head), tables.others(mine)):
            return None
        scene, (offsets, counts) = self.scenes[0], tables.read(head)
        layout = scene.levels[0]
        if offsets.min() < 1 or counts.min() < 1 or 64 * counts.max() < layout.counts.max():  # type: ignore[union-attr]
            return None  # missing pieces, or pixels that would inflate far more: for the parser
        return [replace(scene, levels=[replace(layout, offsets=offsets[None], counts=counts[None])])]


def _nameless(structure: list[bytes], file: File) -> list[bytes]:
    """Return bytes without the UUID of an OME-XML, and without the name of the file where that UUID is said of it."""
    found = next((m for part in structure if (m := _OWN_UUID.search(part))), None)
    if found is None:
        return structure
    own = re.compile(rb'FileName="' + re.escape(os.fsencode(file.name)) + rb'"(?=>' + re.escape(found[1]) + rb"<)")
    bare = [own.sub(lambda m: b"\0" * len(m[0]), part) for part in structure]
    return [part.replace(found[1], b"\0" * len(found[1])) for part in bare]


def _spans(layout: SegmentLayout) -> list[tuple[int, int]]:
    """First and last byte of each strip or tile."""
    if layout.offset is not None:
        size = math.prod(layout.shape) * (layout.raw or layout.dtype).itemsize
        return [(layout.offset, layout.offset + size)]
    if layout.offsets is None or layout.counts is None:
        return []
    starts = layout.offsets.ravel()
    return list(zip(starts.tolist(), (starts + layout.counts.ravel()).tolist(), strict=True))


def record_of(page: Any) -> Any:
    """Return the record in the first page of a file; None if it has none, or other programs changed its metadata."""
    text = page.tags.valueof(RECORD_TAG)
    if not isinstance(text, (str, bytes)):
        return None
    try:
        return unsealed_record(json.loads(text), *sealed_facts(page))
    except (ValueError, RecursionError):
        return None


def sealed_facts(page: Any) -> list[Any]:
    """Return what a page states for other programs: its description without the file's UUID, and the resolution."""
    return [_UUID.sub("", page.description.strip()), *(page.tags.valueof(code) for code in (282, 283, 296))]


def tables_of(page: tifffile.TiffPage, layout: SegmentLayout) -> Tables | None:
    """Return where the header of a file of one page contains its tables; None where they cannot be swapped."""
    if layout.offsets is None or layout.raw is not None:
        return None
    found = []
    for codes in ((273, 324), (279, 325)):
        tags = [page.tags[code] for code in codes if code in page.tags]
        if len(tags) != 1 or tags[0].count != layout.offsets.size or tags[0].dtype not in _UNSIGNED:
            return None
        dtype = np.dtype(page.parent.byteorder + _UNSIGNED[tags[0].dtype])
        found.append((int(tags[0].valueoffset), int(tags[0].count), dtype))
    return Tables(*found)
