"""The table of a plate: for each plane its well, field, time, channel and section, and its file and page.

Readers of indices yield `Plane` objects; everything else is common to all instruments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from intake_img.collections.file_names import natural_key
from intake_img.errors import FormatError
from intake_img.model.wells import Place, parse_field, parse_well
from intake_img.storage.files import File

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Channel", "Plane", "PlateFacts", "PlateTable", "folder_of"]

_MOST_PLANES = 10**7
_MOST_ROWS = 500  # rows and columns: the largest plates have 64 x 96 wells
_OUTSIDE = re.compile(r"[A-Za-z]:|[/\\]|[A-Za-z][\w+.\-]*://|(?:.*[/\\])?\.\.(?:[/\\]|$)|.*\0", re.S)


class Plane(NamedTuple):
    """A plane, or the part of a field in one file, and its location.

    Attributes
    ----------
    place : Place
        Well and field.
    t, c, z : int or None
        Numbers of the index; None if the index does not have the axis; the file may have it.
    file : str
        Path below the folder of the table.
    page : int, optional
        The number of the plane in the file; None for all planes of the file.
    scene : int, optional
        The number of the image in the file.
    x, y : float
        Position of the centre of the field in µm; `y` increases with the rows of the image. NaN if unknown.
    height, seconds : float
        Position along z in µm, and time in s.
    """

    place: Place
    t: int | None
    c: int | None
    z: int | None
    file: str
    page: int | None = None
    scene: int | None = None
    x: float = math.nan
    y: float = math.nan
    height: float = math.nan
    seconds: float = math.nan


@dataclass(frozen=True)
class Channel:
    """Metadata of a channel; wavelengths in nm, the colour as ``#RRGGBB``."""

    name: str
    color: str | None = None
    emission_wavelength: float | None = None
    excitation_wavelength: float | None = None


