"""The metadata of an image in a catalog: plain data from its header, and a description made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intake_img.formats.source import ImageSource
from intake_img.model.axes import spell
from intake_img.model.privacy import public

__all__ = ["facts_of", "sentence"]

_MAX_NAMES = 100


def facts_of(source: ImageSource) -> dict[str, Any]:
    """Return the metadata of an image for a catalog: plain data from its header, without private data."""
    from intake_img.model.record import plain

    ds = source.dataset(chunks=None)
    first = next(iter(ds.data_vars.values()))
    facts: dict[str, Any] = {
        "axes": spell([str(d) for d in first.dims]),
        "shape": list(first.shape),
        "dtype": str(first.dtype),
        "spacing": {a: ds[a].attrs["spacing"] for a in first.dims if a in ds.coords and "spacing" in ds[a].attrs},
    }
    facts["units"] = {a: str(ds[a].attrs["units"]) for a in facts["spacing"] if ds[a].attrs.get("units")}
    if "c" in first.dims and "c" in ds.coords and ds["c"].dims == ("c",):
        facts["channels"] = [str(v) for v in ds["c"].values[:_MAX_NAMES]]
    if len(ds.data_vars) > 1:
        facts["variables"] = [str(n) for n in ds.data_vars][:_MAX_NAMES]
    if len(ds.attrs.get("scenes", ())) > 1:
        facts["scenes"] = [str(n) for n in ds.attrs["scenes"]][:_MAX_NAMES]
    facts = {k: v for k, v in facts.items() if v != {}}
    return public(plain(facts, strict=True))


def sentence(facts: Mapping[str, Any]) -> str:
    """Return a one-line description of an image.

    Examples
    --------
    >>> sentence({"axes": "zyx", "shape": [9, 64, 64], "dtype": "uint8", "spacing": {"z": 2.0}, "units": {"z": "µm"}})
    'z 9 (every 2 µm), y 64, x 64, uint8'
    """
    axes = facts["axes"] if isinstance(facts["axes"], list) else list(facts["axes"])
    words = []
    for axis, size in zip(axes, facts["shape"], strict=True):
        note = ""
        names = facts.get("channels") if axis == "c" else None
        if names:
            note = f" ({', '.join(names[:6])}{', …' if len(names) > 6 else ''})"
        elif axis in facts.get("spacing", {}):
            unit = facts.get("units", {}).get(axis, "")
            note = f" (every {facts['spacing'][axis]:.4g}{' ' + unit if unit else ''})"
        words.append(f"{axis} {size}{note}")
    text = ", ".join([*words, str(facts["dtype"])])
    if len(facts.get("variables", ())) > 1:
        text += f"; variables {', '.join(facts['variables'][:6])}"
    if len(facts.get("scenes", ())) > 1:
        text = f"{len(facts['scenes'])} scenes, the first: {text}"
    return f"{facts['files']} files: {text}" if facts.get("files", 1) > 1 else text
