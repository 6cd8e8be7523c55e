"""The parser of TIFF files: from directories and descriptions to scenes.

Series are found by tifffile where a description and the pages agree. Where they do not, what can be read is read, and
a warning says what is missing or left over; only pixels that contradict each other, or are cut off, are refused.
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from intake_img.errors import FormatError, warn
from intake_img.formats.palettes import palette_attrs
from intake_img.formats.tif.counted import counted, interrupted, planes_held, shortened, stack_of, whole_pages
from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.facts import TiffFacts, facts_of, header_of, ome_facts, palette_of, samples_named
from intake_img.formats.tif.file import Tables, TiffHandle, TiffScene, record_of, tables_of
from intake_img.formats.tif.index import StoredPages, layout_of, listening
from intake_img.formats.tif.ome import OmeDocument, OmeImage, parse_ome
from intake_img.formats.tif.page_series import (
    axis_names,
    found_series,
    full_first,
    led,
    matched,
    one_named,
    plain_pages,
    pyramids,
    squeezed,
    stored_series,
)
from intake_img.formats.tif.sets import assembled, coloured, is_absurd, no_planes
from intake_img.formats.tif.simple import simple_scene
from intake_img.formats.tif.tags import VITAL, check_chain, check_tags, metadata_name, unfinished_run
from intake_img.formats.tif.vendors import vendor_facts, vendor_header
from intake_img.storage.files import ByteReader, File

if TYPE_CHECKING:
    import tifffile

__all__ = ["open_tiff"]


Opened = TypeVar("Opened", bound=TiffHandle)


def open_tiff(file: File, kind: type[Opened]) -> Opened:
    """Parse the structure of a file, and return a handle of the given kind.

    Raises
    ------
    FormatError
        If it is damaged, or states more pixels than it holds.

    Warns
    -----
    UserWarning
        If its metadata list planes or files that are missing, count fewer pages than there are, or cannot be read.
    """
    source = file.open()
    try:
        if (simple := simple_scene(file, source)) is not None:
            scene, tables = simple
            return kind(source, [scene], tables)
        with _Parser(file, source) as parser:
            scenes = parser.scenes()
            return kind(source, scenes, parser.tables)
    except BaseException:
        source.close()
        raise


class _Parser:
    """Holds tifffile's objects, and the streams they read, while the index is being made."""

    def __init__(self, file: File, source: ByteReader) -> None:
        self.file, self.source = file, source
        self.opened = contextlib.ExitStack()
        self.members: dict[str, tifffile.TiffFile] = {}
        self.errors: list[str] = []
        self.tables: Tables | None = None
        self.chain: list[int] = []
        self.problem = ""  # of the chain
        self.open_chain = False  # its end was never written

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
        if tif.is_scanimage and not tif.is_bigtiff:  # tifffile guesses where its pages are, and leaves out the last
            tif.filehandle.seek(4)
            tif.pages = tifffile.TiffPages(tif)
        if not tif.pages:
            raise FormatError(f"{file} contains no image: its header points to no page")
        self.chain, problem = check_chain(tif, file)
        if problem and file.path != self.file.path:
            raise FormatError(f"{file}: {problem}")
        self.problem = problem
        return tif

    def member(self, file: File) -> tifffile.TiffFile:
        if file.path not in self.members:
            self.members[file.path] = self.tiff(file)
        return self.members[file.path]

    def warn(self, text: str) -> None:
        warn(f"{self.file}: {text}")

    def scenes(self) -> list[TiffScene]:
        with listening() as self.errors:
            if self.is_companion():
                document = parse_ome(_text(self.file))
                scenes = self.assembled(document, None)
            else:
                tif = self.tiff(self.file, self.source)
                chain = self.chain
                scenes = self.of_tiff(tif, chain)
                if len(scenes) == 1 and len(scenes[0].levels) == len(chain) == 1:
                    self.tables = tables_of(tif.pages.first, scenes[0].levels[0])
        self.judge()
        if not scenes:
            raise FormatError(f"{self.file} contains no image")
        return scenes

    def judge(self) -> None:
        """Refuse the file if tifffile met damage that changes pixels; warn about metadata that it could not read."""
        for error in dict.fromkeys(self.errors):
            if _is_vital(error) and not self.open_chain:
                raise FormatError(f"{self.file} is truncated or damaged: {error.split('>', 1)[-1].strip()}")
            if "missing files" in error:
                self.warn(error.split(">", 1)[-1].strip())
            elif name := metadata_name(error):
                self.warn(f"the tag {name} cannot be read and is left out: {error.split('>', 1)[-1].strip()}")

    def of_tiff(self, tif: tifffile.TiffFile, chain: list[int]) -> list[TiffScene]:
        """Return the scenes of a file; `chain` has the offsets of its pages."""
        if unfinished_run(tif):
            return self.interrupted(tif, len(chain))
        if self.problem:
            return self.cut_off(tif, whole_pages(tif, len(chain)))
        try:
            document = self.document(tif)
        except FormatError as exc:
            self.warn(f"its OME-XML cannot be read and is left out ({exc}); the pages are taken as they are")
            return self.plain(tif, range(len(tif.pages)))
        if document is not None:
            return self.of_ome(tif, document, chain)
        if scenes := self.of_count(tif, len(chain)):
            return scenes
        before = len(self.errors)
        scenes = self.of_series(tif, None, chain)
        if any("shaped series" in e for e in self.errors[before:]):  # a further page has no description
            return self.of_counts(tif, len(chain))
        return scenes

    def of_ome(self, tif: tifffile.TiffFile, document: OmeDocument, chain: list[int]) -> list[TiffScene]:
        if document.metadata_file:
            found = self.companion(document.metadata_file)
            if found is None:
                return self.plain(tif, range(len(tif.pages)))
            document = found
        elif is_absurd(document, len(tif.pages)):
            self.warn("its OME-XML states an impossible number of planes: it is ignored, the pages are read")
            return self.plain(tif, range(len(tif.pages)))
        as_colours = coloured(document, tif.pages.first)  # tifffile would take the colours of a page for planes
        if as_colours is document and document.is_simple(self.file.name) and not document.is_long(len(tif.pages)):
            scenes = self.of_series(tif, document, chain)
            if scenes or not document.images:
                return scenes
            self.errors[:] = [e for e in self.errors if "OME series" not in e]  # tifffile is less tolerant
        return self.assembled(as_colours, tif, chain)

    def of_series(self, tif: tifffile.TiffFile, document: OmeDocument | None, chain: list[int]) -> list[TiffScene]:
        """Return the scenes that tifffile finds; none if it does not understand the images of `document`."""
        if self.file.local:
            missing = []
            for name in _members(tif):  # each is checked before the next is asked for: an index names further files
                other = self.file.sibling(name)
                if other.exists():
                    other.check()
                else:
                    missing.append(name)
            if missing:
                self.warn(f"{len(missing)} files of its set are missing ({missing[0]!r}): its own pages are read")
                return self.plain(tif, range(len(tif.pages)))
            tif._multifile = tif.is_mmstack  # the files of other sets are opened here, not by tifffile
        try:
            series = found_series(tif)
        except (AttributeError, LookupError, TypeError, ValueError) as exc:
            if document:
                return []
            self.warn(f"its description cannot be used ({type(exc).__name__}: {exc}): the pages are read as they are")
            return self.plain(tif, range(len(tif.pages)))
        if document and document.images and not any(s.kind == "ome" for s, _ in series):
            return []
        kept = [pair for pair in series if not (pair[0].kind == "lsm" and pair[0].keyframe.is_reduced)]  # thumbnails
        kept, further = pyramids(full_first(kept) if kept and kept[0][0].kind in ("generic", "uniform") else kept)
        omes = matched([s for s, _ in kept], document.images) if document else [None] * len(kept)
        if document and (lost := [im.name for im in document.images if not any(im is own for own in omes)]):
            self.warn(no_planes(lost))
        record = record_of(tif.pages.first)
        scenes, seen = [], set()
        for n, ((one, axes), ome) in enumerate(zip(kept, omes, strict=True)):
            stored = [self.whole(stored_series(level, self.file)) for level in [*one.levels, *further[n]]]
            seen |= {p.offset for level in stored for p in level.pages if p is not None}
            name = one.name.strip() or str(n)
            page = one.keyframe
            stored = squeezed(stored, axes + ("C" if ome and one_named(ome) else ""))
            own = record if page is tif.pages.first or n == 0 else None
            scenes.append(self.scene(tif, name, stored, one.kind, page, ome, document, own))
        if kept and kept[0][0].kind in ("ome", "mmstack"):
            scenes += self.left_over(tif, [k for k, offset in enumerate(chain) if offset not in seen])
        return scenes

    def whole(self, stored: StoredPages) -> StoredPages:
        """Return an array whose axes count the pages there are: a vendor's header may count others."""
        key, pages = stored.keyframe, len(stored.pages)
        need = math.prod(stored.shape) // max(math.prod(key.shape), 1)
        if stored.offset is not None or need == pages or stored.shape[-len(key.shape) :] != tuple(key.shape):
            return stored
        own = len(stored.shape) - len(key.shape)
        axes, shape = shortened(stored.axes[:own], stored.shape[:own], pages)
        self.warn(f"its header counts {need} planes, the file contains {pages}: these are read")
        return replace(stored, axes=axes + stored.axes[own:], shape=shape + tuple(key.shape))

    def scene(
        self,
        tif: tifffile.TiffFile,
        name: str,
        stored: list[StoredPages],
        kind: str,
        page: tifffile.TiffPage,
        ome: OmeImage | None,
        document: OmeDocument | None,
        record: Any,
    ) -> TiffScene:
        if missing := sum(p is None or tuple(p.dataoffsets) == (0,) for p in stored[0].pages):
            self.warn(f"{missing} of {len(stored[0].pages)} planes of {name!r} are missing; they read as {page.nodata}")
        for level in stored:
            check_tags(level.keyframe, self.file)
        dialect, more = (None, {}) if ome is not None else self.vendor(View(tif, kind, stored[0]))
        stored = [led(level, dialect.lead if dialect else None) for level in stored]
        levels = [layout_of(level, self.source, self.file) for level in stored]
        axes = axis_names(stored[0].axes)
        facts = ome_facts(ome) if ome is not None else dialect
        if facts is None:
            facts = facts_of(tif, kind, axes, levels[0].shape, page, page is tif.pages.first)
        if "S" in stored[0].axes and "s" not in axes:
            names = samples_named(levels[0].shape[axes.index("c")], page)
            facts = replace(facts, channels=names, channel_attrs={})
        header = header_of(tif, kind, page, document.text if document and ome is not None else None) | more
        channels = levels[0].shape[axes.index("c")] if "c" in axes else 1
        return TiffScene(
            name,
            axes,
            levels,
            facts,
            header,
            record,
            None if ome is None else ome.place,
            palette_attrs(palette_of(page, channels)),
        )

    def vendor(self, view: View) -> tuple[TiffFacts | None, dict[str, Any]]:
        """Return the facts and the header of a vendor's dialect; damaged ones are left out with a warning."""
        try:
            return vendor_facts(view), vendor_header(view)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            OSError,
            SyntaxError,
            TypeError,
            ValueError,
            struct.error,
        ) as exc:
            self.warn(f"its metadata of the vendor cannot be read and are left out ({type(exc).__name__}: {exc})")
            return None, {}

    # descriptions that count other planes than there are

    def of_count(self, tif: tifffile.TiffFile, pages: int) -> list[TiffScene]:
        """Return the scenes of a file whose first page counts other planes than there are; none if it counts right."""
        count = counted(tif, tif.pages.first)
        if count is None or (need := math.prod(count.shape)) == pages or (count.kind == "shaped" and need < pages):
            return []
        held, piece = planes_held(tif, tif.pages.first, need, pages)
        if held < 1 or (piece and held == need and pages == 1):
            return []
        self.open_chain = piece and held < need  # the further pages of such stacks contain no pixels
        return self.of_counts(tif, pages)

    def of_counts(self, tif: tifffile.TiffFile, pages: int) -> list[TiffScene]:
        """Return the stacks that descriptions of pages count, as far as there are planes, and the pages left over."""
        scenes: list[TiffScene] = []
        number, record = 0, record_of(tif.pages.first)
        while number < pages:
            page: Any = tif.pages.get(number) if number else tif.pages.first
            count = counted(tif, page)
            if count is None:
                break
            need = math.prod(count.shape)
            held, piece = planes_held(tif, page, need, pages - number) if need != pages - number else (need, False)
            stored = stack_of(tif, page, count, min(held, need), piece)
            if (planes := math.prod(stored.shape) // math.prod(page.shape)) < need:
                self.warn(f"its description counts {count}, the file contains {planes}: these are read")
            own = record if not number and planes == need else None
            name = str(len(scenes))
            scenes.append(self.scene(tif, name, squeezed([stored], _longer(stored)), count.kind, page, None, None, own))
            number = self.after(tif, number, stored, page, pages)
        return scenes + self.left_over(tif, range(number, pages))

    def after(self, tif: tifffile.TiffFile, number: int, stored: StoredPages, page: Any, pages: int) -> int:
        """Return the number of the first page whose pixels are not in the stack that begins at page `number`."""
        if stored.offset is None:
            return number + len(stored.pages)
        end = stored.offset + math.prod(stored.shape) * page.dtype.itemsize
        number += 1
        while number < pages and stored.offset <= tif.pages.get(number).dataoffsets[0] < end:
            number += 1
        return number

    def left_over(self, tif: tifffile.TiffFile, numbers: Sequence[int]) -> list[TiffScene]:
        """Return pages that no description accounts for, as further scenes."""
        if not numbers:
            return []
        scenes = self.plain(tif, numbers, "pages {0} to {1}")
        names = ", ".join(repr(scene.name) for scene in scenes)
        self.warn(
            f"its description counts fewer pages than there are: {len(numbers)} further pages are the scenes {names}"
        )
        return scenes

    def plain(self, tif: tifffile.TiffFile, numbers: Iterable[int], name: str = "") -> list[TiffScene]:
        """Return pages without what a description says of them."""
        scenes = []
        for k, (found, stored) in enumerate(plain_pages(tif, numbers)):
            title = name.format(found[0], found[-1]) if len(found) > 1 else f"page {found[0]}"
            title = title if name else str(k)
            scenes.append(self.scene(tif, title, [stored], "generic", stored.keyframe, None, None, None))
        return scenes

    def interrupted(self, tif: tifffile.TiffFile, pages: int) -> list[TiffScene]:
        """Return the scene of a stack of Micro-Manager that was not finished."""
        self.open_chain = True
        pages = whole_pages(tif, pages)
        self.warn(f"the run of Micro-Manager that wrote it was interrupted: {pages} planes are read")
        stored = interrupted(tif, pages)
        if stored is None:
            return self.plain(tif, range(pages))
        (stored,) = squeezed([stored], _longer(stored))
        return [self.scene(tif, "0", [stored], "mmstack", stored.keyframe, None, None, None)]

    def cut_off(self, tif: tifffile.TiffFile, pages: int) -> list[TiffScene]:
        """Return the scenes of a file that was cut off after this many pages, as far as its description fits them."""
        if pages < 1:
            raise FormatError(f"{self.file}: {self.problem}")
        self.open_chain = True
        self.warn(f"{self.problem}: it was cut off or is damaged, {pages} pages are read")
        with contextlib.suppress(FormatError):
            document = self.document(tif)
            if document is not None and not document.metadata_file and pages == len(tif.pages):
                return self.assembled(coloured(document, tif.pages.first), tif)
        return self.of_counts(tif, pages) if counted(tif, tif.pages.first) else self.plain(tif, range(pages))

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

    def companion(self, name: str) -> OmeDocument | None:
        """Return the document of a set that another file has; None, with a warning, if it is missing or damaged."""
        file = self.file.sibling(name)
        if not file.exists():
            self.warn(f"it is part of a set that {name} describes, which is missing: the pages are read as they are")
            return None
        tiff = file.head(4)[:2] in (b"II", b"MM")
        try:
            document = self.document(self.member(file)) if tiff else parse_ome(_text(file))
            if document is not None and document.images:
                return document
            problem = "it contains no OME-XML of images"
        except FormatError as exc:
            problem = str(exc)
        self.warn(f"{name}, which describes it, cannot be used ({problem}): the pages are read as they are")
        return None

    def assembled(
        self, document: OmeDocument, tif: tifffile.TiffFile | None, chain: Sequence[int] = ()
    ) -> list[TiffScene]:
        """Return the images of a document, with planes from the files that it names."""
        scenes, seen = [], set()
        for n, (ome, whole) in enumerate(assembled(document, self.file, tif, self.member)):
            stored = squeezed([whole], _longer(whole) + ("C" if one_named(ome) else ""))
            seen |= {page.offset for page in whole.pages if page is not None and page.parent is tif}
            key = whole.keyframe
            name = ome.name.strip() or str(n)
            scenes.append(self.scene(key.parent, name, stored, "ome", key, ome, document, None))
        if tif is None:
            return scenes
        return scenes + self.left_over(tif, [k for k, offset in enumerate(chain) if offset not in seen])


def _longer(stored: StoredPages) -> str:
    """Axes that are kept: y, x and those longer than 1."""
    return "".join(a for a, n in zip(stored.axes, stored.shape, strict=True) if n > 1 or a in "YX")


def _members(tif: tifffile.TiffFile) -> Iterator[str]:
    """Yield the names of the files that tifffile opens itself to make a series (Micro-Manager)."""
    import tifffile

    folder = tif.filehandle.dirname
    if tif.is_mmstack:
        yield from fnmatch.filter(os.listdir(folder), "*_MMStack*.tif")
    elif tif.is_ndtiff or (tif.micromanager_metadata or {}).get("MajorVersion", 0) > 1:
        index = os.path.join(folder, "NDTiff.index")
        yield "NDTiff.index"
        if os.path.exists(index):
            yield from dict.fromkeys(row[1] for row in tifffile.read_ndtiff_index(index))


def _is_vital(error: str) -> bool:
    """True for what tifffile logs of damage that changes pixels."""
    if found := re.search(r"TiffTag (\d+) @", error):
        return int(found[1]) in VITAL
    # byte counts and offsets are judged by the layout; series that fail are put together here
    harmless = ("read_tags", "ByteCounts", "incorrect StripOffsets count", " series ")
    return not error.startswith("invalid data type") and not any(text in error for text in harmless)


def _text(file: File) -> str:
    return file.read().decode("utf-8", "replace")
