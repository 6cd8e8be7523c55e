"""Cameras and detectors: Dectris Pilatus and Andor; and NIH Image, whose header describes their use."""

from __future__ import annotations

from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.facts import TiffFacts
from intake_img.model.units import known_spacing

__all__ = ["andor", "nih", "pilatus"]

# ij.io.TiffDecoder.decodeNIHImageHeader of ImageJ; files before version 1.54 count from 0
_NIH_UNITS = {5: "nm", 6: "µm", 7: "mm", 8: "cm", 9: "m", 10: "km", 11: "in", 12: "ft"}
_NIH_OLD, _NIH_UNSCALED = 153, 106
_NIH_MOVIE = 2


def pilatus(view: View) -> TiffFacts:
    """Pixels of the detector, in metres."""
    sizes = (view.tif.pilatus_metadata or {}).get("Pixel_size")
    if not isinstance(sizes, tuple) or len(sizes) != 2:
        return TiffFacts()
    known = {axis: known_spacing(size) for axis, size in zip("xy", sizes, strict=True)}
    spacing = {axis: 1e6 * size for axis, size in known.items() if size is not None}
    return TiffFacts(spacing, dict.fromkeys(spacing, "µm"))


def andor(view: View) -> TiffFacts:
    """The cycle of a kinetic series, in seconds: pages follow each other in time."""
    cycle = known_spacing((view.tif.andor_metadata or {}).get("KineticCycleTime"))
    if view.stack < 2 or cycle is None:
        return TiffFacts()
    return TiffFacts({"t": cycle}, {"t": "s"}, lead=(("T", view.stack),))


def nih(view: View) -> TiffFacts:
    """NIH Image: pixels for each unit, the unit, and the seconds between the frames of a movie."""
    found = view.tif.nih_metadata or {}
    version, kind = int(found.get("Version", 0)), int(found.get("UnitsID", 0))
    unit = _NIH_UNITS.get(kind + 5 * (version <= _NIH_OLD))
    scale = known_spacing(found.get("XScale")) if version > _NIH_UNSCALED else None
    spacing, units = {}, {}
    if unit is not None and scale is not None:
        spacing, units = {"x": 1 / scale, "y": 1 / scale}, {"x": unit, "y": unit}
    if view.stack < 2 or int(found.get("StackType", 0)) != _NIH_MOVIE:
        return TiffFacts(spacing, units)
    if interval := known_spacing(found.get("FrameInterval")):
        spacing["t"], units["t"] = interval, "s"
    return TiffFacts(spacing, units, lead=(("T", view.stack),))
