"""Positions of fields that are missing in the index: stage positions from the images themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from intake_img.collections.plates.plate_table import Plane, PlateTable
from intake_img.formats.format_source import FormatSource
from intake_img.model.image import Image
from intake_img.model.wells import Place
from intake_img.storage.files import File

__all__ = ["located"]


def located(
    table: PlateTable, places: Sequence[Place], opener: Callable[[File, Mapping[str, Any]], FormatSource]
) -> PlateTable:
    """Return the table with the positions of some fields; for unknown positions, the header of a file is read.

    Supported are MetaSeries (ImageXpress) and files of this package.
    """
    lost = [p for p in places if math.isnan(sum(table.position(p)))]
    found = {p: _position(table.fields[p][0], table, opener) for p in lost}
    known = {p: at for p, at in found.items() if at is not None}
    if not known:
        return table
    planes = [p if p.place not in known else p._replace(x=known[p.place][0], y=known[p.place][1]) for p in table.planes]
    return replace(table, planes=planes)


def _position(plane: Plane, table: PlateTable, opener: Callable[..., FormatSource]) -> tuple[float, float] | None:
    options = {} if plane.scene is None else {"scene": plane.scene}
    try:
        image = opener(table.folder / plane.file, options).image()
    except FileNotFoundError:
        return None
    return _stated(image)


def _stated(image: Image) -> tuple[float, float] | None:
    """Return x and y in µm, y downwards: in MetaSeries it increases along the rows of wells."""
    found = image.header.get("metaseries")
    if isinstance(found, Mapping) and "stage-position-x" in found and "stage-position-y" in found:
        return float(found["stage-position-x"]), float(found["stage-position-y"])
    position = image.attrs.get("position")
    return (float(position[0]), float(position[1])) if isinstance(position, list) and len(position) == 2 else None
