"""Finding the files of an image: one listing of each folder, and the labels in all names at once.

Names are matched as one text, by one regular expression: a hundred thousand of them take a fraction of a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from intake_img.files import File
from intake_img.names import Pattern, format_labels, natural_key, parse_member, split_extension

__all__ = ["Listing", "find_parts", "find_pattern", "list_folder", "numbered", "parts_of_one"]

_SEPARATOR = "\0"  # the one character that no name holds


@dataclass(frozen=True)
class Listing:
    """Files whose names carry the same fields, as columns.

    Parameters
    ----------
    paths : sequence of str
    labels : mapping of str to sequence of str
        For each field (an axis, or ``var``) the label in each name.
    numbered : bool
        The labels are but numbers in a list.
    values : sequence, optional
        Coordinates of a numbered list.
    """

    paths: Sequence[str]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbered: bool = False
    values: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, places: Sequence[int]) -> Listing:
        """Return the files at the given places."""
        return replace(
            self,
            paths=[self.paths[k] for k in places],
            labels={f: [column[k] for k in places] for f, column in self.labels.items()},
            values=None if self.values is None else [self.values[k] for k in places],
        )

    def by_variable(self) -> dict[str, Listing]:
        """Return a listing for each label of ``var``; one, called ``""``, if there is no such field."""
        if "var" not in self.labels:
            return {"": self}
        places: dict[str, list[int]] = {}
        for k, name in enumerate(self.labels["var"]):
            places.setdefault(name, []).append(k)
        return {name: self.take(ks) for name, ks in places.items()}


def find_parts(target: File, stem: str, extension: str) -> list[Listing]:
    """Return the files beside `target` that are named as parts of it, a listing for each set of fields."""
    folder = target.parent
    prefix = f"{folder.path.rstrip('/')}/"
    names = list_folder(folder)
    candidates = [n for n in names if n.startswith(f"{stem}.")]
    listings: list[Listing] = []
    while True:
        fields = next((list(p) for n in candidates if (p := parse_member(n, stem, extension))), None)
        if fields is None:
            return listings
        middle = "".join(rf"\.{f}_([^.{_SEPARATOR}]*)" for f in fields)
        found = _all_matches(f"({re.escape(stem)}{middle}(?i:{re.escape(extension)}))", candidates)
        columns = list(zip(*found, strict=True))
        labels = dict(zip(fields, columns[1:], strict=True))
        listings.append(Listing([prefix + name for name in columns[0]], labels))
        if len(found) == len(candidates):
            return listings
        seen = set(columns[0])
        candidates = [n for n in candidates if n not in seen]


def find_pattern(pattern: Pattern, storage_options: Mapping[str, Any]) -> Listing:
    """Return the files that fit a pattern; in natural order of their paths if it has no fields."""
    base = File(pattern.fixed or "/", storage_options)
    found = _all_matches(f"({pattern.regex})", _walk(base, pattern.depth))
    if not pattern.fields:
        return Listing(sorted((m if isinstance(m, str) else m[0] for m in found), key=natural_key))
    columns = list(zip(*found, strict=True)) or [()] * (len(pattern.fields) + 1)
    return Listing(list(columns[0]), dict(zip(pattern.fields, columns[1:], strict=True)))


def _all_matches(regex: str, names: Iterable[str]) -> list[Any]:
    text = _SEPARATOR + _SEPARATOR.join(names) + _SEPARATOR
    return re.findall(f"{_SEPARATOR}{regex}(?={_SEPARATOR})", text, re.S)


def find_in_folder(
    folder: File, ext: str | None, recursive: bool, known: Iterable[str], stores: Iterable[str]
) -> Listing:
    """Return the images in a folder, in natural order: those ending in `ext`, or in the known way that most of them do.

    Parameters
    ----------
    folder : File
    ext : str, optional
    recursive : bool
        Look into the folders below as well.
    known : iterable of str
        Extensions of image formats.
    stores : iterable of str
        Those of them that are folders themselves.
    """
    known = set(known)
    by_extension: dict[str, list[str]] = {"": []}
    wanted = f".{ext.lower().lstrip('.')}" if ext is not None else None
    for path in _walk(folder, None if recursive else 0, tuple(stores)):
        name = path.rsplit("/", 1)[-1]
        extension = split_extension(name, known)[1].lower()
        if wanted is None and not name.startswith(".") and extension in known:
            by_extension.setdefault(extension, []).append(path)
        elif wanted is not None and path.lower().endswith(wanted):
            by_extension.setdefault(wanted, []).append(path)
    most = max(by_extension, key=lambda extension: len(by_extension[extension]))
    return Listing(sorted(by_extension[most], key=natural_key))


def numbered(listing: Listing, axis: str, values: Sequence[Any] | None = None) -> Listing:
    """Give files without labels their number along `axis`; along ``i`` their names become the coordinate."""
    if listing.labels or not len(listing):
        return listing
    if values is None and axis == "i":
        values = _shortest([p.split("/") for p in listing.paths])
    return replace(listing, labels={axis: format_labels(range(len(listing)))}, numbered=True, values=values)


def _shortest(paths: Sequence[list[str]]) -> list[str]:
    """Return paths without the folders that all of them share."""
    first, last = min(paths)[:-1], max(paths)[:-1]  # what these two share, all share
    shared = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return ["/".join(p[shared:]) for p in paths]


def parts_of_one(listing: Listing, known: Iterable[str]) -> Listing | None:
    """Give the files of a folder the labels in their names, if all are parts of one image; else return None."""
    heads: set[tuple[str, str]] = set()
    rows: list[dict[str, str]] = []
    known = set(known)
    for path in listing.paths:
        folder, _, name = path.rpartition("/")
        stem, extension = split_extension(name, known)
        head = re.split(r"\.(?=(?:var|[a-z])_)", stem, maxsplit=1)[0]
        labels = parse_member(name, head, extension)
        heads.add((folder, head))
        if labels is None or len(heads) > 1 or (rows and labels.keys() != rows[0].keys()):
            return None
        rows.append(labels)
    return replace(listing, labels={f: [row[f] for row in rows] for f in rows[0]}) if rows else None


def list_folder(folder: File) -> list[str]:
    """Return the names in a folder; none if there is no such folder."""
    try:
        if folder.local:
            return os.listdir(folder.path)
        fs, path = folder.filesystem()
        return [str(p).rstrip("/").rsplit("/", 1)[-1] for p in fs.ls(path, detail=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _walk(folder: File, depth: int | None, stores: tuple[str, ...] = (".zarr",)) -> list[str]:
    """Return the paths below a folder, `depth` folders down, or, for None, all files and stores at any depth."""
    if not folder.local:
        return _walk_remote(folder, depth)
    found: list[str] = []
    folders = [(folder.path.rstrip("/"), 0)]
    while folders:
        at, level = folders.pop()
        try:
            entries = os.scandir(at or "/")
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"there is no folder {at}") from None
        with entries:
            if level == depth:
                found.extend(f"{at}/{e.name}" for e in entries)
                continue
            for entry in entries:
                if not entry.is_dir() or entry.name.lower().endswith(stores):
                    if depth is None:
                        found.append(f"{at}/{entry.name}")
                elif not entry.name.startswith("."):
                    folders.append((f"{at}/{entry.name}", level + 1))
    return found


def _walk_remote(folder: File, depth: int | None) -> list[str]:
    fs, path = folder.filesystem()
    path = path.rstrip("/")
    if depth == 0:
        inside: Iterable[str] = fs.ls(path, detail=False)
    else:
        inside = fs.find(path, maxdepth=None if depth is None else depth + 1, withdirs=depth is not None)
    below: Callable[[str], str] = lambda p: str(p).rstrip("/")[len(path) :].lstrip("/")  # noqa: E731
    relative = [below(p) for p in inside]
    base = folder.path.rstrip("/")
    return [f"{base}/{p}" for p in relative if p and (depth is None or p.count("/") == depth)]
