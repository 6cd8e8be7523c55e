"""EMD files of Velox (Thermo Fisher): images by detector, each with the metadata of its frames as JSON text.

There is no public specification; the meaning of the fields was inferred from files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np

from intake_img.formats.h5.arrays import read_stored
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.tree import array_at, group_at, hard_links, names_in, text_of
from intake_img.model.untrusted import finite, json_object

__all__ = ["facts_of", "images_of"]

_METADATA = 2**22  # bytes of text
_UNITS = {"m": ("nm", 1e9), "1/m": ("1/nm", 1e-9)}  # common units for stored ones


def images_of(f: Any) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return paths and metadata of images by title: the label of their display, or else the name of the detector."""
    group = f.get("Data/Image") if b"Data" in f.id else None
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    if not hasattr(group, "keys"):
        return found
    labels = _labels(f)
    for name in hard_links(group):
        path = f"Data/Image/{name}"
        inner = group_at(group, name)
        if inner is None or _ndim(array_at(inner, "Data")) != 3:
            continue
        metadata = _metadata(inner)
        detector = _part(_part(metadata, "BinaryResult"), "Detector")
        title = labels.get(path) or (detector if isinstance(detector, str) else "") or name
        others = sum(known == title or known.startswith(f"{title} (") for known in found)
        found[f"{title} ({others + 1})" if others else title] = f"{path}/Data", metadata
    return found


def _ndim(stored: Any) -> int:
    return 0 if stored is None else len(stored.shape or ())


def _labels(f: Any) -> dict[str, str]:
    """Label of the display of each image."""
    group = f.get("Presentation/Displays/ImageDisplay") if b"Presentation" in f.id else None
    names = names_in(group) if hasattr(group, "keys") else []
    stored = [array_at(group, name) for name in names]
    shown = [json_object(text_of(read_stored(s)[()])) for s in stored if s is not None and s.shape is not None]
    labels = {str(d.get("dataPath", "")).strip("/"): _part(_part(d, "display"), "label") for d in shown}
    return {path: unquote(label) for path, label in labels.items() if isinstance(label, str)}


def _metadata(group: Any) -> Mapping[str, Any]:
    """The metadata of the first frame of an image; empty if there are none."""
    stored = array_at(group, "Metadata")
    if _ndim(stored) != 2 or 0 in stored.shape or stored.shape[0] > _METADATA or stored.dtype != np.uint8:
        return {}
    return json_object(read_stored(stored, 0).tobytes().split(b"\0", 1)[0].decode("utf-8", "replace"))


def _part(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, Mapping) else None


def facts_of(metadata: Mapping[str, Any]) -> AxisFacts:
    """Return axes, spacing and origin: frames are the last axis."""
    facts = AxisFacts(("y", "x", "t"))
    result = _part(metadata, "BinaryResult")
    for axis, side in (("y", "height"), ("x", "width")):
        unit, factor = _UNITS.get(str(_part(result, f"PixelUnit{axis.upper()}")), ("", 1.0))
        size, start = finite(_part(_part(result, "PixelSize"), side)), finite(_part(_part(result, "Offset"), axis))
        if unit:
            facts.step(axis, _scaled(size, factor), unit, _scaled(start, factor))
    facts.step("t", _frame_time(metadata, str(_part(result, "Detector"))), "s")
    return facts


def _scaled(value: float, factor: float) -> float:
    return float(f"{value * factor:.15g}")


def _frame_time(metadata: Mapping[str, Any], detector: str) -> float:
    """Seconds from frame to frame: of the scan, or the exposure of the camera."""
    if (time := finite(_part(_part(metadata, "Scan"), "FrameTime"))) > 0:
        return time
    detectors = _part(metadata, "Detectors")
    known = detectors.values() if isinstance(detectors, Mapping) else ()
    return next((finite(_part(d, "ExposureTime")) for d in known if _part(d, "DetectorName") == detector), 0.0)
