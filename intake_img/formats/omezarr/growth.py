"""The growth record of a store: the valid extent of its arrays, and the earlier stamps that are still valid.

An append writes pixels beyond the end of the arrays, then the shapes of the arrays, and the root's metadata last.
Between the last two the arrays are longer than the image: what counts is the length in the root's record. Pixels that
were there are never changed by an append, so a Dataset that was opened before stays good: the root's metadata list the
stamps that the store had, and the stamps of the arrays before they first grew.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from intake_img.errors import FormatError
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File

__all__ = ["FILLING", "GROWTH", "Growth", "frozen", "growth_of", "kept_stamps"]

GROWTH, FILLING = "growth", "filling"
"""Keys beside the record of an image: its growth, and the region that is being overwritten."""
_MOST_STAMPS = 256


@dataclass(frozen=True)
class Growth:
    """How a store has grown.

    Parameters
    ----------
    axis : str
        Along which it grew last.
    stamps : tuple
        Of the root, the last 256 that it had before.
    arrays : mapping of str to hashable
        By the path of an array, the stamp of its metadata before it first grew.
    """

    axis: str = ""
    stamps: tuple[Hashable, ...] = ()
    arrays: Mapping[str, Hashable] = field(default_factory=dict)

    def after(self, stamp: Hashable) -> Growth:
        """Return the growth of a store whose root has this stamp, and gets another one now."""
        return Growth(self.axis, (*self.stamps, frozen(stamp))[-_MOST_STAMPS:], self.arrays)

    def document(self) -> dict[str, Any]:
        """Return this as plain JSON."""
        return {"axis": self.axis, "stamps": list(self.stamps), "arrays": dict(self.arrays)}

    def counted(self, pixels: Pixels, facts: Mapping[str, Any], axes: tuple[str, ...]) -> Pixels:
        """Return the pixels of an array that belong to an image, as its record says."""
        if self.axis not in axes or self.axis not in facts["axes"]:
            return pixels
        n = int(facts["shape"][list(facts["axes"]).index(self.axis)])
        return pixels.select([slice(0, n) if a == self.axis else slice(None) for a in axes])


def growth_of(ours: Any) -> Growth:
    """Return the growth that is stored beside a record; None without one."""
    stored: Any = ours.get(GROWTH) if isinstance(ours, Mapping) else None
    try:
        arrays = {k: frozen(v) for k, v in stored["arrays"].items()}
        return Growth(str(stored["axis"]), tuple(map(frozen, stored["stamps"])), arrays)
    except (KeyError, TypeError, AttributeError):
        return Growth()


def frozen(value: Any) -> Hashable:
    """Return lists, as JSON has them, as tuples."""
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def kept_stamps(file: File, name: str, stamp: Hashable, key: str) -> frozenset[Hashable]:
    """Return the earlier stamps that still hold for a store that has `stamp` now; they are read once.

    Parameters
    ----------
    file : File
        The store.
    name : str
        Of the document with the root's attributes.
    stamp : hashable
        Of the store.
    key : str
        Attribute that contains the record.
    """
    known = file.path, repr(file.storage_options), stamp
    if known not in _STAMPS:
        if len(_STAMPS) >= _MOST_STAMPS:
            _STAMPS.clear()
        _STAMPS[known] = _read_stamps(file / name, key)
    return _STAMPS[known]


_STAMPS: dict[Hashable, frozenset[Hashable]] = {}


def _read_stamps(document: File, key: str) -> frozenset[Hashable]:
    try:
        found = json.loads(document.read())
        attributes = found.get("attributes", {}) if document.name == "zarr.json" else found
        return frozenset(growth_of(attributes.get(key)).stamps)
    except (OSError, ValueError, AttributeError, FormatError):
        return frozenset()
