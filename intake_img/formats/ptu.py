"""PicoQuant PTU: photons with arrival times; ptufile counts them into images by time, position, channel and delay."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.options import option
from intake_img.formats.photons import RECORDS, check_markers, complete_records, complete_shape, missing_records
from intake_img.formats.volumes import warn_of_rest
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["Ptu", "PtuSource"]

_KEPT = 2**26  # bytes of an image that is counted once and kept for a while
_UNITS = {"T": ("s", 1.0), "Y": ("µm", 1e6), "X": ("µm", 1e6), "H": ("ns", 1e9)}  # ptufile says seconds and metres


@dataclass(frozen=True)
class PtuOptions:
    """How photons are counted."""

    summed: bool = option(False, "bool", "Whether to sum over all delays: there is no axis ``h``.")


class _Photons(StoredArray):
    """Numbers of photons. All photons of the file are decoded for any part of the image."""

    parallel = False

    def __init__(self, handle: _PtuHandle) -> None:
        self.handle, self.ptu, self.summed = handle, handle.ptu, handle.summed
        self.shape = handle.shape[:-1] if self.summed else handle.shape
        self.dtype = np.dtype("u4" if self.summed else self.ptu.dtype)
        self.tiles = self.shape

    def read_into(self, region: Region, out: np.ndarray) -> None:
        whole = tuple(slice(0, n) for n in self.shape)
        if np.prod(self.shape, dtype=float) * self.dtype.itemsize <= _KEPT and region != whole:
            out[...] = self.handle.kept("image", lambda: self._decoded(whole))[region]
        else:
            out[...] = self._decoded(region)

    def _decoded(self, region: Region) -> np.ndarray:
        if self.summed:
            return self.ptu.decode_image([*region, slice(None)], dtime=-1, dtype=self.dtype)[..., 0]
        return self.ptu.decode_image(list(region), dtype=self.dtype)


class _PtuHandle(Handle):
    def __init__(self, file: File, options: PtuOptions) -> None:
        ptufile = imported("ptufile", "flim", "reading PicoQuant PTU")
        self.summed = options.summed
        with contextlib.ExitStack() as stack:
            self.source = stack.enter_context(contextlib.closing(file.open()))
            stream = stack.enter_context(self.source.stream())
            self.ptu = stack.enter_context(ptufile.PtuFile(stream))
            lost = missing_records(self.ptu, self.source.size)
            self._check(file, lost)
            check_markers(self.ptu, file)
            if lost:
                stream = stack.enter_context(self.source.stream())
                whole, self.ptu = self.ptu, stack.enter_context(ptufile.PtuFile(stream))
                self.ptu.tags[RECORDS] = complete_records(whole, self.source)
            self.shape = self.ptu.shape
            if lost:
                self.shape, parts = complete_shape(self.ptu, file)
                warn(f"{file} was cut off: {lost} records of photons are lost; {parts}")
            self.opened = stack.pop_all()

    def _check(self, file: File, lost: int) -> None:
        if not lost:
            warn_of_rest(self.source, self.ptu.record_offset + 4 * self.ptu.number_records)
        if not self.ptu.is_t3 or not self.ptu.is_image:
            raise FormatError(
                f"{file} contains photons but no image ({self.ptu.measurement_mode.name}, "
                f"{self.ptu.measurement_submode.name}): read it with ptufile"
            )

    def array(self, address: None) -> StoredArray:
        return _Photons(self)

    def describe(self, scene: int | str, level: int) -> Image:
        pixels = self.pixels()
        names = self.ptu.dims[: pixels.ndim]
        steps, origin, units = {}, {}, {}
        for name, (unit, factor) in _UNITS.items():
            values: Any = np.asarray(self.ptu.coords.get(name, []))
            if values.ndim > 1:
                warn(f"{self.source.file}: its resolution along {name.lower()!r} is damaged")
            elif name in names and len(values) > 1:
                steps[name.lower()] = float(f"{(values[1] - values[0]) * factor:.12g}")
                origin[name.lower()], units[name.lower()] = float(values[0]) * factor, unit
        header = {"tags": dict(self.ptu.tags), "frequency": self.ptu.frequency}
        header["active_channels"] = list(self.ptu.active_channels)
        axes = "".join(names).lower()
        return Image.single(pixels, axes, spacing=steps, units=units, origin=origin, header=header)

    def close(self) -> None:
        self.opened.close()


class Ptu(Format):
    """PicoQuant PTU file of an image in T3 mode: numbers of photons along ``t y x c h``.

    The delay since the pulse of the laser is the axis ``h``, in ns. To read any part takes a pass over all photons.
    """

    name = "ptu"
    title = "PicoQuant PTU"
    extensions = (".ptu",)
    magic = ((0, b"PQTTTR\0\0"),)
    extras = {"flim": "reading"}
    options = PtuOptions
    serial = True

    def open(self, file: File, options: PtuOptions) -> Handle:
        return _PtuHandle(file, options)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import ptufile

        path = os.path.join(folder, "sample.ptu")
        values = np.random.default_rng(0).integers(1, 4, (2, 4, 5, 2, 6)).astype("u2")
        ptufile.imwrite(
            path, values, global_resolution=1e-8, tcspc_resolution=1e-9, pixel_time=1e-5, pixel_resolution=2.0
        )
        steps = {"y": (4, 2.0, "µm"), "x": (5, 2.0, "µm"), "h": (6, 1.0, "ns")}
        coords = {a: (a, d * np.arange(n), {"units": unit, "spacing": d}) for a, (n, d, unit) in steps.items()}
        return path, xr.Dataset({"image": (tuple("tyxch"), values)}, coords)


PtuSource = source_of(Ptu())