@dataclass(frozen=True)
class PlateFacts:
    """Metadata of the complete plate.

    Parameters
    ----------
    instrument : str
    name : str
    rows, columns : int
        Numbers of rows and columns of the plate; 0 if unknown.
    channels : mapping of int to Channel
        Channels by the numbers in `Plane.c`.
    spacing : mapping of str to float
        In µm, along ``x``, ``y`` and ``z`` if known.
    header : mapping
        JSON-like, further metadata of the index.
    """

    instrument: str
    name: str = ""
    rows: int = 0
    columns: int = 0
    channels: Mapping[int, Channel] = field(default_factory=dict)
    spacing: Mapping[str, float] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PlateTable:
    """All planes of a plate.

    Parameters
    ----------
    folder : File
        The folder of the file names.
    planes : sequence of Plane
    facts : PlateFacts
    index : File, optional
        The index file; None for a table made from file names.
    """

    folder: File
    planes: Sequence[Plane]
    facts: PlateFacts
    index: File | None = None

    def __post_init__(self) -> None:
        if not self.planes:
            raise FormatError(f"{self.index or self.folder} names no image: expected the index of a plate with images")
        if len(self.planes) > _MOST_PLANES:
            raise FormatError(f"{self.index or self.folder} names {len(self.planes)} planes: too many to be a plate")
        if (wrong := next((p.place for p in self.planes if max(p.place[:2]) >= _MOST_ROWS), None)) is not None:
            raise FormatError(
                f"{self.index or self.folder} names a well in row {wrong.row + 1}, column {wrong.column + 1}: there is "
                "no such plate, it is damaged"
            )
        if (outside := next((p.file for p in self.planes if _OUTSIDE.match(p.file)), None)) is not None:
            raise FormatError(
                f"{self.index or self.folder} names the file {outside!r}: expected one in the folder {self.folder}"
            )

    @cached_property
    def fields(self) -> dict[Place, list[Plane]]:
        """The planes of each field, in the order of wells and fields."""
        found: dict[Place, list[Plane]] = {}
        for plane in self.planes:
            found.setdefault(plane.place, []).append(plane)
        order = {name: natural_key(name) for name in {place.field for place in found}}
        return dict(sorted(found.items(), key=lambda kv: (kv[0].row, kv[0].column, order[kv[0].field])))

    @cached_property
    def scenes(self) -> dict[str, Place]:
        """The fields by their names, e.g. ``"B03/1"``."""
        return {place.scene: place for place in self.fields}

    @cached_property
    def wells(self) -> dict[str, list[Place]]:
        """The fields of each well by its name, e.g. ``"B03"``; empty for positions outside of a plate."""
        found: dict[str, list[Place]] = {}
        for place in self.fields:
            if place.row >= 0:
                found.setdefault(place.well, []).append(place)
        return found

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the plate: from the index, and at least as many as the wells need."""
        rows = max((p.row + 1 for p in self.fields), default=0)
        columns = max((p.column + 1 for p in self.fields), default=0)
        stated = (n if n < _MOST_ROWS else 0 for n in (self.facts.rows, self.facts.columns))
        return max(rows, next(stated)), max(columns, next(stated))

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The axes of the files: ``c`` if the index has channels, ``t`` and ``z`` if there are several."""
        return tuple(a for a in "tcz" if len(n := self.numbers(a)) > 1 or (n and a == "c"))

    def numbers(self, axis: str, planes: Sequence[Plane] | None = None) -> list[int]:
        """Return the numbers along ``t``, ``c`` or ``z`` that some planes have, in order; by default all planes."""
        if planes is None:
            return self._numbers[axis]
        return sorted({getattr(p, axis) for p in planes} - {None})

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        return {axis: self.numbers(axis, self.planes) for axis in "tcz"}

    def channel(self, c: int) -> Channel:
        """Return the metadata of a channel; a channel without a name is named by its number."""
        return self.facts.channels.get(c) or Channel(f"channel {c}")

    def place_of(self, name: str) -> Place | None:
        """Return the field of a name, in any spelling of its well (``B03/1``, ``b3/1``, ``B/3/1``); None if there is
        none."""
        if name in self.scenes:
            return self.scenes[name]
        place = parse_field(name)
        return place if place in self.fields else None

    def well_of(self, name: str) -> list[Place] | None:
        """Return the fields of a well, in any spelling of its name; None if there is none."""
        found = parse_well(name)
        return None if found is None else self.wells.get(Place(*found, "").well)

    def position(self, place: Place) -> tuple[float, float]:
        """Return the position of a field, x and y in µm, which is the position of its first plane."""
        first = self.fields[place][0]
        return first.x, first.y

    def frame(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame with a row for each plane."""
        import pandas as pd

        lines = [line for planes in self.fields.values() for line in planes]
        whole = {a: pd.array([getattr(p, a) for p in lines], dtype="Int64") for a in ("t", "c", "z", "page", "scene")}
        channel = [None if p.c is None else self.channel(p.c).name for p in lines]
        return pd.DataFrame(
            {
                "well": [p.place.well for p in lines],
                "row": [p.place.row for p in lines],
                "column": [p.place.column for p in lines],
                "field": [p.place.field for p in lines],
                "t": whole["t"],
                "c": whole["c"],
                "channel": channel,
                "z": whole["z"],
                "file": [p.file for p in lines],
                "page": whole["page"],
                "scene": whole["scene"],
                "x": [p.x for p in lines],
                "y": [p.y for p in lines],
                "height": [p.height for p in lines],
                "seconds": [p.seconds for p in lines],
            }
        )


def folder_of(index: File, first: str | None, below: str) -> File:
    """Return the folder of the files of an index: its own folder, or a folder of the given name beside it.

    Parameters
    ----------
    index : File
    first : str or None
        A file name in the index.
    below : str
        Name of the folder of the files if they are not beside the index.
    """
    folder = index.parent
    if not first or _OUTSIDE.match(first) or (folder / first).exists() or not (folder / below / first).exists():
        return folder
    return folder / below
