"""InCell Analyzer and IN Carta: the ``.xdce`` beside the images.

``PlatePosition_um`` is measured from the corner of the plate; its ``y`` increases with the rows of wells.
"""

from __future__ import annotations

from collections.abc import Mapping

from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable
from intake_img.collections.plates.xml import number, scan, whole
from intake_img.errors import FormatError
from intake_img.model.units import known_spacing
from intake_img.model.wells import Place, parse_well
from intake_img.storage.files import File

__all__ = ["read"]


def read(file: File) -> PlateTable:
    """Return the table of an index."""
    images: list[dict[str, str]] = []
    plates: list[dict[str, str]] = []
    scales: list[dict[str, str]] = []
    calls = {"Image": images.append, "Plate": plates.append, "ObjectiveCalibration": scales.append}
    root = scan(file, calls, inner=True)
    if root != "ImageStack":
        raise FormatError(f"{file} is not an index of an InCell: expected ImageStack, got {root or 'nothing'}")
    named = [(r, place) for r in images if r.get("filename") and (place := _place(r)) is not None]
    channels: dict[int, Channel] = {}
    for r, _ in named:
        channels.setdefault(whole(r.get("Identifier@wave_index"), 0), _channel(r))
    plate, scale = (found[0] if found else {} for found in (plates, scales))
    sizes = {"x": number(scale.get("pixel_width")), "y": number(scale.get("pixel_height"))}
    facts = PlateFacts(
        "InCell",
        plate.get("name", ""),
        whole(plate.get("rows"), 0),
        whole(plate.get("columns"), 0),
        channels,
        {a: v for a, v in sizes.items() if known_spacing(v) is not None},
    )
    return PlateTable(file.parent, [_plane(r, place) for r, place in named], facts, file)


def _place(r: Mapping[str, str]) -> Place | None:
    row, column = whole(r.get("Row@number"), 0), whole(r.get("Column@number"), 0)
    well = (row - 1, column - 1) if row > 0 and column > 0 else parse_well(r.get("Well@label", ""))
    return Place(*well, str(whole(r.get("Identifier@field_index"), 0) + 1)) if well else None


def _plane(r: Mapping[str, str], place: Place) -> Plane:
    t, c, z = (whole(r.get(f"Identifier@{k}_index"), 0) for k in ("time", "wave", "z"))
    x, y = (number(r.get(f"PlatePosition_um@{a}")) for a in "xy")
    seconds = number(r.get("acquisition_time_ms"), 1e-3)
    height = number(r.get("FocusPosition@z"))
    return Plane(place, t, c, z, r["filename"].replace("\\", "/"), x=x, y=y, height=height, seconds=seconds)


def _channel(r: Mapping[str, str]) -> Channel:
    names = dict.fromkeys(n for k in ("Excitation", "Emission") if (n := r.get(f"{k}Filter@name", "").strip()))
    wave = whole(r.get("Identifier@wave_index"), 0)
    emission, excitation = (known_spacing(number(r.get(f"{k}Filter@wavelength"))) for k in ("Emission", "Excitation"))
    return Channel(" - ".join(names) or f"channel {wave}", None, emission, excitation)
