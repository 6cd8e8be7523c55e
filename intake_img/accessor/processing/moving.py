"""Images moved by shifts, chunk by chunk: a selection of other pixels, interpolated where it falls between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import aligned
from intake_img.accessor.arguments import number
from intake_img.accessor.lengths import common_unit, step_of
from intake_img.accessor.processing.halo import rechunked
from intake_img.accessor.processing.in_memory import chunked
from intake_img.accessor.processing.placing import Cutout, Spans, drawn
from intake_img.accessor.variables import spatial_axes, with_data
from intake_img.errors import AxesError, UnitsError
from intake_img.kernels.translation import moved_whole, origin, weighted
from intake_img.model.axes import spell
from intake_img.model.units import PIXEL, convert, symbol

__all__ = ["fill_of", "moved", "shifts_in_pixels"]


def fill_of(array: xr.DataArray, fill: Any) -> Any:
    """Return what is where an image has no pixels: NaN in floats, else 0, if nothing is given."""
    if fill is None:
        return array.dtype.type(math.nan if array.dtype.kind == "f" else 0)
    given = math.nan if isinstance(fill, float) and math.isnan(fill) else number("fill", fill)
    if array.dtype.kind == "f":
        return array.dtype.type(given)
    info = (0, 1) if array.dtype.kind == "b" else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    if given != given or given != int(given) or not info[0] <= given <= info[1]:
        raise ValueError(f"fill={fill!r}: the image is of {array.dtype}, which cannot store it")
    return array.dtype.type(int(given))


def shifts_in_pixels(shifts: Any, array: xr.DataArray) -> xr.DataArray:
    """Return shifts on the places of an image, in its pixels."""
    _check(shifts, array)
    shifts = aligned("shifts", shifts, array, cover=True).astype(float)
    unit = symbol(shifts.attrs.get("units"))
    if unit is None:
        raise ValueError("shifts do not say their unit: set shifts.attrs['units'] to 'px' or a unit of length")
    if not np.isfinite(shifts.values).all():
        raise ValueError(
            "shifts contain NaN (from images of one value): fill them first, e.g. by shifts.fillna(0) or interpolate_na"
        )
    if unit == PIXEL:
        return shifts
    axes = [str(a) for a in shifts["axis"].values]
    return shifts / xr.DataArray([_pixel(array, a, unit) for a in axes], dims="axis")


def _pixel(array: xr.DataArray, axis: str, unit: str) -> float:
    """Return the spacing of an axis in a unit."""
    common = common_unit(array) or "1"
    if common == unit:
        return step_of(array, axis)
    try:
        return convert(step_of(array, axis), common, unit)
    except UnitsError as exc:
        raise UnitsError(f"shifts are in {unit!r}, lengths of the image in {common!r}: these do not convert") from exc


def _check(shifts: Any, array: xr.DataArray) -> None:
    if not isinstance(shifts, xr.DataArray) or "axis" not in shifts.dims or "axis" not in shifts.coords:
        raise TypeError(
            f"shifts={shifts!r}: expected the result of measure_shifts, with an axis 'axis' and its coordinate"
        )
    axes, every = [str(a) for a in shifts["axis"].values], tuple(map(str, array.dims))
    if lost := [a for a in axes if a not in spatial_axes(array)]:
        raise AxesError(
            f"shifts are along {lost[0]!r}, which is not a spatial axis of {array.name!r}: {spell(every)!r}"
        )
    if lost := [str(d) for d in shifts.dims if d != "axis" and d not in every]:
        raise AxesError(
            f"shifts differ along {lost[0]!r}, an axis that {array.name!r} lacks: it has {spell(every)!r}; select one "
            "place of the shifts, or process another variable by itself (ds['image'].img)"
        )


@dataclass(frozen=True)
class _Moves:
    """Where the pixels of each chunk come from.

    Parameters
    ----------
    shape : tuple of int
        Of the image.
    places : tuple of int
        Axes of the image along which shifts differ.
    axes : tuple of int
        Axes that are shifted.
    shifts : ndarray of shape (..., d)
        For each place.
    order : int
    """

    shape: tuple[int, ...]
    places: tuple[int, ...]
    axes: tuple[int, ...]
    shifts: np.ndarray
    order: int

    def plan(self, spans: Spans) -> list[Cutout]:
        """Return the part that the chunk at `spans` shows; none if all of it comes from outside."""
        shift = self.shifts[tuple(spans[k][0] for k in self.places)]
        origins = [origin(s, self.order) for s in shift]
        if self.order > 1 and any(o.fraction for o in origins):
            return [Cutout(spans, (None, tuple(shift)))]
        source, target, fractions = list(spans), [slice(None)] * len(spans), [0.0] * len(spans)
        for k, own in zip(self.axes, origins, strict=True):
            low, high = max(spans[k][0], own.first), min(spans[k][1], self.shape[k] + own.last)
            if low >= high:
                return []
            source[k] = (low + own.start, high + own.start + (own.fraction > 0))
            target[k] = slice(low - spans[k][0], high - spans[k][0])
            fractions[k] = own.fraction
        return [Cutout(tuple(source), (tuple(target), tuple(fractions)))]


def moved(array: xr.DataArray, shifts: xr.DataArray, order: int, fill: Any) -> xr.DataArray:
    """Return an image moved by shifts in pixels."""
    outer = [str(d) for d in array.dims if d in shifts.dims]
    values = shifts.transpose(*outer, "axis").values
    axes = tuple(array.get_axis_num(str(a)) for a in shifts["axis"].values)
    places = tuple(array.get_axis_num(d) for d in outer)
    data = chunked(array)
    if order > 1:
        data = rechunked(data, dict.fromkeys(axes, -1))
    chunks = [(1,) * n if k in places else c for k, (n, c) in enumerate(zip(data.shape, data.chunks, strict=True))]
    moves = _Moves(data.shape, places, axes, values, order)
    draw = _Draw(axes, order, fill, array.dtype)
    return with_data(array, drawn(data, chunks, moves.plan, draw, "apply_shifts", moves, draw))


@dataclass(frozen=True)
class _Draw:
    """Draws a chunk of a moved image."""

    axes: tuple[int, ...]
    order: int
    fill: Any
    dtype: np.dtype

    def __dask_tokenize__(self) -> Any:
        return ("moved", self.axes, self.order, repr(self.fill), str(self.dtype))

    def __call__(self, out: np.ndarray, parts: Sequence[tuple[Any, np.ndarray]]) -> None:
        out[...] = self.fill
        for (target, how), pixels in parts:
            if target is None:
                self._spline(pixels, how, out)
            else:
                out[target] = weighted(pixels, how) if any(how) else pixels

    def _spline(self, pixels: np.ndarray, shift: Sequence[float], out: np.ndarray) -> None:
        last = range(-len(self.axes), 0)
        source, target = (np.moveaxis(a, self.axes, last) for a in (pixels, out))
        for place in np.ndindex(source.shape[: -len(self.axes)]):
            target[place] = moved_whole(source[place], shift, self.order, self.fill)
