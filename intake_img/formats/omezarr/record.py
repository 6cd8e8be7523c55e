"""The record of metadata that NGFF does not define, in a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.write import OURS
from intake_img.model.image import Image

__all__ = ["level_record", "record_of"]


def record_of(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Return where the arrays of a group written by us are, and its record; None if its metadata were edited since."""
    ours = attributes.get(OURS)
    if not isinstance(ours, Mapping) or ours.get("of") != ngff.digest(attributes):
        return None
    record, arrays = ours.get("record"), ours.get("arrays")
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except ValueError:
            return None
    return (arrays, record) if isinstance(arrays, Mapping) and isinstance(record, Mapping) else None


def level_record(record: Mapping[str, Any], image: Image) -> dict[str, Any]:
    """Return the record of a further level: with the shapes and positions of the level, otherwise unchanged."""
    full = {a: n for f in record["variables"].values() for a, n in zip(f["axes"], f["shape"], strict=True)}
    sizes = {**{a: 1 for a, n in full.items() if n == 1}, **image.sizes}
    variables = {
        name: {**facts, "shape": [sizes[a] for a in facts["axes"]]}
        for name, facts in record["variables"].items()
        if name in image.variables
    }
    coords = {}
    for name, c in record["coords"].items():
        if all(sizes.get(a) == full.get(a) for a in c["axes"]):
            coords[name] = c
        elif name in image.spacing and c["axes"] == [name]:
            spacing, start = float(image.spacing[name]), float(image.origin.get(name, 0.0))
            attrs = {**c["attrs"], **({"spacing": spacing} if "spacing" in c["attrs"] else {})}
            coords[name] = {
                "axes": [name],
                "dtype": "<f8",
                "attrs": attrs,
                "start": start,
                "step": spacing,
                "size": sizes[name],
            }
    return {**record, "variables": variables, "coords": coords}
