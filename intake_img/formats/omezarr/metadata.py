"""The metadata of OME-NGFF (OME-Zarr 0.1 to 0.5), as JSON, in both directions.

Only this module knows how multiscales, axes, transformations, omero channels, plates, wells and labels are spelt. No
store is opened: attributes of groups come in and go out.

References
----------
.. [1] Moore et al., "OME-Zarr: a cloud-optimized bioimaging file format with international community support",
   Histochem Cell Biol 160 (2023); the specification is at https://ngff.openmicroscopy.org
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.omezarr.systems import split_transformations
from intake_img.formats.omezarr.windows import Window, dtype_range
from intake_img.model.axes import KINDS, SPATIAL
from intake_img.model.units import NGFF_NAMES, canonical, known_spacing, parse_unit
from intake_img.model.wells import parse_well

__all__ = [
    "VERSIONS",
    "Axis",
    "Multiscale",
    "MultiscaleLevel",
    "channels",
    "check_path",
    "digest",
    "image_paths",
    "is_labels",
    "label_paths",
    "multiscale_json",
    "multiscales",
    "ome_of",
    "omero_json",
    "stored_order",
    "well_paths",
    "wrapped",
]

VERSIONS = ("0.5", "0.4")
"""Versions that can be written; 0.5 uses Zarr format 3, 0.4 uses format 2."""
_LONG_NAMES = {"time": "t", "channel": "c", "channels": "c"}
_TRANSFORMATIONS = "coordinateTransformations"
_SPARE = "iabdefghjklmnopqrsuvw"
_WINDOW = ("start", "end", "min", "max")
_PALETTE = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "0000FF", "FF0000", "FFFFFF")
_NAMED_COLORS = {"R": "FF0000", "G": "00FF00", "B": "0000FF", "A": "FFFFFF"}


# reading


@dataclass(frozen=True)
class Axis:
    """An axis: its name, kind (``"space"``, ``"time"``, ``"channel"``, another or None), unit as the file says it."""

    name: str
    kind: str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class MultiscaleLevel:
    """One resolution of a multiscale image: where its array is, and where its samples are (None where not stated)."""

    path: str
    scale: tuple[float, ...] | None
    translation: tuple[float, ...] | None


@dataclass(frozen=True)
class Multiscale:
    """An image at several resolutions, the full one first."""

    name: str
    axes: tuple[Axis, ...] | None
    levels: tuple[MultiscaleLevel, ...]
    transformations: Mapping[str, Any] = field(default_factory=dict)  # to further coordinate systems, by their names

    def axis_names(self, ndim: int) -> tuple[str, ...] | None:
        """Return the names of the axes, or None if the metadata (before 0.3) do not state them.

        Raises
        ------
        ValueError
            If their number is not that of the array's axes.
        """
        if self.axes is None:
            return None
        if len(self.axes) != ndim:
            names = ", ".join(a.name for a in self.axes)
            raise ValueError(f"the metadata name {len(self.axes)} axes ({names}), but the array has {ndim}")
        return tuple(a.name for a in self.axes)

    def calibration(self, level: int) -> tuple[dict[str, float], dict[str, str], dict[str, float]]:
        """Return spacing, units and origin, each by axis, at a level, as far as they are known.

        The unit ``"pixel"`` means that the spacing is not known, and so does a scale of exactly 1 (at full resolution)
        without a unit: the specification asks for a 1 where there is nothing to say.
        """
        spacing: dict[str, float] = {}
        units: dict[str, str] = {}
        origin: dict[str, float] = {}
        full, here = self.levels[0], self.levels[level]
        for k, axis in enumerate(self.axes or ()):
            if here.scale is None or full.scale is None or axis.name == "c" or axis.kind == "channel":
                continue
            unit = canonical(axis.unit)
            said_pixel = axis.unit is not None and unit is None
            nothing_said = unit is None and full.scale[k] == 1
            if said_pixel or nothing_said or known_spacing(here.scale[k]) is None:
                continue
            spacing[axis.name] = here.scale[k]
            if unit is not None:
                units[axis.name] = unit
            if here.translation is not None and math.isfinite(here.translation[k]):
                origin[axis.name] = here.translation[k]
        return spacing, units, origin


def ome_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a group's attributes that is NGFF's: that under ``"ome"`` since 0.5, all of them before."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def multiscales(ome: Mapping[str, Any]) -> list[Multiscale]:
    """Return the multiscale images that a group's metadata describe; none if they describe none.

    Raises
    ------
    ValueError
        If they are not what NGFF says, or name a path outside of the group.
    """
    listed = ome.get("multiscales")
    if listed is None:
        return []
    entries = [_mapping(e, "an entry of multiscales") for e in _list(listed, "multiscales")]
    return [_multiscale(e) for e in entries]


def _multiscale(entry: Mapping[str, Any]) -> Multiscale:
    axes = None if entry.get("axes") is None else _axes(_list(entry["axes"], "axes"))
    datasets = [_mapping(d, "an entry of datasets") for d in _list(entry.get("datasets"), "datasets")]
    if not datasets:
        raise ValueError("the metadata list no datasets: the image has no array")
    common, others = split_transformations(entry.get(_TRANSFORMATIONS))
    levels = []
    for dataset in datasets:
        path, (own, unused) = check_path(dataset.get("path")), split_transformations(dataset.get(_TRANSFORMATIONS))
        if unused:
            warn(f"the array {path!r} has a transformation that is not applied: {', '.join(unused)}")
        levels.append(MultiscaleLevel(path, *_transformed([own, common], len(axes or ()))))
    name = entry.get("name")
    return Multiscale(name if isinstance(name, str) else "", axes, tuple(levels), others)


def _axes(entries: Sequence[Any]) -> tuple[Axis, ...]:
    """Axes as mappings (since 0.4) or names (0.3); what lacks a name is named by its type and place."""
    said = [{"name": e} if isinstance(e, str) else _mapping(e, "an entry of axes") for e in entries]
    kinds = [str(e["type"]).lower() if isinstance(e.get("type"), str) else None for e in said]
    names = [_axis_name(e.get("name"), kind) for e, kind in zip(said, kinds, strict=True)]
    nameless = [k for k, n in enumerate(names) if not n]
    for k in reversed(nameless):
        wanted = {"time": "t", "channel": "c", "space": "xyz"}.get(kinds[k] or "", "") + _SPARE
        names[k] = next(a for a in wanted if a not in names)
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"the metadata name the axis {repeated[0]!r} twice")
    units = [e["unit"] if isinstance(e.get("unit"), str) else None for e in said]
    return tuple(Axis(n, kind or KINDS.get(n), unit or None) for n, kind, unit in zip(names, kinds, units, strict=True))


def _axis_name(name: Any, kind: str | None) -> str:
    word = name.strip() if isinstance(name, str) else ""
    if len(word) == 1:
        return word.lower()
    return _LONG_NAMES.get(word.lower(), "" if not word and kind is None else word)


def _transformed(lists: Sequence[Any], ndim: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Compose scales and translations, first of the dataset, then of the multiscale image.

    What is malformed, or kept in a file of its own, leaves the calibration unknown: the pixels are there nonetheless.
    """
    scale, shift, said = [1.0] * ndim, [0.0] * ndim, False
    for transformations in lists:
        for entry in transformations if isinstance(transformations, list) else []:
            kind = entry.get("type") if isinstance(entry, Mapping) else None
            if kind not in ("scale", "translation"):
                continue
            values = entry.get(kind)
            if not isinstance(values, list) or len(values) != ndim or not all(map(_is_number, values)):
                return None, None
            if kind == "scale":
                said = True
                scale = [a * float(v) for a, v in zip(scale, values, strict=True)]
                shift = [a * float(v) for a, v in zip(shift, values, strict=True)]
            else:
                shift = [a + float(v) for a, v in zip(shift, values, strict=True)]
    return (tuple(scale), tuple(shift)) if said else (None, None)


