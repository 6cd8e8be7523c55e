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

from intake_img.catalog.inspector import Inspector
from intake_img.catalog.numbering import kind, literal, numbered, pattern_of, plain_name, series_of
from intake_img.catalog.places import ScannedFolder
from intake_img.collections.file_names import parse_member, split_extension
from intake_img.collections.listing import Column, Listing
from intake_img.collections.patterns import Pattern
from intake_img.collections.sequence import FilePatternSource, SequenceSource
from intake_img.errors import IntakeImgError
from intake_img.formats.registry import known_extensions
from intake_img.formats.source import ImageSource
from intake_img.storage.journal import COMMITS, located

__all__ = ["AcrossFolders", "Found", "InFolder"]


Found = tuple[str, ImageSource, dict[str, Any]]
"""Path, source and facts of an image."""


class InFolder:
    """The images of one folder that consist of several files; `left` are the names of the others."""

    def __init__(self, place: ScannedFolder, inspector: Inspector) -> None:
        self.place, self.inspector = place, inspector
        self.left = dict.fromkeys(place.names)

    def images(self) -> list[Found]:
        """Return the images that are made of several files."""
        found = []
        for group, compared in ((self.parts, False), (self.series, True)):
            for head, source, members in group():
                facts = self.inspector.group(source, [self.path(name) for name in sorted(members)], compared)
                if facts is None:
                    continue
                for member in members:
                    del self.left[member]
                found.append((self.path(head), source, facts))
        return found

    def path(self, name: str) -> str:
        return os.path.join(self.place.path, name)

    def singles(self) -> list[str]:
        """Return the paths of the files that are in none of the images."""
        return [self.path(name) for name in self.left]

    # parts of partitioned images

    def parts(self) -> Iterator[tuple[str, ImageSource, set[str]]]:
        groups: dict[tuple[str, str], set[str]] = {}
        for name in self.left:
            whole = self.head_of(name)
            if whole is not None:
                groups.setdefault(whole, set()).add(name)
        for (head, extension), members in groups.items():
            if len(members) > 1:
                source = FilePatternSource(self.inspector.file(self.path(head + extension)))
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
                    source = FilePatternSource(self.inspector.file(place), **options)
                    if COMMITS in self.place.everything:
                        listing = replace(listing, paths=located(listing.paths, source.file))
                    source.__dict__["found"] = [listing]
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

    def __init__(self, places: Sequence[ScannedFolder], root: str, inspector: Inspector) -> None:
        self.places, self.root, self.inspector = places, root, inspector
        relative = [os.path.relpath(p.path, root) for p in places]
        self.names = [
            name if at == "." else f"{at}/{name}" for at, p in zip(relative, places, strict=True) for name in p.names
        ]
        self.tools = InFolder(ScannedFolder(root, (), frozenset()), inspector)
        self.taken: set[str] = set()

    def images(self) -> Iterator[Found]:
        """Yield path, source and facts of each image."""
        groups: dict[str, list[str]] = {}
        for name in self.names:
            stem, extension = self.tools.split(name)
            if "/" in name and numbered(stem) and self.tools.head_of(name.rsplit("/", 1)[1]) is None:
                groups.setdefault(kind(stem) + "\0" + extension, []).append(name)
        for members in groups.values():
            for pattern, source, facts, inside in self.series(members, 0):
                self.taken.update(inside)
                yield os.path.join(self.root, plain_name(pattern)), source, facts

    def series(self, members: list[str], depth: int) -> Iterator[tuple[str, ImageSource, dict[str, Any], list[str]]]:
        """Yield the series of files with similar names: of all files, or else of the files of each folder."""
        if len({name.rpartition("/")[0] for name in members}) < 2:
            return  # a series within one folder is found there
        made = pattern_of([self.tools.split(n) for n in members])
        if made is not None and not made[1]:
            source = FilePatternSource(self.inspector.file(f"{literal(self.root)}/{made[0]}"))
            paths = [os.path.join(self.root, name) for name in members]
            if self.finds(source, members) and (facts := self.inspector.group(source, paths, True)) is not None:
                yield made[0], source, facts, members
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
