"""Finding the files of an image: each folder is listed once, and the labels in all names become columns.

Names that differ only in their digits are parsed together: a hundred thousand of them take little longer than listing
their folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from intake_img.collections.digits import Numbers, find_numbers
from intake_img.collections.file_names import (
    format_labels,
    label_key,
    natural_sorted,
    parse_member,
    split_extension,
)
from intake_img.collections.patterns import Pattern
from intake_img.collections.token_matching import Matcher
from intake_img.errors import FormatError, warn
from intake_img.storage.files import File
from intake_img.storage.journal import COMMITS, current_names
from intake_img.storage.listings import names_in
from intake_img.storage.remote import retried

__all__ = [
    "Column",
    "Listing",
    "find_images",
    "find_matches",
    "find_parts",
    "find_pattern",
    "list_folder",
    "numbered",
    "parts_of_one",
]


class Column:
    """The labels of many files for one field: the distinct labels, and the index of the label of each file.

    Parameters
    ----------
    texts : sequence of str
        The label of each file.

    Attributes
    ----------
    labels : sequence of str
        The distinct labels, in natural order; of labels with the same meaning (``7`` and ``007``) the first one.
    codes : ndarray of int
        For each file the index of its label in `labels`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        first = dict.fromkeys(texts)
        seen = list(first)
        keys = _keys(seen)
        order = sorted(range(len(seen)), key=keys.__getitem__)
        self.labels: list[str] = []
        for rank, k in enumerate(order):
            if rank == 0 or keys[k] != keys[order[rank - 1]]:
                self.labels.append(seen[k])
            first[seen[k]] = len(self.labels) - 1  # type: ignore[assignment]
        self.codes = np.fromiter(map(first.__getitem__, texts), np.intp, len(texts))

    @classmethod
    def of_numbers(cls, names: Sequence[str], numbers: Numbers) -> Column:
        """Return the column of numbers parsed from names."""
        new = object.__new__(cls)
        values = numbers.values
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, -1)
        if high - low <= 4 * len(values):
            there = np.zeros(high - low + 1, bool)
            there[values - low] = True
            new.codes = (np.cumsum(there) - 1)[values - low]
            count = int(there.sum())
        else:
            used, new.codes = np.unique(values, return_inverse=True)
            count = len(used)
        first = np.empty(count, np.intp)
        first[new.codes[::-1]] = np.arange(len(values))[::-1]
        spans = zip(first.tolist(), numbers.starts[first].tolist(), numbers.stops[first].tolist(), strict=True)
        new.labels = [names[k][start:stop] for k, start, stop in spans]
        return new

    @classmethod
    def joined(cls, columns: Sequence[Column]) -> Column:
        """Return one column for several: for each existing combination, the labels joined by NUL."""
        new = object.__new__(cls)
        rows, codes = np.unique(np.stack([c.codes for c in columns], 1), axis=0, return_inverse=True)
        new.codes = codes.reshape(-1)
        new.labels = ["\0".join(c.labels[k] for c, k in zip(columns, row, strict=True)) for row in rows.tolist()]
        return new

    def take(self, places: np.ndarray) -> Column:
        """Return the column of the files at the given indices."""
        new = object.__new__(Column)
        used, new.codes = np.unique(self.codes[places], return_inverse=True)
        new.labels = [self.labels[k] for k in used.tolist()]
        return new

    def along(self, labels: Sequence[str]) -> np.ndarray:
        """Return for each file the index of its label in `labels`, which may be in any order."""
        place = {label: k for k, label in enumerate(labels)}
        return np.array([place[label] for label in self.labels], np.intp)[self.codes]


def _keys(labels: Sequence[str]) -> list[Any]:
    text = "".join(labels)
    if all(labels) and text.isascii() and text.isdigit() and max(map(len, labels)) < 19:
        return list(map(int, labels))
    return [label_key(label) for label in labels]


