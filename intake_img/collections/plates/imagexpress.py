"""ImageXpress: the folder of a ``.HTD`` file, which describes the planned acquisition, not the existing files.

The text is quoted CSV in Windows-1252. Images are named ``<plate>_<well>[_s<site>][_w<wavelength>].tif``, in
``TimePoint_<n>`` and ``ZStep_<n>`` if there are several; ``ZStep_0`` contains projections, files with ``_thumb`` are
thumbnails: both are left out. A sequence of hexadecimal digits may follow. The spacing is in the files (MetaSeries).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence

from intake_img.collections.file_names import natural_sorted
from intake_img.collections.listing import list_folder
from intake_img.collections.plates.plate_table import Channel, Plane, PlateFacts, PlateTable
from intake_img.collections.plates.xml import whole
from intake_img.errors import FormatError, warn
from intake_img.model.wells import Place, parse_well
from intake_img.storage.files import File

__all__ = ["read"]

_FOLDER = re.compile(r"(TimePoint|ZStep)_(\d{1,6})", re.I)
_NAME = re.compile(
    r".*?_(?P<well>(?-i:[A-Z]{1,2}\d{2}))(?:_s(?P<s>\d{1,6}))?(?:_w(?P<w>\d{1,3}))?(?:_t(?P<t>\d{1,6}))?(?:_z(?P<z>\d{1,6}))?"
    r"(?:[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12})?\.tiff?",
    re.I,
)


def read(file: File) -> PlateTable:
    """Return the table of the images in the folder of an index."""
    settings = _facts(file)
    planes = list(_planes(file.parent, "", {}))
    if not planes:
        raise FormatError(f"{file}: none of the files in its folder is named like an image of ImageXpress")
    channels = {
        n: Channel(settings.get(f"WaveName{n}", [""])[0] or f"channel {n}") for n in {p.c for p in planes if p.c}
    }
    plan = {
        k: whole(settings.get(k, [None])[0], 0) for k in ("TimePoints", "ZSteps", "NWavelengths", "XSites", "YSites")
    }
    facts = PlateFacts(
        "ImageXpress",
        file.name.rpartition(".")[0],
        whole(settings.get("YWells", [None])[0], 0),
        whole(settings.get("XWells", [None])[0], 0),
        channels,
        {},
        {"planned": plan, "description": settings.get("Description", [""])[0]},
    )
    table = PlateTable(file.parent, planes, facts, file)
    _compare(table, plan)
    return table


def _facts(file: File) -> dict[str, list[str]]:
    text = file.read().decode("cp1252", "replace")
    try:
        lines = list(csv.reader(text.splitlines(), skipinitialspace=True))
    except csv.Error as exc:
        raise FormatError(f"{file} is damaged: it is not a list of quoted values ({exc})") from exc
    facts = {line[0].strip(): [v.strip() for v in line[1:]] or [""] for line in lines if line}
    if "HTSInfoFile" not in facts:
        raise FormatError(f"{file} is not an index of ImageXpress: expected a line 'HTSInfoFile'")
    return facts


def _planes(folder: File, below: str, numbers: Mapping[str, int]) -> Iterator[Plane]:
    """Yield the planes in a folder, and in those of times and sections in it."""
    for name in natural_sorted(list_folder(folder)):
        inner = _FOLDER.fullmatch(name)
        axis = "t" if inner and inner[1].lower() == "timepoint" else "z"
        if inner and axis not in numbers:
            n = int(inner[2])
            if n or axis == "t":  # section 0 is the projection
                yield from _planes(folder / name, f"{below}{name}/", {**numbers, axis: n})
        elif (found := _NAME.fullmatch(name)) and (well := parse_well(found["well"])):
            t, z = (_number(found[a], numbers.get(a)) for a in "tz")
            c = _number(found["w"], 1)
            yield Plane(Place(*well, found["s"] or "1"), t, c, z, below + name)


def _number(text: str | None, default: int | None) -> int | None:
    return default if text is None else int(text)


def _compare(table: PlateTable, plan: Mapping[str, int]) -> None:
    """Warn of planned times and wavelengths that are missing."""
    kinds: Sequence[tuple[str, str, str]] = (("TimePoints", "t", "times"), ("NWavelengths", "c", "wavelengths"))
    less = [
        f"{len(table.numbers(a))} of {plan[key]} {what}"
        for key, a, what in kinds
        if 0 < len(table.numbers(a)) < plan[key]
    ]
    if less:
        warn(f"{table.index} plans more than its folder contains: {' and '.join(less)} are there")
