"""Metadata of axes in the XML of a CZI file: names of channels and scenes, spacing, times, and our own record.

Parsing is tolerant: missing values, zeros and non-numbers are unknown. The long descriptions of the instrument are left
unparsed, which is most of the time that opening a file from ZEN would take.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from intake_img.errors import FormatError
from intake_img.model.units import known_spacing
from intake_img.model.untrusted import xml_root

__all__ = ["RECORD", "CziFacts", "parse_metadata", "without_record"]

RECORD = "intake_img"
"""Name of the custom attribute that contains `Image.record`."""
_RECORD_TEXT = re.compile(rf'(<{RECORD} Type="String">).*?(</{RECORD}>)', re.DOTALL)
_INSTRUMENT = ("Experiment", "HardwareSetting")
_ARGB = re.compile(r"#(?:[0-9a-fA-F]{2})?([0-9a-fA-F]{6})$")


@dataclass(frozen=True)
class CziFacts:
    """What the XML says.

    Parameters
    ----------
    spacing : dict of str to float
        µm along x, y and z, where known.
    channels : list of str or None
        Name of each channel by its index.
    colors : list of str or None
        Its colour as ``#RRGGBB``.
    scenes : dict of int to str
        Name of each scene by its index.
    times : list of float, optional
        Seconds, one for each time point.
    interval : float, optional
        Seconds from one time point to the next.
    record : object
        What was stored by `intake_img`, parsed.
    """

    spacing: dict[str, float] = field(default_factory=dict)
    channels: list[str | None] = field(default_factory=list)
    colors: list[str | None] = field(default_factory=list)
    scenes: dict[int, str] = field(default_factory=dict)
    times: list[float] | None = None
    interval: float | None = None
    record: Any = None


def parse_metadata(text: str) -> CziFacts:
    """Return what the XML in `text` says.

    Raises
    ------
    FormatError
        If it is not XML.
    """
    root = _parsed(text)
    metadata = root.find("Metadata")
    if metadata is None:
        return CziFacts()
    names, colors = _channels(metadata)
    times, interval = _times(metadata)
    return CziFacts(_spacing(metadata), names, colors, _scenes(metadata), times, interval, _record(metadata))


def without_record(text: str) -> str:
    """Return the XML without our record, which would else be nested in the record of the next file."""
    return _RECORD_TEXT.sub(r"\1\2", text)


def _parsed(text: str) -> ET.Element:
    brief = text
    for tag in _INSTRUMENT:
        start, stop = brief.find(f"<{tag}>"), brief.rfind(f"</{tag}>")
        if start < 0:
            start = brief.find(f"<{tag} ")
        if 0 <= start < stop and not 0 <= brief.find("<Information", start) < stop:
            brief = brief[:start] + brief[stop + len(tag) + 3 :]
    try:
        return xml_root(brief)
    except FormatError:
        return xml_root(text)


def _spacing(metadata: ET.Element) -> dict[str, float]:
    found = {}
    for item in metadata.iterfind("Scaling/Items/Distance"):
        axis = (item.get("Id") or "").lower()
        text = (item.findtext("Value") or "").strip()
        if axis in ("x", "y", "z") and known_spacing(text) is not None:
            found[axis] = float(Decimal(text).scaleb(6))  # metres; a product of floats would not be 0.1
    return found


def _channels(metadata: ET.Element) -> tuple[list[str | None], list[str | None]]:
    """Names and colours, from the description of the image, or else from that of its display."""
    own = metadata.findall("Information/Image/Dimensions/Channels/Channel")
    shown = metadata.findall("DisplaySetting/Channels/Channel")
    by_id = {c.get("Id"): c for c in shown if c.get("Id")}
    names: list[str | None] = []
    colors: list[str | None] = []
    for k in range(max(len(own), len(shown) if not own else 0)):
        channel = own[k] if own else None
        display = by_id.get(channel.get("Id")) if channel is not None else None
        if display is None and k < len(shown) and len(shown) == max(len(own), len(shown)):
            display = shown[k]
        both = [c for c in (channel, display) if c is not None]
        names.append(next((name for c in both if (name := (c.get("Name") or "").strip())), None))
        colors.append(next((f"#{m[1].upper()}" for c in both if (m := _ARGB.match(c.findtext("Color") or ""))), None))
    if any(names):  # one that is named by its identifier alone, beside others with names
        ids = [c.get("Id") or f"Channel:{k}" for k, c in enumerate(own or shown)]
        names = [name or ids[k] for k, name in enumerate(names)]
    return names, colors


def _scenes(metadata: ET.Element) -> dict[int, str]:
    """Names; of positions in wells that are called alike in each well, with the well before it."""
    scenes = metadata.findall("Information/Image/Dimensions/S/Scenes/Scene")
    names: dict[int, str] = {}
    wells: dict[int, str] = {}
    for k, scene in enumerate(scenes):
        number = _integer(scene.get("Index"), k)
        shape = scene.find("Shape")
        well = (scene.findtext("ArrayName") or (shape.get("Name") if shape is not None else "") or "").strip()
        if name := (scene.get("Name") or "").strip() or well:
            names[number], wells[number] = name, well
    often = Counter(names.values())
    return {
        k: f"{wells[k]}-{name}" if often[name] > 1 and wells[k] not in ("", name) else name for k, name in names.items()
    }


def _times(metadata: ET.Element) -> tuple[list[float] | None, float | None]:
    positions = metadata.find("Information/Image/Dimensions/T/Positions")
    if positions is None:
        return None, None
    interval = known_spacing(positions.findtext("Interval/Increment"))
    try:
        return [float(v) for v in (positions.findtext("List/Offsets") or "").split()] or None, interval
    except ValueError:
        return None, interval


def _record(metadata: ET.Element) -> Any:
    text = metadata.findtext(f"Information/CustomAttributes/KeyValue/{RECORD}")
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _integer(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text) else default