def channels(ome: Mapping[str, Any], n: int) -> tuple[list[str] | None, dict[str, Any]]:
    """Return the names of `n` channels (None if unknown), and what else omero says of them, as lists.

    Parameters
    ----------
    ome : mapping
        NGFF metadata of a group.
    n : int
        Number of channels that the array has.

    Returns
    -------
    names : list of str or None
    attrs : dict
        ``color`` (texts ``"#RRGGBB"``) and ``window_start``, ``window_end``, ``window_min``, ``window_max`` (numbers),
        each present where it is known of all channels.
    """
    omero = ome.get("omero")
    listed = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(listed, list) or len(listed) != n or not all(isinstance(c, Mapping) for c in listed):
        return None, {}
    attrs: dict[str, Any] = {}
    colors = [c.get("color") for c in listed]
    if all(isinstance(c, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", c) for c in colors):
        attrs["color"] = [f"#{c.lstrip('#').upper()}" for c in colors]
    windows = [c.get("window") if isinstance(c.get("window"), Mapping) else {} for c in listed]
    for key in _WINDOW:
        values = [w.get(key) for w in windows]
        if all(map(_is_number, values)):
            attrs[f"window_{key}"] = [float(v) for v in values]
    labels = [c.get("label") for c in listed]
    if all(label is None for label in labels):
        return None, attrs
    return [str(k if label is None else label) for k, label in enumerate(labels)], attrs


def well_paths(ome: Mapping[str, Any]) -> list[str] | None:
    """Return the paths of the wells of a plate, or None if the group is not a plate."""
    return _paths(ome.get("plate"), "wells") if "plate" in ome else None


def well_places(ome: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return row and column, from 0, of each well of a plate by its path; by default from its path."""
    listed = ome.get("plate")
    wells = listed.get("wells") if isinstance(listed, Mapping) else None
    found = {}
    for entry in wells if isinstance(wells, list) else []:
        path = entry.get("path") if isinstance(entry, Mapping) else None
        stated = [entry.get(k) for k in ("rowIndex", "columnIndex")] if path else []
        if stated and all(isinstance(n, int) and n >= 0 for n in stated):
            found[str(path)] = (stated[0], stated[1])
        elif path and (parsed := parse_well(str(path))) is not None:
            found[str(path)] = parsed
    return found


def image_paths(ome: Mapping[str, Any]) -> list[str] | None:
    """Return the paths of the fields of a well, or None if the group is not a well."""
    return _paths(ome.get("well"), "images") if "well" in ome else None


def label_paths(ome: Mapping[str, Any]) -> list[str]:
    """Return the paths of the label images that a group of labels lists."""
    listed = ome.get("labels")
    return [] if listed is None else [check_path(p) for p in _list(listed, "labels")]


def is_labels(ome: Mapping[str, Any]) -> bool:
    """True for the metadata of a label image."""
    return "image-label" in ome


def _paths(entry: Any, key: str) -> list[str]:
    return [
        check_path(_mapping(e, f"an entry of {key}").get("path"))
        for e in _list(_mapping(entry, "plate or well").get(key), key)
    ]


def check_path(path: Any) -> str:
    """Return a path inside a group, without slashes at its ends, or raise.

    Raises
    ------
    ValueError
        If it is not a text, or leads out of the group.
    """
    if isinstance(path, int) and not isinstance(path, bool):
        path = str(path)
    if not isinstance(path, str):
        raise ValueError(f"the metadata name the path {path!r}: expected text")
    parts = path.strip("/").split("/")
    if re.search(r"[\\\0]|^[A-Za-z]:", path) or any(p in ("", ".", "..") for p in parts):
        raise ValueError(f"the metadata name the path {path!r}, which leads out of the store or nowhere: refused")
    return "/".join(parts)


def digest(attributes: Mapping[str, Any]) -> str:
    """Return a mark of a group's NGFF metadata, by which it is seen that somebody edited them."""
    keys = ("multiscales", "omero", "image-label")
    relevant = {k: ome_of(attributes)[k] for k in keys if k in ome_of(attributes)}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"the metadata give {what} as {type(value).__name__}: expected a list")
    return value


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"the metadata give {what} as {type(value).__name__}: expected an object")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# writing


def stored_order(axes: Sequence[str]) -> tuple[str, ...] | None:
    """Return `axes` in NGFF's order (time, channel or one other, space), or None if it cannot store them.

    Examples
    --------
    >>> stored_order("yxt"), stored_order("izyx"), stored_order("ctyxi")
    (('t', 'y', 'x'), ('i', 'z', 'y', 'x'), None)
    """
    space = tuple(a for a in SPATIAL if a in axes)
    other = tuple(a for a in axes if a not in SPATIAL and a != "t")
    if len(space) < 2 or len(other) > 1:
        return None
    return tuple(a for a in axes if a == "t") + other + space


def multiscale_json(name: str, axes: Sequence[str], levels: Sequence[Mapping[str, Any]], method: str | None) -> dict:
    """Return an entry of ``multiscales``.

    Parameters
    ----------
    name : str
    axes : sequence of str
        In the order of `stored_order`.
    levels : sequence of mapping
        Of each level ``path``, ``factor`` (by axis, relative to the first level), ``spacing``, ``units`` and ``origin``
        (by axis, where known).
    method : str, optional
        How levels were made.
    """
    first = levels[0]
    described = []
    for axis in axes:
        entry = {"name": axis}
        if axis in KINDS:
            entry["type"] = KINDS[axis]
        unit = parse_unit(first["units"].get(axis))
        dimension = {"time": "time", "space": "length"}.get(entry.get("type", ""))
        if unit is not None and unit.dimension == dimension and axis in first["spacing"]:
            entry["unit"] = NGFF_NAMES[unit.symbol]
        described.append(entry)
    scales = [[float(lv["spacing"].get(a, lv["factor"].get(a, 1.0))) for a in axes] for lv in levels]
    shifts = [[float(lv["origin"].get(a, 0.0)) if a in lv["spacing"] else 0.0 for a in axes] for lv in levels]
    datasets = []
    for level, scale, shift in zip(levels, scales, shifts, strict=True):
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(any(s) for s in shifts):
            transformations.append({"type": "translation", "translation": shift})
        datasets.append({"path": level["path"], "coordinateTransformations": transformations})
    multiscale: dict[str, Any] = {"name": name, "axes": described, "datasets": datasets}
    return {**multiscale, "type": method} if method and len(levels) > 1 else multiscale


def omero_json(
    names: Sequence[str], attrs: Mapping[str, Any], dtype: np.dtype, name: str, shown: Sequence[Window | None]
) -> dict[str, Any]:
    """Return the ``omero`` metadata of channels.

    Parameters
    ----------
    names : sequence of str
        Names of the channels.
    attrs : mapping
        ``color`` and ``window_*`` as `channels` returns them; made up where absent or not fitting.
    dtype : numpy.dtype
        Of the pixels: its range is the range of a window, of floats it is what is shown.
    name : str
        Name of the image.
    shown : sequence of (float, float) or None
        For each channel the values that are black and white where `attrs` has none; None for the dtype's range.
    """
    n = len(names)
    colors = _per_channel(attrs.get("color"), n)
    if colors is None or not all(re.fullmatch(r"#?[0-9a-fA-F]{6}", str(c)) for c in colors):
        colors = [
            _NAMED_COLORS.get(c, "FFFFFF" if n == 1 else _PALETTE[k % len(_PALETTE)]) for k, c in enumerate(names)
        ]
    windows = _windows(attrs, dtype_range(dtype), shown)
    listed = [
        {
            "label": str(names[k]),
            "color": str(colors[k]).lstrip("#").upper(),
            "window": windows[k],
            "active": True,
            "family": "linear",
            "inverted": False,
            "coefficient": 1.0,
        }
        for k in range(n)
    ]
    return {"name": name, "channels": listed, "rdefs": {"model": "greyscale" if n == 1 else "color"}}


def _windows(attrs: Mapping[str, Any], most: Window | None, shown: Sequence[Window | None]) -> list[dict[str, float]]:
    """Return the window of each channel: the stated one, else the shown range, within the range of the dtype."""
    given = {key: values for key in _WINDOW if (values := _stated_per_channel(attrs, key, len(shown))) is not None}
    found = []
    for k, seen in enumerate(shown):
        known = seen or most or (0.0, 1.0)
        limits = most or known
        start_end = limits if "start" in given or "end" in given else known  # the shown range may exceed the stated one
        made_up = dict(zip(_WINDOW, (*start_end, *limits), strict=True))
        found.append({**made_up, **{key: float(values[k]) for key, values in given.items()}})
    return found


def _stated_per_channel(attrs: Mapping[str, Any], key: str, n: int) -> list[Any] | None:
    values = _per_channel(attrs.get(f"window_{key}"), n)
    return values if values and all(map(_is_number, values)) and all(map(math.isfinite, values)) else None


def _per_channel(values: Any, n: int) -> list[Any] | None:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if n == 1 and isinstance(values, (str, int, float)):
        values = [values]
    return list(values) if isinstance(values, (list, tuple)) and len(values) == n else None


def wrapped(ome: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return NGFF metadata as the attributes of a group: under ``"ome"`` in 0.5, a version in each object in 0.4."""
    if version == "0.5":
        return {"ome": {"version": version, **ome}}
    attributes = dict(ome)
    if "multiscales" in ome:
        attributes["multiscales"] = [{**entry, "version": version} for entry in ome["multiscales"]]
    for key in ("omero", "image-label"):
        if key in ome:
            attributes[key] = {**ome[key], "version": version}
    return attributes
