"""Axes from the dialects of TIFF: spacing, units, time stamps, names of channels.

ImageJ, LSM, MetaMorph, slide scanners and plain TIFF each keep these facts elsewhere; here they become one table.
OME-XML is read by `intake_img.formats.tif.ome`.

The resolution tags of plain TIFF mostly have what a paint program put there (72 dpi). They are taken for the size of a
pixel only where that is below 10 µm, finer than printers and monitors resolve; else spacing is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.tif.ome import OmeImage
from intake_img.formats.tif.ycbcr import becomes_rgb
from intake_img.model.axes import RGB
from intake_img.model.image import Coordinate
from intake_img.model.units import canonical, convert, known_spacing, parse_unit, unit_or
from intake_img.model.untrusted import finite

if TYPE_CHECKING:
    import tifffile

__all__ = [
    "TiffFacts",
    "facts_of",
    "header_of",
    "ome_facts",
    "palette_of",
    "resolution_of",
    "samples_named",
    "stamps_of",
]

_JPEG = (6, 7, 34892, 33007)
YCBCR = ("Y", "Cb", "Cr")
_PAPER = 10.0  # µm: larger pixels of plain TIFF are print resolutions
_RESOLUTION_UNITS = {2: "in", 3: "cm", 4: "mm", 5: "µm"}
_LABEL_PLACE = re.compile(r"^([czt]:\d+/\d+\s*)+(-\s*)?")
_TAGS = {
    270: "ImageDescription",
    271: "Make",
    272: "Model",
    282: "XResolution",
    283: "YResolution",
    296: "ResolutionUnit",
    305: "Software",
    306: "DateTime",
    315: "Artist",
    316: "HostComputer",
}


@dataclass(frozen=True)
class TiffFacts:
    """What a file says of one image.

    Attributes
    ----------
    lead : sequence of (str, int), optional
        Letters and lengths of the axes of planes, slowest first, where the file states them and tifffile does not.
    coords : mapping of str to Coordinate
        Explicit coordinates, except of channels and times.
    """

    spacing: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, float] = field(default_factory=dict)
    channels: Sequence[str] | None = None
    channel_attrs: Mapping[str, Any] = field(default_factory=dict)
    times: Coordinate | None = None
    lead: Sequence[tuple[str, int]] | None = None
    coords: Mapping[str, Coordinate] = field(default_factory=dict)


def facts_of(
    tif: tifffile.TiffFile, kind: str, axes: Sequence[str], shape: Sequence[int], page: tifffile.TiffPage, first: bool
) -> TiffFacts:
    """Return what the file says of an image.

    Parameters
    ----------
    tif : tifffile.TiffFile
    kind : str
        tifffile's name for the kind of series.
    axes, shape : sequence
        Axes and lengths of the image.
    page : tifffile.TiffPage
        Its first page.
    first : bool
        Whether it is the first image of the file: slide formats describe only that.
    """
    sizes = dict(zip(axes, shape, strict=True))
    if kind == "imagej":
        return _imagej(tif.imagej_metadata or {}, page, sizes)
    if kind == "lsm":
        return _lsm(tif.lsm_metadata or {}, sizes)
    if kind == "stk":
        return _stk(tif.stk_metadata or {}, sizes)
    if kind == "svs" and first:
        return _svs(page)
    if kind == "shaped" and page.shaped_description and "unit" in (facts := _shaped(tif)):
        return _imagej(facts, page, sizes)
    spacing, units = resolution_of(page)
    return TiffFacts(spacing, units)


def ome_facts(ome: OmeImage) -> TiffFacts:
    """Return what OME-XML says of an image."""
    times, step, origin = ome.time()
    spacing = {a: v for a, v in ome.spacing.items() if a != "t"} | ({"t": step} if step else {})
    start = {"t": origin} if origin else {}
    return TiffFacts(spacing, ome.units, start, ome.channel_names, ome.channel_attrs(), times)


def samples_named(count: int, page: tifffile.TiffPage) -> Sequence[str] | None:
    """Names of interleaved or planar samples: R, G, B(, A) or Y, Cb, Cr for colour, else unknown.

    YCbCr is mostly converted, by JPEG's decoders or `becomes_rgb`; else these are the samples that are stored.
    """
    photometric = int(page.photometric)
    stored = page.planarconfig == 2 if page.compression in _JPEG else not becomes_rgb(page)
    if count == 3 and photometric == 6 and stored:
        return YCBCR
    return RGB[:count] if count in (3, 4) and photometric in (2, 6) else None


def palette_of(page: tifffile.TiffPage, channels: int) -> np.ndarray | None:
    """Return the colours that the values of an image stand for; None if they stand for none, or for too many.

    ImageJ stores the look-up table of the first channel in its place: no palette of all channels.
    """
    if int(page.photometric) != 3 or page.bitspersample > 8 or channels > 1 or 320 not in page.tags:
        return None
    table = np.asarray(page.tags.valueof(320))
    if table.size % 3 or table.size > 3 * 256:
        return None
    return table.astype(np.uint16).reshape(3, -1).T


def header_of(tif: tifffile.TiffFile, kind: str, page: tifffile.TiffPage, ome: str | None) -> dict[str, Any]:
    """Return the format's own header: its name, its metadata, and a few tags of the first page."""
    header: dict[str, Any] = {"format": "ome" if ome else kind}
    if ome:
        header["ome"] = ome
    elif kind in ("imagej", "lsm", "stk", "fluoview", "scanimage"):
        found = getattr(tif, f"{kind}_metadata", None) or {}
        header[kind] = {k: v for k, v in found.items() if k not in ("LUTs", "Overlays", "ROI", "InputLut", "OutputLut")}
    elif kind == "shaped":
        header["shaped"] = _shaped(tif)
    tags = {name: page.tags.valueof(code) for code, name in _TAGS.items() if code in page.tags}
    if header["format"] in ("ome", "imagej", "stk"):  # there it is the metadata above
        tags.pop("ImageDescription", None)
    for code, name in ((259, "compression"), (262, "photometric"), (284, "planarconfig")):
        value = getattr(page, name, None)
        if code in page.tags and value is not None:
            tags[name.capitalize()] = getattr(value, "name", value)
    return {**header, "byteorder": tif.byteorder, "bigtiff": tif.is_bigtiff, "tags": tags}


