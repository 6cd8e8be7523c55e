"""Micro-Manager: many positions, as folders of single planes with ``metadata.txt``, or as ``_MMStack_`` files.

The label of a position such as ``B03-Site_2`` names a well and a field; other labels are positions outside of a plate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from intake_img.collections.file_names import natural_sorted
from intake_img.collections.listing import list_folder
from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable
from intake_img.errors import FormatError
from intake_img.formats.registry import autodetect
from intake_img.model.units import known_spacing
from intake_img.model.wells import Place, parse_well
from intake_img.storage.files import File

__all__ = ["table_of_positions"]

_SUMMARY = "metadata.txt"
_LABEL = re.compile(r"([A-Za-z]{1,2}\d{1,2})[-_ ]?(?:site|pos|position|field|f)?[-_ ]?(\d+)", re.I)
_PLANES = (
    re.compile(r"img_channel(?P<c>\d+)_position\d+_time(?P<t>\d+)_z(?P<z>\d+)\.tif", re.I),
    re.compile(r"img_(?P<t>\d{3,})_(?P<c>.+)_(?P<z>\d{3})\.tif", re.I),
)
_STACK = re.compile(r".*_MMStack(?:_(?P<label>.+?))?(?:_\d+)?\.ome\.tif", re.I)


def table_of_positions(folder: File, names: Sequence[str]) -> PlateTable | None:
    """Return the table of the positions in a folder; None if it is not from Micro-Manager, or has one position."""
    below = [n for n in natural_sorted(names) if re.match(r"(?:Pos|\d+-Pos|[A-Za-z]{1,2}\d{1,2}[-_])", n, re.I)]
    folders = [n for n in below if "." not in n]
    if folders and (folder / folders[0] / _SUMMARY).exists():
        return _of_folders(folder, folders)
    stacks = [n for n in natural_sorted(names) if _STACK.fullmatch(n)]
    return _of_stacks(folder, stacks) if len(stacks) > 1 else None


def _place(label: str) -> Place:
    found = _LABEL.fullmatch(label)
    well = parse_well(found[1]) if found else None
    return Place(*well, str(int(found[2]))) if found and well else Place(-1, -1, label)


def _of_folders(folder: File, names: Sequence[str]) -> PlateTable | None:
    """Return the table of folders of single planes: each folder is a position."""
    summary = _summary(folder / names[0] / _SUMMARY)
    channels = [str(c) for c in summary.get("ChNames") or []]
    planes: list[Plane] = []
    for label in names:
        place = _place(label)
        for name in natural_sorted(list_folder(folder / label)):
            if (found := next((m for p in _PLANES if (m := p.fullmatch(name))), None)) is not None:
                c = found["c"]
                number = int(c) if c.isdecimal() else _number(channels, c)
                planes.append(Plane(place, int(found["t"]), number, int(found["z"]), f"{label}/{name}"))
    if not planes:
        return None
    size, step = known_spacing(summary.get("PixelSize_um")), known_spacing(summary.get("z-step_um"))
    spacing = {a: v for a, v in (("z", step), ("y", size), ("x", size)) if v is not None}
    facts = PlateFacts(
        "Micro-Manager",
        folder.name,
        channels={n: Channel(c) for n, c in enumerate(channels)},
        spacing=spacing,
        header={"summary": summary},
    )
    return PlateTable(folder, planes, facts, folder / names[0] / _SUMMARY)


def _number(channels: list[str], name: str) -> int:
    if name not in channels:
        channels.append(name)
    return channels.index(name)


def _summary(file: File) -> Mapping[str, Any]:
    """Return the summary of an acquisition; the file of an interrupted acquisition is truncated."""
    text = file.read().decode("utf-8", "replace")
    start = re.search(r'"Summary"\s*:\s*', text)
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start.end()) if start else ({}, 0)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{file} is damaged: its summary is not JSON ({exc})") from exc
    if not isinstance(found, dict) or not isinstance(found.get("ChNames") or [], list):
        raise FormatError(f"{file} contains no summary of Micro-Manager")
    return found


def _of_stacks(folder: File, names: Sequence[str]) -> PlateTable | None:
    """Return the table of stacks, one file per position; further files (``..._1.ome.tif``) belong to their position."""
    first: dict[str, str] = {}
    for name in names:
        found = _STACK.fullmatch(name)
        first.setdefault((found["label"] if found else None) or name, name)
    if len(first) < 2:
        return None
    planes = []
    for n, (label, name) in enumerate(first.items()):
        scene = n if _scenes(folder / name) == len(first) else 0  # each file describes all positions, or its own
        planes.append(Plane(_place(label), None, None, None, name, scene=scene))
    return PlateTable(folder, planes, PlateFacts("Micro-Manager", folder.name), folder / names[0])


def _scenes(file: File) -> int:
    source = autodetect(file)
    try:
        return len(source.image().scenes)
    finally:
        source.close()
