"""Axes, spacing and levels from the attributes of N5 groups and datasets, in the dialects in use.

- n5-viewer and Neuroglancer: ``axes``, ``resolution``, ``units``, ``pixelResolution``, ``downsamplingFactors``, with x
  first and of full resolution; levels are ``s0``, ``s1``, ...; older groups have all factors in ``scales``.
  https://github.com/saalfeldlab/n5-viewer, https://github.com/google/neuroglancer/blob/master/src/datasource/n5
- COSEM: ``transform`` of a dataset, or ``multiscales`` of its group, with named axes, z first, of the level itself.
- OME-NGFF in N5: ``multiscales`` with ``coordinateTransformations``.
- ImageJ (n5-ij): ``pixelWidth``, ``pixelHeight``, ``pixelDepth``, ``pixelUnit``, ``frameInterval``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intake_img.model.axes import default_axes

__all__ = ["N5Facts", "channel_names", "factors_in", "facts_of", "is_labels", "level_paths"]

_NAMES = {"channel": "c", "channels": "c", "time": "t"}
_IMAGEJ = {"x": "pixelWidth", "y": "pixelHeight", "z": "pixelDepth", "t": "frameInterval"}


@dataclass(frozen=True)
class N5Facts:
    """Axes in C order, and their metadata."""

    axes: tuple[str, ...]
    spacing: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, float] = field(default_factory=dict)


def level_paths(group: Mapping[str, Any]) -> list[str] | None:
    """Return the paths of the levels that the attributes of a group list; None if they list none."""
    listed = [d.get("path") for d in _datasets(group)]
    if listed and all(isinstance(p, str) and p and ".." not in p.split("/") for p in listed):
        return [str(p).strip("/") for p in listed]
    scales = group.get("scales")
    return [f"s{k}" for k in range(len(scales))] if isinstance(scales, list) and scales else None


def facts_of(group: Mapping[str, Any], own: Mapping[str, Any], path: str, ndim: int) -> N5Facts:
    """Return the metadata of a dataset.

    Parameters
    ----------
    group : mapping
        Attributes of the group whose level it is; empty for others.
    own : mapping
        Attributes of the dataset.
    path : str
        Of the dataset in its group.
    ndim : int
    """
    every = {**group, **own}
    return (
        _cosem(_transform(group, own, path), ndim)
        or _ngff(group, path, ndim)
        or _imagej(every, ndim)
        or _n5_viewer(every, factors_in(group, own, path), ndim)
    )


def factors_in(group: Mapping[str, Any], own: Mapping[str, Any], path: str) -> list[float]:
    """Return by how much a level is smaller than full resolution, x first; empty where nothing says."""
    given = own.get("downsamplingFactors")
    listed = group.get("scales") or group.get("downsamplingFactors")
    if given is None and isinstance(listed, list) and path[1:].isdigit() and int(path[1:]) < len(listed):
        given = listed[int(path[1:])]
    return _numbers(given)


def channel_names(attributes: Mapping[str, Any], axes: Sequence[str], sizes: Sequence[int]) -> list[str] | None:
    """Return the names along ``c`` that Neuroglancer's ``coordinateArrays`` give."""
    arrays = attributes.get("coordinateArrays")
    if not isinstance(arrays, dict) or "c" not in axes:
        return None
    named = next((v for k, v in arrays.items() if _letter(k) == "c"), None)
    fits = isinstance(named, list) and len(named) == sizes[axes.index("c")]
    return [str(n) for n in named] if fits and named else None


def is_labels(*attributes: Mapping[str, Any]) -> bool:
    """Return whether Paintera calls what has these attributes labels."""
    return any(isinstance(a.get("painteraData"), dict) and a["painteraData"].get("type") == "label" for a in attributes)


