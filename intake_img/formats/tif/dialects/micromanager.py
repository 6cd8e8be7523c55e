"""Micro-Manager: stacks with a summary before the pixels and JSON on each page, and NDTiff."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.directories import page_texts
from intake_img.formats.tif.facts import TiffFacts, stamps_of
from intake_img.model.image import Coordinate
from intake_img.model.units import known_spacing
from intake_img.model.untrusted import json_object

if TYPE_CHECKING:
    import tifffile

__all__ = ["mmstack", "ndtiff", "summary_of"]

_TAG = 51123


def summary_of(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    """Return what the run was set up to record."""
    found = (tif.micromanager_metadata or {}).get("Summary")
    return found if isinstance(found, Mapping) else {}


def _spacing(facts: Mapping[str, Any], **keys: str) -> dict[str, float]:
    sizes = {axis: known_spacing(facts.get(key)) for axis, key in keys.items()}
    return {axis: size for axis, size in sizes.items() if size is not None}


def ndtiff(view: View) -> TiffFacts:
    """NDTiff, with the index of its folder."""
    spacing = _spacing(summary_of(view.tif), x="PixelSize_um", y="PixelSize_um", z="z-step_um")
    return TiffFacts(spacing, dict.fromkeys(spacing, "µm"), {}, _index_labels(view.tif) or None)


def _index_labels(tif: tifffile.TiffFile) -> list[str]:
    """Names of channels, as they first appear in the index of the data set, which is the order of the axis."""
    import tifffile

    index = os.path.join(tif.filehandle.dirname, "NDTiff.index")
    if not tif.filehandle.is_file or not os.path.exists(index):
        return []
    names = dict.fromkeys(row[0].get("channel") for row in tifffile.read_ndtiff_index(index))
    return [str(name) for name in names] if all(isinstance(name, str) for name in names) else []


def mmstack(view: View) -> TiffFacts:
    """A stack without OME-XML: names and spacing of the summary, times and positions of the planes."""
    summary, first = summary_of(view.tif), _plane(view.tif, view.page.offset)
    spacing = _spacing(first, x="PixelSizeUm", y="PixelSizeUm") | _spacing(
        summary, x="PixelSize_um", y="PixelSize_um", z="z-step_um"
    )
    units = dict.fromkeys(spacing, "µm")
    times = stamps_of(_along(view, "T", "ElapsedTime-ms", 1e-3), view.sizes.get("t", 1))
    step = times if isinstance(times, float) else known_spacing(summary.get("Interval_ms"))
    units["t"] = "s"
    if isinstance(times, float):
        spacing["t"] = times
    elif times is None and step is not None:
        spacing["t"] = step / 1000
    names = summary.get("ChNames")
    known = isinstance(names, list) and len(names) == view.sizes.get("c", 1) and all(map(str, names))
    return TiffFacts(
        spacing,
        units,
        {},
        [str(n) for n in names] if known and names else None,
        _colours(summary, view),
        times if isinstance(times, Coordinate) else None,
        _lead(view),
        _positions(view),
    )


def _lead(view: View) -> list[tuple[str, int]] | None:
    """Positions of the stage are on ``i``."""
    lead = view.stored.axes[: -len(view.page.axes)]
    return [(a.replace("R", "I"), view.sizes[a.lower()]) for a in lead] if "R" in lead else None


def _colours(summary: Mapping[str, Any], view: View) -> dict[str, Any]:
    """Colours of the channels: integers ARGB."""
    values = summary.get("ChColors")
    if not isinstance(values, list) or len(values) != view.sizes.get("c", 1):
        return {}
    return {"color": [f"#{v & 0xFFFFFF:06X}" for v in values]} if all(isinstance(v, int) for v in values) else {}


def _positions(view: View) -> dict[str, Coordinate]:
    """Names of the positions of the stage, where each has its own."""
    names = [str(name) for name in _values(view, "R", "PositionName")]
    count = view.sizes.get("r", 1)
    if count < 2 or len(set(names)) != count or not all(names):
        return {}
    return {"i": Coordinate(("i",), np.asarray(names))}


def _along(view: View, axis: str, key: str, factor: float) -> list[float]:
    """Return what `_values` does as numbers; empty unless all are known."""
    values = _values(view, axis, key)
    return [factor * v for v in values] if all(isinstance(v, (int, float)) for v in values) else []


def _values(view: View, axis: str, key: str) -> Sequence[Any]:
    """Return a fact of the planes along an axis, those of the first ones along the others."""
    lead = view.stored.axes[: -len(view.page.axes)]
    if axis not in lead or view.sizes[axis.lower()] < 2:
        return []
    order = np.arange(len(view.stored.pages)).reshape(view.stored.shape[: len(lead)])
    chosen = order[tuple(slice(None) if a == axis else 0 for a in lead)]
    pages = [view.stored.pages[k] for k in chosen]
    if any(p is None or p.parent is not view.tif or not p.offset for p in pages):
        return []
    texts = page_texts(view.tif, [p.offset for p in pages], _TAG) or []
    return [json_object(text).get(key) for text in texts]


def _plane(tif: tifffile.TiffFile, place: int) -> Mapping[str, Any]:
    texts = page_texts(tif, [place], _TAG)
    return json_object(texts[0]) if texts else {}
