"""Images of simple TIFF files, found without tifffile: one grey image of ImageJ, OME-TIFF, tifffile, or plain pages.

`simple_scene` finds exactly what `intake_img.formats.tif.parser` finds with tifffile, or nothing.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.tif.facts import facts_of, header_of, ome_facts
from intake_img.formats.tif.file import Tables, TiffScene, record_of, tables_of
from intake_img.formats.tif.index import StoredPages, layout_of
from intake_img.formats.tif.light import Doubtful, LightTiff, light_tiff, need
from intake_img.formats.tif.ome import OmeDocument, OmeImage, TiffData, parse_ome
from intake_img.formats.tif.page_series import axis_names, one_named
from intake_img.storage.files import ByteReader, File

__all__ = ["simple_scene"]

_OTHERS = ("odulo", "BinaryOnly", "scanimage.SI", "mibi.")  # in descriptions that are more than they seem
_SOFTWARE = ("tifffile", "ImageJ", "intake_img", "OME Bio-Formats", "LOCI Bio-Formats")  # of no dialect
_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)


@dataclass(frozen=True)
class _Series:
    """An image: its kind as tifffile calls it, its name, and all axes of its planes with their lengths.

    `kept` are the axes that stay though their length is 1.
    """

    kind: str
    name: str
    axes: str
    shape: tuple[int, ...]
    kept: str = ""
    document: OmeDocument | None = None

    @property
    def ome(self) -> OmeImage | None:
        return self.document.images[0] if self.document else None


def simple_scene(file: File, source: ByteReader) -> tuple[TiffScene, Tables | None] | None:
    """Return the one image of a simple file, and where its header contains tables of strips; None for other files.

    Also None for a damaged file: the parser says what is wrong.
    """
    if not file.local or file.name.lower().endswith(".ndpi"):
        return None
    try:
        tiff = light_tiff(source)
        return _scene(tiff, _series(tiff, file), file, source)
    except (Doubtful, FormatError, *_FAULTS):
        return None


def _scene(tiff: Any, series: _Series, file: File, source: ByteReader) -> tuple[TiffScene, Tables | None]:
    page, ome = tiff.first, series.ome
    planes = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if n > 1 or a in series.kept]
    axes = "".join(a for a, _ in planes) + page.axes
    joined = page.compression == 1 and not page.is_tiled and tiff.in_one_piece
    pages = [page] if joined else [page, *tiff.frames()[1:]]
    offset = page.dataoffsets[0] if joined else None
    stored = StoredPages(axes, (*(n for _, n in planes), *page.shape), pages, page, offset=offset)
    layout, names = layout_of(stored, source, file), axis_names(axes)
    facts = ome_facts(ome) if ome else facts_of(tiff, series.kind, names, layout.shape, page, True)
    header = header_of(tiff, series.kind, page, series.document.text if series.document else None)
    place = ome.place if ome else None
    scene = TiffScene(series.name.strip() or "0", names, [layout], facts, header, record_of(page), place)
    return scene, tables_of(page, layout) if len(tiff) == 1 else None


def _series(tiff: LightTiff, file: File) -> _Series:
    text = tiff.first.description
    software = tiff.first.tags.valueof(305, "")
    need(not any(word in text for word in _OTHERS) and not software.startswith("SI."))
    if tiff.first.shaped_description:
        found = _shaped(tiff, text)
    elif text[-10:].strip().endswith("OME>"):
        found = _ome(tiff, text, file)
    elif text[:7] == "ImageJ=":
        found = _imagej(tiff, text)
    else:
        need(not text and (not software or software.startswith(_SOFTWARE)))
        found = _plain(tiff)
    need(math.prod(found.shape) == len(tiff))
    return found


def _plain(tiff: LightTiff) -> _Series:
    """Pages alone: tifffile looks at the first, second, eighth and last one to find out whether they are uniform."""
    count = len(tiff)
    kind = "generic" if 1 < count < 8 else "uniform"
    return _Series(kind, "", "I" * (count > 1), (count,) * (count > 1))


def _one_piece(tiff: LightTiff) -> bool:
    """Whether uncompressed pages follow one another: where they do not, tifffile may take what lies between them."""
    page = tiff.first
    padded = page.is_tiled and (page.shape[1] != page.tilewidth or page.shape[0] % page.tilelength)
    if len(tiff) == 1 or page.compression != 1 or padded:  # tifffile reads each page
        return True
    return tiff.in_one_piece


def _shaped(tiff: LightTiff, text: str) -> _Series:
    """What tifffile wrote: a JSON text."""
    facts = json.loads(text)
    shape, name, page = facts["shape"], facts.get("name", ""), tiff.first.shape
    need(not facts.get("truncated") and isinstance(name, str) and all(type(n) is int and n > 0 for n in shape))
    axes = facts.get("axes", "QYX"[-len(shape) :])
    need(isinstance(axes, str) and len(axes) == len(shape) == len(set(axes)) and tuple(shape[-2:]) == page)
    need(axes[-2:] == "YX" and ("axes" in facts or len(shape) < 4) and _one_piece(tiff))
    tiff.shaped_metadata = [facts]
    return _Series("shaped", name, axes[:-2], tuple(shape[:-2]), axes[:-2])


def _imagej(tiff: LightTiff, text: str) -> _Series:
    facts = {**_imagej_facts(text), **_imagej_metadata(tiff)}
    tiff.imagej_metadata = facts
    sizes = [facts.get(key, 1) for key in ("frames", "slices", "channels")]
    need("order" not in facts and all(type(n) is int and n > 0 for n in [*sizes, facts.get("images", 1)]))
    need(_one_piece(tiff))
    return _Series("imagej", "", "TZC", tuple(sizes))


def _imagej_facts(text: str) -> dict[str, Any]:
    """Return what ImageJ's description says: lines of ``key=value``."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found[key.strip()] = _value(value.strip())
    return found


