"""Metadata of the axes of one scene of a CZI file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.errors import SceneError
from intake_img.formats.czi.handle import CziHandle, CziLayout
from intake_img.formats.czi.index import (
    COMPRESSIONS,
    Mosaic,
    distinct,
)
from intake_img.formats.czi.metadata import without_record
from intake_img.model.axes import RGB
from intake_img.model.image import Coordinate
from intake_img.storage.files import File

__all__ = ["axis_facts", "check_canvas", "header", "stacked_names"]


def header(handle: CziHandle) -> dict[str, Any]:
    codes = distinct(handle.index.compression)
    return {
        "version": list(handle.version),
        "subblocks": len(handle.index),
        "levels": handle.index.factors,
        "compression": [COMPRESSIONS.get(k, str(k)) for k in codes],
        "attachments": list(handle.attachments),
        "xml": without_record(handle.xml),
    }


def axis_facts(handle: CziHandle, layout: CziLayout, scenes: int) -> dict[str, Any]:
    mosaic, facts = layout.mosaic, handle.facts
    starts = dict(zip(mosaic.dims, mosaic.starts, strict=True))
    sizes = dict(zip(mosaic.dims, mosaic.shape, strict=True))
    spacing = dict(facts.spacing)
    units = dict.fromkeys(spacing, "µm")
    origin, coords = {}, {}
    if scenes > 1:
        origin = {a: p * spacing[a] for a, p in (("x", mosaic.x), ("y", mosaic.y)) if a in spacing}
    for a in ("x", "y"):
        if a in spacing:
            spacing[a] *= mosaic.factor
    if sizes.get("T", 1) > 1:
        times = _times(handle, starts["T"], sizes["T"])
        if times is not None:
            coords["t"] = Coordinate(("t",), times, {"units": "s"})
        elif facts.interval is not None:
            spacing["t"] = facts.interval
        units["t"] = "s"
    if layout.sample_axis:
        coords[layout.sample_axis[0]] = Coordinate(layout.sample_axis, np.asarray(RGB[: layout.samples]))
    if "c" in layout.plane_axes:
        names = _part(facts.channels, starts["C"], sizes["C"])
        colors = _part(facts.colors, starts["C"], sizes["C"])
        if names and all(names):
            coords["c"] = Coordinate(("c",), np.asarray(names), {"color": colors} if all(colors) else {})
    return {"spacing": spacing, "units": units, "origin": origin, "coords": coords}


def _times(handle: CziHandle, start: int, count: int) -> np.ndarray | None:
    stamps = handle.time_stamps()
    for values in (stamps, handle.facts.times):
        part = _part(list(values), start, count) if values is not None else []
        if part and (np.diff(part) > 0).all():
            return np.asarray(part, float)
    return None


def _part(values: Sequence[Any], start: int, count: int) -> list[Any]:
    """Return the known facts of indices from `start` on: some files describe the full acquisition, some the rest."""
    if start >= 0 and len(values) >= start + count:
        return list(values[start : start + count])
    return list(values) if len(values) == count else []


def check_canvas(mosaic: Mosaic, file: File, names: Sequence[str]) -> None:
    area = mosaic.height * mosaic.width
    if area > 2**24 and area * mosaic.planes > 64 * mosaic.covered:
        shown = ", ".join(f"{n}: {name!r}" for n, name in enumerate(names[:20])) + (", …" if len(names) > 20 else "")
        raise SceneError(
            f"{file}: scene='canvas' would be {mosaic.height} x {mosaic.width} pixels a plane, of which "
            f"{100 * mosaic.covered / area / mosaic.planes:.2g} % contain pixels; load the scenes one by one ({shown})"
        )


def stacked_names(handle: CziHandle) -> list[str] | None:
    """Names of scenes that were written from one image with the axis i; None for all other files."""
    record = handle.facts.record
    try:
        (facts,) = record["variables"].values()
        n = facts["shape"][facts["axes"].index("i")]
        labels = record["coords"].get("i", {}).get("values", range(n))
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):
        return None
    scenes = handle.index.scenes
    return [str(v) for v in labels] if len(scenes) == n == len(labels) and n > 1 else None
