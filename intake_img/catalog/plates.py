"""Plates that a scan finds by their index files: each is one image, whose files are not opened one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from intake_img.catalog.facts import facts_of
from intake_img.collections.plates.index_files import best_index
from intake_img.collections.plates.source import PlateSource
from intake_img.collections.plates.unindexed import note_of_names
from intake_img.model.process_state import quiet
from intake_img.model.text import printable
from intake_img.storage.files import File

__all__ = ["Plates", "plates_in", "without"]

_BELOW = ("images", "data")


class ImageFolder(Protocol):
    """A folder, the names of the images in it, and all names."""

    @property
    def path(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def everything(self) -> Iterable[str]: ...


@dataclass
class Plates:
    """The plates that were found.

    Attributes
    ----------
    images : list of (str, PlateSource, mapping)
        Path, source and facts of each plate.
    taken : set of str
        Paths of the files that belong to them.
    notes : dict of str to str
        For each index that cannot be read, the reason; for folders without one, what the names of their files say.
    """

    images: list[tuple[str, PlateSource, dict[str, Any]]] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, place: ImageFolder, name: str, root: File) -> None:
        """Add the plate of an index, or note why there is none."""
        path = os.path.join(place.path, name)
        source = PlateSource(root.at(path))
        try:
            with quiet():  # the warning is repeated when it is opened
                table, facts = source.table, facts_of(source)
        except Exception as exc:  # a failure of one index must not hide the others
            self.notes[path] = (
                f"the index of a plate cannot be read ({printable(exc)}): wells, fields and channels are known from "
                "the names of the files alone"
            )
            return
        finally:
            source.close()
        files = {(table.folder / p.file).path for p in table.planes}
        self.taken |= files
        self.images.append((_head(place.path, root.path), source, facts | {"files": len(files)}))


def plates_in(places: Sequence[ImageFolder], root: File) -> Plates:
    """Return the plates whose indices lie in some folders; a copy of an index, whose images are taken, is none."""
    found = Plates()
    for place in places:
        name = best_index(list(place.everything))
        if name is None:
            continue
        images = {os.path.join(place.path, n) for n in place.names}
        if not images or not images <= found.taken:
            found.add(place, name, root)
    within = tuple(os.path.join(os.path.dirname(source.uri), "") for _, source, _ in found.images)
    for place in places:  # projections and the like of an indexed plate are no further one
        if not os.path.join(place.path, "").startswith(within) and (
            note := note_of_names(root.at(place.path), place.names)
        ):
            found.notes[place.path] = note
    return found


def without(names: Sequence[str], folder: str, taken: set[str]) -> tuple[str, ...]:
    """Return the names in a folder that are not taken."""
    return tuple(n for n in names if os.path.join(folder, n) not in taken) if taken else tuple(names)


def _head(folder: str, root: str) -> str:
    """Return the path that names a plate: its folder, or the parent of a folder that only contains the images."""
    above, name = os.path.split(folder)
    if name.lower() in _BELOW and folder != root:
        folder = above
    return folder if folder != root else os.path.join(root, os.path.basename(root) or "plate")
