"""OME-XML: tolerant reading of image metadata, and conversion of metadata for tifffile's writer.

Real files lack namespaces or declare wrong ones, leave out units, write ``micron``, and spread planes over several
files; all of it is understood here, and nothing else in the package looks at OME-XML. Schema: https://docs.openmicroscopy.org/ome-model/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree

import numpy as np

from intake_img.errors import FormatError, UnitsError
from intake_img.model.image import Coordinate
from intake_img.model.units import canonical, convert, known_spacing, unit_or
from intake_img.model.untrusted import xml_root
from intake_img.model.wells import Place

__all__ = ["OmeDocument", "OmeImage", "TiffData", "channel_metadata", "parse_ome", "unit_name"]

_UNITS = {"x": "µm", "y": "µm", "z": "µm", "t": "s"}  # where the file names none: the defaults of the schema
_SIZES = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}
_PREFIXED_TAG = re.compile(r"<(/?)[A-Za-z_][\w.\-]*:")
_PREFIXED_ATTRIBUTE = re.compile(r"""(\s)[A-Za-z_][\w.\-]*:([A-Za-z_][\w.\-]*\s*=\s*["'])""")
_LEGAL_UNITS = {
    "pm",
    "nm",
    "µm",
    "mm",
    "cm",
    "dm",
    "m",
    "km",
    "Å",
    "in",
    "ft",
    "pt",
    "ps",
    "ns",
    "µs",
    "ms",
    "s",
    "min",
    "h",
    "d",
}


@dataclass(frozen=True)
class TiffData:
    """Where planes are stored: ``count`` pages of a file from page `ifd` on, beginning at the plane `first`."""

    ifd: int
    count: int | None  # None: all pages there are
    first: Mapping[str, int]
    uuid: str | None
    filename: str | None


@dataclass(frozen=True)
class OmeImage:
    """What an Image element says.

    Attributes
    ----------
    order : str
        Axes from slowest to fastest, e.g. ``"tzcyx"``; `sizes` gives their lengths, `samples` not counted in ``c``.
    spacing, units : mapping
        By axis, where known.
    times : ndarray of float, or None
        Time of each ``t``, in ``units["t"]``, where every plane of the first channel and section has one.
    channels : sequence of mapping
        Attributes of each Channel element.
    place : Place, optional
        Well and field, of a document that describes a plate.
    """

    name: str
    order: str
    sizes: Mapping[str, int]
    samples: int
    spacing: Mapping[str, float]
    units: Mapping[str, str]
    channels: Sequence[Mapping[str, str]]
    times: np.ndarray | None = None
    data: Sequence[TiffData] = ()
    place: Place | None = None

    @property
    def channel_names(self) -> list[str] | None:
        """Names of the channels; the identifiers of those that have none beside others."""
        names = [c.get("Name", "").strip() for c in self.channels]
        if not any(names) or len(names) != self.sizes.get("c", 1):
            return None
        return [name or self.channels[k].get("ID") or f"Channel:{k}" for k, name in enumerate(names)]

    def channel_attrs(self) -> dict[str, Any]:
        """What is known of all channels, as lists: colours, wavelengths in nm, fluorophores."""
        if len(self.channels) != self.sizes.get("c", 1):
            return {}
        found: dict[str, Any] = {}
        for key, source, read in (
            ("color", "Color", lambda c: _colour(c["Color"])),
            ("emission_wavelength", "EmissionWavelength", lambda c: _wavelength(c, "EmissionWavelength")),
            ("excitation_wavelength", "ExcitationWavelength", lambda c: _wavelength(c, "ExcitationWavelength")),
            ("fluor", "Fluor", lambda c: c["Fluor"]),
        ):
            values = [read(c) if source in c else None for c in self.channels]
            if values and all(v is not None for v in values):
                found[key] = values
        return found

    def time(self) -> tuple[Coordinate | None, float | None, float]:
        """Time stamps where they are uneven; else the spacing and origin of ``t``, as far as known."""
        step = known_spacing(self.spacing.get("t"))
        times = self.times
        if times is None or len(times) < 2 or not (np.diff(times) > 0).all():
            return None, step, 0.0
        even = float(times[-1] - times[0]) / (len(times) - 1)
        if np.allclose(np.diff(times), even, rtol=1e-6, atol=4 * np.spacing(np.abs(times).max())):
            close = step is not None and math.isclose(step, even, rel_tol=1e-6)
            return None, step if close else even, float(times[0])
        return Coordinate(("t",), times, {"units": self.units.get("t", "s")}), None, 0.0

    def with_samples(self, samples: int) -> OmeImage:
        """Return the image with `samples` colours in each channel, where its Channel elements do not say so."""
        fits = self.samples == 1 and samples in (3, 4) and self.sizes["c"] % samples == 0
        if not fits or any(data.first["c"] for data in self.data):
            return self
        channels = () if len(self.channels) == self.sizes["c"] else self.channels
        return replace(self, sizes={**self.sizes, "c": self.sizes["c"] // samples}, samples=samples, channels=channels)


@dataclass(frozen=True)
class OmeDocument:
    """A complete OME-XML document."""

    images: Sequence[OmeImage]
    uuid: str | None
    metadata_file: str | None = None  # the document is elsewhere: this file only contains pixels (BinaryOnly)
    text: str = field(default="", repr=False)

    def is_simple(self, own: str) -> bool:
        """True if all planes are in the file at hand, `own`, and under its name: then tifffile finds them."""
        data = (d for image in self.images for d in image.data)
        return not self.metadata_file and not any(
            d.filename and d.uuid != self.uuid and d.filename.lower() != own.lower() for d in data
        )

    def is_long(self, pages: int) -> bool:
        """True if an element of TiffData counts more planes than a file of this many pages holds."""
        return any((data.count or 0) > pages for image in self.images for data in image.data)

    def members(self, own: str) -> dict[str, str]:
        """Return the other files of a set: file name by UUID; `own` is the file at hand, if it has planes."""
        found: dict[str, str] = {}
        for data in (d for image in self.images for d in image.data):
            if data.filename and data.uuid != self.uuid and data.filename.lower() != own.lower():
                found[data.uuid or data.filename] = data.filename
        everywhere = {(d.uuid, d.filename) for image in self.images for d in image.data}
        if own and self.uuid is None and len(everywhere) == 1:  # one file, renamed
            return {}
        for name in found.values():
            if re.match(r"[A-Za-z]:|[/\\]", name) or ".." in re.split(r"[/\\]", name):
                raise FormatError(
                    f"the OME-XML names the file {name!r}: expected a file in the same folder or below it"
                )
        return found


def parse_ome(text: str) -> OmeDocument:
    """Return what an OME-XML text says.

    Parameters
    ----------
    text : str
        OME-XML of any version of the schema, with any or no namespace.

    Raises
    ------
    FormatError
        If it is not XML, or declares entities.
    """
    text = text.strip().strip("\0").lstrip("\ufeff")
    try:
        root = xml_root(text, "the OME-XML")
    except FormatError:
        bare = _PREFIXED_ATTRIBUTE.sub(r"\1\2", _PREFIXED_TAG.sub(r"<\1", re.sub(r"^<\?xml.*?\?>", "", text)))
        root = xml_root(bare, "the OME-XML")
    images = []
    elsewhere = None
    places = _places(root)
    for element in root:
        tag = _tag(element)
        if tag == "BinaryOnly":
            elsewhere = element.get("MetadataFile")
        elif tag == "Image":
            place = places.get(element.get("ID", ""))
            images += [replace(_image(element, pixels), place=place) for pixels in _children(element, "Pixels")]
    return OmeDocument(tuple(images), root.get("UUID"), elsewhere, text)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _tag(child) == name)


def _places(root: ElementTree.Element) -> dict[str, Place]:
    """Return well and field of the images of a plate, by their IDs; fields are numbered from 1 in each well."""
    found: dict[str, Place] = {}
    for plate in _children(root, "Plate"):
        for well in _children(plate, "Well"):
            row, column = _integer(well.get("Row"), -1), _integer(well.get("Column"), -1)
            samples = [ref for sample in _children(well, "WellSample") for ref in _children(sample, "ImageRef")]
            if row >= 0 and column >= 0:
                found |= {ref.get("ID", ""): Place(row, column, str(n)) for n, ref in enumerate(samples, 1)}
    return found


def _image(element: ElementTree.Element, pixels: ElementTree.Element) -> OmeImage:
    order = pixels.get("DimensionOrder", "XYCZT").lower()[::-1]
    if sorted(order) != sorted("tczyx") or not order.endswith("yx"):
        raise FormatError(f"the OME-XML has the unknown DimensionOrder {order[::-1].upper()!r}")
    try:
        sizes = {a: int(pixels.get(f"Size{a.upper()}", 1)) for a in order}
    except ValueError as exc:
        raise FormatError(f"the OME-XML has a size that is not a number: {exc}") from exc
    if min(sizes.values()) < 1:
        raise FormatError(f"the OME-XML has the size {min(sizes.values())}: expected 1 or more")
    channels, planes, data = [], [], []
    for child in pixels:
        tag = _tag(child)
        if tag == "Channel":
            channels.append(dict(child.attrib))
        elif tag == "Plane":
            planes.append(child.attrib)
        elif tag == "TiffData":
            data.append(_tiffdata(child))
    samples = max(1, _integer(channels[0].get("SamplesPerPixel"), 1)) if channels else 1
    if sizes["c"] % samples == 0:
        sizes["c"] //= samples
    spacing, units = {}, {}
    for axis, key in _SIZES.items():
        unit = unit_or(pixels.get(f"{key}Unit"), _UNITS[axis])
        if unit is not None:  # else a size in pixels, or a time in frames: unknown
            units[axis] = unit
            if (value := known_spacing(pixels.get(key))) is not None:
                spacing[axis] = value
    times = _times(planes, sizes["t"], units.get("t") if "t" in spacing else None)
    if times is not None:
        units["t"] = times[1]
    return OmeImage(
        element.get("Name") or "",
        order,
        sizes,
        samples,
        spacing,
        units,
        tuple(channels),
        times[0] if times else None,
        tuple(data),
    )


def _tiffdata(element: ElementTree.Element) -> TiffData:
    uuid = next(_children(element, "UUID"), None)
    first = {a: _integer(element.get(f"First{a.upper()}"), 0) for a in "tzc"}
    count = element.get("PlaneCount", element.get("NumPlanes"))
    number = _integer(count, 1) if count is not None else (1 if "IFD" in element.attrib else None)
    return TiffData(
        _integer(element.get("IFD"), 0),
        number,
        first,
        (uuid.text or "").strip() or None if uuid is not None else None,
        uuid.get("FileName") if uuid is not None else None,
    )


def _times(planes: Sequence[Mapping[str, str]], n: int, unit: str | None) -> tuple[np.ndarray, str] | None:
    """Times of the planes of the first channel and section, if all are known, and their unit."""
    if len(planes) < n:  # also where a damaged document states far more than there is memory for
        return None
    times = np.full(n, np.nan)
    for plane in planes:
        if _integer(plane.get("TheC"), 0) or _integer(plane.get("TheZ"), 0):
            continue
        t, delta = _integer(plane.get("TheT"), 0), plane.get("DeltaT")
        if delta is None or not 0 <= t < n:
            continue
        own = unit_or(plane.get("DeltaTUnit"), _UNITS["t"])
        if own is None:
            return None
        unit = unit or own
        try:
            times[t] = convert(float(delta), own, unit)
        except (UnitsError, ValueError):
            return None
    return (times, unit) if unit is not None and np.isfinite(times).all() else None


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text) if text is not None else default
    except ValueError:
        return default


def _colour(text: str) -> str | None:
    """``#RRGGBB`` from the signed 32-bit integer RGBA of the schema."""
    try:
        return f"#{(int(text) & 0xFFFFFFFF) >> 8:06X}"
    except ValueError:
        return None


def _wavelength(channel: Mapping[str, str], key: str) -> float | None:
    try:
        return convert(float(channel[key]), channel.get(f"{key}Unit", "nm"), "nm")
    except (UnitsError, ValueError):
        return None


def unit_name(unit: str | None) -> str | None:
    """Return the unit as OME spells it; None for a unit that its schema does not know."""
    symbol = canonical(unit) or ""
    return symbol if symbol in _LEGAL_UNITS else None


def channel_metadata(names: Sequence[str] | None, attrs: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the Channel metadata that tifffile's OME writer takes, for `count` channels.

    Parameters
    ----------
    names : sequence of str or None
    attrs : mapping
        Attributes of the channel coordinate, as `OmeImage.channel_attrs` gives them.
    """
    found: dict[str, Any] = {}
    if names is not None and len(names) == count:
        found["Name"] = [str(n) for n in names]
    colours = _listed(attrs.get("color"), count)
    if colours and all(re.fullmatch("#?[0-9a-fA-F]{6}", str(c)) for c in colours):
        rgba = [(int(str(c).lstrip("#"), 16) << 8) | 0xFF for c in colours]
        found["Color"] = [v - 2**32 if v >= 2**31 else v for v in rgba]
    for key, tag in (("emission_wavelength", "EmissionWavelength"), ("excitation_wavelength", "ExcitationWavelength")):
        values = _listed(attrs.get(key), count)
        if values and all(known_spacing(v) for v in values):
            found[tag] = [float(v) for v in values]
            found[f"{tag}Unit"] = ["nm"] * count
    if fluors := _listed(attrs.get("fluor"), count):
        found["Fluor"] = [str(v) for v in fluors]
    return found


def _listed(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) and len(value) == count else []
