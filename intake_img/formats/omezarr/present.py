"""Which chunks of a local Zarr array exist: of sparse arrays most are missing, and a question for each takes long."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence

from intake_img.storage.files import File

__all__ = ["existing"]

_MANY = 64  # chunks from which on folders are listed
_LISTED = 8  # wanted names from which on the listing of one folder replaces a question for each
_MOST = 16  # times as many entries as wanted names end a listing

Place = tuple[int, ...]


def existing(folder: File, key: Callable[[Place], str], spans: Sequence[range]) -> list[Place] | None:
    """Return the places of a box in the grid that may have a chunk; None if to ask for each is as cheap.

    Folders that are missing are skipped with all that would be below them.

    Parameters
    ----------
    folder : File
        Of the array, on a local disk.
    key : callable
        Name of the file of a chunk by its place in the grid.
    spans : sequence of range
        Numbers of chunks along each axis.
    """
    if math.prod(map(len, spans)) < _MANY:
        return None
    folder.check()
    corner = tuple(span.start for span in spans)
    parts = key(corner).split("/")
    if parts[-len(spans) :] == [str(k) for k in corner]:
        return list(_nested(os.path.join(folder.path, *parts[: -len(spans)]), spans, ()))
    return _flat(folder.path, key, spans) if len(parts) == 1 else None


def _nested(path: str, spans: Sequence[range], lead: Place) -> Iterator[Place]:
    """Iterate over the places below a folder, which has a folder for each number along the first axis."""
    numbers: Sequence[int] = spans[0]
    if len(numbers) >= _LISTED and (names := _names(path, len(numbers))) is not None:
        numbers = sorted({int(n) for n in names if n.isdecimal() and n.isascii()}.intersection(numbers))
    for number in numbers:
        if len(spans) == 1:
            yield (*lead, number)
        elif os.path.isdir(inner := f"{path}/{number}"):
            yield from _nested(inner, spans[1:], (*lead, number))


def _flat(path: str, key: Callable[[Place], str], spans: Sequence[range]) -> list[Place] | None:
    """Return the places of files that lie side by side in one folder."""
    names = _names(path, math.prod(map(len, spans)))
    if names is None:
        return None
    wanted = {name: place for name in names if (place := _place(name, spans)) is not None and key(place) == name}
    return sorted(wanted.values())


def _place(name: str, spans: Sequence[range]) -> Place | None:
    """The position in the last numbers of a file's name, if it lies in the box."""
    numbers = name.split(".")[-len(spans) :]
    if len(numbers) < len(spans) or not all(n.isdecimal() and n.isascii() for n in numbers):
        return None
    place = tuple(map(int, numbers))
    return place if all(n in span for n, span in zip(place, spans, strict=True)) else None


def _names(path: str, wanted: int) -> list[str] | None:
    """The names in a folder, none if it is missing; None if they are far more than are wanted."""
    names = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > _MOST * wanted:
                    return None
    except (FileNotFoundError, NotADirectoryError):
        return []
    return names
