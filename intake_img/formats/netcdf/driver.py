"""NetCDF: variables with two or more axes, with coordinates and packed values by the CF conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.h5.axes import scales_of
from intake_img.formats.h5.file import SIGNATURE
from intake_img.formats.h5.handle import H5Handle
from intake_img.formats.h5.sniff import claim
from intake_img.formats.h5.tree import attributes_of, image_paths
from intake_img.formats.netcdf.classic import read_header
from intake_img.formats.netcdf.describe import PACKING, Described, image_of, positions_of
from intake_img.formats.netcdf.sample import write_sample
from intake_img.formats.options import ScaledOption
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Netcdf", "NetcdfSource"]

_VERSIONS = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_POSITIONS = 2**20  # values along an axis that are read before a pixel is asked for


@dataclass(frozen=True)
class NetcdfOptions(ScaledOption):
    """Options of netCDF files."""


class _Netcdf4Handle(H5Handle):
    """An open netCDF-4 file; an address is the path of a variable."""

    def __init__(self, file: File, scaled: bool) -> None:
        self.scaled = scaled
        super().__init__(file)

    def look(self) -> None:
        self.paths, _ = self.h5.run(image_paths)
        self.header = {"file": self.h5.run(attributes_of)}
        if not self.paths:
            raise FormatError(f"{self.h5.file}: it has no variable of numbers with at least two axes")

    @property
    def scene_names(self) -> Sequence[str]:
        return self.paths

    def describe(self, scene: int | str, level: int) -> Image:
        path = self.paths[int(scene)]
        return image_of(self.pixels(path), self.h5.run(lambda f: _described(f[path])), self.scaled, self.header)


def _described(dataset: Any) -> Described:
    scales = scales_of(dataset, PACKING)
    positions = {
        k: (positions_of(scale["values"], scale["attributes"]), scale["unit"])
        for k, (_, scale) in enumerate(scales)
        if scale
    }
    return Described(tuple(name for name, _ in scales), attributes_of(dataset), positions)


class _ClassicHandle(Handle):
    """An open classic file; an address is the name of a variable."""

    def __init__(self, file: File, scaled: bool) -> None:
        self.source, self.scaled = file.open(), scaled
        self.attributes, self.variables = read_header(self.source)
        self.names = [n for n, v in self.variables.items() if len(v.shape) > 1 and v.dtype.kind != "S"]
        if not self.names:
            raise FormatError(f"{file}: it has no variable of numbers with at least two axes")

    @property
    def scene_names(self) -> Sequence[str]:
        return self.names

    def array(self, address: str) -> StoredArray:
        return self.variables[address].array(self.source)

    def describe(self, scene: int | str, level: int) -> Image:
        name = self.names[int(scene)]
        variable = self.variables[name]
        positions = {k: found for k, d in enumerate(variable.dimensions) if (found := self._positions(d)) is not None}
        described = Described(variable.dimensions, variable.attributes, positions)
        return image_of(self.pixels(name), described, self.scaled, {"file": self.attributes})

    def _positions(self, dimension: str) -> tuple[np.ndarray, str] | None:
        """The values of the variable that is called as a dimension, and their unit."""
        variable = self.variables.get(dimension)
        if variable is None or len(variable.shape) != 1 or variable.dtype.kind == "S":
            return None
        if variable.shape[0] > _POSITIONS:
            return None
        values = np.empty(variable.shape, variable.dtype.newbyteorder("="))
        variable.array(self.source).read_into((slice(0, variable.shape[0]),), values)
        return positions_of(values, variable.attributes), str(variable.attributes.get("units", ""))

    def close(self) -> None:
        self.source.close()


class Netcdf(Format):
    """Variables of a netCDF file: classic (CDF-1, -2, -5) or netCDF-4.

    Each variable of numbers with at least two axes is a scene, called by its name. Axes are called by the dimensions
    (``time`` is ``t``), coordinates are those of the file. Packed numbers become values (``scale_factor``,
    ``add_offset``; ``_FillValue`` becomes NaN).
    """

    name = "netcdf"
    title = "NetCDF"
    extensions = (".nc", ".nc4", ".cdf")
    magic = tuple((0, version) for version in _VERSIONS)
    starts = (*_VERSIONS, SIGNATURE)
    has_scenes = True
    options = NetcdfOptions
    extras = {"hdf5": "netCDF-4", "hdf5plugin": "further filters of netCDF-4"}

    def claims(self, probe: Probe) -> int:
        if probe.head.startswith(_VERSIONS):
            return 2
        named = probe.name.lower().endswith(self.extensions) and probe.head.startswith(SIGNATURE)
        return 2 if named else claim(probe, frozenset({"_NCProperties"}), self.extensions)

    def open(self, file: File, options: NetcdfOptions) -> Handle:
        head = file.head(8)
        if not head.startswith((*_VERSIONS, SIGNATURE)):
            raise FormatError(f"{file} starts with {head!r}: it is not a netCDF file")
        return (_ClassicHandle if head.startswith(_VERSIONS) else _Netcdf4Handle)(file, options.scaled)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        return write_sample(folder)


NetcdfSource = source_of(Netcdf())
