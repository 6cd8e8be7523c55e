"""Size and brightness of ``ds.img``: pyramids, crops, rescaling, normalization, contrast, background."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
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
from intake_img.accessor.processing.crop import as_region, window
from intake_img.accessor.processing.engine import halo, new_array, regrouped
from intake_img.accessor.variables import (
    each_image,
    gridded,
    is_categorical,
    joined,
    lazy,
    sized,
    spatial_axes,
    with_data,
)
from intake_img.errors import AxesError, MissingExtraError
from intake_img.kernels import selection
from intake_img.kernels.images import EachImage
from intake_img.kernels.resample import coarsened, nearest, rounded
from intake_img.model.axes import spell
from intake_img.model.datasets import spacing_of

__all__ = ["Geometry"]


class Geometry:
    """Methods that change size or brightness; see each of them."""

    _obj: Any
    _first: Any

    def pyramid(self, factors: Any = (2, 2), method: str = "mean") -> xr.DataTree:
        """Return a multiscale image: a DataTree with the nodes ``scale0`` (the image itself), ``scale1``, ...

        `imsave` writes it as a pyramid. Every level is made from the one before it; pixels left over at the end of an
        axis are left out, so that a level has ``n // factor`` pixels (at least 1) and begins where the image begins.
        Coordinates are those of the centres of the blocks (``nearest``: of the pixels taken).

        Parameters
        ----------
        factors : sequence of int or mapping
            For each level how many pixels of the one before become one, along all spatial axes or by name.
        method : {"mean", "mode", "nearest"}
            Means of integers are rounded to the nearest, halves to even. Labels and masks are never averaged: where
            images are, they take the most frequent value.
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
            level = _coarser(level, wanted, method)
            levels.append(level)
        return xr.DataTree.from_dict({f"scale{k}": ds for k, ds in enumerate(levels)})

    def crop(self, region: Mapping[str, Any] | None = None, *, coordinate_system: str = "pixel", **limits: Any) -> Any:
        """Cut out a part by axis name: ``crop(x=(10, 20), y=(0, 50))``; labels are cut likewise.

        Parameters
        ----------
        region : mapping of axes to (low, high), optional
            None leaves a side open.
        coordinate_system : {"pixel", "physical"}
            In pixels whole numbers act as in a slice; in physical coordinates both ends belong to the part.
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

    def rescale(self, scale: Any = None, *, spacing: Any = None, order: int = 1, anti_aliasing: bool | None = None,
                output_dtype: Any = None) -> Any:  # fmt: skip
        """Resample to more or fewer pixels. Powered by `skimage.transform.resize`; each image is resampled whole.

        Parameters
        ----------
        scale : float, sequence or mapping
            Pixels of the result for each pixel.
        spacing : float, str, quantity, sequence or mapping
            Or the distance of pixels wanted: in the common unit of the image, that of ``x``, or with a unit of its own.
        order : int
            Of the spline, 0 to 5. Labels are resampled with 0.
        anti_aliasing : bool, optional
            Smooth before making smaller; by default so where an axis shrinks and `order` is not 0.
        output_dtype : dtype, optional
            By default that of the image; integers are rounded.

        Raises
        ------
        TypeError
            If the image is complex.
        OverflowError
            On computing, if integers beyond 2**53 are to be interpolated; with ``order=0`` they are kept as they are.
        """
        if (scale is None) == (spacing is None):
            raise ValueError(f"scale={scale!r} and spacing={spacing!r}: give one of them")
        integer("order", order, 0)
        choice("order", order, range(6))
        choice("anti_aliasing", anti_aliasing, (None, True, False))
        output_dtype = None if output_dtype is None else data_type("output_dtype", output_dtype, "biuf")
        _skimage("rescale")

        def change(array: xr.DataArray) -> xr.DataArray:
            _real("rescale", array)
            sized(array)
            given = spacing if scale is None else scale
            axes = spatial_axes(array) if isinstance(given, Mapping) else space(array)
            if scale is not None:
                scales = per_axis("scale", scale, axes, 1.0, lambda n, v: _positive(n, v))
            else:
                steps = pixels("spacing", spacing, array, axes, units="physical", absent=1.0, whole=False)
                scales = {a: 1 / _positive(f"spacing[{a!r}]", n) for a, n in steps.items()}
            exact = not is_categorical(array) and order > 0
            return _rescaled(array, scales, order if exact else 0, anti_aliasing if exact else False, output_dtype)

        if isinstance(self._obj, xr.DataArray):
            return change(self._obj)
        ds = self._obj
        return joined(
            ds, {n: v if is_categorical(v) and not spatial_axes(v) else change(v) for n, v in gridded(ds).items()}
        )

    def normalize(self, p_min: float = 0.1, p_max: float = 99.9, *, by: str | Sequence[str] | None = ("c",),
                  limits: Any = None, clip: bool = True, output_dtype: Any = np.float32) -> Any:  # fmt: skip
        """Stretch brightness so that two percentiles become 0 and 1.

        Percentiles are exact, those of `numpy.percentile`, and found out of core: of each chunk only counts are held.
        For that the image is read once (8 and 16 bits), twice (32 bits) or four times (64 bits), and once more for the
        result. A channel of one value becomes 0.

        NaN and infinities do not count for the percentiles. NaN stays NaN; infinities stay infinite, or become 0 and 1
        with `clip`.

        Parameters
        ----------
        p_min, p_max : float
            Percentiles, 0 to 100.
        by : str or sequence of str, optional
            Axes along which each place has percentiles of its own; by default each channel. None: one pair for all.
        limits : (low, high), optional
            Values to use instead of percentiles.
        clip : bool
            Whether what lies beyond becomes 0 and 1.
        output_dtype : dtype
            float32 or float64.

        Raises
        ------
        OverflowError
            On computing, if a percentile of integers lies beyond 2**53, where float64 does not hold integers.
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
        return each_image(self._obj, lambda array: _normalized(array, (low, high), axes, limits, clip, dtype))

    def clip(self, min: float | None = None, max: float | None = None) -> Any:
        """Limit values; the dtype stays."""
        if min is None and max is None:
            raise ValueError("clip: expected min, max or both")
        low = None if min is None else number("min", min)
        high = None if max is None else number("max", max)
        if low is not None and high is not None and low > high:
            raise ValueError(f"min={min!r} is greater than max={max!r}")

        def change(array: xr.DataArray) -> xr.DataArray:
            bounds: tuple[Any, Any] = (low, high)
            if array.dtype.kind in "iu":  # bounds beyond the dtype limit nothing
                info = np.iinfo(array.dtype)
                bounds = (None if low is None else _held(math.ceil(low), info),
                          None if high is None else _held(math.floor(high), info))  # fmt: skip
            data: Any = lazy(array)
            return with_data(array, data.map_blocks(_clip, *bounds, dtype=array.dtype, meta=data._meta))

        return each_image(self._obj, change)

    def enhance_contrast(self, clip_limit: float = 0.01, kernel_size: Any = None, nbins: int = 256) -> Any:
        """Equalize the histogram locally (CLAHE). Powered by `skimage.exposure.equalize_adapthist`.

        Parameters
        ----------
        clip_limit : float
            0 to 1; higher values give more contrast.
        kernel_size : int, sequence or mapping, optional
            Of the regions whose histograms are taken, in pixels or with a unit; by default an eighth of the plane.
        nbins : int
            Bins of the histograms.

        Returns
        -------
        xarray.Dataset or xarray.DataArray of float32
            From 0 to 1. Each plane is equalized whole, plane by plane.
        """
        number("clip_limit", clip_limit, 0, 1)
        integer("nbins", nbins, 2)
        _skimage("enhance_contrast")

        def change(array: xr.DataArray) -> xr.DataArray:
            _real("enhance_contrast", array)
            axes = tuple(d for d in space(array) if d in ("y", "x")) or space(array)
            kernel = None
            if kernel_size is not None:
                sizes = pixels("kernel_size", kernel_size, array, axes, units="pixel", absent=1, whole=True)
                kernel = tuple(integer("kernel_size", n, 1) for n in sizes.values())
            func = partial(_equalize, clip_limit=clip_limit, kernel_size=kernel, nbins=nbins)
            return _whole_images(array, func, axes, np.dtype("f4"), "enhance_contrast")

        return each_image(self._obj, change)

    def rolling_ball(self, radius: float = 50, *, units: str = "pixel", dims: str | Sequence[str] | None = None) -> Any:
        """Return the background as a ball rolls under the image. Powered by `skimage.restoration.rolling_ball`.

        Parameters
        ----------
        radius : float, str or quantity
            Of the ball, in pixels along ``x``, or as a length.
        units : {"pixel", "physical"}
        dims : str, optional
            The axes of the ball; by default all spatial axes.
        """
        _skimage("rolling_ball")

        def change(array: xr.DataArray) -> xr.DataArray:
            _real("rolling_ball", array)
            axes = neighbourhood(array, dims)
            found = pixels("radius", radius, array, axes[-1:], units=units, absent=0, whole=False)
            r = _positive("radius", found[axes[-1]])
            reach = int(np.ceil(r))
            places = [array.get_axis_num(a) for a in axes]
            each = EachImage(partial(_rolling_ball, radius=r), places, array.dtype)
            data = halo(
                lazy(array), each, dict.fromkeys(places, (reach, reach)), dtype=array.dtype, name="rolling_ball"
            )
            return with_data(array, data)

        return each_image(self._obj, change)

    def subtract_background(self, radius: float = 50, *, units: str = "pixel",
                            dims: str | Sequence[str] | None = None) -> Any:  # fmt: skip
        """Subtract the background that `rolling_ball` finds; the dtype stays, and nothing falls below 0."""

        def change(array: xr.DataArray) -> xr.DataArray:
            background = array.img.rolling_ball(radius, units=units, dims=dims)
            return with_data(array, lazy(array).rechunk(background.chunks) - background.data)

        return each_image(self._obj, change)


