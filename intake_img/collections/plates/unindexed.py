"""Plates without an index: file names give well, field, time, channel and section."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from intake_img.collections.file_names import natural_key, natural_sorted
from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable
from intake_img.errors import warn
from intake_img.model.wells import Place, parse_well
from intake_img.storage.files import File

__all__ = ["facts_in_names", "note_of_names", "table_of_names"]

_TIFF = r"\.tiff?"
_GUID = r"(?:[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12})?"
_SCHEMES: tuple[tuple[str, str], ...] = (
    (
        "Operetta or Opera Phenix",
        r"r(?P<row>\d\d)c(?P<column>\d\d)f(?P<field>\d+)p(?P<z>\d+)-ch(?P<c>\d+)sk(?P<t>\d+)fk\d+fl\d+",
    ),
    ("CellVoyager", r".*_(?P<well>[A-Z]{1,2}\d\d)_T(?P<t>\d{4})F(?P<field>\d{3})L\d\dA\d\dZ(?P<z>\d\d)C(?P<c>\d\d)"),
    (
        "ImageXpress",
        rf"(?:.*?_)?(?P<well>(?-i:[A-Z]{{1,2}}\d\d))(?:_s(?P<field>\d+)(?:_w(?P<c>\d+))?|_w(?P<c_>\d+)){_GUID}",
    ),
    (
        "InCell",
        r"(?P<well>[A-Z]{1,2} - \d{1,2})\(fld (?P<field>\d+)(?: wv (?P<c>[^()]+?))?"
        r"(?: z (?P<z>\d+))?(?: tm (?P<t>\d+))?\)",
    ),
    ("scanR", r"(?P<well>[A-Z]{1,2}\d{1,2})--W\d+--P(?P<field>\d+)--Z(?P<z>\d+)--T(?P<t>\d+)--(?P<c>.+)"),
    (
        "positions, channels and times",
        r"(?P<position>(?:pos|position|xy|fov)[_-]?\d+)_(?P<c>[A-Za-z0-9 .\-]+)_t(?P<t>\d+)(?:_z(?P<z>\d+))?",
    ),
)
"""Title of each scheme and the names of its files, without extension. Groups are columns of the table."""
_Groups = dict[str, str | None]
_THUMBNAIL = re.compile(r".*_thumb.*", re.I)


def table_of_names(folder: File, names: Sequence[str]) -> PlateTable | None:
    """Return the table from the file names in a folder; None if not all follow one scheme.

    Parameters
    ----------
    folder : File
    names : sequence of str
        Names of the images in it.

    Warns
    -----
    UserWarning
        The interpretation of the names.
    """
    found = _table(folder, names)
    if found is None:
        return None
    table, title = found
    warn(
        f"{folder} has no index: the names of its {len(table.planes)} files are taken as those of {title} "
        f"({_contents(table)}); a pattern ('{{well}}_s{{site}}.tif') or ext='tif' reads them differently"
    )
    return table


def note_of_names(folder: File, names: Sequence[str]) -> str | None:
    """Return as which plate `imload` takes a folder; None if the names do not follow one scheme with wells."""
    found = _table(folder, names)
    if found is None or not found[0].wells:
        return None
    table, title = found
    return (
        f"the names of its {len(table.planes)} files are those of {title} ({_contents(table)}): the images of each "
        "well are listed on their own; imload and plate open the folder as a plate"
    )


def _table(folder: File, names: Sequence[str]) -> tuple[PlateTable, str] | None:
    kept = [n for n in names if not _THUMBNAIL.fullmatch(n)]
    if len(kept) < 2:
        return None
    for title, matches in _schemes(kept):
        if (planes := _planes(kept, matches)) is not None:
            ordered = sorted(planes, key=lambda p: natural_key(p.file))
            facts = PlateFacts(f"{title}, by the names of its files", channels=_named(_labels(matches)))
            return PlateTable(folder, ordered, facts), title
    return None


def facts_in_names(names: Sequence[str]) -> list[dict[str, Any]] | None:
    """Return what names of files say, in the columns that `intake_img.plate` takes; None if not all follow one scheme.

    Examples
    --------
    >>> facts_in_names(["B02_s1_w2.tif"])
    [{'well': 'B02', 'field': '1', 'c': 2}]
    >>> facts_in_names(["pos01_GFP_t001.tif"])
    [{'field': 'pos01', 'channel': 'GFP', 'c': 0, 't': 1}]
    """
    for _, matches in _schemes(names):
        if (planes := _planes(names, matches)) is not None:
            channels = _named(_labels(matches))
            return [_columns(plane, channels) for plane in planes]
    return None


def _columns(plane: Plane, channels: Mapping[int, Channel]) -> dict[str, Any]:
    name = channels.get(-1 if plane.c is None else plane.c)
    found = {
        "well": plane.place.well or None,
        "field": plane.place.field,
        "channel": name.name if name else None,
        "c": plane.c,
        "t": plane.t,
        "z": plane.z,
    }
    return {k: v for k, v in found.items() if v is not None}


def _schemes(names: Sequence[str]) -> Iterator[tuple[str, list[_Groups]]]:
    """Yield the title of each scheme that all names follow, and the groups of each name."""
    for title, pattern in _SCHEMES:
        compiled = re.compile(pattern + _TIFF, re.I)
        if not names or compiled.fullmatch(names[0]) is None:
            continue
        found = [match.groupdict() for name in names if (match := compiled.fullmatch(name))]
        if len(found) == len(names):
            yield title, found


def _planes(names: Sequence[str], matches: Sequence[_Groups]) -> list[Plane] | None:
    """Return the planes that names mean; None if a well is none."""
    labels = _labels(matches)
    planes = []
    for name, f in zip(names, matches, strict=True):
        place = _place(f)
        if place is None:
            return None
        channel = _channel(f)
        t, z = (None if f.get(a) is None else int(f[a] or 0) for a in "tz")
        c = None if channel is None else int(channel) if channel.isdecimal() else labels.index(channel)
        planes.append(Plane(place, t, c, z, name))
    return planes


def _labels(matches: Sequence[_Groups]) -> list[str]:
    return natural_sorted({name for f in matches if (name := _channel(f)) is not None})


def _named(labels: Sequence[str]) -> dict[int, Channel]:
    return {} if all(n.isdecimal() for n in labels) else {k: Channel(n) for k, n in enumerate(labels)}


def _channel(groups: _Groups) -> str | None:
    return groups.get("c") or groups.get("c_")


def _place(groups: _Groups) -> Place | None:
    if position := groups.get("position"):
        return Place(-1, -1, position)
    field = str(int(groups.get("field") or 1))
    if row := groups.get("row"):
        column = int(groups["column"] or 0)
        return Place(int(row) - 1, column - 1, field) if int(row) and column else None
    well = parse_well(groups.get("well") or "")
    return Place(*well, field) if well else None


def _contents(table: PlateTable) -> str:
    what = f"{len(table.wells)} wells, {len(table.fields)} fields" if table.wells else f"{len(table.fields)} positions"
    return ", ".join([what, *(f"{a} {len(table.numbers(a))}" for a in table.axes)])
