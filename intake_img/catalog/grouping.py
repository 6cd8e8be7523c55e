"""The images of the folders that a scan looks into: files and stores one by one, or, by their names, together as one.

Names suggest which files belong together, headers confirm it: files that do not fit stay single images.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any

from intake_img.catalog.facts import facts_of
from intake_img.catalog.numbering import kind, literal, numbered, pattern_of, plain_name, series_of
from intake_img.catalog.places import ScannedFolder
from intake_img.catalog.unused import Unused
from intake_img.collections.file_names import parse_member, split_extension
from intake_img.collections.listing import Column, Listing
from intake_img.collections.patterns import Pattern
from intake_img.collections.sequence import FilePatternSource, SequenceSource
from intake_img.errors import FormatError, IntakeImgError
from intake_img.formats.registry import find_format, known_extensions
from intake_img.formats.source import ImageSource
from intake_img.storage.files import File
from intake_img.storage.jail import Jail
from intake_img.storage.journal import located

__all__ = ["AcrossFolders", "InFolder"]


class InFolder:
    """The images of one folder: partitioned images, then series, then single files."""

    def __init__(
        self, place: ScannedFolder, unused: Unused, progress: Callable[[str], None] | None, jail: Jail
    ) -> None:
        self.place, self.unused, self.progress, self.jail = place, unused, progress, jail
        self.left = dict.fromkeys(place.names)

    def images(self) -> Iterator[tuple[str, ImageSource, dict[str, Any]]]:
        """Give path, source and facts of each image."""
        for group in (self.parts, self.series):
            for head, source, members in group():
                facts = self.described(source)
                if facts is not None and facts.get("axes"):
                    facts["files"] = len(members)
                    for member in members:
                        del self.left[member]
                    yield os.path.join(self.place.path, head), source, facts
        for name in self.left:
            path = os.path.join(self.place.path, name)
            try:
                name.encode()
                source = self.single(path)
            except UnicodeEncodeError:
                self.unused.skipped[path] = "its name is not UTF-8, a catalog cannot hold it: rename it"
                continue
            except Exception as exc:  # a failure of one file must not hide the others
                if "." in name or not isinstance(exc, FormatError):
                    self.unused.skipped[path] = _reason(exc, path)
                else:
                    self.unused.other(path)
                continue
            facts = self.described(source, path)
            if facts is not None:
                yield path, source, facts

    def single(self, path: str) -> ImageSource:
        file = File(path, jail=self.jail)
        return find_format(file).source(file)

    def described(self, source: ImageSource, path: str | None = None) -> dict[str, Any] | None:
        """Return the facts of a source, or None if it cannot be read; for a `path`, note the reason."""
        if self.progress is not None:
            self.progress(source.uri)
        try:
            return facts_of(source)
        except Exception as exc:  # as above
            if path is not None:
                self.unused.skipped[path] = _reason(exc, path)
            return None
        finally:
            source.close()

    # parts of partitioned images

    def parts(self) -> Iterator[tuple[str, ImageSource, set[str]]]:
        groups: dict[tuple[str, str], set[str]] = {}
        for name in self.left:
            whole = self.head_of(name)
            if whole is not None:
                groups.setdefault(whole, set()).add(name)
        for (head, extension), members in groups.items():
            if len(members) > 1:
                source = FilePatternSource(File(os.path.join(self.place.path, head + extension), jail=self.jail))
                if self.holds(source, members):
                    yield head + extension, source, members

    def head_of(self, name: str) -> tuple[str, str] | None:
        """Return stem and extension of the partitioned image to which a file belongs by its name, or None."""
        stem, extension = self.split(name)
        if "." not in stem:
            return None
        head = re.split(r"\.(?=(?:var|[a-z])_)", stem, maxsplit=1)[0]
        return (head, extension) if head and parse_member(name, head, extension) else None

    def holds(self, source: SequenceSource, members: set[str]) -> bool:
        """True if a source finds exactly these files."""
        try:
            return {os.path.basename(p) for p in source.files} == members
        except (IntakeImgError, OSError):
            return False

    # numbered series

    def series(self) -> Iterator[tuple[str, ImageSource, set[str]]]:
        groups: dict[str, list[str]] = {}
        for name in self.left:
            stem, extension = self.split(name)
            if numbered(stem):
                groups.setdefault(kind(stem) + "\0" + extension, []).append(name)
        for group in groups.values():
            for members, (name, options) in series_of([self.split(n) for n in group], group):
                listing = self.matched(name)
                if {os.path.basename(p) for p in listing.paths} == set(members):
                    place = os.path.join(literal(self.place.path), name)
                    source = FilePatternSource(File(place, jail=self.jail), **options)
                    source.__dict__["found"] = [replace(listing, paths=located(listing.paths, source.file))]
                    if alike(source):
                        yield plain_name(name), source, set(members)

    def matched(self, name: str) -> Listing:
        """Return the source of a pattern in this folder."""
        pattern = Pattern(name)
        start = re.split(r"[{}*?\[]", name, maxsplit=1)[0]
        at = bisect.bisect_left(self.everything, start)
        found: dict[str, dict[str, str]] = {}
        while at < len(self.everything) and self.everything[at].startswith(start):
            fields = pattern.match(self.everything[at])
            if fields is not None:
                found[os.path.join(self.place.path, self.everything[at])] = fields
            at += 1
        columns = {f: Column([row[f] for row in found.values()]) for f in pattern.fields}
        return Listing(list(found), columns)

    @cached_property
    def everything(self) -> list[str]:
        return sorted(self.place.everything)

    @cached_property
    def extensions(self) -> frozenset[str]:
        return known_extensions()

    @cached_property
    def split(self) -> Callable[[str], tuple[str, str]]:
        """Return stem and extension of a name; each name is looked at once."""
        return cache(partial(split_extension, extensions=self.extensions))


class AcrossFolders:
    """Series whose files lie in several similar folders: ``pos_1/t_01.tif``, ``pos_2/t_01.tif``."""

    def __init__(
        self,
        places: Sequence[ScannedFolder],
        root: str,
        unused: Unused,
        progress: Callable[[str], None] | None,
        jail: Jail,
    ) -> None:
        self.places, self.root, self.jail = places, root, jail
        relative = [os.path.relpath(p.path, root) for p in places]
        self.names = [
            name if at == "." else f"{at}/{name}" for at, p in zip(relative, places, strict=True) for name in p.names
        ]
        self.tools = InFolder(ScannedFolder(root, (), frozenset()), unused, progress, jail)
        self.taken: set[str] = set()

    def images(self) -> Iterator[tuple[str, ImageSource, dict[str, Any]]]:
        """Give path, source and facts of each image."""
        groups: dict[str, list[str]] = {}
        for name in self.names:
            stem, extension = self.tools.split(name)
            if "/" in name and numbered(stem) and self.tools.head_of(name.rsplit("/", 1)[1]) is None:
                groups.setdefault(kind(stem) + "\0" + extension, []).append(name)
        for members in groups.values():
            for pattern, source, inside in self.series(members, 0):
                facts = self.tools.described(source)
                if facts is not None and facts.get("axes"):
                    facts["files"] = len(inside)
                    self.taken.update(inside)
                    yield os.path.join(self.root, plain_name(pattern)), source, facts

    def series(self, members: list[str], depth: int) -> Iterator[tuple[str, ImageSource, list[str]]]:
        """Yield the series of files with similar names: of all files, or else of the files of each folder."""
        if len({name.rpartition("/")[0] for name in members}) < 2:
            return  # a series within one folder is found there
        made = pattern_of([self.tools.split(n) for n in members])
        if made is not None and not made[1]:
            source = FilePatternSource(File(f"{literal(self.root)}/{made[0]}", jail=self.jail))
            if self.finds(source, members) and alike(source):
                yield made[0], source, members
                return
        below: dict[str, list[str]] = {}
        for name in members:
            below.setdefault("/".join(name.split("/")[: depth + 1]), []).append(name)
        for some in below.values():
            yield from self.series(some, depth + 1)

    def finds(self, source: SequenceSource, members: Sequence[str]) -> bool:
        """True if a source finds exactly these files."""
        try:
            return set(source.files) == {f"{self.root.rstrip('/')}/{name}" for name in members}
        except (IntakeImgError, OSError):
            return False

    def rest(self) -> Iterator[ScannedFolder]:
        """Yield the folders without the files that are taken."""
        for place in self.places:
            at = os.path.relpath(place.path, self.root)
            kept = [n for n in place.names if (n if at == "." else f"{at}/{n}") not in self.taken]
            yield replace(place, names=tuple(kept))


def _reason(exc: BaseException, path: str) -> str:
    text = " ".join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, OSError) and exc.strerror:
        text = exc.strerror
    if not text.startswith(f"{path}/"):  # a file in it has a name of its own
        text = text.removeprefix(path).removeprefix(":").strip()
    return text if len(text) <= 200 else text[:199] + "…"


def alike(source: SequenceSource) -> bool:
    """True if the headers of some of the files of a series, the first and the last among them, describe like images."""
    try:
        return source.agrees()
    except Exception:  # as above: then all files are opened one by one, and this one is reported
        source.close()
        return False
