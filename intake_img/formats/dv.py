"""DeltaVision (``.dv``, ``.r3d``): a header of 1024 bytes, one record for each section, then the pixels, plain.

Format: Applied Precision, "DeltaVision image file format" (IVE/Priism, derived from MRC). Sections follow each other in
one of three orders of z, wavelength and time. Rows run upwards, and are not turned round.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, NoOptions, RawArray
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import warn_of_rest
from intake_img.model.image import Coordinate, Image
from intake_img.model.units import known_spacing
from intake_img.storage.files import File

__all__ = ["Dv", "DvSource"]

_MAGIC = {b"\xa0\xc0": "<", b"\xc0\xa0": ">"}  # -16224 at byte 96
_ORDERS = {0: "ctz", 1: "tzc", 2: "tcz"}  # outermost first
_TYPES = {0: "u1", 1: "i2", 2: "f4", 4: "c8", 5: "i2", 6: "u2", 7: "i4"}
_HEADER = "10i6f3i3f2i2hi24s4h6f6h2f2h3f6h3fi"
_FIELDS = {
    "nx": 0,
    "ny": 1,
    "sections": 2,
    "type": 3,
    "dx": 10,
    "dy": 11,
    "dz": 12,
    "extended": 23,
    "integers": 28,
    "floats": 29,
    "image_type": 38,
    "lens": 39,
    "times": 46,
    "sequence": 47,
    "wavelengths": 51,
    "wave1": 52,
    "wave2": 53,
    "wave3": 54,
    "wave4": 55,
    "wave5": 56,
    "z0": 57,
    "x0": 58,
    "y0": 59,
    "titles": 60,
}


@dataclass(frozen=True)
class _Layout:
    offset: int
    dtype: np.dtype
    axes: str
    shape: tuple[int, ...]


class _DvHandle(Handle):
    def __init__(self, file: File) -> None:
        self.source = file.open()
        head = self.source.ranges([0], [min(1024, self.source.size)])[0]
        self.order = _MAGIC.get(head[96:98], "")
        if len(head) < 1024 or not self.order:
            raise FormatError(f"{file} does not begin like a DeltaVision file of at least 1024 bytes")
        values = struct.unpack_from(self.order + _HEADER, head)
        self.facts: dict[str, Any] = {name: values[k] for name, k in _FIELDS.items()}
        texts = (head[224 + 80 * k : 304 + 80 * k].split(b"\0")[0].decode("latin-1").strip() for k in range(10))
        self.titles = [text for text in texts if text]
        self.layout = self._checked()

    def _checked(self) -> _Layout:
        """Return the layout, shortened along its first axis to what the file holds."""
        facts, file = self.facts, self.source.file
        sizes = {"t": facts["times"] or 1, "c": facts["wavelengths"] or 1, "y": facts["ny"], "x": facts["nx"]}
        sizes["z"], rest = divmod(facts["sections"], max(1, sizes["t"] * sizes["c"]))
        kind = _TYPES.get(facts["type"])
        if sizes["z"] > 1 and not facts["times"] * facts["wavelengths"]:
            warn(f"{file} counts 0 times or 0 wavelengths: taken as 1")
        if kind is None or rest or min(sizes.values()) < 1 or facts["extended"] < 0:
            raise FormatError(
                f"{file}: {facts['sections']} sections of {facts['ny']} x {facts['nx']} pixels, type {facts['type']}, "
                f"at {facts['times']} times and {facts['wavelengths']} wavelengths make no image: damaged?"
            )
        axes = _ORDERS.get(facts["sequence"], "ctz") + "yx"
        shape, dtype = [sizes[a] for a in axes], np.dtype(self.order + kind)
        offset = 1024 + facts["extended"]
        step = dtype.itemsize * math.prod(shape[1:])
        held = max(0, self.source.size - offset) // step
        if held < 1:
            raise FormatError(f"{file} has {self.source.size} bytes, less than one of {shape[0]} {axes[0]}: truncated")
        if held < shape[0]:
            warn(f"{file} contains only {held} of {shape[0]} along {axes[0]!r}: it was cut off")
            shape[0] = held
        warn_of_rest(self.source, offset + sizes[axes[0]] * step)
        return _Layout(offset, dtype, axes, tuple(shape))

    def array(self, address: None) -> RawArray:
        layout = self.layout
        return RawArray(self.source, layout.offset, layout.dtype, layout.shape)

    def describe(self, scene: int | str, level: int) -> Image:
        facts, axes = self.facts, self.layout.axes
        spacing = {a: _plain(facts[f"d{a}"]) for a in "zyx" if known_spacing(facts[f"d{a}"]) is not None}
        origin = {a: _plain(facts[f"{a}0"]) for a in spacing if np.isfinite(facts[f"{a}0"])}
        units, coords = dict.fromkeys(spacing, "µm"), {}
        sizes = dict(zip(axes, self.layout.shape, strict=True))
        waves = [facts[f"wave{k}"] for k in range(1, 1 + min(5, sizes["c"]))]
        if len(waves) == sizes["c"] and all(w > 0 for w in waves) and len(set(waves)) == len(waves):
            coords["c"] = Coordinate(("c",), np.asarray([str(w) for w in waves]), {"emission_wavelength": waves})
        if sizes["t"] > 1 and (times := self._times()) is not None:
            coords["t"] = Coordinate(("t",), times, {"units": "s"})
        header = {**facts, "titles": self.titles, "y_axis": "up", "byte_order": self.order}
        return Image.single(
            self.pixels(), axes, spacing=spacing, units=units, origin=origin, coords=coords, header=header
        )

    def _times(self) -> np.ndarray | None:
        """Return the times of the first section of each time point in seconds, from the records of sections."""
        sizes = dict(zip(self.layout.axes, self.layout.shape, strict=True))
        words = self.facts["integers"] + self.facts["floats"]
        between = 1  # sections from one time point to the next
        for axis in self.layout.axes[self.layout.axes.index("t") + 1 : -2]:
            between *= sizes[axis]
        last = 4 * (words * between * (sizes["t"] - 1) + self.facts["integers"] + 2)
        if self.facts["integers"] < 0 or self.facts["floats"] < 2 or last > self.facts["extended"]:
            return None
        offsets = [1024 + 4 * (words * between * t + self.facts["integers"] + 1) for t in range(sizes["t"])]
        data = b"".join(self.source.ranges(offsets, [4] * len(offsets)))
        times = np.frombuffer(data, self.order + "f4").astype(float)
        return times if (np.diff(times) > 0).all() else None

    def close(self) -> None:
        self.source.close()


class Dv(Format):
    """Image in a DeltaVision file, memory-mapped.

    Axes are ``c t z y x`` in the order of the file. Channels are called by their emission wavelengths in nm. Rows run
    upwards (the header says ``y_axis: up``) and are not turned round. A file that was cut off opens as far as it goes.
    """

    name = "dv"
    title = "DeltaVision"
    extensions = (".dv", ".r3d")
    magic = ((96, b"\xa0\xc0"), (96, b"\xc0\xa0"))

    def claims(self, probe: Probe) -> int:
        head = probe.head
        order = _MAGIC.get(head[96:98])
        if order is None or len(head) < 224 or head[208:212] == b"MAP ":
            return 0
        nx, ny, sections, kind = struct.unpack_from(order + "4i", head)
        return int(min(nx, ny, sections) > 0 and kind in range(8))

    def open(self, file: File, options: NoOptions) -> Handle:
        return _DvHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(2 * 2 * 3 * 4 * 5, dtype=">u2").reshape(2, 2, 3, 4, 5)  # t c z y x
        header = bytearray(1024)
        for at, code, *numbers in (
            (0, "4i", 5, 4, 12, 6),
            (40, "3f", 0.25, 0.25, 0.5),
            (92, "i", 12 * 40),
            (96, "h", -16224),
            (128, "2h", 8, 2),
            (180, "2h", 2, 2),
            (196, "3h", 2, 457, 528),
        ):
            struct.pack_into(">" + code, header, at, *numbers)
        records = np.zeros((12, 10), ">f4")
        records[6:, 9] = 2.5  # seconds
        with open(f"{folder}/sample.dv", "wb") as stream:
            stream.write(header + records.tobytes() + values.tobytes())
        coords: dict[str, Any] = {
            a: (a, step * np.arange(n), {"units": "µm", "spacing": step})
            for a, n, step in (("z", 3, 0.5), ("y", 4, 0.25), ("x", 5, 0.25))
        }
        coords |= {"c": ["457", "528"], "t": ("t", [0.0, 2.5], {"units": "s"})}
        return f"{folder}/sample.dv", xr.Dataset({"image": (tuple("tczyx"), values.astype("u2"))}, coords)


DvSource = source_of(Dv())


def _plain(value: float) -> float:
    """A float32 as the decimal that it stands for: 0.3, not 0.30000001192."""
    return float(str(np.float32(value)))
