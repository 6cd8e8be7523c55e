"""SpatialData: the image elements of a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from intake_img.formats.omezarr.handle import StoreHandle
from intake_img.formats.omezarr.write import join

__all__ = ["elements", "is_spatial"]

_KINDS = ("images", "labels")
_CONSOLIDATED = ("zarr.json", ".zmetadata", "zmetadata")


def is_spatial(attributes: Mapping[str, Any]) -> bool:
    """Return whether these are the attributes of the root of a SpatialData store."""
    return "spatialdata_attrs" in attributes


def elements(handle: StoreHandle) -> list[str]:
    """Return the paths of the images and labels; where nothing can be listed, those in the consolidated metadata."""
    found = [join(kind, name) for kind in _KINDS if handle.holds(kind) for name in handle.members(kind)]
    if not found and not handle.file.local:
        found = sorted({p for p in _consolidated(handle) if p.count("/") == 1 and p.startswith(_KINDS)})
    return found


def _consolidated(handle: StoreHandle) -> list[str]:
    """Return the paths of the groups that the consolidated metadata list."""
    for name in _CONSOLIDATED:
        try:
            about = json.loads(handle.text(name) or b"{}")
        except ValueError:
            continue
        listed = about.get("metadata") or (about.get("consolidated_metadata") or {}).get("metadata")
        if isinstance(listed, dict):
            groups = [k for k, v in listed.items() if isinstance(v, dict) and v.get("node_type") == "group"]
            return groups or [k.removesuffix("/.zgroup") for k in listed if k.endswith("/.zgroup")]
    return []
