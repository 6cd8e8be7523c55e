"""Metadata of an image for a TIFF file: axes, spacing, units, times and channels, in the terms of the dialect."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.formats.tif.encoding import TiffEncoding
from intake_img.formats.tif.ome import channel_metadata, unit_name
from intake_img.model.image import Image
from intake_img.model.units import canonical, convert, known_spacing, parse_unit

__all__ = ["letters", "metadata_of", "resolution_tags"]


def letters(plan: TiffEncoding) -> str:
    letters: list[str] = []
    for axis in plan.axes:
        letter = axis.upper() if len(axis) == 1 and axis.isascii() and axis.isalpha() else ""
        if not letter or letter in letters:
            letter = next(a for a in "QPONMLKJHGFEDBAUVWRI" if a not in letters and a.lower() not in plan.axes)
        letters.append(letter)
    if plan.rgb:
        letters[-1] = "S"
    return "".join(letters)


def metadata_of(image: Image, plan: TiffEncoding, identity: str) -> dict[str, Any]:
    if plan.kind == "ome":  # the same image under the same name gives the same bytes: a write that is resumed as well
        return {**_ome_metadata(image, plan), "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, identity))}
    found: dict[str, Any] = {"axes": letters(plan), **_calibration(image, plan)}
    if plan.kind == "imagej":
        sizes = dict(zip(plan.axes, plan.pixels.shape, strict=True))
        channels = 1 if plan.rgb else sizes.get("c", 1)
        if 1 < channels <= 7:
            found["mode"] = "composite"
        names = image.channels
        if names and not plan.rgb and len(names) == channels > 1:
            found["Labels"] = [str(n) for n in names] * (sizes.get("t", 1) * sizes.get("z", 1))
    return found


def _calibration(image: Image, plan: TiffEncoding) -> dict[str, Any]:
    """ImageJ's words for spacing, units and origin.

    Without resolution tags, ImageJ takes a pixel for one unit: the space has no unit then, and no spacing. Times
    without a unit it takes for seconds.
    """
    found = _space(image) if resolution_tags(image, plan) else {}
    if (t := known_spacing(image.spacing.get("t"))) and (unit := canonical(image.units.get("t"))):
        found["finterval"] = t
        if unit != "s":
            found["tunit"] = _ascii(unit)
    return found


def _space(image: Image) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unit = canonical(image.units.get("x"))
    if unit:
        found["unit"] = _ascii(unit)
        for axis in "yz":
            own = canonical(image.units.get(axis))
            if own and own != unit and axis in image.spacing:
                found[f"{axis}unit"] = _ascii(own)
    if (z := known_spacing(image.spacing.get("z"))) and bool(canonical(image.units.get("z"))) == bool(unit):
        found["spacing"] = z
    for axis in "xyz":
        step, start = known_spacing(image.spacing.get(axis)), image.origin.get(axis)
        if step and start:
            found[f"{axis}origin"] = -start / step
    return found


def _ascii(text: str) -> str:
    return "".join(c if ord(c) < 128 else f"\\u{ord(c):04X}" for c in text)


def resolution_tags(image: Image, plan: TiffEncoding) -> dict[str, Any]:
    """Return the resolution tags; none unless the spacing of x and y, and the units of both or of none, are known."""
    sizes = [known_spacing(image.spacing.get(a)) for a in "xy"]
    if None in sizes or bool(canonical(image.units.get("x"))) != bool(canonical(image.units.get("y"))):
        return {}
    per = [1 / s for s in sizes if s is not None]
    if plan.kind == "imagej":
        unit = canonical(image.units.get("x"))
        return _rational(per, {"in": 2, "cm": 3}.get(unit or "", 1))
    lengths = [parse_unit(image.units.get(a)) for a in "xy"]
    if any(u is None or u.dimension != "length" for u in lengths):
        return _rational(per, 1)
    return _rational([n / convert(1, u.symbol, "cm") for n, u in zip(per, lengths, strict=True) if u is not None], 3)


def _rational(per: Sequence[float], unit: int) -> dict[str, Any]:
    """Resolution tags; nothing if their 32-bit fractions cannot store the numbers."""
    if not all(2**-30 < n < 2**31 for n in per):
        return {}
    return {"resolution": tuple(per), "resolutionunit": unit}


def _xml_text(text: str) -> str:
    """Return a text without the characters that XML cannot store; the record has the text as it is."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)


def _ome_metadata(image: Image, plan: TiffEncoding) -> dict[str, Any]:
    sizes = dict(zip(plan.axes, plan.pixels.shape, strict=True))
    found: dict[str, Any] = {"axes": letters(plan), "Creator": "intake_img"}
    if image.scene and not image.scene.isdigit():
        found["Name"] = _xml_text(image.scene)
    for axis in "xyz":
        step, unit = known_spacing(image.spacing.get(axis)), unit_name(image.units.get(axis))
        if step and unit and (known := parse_unit(unit)) and known.dimension == "length":
            found[f"PhysicalSize{axis.upper()}"], found[f"PhysicalSize{axis.upper()}Unit"] = step, unit
    found.update(_ome_times(image, sizes, plan.rgb))
    if not (plan.rgb and plan.axes[-1] == "c"):
        coord = image.coords.get("c")
        names = [_xml_text(n) for n in image.channels] if image.channels else None
        if channels := channel_metadata(names, coord.attrs if coord else {}, sizes.get("c", 1)):
            found["Channel"] = channels
    return found


def _ome_times(image: Image, sizes: Mapping[str, int], rgb: bool) -> dict[str, Any]:
    """Time increment where it is even, and DeltaT of each plane where it is not or does not start at 0."""
    unit = unit_name(image.units.get("t"))
    known = parse_unit(unit) if unit else None
    if "t" not in sizes or known is None or known.dimension != "time":
        return {}
    found: dict[str, Any] = {}
    step = known_spacing(image.spacing.get("t"))
    if step:
        found["TimeIncrement"], found["TimeIncrementUnit"] = step, unit
    coord = image.coords.get("t")
    values = coord.values if coord is not None else None
    if values is None or values.dtype.kind not in "iuf" or values.ndim != 1 or not np.isfinite(values).all():
        return found
    if step is None or values[0] != 0:
        planes = sizes.get("z", 1) * (1 if rgb else sizes.get("c", 1))
        times = [float(v) for v in np.repeat(values.astype(float), planes)]
        found["Plane"] = {"DeltaT": times, "DeltaTUnit": [unit] * len(times)}
    return found
