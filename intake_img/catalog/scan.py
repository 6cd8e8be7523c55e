"""What images a folder holds: files and stores one by one, or, where their names tell, together as one image.

Names decide which files belong together, headers decide whether they can: all that do not fit stay single.
"""

from __future__ import annotations

import bisect
import contextlib
import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from intake_img.catalog.entry_names import unique_names
from intake_img.catalog.facts import facts_of, sentence
from intake_img.catalog.numbering import kind, literal, numbered, pattern_of, plain_name, series_of
from intake_img.catalog.plates import plates_in, without
from intake_img.catalog.unused import Unused
from intake_img.collections.file_names import natural_key, parse_member, split_extension
from intake_img.collections.listing import Column, Listing
from intake_img.collections.patterns import Pattern
from intake_img.collections.sequence import FilePatternSource, SequenceSource
from intake_img.errors import FormatError, IntakeImgError
from intake_img.formats.foreign import unsupported
from intake_img.formats.registry import find_format, is_image_folder, known_extensions
from intake_img.formats.source import ImageSource
from intake_img.model.text import escaped, printable
from intake_img.model.typed import Uri
from intake_img.storage.files import File
from intake_img.storage.jail import Jail, special
from intake_img.storage.journal import COMMITS, current_names, located

__all__ = ["Scan", "scan"]

_CHECKED = 8  # headers of a series that are read


@dataclass(frozen=True)
class Scan(Mapping[str, ImageSource]):
    """What `scan` found: sources by name, and what could not be read.

    Attributes
    ----------
    folder : str
    sources : dict of str to ImageSource
        In natural order of their paths.
    skipped : dict of str to str
        For each path that looks like an image and is left out, why: damaged, special and unreachable files, and
        formats that no driver reads.
    others : dict of str to str
        For each other file, why it is no image: by its name, or by its bytes if the name has no extension. Files whose
        name begins with a dot are not counted, nor are those inside of an image that is a folder.
    notes : dict of str to str
        For each path, what else was seen: the index of a plate, which cannot be read.
    """

    folder: str
    sources: dict[str, ImageSource]
    skipped: dict[str, str]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    notes: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> ImageSource:
        return self.sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        rows = [f"  {n}: {printable(s.description)}" for n, s in self.sources.items()]
        rows += [f"  {row}" for row in self.unused.rows()]
        rows += [f"  note {escaped(p)}: {printable(what)}" for p, what in self.notes.items()]
        more = [f"  … and {len(rows) - 40} more"] if len(rows) > 40 else []
        unused = f"{len(self.skipped)} skipped, {len(self.others)} other files"
        head = f"<scan of {escaped(self.folder)}: {len(self.sources)} images, {unused}>"
        return "\n".join([head, *rows[:40], *more])

    @property
    def unused(self) -> Unused:
        """`skipped` and `others` together."""
        return Unused(self.skipped, self.others)


