"""Finding the index file of a plate: in a folder, in the folder of the images, or in its parent."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from intake_img.collections.file_names import natural_sorted
from intake_img.collections.listing import list_folder
from intake_img.errors import CatalogError, FormatError, warn
from intake_img.formats.registry import known_extensions
from intake_img.storage.files import File

if TYPE_CHECKING:
    from intake_img.collections.plates.plate_table import PlateTable

__all__ = ["best_index", "find_index", "is_index", "plate_of", "read_index"]

_READERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("index.idx.xml", "index.ref.xml", "index.xml"), "phenix"),
    (("measurementdata.mlf",), "cellvoyager"),
    ((".htd",), "imagexpress"),
    ((".xdce",), "incell"),
    (("metadata.ome.xml", "experiment_descriptor.xml"), "scanr"),
)
"""Names of indices in lower case, or how they end (``.htd``), and the module that reads them; the first that fits is
taken."""
_BELOW = ("Images", "data")
"""Folders of images that lie beside an index, or contain it."""


_EVERY = tuple(name for names, _ in _READERS for name in names)


def _rank(name: str) -> int | None:
    """Return the row of `_READERS` for a name."""
    lower = name.lower()
    if not lower.endswith(_EVERY):
        return None
    for rank, (names, _) in enumerate(_READERS):
        for known in names:
            if lower == known or (known.startswith(".") and lower.endswith(known) and not lower.startswith(".")):
                return rank
    return None


def _reader(rank: int) -> Callable[[File], PlateTable]:
    return importlib.import_module(f"intake_img.collections.plates.{_READERS[rank][1]}").read


def is_index(name: str) -> bool:
    """Return whether a file of that name is the index of a plate."""
    return _rank(name) is not None


def read_index(file: File) -> PlateTable:
    """Return the table of an index; its name determines the reader.

    Raises
    ------
    FormatError
        If it is damaged, or its name is not that of an index.
    """
    found = _rank(file.name)
    if found is None:
        raise FormatError(
            f"{file} is not an index of a plate: expected {', '.join(n for ns, _ in _READERS for n in ns)}"
        )
    return _reader(found)(file)


def find_index(folder: File) -> File | None:
    """Return the index of the plate in a folder; None if there is none."""
    names = list_folder(folder)
    places = [(folder, names), *((folder / n, None) for n in _BELOW if n in names)]
    if folder.name in _BELOW:
        places.append((folder.parent, None))
    for place, known in places:
        if (found := best_index(_names(place) if known is None else known)) is not None:
            return place / found
    return None


def _names(folder: File) -> Sequence[str]:
    try:
        return list_folder(folder)
    except CatalogError:  # the parent folder may lie outside of the jail
        return []


def best_index(names: Sequence[str]) -> str | None:
    """Return the index among the names of a folder; of several, that of the first known instrument."""
    ranked = [(rank, name) for name in natural_sorted(names) if (rank := _rank(name)) is not None]
    return min(ranked, key=lambda r: r[0])[1] if ranked else None


def _images(names: Sequence[str]) -> list[str]:
    """Return the names of images."""
    known = tuple(known_extensions())
    return [n for n in names if not n.startswith(".") and n.lower().endswith(known)]


def plate_of(file: File) -> PlateTable | None:
    """Return the table of a plate, given its index or folder; None if it is not a plate.

    Without an index, positions of Micro-Manager and known naming schemes are tried.

    Warns
    -----
    UserWarning
        If a folder has an index that cannot be read.
    """
    if is_index(file.name) and not file.is_folder():
        return read_index(file)
    index = find_index(file)
    if index is None:
        from intake_img.collections.plates.micromanager import table_of_positions
        from intake_img.collections.plates.unindexed import table_of_names

        names = list_folder(file)
        return table_of_positions(file, names) or table_of_names(file, _images(names))
    try:
        return read_index(index)
    except FormatError as exc:
        warn(
            f"{index} has the name of the index of a plate, but cannot be read as one ({exc}): the files are taken "
            "without wells, channels and positions"
        )
        return None
