"""Tables of images as plates: the rows of a DataFrame become planes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable
from intake_img.errors import FormatError
from intake_img.model.wells import Place, parse_well
from intake_img.storage.files import File

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["table_from"]


def table_from(frame: pd.DataFrame, folder: Any, storage_options: Mapping[str, Any] | None = None) -> PlateTable:
    """Return the table of a DataFrame; see `intake_img.plate` for its columns.

    Raises
    ------
    ValueError
        If a column is missing, or contains an invalid well or number.
    """
    known = {*Plane._fields, "well", "row", "column", "field", "channel", "present"}
    if "file" not in frame.columns or not ({"well"} <= {*frame.columns} or {"row", "column"} <= {*frame.columns}):
        raise ValueError(
            f"a table of images needs the columns 'file' and 'well' (or 'row' and 'column'), got {list(frame.columns)}"
        )
    lines = frame[[c for c in frame.columns if c in known]].to_dict("records")
    named = [line for line in lines if _is_known(line.get("channel"))]
    if named and "c" in frame.columns:
        channels = {int(line["c"]): Channel(str(line["channel"])) for line in named if _is_known(line["c"])}
    else:
        numbers = {name: n for n, name in enumerate(dict.fromkeys(str(line["channel"]) for line in named))}
        channels = {n: Channel(name) for name, n in numbers.items()}
        lines = [line | ({"c": numbers.get(str(line["channel"]))} if numbers else {}) for line in lines]
    root, below = _root(folder, [line["file"] for line in lines], storage_options)
    planes = [_plane(line, file) for line, file in zip(lines, below, strict=True)]
    _check_scenes(planes)
    _check_numbers(planes)
    return PlateTable(root, planes, PlateFacts("table of images", channels=channels))


def _check_numbers(planes: Sequence[Plane]) -> None:
    """Raise an error for a row without a number along an axis of which other rows have several."""
    for axis, column in (("t", "'t'"), ("c", "'channel' or 'c'"), ("z", "'z'")):
        numbers = {getattr(p, axis) for p in planes}
        if None in numbers and len(numbers) > 1:
            one = next(p for p in planes if getattr(p, axis) is None)
            raise FormatError(
                f"the table of images has no {column} for {one.file!r}, but for other files: fill the column"
            )


def _check_scenes(planes: Sequence[Plane]) -> None:
    """Raise an error for a field of several rows, some of which are scenes: a scene is a complete field."""
    rows = Counter(p.place for p in planes)
    if one := next((p for p in planes if p.scene is not None and rows[p.place] > 1), None):
        raise FormatError(
            f"the table of images has {rows[one.place]} rows of the field {one.place.scene!r}, and scenes among them: "
            "a scene is a complete field; give the page instead"
        )


def _root(folder: Any, files: list[Any], storage_options: Mapping[str, Any] | None) -> tuple[File, list[str]]:
    """Return the common folder of all files, and their names relative to it."""
    if folder is not None:
        return File.parse(folder, storage_options), [str(f) for f in files]
    whole = [f if isinstance(f, File) else File.parse(str(f), storage_options) for f in files]
    parents = [f.path.split("/")[:-1] for f in whole]
    first, last = min(parents), max(parents)
    shared = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    base = "/".join(first[:shared])
    return whole[0].at(base or "/"), [f.path[len(base) :].lstrip("/") for f in whole]


def _plane(line: Mapping[str, Any], file: str) -> Plane:
    at = {a: _whole(line, a) for a in ("t", "c", "z", "page", "scene")}
    measured = {a: _number(line, a) for a in ("x", "y", "height", "seconds")}
    return Plane(_place(line), at["t"], at["c"], at["z"], file, at["page"], at["scene"], **measured)


def _place(line: Mapping[str, Any]) -> Place:
    field = line.get("field", "1")
    name = str(int(field)) if isinstance(field, float) and field.is_integer() else str(field)
    if "well" not in line:
        return Place(int(line["row"]), int(line["column"]), name)
    well = str(line["well"] or "")
    found = parse_well(well) if well else (-1, -1)
    if found is None:
        raise ValueError(f"the table of images has the well {well!r}: expected a name such as 'B03'")
    return Place(*found, name)


def _is_known(value: Any) -> bool:
    return value is not None and str(value) != "<NA>" and bool(value == value)


def _whole(line: Mapping[str, Any], key: str) -> int | None:
    value = line.get(key)
    if value is None or not _is_known(value):
        return None
    if isinstance(value, str) or int(value) != value or int(value) < 0:
        raise FormatError(f"the table of images has {key}={value!r}: expected a whole number, from 0")
    return int(value)


def _number(line: Mapping[str, Any], key: str) -> float:
    value = line.get(key)
    return math.nan if value is None else float(value)
