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
from intake_img.formats.ndtiff.describe import coordinate_of, spacing_of
from intake_img.formats.ndtiff.folders import FULL, levels_in, stacks_of, stamps_in
from intake_img.formats.ndtiff.index import MAGIC
from intake_img.formats.ndtiff.mosaic import StitchedLevel
from intake_img.formats.ndtiff.sample import write_sample
from intake_img.formats.options import option
from intake_img.formats.probe import Probe
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.storage.files import File

__all__ = ["Ndtiff", "NdtiffSource"]

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
        self.levels = [Resolution(place, stacks) for place in levels_in(folder)]
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
        coords = {dataset.axes[n]: c for n in names if (c := coordinate_of(dataset, n)) is not None}
        if colour:
            coords[colour[0]] = Coordinate(colour, np.array(["R", "G", "B"]))
        spacing = spacing_of(dataset, level)
        header = {"summary": dataset.summary, "first_image": dataset.about()}
        return Image(variables, spacing=spacing, units=dict.fromkeys(spacing, "µm"), coords=coords, header=header)

    def close(self) -> None:
        for dataset in self.levels:
            dataset.close()


class Ndtiff(Format):
    """Dataset of Micro-Manager or Pycro-Manager in the format NDTiff: its folder, or one of the TIFF files in it.

    ``time``, ``channel`` and ``z`` become ``t``, ``c`` and ``z``, ``position`` becomes ``i``; other axes (``row``,
    ``column``) keep their names. Labels along an axis are its coordinate, sorted. Images that the dataset lacks are 0,
    and then there is a second variable, ``valid_mask``. Images that the index names and no file has are left out with
    a warning; without an index the pages of the TIFF files are read.
    """

    name = "ndtiff"
    title = "Micro-Manager NDTiff"
    magic = ((8, MAGIC),)
    starts = (b"II*\0",)
    folder = True
    has_levels = True
    options = NdtiffOptions

    def claims(self, probe: Probe) -> int:
        if probe.folder:
            return 2 * (probe.holds(INDEX) or probe.holds(f"{FULL}/{INDEX}"))
        return 2 * (probe.head.startswith(b"II*\0") and super().claims(probe))

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when the index, or a file beside it, is replaced."""
        if not file.is_folder():
            return file.stamp()
        index = next((i for i in (file / INDEX, file / FULL / INDEX) if i.exists()), file)
        if not file.local or index == file:
            return index.stamp()
        nested = [] if index == file / INDEX else [entry.path for entry in os.scandir(file.path)]
        return tuple(sorted(stamps_in(nested or [file.path])))

    def open(self, file: File, options: NdtiffOptions) -> Handle:
        if file.is_folder():
            return _NdtiffHandle(file, (), options.stitched)
        if self.claims(Probe(file, file.head(), False)) < 2:
            raise FormatError(f"{file} is not a file of an NDTiff dataset: expected {MAGIC!r} at byte 8")
        return _NdtiffHandle(file.parent, stacks_of(file), options.stitched)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        return write_sample(folder)


NdtiffSource = source_of(Ndtiff())
