"""Which layers a WEBKNOSSOS dataset has: what ``datasource-properties.json`` says, or the folders that are there."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intake_img.errors import warn
from intake_img.formats.chunked import file_json
from intake_img.formats.wkw.cubes import HEADER, header_of
from intake_img.storage.files import File

__all__ = ["PROPERTIES", "Mag", "WkwLayer", "layers_in"]

PROPERTIES = "datasource-properties.json"
"""Name of the file that describes a dataset."""
_MOST_CUBES = 10**6


@dataclass(frozen=True)
class Mag:
    """A level of a layer: by how much it is smaller along x, y, z, and its folder."""

    factors: tuple[int, ...]
    folder: File


@dataclass(frozen=True)
class WkwLayer:
    """An image in a dataset; lengths in the order x, y, z, the box in voxels of full resolution."""

    name: str
    labels: bool
    colour: bool
    box: tuple[tuple[int, ...], tuple[int, ...]] | None
    scale: tuple[float, ...]
    unit: str
    mags: tuple[Mag, ...]
    about: Mapping[str, Any]

    def span(self, mag: Mag) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the first voxel of a level, and the one after the last."""
        if self.box is None:
            return (0, 0, 0), _extent(mag.folder)
        start, size = self.box
        first = tuple(n // f for n, f in zip(start, mag.factors, strict=True))
        end = tuple(-(-(n + m) // f) for n, m, f in zip(start, size, mag.factors, strict=True))
        return first, end


def layers_in(file: File) -> list[WkwLayer]:
    """Return the layers of a dataset; of the folder of a layer or a magnification, that one."""
    if (about := file_json(file / PROPERTIES)) is not None:
        return _described(file, about)
    if (file / HEADER).exists():
        known = _named(file.parent.parent, file.parent.name)
        return [_only(known, file)] if known else [_bare(file.name, (Mag(_factors(file.name), file),))]
    if known := _named(file.parent, file.name):
        return [known]
    mags = sorted((Mag(_factors(name), file / name) for name in _mag_names(file)), key=lambda m: m.factors)
    return [_bare(file.name, tuple(mags))] if mags else []


def _named(dataset: File, name: str) -> WkwLayer | None:
    try:
        about = file_json(dataset / PROPERTIES)
    except PermissionError:
        return None
    return next((layer for layer in _described(dataset, about) if layer.name == name), None) if about else None


def _only(layer: WkwLayer, folder: File) -> WkwLayer:
    mags = tuple(m for m in layer.mags if m.folder.path.rstrip("/") == folder.path.rstrip("/"))
    return WkwLayer(**{**layer.__dict__, "mags": mags or (Mag(_factors(folder.name), folder),)})


def _bare(name: str, mags: tuple[Mag, ...]) -> WkwLayer:
    return WkwLayer(name, False, False, None, (), "", mags, {})


def _described(dataset: File, about: Mapping[str, Any]) -> list[WkwLayer]:
    found, others = [], []
    listed = about.get("dataLayers")
    scale, unit = _scale(about.get("scale"))
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or not _is_name(entry.get("name")):
            continue
        if entry.get("dataFormat") != "wkw":
            others.append(f"{entry['name']} ({entry.get('dataFormat')})")
            continue
        mags = tuple(_mags(dataset / entry["name"], entry))
        if mags:
            labels, colour = entry.get("category") == "segmentation", entry.get("elementClass") == "uint24"
            found.append(
                WkwLayer(entry["name"], labels, colour, _checked_box(dataset, entry), scale, unit, mags, entry)
            )
    if others and found:
        left_out = ", ".join(others)
        warn(f"{dataset}: layers of other formats are left out: {left_out}; open their folders")
    return found


def _mags(folder: File, entry: Mapping[str, Any]) -> list[Mag]:
    listed = entry.get("mags") or entry.get("wkwResolutions")
    found = []
    for mag in listed if isinstance(listed, list) else []:
        given = mag.get("mag", mag.get("resolution")) if isinstance(mag, dict) else None
        factors = _whole([given] * 3 if type(given) is int else given, 1)
        if factors is None:
            continue
        names = [str(factors[0])] if len(set(factors)) == 1 else ["-".join(map(str, factors)), str(max(factors))]
        name = next((n for n in names if (folder / n / HEADER).exists()), None)
        if name is not None:
            found.append(Mag(factors, folder / name))
    return sorted(found, key=lambda m: math.prod(m.factors))


def _box(entry: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    box = entry.get("boundingBox")
    if not isinstance(box, dict):
        return None
    start, size = _whole(box.get("topLeft"), 0), _whole([box.get(k) for k in ("width", "height", "depth")], 1)
    return None if start is None or size is None else (start, size)


def _checked_box(dataset: File, entry: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    if (box := _box(entry)) is None:
        warn(
            f"{dataset}: the boundingBox of the layer {entry['name']!r} is missing or damaged: its cubes are opened "
            "completely, with their margins"
        )
    return box


def _scale(value: Any) -> tuple[tuple[float, ...], str]:
    unit = "nm"
    if isinstance(value, dict):
        value, unit = value.get("factor"), str(value.get("unit", unit))
    good = isinstance(value, list) and len(value) == 3 and all(type(n) in (int, float) and n > 0 for n in value)
    return (tuple(float(n) for n in value), unit) if good else ((), "")


def _whole(value: Any, least: int) -> tuple[int, ...] | None:
    good = isinstance(value, list) and len(value) == 3 and all(type(n) is int and least <= n < 2**48 for n in value)
    return tuple(value) if good else None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not re.search(r"[/\\]", value)


def _factors(name: str) -> tuple[int, ...]:
    parts = re.fullmatch(r"(\d+)(?:-(\d+)-(\d+))?", name)
    if parts is None:
        return (1, 1, 1)
    first = int(parts[1])
    return (first, int(parts[2] or first), int(parts[3] or first))


def _mag_names(folder: File) -> list[str]:
    if not folder.local:
        return ["1"] if (folder / "1" / HEADER).exists() else []
    folder.check()
    with os.scandir(folder.path) as entries:
        names = [e.name for e in entries if re.fullmatch(r"\d+(-\d+-\d+)?", e.name)]
    return [n for n in names if (folder / n / HEADER).exists()]


def _extent(folder: File) -> tuple[int, ...]:
    """Return the size of all cubes that are there, where nothing else states it."""
    header = header_of(folder)
    ends = [0, 0, 0]
    if folder.local:
        paths = [os.path.join(at, name) for at, _, names in os.walk(folder.path) for name in names]
    else:
        fs, path = folder.filesystem()
        paths = fs.find(path)
    for path in paths[:_MOST_CUBES]:
        if cube := re.search(r"[/\\]z(\d+)[/\\]y(\d+)[/\\]x(\d+)\.wkw$", path):
            ends = [max(end, int(n) + 1) for end, n in zip(ends, cube.groups()[::-1], strict=True)]
    return tuple(n * header.blocks * header.block for n in ends)