@dataclass(frozen=True)
class Listing:
    """Files whose names have the same fields, as columns.

    Parameters
    ----------
    paths : sequence of str
    fields : mapping of str to Column
        For each field (an axis, or ``var``) the label in each name.
    numbered : bool
        The labels are only positions in a list.
    values : sequence, optional
        Coordinates of a numbered list.
    joint : mapping of str to sequence of str
        Axes that join several fields of a pattern, and the names of these fields.
    """

    paths: Sequence[str]
    fields: Mapping[str, Column] = field(default_factory=dict)
    numbered: bool = False
    values: Sequence[Any] | None = None
    joint: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, places: Sequence[int] | np.ndarray) -> Listing:
        """Return the files at the given indices."""
        at = np.asarray(places, np.intp)
        return replace(
            self,
            paths=[self.paths[k] for k in at.tolist()],
            fields={f: column.take(at) for f, column in self.fields.items()},
            values=None if self.values is None else [self.values[k] for k in at.tolist()],
        )

    def in_order(self) -> Listing:
        """Return the files in natural order of their labels, the first field changing slowest."""
        if not self.fields:
            return self
        codes = [column.codes for column in self.fields.values()]
        return self.take(np.lexsort(codes[::-1]))

    def by_variable(self) -> dict[str, Listing]:
        """Return a listing for each label of ``var``; one, named ``""``, if there is no such field."""
        column = self.fields.get("var")
        if column is None:
            return {"": self}
        return {name: self.take(np.flatnonzero(column.codes == k)) for k, name in enumerate(column.labels)}


def find_parts(target: File, stem: str, extension: str) -> list[Listing]:
    """Return the files beside `target` that are named as files of its partition, a listing for each set of fields."""
    folder = target.parent
    prefix = _start(folder)
    candidates = [n for n in list_folder(folder) if n.startswith(f"{stem}.")]
    listings: list[Listing] = []
    while True:
        fields = next((list(p) for n in candidates if (p := parse_member(n, stem, extension))), None)
        if fields is None:
            return listings
        middle = "".join(rf"\.{f}_([^./]*)" for f in fields)
        places, columns = _matches(
            re.compile(f"{re.escape(stem)}{middle}(?i:{re.escape(extension)})", re.S), candidates
        )
        names = [candidates[k] for k in places.tolist()]
        listings.append(Listing([prefix + name for name in names], dict(zip(fields, columns, strict=True))))
        if len(names) == len(candidates):
            return listings
        seen = set(names)
        candidates = [n for n in candidates if n not in seen]


def find_matches(file: File) -> tuple[Pattern, Listing]:
    """Return the pattern that a path is, and the files that match it; brackets that match nothing as a class of
    characters are taken literally."""
    found = find_pattern(pattern := Pattern(file.path), file)
    if not len(found) and "[" in file.path:
        found = find_pattern(pattern := Pattern(file.path, classes=False), file)
    return pattern, found


def find_pattern(pattern: Pattern, file: File) -> Listing:
    """Return the files that match a pattern, with the options and the jail of `file`; in natural order without
    fields."""
    base = file.at(pattern.fixed or "/")
    if base.local and pattern.depth is not None:
        listing = _walk_pattern(base, pattern)
    else:
        candidates = _walk(base, pattern.depth)
        places, columns = _matches(pattern.matcher, candidates)
        listing = Listing([candidates[k] for k in places.tolist()], dict(zip(pattern.fields, columns, strict=True)))
    return listing if pattern.fields else Listing(natural_sorted(listing.paths))


def _walk_pattern(base: File, pattern: Pattern) -> Listing:
    """Return the matching files; only matching folders are listed."""
    *above, last = pattern.steps
    if not os.path.isdir(base.path):
        raise FileNotFoundError(f"there is no folder {base}")
    folders: list[tuple[str, tuple[str, ...]]] = [(base.path.rstrip("/"), ())]
    for step in above:
        fits = step.matcher.fullmatch
        folders = [
            (f"{folder}/{name}", labels + m.groups())
            for folder, labels in folders
            for name in _subfolders(base.at(folder or "/"))
            if (m := fits(name)) is not None
        ]
    names: list[str] = []
    counts = []
    for folder, _ in folders:
        inside = list_folder(base.at(folder or "/"))
        names += inside
        counts.append(len(inside))
    places, columns = _matches(last.matcher, names)
    home = np.repeat(np.arange(len(folders)), counts)[places]
    prefixes = [f"{folder}/" for folder, _ in folders]
    paths = [prefixes[h] + names[k] for h, k in zip(home.tolist(), places.tolist(), strict=True)]
    outer = [Column([labels[k] for _, labels in folders]).take(home) for k in range(len(pattern.fields) - len(columns))]
    return Listing(paths, dict(zip(pattern.fields, [*outer, *columns], strict=True)))


