"""Leica LIF, XLIF, LOF and XLEF: images as blocks of bytes with strides in XML.

The library liffile parses the files; regions are read by the strides, straight from the block.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.format_source import source_of
from intake_img.formats.lif.describe import axis_facts
from intake_img.formats.lif.layout import LifLayout, StridedArray, fitted, layout_of
from intake_img.formats.lif.memory_blocks import FileBlock, PictureBlock
from intake_img.formats.lif.tree import Tree
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Lif", "LifSource"]

_TEXTS = (".xlif", ".xlef")


class _LifHandle(Handle):
    """An open file; an array is called by the number of the image."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.tree = Tree(file, self.kept)
        if not self.tree.images:
            raise FormatError(f"{file} contains no image")
        self._layouts: dict[int, LifLayout] = {}

    @property
    def scene_names(self) -> Sequence[str]:
        names = [found.name for found in self.tree.images]
        often = Counter(names)
        return [f"{name} ({k})" if often[name] > 1 else name for k, name in enumerate(names)]

    def found(self, number: int) -> tuple[ET.Element, LifLayout, FileBlock | PictureBlock]:
        """Return the XML of an image, its layout and its block."""
        image, block = self.tree.images[number].pixels(self.file)
        if number not in self._layouts:
            what = f"{self.file}: the image {self.tree.images[number].name!r}"
            self._layouts[number] = fitted(layout_of(image), block.size, what)
        return image, self._layouts[number], block

    def array(self, address: int) -> StridedArray:
        _, layout, block = self.found(address)
        return StridedArray(layout, block)

    def describe(self, scene: int | str, level: int) -> Image:
        number = int(scene)
        image, layout, _ = self.found(number)
        pixels, axes = self.pixels(number), layout.axes
        if len(layout.offsets) == 1:
            kept = [k for k, a in enumerate(axes) if a != "c"]
            pixels, axes = pixels.reshape(kept), tuple(axes[k] for k in kept)
        names = self.scene_names
        return Image.single(
            pixels, axes, scene=names[number], scenes=names, header=_header(image), **axis_facts(image, layout)
        )

    def close(self) -> None:
        self.tree.close()


def _header(image: ET.Element) -> dict[str, Any]:
    stamps = image.find("./TimeStampList")
    parts = [part for part in image if part is not stamps]
    return {"xml": [ET.tostring(part, encoding="unicode") for part in parts]}


class Lif(Format):
    """Image in a Leica LIF, XLIF or LOF file, or in the project of an XLEF file.

    Axes are those that were scanned, in the order in which they were stored: ``t c z y x``, emission ``l`` and
    excitation ``e`` (in nm), rotation ``r``, tiles of a mosaic ``m`` (positions in the coordinates ``position_y`` and
    ``position_x``), loops ``i``. A section along z has the axes ``z x`` and no ``y``. Channels of different pixel types
    are promoted to one that contains them all. The name of a single channel is the coordinate ``c``, without an axis.
    """

    name = "lif"
    title = "Leica LIF"
    private = "^(?:LAS)?User|^Login"
    extensions = (".lif", ".lof", ".xlif", ".xlef")
    magic = ((0, b"\x70\0\0\0"),)
    has_scenes = True
    extras = {"lif": "reading", "codecs": "compressed TIFF pictures of XLIF files"}

    def claims(self, probe: Probe) -> int:
        head = probe.head
        if head.startswith(b"\x70\0\0\0"):
            return 2 * (head[8:9] == b"\x2a")
        if not probe.name.lower().endswith(_TEXTS):
            return 0
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "ignore")
        return 2 * ("<LMSDataContainerHeader" in text.replace("\0", ""))

    def open(self, file: File, options: NoOptions) -> Handle:
        return _LifHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(3 * 2 * 4 * 5, dtype="<u2").reshape(3, 2, 4, 5)
        dimensions = "".join(
            f'<DimensionDescription DimID="{number}" NumberOfElements="{size}" Origin="0" Length="{length}" Unit="m" '
            f'BytesInc="{stride}" BitInc="0"/>'
            for number, size, length, stride in ((1, 5, 1e-6, 2), (2, 4, 1.5e-6, 10), (3, 3, 4e-6, 80))
        )
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" LUTName="{name}" BytesInc="{offset}"/>'
            for name, offset in (("Green", 0), ("Red", 40))
        )
        text = (
            '<LMSDataContainerHeader Version="2"><Element Name="sample"><Children><Element Name="stack"><Data><Image>'
            f"<ImageDescription><Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
            f'</Image></Data><Memory Size="{values.nbytes}" MemoryBlockID="b"/></Element></Children></Element>'
            "</LMSDataContainerHeader>"
        ).encode("utf-16-le")
        with open(f"{folder}/sample.lif", "wb") as stream:
            stream.write(struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(text) // 2) + text)
            stream.write(struct.pack("<IIBQBI", 0x70, 16, 0x2A, values.nbytes, 0x2A, 1) + "b".encode("utf-16-le"))
            stream.write(values.tobytes())
        coords: dict[str, Any] = {
            a: (a, step * np.arange(n), {"units": "µm", "spacing": step})
            for a, n, step in (("z", 3, 2.0), ("y", 4, 0.5), ("x", 5, 0.25))
        }
        return f"{folder}/sample.lif", xr.Dataset({"image": (tuple("zcyx"), values)}, coords | {"c": ["Green", "Red"]})


LifSource = source_of(Lif())