def _imagej_metadata(tiff: LightTiff) -> dict[str, Any]:
    """Return what ImageJ's tags 50838 and 50839 contain, without pictures; see ij.io.TiffEncoder of ImageJ."""
    tags, found, number = tiff.first.tags, {}, 0
    need((50838 in tags) == (50839 in tags))
    if 50838 not in tags:
        return {}
    sizes, data = tags.numbers(50838), tags.bytes_of(tags[50839])
    need(data[:4] in (b"IJIJ", b"JIJI") and sizes[0] % 8 == 4 and 12 <= sizes[0] <= 804 and sum(sizes) <= len(data))
    at = sizes[0]
    for kind, count in struct.iter_unpack(f"{tiff.byteorder}4sI", data[4 : 4 + (sizes[0] - 4) // 8 * 8]):
        name, read = _IMAGEJ[kind if tiff.byteorder == ">" else kind[::-1]]
        values = []
        for size in sizes[number + 1 : number + 1 + count]:
            values.append(read(data[at : at + size], tiff.byteorder))
            at += size
        need(len(values) == count > 0)
        found[name], number = values[0] if count == 1 else values, number + count
    return found


def _doubles(data: bytes, order: str) -> tuple[float, ...]:
    return struct.unpack(f"{order}{len(data) // 8}d", data)


def _utf16(data: bytes, order: str) -> str:
    return data.decode("utf-16-le" if order == "<" else "utf-16-be")


def _left(data: bytes, order: str) -> bytes:
    return data


_IMAGEJ: Mapping[bytes, tuple[str, Callable[[bytes, str], Any]]] = {
    b"info": ("Info", _utf16),
    b"labl": ("Labels", _utf16),
    b"rang": ("Ranges", _doubles),
    b"luts": ("LUTs", _left),
    b"plot": ("Plot", _left),
    b"roi ": ("ROI", _left),
    b"over": ("Overlays", _left),
}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def _ome(tiff: LightTiff, text: str, file: File) -> _Series:
    document = parse_ome(text)
    need(len(document.images) == 1 and "DimensionOrder=" in text and document.is_simple(file.name))
    ome, page, pages = document.images[0], tiff.first, len(tiff)
    need((ome.sizes["y"], ome.sizes["x"]) == page.shape and ome.samples == 1)
    need(all(c.get("SamplesPerPixel", "1") == "1" for c in ome.channels))
    shape = tuple(ome.sizes[a] for a in ome.order[:-2])
    need(math.prod(shape) == pages and _covered(ome.data, ome.order[:-2], shape, pages))
    need(all(data.uuid == document.uuid if data.filename or data.uuid else True for data in ome.data))
    return _Series("ome", ome.name, ome.order[:-2].upper(), shape, "C" if one_named(ome) else "", document)


def _covered(found: Sequence[TiffData], lead: str, shape: tuple[int, ...], pages: int) -> bool:
    """Whether each plane is the page of its number."""
    numbers: list[int] = []
    for data in found:
        first: Mapping[str, int] = data.first
        start = int(np.ravel_multi_index([first[a] for a in lead], shape))
        count = pages if data.count is None else data.count
        if data.ifd != start or count < 1:
            return False
        numbers += range(start, min(start + count, pages + 1))
    return sorted(numbers) == list(range(pages))
