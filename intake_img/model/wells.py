"""Names of wells: rows are letters (A to Z, then AA to AF on plates of 1536 wells), columns are numbers from 1.

Rows and columns are counted from 0 everywhere in the package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from intake_img.model.variables import Coordinate

__all__ = ["Place", "attrs_of", "coordinates_of", "named", "parse_field", "parse_well", "row_letters", "well_name"]

_WELL = re.compile(r"([A-Za-z]{1,2})\s*(?:[-_/]\s*)?0*(\d{1,2})")
_LETTERS = 26


class Place(NamedTuple):
    """The position of an image: row and column of the well from 0 (-1 outside of a plate), and its field."""

    row: int
    column: int
    field: str

    @property
    def well(self) -> str:
        """Name of the well, ``"B03"``; empty for a position outside of a plate."""
        return well_name(self.row, self.column) if self.row >= 0 else ""

    @property
    def scene(self) -> str:
        """Name of the image, ``"B03/1"``."""
        return f"{self.well}/{self.field}" if self.row >= 0 else self.field


def row_letters(row: int) -> str:
    """Return the letters of a row that is counted from 0.

    Examples
    --------
    >>> row_letters(0), row_letters(25), row_letters(31)
    ('A', 'Z', 'AF')
    """
    before, last = divmod(row, _LETTERS)
    return (row_letters(before - 1) if before else "") + chr(ord("A") + last)


@cache
def well_name(row: int, column: int) -> str:
    """Return the name of a well; row and column are counted from 0.

    Examples
    --------
    >>> well_name(1, 2)
    'B03'
    """
    return f"{row_letters(row)}{column + 1:02d}"


def parse_well(text: str) -> tuple[int, int] | None:
    """Return row and column, from 0, of a well name in any usual form; None if it is not a well name.

    Examples
    --------
    >>> parse_well("B03"), parse_well("b3"), parse_well("B - 3"), parse_well("AF48"), parse_well("B00"), parse_well("x")
    ((1, 2), (1, 2), (1, 2), (31, 47), None, None)
    """
    found = _WELL.fullmatch(text.strip())
    if found is None or not int(found[2]):
        return None
    row = 0
    for letter in found[1].upper():
        row = row * _LETTERS + ord(letter) - ord("A") + 1
    return row - 1, int(found[2]) - 1


def parse_field(text: str) -> Place | None:
    """Return the position that a name such as ``"B03/2"`` means; None if it is not the name of a field.

    Examples
    --------
    >>> parse_field("B03/2") == parse_field("B/3/2")
    True
    """
    well, _, field = text.rpartition("/")
    found = parse_well(well)
    return Place(*found, field) if found and field else None


def named(name: str, places: Sequence[Place]) -> list[int] | None:
    """Return the indices of the positions in a well (``"B03"``), in any spelling of its name.

    None if there is no such well.
    """
    well = parse_well(name)
    found = [k for k, p in enumerate(places) if (p.row, p.column) == well]
    return found or None


def attrs_of(place: Place) -> dict[str, Any]:
    """Return the attributes of an image at a position: ``well`` and ``field``."""
    return {**({"well": place.well} if place.row >= 0 else {}), "field": place.field}


def coordinates_of(places: Sequence[Place]) -> dict[str, Coordinate]:
    """Return the coordinates along ``i`` of images at several positions."""
    values: dict[str, list[Any]] = {"field": [p.field for p in places]}
    if all(p.row >= 0 for p in places):
        values |= {"well": [p.well for p in places], "row": [p.row for p in places]}
        values |= {"column": [p.column for p in places]}
    return {k: Coordinate(("i",), np.asarray(v)) for k, v in values.items()}
