"""The images of a Leica file, each with its name, XML and memory block; images of an XLEF are in separate files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.lif.memory_blocks import FileBlock, Picture, PictureBlock, neighbour
from intake_img.formats.volumes import warn_of_rest
from intake_img.model.packages import imported
from intake_img.storage.files import ByteReader, File

__all__ = ["LifImage", "Tree"]

_DEEP = 20  # files that name each other


@dataclass(frozen=True)
class LifImage:
    """An image: its path in the project, its XML, and its block (None if the file lacks it)."""

    name: str
    element: Element
    block: FileBlock | PictureBlock | None

    def pixels(self, file: File) -> tuple[Element, FileBlock | PictureBlock]:
        """Return the element ``Image`` and the block.

        Raises
        ------
        FormatError
            If it contains photons, or no pixels.
        """
        image = self.element.find("./Data/Image")
        if image is None:
            raise FormatError(
                f"{file}: the image {self.name!r} contains photons (FLIM), compressed by a codec that Leica has not "
                "published: export it from LAS X as PTU or TIFF, or load another scene"
            )
        if self.block is None:
            raise FormatError(
                f"{file}: the image {self.name!r} has no pixels: it was not recorded, or the file is truncated"
            )
        return image, self.block


class Tree:
    """The images of a file and of the files that it names.

    Parameters
    ----------
    file : File
    kept : callable
        See `Handle.kept`.
    """

    def __init__(self, file: File, kept: Callable[..., np.ndarray]) -> None:
        self.kept = kept
        self.readers: dict[str, ByteReader] = {}
        self.images = list(self._images(file, "", ()))

    def _images(self, file: File, path: str, above: tuple[str, ...]) -> Iterator[LifImage]:
        if file.path in above or len(above) > _DEEP:
            raise FormatError(f"{file} names itself, by way of {len(above)} files: its references are damaged")
        root, blocks, kind = self._parsed(file)
        for reference in root.findall("./Element/Children/Reference"):
            member = neighbour(file, reference.get("File", ""))
            inside = path if kind == "XLEF" else _joined(path, root.find("./Element"))
            yield from self._images(member, inside, (*above, file.path))
        if not root.findall("./Element/Children/Reference"):
            start = root.findall("./Element")
            outside = kind == "LIF" and len(start) == 1 and not _is_image(start[0])
            for name, element in _elements(start[0].findall("./Children/Element") if outside else start, path):
                yield LifImage(name, element, self._block(file, kind, element, blocks))

    def _parsed(self, file: File) -> tuple[Element, Mapping[str, Any], str]:
        liffile = imported("liffile", "lif", "reading Leica LIF")
        source = self._reader(file)
        with source.stream() as stream, liffile.LifFile(stream) as document:
            if document.type.name not in ("LIF", "LOF", "XLIF", "XLEF", "XLCF"):
                raise FormatError(f"{file} is a Leica {document.type.name} file: expected LIF, XLIF, LOF or XLEF")
            blocks = dict(document.memory_blocks)
            if document.type.name == "LIF" and blocks:
                warn_of_rest(source, max(b.offset + b.size for b in blocks.values()))
            return document.xml_element, blocks, document.type.name

    def _reader(self, file: File) -> ByteReader:
        if file.path not in self.readers:
            self.readers[file.path] = file.open()
        return self.readers[file.path]

    def _block(self, file: File, kind: str, element: Element, blocks: Mapping[str, Any]) -> Any:
        memory = element.find("./Memory")
        name = memory.get("MemoryBlockID") if memory is not None else None
        block = blocks.get(str(name)) if kind == "LIF" else next(iter(blocks.values()), None)
        if block is None or not block.size:
            return None
        if kind != "XLIF":
            return FileBlock(self._reader(file), block.offset, block.size)
        pictures = [Picture(neighbour(file, f.file), f.offset, f.size) for f in block.frames]
        if pictures and pictures[0].file.name.lower().endswith(".lof"):
            return self._lof(pictures[0].file)
        return PictureBlock(pictures, self.kept) if pictures else None

    def _lof(self, file: File) -> FileBlock:
        _, blocks, kind = self._parsed(file)
        if kind != "LOF" or not blocks:
            raise FormatError(f"{file} is named as the pixels of an image, but it is a {kind} file")
        block = next(iter(blocks.values()))
        return FileBlock(self._reader(file), block.offset, block.size)

    def close(self) -> None:
        for reader in self.readers.values():
            reader.close()


def _elements(elements: list[Element], path: str) -> Iterator[tuple[str, Element]]:
    """Iterate over the images among elements and below them; names of folders become part of the image names."""
    for element in elements:
        name = _joined(path, element)
        if _is_image(element):
            yield name, element
        yield from _elements(element.findall("./Children/Element"), name)


def _is_image(element: Element) -> bool:
    return element.find("./Data/Image") is not None or element.find("./Data/SingleMoleculeDetection") is not None


def _joined(path: str, element: Element | None) -> str:
    name = element.get("Name", "") if element is not None else ""
    return f"{path}/{name}" if path and name else path or name
