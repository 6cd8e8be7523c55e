"""The format ``mif``: images of MRtrix, ``.mif`` and ``.mih``, read only.

Specification: "MRtrix image formats" in https://mrtrix.readthedocs.io/en/latest/getting_started/image_data.html.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, StoredArray
from intake_img.formats.fields import beside, header_lines, numbers, stamp_with_parts
from intake_img.formats.format_source import source_of
from intake_img.formats.options import ScaledOption
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import ArrayHandle, placed_by, sample_volume, stored_array, unpacked
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import known_spacing
from intake_img.storage.files import ByteReader, File

__all__ = ["Mif", "MifSource"]

_AXES = "xyziabdefg"
"""Letters of the axes: the fourth are volumes, which may be times, directions of diffusion or anything else."""
_LAST = re.compile(rb"^END[ \t]*\r?\n", re.MULTILINE)
_KINDS = {"INT": "i", "UINT": "u", "FLOAT": "f", "CFLOAT": "c"}


class _Bits(StoredArray):
    """An array of one bit a pixel, the highest bit of a byte first."""

    def __init__(self, source: ByteReader, offset: int, shape: Sequence[int]) -> None:
        if min(shape) < 1 or offset + -(-math.prod(shape) // 8) > source.size:
            raise FormatError(f"{source.file}: {tuple(shape)} bits need more bytes than there are: it is truncated")
        self.source, self.offset, self.shape, self.dtype = source, offset, tuple(shape), np.dtype(bool)
        self.tiles = (1, *self.shape[1:])

    def read_into(self, region: Region, out: np.ndarray) -> None:
        first, last = (k * math.prod(self.shape[1:]) for k in (region[0].start, region[0].stop))
        begin = first // 8
        data = self.source.ranges([self.offset + begin], [-(-last // 8) - begin])[0]
        bits = np.unpackbits(np.frombuffer(data, np.uint8))[first - 8 * begin :][: last - first]
        out[...] = bits.reshape(-1, *self.shape[1:])[(slice(None), *region[1:])]


class Mif(Format):
    """Image in a file of MRtrix, with its position in space.

    Axes are ``x y z``, and ``i`` for volumes. Pixels are in the order of the axes that the header states, whatever
    the layout in the file is.
    """

    name = "mif"
    title = "MRtrix"
    extensions = (".mif", ".mih", ".mif.gz")
    options = ScaledOption
    private = "^command_history$"

    def claims(self, probe: Probe) -> int:
        return 2 * (probe.inner or probe.head).startswith(b"mrtrix image")

    def stamp(self, file: File) -> tuple[Any, ...]:
        return stamp_with_parts(file, _names)

    def open(self, file: File, options: ScaledOption) -> Handle:
        source = unpacked(file.open())
        fields, end = _fields(source)
        name, _, offset = fields["file"].strip().partition(" ")
        begin = (numbers(offset, "file", int) or [0])[0]
        if name != ".":
            source.close()
            source = beside(file, name)
            source = unpacked(source) if name.lower().endswith(".gz") else source
        elif begin < end:
            raise FormatError(
                f"{file}: its pixels would begin at byte {begin}, within the header of {end} bytes: damaged"
            )
        sizes = _listed(fields, "dim", int)
        order, turned = _layout(fields, len(sizes))
        shape = [sizes[k] for k in order]
        if fields["datatype"].upper() == "BIT":
            stored: StoredArray = _Bits(source, begin, shape)
        else:
            alone = order[0] not in turned  # of an axis that runs backwards, the beginning would be missing
            stored = stored_array(source, begin, _dtype(fields["datatype"]), shape, alone=alone)
        backwards = [slice(None, None, -1 if k in turned else 1) for k in order]

        def describe(pixels: Pixels) -> Image:
            pixels = pixels.select(backwards)
            offset, slope = _listed(fields, "scaling") or (0.0, 1.0)
            if options.scaled and pixels.dtype.kind in "iuf":
                pixels = pixels.scaled(slope, offset)
            return _placed(Image.single(pixels, [_AXES[k] for k in order], header=fields), fields)

        return ArrayHandle(stored, describe, source)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        text = "mrtrix image\ndim: 4,3,2\nvox: 0.5,0.25,2\nlayout: +0,+1,+2\ndatatype: UInt16BE\nfile: . 120\nEND\n"
        return sample_volume(f"{folder}/a.mif", text.encode().ljust(120), unit="mm")


MifSource = source_of(Mif())


def _fields(source: ByteReader) -> tuple[dict[str, str], int]:
    """Return what a header says, and where it ends; a key that is repeated has several lines."""
    lines, end = header_lines(source, _LAST)
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, sign, value = line.partition(":")
        if sign:
            key = name.strip().lower()
            fields[key] = f"{fields[key]}\n{value.strip()}" if key in fields else value.strip()
    if lines[-1].strip() != "END":
        raise FormatError(f"{source.file}: the header has no END: it is truncated or damaged")
    if missing := [key for key in ("dim", "layout", "datatype", "file") if key not in fields]:
        raise FormatError(f"{source.file}: the header lacks {missing[0]}: it is truncated or damaged")
    if "\n" in fields["file"]:
        raise FormatError(f"{source.file}: its pixels are in several files, which is not supported: join them")
    return fields, end


def _names(source: ByteReader) -> Sequence[str]:
    name = _fields(unpacked(source))[0]["file"].split(" ")[0]
    return [] if name == "." else [name]


def _listed(fields: Mapping[str, str], name: str, kind: type = float) -> list[Any]:
    return numbers(re.sub(r"[,\n]", " ", fields.get(name, "")), name, kind)


def _layout(fields: Mapping[str, str], count: int) -> tuple[list[int], set[int]]:
    """Return the axes in the order of the file, the slowest first, and those that run backwards."""
    words = fields["layout"].replace(" ", "").split(",")
    ranks = numbers(" ".join(words), "layout", int)
    if sorted(map(abs, ranks)) != list(range(count)) or not 1 <= count <= len(_AXES):
        raise FormatError(f"layout is {fields['layout']!r:.80}, and dim has {count} numbers: expected as many, 1 to 10")
    order = sorted(range(count), key=lambda k: -abs(ranks[k]))
    return order, {k for k, word in enumerate(words) if word.startswith("-")}


def _dtype(text: str) -> np.dtype:
    found = re.fullmatch(r"(C?FLOAT|U?INT)(8|16|32|64)(LE|BE)?", text.strip().upper())
    if found is None or (found[1].endswith("FLOAT") and found[2] == "8"):
        raise FormatError(f"datatype is {text!r:.80}: expected Bit, Int8 to UInt64, Float16 to Float64 or CFloat32")
    size = int(found[2]) // 8 * (2 if found[1] == "CFLOAT" else 1)
    if found[1] == "CFLOAT" and size < 8:
        raise FormatError(f"datatype {text!r:.80} is not supported")
    return np.dtype(f"{'>' if found[3] == 'BE' else '<'}{_KINDS[found[1]]}{size}")


def _placed(image: Image, fields: Mapping[str, str]) -> Image:
    """Return an image with its spacing, and its position where ``transform`` states it: directions of length 1."""
    steps = [known_spacing(s) or np.nan for s in _listed(fields, "vox")][:3]
    matrix = np.array(_listed(fields, "transform")[:12])
    axes = "xyz"[: min(len(steps), sum(a in "xyz" for a in image.sizes))]
    if len(axes) == 3 and matrix.size == 12 and np.isfinite(steps).all():
        rows = matrix.reshape(3, 4)
        return placed_by(image, axes, rows[:, :3].T * np.array(steps)[:, None], rows[:, 3], "RAS+", "mm")
    spacing = {a: float(s) for a, s in zip(axes, steps, strict=False) if np.isfinite(s)}
    return replace(image, spacing=spacing, units=dict.fromkeys(spacing, "mm"))
