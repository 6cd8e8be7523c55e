"""Types of public parameters, for editors and type checkers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "AstropyQuantity",
    "Border",
    "Channel",
    "Chunks",
    "DTypeLike",
    "Dims",
    "Engine",
    "Footprint",
    "ImageLike",
    "LayerLike",
    "Length",
    "Lengths",
    "Mask",
    "Numbers",
    "Offsets",
    "Pairs",
    "PintQuantity",
    "Places",
    "Selection",
    "Thresholds",
    "Units",
    "Uri",
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
Length: TypeAlias = float | str | PintQuantity | AstropyQuantity
"""A number of pixels, or a length with a unit (``"3 µm"``, a quantity of pint or astropy)."""
Lengths: TypeAlias = Length | Sequence[Length] | Mapping[str, Length]
"""One length for all axes, one for each, or lengths by the name of the axis."""
Numbers: TypeAlias = int | Sequence[int] | Mapping[str, int]
"""An integer for all axes, one for each, or integers by the name of the axis."""
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