def _skimage(purpose: str) -> Any:
    try:
        import skimage
    except ImportError as exc:
        raise MissingExtraError("scikit-image", "skimage", purpose) from exc
    return skimage


def _real(name: str, array: xr.DataArray) -> None:
    if array.dtype.kind == "c":
        raise TypeError(
            f"{name}: the image has dtype {array.dtype}; expected bool, integers or floats: take a part or the "
            "magnitude, image.real, image.imag, abs(image)"
        )


def _positive(name: str, value: Any) -> float:
    real = number(name, value, 0)
    if real <= 0:
        raise ValueError(f"{name}={value!r}: expected a number greater than 0")
    return real


# pyramids


def _coarser(ds: xr.Dataset, factors: Mapping[str, int], method: str) -> xr.Dataset:
    factors = {a: min(f, ds.sizes[a]) or 1 for a, f in factors.items()}
    coords = {a: _block_centres(ds[a], f, method) for a, f in factors.items() if a in ds.coords and f > 1}
    results = {}
    for name, array in gridded(ds).items():
        own = "mode" if is_categorical(array) and method != "nearest" else method
        data = lazy(array)
        by_place = {array.get_axis_num(a): f for a, f in factors.items() if a in array.dims}
        data = data.rechunk({k: regrouped(data.chunks[k], f) for k, f in by_place.items() if f > 1})
        every = tuple(by_place.get(k, 1) for k in range(data.ndim))
        chunks = [tuple(n // f for n in c if n // f or len(c) == 1) for c, f in zip(data.chunks, every, strict=True)]
        kept = tuple(slice(0, n // f * f) for n, f in zip(data.shape, every, strict=True))
        data = data[kept]
        made = data.map_blocks(coarsened, every, own, dtype=array.dtype, meta=data._meta, chunks=chunks, name=None)
        mine = {a: c for a, c in coords.items() if a in array.dims}
        lost = {str(n): None for n, c in array.coords.items() if n not in mine and set(c.dims) & set(factors)
                and any(factors.get(str(d), 1) > 1 for d in c.dims)}  # fmt: skip
        results[str(name)] = with_data(array, made, None, {**mine, **lost})
    return joined(ds.drop_vars([n for n, c in ds.coords.items() if set(c.dims) & set(factors)]), results)


def _block_centres(coord: xr.DataArray, factor: int, method: str) -> xr.Variable | None:
    n = coord.size // factor * factor
    values = coord.values[:n].reshape(-1, factor)
    if method == "nearest" or values.dtype.kind not in "iuf":
        picked = values[:, 0]
    else:
        picked = values.mean(axis=1)
    step = spacing_of(coord)
    attrs = {k: v for k, v in coord.attrs.items() if k != "spacing"}
    if step is not None:
        attrs["spacing"] = step * factor
    return xr.Variable(coord.dims, picked, attrs)


# resampling


def _rescaled(array: xr.DataArray, scales: Mapping[str, float], order: int, anti_aliasing: bool | None,
              output_dtype: Any) -> xr.DataArray:  # fmt: skip
    axes = tuple(scales)
    sizes = {a: max(1, round(array.sizes[a] * s)) for a, s in scales.items()}
    places = [array.get_axis_num(a) for a in axes]
    dtype = np.dtype(array.dtype if output_dtype is None else output_dtype)
    data = lazy(array).rechunk(dict.fromkeys(places, -1))
    kernel = _Resize(tuple(places), tuple(sizes.values()), order, anti_aliasing, dtype)
    chunks = tuple((sizes[str(d)],) if str(d) in sizes else c for d, c in zip(array.dims, data.chunks, strict=True))
    made = halo(data, kernel, chunks=lambda spans: chunks, dtype=dtype, name="rescale")
    coords: dict[str, xr.Variable | None] = {}
    for a in axes:
        step = spacing_of(array[a]) if a in array.coords else None
        if sizes[a] == array.sizes[a] or a not in array.coords:
            continue
        if step is None:
            coords[a] = None
            continue
        new = step * array.sizes[a] / sizes[a]  # the outer edges stay where they are
        values = float(array[a].values[0]) + (new - step) / 2 + new * np.arange(sizes[a])
        coords[a] = xr.Variable((a,), values, {**array[a].attrs, "spacing": new})
    return with_data(array, made, None, coords)


class _Resize:
    """Resamples every image of a block."""

    def __init__(self, places: tuple[int, ...], shape: tuple[int, ...], order: int, anti_aliasing: bool | None,
                 dtype: np.dtype) -> None:  # fmt: skip
        self.places, self.shape, self.order, self.anti_aliasing, self.dtype = places, shape, order, anti_aliasing, dtype

    def __dask_tokenize__(self) -> Any:
        return ("resize", self.places, self.shape, self.order, self.anti_aliasing, str(self.dtype))

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        from skimage.transform import resize

        last = range(-len(self.places), 0)
        source = np.moveaxis(piece, self.places, last)
        lead = source.shape[: -len(self.places)]
        out = np.empty((*lead, *self.shape), self.dtype)
        for place in np.ndindex(lead):
            image = source[place]
            if self.order == 0:
                out[place] = nearest(image, self.shape)
                continue
            smooth = self.anti_aliasing
            if smooth is None:
                smooth = any(n < m for n, m in zip(self.shape, image.shape, strict=True))
            floats = image if image.dtype.kind == "f" else self._floats(image)
            made = resize(floats, self.shape, order=self.order, preserve_range=True, anti_aliasing=smooth)
            if self.dtype.kind in "iu":
                out[place] = rounded(made, self.dtype)
                continue
            out[place] = made
        return np.moveaxis(out, last, self.places)

    @staticmethod
    def _floats(image: np.ndarray) -> np.ndarray:
        if image.dtype.itemsize == 8 and image.size and max(int(image.max()), -int(image.min())) > 2**53:
            raise OverflowError(
                f"rescale: the image has {image.dtype} beyond 2**53, which interpolation in float64 does not hold; "
                "expected smaller numbers, order=0, or floats: image.astype(float)"
            )
        return image.astype(np.float64)


# brightness


def _held(value: int, info: Any) -> int:
    """Return a bound that a dtype can hold."""
    return min(max(value, int(info.min)), int(info.max))


def _clip(block: np.ndarray, low: Any, high: Any) -> np.ndarray:
    return np.clip(block, low, high)


def _normalized(array: xr.DataArray, percentiles: tuple[float, float], by: Sequence[str], limits: Any, clip: bool,
                dtype: np.dtype) -> xr.DataArray:  # fmt: skip
    import dask.array as da
    from dask.graph_manipulation import bind

    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"normalize: the image has dtype {array.dtype}: expected bool, integers or floats of 64 bits")
    data: Any = lazy(array)
    own = tuple(d for d in by if d in array.dims)
    if limits is not None:
        made = data.map_blocks(
            _stretch, np.asarray(limits, float), clip, dtype, dtype=dtype, meta=data._meta.astype(dtype)
        )
        return with_data(array, made)
    places = [array.get_axis_num(a) for a in own]
    found = _percentiles(data, places, percentiles)  # (2, ...): the axes of the data, those not kept of length 1
    again = bind(data, found)  # read anew once the percentiles are known, instead of being held until then
    aligned = found.rechunk({k + 1: data.chunks[k] for k in places})
    low, high = aligned[0], aligned[1]
    made = da.map_blocks(_stretched, again, low, high, clip, dtype, dtype=dtype, meta=data._meta.astype(dtype))
    return with_data(array, made)


def _percentiles(data: Any, places: Sequence[int], percentiles: tuple[float, float]) -> Any:
    import dask.array as da

    by_one = data.rechunk(dict.fromkeys(places, 1))
    shape = [data.shape[k] if k in places else 1 for k in range(data.ndim)]
    out = np.empty((2, *shape), object)
    for place in np.ndindex(*shape):
        part = by_one[tuple(slice(p, p + 1) if k in places else slice(None) for k, p in enumerate(place))]
        pair = _pair(part, percentiles)
        out[(0, *place)], out[(1, *place)] = pair[0:1], pair[1:2]
    stacked = da.concatenate(list(out.ravel()))
    return stacked.reshape(out.shape)


def _pair(part: Any, percentiles: tuple[float, float]) -> Any:
    """Two percentiles of an array, which is read once for each level of `intake_img.kernels.selection`."""
    from dask.base import tokenize
    from dask.graph_manipulation import bind

    state: Any = None
    shape = (2 * len(percentiles) + 1, 2)
    for level in range(selection.levels(part.dtype)):
        seen = part if state is None else bind(part, state)  # read anew: only counts are held between two levels
        name = f"percentile-{tokenize(part.name, percentiles, level)}"
        known = None if state is None else (state.name, 0, 0)
        graph: dict[Any, Any] = {}
        sums = []
        for k, place in enumerate(np.ndindex(*seen.numblocks)):
            sums.append((f"count-{name}", k))
            graph[sums[-1]] = (_counted, known, level, (seen.name, *place))
        step = 0
        while len(sums) > 1:
            groups = [sums[k : k + 16] for k in range(0, len(sums), 16)]
            sums, step = [(f"sum{step}-{name}", k) for k in range(len(groups))], step + 1
            graph.update({key: (sum, group) for key, group in zip(sums, groups, strict=True)})
        graph[(name, 0, 0)] = (selection.refined, sums[0], known, list(percentiles))
        state = new_array(name, graph, [(n,) for n in shape], np.uint64, [seen] if state is None else [seen, state])
    name = f"percentiles-{tokenize(state.name)}"
    last = {(name, 0): (selection.interpolated, (state.name, 0, 0), part.dtype, list(percentiles))}
    return new_array(name, last, [(len(percentiles),)], np.float64, [state])


def _counted(state: np.ndarray | None, level: int, values: np.ndarray) -> np.ndarray:
    return selection.counted(state, level, np.asarray(values))


def _stretch(block: np.ndarray, limits: np.ndarray, clip: bool, dtype: np.dtype) -> np.ndarray:
    return _stretched(block, limits[0], limits[1], clip, dtype)


def _stretched(block: np.ndarray, low: Any, high: Any, clip: bool, dtype: np.dtype) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if block.dtype == np.float64 and np.isinf(high - low).any():  # the span of halves does not overflow
            block, low, high = block * 0.5, low * 0.5, high * 0.5
        span = np.asarray(high - low, float)
        out = np.where(span > 0, (block - low) / span, 0.0).astype(dtype)
    if block.dtype.kind == "f":
        lost = ~np.isfinite(block)
        out[lost] = block[lost]
    return np.clip(out, 0, 1) if clip else out


def _equalize(image: np.ndarray, output: np.ndarray, *, clip_limit: float, kernel_size: Any, nbins: int) -> None:
    from skimage.exposure import equalize_adapthist

    if image.dtype.kind == "f":
        finite = image[np.isfinite(image)]
        span = float(finite.max() - finite.min()) if finite.size else 0.0
        image = (image - finite.min()) / span if span else np.zeros_like(image)
    if image.size and image.min() == image.max():
        output[...] = 0
        return
    output[...] = equalize_adapthist(image, kernel_size, clip_limit, nbins)


def _rolling_ball(image: np.ndarray, output: np.ndarray, *, radius: float) -> None:
    from skimage.restoration import rolling_ball

    threads = "workers" if "workers" in inspect.signature(rolling_ball).parameters else "num_threads"  # before 0.26
    output[...] = rolling_ball(image, radius=radius, **{threads: 1})  # dask runs several of these at once


def _whole_images(
    array: xr.DataArray, func: Callable[..., Any], axes: Sequence[str], dtype: np.dtype, name: str
) -> xr.DataArray:
    places = [array.get_axis_num(a) for a in axes]
    data = lazy(array).rechunk(dict.fromkeys(places, -1))
    return with_data(array, halo(data, EachImage(func, places, dtype), dtype=dtype, name=name))
