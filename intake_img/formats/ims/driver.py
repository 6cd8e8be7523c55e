"""Imaris: an array for each level, time point and channel, padded to full chunks.

Format: Bitplane, "Imaris 5.5 file format description", https://imaris.oxinst.com/support/imaris-file-format.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.h5.arrays import ArrayGrid
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.file import SIGNATURE, item_at
from intake_img.formats.h5.handle import H5Handle
from intake_img.formats.h5.sniff import claim
from intake_img.formats.h5.tree import array_at, attributes_of, children, found_at, names_in, numbered
from intake_img.formats.ims.describe import channels_of, number_of, times_of
from intake_img.formats.ims.sample import write_sample
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Ims", "ImsSource"]


_SIZES = ("ImageSizeZ", "ImageSizeY", "ImageSizeX")


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
            first, last = (number_of(image, f"{end}{n}") for end in ("ExtMin", "ExtMax"))
            size = self.sizes[level]["zyx".index(axis)]
            facts.step(axis, (last - first) / size, image.get("Unit") or "µm", first)
        if (times := times_of(self.info.get("TimeInfo", {}), self.paths[level].shape[0])) is not None:
            facts.positions("t", times, "s")
        if (channels := channels_of(self.info, self.paths[level].shape[1])) is not None:
            facts.coords["c"] = channels
        if lost := int(np.sum(self.paths[level] == None)):  # noqa: E711  (of each place)
            warn(f"{self.h5.file}: {lost} channels of time points are missing: they read as 0")
        return Image.single(self.pixels(level), facts.axes, header=self.header, **facts.facts)


def _contents(f: Any) -> tuple[list[np.ndarray], list[tuple[int, ...]], dict[str, Any], dict[str, Any]]:
    """Paths by level, each an array over time and channel, and true sizes; groups of `DataSetInfo`; the header."""
    root = attributes_of(f)
    data, info = (_group(f, root.get(f"{name}DirectoryName") or name) for name in ("DataSet", "DataSetInfo"))
    known = {name: attributes_of(item_at(info, name)) for name in names_in(info)}
    levels = [item_at(data, name) for name in children(data, "ResolutionLevel ")]
    if not levels:
        raise FormatError("it contains no level of an image")
    paths = [_paths(level) for level in levels]
    stated = [int(number_of(known.get("Image", {}), axis, 0)) for axis in "ZYX"]
    sizes = [_size(f, level, [] if k else stated) for k, level in enumerate(paths)]
    return paths, sizes, known, {"file": root, **known}


def _group(f: Any, name: str) -> Any:
    found = found_at(f, name)
    if not hasattr(found, "keys"):
        raise FormatError(f"it has no group {name!r}, as Imaris files have")
    return found


def _paths(level: Any) -> np.ndarray:
    """Path of each array, over time and channel; None where there is none."""
    found, start = {}, level.name
    for t, point in numbered(level, "TimePoint "):
        inner = item_at(level, point)
        for c, channel in numbered(inner, "Channel "):
            if array_at(inner, f"{channel}/Data") is not None:
                found[t, c] = f"{start}/{point}/{channel}/Data"
    if not found:
        raise FormatError(f"{level.name} contains no pixels")
    shape = [1 + max(place[k] for place in found) for k in (0, 1)]
    if math.prod(shape) > 64 * len(found) + 1024:
        raise FormatError(f"{level.name} has {len(found)} arrays, numbered up to {shape}: it is damaged")
    paths = np.full(shape, None, object)
    for place, path in found.items():
        paths[place] = path
    return paths


def _size(f: Any, paths: np.ndarray, stated: list[int]) -> tuple[int, ...]:
    """Size without the padding: of the channel, or as stated for the complete image; never more than is stored."""
    path = next(p for p in paths.ravel() if p is not None)
    shape = array_at(f, path).shape
    own = attributes_of(item_at(f, path.rpartition("/")[0]), _SIZES)
    sizes = [int(number_of(own, name, 0)) for name in _SIZES]
    sizes = [n or (stated[k] if stated else 0) for k, n in enumerate(sizes)]
    if any(n > m for n, m in zip(sizes, shape, strict=True)):
        warn(f"{f.filename}: {path} is smaller than the stated shape of the image")
    return tuple(min(n, m) if n > 0 else m for n, m in zip(sizes, shape, strict=True))


class Ims(Format):
    """Image in an Imaris file (``.ims``, version 5.5), with its pyramid.

    Axes are ``t c z y x``. Arrays are cut to the size of the image, without the padding. Spacing and origin come from
    the extents, channel names and colours from the channels, times (in seconds since the first) from their dates.
    """

    name = "ims"
    title = "Imaris"
    private = "^Log$|^Filename"
    extensions = (".ims",)
    starts = (SIGNATURE,)
    has_levels = True
    extras = {"hdf5": "reading", "hdf5plugin": "further filters of HDF5"}

    def claims(self, probe: Probe) -> int:
        return claim(probe, frozenset({"ImarisVersion"}), self.extensions)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _ImsHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        return write_sample(folder)


ImsSource = source_of(Ims())
