"""Imaris: an array for each level, time point and channel, padded to full chunks.

Format: Bitplane, "Imaris 5.5 file format description", https://imaris.oxinst.com/support/imaris-file-format.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.h5.arrays import ArrayGrid
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.handle import H5Handle
from intake_img.formats.h5.sniff import claim
from intake_img.formats.h5.tree import attributes_of, children, numbered
from intake_img.formats.probe import Probe
from intake_img.model.image import Coordinate, Image
from intake_img.storage.files import File

__all__ = ["Ims", "ImsSource"]


class _ImsHandle(H5Handle):
    """An open Imaris file; an address is a level of the pyramid."""

    def look(self) -> None:
        self.paths, self.sizes, self.info, self.header = self.h5.run(_contents)

    def array(self, address: int) -> StoredArray:
        return ArrayGrid(self.stored, self.paths[address], self.sizes[address])

    def describe(self, scene: int | str, level: int) -> Image:
        level = check_level(level, len(self.paths), self.h5.file)
        facts = AxisFacts(tuple("tczyx"))
        image = self.info.get("Image", {})
        for n, axis in enumerate("xyz"):
            first, last = (_number(image, f"{end}{n}") for end in ("ExtMin", "ExtMax"))
            size = self.sizes[level]["zyx".index(axis)]
            facts.step(axis, (last - first) / size, image.get("Unit") or "µm", first)
        if (times := _times(self.info.get("TimeInfo", {}), self.paths[level].shape[0])) is not None:
            facts.positions("t", times, "s")
        if (channels := _channels(self.info, self.paths[level].shape[1])) is not None:
            facts.coords["c"] = channels
        if lost := int(np.sum(self.paths[level] == None)):  # noqa: E711  (of each place)
            warnings.warn(f"{self.h5.file}: {lost} channels of time points are missing: they read as 0", stacklevel=2)
        return Image.single(self.pixels(level), facts.axes, header=self.header, **facts.facts)


def _contents(f: Any) -> tuple[list[np.ndarray], list[tuple[int, ...]], dict[str, Any], dict[str, Any]]:
    """Paths by level, each an array over time and channel, and true sizes; groups of `DataSetInfo`; the header."""
    root = attributes_of(f)
    data, info = (_group(f, root.get(f"{name}DirectoryName") or name) for name in ("DataSet", "DataSetInfo"))
    known = {name: attributes_of(info[name]) for name in info}
    levels = [data[name] for name in children(data, "ResolutionLevel ")]
    if not levels:
        raise FormatError("it holds no level of an image")
    paths = [_paths(level) for level in levels]
    stated = [int(_number(known.get("Image", {}), axis, 0)) for axis in "ZYX"]
    sizes = [_size(f, level, [] if k else stated) for k, level in enumerate(paths)]
    return paths, sizes, known, {"file": root, **known}


def _group(f: Any, name: str) -> Any:
    found = f.get(name)
    if not hasattr(found, "keys"):
        raise FormatError(f"it has no group {name!r}, as Imaris files have")
    return found


def _paths(level: Any) -> np.ndarray:
    """Path of each array, over time and channel; None where there is none."""
    found = {}
    for t, point in numbered(level, "TimePoint "):
        for c, channel in numbered(level[point], "Channel "):
            if hasattr(level[point][channel].get("Data"), "shape"):
                found[t, c] = f"{level.name}/{point}/{channel}/Data"
    if not found:
        raise FormatError(f"{level.name} holds no pixels")
    shape = [1 + max(place[k] for place in found) for k in (0, 1)]
    if math.prod(shape) > 64 * len(found) + 1024:
        raise FormatError(f"{level.name} has {len(found)} arrays, numbered up to {shape}: it is damaged")
    paths = np.full(shape, None, object)
    for place, path in found.items():
        paths[place] = path
    return paths


def _size(f: Any, paths: np.ndarray, stated: list[int]) -> tuple[int, ...]:
    """Size without the padding: of the channel, or as stated for the complete image; never more than is stored."""
    data = f[next(p for p in paths.ravel() if p is not None)]
    own = attributes_of(data.parent)
    sizes = [int(_number(own, f"ImageSize{axis}", 0)) for axis in "ZYX"]
    sizes = [n or (stated[k] if stated else 0) for k, n in enumerate(sizes)]
    if any(n > m for n, m in zip(sizes, data.shape, strict=True)):
        warnings.warn(f"{f.filename}: {data.name} is smaller than the image is said to be", stacklevel=2)
    return tuple(min(n, m) if n > 0 else m for n, m in zip(sizes, data.shape, strict=True))


def _number(attributes: Mapping[str, Any], name: str, default: float = math.nan) -> float:
    try:
        found = float(str(attributes.get(name)).strip())
    except ValueError:
        return default
    return found if math.isfinite(found) else default


def _times(info: Mapping[str, Any], count: int) -> np.ndarray | None:
    """Seconds since the first time point, where each has its date."""
    with contextlib.suppress(ValueError, KeyError):
        dates = [datetime.datetime.fromisoformat(str(info[f"TimePoint{k + 1}"]).strip()) for k in range(count)]
        return np.array([(date - dates[0]).total_seconds() for date in dates])
    return None


def _channels(info: Mapping[str, Mapping[str, Any]], count: int) -> Coordinate | None:
    known = [info.get(f"Channel {c}", {}) for c in range(count)]
    names = [str(channel.get("Name") or "") for channel in known]
    if not all(names):
        return None
    colors = [_color(channel.get("Color")) for channel in known]
    return Coordinate(("c",), np.asarray(names), {"color": colors} if all(colors) else {})


def _color(text: Any) -> str | None:
    """The three shares of red, green and blue, as #RRGGBB."""
    with contextlib.suppress(ValueError, OverflowError):
        shares = [round(255 * float(part)) for part in str(text).split()]
        if len(shares) == 3 and all(0 <= s <= 255 for s in shares):
            return "#" + "".join(f"{s:02X}" for s in shares)
    return None


