"""Nikon ND2: frames along the loops of an experiment (time, position, z), channels interleaved within a frame.

The library nd2 parses the metadata; frames are read by region, straight from the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.format_source import source_of
from intake_img.formats.nd2.describe import axis_facts, loops_of, pixel_size
from intake_img.formats.nd2.file_chunks import Chunks, PackedFrames, PlainFrames
from intake_img.formats.nd2.frame_layout import frame_of
from intake_img.formats.probe import Probe
from intake_img.formats.samples import packaged
from intake_img.model.image import Image
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["Nd2", "Nd2Source"]

_MAGIC = b"\xda\xce\xbe\x0a"
_LEGACY = b"\0\0\0\x0cjP  \r\n\x87\n"


class _Nd2Handle(Handle):
    """An open file; an array is called by the number of its position."""

    def __init__(self, file: File) -> None:
        self.source = file.open()
        if file.head(len(_LEGACY)) == _LEGACY:
            raise FormatError(
                f"{file} is an ND2 file of the first kind, in JPEG 2000, which is not supported: open it in "
                "NIS-Elements and save it as ND2 or TIFF"
            )
        self.chunks = Chunks(self.source)
        self._parse()
        self.frame = frame_of(self.attributes, self.metadata is not None)
        present = self.chunks.frames
        self.loops, fault = loops_of(self.experiment, self.attributes.sequenceCount, present, self.chunks.mapped)
        if fault:
            warn(f"{file}: {fault}")

    def _parse(self) -> None:
        nd2 = imported("nd2", "nd2", "reading Nikon ND2")
        if not self.chunks.described:
            raise FormatError(
                f"{self.source.file} was cut off: {self.chunks.frames} frames are there, but their size is lost with "
                "the attributes of the image after them; copy it again, or repair it in NIS-Elements"
            )
        with self.chunks.stream() as stream, nd2.ND2File(stream) as document:
            self.attributes, self.experiment = document.attributes, document.experiment
            known = self.chunks.detailed
            self.metadata: Any = document.metadata if known else None
            self.text = dict(document.text_info) if "ImageTextInfoLV!" in self.chunks else {}
            self.pixel_size = pixel_size(document) if known else None

    @property
    def scene_names(self) -> Sequence[str]:
        return self.loops.positions

    def array(self, address: int) -> PlainFrames | PackedFrames:
        numbers = self.loops.numbers(address)
        if self.attributes.compressionType == "lossless":
            return PackedFrames(self.chunks, self.frame, numbers, self)
        return PlainFrames(self.chunks, self.frame, numbers)

    def describe(self, scene: int | str, level: int) -> Image:
        position = int(scene)
        pixels = self.pixels(position)
        axes = (*self.loops.axes, "c", "y", "x", "s")
        kept = [k for k, a in enumerate(axes) if a not in "cs" or pixels.shape[k] > 1]
        named = "".join(axes[k] for k in kept)
        if "s" in named and "c" not in named:  # colours, and no channels beside them
            named = named.replace("s", "c")
        facts = axis_facts(named, self.metadata, self.loops, self._times(position), self.pixel_size)
        names = self.scene_names
        return Image.single(
            pixels.reshape(kept), named, header=self._header(), scene=names[position], scenes=names, **facts
        )

    def _times(self, position: int) -> np.ndarray:
        """Times of the first frame of each time point."""
        numbers = self.loops.numbers(position)
        if "t" not in self.loops.axes:
            return np.empty(0)
        first = np.moveaxis(numbers, self.loops.axes.index("t"), 0)
        first = first.reshape(len(first), -1)[:, 0]
        times = self.chunks.times
        return times[first] if len(times) > first.max() else np.empty(0)

    def _header(self) -> dict[str, Any]:
        metadata = asdict(self.metadata) if self.metadata is not None else {}
        return {
            "attributes": self.attributes._asdict(),
            "experiment": [asdict(loop) for loop in self.experiment],
            "metadata": metadata,
            "text": self.text,
        }

    def close(self) -> None:
        self.source.close()


class Nd2(Format):
    """Image in a Nikon ND2 file.

    Axes are the loops of the experiment, in its order, then ``c y x``. Positions on the stage are scenes. Colour
    samples become ``c`` (R, G, B), or ``s`` beside several channels; the name of a single channel is the coordinate
    ``c``, without an axis. Times are in ms, those of the frames where the file states them; else the interval that was
    asked for.
    """

    name = "nd2"
    title = "Nikon ND2"
    private = "^(?:group|location|conclusion|info[12])$"
    extensions = (".nd2",)
    magic = ((0, _MAGIC),)
    starts = (_MAGIC, _LEGACY)
    has_scenes = True
    extras = {"nd2": "reading"}

    def claims(self, probe: Probe) -> int:
        legacy = probe.head.startswith(_LEGACY) and probe.name.lower().endswith(".nd2")
        return 2 * (probe.head.startswith(_MAGIC) or legacy)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _Nd2Handle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(4 * 5 * 7 * 2, dtype="u2").reshape(2, 2, 5, 7, 2)[:, 0].transpose(0, 3, 1, 2)
        coords: dict[str, Any] = {"c": ["DAPI", "GFP"], "t": ("t", [0.0, 500.0], {"units": "ms", "spacing": 500.0})}
        coords |= {a: (a, 0.25 * np.arange(n), {"units": "µm", "spacing": 0.25}) for a, n in (("y", 5), ("x", 7))}
        return packaged("sample.nd2.gz", folder), xr.Dataset({"image": (tuple("tcyx"), values)}, coords)


Nd2Source = source_of(Nd2())
