"""scanR: ``data/metadata.ome.xml``, OME-XML whose images name a file for each plane.

The well and the number of a position are in the name of the image (``Well 14, Position 1 (B2)``); positions are µm on
the stage; its ``y`` is assumed to increase with the rows of the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable, folder_of
from intake_img.collections.plates.xml import Element, number, parse, whole
from intake_img.errors import FormatError
from intake_img.model.units import canonical, convert, known_spacing
from intake_img.model.wells import Place, parse_well
from intake_img.storage.files import File

__all__ = ["read"]

_METADATA, _EXPERIMENT = "metadata.ome.xml", "experiment_descriptor.xml"
_IMAGE = re.compile(r".*?(?:Position|Pos\.?)\s*(\d+).*?\(([A-Za-z]{1,2}\d{1,2})\)")


def read(file: File) -> PlateTable:
    """Return the table of an index; for a descriptor of the experiment, the table of the metadata in ``data``."""
    if file.name.lower() == _EXPERIMENT:
        file = file.parent / "data" / _METADATA
        if not file.exists():
            raise FormatError(f"{file} does not exist: scanR writes it with the OME export, beside the images")
    root = parse(file)
    images = root.findall("Image")
    if root.tag != "OME" or not images:
        raise FormatError(f"{file} is not a metadata file of scanR: expected OME with images, got {root.tag}")
    planes = [plane for image in images for plane in _planes(image)]
    pixels = images[0].find("Pixels")
    names = [] if pixels is None else [c.get("Name") or f"channel {n}" for n, c in enumerate(pixels.findall("Channel"))]
    facts = PlateFacts(
        "scanR",
        channels={n: Channel(name) for n, name in enumerate(names)},
        spacing={} if pixels is None else _spacing(pixels),
        header={"creator": root.get("Creator", "")},
    )
    return PlateTable(folder_of(file, planes[0].file if planes else None, "data"), planes, facts, file)


def _planes(image: Element) -> Iterator[Plane]:
    """Yield the planes of an image, with the positions and times from its Plane elements."""
    pixels = image.find("Pixels")
    place = _place(image.get("Name", ""))
    if pixels is None:
        return
    about = {tuple(whole(p.get(f"The{a}"), 0) for a in "TCZ"): p for p in pixels.findall("Plane")}
    for data in pixels.findall("TiffData"):
        uuid = data.find("UUID")
        if uuid is None or not uuid.get("FileName"):
            continue
        t, c, z = (whole(data.get(f"First{a}"), 0) for a in "TCZ")
        p = about.get((t, c, z), data)
        x, y, height = (number(p.get(f"Position{a}")) for a in "XYZ")
        page = whole(data.get("IFD"), 0) or None
        yield Plane(
            place, t, c, z, uuid.get("FileName", ""), page, x=x, y=y, height=height, seconds=number(p.get("DeltaT"))
        )


def _place(name: str) -> Place:
    found = _IMAGE.match(name)
    well = parse_well(found[2]) if found else None
    return Place(*well, found[1]) if found and well else Place(-1, -1, name)


def _spacing(pixels: Element) -> dict[str, float]:
    found = {}
    for axis in "xyz":
        key = f"PhysicalSize{axis.upper()}"
        value = known_spacing(number(pixels.get(key)))
        if value is not None:
            found[axis] = convert(value, canonical(pixels.get(f"{key}Unit")) or "µm", "µm")
    return found