def scan(
    folder: Uri, *, recursive: bool = True, exclude: Iterable[str] = (), progress: Callable[[str], None] | None = None
) -> Scan:
    """Find the images in a folder.

    Parts that ``imsave(..., partition=)`` wrote and numbered series (``a_t001.tif``, ``a_t002.tif``, also in numbered
    folders: ``pos_1/t_01.tif``, ``pos_2/t_01.tif``) become one image each, if their grid is complete and their headers
    agree. Of each image the header is read, of a series some of them; no pixels. A plate with an index is one image.

    Parameters
    ----------
    folder : str or os.PathLike
        A local folder.
    recursive : bool
        Look into the folders below. Hidden ones, and symbolic links to folders, are left out.
    exclude : sequence of str
        Paths relative to `folder` that are left out; ``*`` matches anything, as in ``"old/*"``.
    progress : callable, optional
        To be called with each path that is looked at.

    Returns
    -------
    Scan
        A mapping of names to sources; `write_catalog` makes a catalog of it.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> folder = tempfile.mkdtemp()
    >>> for t in range(3):
    ...     np.save(os.path.join(folder, f"cells_t{t}.npy"), np.zeros((4, 5), "uint8"))
    >>> scan(folder)["cells"].description
    '3 files: t 3, y 4, x 5, uint8'
    """
    root = File.parse(folder)
    if not root.local or not os.path.isdir(root.path):
        raise NotADirectoryError(f"{folder} is no local folder: expected one that holds images")
    unused = Unused()
    found: list[tuple[str, ImageSource, dict[str, Any]]] = []
    places = list(_folders(root.path, recursive, list(exclude), unused))
    jail = Jail((os.path.realpath(root.path),))  # as when the catalog is opened
    plates = plates_in(places, root.path, jail)
    found += plates.images
    places = [replace(p, names=without(p.names, p.path, plates.taken)) for p in places]
    across = _Across(places, root.path, unused, progress, jail)
    found += across.images()
    for place in across.rest():
        found += _Folder(place, unused, progress, jail).images()
    found.sort(key=lambda f: natural_key(os.path.relpath(f[0], root.path)))
    names = unique_names([os.path.relpath(path, root.path) for path, _, _ in found])
    sources: dict[str, ImageSource] = {}
    for name, (_, source, facts) in zip(names, found, strict=True):
        source.name, source.description = name, sentence(facts)  # type: ignore[misc]
        sources[name] = source
    told = unused.told([path for path, _, _ in found], [source.uri for _, source, _ in plates.images])
    facts_by_name = {n: f[2] for n, f in zip(names, found, strict=True)}
    return Scan(root.path, sources, told.skipped, facts_by_name, plates.notes, told.others)


@dataclass(frozen=True)
class _Place:
    """A folder and what in it may be images."""

    path: str
    names: tuple[str, ...]
    everything: frozenset[str]


def _folders(root: str, recursive: bool, exclude: Sequence[str], unused: Unused) -> Iterator[_Place]:
    known = tuple(known_extensions())
    waiting = [root]
    while waiting:
        at = waiting.pop(0)
        names, below, everything = [], [], set()
        try:
            listed = sorted(_entries(at), key=lambda e: natural_key(e.name))
        except OSError as exc:
            unused.skipped[at] = exc.strerror or str(exc)
            continue
        for entry in listed:
            if exclude and _excluded(os.path.relpath(os.path.join(at, entry.name), root), exclude):
                continue
            everything.add(entry.name)
            if entry.name.startswith("."):
                if entry.name.endswith(".partial"):
                    unused.skipped[entry.path] = (
                        "a write was interrupted here: save it again with resume=True or overwrite=True"
                    )
                continue
            kind = _kind(entry, root, known, unused)
            if kind == "folder":
                below.append(entry.path)
            elif kind == "image":
                names.append(entry.name)
        yield _Place(at, tuple(names), frozenset(everything))
        if recursive:
            waiting += below


def _excluded(relative: str, exclude: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(relative, pattern) for pattern in exclude)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """List a folder; during a commit the new files, wherever they are, and not those that it supersedes."""
    with os.scandir(folder) as entries:
        here = {e.name: e for e in entries}
    if COMMITS not in here:
        return list(here.values())
    base = File(folder)
    names = current_names(base, list(here))
    places = located([os.path.join(folder, n) for n in names], base)
    staged: dict[str, os.DirEntry[str]] = {}
    for place in {os.path.dirname(p) for p in places} - {folder}:
        with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
            staged |= {e.path: e for e in entries}
    found = [staged.get(p) or here.get(n) for n, p in zip(names, places, strict=True)]
    return [entry for entry in found if entry is not None]


def _kind(entry: os.DirEntry[str], root: str, known: tuple[str, ...], unused: Unused) -> str:
    """Return whether an entry of a folder is an "image" by its name, a "folder" to look into, or neither ("")."""
    lower = entry.name.lower()
    named = lower.endswith(known) or "." not in entry.name
    if (fault := _no_file(entry, named)) is not None:
        if fault:
            unused.skipped[entry.path] = fault
        return ""
    if entry.is_symlink():
        real = os.path.realpath(entry.path)
        if not real.startswith(os.path.realpath(root).rstrip(os.sep) + os.sep):
            if named:
                unused.skipped[entry.path] = f"a symbolic link out of the folder, to {real}"
            return ""
        if os.path.isdir(real) and not is_image_folder(File(entry.path)):
            return ""  # what it leads to is found where it is
    if entry.is_dir():
        return "image" if is_image_folder(File(entry.path)) else "folder"
    if (what := unsupported(entry.name, known)) is not None:
        unused.skipped[entry.path] = f"{what}: no driver reads it"
    elif not named:
        unused.other(entry.path)
    return "image" if named else ""


