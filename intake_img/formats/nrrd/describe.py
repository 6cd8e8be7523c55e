"""Axes, units, position and labels from a NRRD header."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.nrrd.header import SPACES, NrrdHeader
from intake_img.formats.volumes import placed_by, unsealed
from intake_img.model.affine import Space
from intake_img.model.axes import default_axes
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import known_spacing

__all__ = ["RECORD", "image_of", "is_complex", "seal"]

RECORD = "intake_img"
"""The key of the record."""
_COLOURS = {"rgb-color": ("R", "G", "B"), "rgba-color": ("R", "G", "B", "A")}
_SPATIAL = ("domain", "space", "???", "none")
_SPARE = "csabdefgjkmnopq"


def is_complex(header: NrrdHeader) -> bool:
    """Whether the fastest axis is that of real and imaginary parts."""
    return header.words("kinds")[:1] == ["complex"] and header.sizes[0] == 2 and header.dtype.kind == "f"


def seal(header: NrrdHeader) -> bytes:
    """Return the layout of the pixels and their files from the header, in any spelling."""
    per_axis = [header.numbers(name) for name in ("sizes", "spacings", "axis mins")]
    vectors = [header.vectors(name) for name in ("space directions", "space origin")]
    texts = [header.quoted(name) for name in ("units", "space units")]
    return repr([header.dtype.newbyteorder("=").str, per_axis, vectors, texts, header.fields.get("space")]).encode()


@dataclass(frozen=True)
class _Axis:
    """An axis in the order of the header."""

    number: int
    letter: str
    vector: list[float] | None


def image_of(pixels: Pixels, header: NrrdHeader) -> Image:
    """Return the image of a header."""
    axes = _axes(header)
    letters = "".join(a.letter for a in reversed(axes))
    kinds = header.words("kinds")
    kind = next((kinds[a.number] for a in axes if a.letter == "c" and kinds), "")
    facts = {"fields": dict(header.fields), "keys": {k: v for k, v in header.keys.items() if k != RECORD}}
    attrs = _labels(header, pixels)
    image = Image.single(pixels, letters, channels=_COLOURS.get(kind), variable_attrs=attrs, header=facts)
    image = _placed(_stepped(image, header, axes), header, axes)
    return image.restored(unsealed(header.keys.get(RECORD, ""), seal(header)))


def _axes(header: NrrdHeader) -> list[_Axis]:
    count = len(header.sizes)
    vectors = header.vectors("space directions")
    vectors = vectors if len(vectors) == count else [None] * count
    kinds, labels = header.words("kinds"), header.quoted("labels")
    named = [_said(n, kinds, labels, vectors) for n in range(count)]
    if not any(named):
        named = list(default_axes(count))[::-1]
    letters = _distinct(named)
    return [_Axis(n, a, vectors[n]) for n, a in enumerate(letters)][int(is_complex(header)) :]


def _distinct(named: list[str]) -> list[str]:
    """Return letters that differ: those that are named, x, y and z for ``"*"``, and spare ones."""
    free = iter([a for a in "xyz" if a not in named])
    spare = iter([a for a in _SPARE if a not in named])
    found: list[str] = []
    for a in named:
        found.append((next(free, "") if a == "*" else a if a not in found else "") or next(spare))
    return found


def _said(n: int, kinds: list[str], labels: list[str], vectors: list[list[float] | None]) -> str:
    """Return the letter of an axis, ``"*"`` for a spatial axis, "" for an unknown one."""
    label = labels[n].lower() if n < len(labels) else ""
    if re.fullmatch("[a-z]", label):
        return label
    vector, kind = vectors[n], kinds[n] if kinds else ""
    if vector is not None:
        return "t" if len(vector) == 4 and not any(vector[:3]) and vector[3] else "*"
    if kind in ("time", "complex"):
        return "t" if kind == "time" else ""
    if kind in _SPATIAL:
        return "*" if not any(vectors) else ""
    return "c" if kind or any(vectors) else ""


def _stepped(image: Image, header: NrrdHeader, axes: list[_Axis]) -> Image:
    """Return the image with the metadata of each axis."""
    units: dict[str, str] = {}
    spacing: dict[str, float] = {}
    origin: dict[str, float] = {}
    texts = header.quoted("units")
    centres = header.words("centerings")
    for a in axes:
        step = _entry(header, "spacings", a.number)
        low, high, n = (
            _entry(header, "axis mins", a.number),
            _entry(header, "axis maxs", a.number),
            header.sizes[a.number],
        )
        node = bool(centres) and centres[a.number] == "node"
        if not known_spacing(step) and np.isfinite(high - low) and n > node:
            step = (high - low) / (n - node)
        if found := known_spacing(step):
            spacing[a.letter] = found
            origin |= {a.letter: low if node else low + found / 2} if np.isfinite(low) else {}
            units |= {a.letter: texts[a.number]} if a.number < len(texts) and texts[a.number] else {}
    return replace(image, spacing=spacing, origin=origin, units=units)


def _entry(header: NrrdHeader, name: str, n: int) -> float:
    found = header.numbers(name)
    return found[n] if found else np.nan


def _placed(image: Image, header: NrrdHeader, axes: list[_Axis]) -> Image:
    """Return the image with what its vectors say."""
    spatial = [a for a in axes if a.vector is not None and a.letter in "xyz"]
    times = [a for a in axes if a.vector is not None and a.letter == "t"]
    if not spatial:
        return image
    space, flip = _space(header.fields.get("space", ""))
    width = min(len(a.vector or []) for a in spatial)
    width = min(width, 3) if times or space else width
    origin = (header.vectors("space origin") or [None])[0] or [np.nan] * width
    units = header.quoted("space units")
    if len(set(units[:width])) > 1:
        warn(f"the space has several units, {units}: none is used")
        units = []
    signs = np.array([flip, 1.0, 1.0])[:width]
    directions = [np.array((a.vector or [])[:width]) * signs for a in spatial]
    if times and times[0].vector and (step := known_spacing(times[0].vector[3])):
        image = replace(image, spacing={**image.spacing, "t": step})
    start = np.array(origin[:width]) * signs
    if len(start) != width:
        start = np.full(width, np.nan)
    return placed_by(image, [a.letter for a in spatial], directions, start + 0.0, space, units[0] if units else "")


def _space(name: str) -> tuple[Space | None, float]:
    """Return the space, and the sign by which its first coordinate differs from that."""
    name = name.lower().removesuffix("-time")
    short = {"".join(w[0] for w in full.split("-")): key for key, full in SPACES.items()}
    full = {v: k for k, v in SPACES.items()} | short | {f"{k}t": v for k, v in short.items()}
    if name not in full:
        return None, 1.0
    found = full[name]
    return ("LPS+", 1.0) if found == "LPS+" else ("RAS+", 1.0 if found else -1.0)


def _labels(header: NrrdHeader, pixels: Pixels) -> dict[str, Any]:
    """Return the attributes of a segmentation of 3D Slicer: values, names and layers."""
    found = {m[1]: m for key in header.keys if (m := re.fullmatch(r"Segment(\d+)_LabelValue", key))}
    if not found or pixels.dtype.kind not in "iu":
        return {}
    segments = sorted(found, key=int)
    known = ("LabelValue", "Name", "Layer")
    facts = {what: [header.keys.get(f"Segment{n}_{what}", "") for n in segments] for what in known}
    attrs: dict[str, Any] = {"kind": "labels", "label_names": facts["Name"]}
    try:
        attrs["label_values"] = [int(v) for v in facts["LabelValue"]]
        if len(set(facts["Layer"])) > 1:
            attrs["label_layers"] = [int(v or 0) for v in facts["Layer"]]
    except ValueError:
        warn("the values of segments are not numbers: left out")
    return attrs
