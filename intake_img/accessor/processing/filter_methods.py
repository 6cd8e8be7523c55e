"""Filters of ``ds.img``: the filters of `scipy.ndimage`, lazy, by axis name, with the same result for any chunks.

This module knows the extent of each filter; `intake_img.accessor.processing.halo` makes an exact halo of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike

from intake_img.accessor.arguments import integer, named, number, per_axis
from intake_img.accessor.lengths import pixels
from intake_img.accessor.processing.filtering import (
    Depth,
    Filter,
    call,
    derivatives,
    edges_along,
    filtered,
    gaussian_depth,
    weighted,
    windowed,
)
from intake_img.model.typed import Border, DTypeLike, Engine, Footprint, Lengths, Numbers, Offsets, Units

__all__ = ["Filters"]


class Filters:
    """Filters of images; see each method.

    All filters act on the spatial axes ``z y x`` of the image, and process each ``t``, ``i`` and ``c`` separately. A
    length may be one number for all axes, one for each in the order ``z y x``, or a mapping by name; axes that it does
    not name are not filtered (``{"y": 3, "x": 3}``: plane by plane, like ``dims="yx"``). It is in pixels, or with
    ``units="physical"`` in the common unit of the image (see `intake_img.accessor.lengths`); a length with a unit
    (``"300 nm"``, a quantity of pint or astropy) is always read in that unit. The result is lazy; of an image in
    memory it is computed immediately. It has the dtype of the image (scipy's integers are truncated after each axis)
    unless `output_dtype` is given, and is bit for bit the same for every chunking. It has one task for each chunk.
    Chunks smaller than the halo are merged; for large windows they are merged until the halo is a small share of the
    work.

    scipy computes in float64, which cannot represent all integers beyond 2**53. Filters that select values (medians,
    ranks, extrema) and box means of integers are exact nevertheless; other filters round as in scipy. With the extra
    ``fast`` OpenCV computes medians, extrema and box means of planes of 8 and 16 bits, and medians and extrema of
    float32, wherever its results are bit-identical. Results outside of the range of the dtype wrap around as in scipy:
    give `output_dtype`. Linear filters process complex images by their real and imaginary parts.
    """

    _obj: Any

    def gaussian_filter(
        self,
        sigma: Lengths = 2,
        order: Numbers = 0,
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        truncate: float = 4.0,
        radius: Numbers | None = None,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
        engine: Engine = "scipy",
    ) -> Any:
        """Smooth with a Gaussian, or take derivatives of the smoothed image. Powered by
        `scipy.ndimage.gaussian_filter`.

        Parameters
        ----------
        sigma : float, sequence or mapping
            Standard deviation; an axis with 0 is not filtered, whatever its order.
        order : int, sequence or mapping
            0 smooths, 1 is the first derivative along an axis, and so on. A number takes the derivative along *every*
            axis:             for a gradient along x alone, give ``{"x": 1}``.
        mode : str
            The extension beyond the edge, as in scipy: ``reflect``, ``mirror``, ``nearest``, ``constant``, ``wrap``.
        cval : float
            The value beyond the edge for ``constant``.
        truncate : float
            Radius of the kernel in standard deviations.
        radius : int, sequence or mapping, optional
            Radius of the kernel in pixels, instead of `truncate`.
        units : {"pixel", "physical"}
            Whether a bare `sigma` is in pixels, or a length in the common unit, that of ``x``.
        dims : str, optional
            The spatial axes to filter along; by default all.
        output_dtype : dtype, optional
            Dtype of the result; ``float`` avoids the truncation of integers.
        engine : {"scipy", "opencv"}
            ``"opencv"`` (the extra ``fast``) filters planes of 8 and 16 bits, float32 and float64 several times as
            fast, in float32 unless the image is float64. With n taps (of the kernels of all axes together) its results
            differ from scipy's by at most ``n * 2**-22`` of the largest value in the window; integers are truncated
            once instead of after each axis, and are up to 2 greater, or 1 less. The last bits may depend on the chunks.

        Raises
        ------
        MissingExtraError, ValueError
            If ``engine="opencv"`` is not installed, or does not support the case.

        Returns
        -------
        xarray.Dataset or xarray.DataArray
            For float data equal to `scipy.ndimage.gaussian_filter` of each complete image, bit for bit.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.eye(5), dims=["y", "x"])
        >>> float(image.img.gaussian_filter(1)[2, 2].round(3))
        0.283
        """

        if radius is not None and truncate != 4.0:
            raise ValueError(f"truncate={truncate!r} and radius={radius!r}: give one of them")

        def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
            sigmas = pixels("sigma", sigma, array, axes, units=units, absent=0.0, whole=False)
            orders = per_axis("order", order, axes, 0, lambda n, v: integer(n, v, 0))
            radii = (
                None
                if radius is None
                else pixels("radius", radius, array, axes, units="pixel", absent=None, whole=True)
            )
            options = {"truncate": truncate} if radii is None else {"radius": [radii[a] for a in axes]}
            func = call("gaussian_filter", sigma=[sigmas[a] for a in axes], order=[orders[a] for a in axes], **options)
            return func, gaussian_depth(sigmas, truncate, radii)

        number("truncate", truncate, 0)
        axes = named(dims, "sigma", sigma)
        return filtered(self._obj, "gaussian_filter", build, mode, cval, axes, output_dtype, engine)

    def median_filter(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Take the median of a box. Powered by `scipy.ndimage.median_filter`.

        The median of an even number of values is the upper one of the two in the middle, never an average. The result
        near NaN is undefined.

        Parameters
        ----------
        size : int, sequence or mapping
            Size of the box; an axis with 0 or 1 is not filtered. An even box extends further to lower indices.
        footprint : array of bool, optional
            A shape instead of a box, with one axis for each spatial axis (see `dims`).
        mode, cval, units, dims, output_dtype
            See `gaussian_filter`.
        origin : int, sequence or mapping
            Moves the box to lower indices.
        """
        return windowed(self._obj, "median_filter", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def uniform_filter(
        self,
        size: Lengths = 2,
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
        engine: Engine = "scipy",
    ) -> Any:
        """Take the mean of a box. Integers as `scipy.ndimage.uniform_filter`, floats summed window by window.

        scipy's running sum spreads a NaN, and rounding errors, to pixels whose box does not contain it. Here a NaN
        affects only the pixels whose box contains it; without NaN the results agree to a few units in the last place.

        Parameters
        ----------
        size : int, sequence or mapping
            Of the box; 0 and 1 leave an axis alone.
        mode, cval, origin, units, dims, output_dtype
            See `median_filter`.
        engine : {"scipy", "opencv"}
            See `gaussian_filter`; the difference refers to the largest value of the image, because OpenCV's sum runs
            along the columns. Means of unsigned integers are rounded, not truncated. Boxes with infinities or NaN are
            always summed window by window.
        """
        return windowed(self._obj, "uniform_filter", size, None, mode, cval, origin, units, dims, output_dtype, engine)

    def maximum_filter(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Take the maximum of a box or footprint. Powered by `scipy.ndimage.maximum_filter`; see `median_filter`."""
        return windowed(self._obj, "maximum_filter", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def minimum_filter(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Take the minimum of a box or footprint. Powered by `scipy.ndimage.minimum_filter`; see `median_filter`."""
        return windowed(self._obj, "minimum_filter", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def percentile_filter(
        self,
        percentile: float,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Take a percentile (-100 to 100) of a box or footprint. Powered by `scipy.ndimage.percentile_filter`."""
        number("percentile", percentile, -100, 100)
        return windowed(
            self._obj,
            "percentile_filter",
            size,
            footprint,
            mode,
            cval,
            origin,
            units,
            dims,
            output_dtype,
            percentile=float(percentile),
        )

    def rank_filter(
        self,
        rank: int,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Take the value of a rank (0 the smallest, -1 the largest) of a box. Powered by
        `scipy.ndimage.rank_filter`."""
        return windowed(
            self._obj,
            "rank_filter",
            size,
            footprint,
            mode,
            cval,
            origin,
            units,
            dims,
            output_dtype,
            rank=integer("rank", rank),
        )

    def grey_erosion(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Erode. Powered by `scipy.ndimage.grey_erosion`; see `median_filter` for the parameters."""
        return windowed(self._obj, "grey_erosion", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def grey_dilation(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Dilate. Powered by `scipy.ndimage.grey_dilation`; see `median_filter` for the parameters."""
        return windowed(self._obj, "grey_dilation", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def grey_opening(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Erode, then dilate. Powered by `scipy.ndimage.grey_opening`; see `median_filter` for the parameters."""
        return windowed(self._obj, "grey_opening", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def grey_closing(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Dilate, then erode. Powered by `scipy.ndimage.grey_closing`; see `median_filter` for the parameters."""
        return windowed(self._obj, "grey_closing", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def white_tophat(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Subtract the opening: keeps bright spots smaller than the box. Powered by `scipy.ndimage.white_tophat`."""
        return windowed(self._obj, "white_tophat", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def black_tophat(
        self,
        size: Lengths = 2,
        *,
        footprint: Footprint = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Subtract from the closing: keeps dark spots smaller than the box. Powered by `scipy.ndimage.black_tophat`."""
        return windowed(self._obj, "black_tophat", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def laplace(
        self,
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Sum the second differences along all axes. Powered by `scipy.ndimage.laplace`."""

        def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
            return call("laplace"), dict.fromkeys(axes, (1, 1))

        return filtered(self._obj, "laplace", build, mode, cval, dims, output_dtype)

    def gaussian_laplace(
        self,
        sigma: Lengths = 2,
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        truncate: float = 4.0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Sum the second Gaussian derivatives. Powered by `scipy.ndimage.gaussian_laplace`; see `gaussian_filter`."""
        return derivatives(self._obj, "gaussian_laplace", sigma, mode, cval, truncate, units, dims, output_dtype)

    def gaussian_gradient_magnitude(
        self,
        sigma: Lengths = 2,
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        truncate: float = 4.0,
        units: Units = "pixel",
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Length of the Gaussian gradient; see `gaussian_filter`. Powered by scipy's `gaussian_gradient_magnitude`."""
        return derivatives(
            self._obj, "gaussian_gradient_magnitude", sigma, mode, cval, truncate, units, dims, output_dtype
        )

    def sobel(
        self,
        axis: str = "x",
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
        engine: Engine = "scipy",
    ) -> Any:
        """Sobel's derivative along an axis, smoothed along the others. Powered by `scipy.ndimage.sobel`.

        With ``engine="opencv"`` the difference given at `gaussian_filter` refers to the largest value times 8; integers
        need ``output_dtype="float32"``.
        """
        return edges_along(self._obj, "sobel", axis, mode, cval, dims, output_dtype, engine)

    def prewitt(
        self,
        axis: str = "x",
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
    ) -> Any:
        """Prewitt's derivative along an axis, smoothed along the others. Powered by `scipy.ndimage.prewitt`."""
        return edges_along(self._obj, "prewitt", axis, mode, cval, dims, output_dtype)

    def correlate(
        self,
        weights: ArrayLike,
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
        engine: Engine = "scipy",
    ) -> Any:
        """Correlate with weights. Powered by `scipy.ndimage.correlate`.

        Parameters
        ----------
        weights : array
            An array with one axis for each spatial axis, or for each of `dims`.
        mode, cval, origin, dims, output_dtype
            See `median_filter`.
        engine : {"scipy", "opencv"}
            See `gaussian_filter`; the difference refers to the largest value times the sum of the absolute weights.
            Integers need ``output_dtype="float32"``. scipy applies more than 129 weights (float64: 49).
        """
        return weighted(self._obj, "correlate", weights, mode, cval, origin, dims, output_dtype, engine)

    def convolve(
        self,
        weights: ArrayLike,
        *,
        mode: Border = "reflect",
        cval: float = 0.0,
        origin: Offsets = 0,
        dims: str | Sequence[str] | None = None,
        output_dtype: DTypeLike | None = None,
        engine: Engine = "scipy",
    ) -> Any:
        """Convolve with weights. Powered by `scipy.ndimage.convolve`; see `correlate` for the parameters."""
        return weighted(self._obj, "convolve", weights, mode, cval, origin, dims, output_dtype, engine)