def _shaped(tif: tifffile.TiffFile) -> dict[str, Any]:
    found = tif.shaped_metadata
    return dict(found[0]) if found else {}


def _ratio(page: tifffile.TiffPage, code: int) -> float | None:
    """Length of a pixel, in the unit of the resolution tag."""
    value = page.tags.valueof(code)
    if not (isinstance(value, tuple) and len(value) == 2):
        return None
    pixels = known_spacing(value[0] / value[1]) if value[1] else None
    return known_spacing(1 / pixels) if pixels else None


def resolution_of(page: tifffile.TiffPage) -> tuple[dict[str, float], dict[str, str]]:
    """Return spacing and units from the resolution tags of a page, if they describe a specimen."""
    stated = page.tags.valueof(296, 2)
    unit = _RESOLUTION_UNITS.get(int(stated or 2)) if isinstance(stated, int) else None
    sizes = {axis: _ratio(page, code) for axis, code in (("x", 282), ("y", 283))}
    if unit is None or None in sizes.values():
        return {}, {}
    spacing = {axis: convert(value, unit, "µm") for axis, value in sizes.items() if value is not None}
    if max(spacing.values()) >= _PAPER:
        return {}, {}
    return spacing, dict.fromkeys(spacing, "µm")


# dialects


def _imagej(facts: Mapping[str, Any], page: tifffile.TiffPage, sizes: Mapping[str, int]) -> TiffFacts:
    """ImageJ's description, see ij.io.FileInfo and ij.io.TiffEncoder of ImageJ."""
    unit = canonical(facts.get("unit"))
    spacing: dict[str, float] = {}
    units: dict[str, str] = {}
    if unit is None:
        spacing, units = resolution_of(page)
    else:
        own = {"x": unit, "y": unit_or(facts.get("yunit"), unit), "z": unit_or(facts.get("zunit"), unit)}
        tagged = _RESOLUTION_UNITS.get(int(page.tags.valueof(296, 1) or 1))
        known = parse_unit(unit)
        for axis, code in (("x", 282), ("y", 283)):
            if value := _ratio(page, code):
                # ImageJ itself tags inches and centimetres only where they are its unit; others count in the tag's
                foreign = tagged and known and known.dimension == "length" and known.symbol != tagged
                if foreign and tagged:
                    spacing[axis], units[axis] = convert(value, tagged, unit), unit
                elif (symbol := own[axis]) is not None:
                    spacing[axis], units[axis] = value, symbol
        if (z := known_spacing(facts.get("spacing"))) and (symbol := own["z"]) is not None:
            spacing["z"], units["z"] = z, symbol
    origin = {}
    for axis in "xyz":
        if axis in spacing and (place := finite(facts.get(f"{axis}origin"))):
            origin[axis] = -place * spacing[axis]
    step = known_spacing(facts.get("finterval"))
    if step is None and (rate := known_spacing(facts.get("fps"))):
        step = 1 / rate
    if step and (symbol := unit_or(facts.get("tunit"), "s")) is not None:
        spacing["t"], units["t"] = step, symbol
    return TiffFacts(spacing, units, origin, _labels(facts.get("Labels"), sizes))