def _datasets(group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    images = group.get("multiscales")
    first = images[0] if isinstance(images, list) and images else None
    found = first.get("datasets") if isinstance(first, dict) else None
    return [d for d in found if isinstance(d, dict)] if isinstance(found, list) else []


def _transform(group: Mapping[str, Any], own: Mapping[str, Any], path: str) -> Any:
    listed = (d.get("transform") for d in _datasets(group) if str(d.get("path")).strip("/") == path)
    return own.get("transform") or next(listed, None)


def _cosem(transform: Any, ndim: int) -> N5Facts | None:
    if not isinstance(transform, dict):
        return None
    return _named(
        transform.get("axes"), transform.get("scale"), transform.get("translate"), transform.get("units"), ndim
    )


def _ngff(group: Mapping[str, Any], path: str, ndim: int) -> N5Facts | None:
    found = [d for d in _datasets(group) if str(d.get("path")).strip("/") == path]
    axes = group["multiscales"][0].get("axes") if found else None
    steps = found[0].get("coordinateTransformations") if found else None
    if not isinstance(axes, list) or not isinstance(steps, list) or not all(isinstance(a, dict) for a in axes):
        return None
    said = {s.get("type"): s for s in steps if isinstance(s, dict)}
    scale, shift = said.get("scale", {}).get("scale"), said.get("translation", {}).get("translation")
    return _named([a.get("name") for a in axes], scale, shift, [a.get("unit") for a in axes], ndim)


def _named(names: Any, scale: Any, shift: Any, units: Any, ndim: int) -> N5Facts | None:
    """Return facts that are listed by the names of axes, in either order: only the names show which is x."""
    axes = _letters(names, ndim)
    if axes is None:
        return None
    facts = _facts(axes, _numbers(scale), units if isinstance(units, list) else [], _numbers(shift))
    first = [a for a in axes if a in "zyx"][:1] == ["x"]
    return N5Facts(axes[::-1] if first else axes, facts.spacing, facts.units, facts.origin)


def _n5_viewer(about: Mapping[str, Any], factors: Sequence[float], ndim: int) -> N5Facts:
    pixel, units = about.get("pixelResolution"), about.get("units")
    steps = _numbers(about.get("resolution"))
    if isinstance(pixel, dict):
        steps = _numbers(pixel.get("dimensions")) or steps
        units = units or [pixel.get("unit")] * ndim
    elif isinstance(pixel, list):
        steps = _numbers(pixel) or steps
    axes = _letters(about.get("axes"), ndim) or default_axes(ndim)[::-1]
    factors = factors if len(factors) == ndim else [1.0] * ndim
    shift = _numbers(about.get("offset")) or [0.0] * len(steps)  # Paintera's, of full resolution
    if len(shift) == len(steps) == ndim:
        shift = [o + s * (f - 1) / 2 for o, s, f in zip(shift, steps, factors, strict=True)]
        steps = [s * f for s, f in zip(steps, factors, strict=True)]
    facts = _facts(axes, steps, units if isinstance(units, list) else [], shift)
    return N5Facts(axes[::-1], facts.spacing, facts.units, facts.origin)


def _imagej(about: Mapping[str, Any], ndim: int) -> N5Facts | None:
    if "pixelWidth" not in about:
        return None
    counts = {"c": "numChannels", "z": "numSlices", "t": "numFrames"}
    further = [a for a, key in counts.items() if isinstance(n := about.get(key), int) and n > 1]
    axes = ("x", "y", *further)
    if len(axes) != ndim:
        axes = default_axes(ndim)[::-1]
    unit = about.get("pixelUnit")
    units = ["s" if a == "t" else unit for a in axes]
    facts = _facts(axes, _numbers([about.get(_IMAGEJ.get(a, ""), 0) for a in axes]), units, [])
    return N5Facts(axes[::-1], facts.spacing, facts.units)


def _facts(axes: Sequence[str], steps: Sequence[float], units: Sequence[Any], shift: Sequence[float]) -> N5Facts:
    known = {a: s for a, s in zip(axes, steps, strict=False) if s > 0} if len(steps) == len(axes) else {}
    named = {a: u for a, u in zip(axes, units, strict=False) if isinstance(u, str) and u}
    places = dict(zip(axes, shift, strict=False)) if len(shift) == len(axes) else {}
    return N5Facts(tuple(axes), known, named, {a: o for a, o in places.items() if a in known})


def _numbers(value: Any) -> list[float]:
    """Return a list of finite numbers; empty if it is none."""
    if not isinstance(value, list) or not all(type(n) in (int, float) and math.isfinite(n) for n in value):
        return []
    return [float(n) for n in value]


def _letters(names: Any, ndim: int) -> tuple[str, ...] | None:
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        return None
    axes = tuple(_letter(n) for n in names)
    return axes if len(set(axes)) == len(axes) == ndim else None


def _letter(name: str) -> str:
    lower = name.strip().lower()
    return _NAMES.get(lower, lower)
