"""Filters of ``ds.img``: those of `scipy.ndimage`, lazy, by axis name, and the same for every chunking.

How far each filter looks is known here; `intake_img.accessor.processing.engine` makes an exact halo of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, data_type, integer, named, neighbourhood, number, per_axis
from intake_img.accessor.lengths import pixels
from intake_img.accessor.processing.engine import halo, merged
from intake_img.accessor.variables import each_image, lazy, with_data
from intake_img.kernels import filters as kernels
from intake_img.kernels.images import EachImage
from intake_img.kernels.order import FILTERS as ORDERED

__all__ = ["MODES", "Filters"]

MODES = {"reflect": "reflect", "mirror": "mirror", "nearest": "nearest", "constant": "constant", "wrap": "wrap",
         "grid-mirror": "reflect", "grid-constant": "constant", "grid-wrap": "wrap"}  # fmt: skip
"""Names of scipy for what lies beyond the edge, and which of them mean the same."""

TWICE = ("grey_opening", "grey_closing", "white_tophat", "black_tophat")
"""Filters that pass over the image twice."""

PIXELWISE = ("convolve", "correlate", *ORDERED)
"""Filters that do not go along columns."""

LARGE = 24
"""Pixels around one from which on a window is large."""
ROOM = 2**26
"""Bytes of the largest piece of an image that chunks are merged to."""

Depth = dict[str, tuple[int, int]]
Filter = Callable[..., Any]
Build = Callable[[xr.DataArray, tuple[str, ...]], tuple[Filter, Depth]]


class Filters:
    """Filters of images; see each method.

    All of them act on the spatial axes ``z y x`` that are present, image by image: nothing passes from one ``t``, ``i``
    or ``c`` to another. A length may be one number for all axes, one for each in the order ``z y x``, or a mapping by
    name, where axes that are not named are left alone (``{"y": 3, "x": 3}``: plane by plane); so does ``dims="yx"``.
    It is in pixels, with ``units="physical"`` in the common unit of the image (see `intake_img.accessor.lengths`); what
    says its own unit (``"300 nm"``, a quantity of pint or astropy) is read in that unit in any case.
    The result is lazy, has the dtype of the image (scipy's integers are truncated after each axis) unless
    `output_dtype` is given, and is bit for bit the same for every chunking. It has one task for each chunk. Chunks
    smaller than the halo are merged; those of large windows are merged until most of what is filtered is kept.

    What scipy computes in float64 does not hold integers beyond 2**53. Filters that pick values (medians, ranks,
    extrema) and means of boxes of integers are exact there nevertheless; others agree with scipy, which rounds.
    Results that the dtype does not hold wrap around as in scipy: give `output_dtype`. Complex images are filtered in
    their real and imaginary parts, by the filters that are linear.
    """

    _obj: Any

    def gaussian_filter(self, sigma: Any = 2, order: Any = 0, *, mode: str = "reflect", cval: float = 0.0,
                        truncate: float = 4.0, radius: Any = None, units: str = "pixel",
                        dims: str | Sequence[str] | None = None, output_dtype: Any = None) -> Any:  # fmt: skip
        """Smooth with a Gaussian, or take derivatives of the smoothed image. Powered by
        `scipy.ndimage.gaussian_filter`.

        Parameters
        ----------
        sigma : float, sequence or mapping
            Standard deviation; 0 leaves an axis alone, its order included.
        order : int, sequence or mapping
            0 smooths, 1 is the first derivative along an axis, and so on. A number takes the derivative along *every*
            axis:             for a gradient along x alone, give ``{"x": 1}``.
        mode : str
            What lies beyond the edge, in scipy's words: ``reflect``, ``mirror``, ``nearest``, ``constant``, ``wrap``.
        cval : float
            The value beyond the edge for ``constant``.
        truncate : float
            Where the kernel ends, in standard deviations.
        radius : int, sequence or mapping, optional
            Where the kernel ends, in pixels, instead of `truncate`.
        units : {"pixel", "physical"}
            What a bare number of `sigma` is: pixels, or a length in the common unit, that of ``x``.
        dims : str, optional
            The spatial axes to filter along; by default all.
        output_dtype : dtype, optional
            Of the result; ``float`` escapes the truncation of integers.

        Returns
        -------
        xarray.Dataset or xarray.DataArray
            With float data as `scipy.ndimage.gaussian_filter` of each whole image, bit for bit.

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
            radii = None if radius is None else pixels(
                "radius", radius, array, axes, units="pixel", absent=None, whole=True)  # fmt: skip
            options = {"truncate": truncate} if radii is None else {"radius": [radii[a] for a in axes]}
            func = _call("gaussian_filter", sigma=[sigmas[a] for a in axes], order=[orders[a] for a in axes], **options)
            return func, _gaussian_depth(sigmas, truncate, radii)

        number("truncate", truncate, 0)
        return _filtered(self._obj, "gaussian_filter", build, mode, cval, named(dims, "sigma", sigma), output_dtype)

    def median_filter(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                      origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                      output_dtype: Any = None) -> Any:  # fmt: skip
        """Take the median of a box. Powered by `scipy.ndimage.median_filter`.

        Of an even number of values the upper one of the two in the middle is taken, never an average. Where there is
        NaN the order is undefined.

        Parameters
        ----------
        size : int, sequence or mapping
            Of the box; 0 and 1 leave an axis alone. An even box reaches further to lower indices.
        footprint : array of bool, optional
            The shape to take instead of a box, with one axis for each spatial axis (see `dims`).
        mode, cval, units, dims, output_dtype
            See `gaussian_filter`.
        origin : int, sequence or mapping
            Moves the box to lower indices.
        """
        return _windowed(self._obj, "median_filter", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def uniform_filter(self, size: Any = 2, *, mode: str = "reflect", cval: float = 0.0, origin: Any = 0,
                       units: str = "pixel", dims: str | Sequence[str] | None = None, output_dtype: Any = None,
                       ) -> Any:  # fmt: skip
        """Take the mean of a box. Integers as `scipy.ndimage.uniform_filter`, floats summed window by window.

        scipy's running sum carries a NaN, and rounding errors, to pixels whose box is clean. Here one NaN spoils only
        the pixels whose box holds it; without NaN the results agree to a few units in the last place.

        Parameters
        ----------
        size : int, sequence or mapping
            Of the box; 0 and 1 leave an axis alone.
        mode, cval, origin, units, dims, output_dtype
            See `median_filter`.
        """
        return _windowed(self._obj, "uniform_filter", size, None, mode, cval, origin, units, dims, output_dtype)

    def maximum_filter(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                       origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                       output_dtype: Any = None) -> Any:  # fmt: skip
        """Take the maximum of a box or footprint. Powered by `scipy.ndimage.maximum_filter`; see `median_filter`."""
        return _windowed(self._obj, "maximum_filter", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def minimum_filter(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                       origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                       output_dtype: Any = None) -> Any:  # fmt: skip
        """Take the minimum of a box or footprint. Powered by `scipy.ndimage.minimum_filter`; see `median_filter`."""
        return _windowed(self._obj, "minimum_filter", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def percentile_filter(self, percentile: float, size: Any = 2, *, footprint: Any = None, mode: str = "reflect",
                          cval: float = 0.0, origin: Any = 0, units: str = "pixel",
                          dims: str | Sequence[str] | None = None, output_dtype: Any = None) -> Any:  # fmt: skip
        """Take a percentile (-100 to 100) of a box or footprint. Powered by `scipy.ndimage.percentile_filter`."""
        number("percentile", percentile, -100, 100)
        return _windowed(self._obj, "percentile_filter", size, footprint, mode, cval, origin, units, dims, output_dtype,
                         percentile=float(percentile))  # fmt: skip

    def rank_filter(self, rank: int, size: Any = 2, *, footprint: Any = None, mode: str = "reflect",
                    cval: float = 0.0, origin: Any = 0, units: str = "pixel",
                    dims: str | Sequence[str] | None = None, output_dtype: Any = None) -> Any:  # fmt: skip
        """Take the value of a rank (0 the least, -1 the greatest) of a box. Powered by `scipy.ndimage.rank_filter`."""
        return _windowed(self._obj, "rank_filter", size, footprint, mode, cval, origin, units, dims, output_dtype,
                         rank=integer("rank", rank))  # fmt: skip

    def grey_erosion(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                     origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                     output_dtype: Any = None) -> Any:  # fmt: skip
        """Erode. Powered by `scipy.ndimage.grey_erosion`; see `median_filter` for the parameters."""
        return _windowed(self._obj, "grey_erosion", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def grey_dilation(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                      origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                      output_dtype: Any = None) -> Any:  # fmt: skip
        """Dilate. Powered by `scipy.ndimage.grey_dilation`; see `median_filter` for the parameters."""
        return _windowed(self._obj, "grey_dilation", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def grey_opening(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                     origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                     output_dtype: Any = None) -> Any:  # fmt: skip
        """Erode, then dilate. Powered by `scipy.ndimage.grey_opening`; see `median_filter` for the parameters."""
        return _windowed(self._obj, "grey_opening", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def grey_closing(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                     origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                     output_dtype: Any = None) -> Any:  # fmt: skip
        """Dilate, then erode. Powered by `scipy.ndimage.grey_closing`; see `median_filter` for the parameters."""
        return _windowed(self._obj, "grey_closing", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def white_tophat(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                     origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                     output_dtype: Any = None) -> Any:  # fmt: skip
        """Subtract the opening: what is bright and smaller than the box. Powered by `scipy.ndimage.white_tophat`."""
        return _windowed(self._obj, "white_tophat", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def black_tophat(self, size: Any = 2, *, footprint: Any = None, mode: str = "reflect", cval: float = 0.0,
                     origin: Any = 0, units: str = "pixel", dims: str | Sequence[str] | None = None,
                     output_dtype: Any = None) -> Any:  # fmt: skip
        """Subtract from the closing: what is dark and smaller than the box. Powered by `scipy.ndimage.black_tophat`."""
        return _windowed(self._obj, "black_tophat", size, footprint, mode, cval, origin, units, dims, output_dtype)

    def laplace(self, *, mode: str = "reflect", cval: float = 0.0, dims: str | Sequence[str] | None = None,
                output_dtype: Any = None) -> Any:  # fmt: skip
        """Sum the second differences along all axes. Powered by `scipy.ndimage.laplace`."""

        def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
            return _call("laplace"), dict.fromkeys(axes, (1, 1))

        return _filtered(self._obj, "laplace", build, mode, cval, dims, output_dtype)

    def gaussian_laplace(self, sigma: Any = 2, *, mode: str = "reflect", cval: float = 0.0, truncate: float = 4.0,
                         units: str = "pixel", dims: str | Sequence[str] | None = None, output_dtype: Any = None,
                         ) -> Any:  # fmt: skip
        """Sum the second Gaussian derivatives. Powered by `scipy.ndimage.gaussian_laplace`; see `gaussian_filter`."""
        return _derived(self._obj, "gaussian_laplace", sigma, mode, cval, truncate, units, dims, output_dtype)

    def gaussian_gradient_magnitude(self, sigma: Any = 2, *, mode: str = "reflect", cval: float = 0.0,
                                    truncate: float = 4.0, units: str = "pixel",
                                    dims: str | Sequence[str] | None = None, output_dtype: Any = None,
                                    ) -> Any:  # fmt: skip
        """Length of the Gaussian gradient; see `gaussian_filter`. Powered by scipy's `gaussian_gradient_magnitude`."""
        return _derived(
            self._obj, "gaussian_gradient_magnitude", sigma, mode, cval, truncate, units, dims, output_dtype
        )

    def sobel(self, axis: str = "x", *, mode: str = "reflect", cval: float = 0.0,
              dims: str | Sequence[str] | None = None, output_dtype: Any = None) -> Any:  # fmt: skip
        """Sobel's derivative along an axis, smoothed along the others. Powered by `scipy.ndimage.sobel`."""
        return _edges(self._obj, "sobel", axis, mode, cval, dims, output_dtype)

    def prewitt(self, axis: str = "x", *, mode: str = "reflect", cval: float = 0.0,
                dims: str | Sequence[str] | None = None, output_dtype: Any = None) -> Any:  # fmt: skip
        """Prewitt's derivative along an axis, smoothed along the others. Powered by `scipy.ndimage.prewitt`."""
        return _edges(self._obj, "prewitt", axis, mode, cval, dims, output_dtype)

    def correlate(self, weights: Any, *, mode: str = "reflect", cval: float = 0.0, origin: Any = 0,
                  dims: str | Sequence[str] | None = None, output_dtype: Any = None) -> Any:  # fmt: skip
        """Correlate with weights. Powered by `scipy.ndimage.correlate`.

        Parameters
        ----------
        weights : array
            With one axis for each spatial axis, or for each of `dims`.
        mode, cval, origin, dims, output_dtype
            See `median_filter`.
        """
        return _weighted(self._obj, "correlate", weights, mode, cval, origin, dims, output_dtype)

    def convolve(self, weights: Any, *, mode: str = "reflect", cval: float = 0.0, origin: Any = 0,
                 dims: str | Sequence[str] | None = None, output_dtype: Any = None) -> Any:  # fmt: skip
        """Convolve with weights. Powered by `scipy.ndimage.convolve`; see `correlate` for the parameters."""
        return _weighted(self._obj, "convolve", weights, mode, cval, origin, dims, output_dtype)

    def threshold_local(self, block_size: Any = 3, method: str = "gaussian", *, offset: float = 0.0, sigma: Any = None,
                        mode: str = "reflect", cval: float = 0.0, dims: str | Sequence[str] | None = None,
                        ) -> Any:  # fmt: skip
        """Return the local threshold of each pixel, as `skimage.filters.threshold_local` does.

        Compare the image with it for a mask: ``image > image.img.threshold_local(51)``.

        Parameters
        ----------
        block_size : int, sequence or mapping
            Odd size of the neighbourhood in pixels; or a length with its unit, which becomes the nearest odd number.
        method : {"gaussian", "mean", "median"}
        offset : float
            Subtracted from the threshold.
        sigma : float, sequence or mapping, optional
            For ``gaussian``, in pixels or with a unit; by default ``(block_size - 1) / 6``.
        mode, cval, dims
            See `gaussian_filter`.
        """
        choice("method", method, ("gaussian", "mean", "median"))
        number("offset", offset)
        if sigma is not None and method != "gaussian":
            raise ValueError(f"sigma={sigma!r} is for method='gaussian', not {method!r}")

        def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
            sizes = pixels("block_size", block_size, array, axes, units="pixel", absent=1, whole=True,
                           rounding="odd")  # fmt: skip
            if even := [a for a in axes if sizes[a] % 2 == 0]:
                raise ValueError(
                    f"block_size={block_size!r}: expected odd numbers, but {even[0]!r} has {sizes[even[0]]}"
                )
            sigmas = {a: (sizes[a] - 1) / 6 for a in axes} if sigma is None else pixels(
                "sigma", sigma, array, axes, units="pixel", absent=0.0, whole=False)  # fmt: skip
            func = partial(kernels.threshold_local, method=method, size=[sizes[a] for a in axes],
                           sigma=[sigmas[a] for a in axes], offset=float(offset))  # fmt: skip
            return func, _gaussian_depth(sigmas) if method == "gaussian" else {a: window_of(sizes[a], 0) for a in axes}

        dtype = {np.dtype("f4"): np.dtype("f4")}
        return _filtered(self._obj, "threshold_local", build, mode, cval, named(dims, "block_size", block_size),
                         lambda d: dtype.get(d, np.dtype("f8")))  # fmt: skip


# how far filters look


def window_of(size: int, origin: int) -> tuple[int, int]:
    """How far a window reaches before and after a pixel; as scipy places it."""
    before = size // 2 + origin
    return before, size - 1 - before


def _gaussian_depth(
    sigmas: Mapping[str, float], truncate: float = 4.0, radii: Mapping[str, int | None] | None = None
) -> Depth:
    depth = {}
    for axis, sigma in sigmas.items():
        given = radii[axis] if radii is not None else None
        r = int(truncate * sigma + 0.5) if given is None else given
        depth[axis] = (r, r) if sigma > 1e-15 else (0, 0)  # scipy skips such an axis
    return depth


def _placed(origin: Any, axes: Sequence[str], sizes: Mapping[str, int]) -> dict[str, int]:
    origins = per_axis("origin", origin, axes, 0, integer)
    for a in axes:
        low, high = -(sizes[a] // 2), sizes[a] - 1 - sizes[a] // 2
        if origins[a] and not low <= origins[a] <= high:
            raise ValueError(f"origin={origin!r}: along {a!r}, of size {sizes[a]}, expected {low} to {high}")
    return origins


# the kinds of filters


def _windowed(obj: Any, name: str, size: Any, footprint: Any, mode: str, cval: float, origin: Any, units: str,
              dims: Any, output_dtype: Any, **options: Any) -> Any:  # fmt: skip
    """A filter over a box or footprint."""

    def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
        window: dict[str, Any]
        if footprint is not None:
            shape = _shaped("footprint", footprint, axes, bool)
            if not shape.any():
                raise ValueError("footprint has no element that is true")
            if size not in (2, None):
                raise ValueError(f"size={size!r} and footprint: give one of them")
            sizes, window = dict(zip(axes, shape.shape, strict=True)), {"footprint": shape}
        else:
            found = pixels("size", size, array, axes, units=units, absent=1, whole=True)
            sizes = {a: max(1, n) for a, n in found.items()}
            window = {"size": [sizes[a] for a in axes]}
        origins = _placed(origin, axes, sizes)
        if name == "rank_filter":
            n = int(shape.sum()) if footprint is not None else int(np.prod(list(sizes.values())))
            if not -n <= options["rank"] < n:
                raise ValueError(f"rank={options['rank']}: the neighbourhood has {n} pixels, expected {-n} to {n - 1}")
        func = _call(name, **window, origin=[origins[a] for a in axes], **options)
        if name in TWICE:  # and the window mirrored
            return func, {a: (sizes[a] - 1, sizes[a] - 1) for a in axes}
        if name == "grey_dilation":
            return func, {a: window_of(sizes[a], origins[a])[::-1] for a in axes}
        return func, {a: window_of(sizes[a], origins[a]) for a in axes}

    return _filtered(obj, name, build, mode, cval, named(dims, "size", size), output_dtype)


def _derived(obj: Any, name: str, sigma: Any, mode: str, cval: float, truncate: float, units: str, dims: Any,
             output_dtype: Any) -> Any:  # fmt: skip
    number("truncate", truncate, 0)

    def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
        sigmas = pixels("sigma", sigma, array, axes, units=units, absent=0.0, whole=False)
        return _call(name, sigma=[sigmas[a] for a in axes], truncate=truncate), _gaussian_depth(sigmas, truncate)

    return _filtered(obj, name, build, mode, cval, named(dims, "sigma", sigma), output_dtype)


def _edges(obj: Any, name: str, axis: str, mode: str, cval: float, dims: Any, output_dtype: Any) -> Any:
    def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
        return _call(name, axis=axes.index(choice("axis", axis, axes))), dict.fromkeys(axes, (1, 1))

    return _filtered(obj, name, build, mode, cval, dims, output_dtype)


def _weighted(
    obj: Any, name: str, weights: Any, mode: str, cval: float, origin: Any, dims: Any, output_dtype: Any
) -> Any:
    def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
        kernel = _shaped("weights", weights, axes, np.float64)
        sizes = dict(zip(axes, kernel.shape, strict=True))
        origins = per_axis("origin", origin, axes, 0, integer)
        # scipy convolves by correlating with mirrored weights
        placed = origins if name == "correlate" else {a: -o - (sizes[a] % 2 == 0) for a, o in origins.items()}
        for a, o in placed.items():
            if not 0 <= sizes[a] // 2 + o < sizes[a]:
                raise ValueError(f"origin={origin!r} moves weights of size {sizes[a]} along {a!r} beyond their pixel")
        func = _call(name, weights=kernel, origin=[origins[a] for a in axes])
        return func, {a: window_of(sizes[a], placed[a]) for a in axes}

    return _filtered(obj, name, build, mode, cval, dims, output_dtype)


def _shaped(name: str, values: Any, axes: Sequence[str], dtype: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
        array = array.astype(dtype) if array.dtype.kind in "biuf" else np.empty((0, *array.shape))
    except ValueError:  # ragged
        array = np.empty(0)
    if array.ndim != len(axes) or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape} and holds {np.asarray(values).dtype if array.size else 'no numbers'}: "
            f"expected numbers with one axis for each of {', '.join(map(repr, axes))} "
            "(choose the axes with dims=, e.g. dims='yx')"
        )
    return array


def _call(name: str, **options: Any) -> Filter:
    own: dict[str, Filter] = {"uniform_filter": kernels.uniform_filter, **ORDERED}
    return partial(own[name], **options) if name in own else partial(kernels.scipy_filter, name=name, **options)


def _checked(name: str, dtype: np.dtype, output: np.dtype) -> None:
    """Raise if scipy does not filter such images."""
    for what, d in (("image has", dtype), ("output_dtype is", output)):
        plain = d.kind in "biu" or d in (np.float32, np.float64)
        if not plain and not (d in (np.complex64, np.complex128) and name in kernels.LINEAR):
            advice = (
                "filter a part or the magnitude: image.real, image.imag, abs(image)" if d.kind == "c" else
                "convert it with .astype('float32') (or float64)"
            )  # fmt: skip
            raise TypeError(f"{name}: the {what} dtype {d}; expected bool, integers, float32 or float64; {advice}")
    if (dtype.kind == "c") != (output.kind == "c"):
        raise TypeError(f"{name}: output_dtype={output} for an image of {dtype}: expected both complex, or neither")


def _least(data: Any, depth: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Return how long chunks should be for a large window, so that what is filtered is mostly kept."""
    large = {k: sum(d) for k, d in depth.items() if sum(d) >= LARGE}
    rest = math.prod(max(c, default=1) for k, c in enumerate(data.chunks) if k not in large) * data.dtype.itemsize
    for times in (4, 3, 2, 1):
        if rest * math.prod((times + 1) * n for n in large.values()) <= ROOM:
            return {k: max(times * n, *depth[k]) for k, n in large.items()}
    return {}


def _filtered(obj: Any, name: str, build: Build, mode: str, cval: float, dims: Any, output_dtype: Any) -> Any:
    known = MODES[choice("mode", mode, tuple(MODES))]
    value = number("cval", cval)
    if value and known != "constant":
        raise ValueError(f"cval={cval!r} is for mode='constant'; mode={mode!r} does not use it")

    def change(array: xr.DataArray) -> xr.DataArray:
        axes = neighbourhood(array, dims)
        if output_dtype is None:
            dtype = array.dtype
        elif callable(output_dtype) and not isinstance(output_dtype, type):
            dtype = np.dtype(output_dtype(array.dtype))
        else:
            dtype = data_type("output_dtype", output_dtype, "biufc")
        _checked(name, array.dtype, dtype)
        func, depth = build(array, axes)
        if array.dtype.kind == "c":
            func = partial(kernels.by_parts, func=func)
        places = [array.get_axis_num(a) for a in axes]
        each = EachImage(partial(func, mode=known, cval=value), places, dtype, roomy=name not in PIXELWISE)
        edge = "wrap" if known == "wrap" else "own"
        far = {array.get_axis_num(a): d for a, d in depth.items()}
        data: Any = lazy(array)
        data = data.rechunk({k: merged(data.chunks[k], n) for k, n in _least(data, far).items()})
        data = halo(data, each, far, edge=edge, passes=1 + (name in TWICE), dtype=dtype, name=name)
        return with_data(array, data)

    return each_image(obj, change)
