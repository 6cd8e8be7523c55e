"""Micro-Manager NDTiff: a folder of an index and TIFF stacks, or of such folders, one for each resolution.

The format that Micro-Manager, Pycro-Manager and Micro-Magellan write. The index gives each image its place by name
(channel ``"DAPI"``, position ``"Pos2"``), which a TIFF reader does not see.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.ndtiff.dataset import INDEX, Resolution
from intake_img.formats.ndtiff.index import MAGIC
from intake_img.formats.ndtiff.mosaic import StitchedLevel
from intake_img.formats.options import option
from intake_img.formats.probe import Probe
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.storage.files import File

__all__ = ["Ndtiff", "NdtiffSource"]

_FULL = "Full resolution"
_MASK = "valid_mask"


@dataclass(frozen=True)
class NdtiffOptions:
    """How tiles are shown."""

    stitched: bool = option(
        False,
        "bool",
        "Whether to join the tiles of a grid (``row``, ``column``) into one plane, without their overlap.",
    )


class _Images(StoredArray):
    """The images of a dataset at their positions along its axes, or the existing positions."""

    decodes = False

    def __init__(self, dataset: Resolution, mask: bool) -> None:
        self.dataset, self.mask = dataset, mask
        plane = dataset.shape[:2] if mask else dataset.shape
        self.shape, self.dtype = (*dataset.outer, *plane), np.dtype(bool) if mask else dataset.dtype
        self.tiles = (1,) * len(dataset.outer) + plane

    def read_into(self, region: Region, out: np.ndarray) -> None:
        outer = region[: len(self.dataset.outer)]
        for key in product(*(range(s.start, s.stop) for s in outer)):
            place = tuple(k - s.start for k, s in zip(key, outer, strict=True))
            if self.mask:
                out[place] = key in self.dataset.images
            else:
                self.dataset.read(key, region[len(outer) :], out[(*place, ...)])


class _NdtiffHandle(Handle):
    def __init__(self, folder: File, stacks: Sequence[File], stitched: bool) -> None:
        self.folder, self.stitched = folder, stitched
        self.levels = [Resolution(place, stacks) for place in _levels(folder)]
        if stitched and not {"row", "column"} <= self.levels[0].values.keys():
            raise FormatError(f"{folder} has no tiles (axes 'row' and 'column') to be stitched: leave out stitched=")

    def array(self, address: tuple[int, bool]) -> StoredArray:
        level, mask = address
        return (
            StitchedLevel(self.levels[0], self.levels[level], level, mask)
            if self.stitched
            else _Images(self.levels[level], mask)
        )

    def describe(self, scene: int | str, level: int) -> Image:
        dataset = self.levels[check_level(level, len(self.levels), self.folder)]
        names = [n for n in dataset.values if not (self.stitched and n in ("row", "column"))]
        lead = (*[dataset.axes[n] for n in names], "y", "x")
        colour = ("s" if "c" in lead else "c",) if len(dataset.shape) == 3 else ()
        variables = {"image": Variable(self.pixels((level, False)), lead + colour)}
        if len(dataset.images) < np.prod(dataset.outer):
            variables[_MASK] = Variable(self.pixels((level, True)), lead, {"kind": "mask"})
        coords = {dataset.axes[n]: c for n in names if (c := _coordinate(dataset, n)) is not None}
        if colour:
            coords[colour[0]] = Coordinate(colour, np.array(["R", "G", "B"]))
        spacing = _spacing(dataset, level)
        header = {"summary": dataset.summary, "first_image": dataset.about()}
        return Image(variables, spacing=spacing, units=dict.fromkeys(spacing, "µm"), coords=coords, header=header)

    def close(self) -> None:
        for dataset in self.levels:
            dataset.close()


def _levels(folder: File) -> list[File]:
    """Return the folders of the resolutions, the full one first."""
    if not (folder / _FULL / INDEX).exists():
        return [folder]
    found = [folder / _FULL]
    while ((place := folder / f"Downsampled_x{2 ** len(found)}") / INDEX).exists():
        found.append(place)
    return found


def _coordinate(dataset: Resolution, name: str) -> Coordinate | None:
    """Return labels, names of channels, or numbers that are not 0, 1, 2, ...; None where there is nothing to say."""
    values, axis = dataset.values[name], dataset.axes[name]
    numbers = all(isinstance(v, int) for v in values)
    if numbers and name == "channel":
        names = _channel_names(dataset)
        return Coordinate((axis,), np.array(names)) if len(set(names)) == len(names) and all(names) else None
    if numbers and values == list(range(len(values))) and axis in ("i", "t", "z"):
        return None
    return Coordinate((axis,), np.array(values if numbers else [str(v) for v in values]))


def _channel_names(dataset: Resolution) -> list[str]:
    """Return the names of numbered channels, as datasets before version 3.2 give them."""
    given = dataset.summary.get("ChNames")
    numbers = [int(v) for v in dataset.values["channel"]]
    if isinstance(given, list) and min(numbers) >= 0 and max(numbers) < len(given):
        return [str(given[k]) for k in numbers]
    return [str(dataset.about(channel=k).get("Channel", "")) for k in range(len(numbers))]


def _spacing(dataset: Resolution, level: int) -> dict[str, float]:
    first = dataset.about()
    pixel = _number(first.get("PixelSizeUm", dataset.summary.get("PixelSize_um"))) * 2**level
    step = _number(dataset.summary.get("z-step_um"))
    count = len(dataset.values.get("z", ()))
    if not step and count > 1:
        low, high = (_number(dataset.about(z=k).get("ZPosition_um_Intended")) for k in (0, count - 1))
        step = abs(high - low) / (count - 1)
    return {"y": pixel, "x": pixel} | ({"z": step} if count else {})


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


class Ndtiff(Format):
    """Dataset of Micro-Manager or Pycro-Manager in the format NDTiff: its folder, or one of the TIFF files in it.

    ``time``, ``channel`` and ``z`` become ``t``, ``c`` and ``z``, ``position`` becomes ``i``; other axes (``row``,
    ``column``) keep their names. Labels along an axis are its coordinate, sorted. Images that the dataset lacks are 0,
    and then there is a second variable, ``valid_mask``. Images that the index names and no file holds are left out with
    a warning; without an index the pages of the TIFF files are read.
    """

    name = "ndtiff"
    title = "Micro-Manager NDTiff"
    magic = ((8, MAGIC),)
    folder = True
    has_levels = True
    options = NdtiffOptions

    def claims(self, probe: Probe) -> int:
        if probe.folder:
            return 2 * (probe.holds(INDEX) or probe.holds(f"{_FULL}/{INDEX}"))
        return 2 * (probe.head.startswith(b"II*\0") and super().claims(probe))

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when the index, or a file beside it, is replaced."""
        if not file.is_folder():
            return file.stamp()
        index = next((i for i in (file / INDEX, file / _FULL / INDEX) if i.exists()), file)
        if not file.local or index == file:
            return index.stamp()
        nested = [] if index == file / INDEX else [entry.path for entry in os.scandir(file.path)]
        return tuple(sorted(_stamps(nested or [file.path])))

    def open(self, file: File, options: NdtiffOptions) -> Handle:
        if file.is_folder():
            return _NdtiffHandle(file, (), options.stitched)
        if self.claims(Probe(file, file.head(), False)) < 2:
            raise FormatError(f"{file} is not a file of an NDTiff dataset: expected {MAGIC!r} at byte 8")
        return _NdtiffHandle(file.parent, _stacks(file), options.stitched)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import json
        import struct

        names = ["DAPI", "FITC", "GFP"]
        values = np.arange(3 * 5 * 7, dtype="<u2").reshape(3, 5, 7)
        path = os.path.join(folder, "sample")
        os.mkdir(path)
        summary, about = b'{"PixelSize_um": 0.5}', b'{"PixelSizeUm": 0.5, "Channel": "Default"}'
        head = b"II*\0" + bytes(4) + MAGIC + struct.pack("<4I", 3, 3, 2355492, len(summary)) + summary
        with open(f"{path}/sample_NDTiffStack.tif", "wb") as stack, open(f"{path}/{INDEX}", "wb") as index:
            stack.write(head)
            for channel, plane in zip(names, values, strict=True):
                offset, size = stack.tell(), plane.nbytes
                stack.write(plane.tobytes() + about)
                axes, name = json.dumps({"channel": channel}).encode(), b"sample_NDTiffStack.tif"
                for text in (axes, name):
                    index.write(struct.pack("<I", len(text)) + text)
                index.write(struct.pack("<8I", offset, 7, 5, 4, 0, offset + size, len(about), 0))
        coords = {a: (a, 0.5 * np.arange(n), {"units": "µm", "spacing": 0.5}) for a, n in (("y", 5), ("x", 7))}
        return path, xr.Dataset({"image": (tuple("cyx"), values)}, {**coords, "c": names})


NdtiffSource = source_of(Ndtiff())


def _stacks(file: File) -> list[File]:
    """Return the TIFF files of the dataset that a file belongs to: ``NDTiffStack.tif``, ``NDTiffStack_1.tif``, ..."""
    stem = file.name.rpartition(".")[0]
    head, _, number = stem.rpartition("_")
    first = file.sibling(f"{head}.tif")
    if not number.isdigit() or not first.exists():
        first, head = file, stem
    found = [first]
    while (following := file.sibling(f"{head}_{len(found)}.tif")).exists():
        found.append(following)
    return found


def _stamps(folders: Sequence[str]) -> list[tuple[Any, ...]]:
    return [
        (entry.path, about.st_mtime_ns, about.st_size, about.st_ino)
        for folder in folders
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
        if entry.name == INDEX or entry.name.endswith(".tif")
        for about in [entry.stat()]
    ]