def _subfolders(folder: File) -> list[str]:
    folder.check(above=True)
    try:
        with os.scandir(folder.path) as entries:
            return [e.name for e in entries if _is_folder(e)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str], follow: bool = True) -> bool:
    """True for a folder; False also for a cyclic link."""
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _matches(compiled: re.Pattern[str] | Matcher, names: Sequence[str]) -> tuple[np.ndarray, list[Column]]:
    """Return which names match completely, and a column for each group."""
    numbers = find_numbers(compiled, names)
    if numbers is not None:
        places = numbers[0]
        matching = [names[k] for k in places.tolist()]
        return places, [Column.of_numbers(matching, n) for n in numbers[1]]
    found = [(k, m.groups()) for k, m in enumerate(map(compiled.fullmatch, names)) if m is not None]
    texts: list[Any] = list(zip(*(groups for _, groups in found), strict=True)) or [()] * compiled.groups
    return np.array([k for k, _ in found], np.intp), [Column(column) for column in texts]


def find_in_folder(
    folder: File, ext: str | None, recursive: bool, known: Mapping[str, str], stores: Iterable[str]
) -> Listing:
    """Return the images in a folder, in natural order: files that end in `ext`, or files of the most frequent format.

    Parameters
    ----------
    folder : File
    ext : str, optional
    recursive : bool
        Search subfolders as well.
    known : mapping of str to str
        The format of each extension.
    stores : iterable of str
        The extensions of formats that are folders.

    Raises
    ------
    FormatError
        If the format is ambiguous: more than a third of the files has another one.

    Warns
    -----
    UserWarning
        If fewer files have another format; they are left out.
    """
    extensions = frozenset(known)
    by_format: dict[str, list[str]] = {}
    wanted = f".{ext.lower().lstrip('.')}" if ext is not None else None
    for path in _walk(folder, None if recursive else 0, tuple(stores)):
        name = path.rsplit("/", 1)[-1]
        if name.startswith("."):
            continue
        if wanted is not None:
            if name.lower().endswith(wanted):
                by_format.setdefault(wanted, []).append(path)
            continue
        extension = split_extension(name, extensions)[1].lower()
        if extension in known:
            by_format.setdefault(known[extension], []).append(path)
    if not by_format:
        return Listing([])
    most = max(by_format, key=lambda name: len(by_format[name]))
    if len(by_format) > 1:
        _say_which(folder, by_format, most)
    return Listing(natural_sorted(by_format[most]))


def _say_which(folder: File, by_format: Mapping[str, Sequence[str]], most: str) -> None:
    """Warn of files that are left out, or raise an error if the format is ambiguous."""
    counts = ", ".join(f"{len(paths)} {name}" for name, paths in by_format.items())
    others = sum(map(len, by_format.values())) - len(by_format[most])
    first = next(paths[0] for name, paths in by_format.items() if name != most)
    ext = os.path.splitext(first)[1]
    if 2 * others > len(by_format[most]):
        pattern = os.path.join(str(folder), f"*{ext}")
        raise FormatError(
            f"the folder {folder} contains images of several formats ({counts}): say which of them, with a pattern "
            f"such as {pattern!r} or ext={ext!r}; 'intake-img info --each' takes all of them"
        )
    warn(f"the folder {folder} contains {counts}: the {most} files are taken; ext={ext!r} takes others")


def numbered(listing: Listing, axis: str, values: Sequence[Any] | None = None) -> Listing:
    """Give files without labels their number along `axis`; along ``i`` their names become the coordinate."""
    if listing.fields or not len(listing):
        return listing
    if values is None and axis == "i":
        values = _shortest([p.split("/") for p in listing.paths])
    labels = Column(format_labels(range(len(listing))))
    return replace(listing, fields={axis: labels}, numbered=True, values=values)


def _shortest(paths: Sequence[list[str]]) -> list[str]:
    """Return paths without their common parent folders."""
    first, last = min(paths)[:-1], max(paths)[:-1]  # the common prefix of these two is common to all
    shared = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return ["/".join(p[shared:]) for p in paths]


