"""Rows of a table of images as items of STAC, the SpatioTemporal Asset Catalog specification, by pystac.

Microscope images have no position on Earth, so items have no geometry. Their axes are dimensions of the datacube
extension [1]_ of a custom type, with units, since its spatial dimensions are for maps.

References
----------
.. [1] https://github.com/stac-extensions/datacube, version 2.2.0
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

from intake_img.errors import CatalogError
from intake_img.model.packages import imported

__all__ = ["items_of"]

_DATACUBE = "https://stac-extensions.github.io/datacube/v2.2.0/schema.json"
_TYPES = {"t": "time", "c": "bands", "z": "length", "y": "length", "x": "length"}
_MEDIA = {
    (".tif", ".tiff"): "image/tiff",
    (".zarr",): "application/vnd+zarr",
    (".png",): "image/png",
    (".jpg", ".jpeg"): "image/jpeg",
    (".h5", ".hdf5"): "application/x-hdf5",
}
_APART = ("name", "uri", "description", "modified", "text", "shape", "units", "channels")


def items_of(rows: Iterable[tuple[Mapping[str, Any], str]], datetime: dt.datetime | None) -> Any:
    """Return a `pystac.ItemCollection`.

    Parameters
    ----------
    rows : iterable of (mapping, str)
        Rows of a table, each with the absolute path or URL of its image.
    datetime : datetime.datetime, optional
        The time of images whose rows have no modification time.
    """
    pystac = imported("pystac", "stac", "items of STAC")
    return pystac.ItemCollection([_item(pystac, row, href, datetime) for row, href in rows])


def _item(pystac: Any, row: Mapping[str, Any], href: str, datetime: dt.datetime | None) -> Any:
    taken = dt.datetime.fromisoformat(row["modified"]) if row.get("modified") else datetime
    if taken is None:
        raise CatalogError(
            f"{row['name']!r}: STAC wants a time for each item, and the row has no 'modified': pass datetime="
        )
    facts = {k: v for k, v in row.items() if k not in _APART and not k.startswith("spacing_") and v is not None}
    properties = {f"intake_img:{k}": v for k, v in facts.items()}
    if row.get("description"):
        properties["description"] = row["description"]
    item = pystac.Item(str(row["name"]), None, None, taken, properties, stac_extensions=[_DATACUBE])
    item.properties["cube:dimensions"] = _dimensions(row)
    item.add_asset("image", pystac.Asset(href, media_type=_media_type(href), roles=["data"]))
    return item


def _dimensions(row: Mapping[str, Any]) -> dict[str, Any]:
    shape, channels = json.loads(row.get("shape") or "[]"), json.loads(row.get("channels") or "[]")
    found = {}
    for axis, n in zip(row.get("axes") or "", shape, strict=False):
        step = row.get(f"spacing_{axis}")
        facts: dict[str, Any] = {"type": _TYPES.get(axis, "other"), "extent": [0, (n - 1) * (step or 1)]}
        if step is not None:
            facts |= {"step": step, "unit": "s" if axis == "t" else "µm"}
        if axis == "c" and len(channels) == n:
            facts = {"type": "bands", "values": channels}
        found[axis] = facts
    return found


def _media_type(href: str) -> str | None:
    name = href.rstrip("/").lower()
    return next((kind for ends, kind in _MEDIA.items() if name.endswith(ends)), None)
