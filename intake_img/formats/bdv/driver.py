"""BigDataViewer: an XML of setups and time points, and their pixels, with pyramids, in HDF5 or N5."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.bdv.hdf5 import H5Views
from intake_img.formats.bdv.n5 import N5Views
from intake_img.formats.bdv.pixel_files import files_of, spim_of, stamp_of
from intake_img.formats.bdv.sample import write_sample
from intake_img.formats.bdv.spim import Setup, Spim, guessed
from intake_img.formats.format_source import source_of
from intake_img.formats.h5.arrays import ArrayGrid
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.sniff import names_in_root
from intake_img.formats.probe import Probe
from intake_img.model.image import Coordinate, Image
from intake_img.storage.files import File

__all__ = ["Bdv", "BdvSource"]

_SETUP, _TIME = re.compile(r"s\d{2,}"), re.compile(r"t\d{5,}")


class _BdvHandle(Handle):
    """An open image; an address is the numbers of setups and a level."""

    def __init__(self, file: File) -> None:
        pixels, xml = files_of(file)
        known = spim_of(xml, xml.stamp()) if xml is not None else None
        if not pixels.exists():
            raise FormatError(f"{file}: its pixels are in {pixels}, which is not there")
        n5 = known is not None and known.loader == "bdv.n5"
        self.views = N5Views(pixels, known) if n5 and known else H5Views(pixels)
        try:
            self._look(known)
        except BaseException:
            self.close()
            raise

    def _look(self, known: Spim | None) -> None:
        present = self.views.present
        if known is None:
            warn(f"{self.views.file}: no XML beside it: voxel sizes and channels are unknown")
        self.spim = known or guessed(present)
        self.factors = {s.number: self.views.factors(s.number) for s in self.spim.setups}
        self.setups = [s for s in self.spim.setups if any((t, s.number) in present for t in self.spim.times)]
        if not self.setups:
            raise FormatError(f"{self.views.file}: it contains pixels of none of the setups")
        shapes = [self._first(s.number, 0).shape for s in self.setups]
        others = [{k: v for k, v in s.attributes.items() if k != "channel"} for s in self.setups]
        names = {s.attributes.get("channel") for s in self.setups}
        channels = all(s == shapes[0] for s in shapes) and all(o == others[0] for o in others)
        self.scenes = [self.setups] if channels and len(names) == len(shapes) else [[s] for s in self.setups]

    @property
    def scene_names(self) -> Sequence[str]:
        return [scene[0].title if len(self.scenes) > 1 else "0" for scene in self.scenes]

    def array(self, address: tuple[tuple[int, ...], int]) -> StoredArray:
        numbers, level = address
        paths = np.full((len(self.spim.times), len(numbers)), None, object)
        for t, c in np.ndindex(paths.shape):
            paths[t, c] = self.views.path(self.spim.times[t], numbers[c], level)
        first = self._first(numbers[0], level)
        grid = ArrayGrid(self.views.stored, paths, first.shape, self.views.meaning(first.dtype))
        grid.parallel = self.views.parallel
        return grid

    def _first(self, setup: int, level: int) -> StoredArray:
        paths = (self.views.path(t, setup, level) for t in self.spim.times)
        return self.views.stored(next(p for p in paths if p is not None))

    def describe(self, scene: int | str, level: int) -> Image:
        setups = self.scenes[int(scene)]
        factors = self.factors[setups[0].number]
        level = check_level(level, len(factors), self.views.file)
        numbers = tuple(s.number for s in setups)
        pixels = self.pixels((numbers, level))
        facts = AxisFacts(tuple("tczyx"))
        for axis, voxel, factor in zip("xyz", setups[0].voxel, factors[level], strict=False):
            facts.step(axis, voxel * factor, setups[0].unit, voxel * (factor - 1) / 2)  # averages of this many voxels
        self._warn_of_missing(numbers)
        names = [s.attributes.get("channel") or s.name for s in setups]
        if all(names):
            facts.coords["c"] = Coordinate(("c",), np.asarray(names))
        if list(self.spim.times) != list(range(len(self.spim.times))):
            facts.coords["t"] = Coordinate(("t",), np.asarray(self.spim.times))
        return Image.single(pixels, facts.axes, header=self._header(setups), **facts.facts)

    def _warn_of_missing(self, numbers: Sequence[int]) -> None:
        views = {(t, s) for t in self.spim.times for s in numbers}
        lost = {v for v in views if v not in self.views.present}
        if unsaid := lost - self.spim.missing:
            warn(f"{self.views.file}: {len(unsaid)} views are missing: they read as 0")

    def _header(self, setups: Sequence[Setup]) -> dict[str, Any]:
        registered = {
            f"setup {s}, time point {t}": matrix
            for (t, s), matrix in self.spim.registrations.items()
            if s in {setup.number for setup in setups}
        }
        return {"setups": [vars(s) for s in setups], "registrations": registered, "missing": sorted(self.spim.missing)}

    def close(self) -> None:
        self.views.close()


class Bdv(Format):
    """Image of BigDataViewer: an XML, or its HDF5 file, opens. Pixels may be in N5 as well.

    A setup (channel, angle, tile, ...) is a scene; setups that differ in nothing but the channel are one scene with the
    axis ``c``. Axes are ``t c z y x``. Registrations, 3 x 4 matrices from voxels to the world, are in the header.
    """

    name = "bdv"
    title = "BigDataViewer"
    magic = ((0, b"<SpimData"),)
    has_scenes = True
    has_levels = True
    extras = {"hdf5": "reading pixels in HDF5", "hdf5plugin": "further filters of HDF5"}

    def claims(self, probe: Probe) -> int:
        if b"<SpimData" in probe.head:
            return 2
        names = names_in_root(probe) or frozenset()
        return 2 * (any(map(_SETUP.fullmatch, names)) and any(map(_TIME.fullmatch, names)))

    def stamp(self, file: File) -> tuple[Any, ...]:
        file.stamp()  # it is there
        return tuple(stamp_of(f) for f in files_of(file) if f is not None)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _BdvHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        return write_sample(folder)


BdvSource = source_of(Bdv())
