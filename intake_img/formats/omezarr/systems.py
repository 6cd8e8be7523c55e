"""Transformations of a multiscale image to coordinate systems, in the terms of SpatialData.

Design document of SpatialData, https://spatialdata.scverse.org/en/stable/design_doc.html. An element lists one
transformation for each coordinate system; they are alternatives, where those of NGFF follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["split_transformations"]


def split_transformations(common: Any) -> tuple[list[Any], dict[str, Any]]:
    """Split the transformations of a multiscale image.

    Parameters
    ----------
    common : object
        Its ``coordinateTransformations``.

    Returns
    -------
    steps : list
        Scales and translations, in order: of SpatialData those to the coordinate system ``global``, or the first.
    others : dict
        By coordinate system, a transformation that is not a scale or translation, or that leads to another system:
        ``type``, its numbers, and ``axes``, their order.
    """
    entries = [e for e in common if isinstance(e, Mapping)] if isinstance(common, list) else []
    systems = [_end(e, "output").get("name") for e in entries]
    named = [s for s in systems if isinstance(s, str)]
    chosen = "global" if "global" in named else next(iter(named), None)
    used: list[Any] = []
    others = {}
    for entry, system in zip(entries, systems, strict=True):
        steps = _steps(entry) if system == chosen else None
        if steps is None:
            others[str(system or entry.get("type"))] = _stated(entry)
        else:
            used += steps
    return used, others


def _steps(entry: Mapping[str, Any]) -> list[Any] | None:
    """Return the scales and translations that a transformation consists of; None if it is more than that."""
    kind = entry.get("type")
    if kind == "identity":
        return []
    if kind in ("scale", "translation"):
        return [entry]
    inner = entry.get("transformations")
    if kind != "sequence" or not isinstance(inner, list):
        return None
    found = [_steps(e) if isinstance(e, Mapping) else None for e in inner]
    return None if any(steps is None for steps in found) else [s for steps in found for s in steps or ()]


def _stated(entry: Mapping[str, Any]) -> dict[str, Any]:
    axes = _end(entry, "input").get("axes")
    names = [a.get("name") for a in axes if isinstance(a, Mapping)] if isinstance(axes, list) else []
    stated = {k: v for k, v in entry.items() if k not in ("input", "output")}
    inner = stated.get("transformations")
    if isinstance(inner, Sequence):
        stated["transformations"] = [_stated(e) for e in inner if isinstance(e, Mapping)]
    return {**stated, **({"axes": names} if names else {})}


def _end(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = entry.get(key)
    return found if isinstance(found, Mapping) else {}
