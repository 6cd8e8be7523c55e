"""Types of public parameters, for editors and type checkers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "ArrayLike",
    "AstropyQuantity",
    "AxisKey",
    "Border",
    "Channel",
    "Chunks",
    "Colors",
    "ConventionOptions",
    "DTypeLike",
    "Dims",
    "DriverOptions",
    "Engine",
    "Factors",
    "Footprint",
    "ImageLike",
    "Key",
    "LayerLike",
    "Length",
    "Lengths",
    "Limits",
    "Mask",
    "MeasureOptions",
    "Numbers",
    "Offsets",
    "OverlapOptions",
    "Pairs",
    "PintQuantity",
    "Places",
    "Region",
    "RegionOptions",
    "Selection",
    "SourceOptions",
    "Thresholds",
    "Units",
    "Uri",
    "WriterOptions",
]


class PintQuantity(Protocol):
    """A quantity of the library pint."""

    @property
    def magnitude(self) -> Any: ...
    @property
    def units(self) -> Any: ...


class AstropyQuantity(Protocol):
    """A quantity of the library astropy."""

    @property
    def value(self) -> Any: ...
    @property
    def unit(self) -> Any: ...


Uri: TypeAlias = str | os.PathLike[str]
"""A path or URL."""
AxisKey: TypeAlias = int | slice | EllipsisType | Sequence[int] | np.ndarray
"""A selection along one axis: an integer, a slice, or integers or booleans."""
Key: TypeAlias = AxisKey | tuple[AxisKey, ...]
"""A selection of an array: that of the first axis, or one for each axis."""
Length: TypeAlias = float | str | PintQuantity | AstropyQuantity
"""A number of pixels, or a length with a unit (``"3 µm"``, a quantity of pint or astropy)."""
Lengths: TypeAlias = Length | Sequence[Length] | Mapping[str, Length]
"""One length for all axes, one for each, or lengths by the name of the axis."""
Numbers: TypeAlias = int | Sequence[int] | Mapping[str, int]
"""An integer for all axes, one for each, or integers by the name of the axis."""
Factors: TypeAlias = Sequence[int | Mapping[str, int]]
"""For each level of a pyramid, the pixels of the preceding level that become one: for all axes, or by axis."""
Limits: TypeAlias = tuple[float | str | None, float | str | None] | Sequence[float | None]
"""Lowest and highest position: pixels or coordinates, or lengths with a unit; None leaves a side open."""
Region: TypeAlias = Mapping[str, Limits]
"""Limits by the name of the axis."""
Offsets: TypeAlias = int | Sequence[int] | Mapping[str, int]
"""Shift of the window of a filter, in pixels."""
Dims: TypeAlias = str | Sequence[str] | None
"""Names of axes."""
Chunks: TypeAlias = int | Literal["auto"] | Mapping[str, int | Literal["auto"]] | None
"""Chunks of dask arrays: "auto" (native tiles), one length for all axes, or lengths by axis; None for no dask."""
Places: TypeAlias = int | float | str | slice | Sequence[int] | Sequence[str] | Sequence[float]
Selection: TypeAlias = Places | Mapping[str, Places] | None
"""What to load: an index or label on the first axis, a list of them, or these by the name of the axis."""
ImageLike: TypeAlias = xr.Dataset | xr.DataArray | np.ndarray
Footprint: TypeAlias = ArrayLike | None
"""The neighbourhood of a pixel: an array of booleans."""
Border: TypeAlias = Literal[
    "reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap"
]
"""How an image is extended beyond its border, as in scipy.ndimage."""
Engine: TypeAlias = Literal["scipy", "opencv"]
"""The implementation of a filter: scipy's in float64, or a faster one in float32."""
Units: TypeAlias = Literal["pixel", "physical"]
"""Whether numbers without a unit are pixels, or in the unit of the axis."""
Channel: TypeAlias = str | int
"""A channel by name or number."""
Pairs: TypeAlias = tuple[Channel, Channel] | Sequence[tuple[Channel, Channel]] | None
"""A pair of channels, or several; None for all."""
Mask: TypeAlias = xr.DataArray | ArrayLike | str | None
"""The pixels to include: an array of booleans, or the name of a variable."""
LayerLike: TypeAlias = xr.DataArray | ArrayLike | str
"""An image of labels or intensities: an array, or the name of a variable."""
Thresholds: TypeAlias = str | tuple[str, float] | Sequence[float] | Mapping[Any, Any] | Callable[..., Any] | None
"""Thresholds of channels: the name of a method, ``("fraction", f)``, numbers, or these by channel or pair."""
Colors: TypeAlias = Mapping[int | str, str | Sequence[float]] | Sequence[str | Sequence[float]] | None
"""Colours of matplotlib: by the name of the channel, or in the order of the channels."""


class ConventionOptions(TypedDict, total=False):
    """The fields of `intake_img.kernels.conventions.Conventions`, as keyword arguments."""

    above: Literal["and", "or"]
    below: Literal["or", "and"]
    manders_denominator: Literal["total", "above"]
    manders_comparison: Literal[">=", ">"] | None
    icq_zero: Literal["positive", "negative", "excluded"]
    overlap_region: Literal["all", "above"]
    rwc_ranks: Literal["label", "all"]
    fit: Literal["orthogonal", "ols"]


class RegionOptions(TypedDict, total=False):
    """Which pixels a measure of colocalization includes, and how their thresholds are found."""

    mask: Mask
    labels: LayerLike | None
    thresholds_from: Literal["label", "image"]
    costes_options: Mapping[str, Any] | None


class MeasureOptions(RegionOptions, ConventionOptions, total=False):
    """The options of measures of colocalization that have none of their own."""

    thresholds: Thresholds


class OverlapOptions(RegionOptions, total=False):
    """The options of measures of colocalization with thresholds of their own."""

    manders_comparison: Literal[">=", ">"] | None
    rwc_ranks: Literal["label", "all"]


class DriverOptions(TypedDict, total=False):
    """The options that drivers have of their own for reading; each driver documents its own."""

    axes: Mapping[str, str] | None
    axis: str
    bounds: bool
    conf: str
    dtype: DTypeLike | None
    ext: str | None
    group: bool
    label: bool
    labels: Sequence[Any] | None
    layout: Literal["stage"] | None
    member_options: Mapping[str, Any] | None
    missing: Literal["error", "fill"]
    offset: int | None
    order: Literal["C", "F"] | None
    patient: bool
    recursive: bool
    rgb: bool
    scaled: bool
    shape: Sequence[int] | None
    start: int | None
    stitched: bool
    stop: int | None
    summed: bool
    table: str
    verify: bool


class SourceOptions(DriverOptions, total=False):
    """The options of sources: those of every driver, and their own."""

    scene: int | str | None
    level: int
    chunks: Chunks
    output_axis_order: str | None
    metadata: Mapping[str, Any] | None
    storage_options: Mapping[str, Any] | None
    cache: Uri | None


class WriterOptions(TypedDict, total=False):
    """The options that formats have of their own for writing; each format documents its own."""

    bigtiff: bool | None
    byteorder: Literal["<", ">"] | None
    chunks: int | Sequence[int] | Mapping[str, int] | None
    lossy: bool
    pyramid: bool | int
    quality: int
    rgb: bool | None
    shards: int | Sequence[int] | Mapping[str, int] | None
    tile: int | Sequence[int] | None
    version: int | str | None
