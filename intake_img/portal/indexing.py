"""Index data of an entry: facts of the opened image, in the classes of the facets."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.accessor.colors import is_rgb
from intake_img.model.axes import spell
from intake_img.model.units import parse_unit
from intake_img.portal.library import LibraryItem, RowEntry
from intake_img.portal.open_entries import Opened, OpenEntries
from intake_img.portal.replies import sentence

__all__ = ["facts_of_row", "index_facts"]

_SIZES = ((10**6, "below 1 MB"), (10**8, "1 to 100 MB"), (10**9, "100 MB to 1 GB"), (10**10, "1 to 10 GB"))
_PIXELS = (
    (0.1, "below 0.1 µm"),
    (0.2, "0.1 to 0.2 µm"),
    (0.5, "0.2 to 0.5 µm"),
    (1.0, "0.5 to 1 µm"),
    (10.0, "1 to 10 µm"),
)
_HEADER = 50_000
_DATE = re.compile(r"(?:acquisition|creation)_?date(?:time|andtime)?\W{1,6}(\d{4}-\d\d-\d\d)", re.I)


def index_facts(open_entries: OpenEntries, item: LibraryItem) -> dict[str, Any]:
    """Return the index data of an entry; for an entry that does not open, its ``error``."""
    try:
        return _facts(open_entries.get(item))
    except Exception as exc:  # a failure of one file must not stop the list
        return {"error": sentence(exc)}


def _facts(opened: Opened) -> dict[str, Any]:
    ds = opened.dataset
    first = next(iter(ds.data_vars.values()))
    total = sum(v.nbytes for v in ds.data_vars.values())
    pixel = _micrometres(opened.facts["axes"].get("x", {}))
    header = json.dumps(opened.header, ensure_ascii=False, default=str)[:_HEADER]
    found = _DATE.search(header)
    names = opened.facts["axes"].get("c", {}).get("names", [])
    facts: dict[str, Any] = {
        "format": opened.facts.get("driver", opened.item.driver),
        "axes": spell([str(d) for d in first.dims]),
        "shape": " × ".join(map(str, first.shape)),
        "dtype": str(first.dtype),
        "bytes": total,
        "size": _class(total, _SIZES, "above 10 GB"),
        "channels": [] if is_rgb(names) else names,
        "header": header,
    }
    if pixel is not None:
        facts |= {"pixel_um": pixel, "pixel": _class(pixel, _PIXELS, "above 10 µm")}
    if opened.plate is not None:
        facts["plate"] = str(ds.attrs.get("plate") or opened.plate.table.facts.name or opened.name)
    if found:
        facts |= {"date": found[1], "year": found[1][:4]}
    return facts


def facts_of_row(item: LibraryItem) -> dict[str, Any]:
    """Return the index data from the row of a table; empty for other entries, and for rows without a shape."""
    row: Mapping[str, Any] = item.entry.row if isinstance(item.entry, RowEntry) else {}
    facts = _facts_of_columns(*(str(row.get(c) or "") for c in ("axes", "shape", "dtype", "channels")))
    if facts and isinstance(pixel := row.get("spacing_x"), float):
        return {**facts, "pixel_um": pixel, "pixel": _class(pixel, _PIXELS, "above 10 µm")}
    return facts


@functools.lru_cache(1024)
def _facts_of_columns(axes: str, shape: str, dtype: str, channels: str) -> dict[str, Any]:
    """Return the facts from some cells, read-only; empty if the cells have no shape."""
    try:
        sizes, names = (json.loads(text or "[]") for text in (shape, channels))
        kind = np.dtype(dtype)
        total = int(math.prod(sizes)) * kind.itemsize
    except (TypeError, ValueError):
        return {}
    if not sizes or not axes or not dtype:
        return {}
    return {
        "axes": axes,
        "shape": " × ".join(map(str, sizes)),
        "dtype": str(kind),
        "bytes": total,
        "size": _class(total, _SIZES, "above 10 GB"),
        "channels": [] if is_rgb(names) else names,
    }


def _micrometres(axis: dict[str, Any]) -> float | None:
    unit = parse_unit(axis.get("unit"))
    if unit is None or unit.dimension != "length" or "spacing" not in axis:
        return None
    micrometre = parse_unit("µm")
    assert micrometre is not None
    return float(axis["spacing"]) * unit.factor / micrometre.factor


def _class(value: float, classes: Any, last: str) -> str:
    return next((name for limit, name in classes if value < limit), last)
