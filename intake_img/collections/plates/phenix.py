"""Operetta, Opera Phenix and Sonata: ``Index.idx.xml`` (``Index.ref.xml``, ``Index.xml``) of Harmony.

Harmony V5 writes all metadata with each image; since V6 the metadata of a channel are in ``Maps/Map/Entry`` and apply
to its images. Lengths are in metres, ``PositionY`` points up. The file is beside the images or, since V7, above their
folder ``Images``. The reader follows Bio-Formats (``OperettaReader``).
"""

from __future__ import annotations

from collections.abc import Mapping

from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable, folder_of
from intake_img.collections.plates.xml import number, scan, whole
from intake_img.errors import FormatError
from intake_img.model.units import known_spacing
from intake_img.model.wells import Place
from intake_img.storage.files import File

__all__ = ["read"]

_MICRO = 1e6  # µm in a metre
_OF_PLATE = ("PlateID", "MeasurementID", "MeasurementStartTime", "Name", "PlateTypeName")
_FACTS = ("ObjectiveMagnification", "ObjectiveNA", "BinningX", "BinningY", "ImageSizeX", "ImageSizeY")


def read(file: File) -> PlateTable:
    """Return the table of an index."""
    found = _Index()
    root = scan(file, {"Image": found.image, "Entry": found.entry, "Plate": found.plate})
    if root != "EvaluationInputData":
        raise FormatError(f"{file} is not an index of Harmony: expected EvaluationInputData, got {root or 'nothing'}")
    plate, first = found.of_plate, found.of_channels
    facts = PlateFacts(
        "Operetta or Opera Phenix",
        plate.get("Name") or plate.get("PlateID") or "",
        whole(plate.get("PlateRows"), 0),
        whole(plate.get("PlateColumns"), 0),
        {c: _channel(c, r) for c, r in first.items()},
        _spacing(next(iter(first.values()), {})),
        {
            "plate": {k: plate[k] for k in _OF_PLATE if k in plate},
            "image": {k: r[k] for r in first.values() for k in _FACTS if k in r},
        },
    )
    return PlateTable(
        folder_of(file, found.planes[0].file if found.planes else None, "Images"), found.planes, facts, file
    )


class _Index:
    """The data collected from an index while it is read."""

    def __init__(self) -> None:
        self.planes: list[Plane] = []
        self.of_channels: dict[int, dict[str, str]] = {}
        self.of_plate: dict[str, str] = {}
        self._entries: dict[str, dict[str, str]] = {}

    def plate(self, found: dict[str, str]) -> None:
        self.of_plate = self.of_plate or found

    def entry(self, found: dict[str, str]) -> None:
        """Collect the facts of a channel from the maps of Harmony V6."""
        self._entries.setdefault(found.get("ChannelID", ""), {}).update(found)

    def image(self, found: dict[str, str]) -> None:
        if not found.get("URL", "").strip():
            return
        plane = _plane(found)
        self.planes.append(plane)
        if plane.c not in self.of_channels:
            self.of_channels[plane.c or 0] = self._entries.get(found.get("ChannelID", ""), {}) | found


def _plane(r: Mapping[str, str]) -> Plane:
    place = Place(whole(r.get("Row"), 1) - 1, whole(r.get("Col"), 1) - 1, r.get("FieldID", "1").strip())
    t, c, z = (whole(r.get(k), 0) for k in ("TimepointID", "ChannelID", "PlaneID"))
    height = number(r.get("PositionZ"), _MICRO)
    x, y = number(r.get("PositionX"), _MICRO), 0.0 - number(r.get("PositionY"), _MICRO)
    seconds = number(r.get("MeasurementTimeOffset"))
    return Plane(place, t, c, z, r["URL"].strip(), x=x, y=y, height=height, seconds=seconds)


def _channel(c: int, r: Mapping[str, str]) -> Channel:
    emission, excitation = (known_spacing(number(r.get(f"Main{k}Wavelength"))) for k in ("Emission", "Excitation"))
    return Channel(r.get("ChannelName", "").strip() or f"channel {c}", None, emission, excitation)


def _spacing(first: Mapping[str, str]) -> dict[str, float]:
    sizes = {a: number(first.get(f"ImageResolution{a.upper()}"), _MICRO) for a in "xy"}
    return {a: v for a, v in sizes.items() if known_spacing(v) is not None}
