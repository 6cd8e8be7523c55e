"""Princeton Instruments SPE: frames of cameras and spectra, after a header of 4100 bytes.

Layout: "SPE 2.X and SPE 3.0 file format specification", Princeton Instruments. Files of version 3 end with an XML text,
which says what a frame is made of.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import warn_of_rest
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image
from intake_img.model.untrusted import xml_root
from intake_img.storage.files import ByteReader, File
from intake_img.storage.jail import METADATA_BYTES
from intake_img.storage.raw import read_raw

__all__ = ["Spe", "SpeSource"]

_HEADER = 4100
_WIDTH, _KIND, _HEIGHT, _FOOTER, _FRAMES, _VERSION = 42, 108, 656, 678, 1446, 1992
_DTYPES = {0: "<f4", 1: "<i4", 2: "<i2", 3: "<u2", 5: "<f8", 6: "u1", 8: "<u4"}
_FORMATS = {"MonochromeUnsigned16": "<u2", "MonochromeUnsigned32": "<u4", "MonochromeFloating32": "<f4"}


@dataclass(frozen=True)
class _Part:
    """A region of interest: where it begins within a frame, and its size."""

    offset: int
    shape: tuple[int, int]


class _Frames(StoredArray):
    """A region of interest in all frames."""

    decodes = False

    def __init__(self, handle: _SpeHandle, part: _Part) -> None:
        self.handle, self.part = handle, part
        self.shape, self.dtype = (handle.frames, *part.shape), handle.dtype.newbyteorder("=")
        self.tiles = (1, *part.shape)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        handle = self.handle
        for k in range(region[0].start, region[0].stop):
            offset = _HEADER + k * handle.stride + self.part.offset
            read_raw(handle.source, offset, handle.dtype, self.part.shape, region[1:], out[k - region[0].start])


class _SpeHandle(Handle):
    """An open file; an array is called by the number of its region of interest."""

    def __init__(self, file: File) -> None:
        self.source = file.open()
        head = self.source.ranges([0], [min(_HEADER, self.source.size)])[0]
        if len(head) < _HEADER:
            raise FormatError(f"{file} has {len(head)} bytes: expected a header of {_HEADER}")
        width, kind, height = (struct.unpack_from("<H", head, at)[0] for at in (_WIDTH, _KIND, _HEIGHT))
        (self.frames,), (self.version,) = (
            struct.unpack_from("<i", head, _FRAMES),
            struct.unpack_from("<f", head, _VERSION),
        )
        self.root: Any = None
        if kind not in _DTYPES:
            raise FormatError(f"{file}: data type {kind} is none of {sorted(_DTYPES)}: it is damaged or no SPE file")
        self.dtype, self.parts = np.dtype(_DTYPES[kind]), [_Part(0, (height, width))]
        self.stride = width * height * self.dtype.itemsize
        self.end = self.source.size  # of the frames
        if self.version >= 3:
            (self.end,) = struct.unpack_from("<Q", head, _FOOTER)
            self._parse(_footer(self.source, self.end))
        if self.frames < 1 or self.stride < 1 or not all(min(p.shape) for p in self.parts):
            raise FormatError(
                f"{file}: {self.frames} frames of {[p.shape for p in self.parts]} pixels contain no image"
            )
        self._shorten(file)
        self.exposure = struct.unpack_from("<f", head, 10)[0] if self.version < 3 else None

    def _parse(self, root: Any) -> None:
        """Take from the XML what it knows better than the header."""
        self.root = root
        frame = root.find("{*}DataFormat/{*}DataBlock[@type='Frame']")
        if frame is None or frame.get("pixelFormat") not in _FORMATS:
            return
        self.dtype, self.frames, self.stride = (
            np.dtype(_FORMATS[frame.get("pixelFormat")]),
            int(frame.get("count")),
            int(frame.get("stride")),
        )
        at, self.parts = 0, []
        for region in frame.findall("{*}DataBlock[@type='Region']"):
            part = _Part(at, (int(region.get("height")), int(region.get("width"))))
            at += max(int(region.get("stride", 0)), part.shape[0] * part.shape[1] * self.dtype.itemsize)
            self.parts.append(part)
        if at > self.stride:
            raise FormatError(f"{self.source.file}: regions of {at} bytes in frames of {self.stride}: it is damaged")

    def _shorten(self, file: File) -> None:
        there = (self.end - _HEADER) // self.stride
        if there >= self.frames:
            warn_of_rest(self.source, _HEADER + self.frames * self.stride, self.end)
            return
        if there < 1:
            raise FormatError(f"{file} ends within its first frame: it is truncated or damaged")
        warn(f"{file} contains {there} of {self.frames} frames: it is truncated; these are opened")
        self.frames = there

    @property
    def scene_names(self) -> Sequence[str]:
        return [str(k) for k in range(len(self.parts))]

    def array(self, address: int) -> StoredArray:
        return _Frames(self, self.parts[address])

    def describe(self, scene: int | str, level: int) -> Image:
        assert isinstance(scene, int)
        pixels, coords = self.pixels(scene), {}
        waves = _wavelengths(self.root)
        if waves is not None and len(waves) == pixels.shape[-1]:
            coords["x"] = Coordinate(("x",), waves, {"units": "nm"})
        header: dict[str, Any] = {"version": round(float(self.version), 3)}
        if self.exposure is not None:
            header["exposure_seconds"] = float(self.exposure)
        if self.root is not None:
            header["xml"] = ElementTree.tostring(self.root, encoding="unicode")
        return Image.single(pixels, "tyx", coords=coords, header=header)

    def close(self) -> None:
        self.source.close()


def _footer(source: ByteReader, offset: int) -> Any:
    if not _HEADER <= offset < source.size or source.size - offset > METADATA_BYTES:
        raise FormatError(f"{source.file}: its XML would begin at byte {offset} of {source.size}: it is truncated")
    text = source.ranges([offset], [source.size - offset])[0].rstrip(b"\0")
    return xml_root(text, f"{source.file}: its XML")


def _wavelengths(root: Any) -> np.ndarray | None:
    """Return the wavelength of each column, in nm, where the camera was calibrated."""
    found = root.find(".//{*}WavelengthMapping/{*}Wavelength") if root is not None else None
    if found is None or not found.text:
        return None
    return np.array([float(v) for v in found.text.replace(";", ",").split(",") if v.strip()])


class Spe(Format):
    """Frames of a camera of Princeton Instruments, along ``t``; each region of interest is a scene.

    Wavelengths of files of version 3 are the coordinate ``x``, in nm.
    """

    name = "spe"
    title = "Princeton Instruments SPE"
    extensions = (".spe",)
    has_scenes = True

    def claims(self, probe: Probe) -> int:
        """Claim files of the name alone: the format has no magic bytes."""
        return 2 * (probe.name.lower().endswith(".spe") and len(probe.head) > _KIND and probe.head[_KIND] in _DTYPES)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _SpeHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(3 * 5 * 7, dtype="<u2").reshape(3, 5, 7)
        head = bytearray(_HEADER)
        for layout, at, value in (
            ("<H", _WIDTH, 7),
            ("<H", _KIND, 3),
            ("<H", _HEIGHT, 5),
            ("<i", _FRAMES, 3),
            ("<f", _VERSION, 2.5),
        ):
            struct.pack_into(layout, head, at, value)
        path = os.path.join(folder, "sample.spe")
        with open(path, "wb") as stream:
            stream.write(bytes(head) + values.tobytes())
        return path, xr.Dataset({"image": (tuple("tyx"), values)})


SpeSource = source_of(Spe())
