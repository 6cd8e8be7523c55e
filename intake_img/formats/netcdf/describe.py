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

__all__ = ["Described", "image_of"]


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


def _unpacked(pixels: Pixels, attrs: Mapping[str, Any]) -> Pixels:
    """The values: ``scale_factor * number + add_offset``, NaN where the number is the fill value."""
    if attrs.get("dtype") == "bool" and pixels.dtype == np.int8:  # so xarray says it
        return pixels.astype(bool)
    slope, offset = _number(attrs.get("scale_factor"), 1.0), _number(attrs.get("add_offset"), 0.0)
    missing = _number(attrs.get("_FillValue", attrs.get("missing_value")), math.nan)
    fits = _fits(missing, pixels.dtype)
    if pixels.dtype.kind == "c" or (slope, offset, fits) == (1.0, 0.0, False):
        return pixels
    small = pixels.dtype in (np.float32, np.float16) or (pixels.dtype.itemsize <= 2 and (slope, offset) == (1.0, 0.0))
    known = (int(missing) if pixels.dtype.kind in "iu" else missing) if fits else None
    return pixels.scaled(slope, offset, np.float32 if small else np.float64, missing=known)


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
