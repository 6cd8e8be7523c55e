"""Axes from the XML of a Leica image: spacing, origin, channels, tiles of a mosaic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from intake_img.formats.lif.layout import Dimension, LifLayout
from intake_img.model.axes import RGB
from intake_img.model.image import Coordinate

__all__ = ["axis_facts"]

_UNITS = {"l": ("nm", 9), "e": ("nm", 9), "m": ("", 0)}  # those of axes in metres, by powers of ten


def axis_facts(image: Element, layout: LifLayout) -> dict[str, Any]:
    """Return spacing, units, origin and coordinates for `Image.single`."""
    facts: dict[str, Any] = {"spacing": {}, "units": {}, "origin": {}, "coords": {}}
    for d in layout.dimensions:
        _add_axis(facts, d)
    facts["coords"] |= _channels(image, layout)
    facts["coords"] |= _tiles(image, next((d.size for d in layout.dimensions if d.axis == "m"), 0))
    return facts


def _add_axis(facts: dict[str, Any], d: Dimension) -> None:
    """A length goes from the first element to the last; a negative one belongs to a falling coordinate."""
    unit, power = _UNITS.get(d.axis, ("µm", 6)) if d.unit == "m" else (d.unit, 0)
    if d.axis == "m" or d.size < 2 or not d.length or not (math.isfinite(d.length) and math.isfinite(d.origin)):
        return
    step, origin = (_scaled(v, power) for v in (d.length / (d.size - 1), d.origin))
    facts["units"][d.axis] = unit
    if step > 0:
        facts["spacing"][d.axis], facts["origin"][d.axis] = step, origin
    else:
        facts["coords"][d.axis] = Coordinate((d.axis,), origin + step * np.arange(d.size))


def _scaled(value: float, power: int) -> float:
    return float(Decimal(repr(value)).scaleb(power))  # a product of floats would not be 0.1


def _channels(image: Element, layout: LifLayout) -> dict[str, Coordinate]:
    """Names of dyes, else of the colours in which the channels are shown, if these differ."""
    if layout.colours:
        return {"c": Coordinate(("c",), np.asarray(RGB[:3]))}
    described = image.findall("./ImageDescription/Channels/ChannelDescription")
    names = _distinct([_dye(c) for c in described]) or _distinct([c.get("LUTName", "") for c in described])
    if not names:
        return {}
    if len(names) == 1:
        return {"c": Coordinate((), np.asarray(names[0]))}
    return {"c": Coordinate(("c",), np.asarray(names))}


def _dye(channel: Element) -> str:
    for entry in channel.findall("./ChannelProperty"):
        if entry.findtext("Key") == "DyeName":
            return (entry.findtext("Value") or "").strip()
    return ""


def _distinct(names: Sequence[str]) -> list[str]:
    return list(names) if all(names) and len(set(names)) == len(names) else []


def _tiles(image: Element, count: int) -> dict[str, Coordinate]:
    """Positions of the tiles of a mosaic on the stage."""
    tiles = image.findall("./Attachment[@Name='TileScanInfo']/Tile")
    if not count or len(tiles) < count:
        return {}
    found = {}
    for axis in "yx":
        values = np.asarray([_scaled(float(t.get(f"Pos{axis.upper()}", "nan")), 6) for t in tiles[:count]])
        if np.isfinite(values).all():
            found[f"position_{axis}"] = Coordinate(("m",), values, {"units": "µm"})
    return found