class Ims(Format):
    """Image in an Imaris file (``.ims``, version 5.5), with its pyramid.

    Axes are ``t c z y x``. Arrays are cut to the size of the image, without the padding. Spacing and origin come from
    the extents, channel names and colours from the channels, times (in seconds since the first) from their dates.
    """

    name = "ims"
    title = "Imaris"
    private = "^Log$|^Filename"
    extensions = (".ims",)
    has_levels = True
    extras = {"hdf5": "reading"}

    def claims(self, probe: Probe) -> int:
        return claim(probe, frozenset({"ImarisVersion"}), self.extensions)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _ImsHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import h5py

        def note(item: Any, **attributes: object) -> None:
            for name, value in attributes.items():
                item.attrs[name] = np.array([c.encode() for c in str(value)], "S1")

        path = os.path.join(folder, "sample.ims")
        values = np.arange(2 * 2 * 3 * 12 * 20, dtype="u2").reshape(2, 2, 3, 12, 20)
        with h5py.File(path, "w") as f:
            note(f, ImarisVersion="5.5.0", DataSetDirectoryName="DataSet", DataSetInfoDirectoryName="DataSetInfo")
            note(
                f.create_group("DataSetInfo/Image"),
                X=20,
                Y=12,
                Z=3,
                Unit="um",
                ExtMin0=5,
                ExtMax0=10,
                ExtMin1=0,
                ExtMax1=3,
                ExtMin2=-1,
                ExtMax2=5,
            )
            note(
                f.create_group("DataSetInfo/TimeInfo"),
                TimePoint1="2024-02-29 23:59:59.000",
                TimePoint2="2024-03-01 00:00:01.500",
            )
            for c, (name, color) in enumerate([("DAPI", "0 0 1"), ("GFP", "0.000 1.000 0.000")]):
                note(f.create_group(f"DataSetInfo/Channel {c}"), Name=name, Color=color)
            for t, c, level in np.ndindex(2, 2, 2):
                whole = values[t, c, :, :: 1 + level, :: 1 + level]
                group = f.create_group(f"DataSet/ResolutionLevel {level}/TimePoint {t}/Channel {c}")
                note(group, **{f"ImageSize{a}": n for a, n in zip("ZYX", whole.shape, strict=True)})
                padded = np.full((4, 16, 24), 9, "u2")
                padded[tuple(slice(0, n) for n in whole.shape)] = whole
                group.create_dataset("Data", data=padded, chunks=(2, 8, 8), compression="gzip")
        coords = {
            a: xr.Variable(a, first + step * np.arange(n), {"units": unit, "spacing": step})
            for a, n, first, step, unit in (
                ("t", 2, 0, 2.5, "s"),
                ("z", 3, -1, 2.0, "µm"),
                ("y", 12, 0, 0.25, "µm"),
                ("x", 20, 5, 0.25, "µm"),
            )
        }
        return path, xr.Dataset({"image": (tuple("tczyx"), values)}, {**coords, "c": ["DAPI", "GFP"]})


ImsSource = source_of(Ims())
