"""BigDataViewer: an XML of setups and time points, and their pixels, with pyramids, in HDF5 or N5."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.bdv.hdf5 import H5Views
from intake_img.formats.bdv.n5 import N5Views
from intake_img.formats.bdv.spim import Setup, Spim, parse_spim
from intake_img.formats.format_source import source_of
from intake_img.formats.h5.arrays import ArrayGrid
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.file import SIGNATURE
from intake_img.formats.h5.sniff import names_in_root
from intake_img.formats.n5blocks import ATTRIBUTES
from intake_img.formats.probe import Probe
from intake_img.model.image import Coordinate, Image
from intake_img.storage.files import File

__all__ = ["Bdv", "BdvSource"]

_SETUP, _TIME = re.compile(r"s\d{2,}"), re.compile(r"t\d{5,}")


@lru_cache(64)
def _spim(xml: File, stamp: Any) -> Spim:
    """The parsed XML; `stamp` is what it looked like."""
    spim = parse_spim(xml.read())
    if spim.loader not in ("bdv.hdf5", "bdv.n5"):
        raise FormatError(f"{xml}: its pixels are of the kind {spim.loader!r}: expected 'bdv.hdf5' or 'bdv.n5'")
    return spim


def _files(file: File) -> tuple[File, File | None]:
    """The file or folder of pixels, and the XML if there is one; `file` is one of the two."""
    if file.head(8) == SIGNATURE:
        xml = file.sibling(f"{os.path.splitext(file.name)[0]}.xml")
        return file, xml if xml.exists() and b"<SpimData" in xml.head() else None
    spim = _spim(file, file.stamp())
    return (file.sibling(spim.path) if spim.relative else file.at(spim.path)), file


class _BdvHandle(Handle):
    """An open image; an address is the numbers of setups and a level."""

    def __init__(self, file: File) -> None:
        pixels, xml = _files(file)
        known = _spim(xml, xml.stamp()) if xml is not None else None
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
            warnings.warn(f"{self.views.file}: no XML beside it: voxel sizes and channels are unknown", stacklevel=2)
        self.spim = known or _guessed(present)
        self.factors = {s.number: self.views.factors(s.number) for s in self.spim.setups}
        self.setups = [s for s in self.spim.setups if any((t, s.number) in present for t in self.spim.times)]
        if not self.setups:
            raise FormatError(f"{self.views.file}: it holds pixels of none of the setups")
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
            facts.step(axis, voxel * factor, setups[0].unit, voxel * (factor - 1) / 2)  # averages of so many voxels
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
            warnings.warn(f"{self.views.file}: {len(unsaid)} views are missing: they read as 0", stacklevel=2)

    def _header(self, setups: Sequence[Setup]) -> dict[str, Any]:
        registered = {
            f"setup {s}, time point {t}": matrix
            for (t, s), matrix in self.spim.registrations.items()
            if s in {setup.number for setup in setups}
        }
        return {"setups": [vars(s) for s in setups], "registrations": registered, "missing": sorted(self.spim.missing)}

    def close(self) -> None:
        self.views.close()


def _stamp(file: File) -> tuple[Any, ...]:
    """Return what changes when a file, or a container of N5, is replaced."""
    if not file.local or not os.path.isdir(file.path):
        return file.stamp() if file.exists() else ()
    inside = file / ATTRIBUTES
    return (os.stat(file.path).st_ino, *(inside.stamp() if inside.exists() else ()))


def _guessed(groups: Any) -> Spim:
    """What the pixels alone tell."""
    setups = [Setup(number) for number in sorted({s for _, s in groups})]
    return Spim("bdv.hdf5", "", True, setups, sorted({t for t, _ in groups}))


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
    extras = {"hdf5": "reading pixels in HDF5"}

    def claims(self, probe: Probe) -> int:
        if b"<SpimData" in probe.head:
            return 2
        names = names_in_root(probe) or frozenset()
        return 2 * (any(map(_SETUP.fullmatch, names)) and any(map(_TIME.fullmatch, names)))

    def stamp(self, file: File) -> tuple[Any, ...]:
        file.stamp()  # it is there
        return tuple(_stamp(f) for f in _files(file) if f is not None)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _BdvHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import h5py

        values = (np.arange(2 * 2 * 3 * 12 * 20, dtype="u2") * 40).reshape(2, 2, 3, 12, 20)
        with h5py.File(os.path.join(folder, "sample.h5"), "w") as f:
            for t, s in np.ndindex(2, 2):
                whole = values[t, s].view("i2")
                for level, data in enumerate((whole, whole[:, ::2, ::2])):
                    path = f"t{t:05d}/s{s:02d}/{level}/cells"
                    f.create_dataset(path, data=data, chunks=(2, 4, 8), compression="gzip")
            for s in range(2):
                f[f"s{s:02d}/resolutions"] = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 1.0]])
                f[f"s{s:02d}/subdivisions"] = np.array([[8, 8, 2]] * 2)
        path = os.path.join(folder, "sample.xml")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(_SAMPLE)
        coords = {
            a: xr.Variable(a, step * np.arange(n), {"units": "µm", "spacing": step})
            for a, n, step in (("z", 3, 2.0), ("y", 12, 0.5), ("x", 20, 0.25))
        }
        return path, xr.Dataset({"image": (tuple("tczyx"), values)}, {**coords, "c": ["GFP", "RFP"]})


_SETUPS = "".join(
    f"<ViewSetup><id>{s}</id><size>20 12 3</size><voxelSize><unit>um</unit><size>0.25 0.5 2.0</size></voxelSize>"
    f"<attributes><angle>0</angle><channel>{s}</channel></attributes></ViewSetup>"
    for s in range(2)
)
_SAMPLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>
<ImageLoader format="bdv.hdf5"><hdf5 type="relative">sample.h5</hdf5></ImageLoader>
<ViewSetups>{_SETUPS}<Attributes name="channel"><Channel><id>0</id><name>GFP</name></Channel>
<Channel><id>1</id><name>RFP</name></Channel></Attributes></ViewSetups>
<Timepoints type="range"><first>0</first><last>1</last></Timepoints></SequenceDescription>
<ViewRegistrations><ViewRegistration timepoint="0" setup="0"><ViewTransform type="affine">
<affine>1 0 0 5 0 1 0 0 0 0 1 0</affine></ViewTransform><ViewTransform type="affine">
<affine>0.25 0 0 0 0 0.5 0 0 0 0 2 0</affine></ViewTransform></ViewRegistration></ViewRegistrations></SpimData>"""

BdvSource = source_of(Bdv())