def _no_file(entry: os.DirEntry[str], named: bool) -> str | None:
    """Return why an entry is neither a file nor a folder, None if it is one; "" if nobody takes it for an image."""
    try:
        if entry.is_file() or entry.is_dir():
            return None
        return f"{special(entry.stat().st_mode)}, not a regular file"
    except OSError as exc:  # a link to nothing, or to itself
        leads = f"a symbolic link that leads nowhere: {exc.strerror}"
        return leads if named or entry.is_symlink() else ""


class _Folder:
    """The images of one folder: parts, then series, then single files."""

    def __init__(self, place: _Place, unused: Unused, progress: Callable[[str], None] | None, jail: Jail) -> None:
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
            except Exception as exc:  # whatever one file does, the others are found
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
        """Return the facts of a source, or None if it cannot be read; for a `path`, note why."""
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
        """Return stem and extension of the image of which a file is a part by its name, or None."""
        stem, extension = self.split(name)
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
                if {os.path.basename(p) for p in listing.paths} == set(members) and self.alike(members):
                    place = os.path.join(literal(self.place.path), name)
                    source = FilePatternSource(File(place, jail=self.jail), **options)
                    source.__dict__["found"] = [replace(listing, paths=located(listing.paths, source.file))]
                    yield plain_name(name), source, set(members)

    def matched(self, name: str) -> Listing:
        """Return what a pattern finds in this folder."""
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

    def split(self, name: str) -> tuple[str, str]:
        return split_extension(name, self.extensions)

    def alike(self, members: Sequence[str]) -> bool:
        """True if the headers of some of the files, the first and the last among them, describe like images."""
        step = max(1, (len(members) - 1) // (_CHECKED - 1))
        seen = set()
        for name in {*members[::step], members[-1]}:
            source: ImageSource | None = None
            try:
                source = self.single(os.path.join(self.place.path, name))
                image = source.image()
            except Exception:  # as above: then all are looked at one by one, and this one is reported
                return False
            finally:
                if source is not None:
                    source.close()
            if len(image.scenes) > 1:
                return False
            seen.add(tuple((n, v.axes, v.pixels.shape, v.pixels.dtype.str) for n, v in image.variables.items()))
        return len(seen) == 1


class _Across:
    """Series whose files lie in several folders of one kind: ``pos_1/t_01.tif``, ``pos_2/t_01.tif``."""

    def __init__(
        self,
        places: Sequence[_Place],
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
        self.tools = _Folder(_Place(root, (), frozenset()), unused, progress, jail)
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
        """Give the series that files with names of one kind make: of all, or else of those that share a folder."""
        if len({name.rpartition("/")[0] for name in members}) < 2:
            return  # that is for the folder alone to see
        made = pattern_of([self.tools.split(n) for n in members])
        if made is not None and not made[1] and self.tools.alike(members):
            source = FilePatternSource(File(f"{literal(self.root)}/{made[0]}", jail=self.jail))
            if self.finds(source, members):
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

    def rest(self) -> Iterator[_Place]:
        """Give the folders without the files that are taken."""
        for place in self.places:
            at = os.path.relpath(place.path, self.root)
            kept = [n for n in place.names if (n if at == "." else f"{at}/{n}") not in self.taken]
            yield replace(place, names=tuple(kept))


def _reason(exc: BaseException, path: str) -> str:
    text = " ".join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, OSError) and exc.strerror:
        text = exc.strerror
    if not text.startswith(f"{path}/"):  # a file in it has its own name
        text = text.removeprefix(path).removeprefix(":").strip()
    return text if len(text) <= 200 else text[:199] + "…"
