"""CellVoyager, CV7000 and CV8000: ``MeasurementData.mlf``, with ``MeasurementDetail.mrf`` and the ``.mes`` beside it.

A record of the type IMG is a plane in a separate TIFF; records of the type ERR are planes that the instrument could not
record. ``X`` and ``Y`` are µm from the centre of the well, ``Y`` points up. A channel that is recorded in several
actions (for example a stack and a single plane) becomes several channels. The reader follows Bio-Formats
(``CV7000Reader``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from intake_img.collections.listing import list_folder
from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable
from intake_img.collections.plates.xml import Element, number, parse, scan, whole
from intake_img.errors import FormatError
from intake_img.model.units import known_spacing
from intake_img.model.wells import Place
from intake_img.storage.files import File

__all__ = ["read"]

_DETAIL = "measurementdetail.mrf"


@dataclass(frozen=True)
class _Detail:
    """Facts of the plate from the file of details."""

    name: str = ""
    rows: int = 0
    columns: int = 0
    spacing: Mapping[str, float] | None = None


def read(file: File) -> PlateTable:
    """Return the table of an index."""
    records: list[dict[str, str]] = []
    root = scan(file, {"MeasurementRecord": records.append})
    if root != "MeasurementData":
        raise FormatError(f"{file} is not an index of a CellVoyager: expected MeasurementData, got {root or 'nothing'}")
    images = [r for r in records if r.get("Type", "IMG") == "IMG" and r[""]]
    known = {n.lower(): n for n in list_folder(file.parent)}
    detail = _detail(file.sibling(known[_DETAIL])) if _DETAIL in known else _Detail()
    settings = next((name for lower, name in sorted(known.items()) if lower.endswith(".mes")), None)
    channels = _channels(file.sibling(settings)) if settings else {}
    numbers, names = _numbered(images, channels)
    start = min((t for r in images if (t := _moment(r.get("Time")))), default=None)
    planes = [_plane(r, c, start) for r, c in zip(images, numbers, strict=True)]
    facts = PlateFacts(
        "CellVoyager",
        detail.name,
        detail.rows,
        detail.columns,
        names,
        detail.spacing or {},
        {"records": len(records), "errors": len(records) - len(images)},
    )
    return PlateTable(file.parent, planes, facts, file)


def _plane(r: Mapping[str, str], c: int, start: datetime | None) -> Plane:
    place = Place(whole(r.get("Row"), 1) - 1, whole(r.get("Column"), 1) - 1, str(whole(r.get("FieldIndex"), 1)))
    moment = _moment(r.get("Time"))
    seconds = (moment - start).total_seconds() if moment and start else math.nan
    x, y, height = number(r.get("X")), 0.0 - number(r.get("Y")), number(r.get("Z"))
    t, z = whole(r.get("TimePoint"), 1), whole(r.get("ZIndex"), 1)
    return Plane(place, t, c, z, r[""], x=x, y=y, height=height, seconds=seconds)


def _moment(text: str | None) -> datetime | None:
    """Return a time of an instrument, without its zone: fractions may have more digits than Python can parse."""
    found = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?", text or "")
    try:
        return datetime.fromisoformat(found[0]) if found else None
    except ValueError:
        return None


def _numbered(
    records: Sequence[Mapping[str, str]], known: Mapping[int, Channel]
) -> tuple[list[int], dict[int, Channel]]:
    """Return a number for the channel of each record, and the channels: one for each action that records it."""
    pairs = [(whole(r.get("Ch"), 1), whole(r.get("ActionIndex"), 1)) for r in records]
    actions: dict[int, list[int]] = {}
    for c, action in sorted(set(pairs)):
        actions.setdefault(c, []).append(action)
    numbers, channels = {}, {}
    for n, (c, action) in enumerate(sorted(set(pairs))):
        channel = known.get(c) or Channel(f"channel {c}")
        several = len(actions[c]) > 1
        numbers[c, action] = n if any(len(a) > 1 for a in actions.values()) else c
        channels[numbers[c, action]] = replace(channel, name=f"{channel.name}, action {action}") if several else channel
    return [numbers[pair] for pair in pairs], channels


def _detail(file: File) -> _Detail:
    root = parse(file)
    plate = root.find("MeasurementSamplePlate")
    first = root.find("MeasurementChannel")
    sizes = (
        {} if first is None else {"x": first.get("HorizontalPixelDimension"), "y": first.get("VerticalPixelDimension")}
    )
    spacing = {a: v for a, text in sizes.items() if (v := known_spacing(number(text))) is not None}
    name = "" if plate is None else plate.get("Name", "")
    return _Detail(name, whole(root.get("RowCount"), 0), whole(root.get("ColumnCount"), 0), spacing)


def _channels(file: File) -> dict[int, Channel]:
    root = parse(file)
    lights = {e.get("Name", ""): number(e.get("WaveLength")) for e in root.iter("LightSource")}
    return {whole(e.get("Ch"), 0): _channel(e, lights) for e in root.iter("Channel")}


def _channel(e: Element, lights: Mapping[str, float]) -> Channel:
    number_ = whole(e.get("Ch"), 0)
    colour = re.fullmatch(r"#(?:[0-9A-Fa-f]{2})?([0-9A-Fa-f]{6})", e.get("Color", ""))
    band = re.search(r"(\d{3,4})(?:/\d+)", e.get("Acquisition", ""))
    light = e.find("LightSourceName")
    excitation = known_spacing(lights.get(light.text or "", math.nan)) if light is not None else None
    name = e.get("Target") or e.get("Acquisition") or f"channel {number_}"
    return Channel(name, f"#{colour[1].upper()}" if colour else None, float(band[1]) if band else None, excitation)
