"""One resolution of an NDTiff dataset: its index, its open files, its axes and the image at each position."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.ndtiff.index import IndexEntry, parse_index, rebuilt_index, summary_of
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader, File
from intake_img.storage.raw import read_raw

__all__ = ["INDEX", "Key", "Resolution"]

INDEX = "NDTiff.index"

Key = tuple[int, ...]
"""Numbers along the axes of a dataset, in their order."""

_LETTERS = {"position": "i", "time": "t", "channel": "c", "z": "z"}
_ORDER = ("row", "column", "position", "time", "channel", "z")  # after axes of other names
_METADATA_LIMIT = 2**22  # bytes


class Resolution:
    """One resolution of a dataset.

    Parameters
    ----------
    folder : File
    stacks : sequence of File
        The TIFF files to read if there is no index.

    Attributes
    ----------
    values : dict of str to list
        For each axis by its name in the file, the values along it, sorted.
    images : dict of Key to IndexEntry
    shape : tuple of int
        Of an image: height, width, and 3 for colour.
    dtype : numpy.dtype
    summary : dict
        The summary metadata.
    """

    def __init__(self, folder: File, stacks: Sequence[File] = ()) -> None:
        self.folder = folder
        self.sources: dict[str, ByteReader] = {}
        entries = self._present(self._entries(stacks))
        self.summary = summary_of(self.sources[entries[0].name])
        self.values = _values(entries)
        places = {name: {v: k for k, v in enumerate(found)} for name, found in self.values.items()}
        self.images = {tuple(places[n][e.axes[n]] for n in places): e for e in entries}  # of several, the last counts
        self.shape, self.dtype = entries[0].shape, entries[0].dtype.newbyteorder("=")
        if other := next((e for e in entries if (e.shape, e.dtype) != (self.shape, entries[0].dtype)), None):
            raise FormatError(
                f"{folder} contains images of {self.shape} {self.dtype} and of {other.shape} {other.dtype}: they have "
                "no common array"
            )

    def _entries(self, stacks: Sequence[File]) -> list[IndexEntry]:
        index = self.folder / INDEX
        if index.exists():
            entries, complete = parse_index(index.read())
            self._open(entries)
            if not complete:
                self._warn("its index ends within an entry")
                return entries
            for name in self.sources:
                self._check_all(name, [e for e in entries if e.name == name])
            return entries
        self._warn("it has no index; read from the pages of its TIFF files")
        for file in stacks:
            self.sources[file.name] = file.open()
        return rebuilt_index(self.sources.values())

    def _open(self, entries: list[IndexEntry]) -> None:
        for name in dict.fromkeys(e.name for e in entries):
            file = self.folder / name
            if name not in self.sources and file.exists():
                self.sources[name] = file.open()

    def _check_all(self, name: str, entries: list[IndexEntry]) -> None:
        """Warn of a file that is longer, by an image at least, than what the index names of it."""
        end = max(max(e.end, sum(e.metadata)) for e in entries)
        last = max(entries, key=lambda e: e.offset)
        if self.sources[name].size - end >= last.end - last.offset:
            self._warn(f"{name} contains more images than its index names")

    def _present(self, entries: list[IndexEntry]) -> list[IndexEntry]:
        """Return the entries whose pixels the files hold."""
        held = [e for e in entries if e.name in self.sources and e.end <= self.sources[e.name].size]
        if not held:
            raise FormatError(f"{self.folder}: of the {len(entries)} images in its index the TIFF files contain none")
        if lost := len(entries) - len(held):
            self._warn(f"{lost} of {len(entries)} images in its index are in no file, or beyond its end")
        names = entries[0].axes.keys()
        if odd := next((e for e in held if e.axes.keys() != names), None):
            raise FormatError(f"{self.folder}: its images have the axes {[*names]}, but one has {[*odd.axes]}")
        return held

    def _warn(self, what: str) -> None:
        warn(f"{self.folder}: {what}; the existing images are opened")

    @cached_property
    def axes(self) -> dict[str, str]:
        """The axis for each name in the file."""
        return {name: _LETTERS.get(name, f"{name}_index" if name in "ityxcs" else name) for name in self.values}

    @property
    def outer(self) -> Key:
        """Length of each axis."""
        return tuple(map(len, self.values.values()))

    def read(self, key: Key, region: Region, out: np.ndarray) -> None:
        """Fill `out` with a region of an image; with zeros where there is none."""
        entry = self.images.get(key)
        if entry is None:
            out[...] = 0
        else:
            read_raw(self.sources[entry.name], entry.offset, entry.dtype, entry.shape, region, out)

    def about(self, **place: int) -> dict[str, Any]:
        """Return the metadata of the first image at a place, numbers along axes by their names in the file."""
        fixed = {list(self.values).index(name): k for name, k in place.items()}
        entry = next((e for key, e in self.images.items() if all(key[a] == k for a, k in fixed.items())), None)
        if entry is None or entry.metadata[1] > _METADATA_LIMIT:
            return {}
        try:
            found = json.loads(self.sources[entry.name].ranges([entry.metadata[0]], [entry.metadata[1]])[0])
        except (ValueError, FormatError):
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        for source in self.sources.values():
            source.close()


def _values(entries: Sequence[IndexEntry]) -> dict[str, list[int | str]]:
    found: Mapping[str, set[int | str]] = {name: {e.axes[name] for e in entries} for name in entries[0].axes}
    rank = {name: k + 1 for k, name in enumerate(_ORDER)}
    return {name: sorted(found[name], key=_natural) for name in sorted(found, key=lambda n: rank.get(n, 0))}


def _natural(value: int | str) -> tuple[Any, ...]:
    """Numbers before labels, and numbers within labels as numbers: ``Pos2`` before ``Pos10``."""
    if isinstance(value, int):
        return (0, value)
    return (1, [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", value)])
