"""The folders that a scan looks into, and what in them may be images by its name."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intake_img.catalog.unused import Unused
from intake_img.collections.file_names import natural_sorted
from intake_img.formats.foreign import unsupported
from intake_img.formats.registry import is_image_folder, known_extensions
from intake_img.storage.files import File
from intake_img.storage.jail import special
from intake_img.storage.journal import COMMITS, current_names, located

__all__ = ["FOLDERS", "ScannedFolder", "Stamp", "is_excluded", "places_in", "stamps_in"]

Stamp = tuple[Any, ...]
FOLDERS: tuple[Stamp, Stamp] = (("folder",), ("link to folder",))
"""What folders and links to them look like: what is in them is looked at by itself."""


@dataclass(frozen=True)
class ScannedFolder:
    """A folder, and what in it may be images.

    Attributes
    ----------
    names : tuple of str
        Of what may be images.
    everything : frozenset of str
    stamps : mapping of str to tuple
        What each entry looks like, if that is asked for; see `stamp_of`.
    """

    path: str
    names: tuple[str, ...]
    everything: frozenset[str]
    stamps: Mapping[str, Stamp] = field(default_factory=dict)


def stamp_of(entry: os.DirEntry[str]) -> Stamp:
    """Return what changes when a file is: time, size and inode; of a folder that it is one; nothing if it is gone."""
    try:
        if entry.is_dir():
            return FOLDERS[entry.is_symlink()]
        found = entry.stat()
    except OSError:  # a link to nothing, or to itself
        return ("link", os.readlink(entry.path)) if entry.is_symlink() else ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _stamps(entries: Iterable[os.DirEntry[str]]) -> dict[str, Stamp]:
    """Return `stamp_of` all entries of a folder, with one call of Python less for each."""
    found: dict[str, Stamp] = {}
    for entry in entries:
        try:
            if not entry.is_dir():
                seen = entry.stat()
                found[entry.name] = seen.st_mtime_ns, seen.st_size, seen.st_ino
                continue
        except OSError:
            pass
        found[entry.name] = stamp_of(entry)
    return found


def stamps_in(
    root: str, stores: Collection[str], recursive: bool, exclude: Sequence[str]
) -> dict[str, dict[str, Stamp]] | None:
    """Return what `places_in` would say of all entries, for each folder, where it is known which are `stores`.

    None if a folder cannot be read, or a write into it is under way.
    """
    found: dict[str, dict[str, Stamp]] = {}
    excluded = is_excluded(exclude)
    waiting = [root]
    while waiting:
        at = waiting.pop()
        try:
            with os.scandir(at) as entries:
                here = _stamps(entries)
        except OSError:
            return None
        if exclude:
            above = os.path.join(at, "")[len(os.path.join(root, "")) :]
            here = {n: s for n, s in here.items() if not excluded(above + n)}
        if COMMITS in here:
            return None
        found[at] = here
        if recursive:
            below = [os.path.join(at, n) for n, s in here.items() if s == FOLDERS[0] and n[:1] != "."]
            waiting += [path for path in below if path not in stores]
    return found


def places_in(
    root: str, recursive: bool, exclude: Sequence[str], unused: Unused, stamped: bool = False
) -> Iterator[ScannedFolder]:
    """Look into the folders of a tree.

    Parameters
    ----------
    root : str
    recursive : bool
        Also look into the folders below, except hidden folders, links, and folders that are images.
    exclude : sequence of str
        Patterns of paths relative to `root`.
    unused : Unused
        Receives the paths that cannot be read, and those whose name is not that of an image.
    stamped : bool
        Also say what each entry looks like now.
    """
    known = tuple(known_extensions())
    excluded = is_excluded(exclude)
    waiting = [root]
    while waiting:
        at = waiting.pop(0)
        names, below, everything = [], [], set()
        stamps: dict[str, Stamp] = {}
        try:
            here = {e.name: e for e in _entries(at)}
        except OSError as exc:
            unused.skipped[at] = exc.strerror or str(exc)
            continue
        for entry in map(here.__getitem__, natural_sorted(here)):
            if exclude and excluded(os.path.relpath(os.path.join(at, entry.name), root)):
                continue
            everything.add(entry.name)
            if stamped:
                stamps[entry.name] = stamp_of(entry)
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
        yield ScannedFolder(at, tuple(names), frozenset(everything), stamps)
        if recursive:
            waiting += below


def is_excluded(exclude: Sequence[str]) -> Callable[[str], bool]:
    """Return a test of paths relative to the folder."""
    pattern = re.compile("|".join(map(fnmatch.translate, exclude)) if exclude else r"(?!)")
    return lambda relative: pattern.match(relative) is not None


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """List a folder; during a commit with the new files, wherever they are, and without superseded files."""
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
    """Return whether an entry of a folder is an "image" by its name, a "folder" to search, or neither ("")."""
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
            return ""  # the target of the link is found at its own path
    if entry.is_dir():
        return "image" if is_image_folder(File(entry.path)) else "folder"
    if (what := unsupported(entry.name, known)) is not None:
        unused.skipped[entry.path] = f"{what}: no driver reads it"
    elif not named:
        unused.other(entry.path)
    return "image" if named else ""


def _no_file(entry: os.DirEntry[str], named: bool) -> str | None:
    """Return why an entry is neither a file nor a folder, None if it is one; "" if it does not look like an image."""
    try:
        if entry.is_file() or entry.is_dir():
            return None
        return f"{special(entry.stat().st_mode)}, not a regular file"
    except OSError as exc:  # a broken link, or a link to itself
        leads = f"a symbolic link that leads nowhere: {exc.strerror}"
        return leads if named or entry.is_symlink() else ""
