"""An open OpenEXR file: its parts and groups of channels as images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Handle, StoredArray
from intake_img.formats.exr.groups import groups_of, ordered
from intake_img.formats.exr.header import ExrChannel, Part, parts_of
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image
from intake_img.model.packages import imported
from intake_img.model.untrusted import json_object
from intake_img.storage.files import File

__all__ = ["KEY", "ExrHandle", "library"]

KEY = "intake_img"
"""Name of the attribute of the record."""
_RATIO = 10_000


class ExrHandle(Handle):
    """An open file: its bytes, which the library decodes; an array is called by the number of its scene."""

    def __init__(self, file: File) -> None:
        library()
        self.source = file.open()
        try:
            self.data = self.source.ranges([0], [self.source.size])[0]
        finally:
            self.source.close()
        self.scenes = [
            (number, part, group) for number, part in enumerate(parts_of(self.data)) for group in groups_of(part)
        ]
        for _, part, group in self.scenes:
            height, width = part.size(group[0])
            if height * width > _RATIO * len(self.data) + 2**20:
                raise FormatError(
                    f"{file}: the header states {width} x {height} pixels in {len(self.data)} bytes: it is damaged"
                )

    @property
    def scene_names(self) -> Sequence[str]:
        several = {number for number, _, group in self.scenes if group is not _groups_of(self.scenes, number)[0]}
        return [
            f"{part.name} {'+'.join(c.name for c in group)}" if number in several else part.name
            for number, part, group in self.scenes
        ]

    def describe(self, scene: int | str, level: int) -> Image:
        number = int(scene)
        _, part, group = self.scenes[number]
        stored = _stored(part)
        names = [c.name for c in ordered(group, stored.get("channels"))]
        coords = {}
        for axis, start, step, n in zip(
            "yx", part.window[1::-1], (group[0].down, group[0].across), part.size(group[0]), strict=True
        ):
            first = -(-start // step) * step
            if first or step > 1:
                coords[axis] = Coordinate((axis,), np.arange(n) * step + first)
        texts = {k: v.decode("utf-8", "replace") for k, v in part.texts.items() if k != KEY}
        header = {"format": "OpenEXR", "part": part.name, "dataWindow": list(part.window), "attributes": texts}
        image = Image.single(self.pixels(number), "cyx", channels=names, coords=coords, header=header)
        return image.restored(stored.get("record"))

    def array(self, address: int) -> StoredArray:
        return _Group(self, address)

    def close(self) -> None:
        self.data = b""


class _Group(StoredArray):
    """Channels of one size: the library decodes all of them together; the channels of a part are cached for some
    time."""

    def __init__(self, handle: ExrHandle, number: int) -> None:
        self.open, self.number = handle, number
        self.part, part, group = handle.scenes[number]
        self.channels = ordered(group, _stored(part).get("channels"))
        self.dtype = np.result_type(*(c.dtype for c in group))
        self.shape = self.tiles = (len(group), *part.size(group[0]))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if out.shape == self.shape:
            self._read(out)
        else:
            out[...] = self.open.kept(self.number, lambda: self._read(np.empty(self.shape, self.dtype)))[region]

    def _read(self, out: np.ndarray) -> np.ndarray:
        with library().File(io.BytesIO(self.open.data), separate_channels=True) as file:
            channels = file.parts[self.part].channels
            for channel, target in zip(self.channels, out, strict=True):
                found = channels[channel.name].pixels
                if found.shape != self.shape[1:]:
                    raise FormatError(
                        f"the channel {channel.name!r} has shape {found.shape}, expected {self.shape[1:]}"
                    )
                target[...] = found
        return out


def library() -> Any:
    return imported("OpenEXR", "exr", "OpenEXR")


def _groups_of(scenes: Sequence[tuple[int, Part, list[ExrChannel]]], number: int) -> list[list[ExrChannel]]:
    return [group for own, _, group in scenes if own == number]


def _stored(part: Part) -> dict[str, Any]:
    return json_object(part.texts.get(KEY, b"{}"))
