"""Attributes of a netCDF variable by the CF conventions: names of axes, positions, packed values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.formats.h5.axes import AxisFacts, letters_of
from intake_img.model.axes import default_axes
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical

__all__ = ["PACKING", "Described", "image_of", "positions_of"]

PACKING = ("scale_factor", "add_offset", "_Unsigned")
"""Attributes that say how stored numbers become values."""


@dataclass(frozen=True)
class Described:
    """A variable of either kind of file.

    Parameters
    ----------
    dimensions : tuple of str
        Name of each; empty where unknown.
    attributes : mapping
    positions : mapping of int to (ndarray, str)
        By axis, positions along it and their unit.
    """

    dimensions: tuple[str, ...]
    attributes: Mapping[str, Any]
    positions: Mapping[int, tuple[np.ndarray, str]]


def image_of(pixels: Pixels, described: Described, scaled: bool, header: Mapping[str, Any]) -> Image:
    """Return the image of a variable.

    Parameters
    ----------
    pixels : Pixels
        As they are stored.
    described : Described
    scaled : bool
        Whether to turn stored numbers into values.
    header : mapping
    """
    facts = AxisFacts(letters_of(described.dimensions) or default_axes(pixels.ndim))
    for k, (values, unit) in described.positions.items():
        facts.positions(facts.axes[k], values, unit.partition(" since ")[0])
    attrs = described.attributes
    kept = {name: attrs[name] for name in ("long_name", "standard_name") if isinstance(attrs.get(name), str)}
    if isinstance(attrs.get("units"), str) and (symbol := canonical(attrs["units"])):
        kept["units"] = symbol
    if scaled:
        pixels = _unpacked(pixels, attrs)
    return Image.single(pixels, facts.axes, variable_attrs=kept, header={**header, "attributes": attrs}, **facts.facts)


def positions_of(values: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """Return the positions that the stored numbers of a coordinate mean, by `PACKING`."""
    if values.dtype.kind not in "iuf":
        return values
    values = values.astype(_meant(values.dtype, attrs), copy=False)
    slope, offset = _line(attrs)
    return values if (slope, offset) == (1.0, 0.0) else slope * values.astype(np.float64) + offset


def _unpacked(pixels: Pixels, attrs: Mapping[str, Any]) -> Pixels:
    """The values: ``scale_factor * number + add_offset``, NaN where the number is a fill value."""
    if attrs.get("dtype") == "bool" and pixels.dtype == np.int8:  # so xarray says it
        return pixels.astype(bool)
    stored, meant = pixels.dtype, _meant(pixels.dtype, attrs)
    pixels, (slope, offset) = pixels.astype(meant), _line(attrs)
    every = [_number(attrs.get(name), math.nan) for name in ("_FillValue", "missing_value")]
    missing = list(dict.fromkeys(_as_stored(n, meant) for n in every if _fits(n, stored) or _fits(n, meant)))
    if meant.kind == "c" or ((slope, offset) == (1.0, 0.0) and not missing):
        return pixels
    small = meant in (np.float32, np.float16) or (meant.itemsize <= 2 and (slope, offset) == (1.0, 0.0))
    dtype = np.float32 if small else np.float64
    for number in missing[1:]:  # the values are floats from then on, which represent the other one exactly
        pixels = pixels.scaled(1.0, 0.0, dtype, missing=number)
    return pixels.scaled(slope, offset, dtype, missing=missing[0] if missing else None)


def _meant(dtype: np.dtype, attrs: Mapping[str, Any]) -> np.dtype:
    """The type of the numbers: classic files have no unsigned ones, and say by ``_Unsigned`` that some are meant."""
    unsigned = str(attrs.get("_Unsigned")).lower()
    kind = {("true", "i"): "u", ("false", "u"): "i"}.get((unsigned, dtype.kind), dtype.kind)
    return np.dtype(f"{dtype.byteorder.replace('|', '=')}{kind}{dtype.itemsize}") if dtype.kind in "iu" else dtype


def _as_stored(number: float, meant: np.dtype) -> float:
    """The number as one of a type, of which it may be the bits."""
    return int(np.array([int(number)]).astype(meant)[0]) if meant.kind in "iu" else number


def _line(attrs: Mapping[str, Any]) -> tuple[float, float]:
    return _number(attrs.get("scale_factor"), 1.0), _number(attrs.get("add_offset"), 0.0)


def _fits(value: float, dtype: np.dtype) -> bool:
    """Whether a dtype can represent a number, and the number is not NaN."""
    if dtype.kind in "iu":
        return math.isfinite(value) and value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    return dtype.kind == "f" and math.isfinite(value)


def _number(value: Any, default: float) -> float:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 1:
        value = value[0]
    try:
        found = float(value)
    except (TypeError, ValueError):
        return default
    return found if math.isfinite(found) or math.isnan(default) else default
