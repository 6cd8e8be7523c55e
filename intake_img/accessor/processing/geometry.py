"""Size and brightness of ``ds.img``: pyramids, crops, rescaling, normalization, contrast, background."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import (
    axis_names,
    choice,
    data_type,
    flag,
    integer,
    mapping,
    neighbourhood,
    number,
    per_axis,
    space,
)
from intake_img.accessor.lengths import pixels
from intake_img.accessor.processing.checks import real, skimage_for, whole_images
from intake_img.accessor.processing.crop import as_region, window
from intake_img.accessor.processing.halo import halo
from intake_img.accessor.processing.in_memory import chunked, is_held
from intake_img.accessor.processing.intensity import equalize, normalized, rolling_ball
from intake_img.accessor.processing.rescaling import clipped, coarser, held, rescaled
from intake_img.accessor.variables import (
    each_image,
    gridded,
    in_units,
    is_categorical,
    joined,
    lazy,
    sized,
    spatial_axes,
    with_data,
)
from intake_img.errors import AxesError
from intake_img.kernels.each_image import EachImage
from intake_img.model.axes import spell
from intake_img.model.typed import DTypeLike, Factors, Lengths, Limits, Numbers, Region, Units

__all__ = ["Geometry"]


class Geometry:
    """Methods that change size or brightness; see each of them."""

    _obj: Any
    _first: Any

    def pyramid(self, factors: Factors = (2, 2), method: str = "mean") -> xr.DataTree:
        """Return a multiscale image: a DataTree with the nodes ``scale0`` (the image itself), ``scale1``, ...

        `imsave` writes it as a pyramid. Every level is computed from the preceding level. Remaining pixels at the end
        of an axis are dropped, so that a level has ``n // factor`` pixels (at least 1) and begins where the image
        begins. Coordinates are the centres of the blocks (``nearest``: of the selected pixels).

        Parameters
        ----------
        factors : sequence of int or mapping
            For each level, how many pixels of the preceding level become one, along all spatial axes or by name.
        method : {"mean", "mode", "nearest"}
            Means of integers are rounded half to even. Labels and masks are never averaged: with ``mean`` they take the
            most frequent value.
        """
        choice("method", method, ("mean", "mode", "nearest"))
        return self._pyramid(factors, method, "factors")

    def _pyramid(self, factors: Any, method: str, argument: str) -> xr.DataTree:
        if isinstance(factors, (int, np.integer, Mapping, str)) or not hasattr(factors, "__iter__"):
            raise TypeError(f"{argument}={factors!r}: expected a sequence with one factor for each level, e.g. [2, 2]")
        name = self._obj.name or "image" if isinstance(self._obj, xr.DataArray) else None
        level = self._obj.to_dataset(name=name) if isinstance(self._obj, xr.DataArray) else self._obj
        levels = [level]
        for k, factor in enumerate(factors):
            axes = spatial_axes(level.img._first) if isinstance(factor, Mapping) else space(level.img._first)
            wanted = per_axis(f"{argument}[{k}]", factor, axes, 1, lambda n, v: integer(n, v, 1))
            level = coarser(level, wanted, method)
            levels.append(level)
        return xr.DataTree.from_dict({f"scale{k}": ds for k, ds in enumerate(levels)})

    def crop(self, region: Region | None = None, *, coordinate_system: str = "pixel", **limits: Limits) -> Any:
        """Crop to a region by axis name: ``crop(x=(10, 20), y=(0, 50))``; labels are cropped likewise.

        Parameters
        ----------
        region : mapping of axes to (low, high), optional
            None leaves a side open.
        coordinate_system : {"pixel", "physical"}
            In pixels integers act as in a slice; in physical coordinates the region includes both ends.
        **limits : (low, high)
            The same as keywords.

        Raises
        ------
        ValueError
            If no pixel lies within.
        """
        wanted = as_region(None, {**({} if region is None else mapping("region", region)), **limits})
        if not wanted:
            raise ValueError("crop: expected at least one axis, e.g. crop(x=(0, 100))")
        first = self._first
        sized(first)
        return self._obj.isel({a: slice(*window(first, a, w, coordinate_system)) for a, w in wanted.items()})

    def rescale(
        self,
        scale: float | Sequence[float] | Mapping[str, float] | None = None,
        *,
        spacing: Lengths | None = None,
        order: int = 1,
        anti_aliasing: bool | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Resample to more or fewer pixels. Powered by `skimage.transform.resize`, with the result of the complete
        image.

        Parameters
        ----------
        scale : float, sequence or mapping
            Pixels of the result for each pixel.
        spacing : float, str, quantity, sequence or mapping
            Or the new distance of pixels: in the common unit of the image, that of ``x``, or with its own unit.
        order : int
            Order of the spline, 0 to 5. Labels are resampled with order 0, and so is bool, unless `output_dtype` has
            fractions.
        anti_aliasing : bool, optional
            Smooth before downsampling; by default if an axis shrinks and `order` is not 0.
        output_dtype : dtype, optional
            By default that of the image; integers are rounded.

        Raises
        ------
        TypeError
            If the image is complex.
        OverflowError
            On computing, if integers beyond 2**53 must be interpolated; with ``order=0`` they are not changed.
        """
        if (scale is None) == (spacing is None):
            raise ValueError(f"scale={scale!r} and spacing={spacing!r}: give one of them")
        integer("order", order, 0)
        choice("order", order, range(6))
        choice("anti_aliasing", anti_aliasing, (None, True, False))
        output_dtype = None if output_dtype is None else data_type("output_dtype", output_dtype, "biuf")
        skimage_for("rescale")

        def change(array: xr.DataArray) -> xr.DataArray:
            real("rescale", array)
            sized(array)
            given = spacing if scale is None else scale
            axes = spatial_axes(array) if isinstance(given, Mapping) else space(array)
            if scale is not None:
                scales = per_axis("scale", scale, axes, 1.0, lambda n, v: number(n, v, 0, above=True))
            else:
                steps = pixels("spacing", spacing, array, axes, units="physical", absent=1.0, whole=False)
                scales = {a: 1 / number(f"spacing[{a!r}]", n, 0, above=True) for a, n in steps.items()}
            masked = array.dtype == bool and np.dtype(output_dtype or bool) == bool
            how = (0, False) if masked or is_categorical(array) else (order, anti_aliasing)
            return rescaled(array, scales, *how, output_dtype)

        if isinstance(self._obj, xr.DataArray):
            return change(self._obj)
        ds = self._obj
        return joined(
            ds, {n: v if is_categorical(v) and not spatial_axes(v) else change(v) for n, v in gridded(ds).items()}
        )

    def normalize(
        self,
        p_min: float = 0.1,
        p_max: float = 99.9,
        *,
        by: str | Sequence[str] | None = ("c",),
        limits: tuple[float, float] | None = None,
        clip: bool = True,
        output_dtype: DTypeLike = np.float32,
    ) -> Any:
        """Rescale intensities so that two percentiles become 0 and 1.

        Percentiles are exact, equal to `numpy.percentile`, and computed out of core: only counts of each chunk are in
        memory. The image is read once (8 and 16 bits), twice (32 bits) or four times (64 bits) for them, and once more
        for the result. A constant channel becomes 0.

        Percentiles ignore NaN and infinities. NaN stays NaN; infinities stay infinite, or become 0 and 1 with `clip`.

        Parameters
        ----------
        p_min, p_max : float
            Percentiles, 0 to 100.
        by : str or sequence of str, optional
            Axes along which each position has its own percentiles; by default each channel. None: one pair for all.
        limits : (low, high), optional
            Values to use instead of percentiles.
        clip : bool
            Whether to clip the result to 0 and 1.
        output_dtype : dtype
            float32 or float64.

        Raises
        ------
        OverflowError
            On computing, if percentiles of integers beyond 2**53 differ by less than 2**20 steps of float64.
        """
        low, high = number("p_min", p_min, 0, 100), number("p_max", p_max, 0, 100)
        if low >= high:
            raise ValueError(f"p_min={p_min!r}, p_max={p_max!r}: the first must be less than the second")
        dtype = data_type("output_dtype", output_dtype, "f")
        flag("clip", clip)
        if limits is not None:
            if isinstance(limits, str) or np.shape(limits) != (2,):
                raise ValueError(f"limits={limits!r}: expected (low, high)")
            limits = number("limits[0]", limits[0]), number("limits[1]", limits[1])
            if not limits[0] < limits[1]:
                raise ValueError(f"limits={limits!r}: the first must be less than the second")
            if (p_min, p_max) != (0.1, 99.9) or by != ("c",):
                raise ValueError(f"limits={limits!r} stand in place of percentiles: leave p_min, p_max and by out")
        axes = () if by is None else axis_names("by", by)
        if by not in (None, ("c",)):
            every = tuple(map(str, self._first.dims))
            if unknown := [a for a in axes if a not in every]:
                raise AxesError(f"by={by!r}: the image has no axis {unknown[0]!r}, it has {spell(every)!r}")
        return each_image(
            self._obj, lambda array: in_units(normalized(array, (low, high), axes, limits, clip, dtype), 0)
        )

    def clip(self, min: float | None = None, max: float | None = None) -> Any:
        """Limit values; the dtype is kept."""
        if min is None and max is None:
            raise ValueError("clip: expected min, max or both")
        low = None if min is None else number("min", min)
        high = None if max is None else number("max", max)
        if low is not None and high is not None and low > high:
            raise ValueError(f"min={min!r} is greater than max={max!r}")

        def change(array: xr.DataArray) -> xr.DataArray:
            real("clip", array)
            bounds = held(low, array.dtype, math.ceil), held(high, array.dtype, math.floor)
            if is_held(array):
                return with_data(array, clipped(array.values, *bounds))
            data: Any = lazy(array)
            return with_data(array, data.map_blocks(clipped, *bounds, dtype=array.dtype, meta=data._meta))

        return each_image(self._obj, change)

    def enhance_contrast(self, clip_limit: float = 0.01, kernel_size: Numbers | None = None, nbins: int = 256) -> Any:
        """Equalize the histogram locally (CLAHE). Powered by `skimage.exposure.equalize_adapthist`.

        Parameters
        ----------
        clip_limit : float
            0 to 1; higher values give more contrast.
        kernel_size : int, sequence or mapping, optional
            Size of the regions of the histograms, in pixels or with a unit; by default an eighth of the plane.
        nbins : int
            Bins of the histograms.

        Returns
        -------
        xarray.Dataset or xarray.DataArray of float32
            From 0 to 1. Complete planes are equalized, one by one.
        """
        number("clip_limit", clip_limit, 0, 1)
        integer("nbins", nbins, 2)
        skimage_for("enhance_contrast")

        def change(array: xr.DataArray) -> xr.DataArray:
            real("enhance_contrast", array)
            axes = tuple(d for d in space(array) if d in ("y", "x")) or space(array)
            kernel = None
            if kernel_size is not None:
                sizes = pixels("kernel_size", kernel_size, array, axes, units="pixel", absent=1, whole=True)
                kernel = tuple(integer("kernel_size", n, 1) for n in sizes.values())
            func = partial(equalize, clip_limit=clip_limit, kernel_size=kernel, nbins=nbins)
            return in_units(whole_images(array, func, axes, np.dtype("f4"), "enhance_contrast"), 0)

        return each_image(self._obj, change)

    def rolling_ball(
        self, radius: float = 50, *, units: Units = "pixel", dims: str | Sequence[str] | None = None
    ) -> Any:
        """Estimate the background with a rolling ball. Powered by `skimage.restoration.rolling_ball`.

        Parameters
        ----------
        radius : float, str or quantity
            Radius of the ball, in pixels along ``x``, or as a length.
        units : {"pixel", "physical"}
        dims : str, optional
            The axes of the ball; by default all spatial axes.
        """
        skimage_for("rolling_ball")
        if isinstance(radius, Mapping) or (np.ndim(radius) and not isinstance(radius, str)):  # type: ignore[arg-type]
            raise TypeError(f"radius={radius!r}: expected one number, or one number with its unit, such as '3 µm'")

        def change(array: xr.DataArray) -> xr.DataArray:
            real("rolling_ball", array)
            axes = neighbourhood(array, dims)
            found = pixels("radius", radius, array, axes[-1:], units=units, absent=0, whole=False)
            r = number("radius", found[axes[-1]], 0, above=True)
            reach = int(np.ceil(r))
            places = [array.get_axis_num(a) for a in axes]
            each = EachImage(partial(rolling_ball, radius=r), places, array.dtype)
            data = halo(
                chunked(array), each, dict.fromkeys(places, (reach, reach)), dtype=array.dtype, name="rolling_ball"
            )
            return with_data(array, data)

        return each_image(self._obj, change)

    def subtract_background(
        self, radius: float = 50, *, units: Units = "pixel", dims: str | Sequence[str] | None = None
    ) -> Any:
        """Subtract the background that `rolling_ball` estimates; the dtype is kept, and results are at least 0."""

        def change(array: xr.DataArray) -> xr.DataArray:
            if array.dtype == bool:
                raise TypeError("subtract_background: the image has dtype bool; expected integers or floats")
            background = array.img.rolling_ball(radius, units=units, dims=dims)
            if background.chunks is None:
                return with_data(array, array.values - background.values)
            return with_data(array, lazy(array).rechunk(background.chunks) - background.data)

        return each_image(self._obj, change)


# pyramids


# resampling


# brightness
