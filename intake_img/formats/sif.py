"""Andor SIF: frames of cameras and spectra of Andor Solis, after a header of text whose lines depend on the version.

The format is not published. What is needed is found by its shape and not by counting lines: the line with the sizes of
the array, those with the areas of the detector, the polynomial that gives a wavelength to each column. Of a file that
contains signal, background and reference, the first, the signal, is read.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, NoOptions, RawArray, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.model.image import Coordinate, Image
from intake_img.storage.files import File

__all__ = ["Sif", "SifSource"]

_MAGIC = b"Andor Technology Multi-Channel File\n"
_TEXT = 2**20  # bytes in which the header is looked for
# version; left, top, right, bottom, frames, areas, all values, values of an area
_SIZES = re.compile(rb"(655\d\d)((?: -?\d{1,10}){8})\s*\n(?=65538 )")
_AREA = re.compile(rb"65538((?: -?\d{1,10}){7})\s*\n")  # left top right bottom, binning of y and x
_FLOAT = rb"[-+]?\d[\d.]*(?:e[-+]?\d+)?"
_FOUR = rb" ".join([_FLOAT] * 4)
_POLYNOMIALS = re.compile(rb"(?<=\n)(" + _FOUR + rb")\n(?=(?:" + _FOUR + rb"\n){2})")
_FLAGGED = 65541  # from this version on a line follows the times of frames


class _SifHandle(Handle):
    def __init__(self, file: File) -> None:
        self.source = file.open()
        text = self.source.ranges([0], [min(_TEXT, self.source.size)])[0]
        sizes = _SIZES.search(text) if text.startswith(_MAGIC) else None
        if sizes is None:
            raise FormatError(f"{file} begins with {text[:16]!r} and states no sizes: it is damaged or no SIF file")
        self.left, _, _, _, frames, areas, total, _ = map(int, sizes[2].split())
        offset, self.binning, shape = _areas(text, sizes.end(), areas, file)
        offset = _after_times(text, offset, frames, int(sizes[1]) >= _FLAGGED, file)
        if frames < 1 or frames * areas * shape[0] * shape[1] != total:
            raise FormatError(f"{file}: {frames} frames of {areas} areas of {shape} are not {total} values")
        frames = self._there(file, offset, frames, 4 * areas * shape[0] * shape[1])
        self.stored = RawArray(self.source, offset, np.dtype("<f4"), (frames, areas, *shape))
        self.waves = _wavelengths(text[: sizes.start()], self.left, self.binning[1], shape[1])
        self.facts = _facts(text)

    def _there(self, file: File, offset: int, frames: int, size: int) -> int:
        there = (self.source.size - offset) // size
        if there < 1:
            raise FormatError(f"{file} ends within its first frame: it is truncated or damaged")
        if there < frames:
            warn(f"{file} contains {there} of {frames} frames: it is truncated; these are opened")
        return min(there, frames)

    def array(self, address: None) -> StoredArray:
        return self.stored

    def describe(self, scene: int | str, level: int) -> Image:
        pixels, axes = self.pixels(), "tiyx"
        if pixels.shape[1] == 1:
            pixels, axes = pixels.reshape((0, 2, 3)), "tyx"
        coords = {} if self.waves is None else {"x": Coordinate(("x",), self.waves, {"units": "nm"})}
        spacing = {"t": self.facts["cycle_seconds"]} if pixels.shape[0] > 1 and "cycle_seconds" in self.facts else {}
        header = {**self.facts, "binning_yx": list(self.binning)}
        return Image.single(pixels, axes, coords=coords, spacing=spacing, units={"t": "s"}, header=header)

    def close(self) -> None:
        self.source.close()


def _areas(text: bytes, at: int, count: int, file: File) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Return where the areas of the detector end, their binning of y and x, and height and width."""
    found = set()
    for _ in range(count if 0 < count < 10_000 else 0):
        if (line := _AREA.match(text, at)) is None:
            break
        left, top, right, bottom, y, x, _ = map(int, line[1].split())
        if min(y, x) < 1:
            break
        found.add(((y, x), ((abs(top - bottom) + 1) // y, (abs(right - left) + 1) // x)))
        at = line.end()
    if len(found) != 1:
        raise FormatError(f"{file}: {count} areas of the detector with {len(found)} sizes: expected equal ones")
    binning, shape = found.pop()
    return at, binning, shape


def _after_times(text: bytes, at: int, frames: int, flagged: bool, file: File) -> int:
    """Return where the pixels begin: after a line for each frame, and as many more where a flag says so."""
    at, _ = _skipped(text, at, frames, file)
    if flagged:
        at, flag = _skipped(text, at, 1, file)
        at, _ = _skipped(text, at, frames if flag == 1 else 0, file)
    return at


def _skipped(text: bytes, at: int, count: int, file: File) -> tuple[int, int]:
    """Return where `count` lines of one number end, and the last number."""
    value = 0
    for _ in range(count):
        end = text.find(b"\n", at)
        line = text[at:end].strip() if at < end <= at + 40 else b""
        if not line.isdigit():
            raise FormatError(f"{file}: the times of its frames are damaged, at byte {at}")
        value, at = int(line), end + 1
    return at, value


def _wavelengths(text: bytes, left: int, binning: int, width: int) -> np.ndarray | None:
    """Return the wavelength of each column, in nm; None where the polynomial says nothing."""
    lines = _POLYNOMIALS.findall(text)
    if not lines:
        return None
    factors = [float(v) for v in lines[-1].split()]
    if factors in ([0, 1, 0, 0], [0, 0, 0, 0]) or not np.isfinite(factors).all():
        return None
    columns = left + binning * np.arange(width) + (binning - 1) / 2  # counted from 1
    return np.polynomial.polynomial.polyval(columns, factors)


def _facts(text: bytes) -> dict[str, Any]:
    """Return what the first lines say: the detector, its temperature, exposure and cycle in seconds."""
    lines = text[: 2**14].split(b"\n", 5)
    facts: dict[str, Any] = {"detector": lines[3].strip().decode("latin-1") if len(lines) > 3 else ""}
    words = lines[2].split(b" ") if len(lines) > 2 else []
    for name, k in (("temperature_celsius", 5), ("exposure_seconds", 12), ("cycle_seconds", 13)):
        try:
            facts[name] = float(words[k])
        except (IndexError, ValueError):
            continue
    return facts


class Sif(Format):
    """Frames of a camera of Andor, along ``t``; a spectrum is a frame of one row.

    Where the spectrograph was calibrated the coordinate ``x`` is the wavelength, in nm. Rows are as in the file.
    """

    name = "sif"
    title = "Andor SIF"
    extensions = (".sif",)
    magic = ((0, _MAGIC),)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _SifHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(3 * 4 * 6, dtype="<f4").reshape(3, 4, 6)
        times = "".join(f"{k:10d}\n" for k in range(3))
        words = " ".join(["65567 0 0 1 1600000000 -60", *["\0"] * 5, "0 0.1 0.5 0.5 1"])
        text = (
            f"65538 1\n{words}\nDU897 \n 6 4 8\nmade.sif \n65538 2048\n{' ' * 2048}\n65540 \1 \0\n500 0.5 0 0\n"
            "0 1 0 0\n0 1 0 0\n0\n10\nWavelength6\nCounts12\nPixel number65541 1 4 6 1 3 1 72 24\n"
            f"65538 1 4 6 1 1 1 0\n{times}0\n"
        )
        path = os.path.join(folder, "sample.sif")
        with open(path, "wb") as stream:
            stream.write(_MAGIC + text.encode("latin-1") + values.tobytes())
        coords: dict[str, Any] = {"t": ("t", 0.5 * np.arange(3), {"units": "s", "spacing": 0.5})}
        coords["x"] = ("x", 500 + 0.5 * np.arange(1, 7), {"units": "nm"})
        return path, xr.Dataset({"image": (tuple("tyx"), values)}, coords)


SifSource = source_of(Sif())
