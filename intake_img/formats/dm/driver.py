"""Gatan DigitalMicrograph, DM3 and DM4: images in a tree of tags, pixels as plain bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, NoOptions, RawArray
from intake_img.formats.cut_off import leading_part
from intake_img.formats.dm.axes import axis_facts, letters
from intake_img.formats.dm.tags import CUT, ORDER, Short, StoredValues, members, plain, read_tags
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.samples import packaged
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Dm", "DmSource"]

_TYPES = {
    1: "i2",
    2: "f4",
    3: "c8",
    5: "c8",
    6: "u1",
    7: "i4",
    8: "u1",
    9: "i1",
    10: "u2",
    11: "u4",
    12: "f8",
    13: "c16",
    14: "u1",
    23: "u1",
    27: "c8",
    28: "c16",
    39: "i8",
    40: "u8",
}
_RGBA, _BOOL = (8, 23), 14


class _Found(NamedTuple):
    """An image: its tags, its type as a number, its sizes (the axis that runs fastest first), and its pixels."""

    tags: dict[str, Any]
    kind: int
    sizes: tuple[int, ...]
    stored: StoredValues

    @property
    def name(self) -> str:
        return self.tags["Name"].text if isinstance(self.tags.get("Name"), Short) else ""


class _DmHandle(Handle):
    """An open file; an array is called by the number of the image."""

    def __init__(self, file: File) -> None:
        self.source = file.open()
        with self.source.stream() as stream:
            root = dict(read_tags(stream, self.source.size))
        self.order = root[ORDER]
        self.images = _images(root)
        if not self.images:
            lost = "was cut off before the sizes of its image" if CUT in root else "contains no image"
            raise FormatError(f"{file} {lost}: its tags are {', '.join(map(repr, root)) or 'none'}")
        if CUT in root:
            parts = [_held(found, self.source.size) for found in self.images]
            self.images, notes = [found for found, _ in parts], [note for _, note in parts if note]
            lost = "tags that follow the pixels, and other images, are lost"
            warn(f"{file} was cut off: {'; '.join([*notes, lost])}")

    @property
    def scene_names(self) -> Sequence[str]:
        often = Counter(found.name for found in self.images)
        return [
            f.name if often[f.name] == 1 and f.name else f"{f.name} ({k})".strip() if f.name else str(k)
            for k, f in enumerate(self.images)
        ]

    def array(self, address: int) -> RawArray:
        found = self.images[address]
        dtype = np.dtype(self.order + _TYPES[found.kind])
        shape = (*found.sizes[::-1], *((4,) if found.kind in _RGBA else ()))
        need = math.prod(shape) * dtype.itemsize
        held = found.stored.count * found.stored.dtype.itemsize
        if held != need or min(shape) < 1:
            raise FormatError(
                f"the image {self.scene_names[address]!r} has {held} bytes of pixels, but its {shape} of {dtype} take "
                f"{need}: packed Fourier transforms are not supported, all else is damaged"
            )
        return RawArray(self.source, found.stored.offset, dtype, shape)

    def describe(self, scene: int | str, level: int) -> Image:
        number = int(scene)
        found, names = self.images[number], self.scene_names
        pixels = self.pixels(number).astype(bool) if found.kind == _BOOL else self.pixels(number)
        axes = letters(found.tags, len(found.sizes))
        facts = axis_facts(found.tags, axes, found.sizes)
        colours = ["R", "G", "B", "A"] if found.kind in _RGBA else None
        named = (*axes[::-1], *(("c",) if colours else ()))
        header = {k: plain(v) for k, v in found.tags.items()}
        return Image.single(pixels, named, channels=colours, scene=names[number], scenes=names, header=header, **facts)

    def close(self) -> None:
        self.source.close()


def _held(found: _Found, size: int) -> tuple[_Found, str]:
    """Return an image shortened along its outer axes to the planes that a file of `size` bytes contains, and a note."""
    stored, sizes = found.stored, found.sizes
    held = (size - stored.offset) // stored.dtype.itemsize
    if held >= stored.count or len(sizes) < 3 or min(sizes) < 1 or stored.count != math.prod(sizes):
        return found, ""
    plane, outer = sizes[0] * sizes[1], sizes[:1:-1]
    part = leading_part(outer, held // plane)
    shorter = replace(stored, count=plane * math.prod(part))
    note = f"{'image ' + repr(found.name) if found.name else 'its image'} contains {part} of {outer} planes"
    return found._replace(sizes=(*sizes[:2], *part[::-1]), stored=shorter), note


def _images(root: dict[str, Any]) -> list[_Found]:
    """Return the images of a file, without the thumbnails of others."""
    thumbnails = {dict(t).get("ImageIndex") for t in members(root.get("Thumbnails"))}
    found = [(k, _image(dict(tags))) for k, tags in enumerate(members(root.get("ImageList")))]
    every = {k: image for k, image in found if image is not None}
    if CUT in root and thumbnails <= {None} and 0 in every and every[0].kind in _RGBA:
        del every[0]  # most likely a thumbnail: the list of them is the last tag
    return [image for k, image in every.items() if k not in thumbnails] or list(every.values())


def _image(tags: dict[str, Any]) -> _Found | None:
    data = dict(tags["ImageData"]) if isinstance(tags.get("ImageData"), list) else {}
    sizes = [n for _, n in data.get("Dimensions") or () if isinstance(n, int)]
    if not isinstance(data.get("Data"), StoredValues) or not sizes or data.get("DataType") not in _TYPES:
        return None
    return _Found(tags, data["DataType"], tuple(sizes), data["Data"])


class Dm(Format):
    """Image in a DigitalMicrograph file, memory-mapped.

    Axes are ``z y x``; an axis in eV is ``l``, one in seconds ``t``; units stay as they are (``1/nm`` of diffraction).
    Images after the first are scenes; thumbnails are left out. Colours are ``c`` (R, G, B, A): an A of 0 does not mean
    that a pixel is transparent. The intensity calibration (``Brightness``) is in the header and is not applied.
    """

    name = "dm"
    title = "Gatan DigitalMicrograph"
    extensions = (".dm3", ".dm4")
    magic = ((0, b"\0\0\0\3"), (0, b"\0\0\0\4"))
    starts = (b"\0\0\0\3", b"\0\0\0\4")
    has_scenes = True

    def claims(self, probe: Probe) -> int:
        head = probe.head
        at = {b"\0\0\0\3": 8, b"\0\0\0\4": 12}.get(head[:4])
        if at is None or len(head) < at + 6:
            return 0
        return 2 * (head[at : at + 4] in (b"\0\0\0\0", b"\0\0\0\1") and max(head[at + 4 : at + 6]) <= 1)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _DmHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(60, dtype="f4").reshape(3, 4, 5).transpose(2, 0, 1)
        coords: dict[str, Any] = {
            a: (a, step / 2 + step * np.arange(n), {"units": unit, "spacing": step})
            for a, n, step, unit in (("z", 5, 2.4, "µnn"), ("y", 3, 2.0, "µ"), ("x", 4, 2.2, "µn"))
        }
        return packaged("sample.dm4", folder), xr.Dataset({"image": (tuple("zyx"), values)}, coords)


DmSource = source_of(Dm())