def _labels(labels: Any, sizes: Mapping[str, int]) -> list[str] | None:
    """Names of channels, if the labels of slices depend on the channel alone (the fastest axis of the stack)."""
    n = sizes.get("c", 1)
    if not isinstance(labels, (list, tuple)) or n < 2 or len(labels) % n:
        return None
    names = [_LABEL_PLACE.sub("", str(text)).strip() for text in labels]
    same = all(name == names[k % n] for k, name in enumerate(names))
    return names[:n] if same and all(names[:n]) and len(set(names[:n])) == n else None


def _lsm(facts: Mapping[str, Any], sizes: Mapping[str, int]) -> TiffFacts:
    """Zeiss LSM: lengths in metres, times in seconds."""
    spacing = {a: v * 1e6 for a in "xyz" if (v := known_spacing(facts.get(f"VoxelSize{a.upper()}")))}
    if spacing.get("z", 1) < 1e-9:  # LSM writes this if there is no stack
        del spacing["z"]
    units = dict.fromkeys(spacing, "µm")
    times = stamps_of(facts.get("TimeStamps"), sizes.get("t", 1))
    step = known_spacing(facts.get("TimeIntervall"))
    if isinstance(times, float):
        spacing["t"] = times
    elif times is None and step:
        spacing["t"] = step
    units["t"] = "s"
    for name in ("ChannelColors", "TimeStamps"):
        if facts.get(f"Offset{name}", 0) >= 8 and name not in facts:
            warn(f"the LSM's {name} cannot be read: the file is damaged there")
    colours = facts.get("ChannelColors") or {}
    names = [str(n) for n in colours.get("ColorNames", ())] if isinstance(colours, Mapping) else []
    names = names if len(names) == sizes.get("c", 1) and all(names) else []
    return TiffFacts(spacing, units, {}, names or None, {}, times if isinstance(times, Coordinate) else None)


def _stk(facts: Mapping[str, Any], sizes: Mapping[str, int]) -> TiffFacts:
    """MetaMorph stack."""
    spacing: dict[str, float] = {}
    units: dict[str, str] = {}
    unit = canonical(facts.get("CalibrationUnits"))
    if unit and facts.get("SpatialCalibration", 1):
        for axis in "xy":
            if value := known_spacing(facts.get(f"{axis.upper()}Calibration")):
                spacing[axis], units[axis] = value, unit
    distances = np.atleast_1d(np.asarray(facts.get("ZDistance", ()), dtype=float))
    if len(distances) == sizes.get("z") and np.allclose(distances, distances[0]) and known_spacing(distances[0]):
        spacing["z"], units["z"] = float(distances[0]), unit or "µm"
    times = None
    if (created := facts.get("DatetimeCreated")) is not None:
        stamps = np.atleast_1d(np.asarray(created, dtype="datetime64[ms]").astype("i8"))
        stamps = (stamps - stamps[:1]) / 1000.0
        times = stamps_of(stamps, sizes.get("t", 1))
        if isinstance(times, float):
            spacing["t"] = times
    units["t"] = "s"
    return TiffFacts(spacing, units, {}, None, {}, times if isinstance(times, Coordinate) else None)


def stamps_of(stamps: Any, n: int) -> Coordinate | float | None:
    """Time stamps in seconds: their step where it is even, else a coordinate that starts at 0."""
    values = np.atleast_1d(np.asarray(stamps if stamps is not None else (), dtype=float))
    if n < 2 or values.shape != (n,) or not (np.diff(values) > 0).all():
        return None
    values = values - values[0]
    step = float(values[-1]) / (n - 1)
    if np.allclose(np.diff(values), step, rtol=1e-6):
        return step
    return Coordinate(("t",), values, {"units": "s"})


def _svs(page: tifffile.TiffPage) -> TiffFacts:
    """Aperio: micrometres per pixel stand in the description."""
    found = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description or "")
    size = known_spacing(found[1]) if found else None
    if size is None:
        return TiffFacts(*resolution_of(page))
    return TiffFacts({"x": size, "y": size}, {"x": "µm", "y": "µm"})
