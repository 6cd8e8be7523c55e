"""Views in N5: ``setup0/timepoint0/s0``, whose numbers mean what their type says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import StoredArray
from intake_img.formats.bdv.spim import Spim
from intake_img.formats.chunked import file_json
from intake_img.formats.n5blocks import ATTRIBUTES, N5Dataset, folders_in, is_dataset
from intake_img.storage.files import File

__all__ = ["N5Views"]

_TIME = re.compile(r"timepoint(\d+)")
_LEVELS = 64
_KEPT = 4096  # attributes


class N5Views:
    """Views in a container. A view's array is called by the path of its dataset.

    Attributes
    ----------
    file : File
    present : mapping of (int, int)
        Time points and setups of the views that are there: those whose folder is listed or, where folders cannot be
        listed, those that the XML does not call missing.
    """

    parallel = True

    def __init__(self, file: File, spim: Spim) -> None:
        self.file = file
        self._attributes: dict[str, dict[str, Any]] = {}
        self.present: Mapping[tuple[int, int], Any] = {
            (time, setup.number): None for setup in spim.setups for time in self._times(setup.number, spim)
        }

    def _times(self, setup: int, spim: Spim) -> list[int]:
        names = folders_in(self.file / f"setup{setup}")
        listed = {int(m[1]) for m in map(_TIME.fullmatch, names) if m}
        if not names and not self.file.local:
            return [t for t in spim.times if (t, setup) not in spim.missing]
        return [t for t in spim.times if t in listed]

    def factors(self, setup: int) -> list[tuple[float, ...]]:
        """Return of each level how many voxels of the first one it averages, along x, y and z."""
        stated = self.attributes(f"setup{setup}").get("downsamplingFactors")
        rows = stated if isinstance(stated, list) and 0 < len(stated) <= _LEVELS else [[1, 1, 1]]
        if not all(isinstance(r, list) and len(r) == 3 and all(type(n) in (int, float) for n in r) for r in rows):
            raise FormatError(f"{self.file}: downsamplingFactors of setup {setup} are {stated!r:.80}: expected triples")
        return [tuple(map(float, row)) for row in rows]

    def meaning(self, stored: np.dtype) -> np.dtype:
        """Return what numbers of a type mean."""
        return stored

    def path(self, time: int, setup: int, level: int) -> str | None:
        """Return how an array is called; None where it is missing."""
        return f"setup{setup}/timepoint{time}/s{level}" if (time, setup) in self.present else None

    def stored(self, path: str) -> StoredArray:
        """Return the array of a path."""
        attributes = self.attributes(path)
        if not is_dataset(attributes):
            raise FormatError(f"{self.file} contains no N5 dataset {path!r}: its attributes are missing or damaged")
        return N5Dataset(self._at(path), attributes)

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of a group or dataset, read once."""
        if path not in self._attributes:
            if len(self._attributes) >= _KEPT:
                self._attributes.clear()
            self._attributes[path] = file_json(self._at(path) / ATTRIBUTES) or {}
        return self._attributes[path]

    def _at(self, path: str) -> File:
        file = self.file
        for part in path.split("/"):
            file = file / part
        return file

    def close(self) -> None:
        """Close nothing: no file stays open."""