def parts_of_one(listing: Listing, known: Iterable[str]) -> Listing | None:
    """Give the files of a folder the labels in their names, if all belong to one partitioned image; else return
    None."""
    if not len(listing):
        return None
    folder, _, name = listing.paths[0].rpartition("/")
    stem, extension = split_extension(name, frozenset(known))
    head = re.split(r"\.(?=(?:var|[a-z])_)", stem, maxsplit=1)[0]
    labels = parse_member(name, head, extension)
    if labels is None:
        return None
    middle = "".join(rf"\.{f}_([^./]*)" for f in labels)
    places, columns = _matches(
        re.compile(f"{re.escape(f'{folder}/{head}')}{middle}{re.escape(extension)}", re.S), listing.paths
    )
    return replace(listing, fields=dict(zip(labels, columns, strict=True))) if len(places) == len(listing) else None


def find_images(folder: File, extensions: Iterable[str], stores: Iterable[str]) -> list[str]:
    """Return the images at any depth below a folder, of all formats, in natural order.

    Parameters
    ----------
    folder : File
    extensions : iterable of str
        Extensions of images; hidden files are left out.
    stores : iterable of str
        The extensions of formats that are folders; these are not searched.
    """
    known = frozenset(extensions)
    named = ((path, path.rsplit("/", 1)[-1]) for path in _walk(folder, None, tuple(stores)))
    return natural_sorted(
        [p for p, name in named if not name.startswith(".") and split_extension(name, known)[1].lower() in known]
    )


def _start(folder: File) -> str:
    """Return what the paths of all files in a folder begin with."""
    return folder.path if folder.path.endswith("://") else f"{folder.path.rstrip('/')}/"


def list_folder(folder: File) -> list[str]:
    """Return the names in a folder, with the new files during a commit; none if there is no such folder."""
    folder.check()
    return current_names(folder, names_in(folder, fresh=False))


def _walk(folder: File, depth: int | None, stores: tuple[str, ...] = (".zarr",)) -> list[str]:
    """Return the paths below a folder, `depth` folders down, or, for None, all files and stores at any depth."""
    if not folder.local:
        return _walk_remote(folder, depth)
    found: list[str] = []
    folders = [(folder.path.rstrip("/"), 0)]
    while folders:
        at, level = folders.pop()
        folder.at(at or "/").check(above=True)
        try:
            entries = os.scandir(at or "/")
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"there is no folder {at}") from None
        with entries:
            here = {e.name: e for e in entries}
            names = current_names(folder.at(at or "/"), list(here))
            if level == depth:
                found.extend(f"{at}/{n}" for n in names)
                continue
            for name in names:
                entry = here.get(name)
                if entry is None:  # its commit is running
                    found.extend([f"{at}/{name}"] if depth is None else [])
                    continue
                # links to folders may be cyclic: they are followed only if a pattern states the depth
                folder_here = _is_folder(entry, depth is not None)
                if not folder_here or entry.name.lower().endswith(stores):
                    if depth is None:
                        found.append(f"{at}/{entry.name}")
                elif not entry.name.startswith("."):
                    folders.append((f"{at}/{entry.name}", level + 1))
    return found


def _walk_remote(folder: File, depth: int | None) -> list[str]:
    fs, path = folder.filesystem()
    path = path.rstrip("/")
    base = _start(folder)
    if depth == 0:
        return [base + name for name in list_folder(folder)]
    most = None if depth is None else depth + 1
    inside: Iterable[str] = retried(folder.path, lambda: fs.find(path, maxdepth=most, withdirs=depth is not None))
    relative = [str(p).rstrip("/")[len(path) :].lstrip("/") for p in inside]
    for above in {p.rpartition(COMMITS)[0] for p in relative if COMMITS in p.split("/")}:
        names = [p[len(above) :] for p in relative if p.startswith(above) and "/" not in p[len(above) :]]
        now = current_names(folder.within(above.rstrip("/")), [*names, COMMITS])
        relative = [p for p in relative if p[len(above) :] not in names] + [above + n for n in now]
    shown = [p for p in relative if p and not any(part.startswith(".") for part in p.split("/")[:-1])]
    return [base + p for p in shown if depth is None or p.count("/") == depth]
