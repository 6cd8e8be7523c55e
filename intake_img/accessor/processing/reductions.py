"""Reductions of ``ds.img`` across images, and selection, sampling and subtraction of images.

By default they act on the batch axes: ``i``, ``t`` and any further axis that is neither channel nor space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, data_type, flag, integer, per_axis, space
from intake_img.accessor.processing.differences import difference
from intake_img.accessor.processing.folding import folded
from intake_img.accessor.processing.halo import deferred
from intake_img.accessor.processing.in_memory import each, is_held, strips
from intake_img.accessor.processing.promotion import wider
from intake_img.accessor.processing.totals import total
from intake_img.accessor.progress import computed, counted
from intake_img.accessor.variables import (
    batch_axes,
    each_image,
    image_axes,
    in_units,
    lazy,
    reduced,
    spatial_axes,
    with_data,
)
from intake_img.errors import AxesError
from intake_img.kernels.difference import checked_sum
from intake_img.kernels.folds import fold_of
from intake_img.model.axes import spell
from intake_img.model.datasets import data_of, spacing_of
from intake_img.model.process_state import Overlapping
from intake_img.model.typed import Dims, DTypeLike, ImageLike, Numbers

__all__ = ["Reductions"]

STRIP = 2**19
"""Pixels of an array in memory that xarray reduces at a time, so that most of their copies stay in the cache."""

PROJECTED = 2**21
"""Pixels of an array in memory of which one thread finds the greatest and the least values at a time."""

_BY_NUMPY = Overlapping(lambda: xr.set_options(use_bottleneck=False))
"""The setting is one of the process."""


class Reductions:
    """Reductions across images; see each method.

    Common parameters
    --------------------------
    dim : str or sequence of str, optional
        The axes to reduce; by default all batch axes. They are dropped, unless `keepdims`.
    skipna : bool, optional
        Whether NaN is ignored. None, the default, ignores NaN in floats, as xarray does; with False a NaN makes the
        result NaN, as in numpy.

    Dtypes are as in numpy: ``sum`` of uint8 is uint64, ``mean`` of integers is float64, of float32 it is float32.
    float16 is computed in float32, and only the result is rounded. The result is lazy, unless the image is in memory.
    """

    _obj: Any
    _first: Any

    def max(self, dim: Dims = None, *, keepdims: bool = False, skipna: bool | None = None) -> Any:
        """Return the maximum across images."""
        return _reduction(self._obj, "max", dim, keepdims, skipna)

    def min(self, dim: Dims = None, *, keepdims: bool = False, skipna: bool | None = None) -> Any:
        """Return the minimum across images."""
        return _reduction(self._obj, "min", dim, keepdims, skipna)

    def mean(self, dim: Dims = None, *, keepdims: bool = False, skipna: bool | None = None) -> Any:
        """Return the mean across images."""
        return _reduction(self._obj, "mean", dim, keepdims, skipna)

    def sum(self, dim: Dims = None, *, keepdims: bool = False, skipna: bool | None = None) -> Any:
        """Return the sum across images; integers are summed in 64 bits, and wrap around beyond that, as in numpy."""
        return _reduction(self._obj, "sum", dim, keepdims, skipna)

    def std(self, dim: Dims = None, *, ddof: int = 0, keepdims: bool = False, skipna: bool | None = None) -> Any:
        """Return the standard deviation across images; `ddof` is subtracted from their number."""
        return _reduction(self._obj, "std", dim, keepdims, skipna, ddof=integer("ddof", ddof, 0))

    def var(self, dim: Dims = None, *, ddof: int = 0, keepdims: bool = False, skipna: bool | None = None) -> Any:
        """Return the variance across images; `ddof` is subtracted from their number."""
        return _reduction(self._obj, "var", dim, keepdims, skipna, ddof=integer("ddof", ddof, 0))

    def count(self) -> int:
        """Return the number of images: the product of the lengths of the batch axes, 1 if there is none."""
        first = self._first
        return math.prod(first.sizes[d] for d in batch_axes(first))

    def first(self, dim: Dims = None, *, compute: bool = False, progress: bool | None = None) -> Any:
        """Return the first image, without batch axes; lazy unless `compute` (see `filter` for `progress`)."""
        flag("compute", compute)
        choice("progress", progress, (None, True, False))
        axes = reduced(self._first, dim)
        if empty := [a for a in axes if not self._first.sizes[a]]:
            raise ValueError(f"there is no first image: axis {empty[0]!r} is empty")
        found = self._obj.isel(dict.fromkeys(axes, 0))
        return computed(found, progress) if compute else found

    def reduce(
        self,
        func: Callable[[Any, Any], Any],
        dim: Dims = None,
        *,
        associative: bool = False,
        keepdims: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Any:
        """Fold images from first to last with a function of two images.

        Parameters
        ----------
        func : callable or numpy.ufunc
            ``func(folded, image)`` gets arrays of one image (all axes but those in `dim`) and returns one of the same
            shape. A ufunc reduces with its own types (``np.add`` sums uint8 in 64 bits).
        dim, keepdims
            See the class. Several axes are folded in their order, the last the fastest.
        associative : bool
            Promise that the order of pairs does not matter, so that chunks are folded in parallel.
        dtype : dtype, optional
            Dtype of the result, if the function does not keep the dtype of the images.

        Raises
        ------
        TypeError, ValueError
            On computing, if `func` returns another dtype or shape than declared.
        """
        if not callable(func):
            raise TypeError(f"func={func!r}: expected a function of two images, or a ufunc")
        flag("associative", associative)
        flag("keepdims", keepdims)
        dtype = None if dtype is None else data_type("dtype", dtype)
        return each_image(
            self._obj, lambda array: folded(array, func, reduced(array, dim), associative, keepdims, dtype)
        )

    def filter(
        self, func: Callable[[np.ndarray], bool], dim: str | None = None, *, progress: bool | None = None
    ) -> Any:
        """Keep the images for which a predicate is true.

        The predicate is called immediately, once for each image, since the number of remaining images must be known.
        For a Dataset it gets the variable ``image``, and all variables are filtered. If no image passes, the axis has
        length 0.

        Parameters
        ----------
        func : callable
            Gets one image as an array and returns a bool.
        dim : str, optional
            The axis along which images lie; needed if there are several batch axes.
        progress : bool, optional
            Show a progress bar; by default only in a terminal, for work of more than a second.
        """
        _callable(func)
        axis = one_axis(self._first, dim)
        every = _each(self._first, (axis,), progress, "filtering")
        passed = np.fromiter((_verdict(func(image)) for _, image in every), bool)
        return self._obj.isel({axis: np.flatnonzero(passed)})

    def foreach(
        self, func: Callable[[Any], Any], dim: Dims = None, *, with_keys: bool = True, progress: bool | None = None
    ) -> None:
        """Call a function with each image, in order.

        Images are read chunk by chunk; one row of chunks at a time is in memory.

        Parameters
        ----------
        func : callable
            Gets ``(key, image)``, where the key is the index of the image, or a tuple of indices if there are several
            batch axes; it gets only the image if `with_keys` is False.
        dim : str or sequence of str, optional
            The axes along which images lie; by default all batch axes.
        progress : bool, optional
            See `filter`.
        """
        _callable(func)
        flag("with_keys", with_keys)
        for key, image in _each(self._first, reduced(self._first, dim), progress, "visiting"):
            func((key if len(key) > 1 else key[0], image) if with_keys else image)

    def sample(
        self, nsamples: int = 100, seed: int | None = None, *, replace: bool = False, dim: str | None = None
    ) -> Any:
        """Draw a random sample of images; the result is in the order of drawing.

        Parameters
        ----------
        nsamples : int
            Number of images; without `replace` at most as many as there are.
        seed : int, optional
            The same seed draws the same images.
        replace : bool
            Whether an image may be drawn more than once.
        dim : str, optional
            The axis along which images lie; needed if there are several batch axes.
        """
        axis = one_axis(self._first, dim)
        n = self._first.sizes[axis]
        wanted = integer("nsamples", nsamples, 1)
        flag("replace", replace)
        seed = None if seed is None else integer("seed", seed, 0)
        drawn = np.random.default_rng(seed).choice(n, wanted if replace else min(n, wanted), replace=replace)
        return self._obj.isel({axis: drawn})

    def squeeze(self) -> Any:
        """Drop axes of length 1 within an image; batch axes are kept. Their coordinates become scalars."""
        first = self._first
        return self._obj.squeeze([d for d in image_axes(first) if first.sizes[d] == 1])

    def subsample(self, factor: Numbers) -> Any:
        """Take every n-th pixel, beginning with the first, without averaging (see `pyramid` for means).

        Parameters
        ----------
        factor : int, sequence or mapping
            For all spatial axes, for each, or by name. Coordinates, and their spacing, are adapted.
        """
        axes = spatial_axes(self._first) if isinstance(factor, Mapping) else space(self._first)
        factors = per_axis("factor", factor, axes, 1, lambda n, v: integer(n, v, 1))
        picked = self._obj.isel({a: slice(None, None, f) for a, f in factors.items()})
        return _respaced(picked, self._obj, factors)

    def subtract(self, val: float | ImageLike) -> Any:
        """Subtract a number, an image or a labelled array from every image, without wrapping around.

        Integers become signed and twice as wide (uint8: int16, int16: int32, ...) or as wide as `val` needs. There is
        no wider type than 64 bits: such integers become int64, and overflow is checked. Floats keep their dtype.

        Parameters
        ----------
        val : number, array or DataArray
            An array has the shape of one image; a DataArray is aligned by axis names and, if both have them, by
            coordinates. It must cover the image.

        Raises
        ------
        OverflowError
            On computing, if int64 cannot represent a difference of 64-bit integers; or immediately, if `val` is one
            that neither int64 nor uint64 can hold.
        """
        return each_image(self._obj, lambda array: difference(array, val))

    def max_projection(self, dim: str | int = "z") -> Any:
        """Return the maximum along an axis of the image, by name or (as in thunder) by its number within an image."""
        return _projection(self._obj, "max", dim)

    def min_projection(self, dim: str | int = "z") -> Any:
        """Return the minimum along an axis; see `max_projection`."""
        return _projection(self._obj, "min", dim)

    def mean_projection(self, dim: str | int = "z") -> Any:
        """Return the mean along an axis; see `max_projection`."""
        return _projection(self._obj, "mean", dim)

    def sum_projection(self, dim: str | int = "z") -> Any:
        """Return the sum along an axis, in 64 bits for integers; see `max_projection`."""
        return _projection(self._obj, "sum", dim)

    def std_projection(self, dim: str | int = "z") -> Any:
        """Return the standard deviation along an axis; see `max_projection`."""
        return _projection(self._obj, "std", dim)

    def max_min_projection(self, dim: str | int = "z") -> Any:
        """Return the sum of maximum and minimum along an axis; integers become twice as wide to avoid wrapping.

        Raises
        ------
        OverflowError
            On computing, if a sum of 64-bit integers, for which there is no wider type, does not fit.
        """

        def change(array: xr.DataArray) -> xr.DataArray:
            axis = _numbered(array, dim)
            wide = wider(array.dtype)
            at = array.get_axis_num(axis)
            made = _between(array.values, at, wide) if is_held(array) else _between_chunks(lazy(array), at, wide)
            return with_data(array, made, [d for d in map(str, array.dims) if d != axis])

        return each_image(self._obj, change)


def _between(data: np.ndarray, axis: int, wide: np.dtype) -> np.ndarray:
    """Return the checked sums of the greatest and the least values, strip by strip."""
    out = np.empty([n for k, n in enumerate(data.shape) if k != axis], wide)

    def fill(strip: tuple[slice, ...]) -> None:
        high, low = data[strip].max(axis=axis), data[strip].min(axis=axis)
        target: Any = (*strip[:axis], *strip[axis + 1 :], ...)
        if data.dtype.itemsize < wide.itemsize:
            np.add(high, low, out=out[target], dtype=wide)
        else:
            out[target] = checked_sum(high.astype(wide), low.astype(wide))

    each(fill, strips(data, [axis], PROJECTED))
    return out


def _between_chunks(data: Any, axis: int, wide: np.dtype) -> Any:
    from dask import array as da

    high, low = data.max(axis=axis).astype(wide), data.min(axis=axis).astype(wide)
    return da.map_blocks(checked_sum, high, low, dtype=high.dtype, meta=high._meta)


def _reduction(obj: Any, name: str, dim: Any, keepdims: bool, skipna: bool | None, **options: Any) -> Any:
    flag("keepdims", keepdims)
    choice("skipna", skipna, (None, True, False))

    def change(array: xr.DataArray) -> xr.DataArray:
        axes = reduced(array, dim)
        found = _reduced(array, name, axes, keepdims, skipna, **options)
        return in_units(found, 2) if name == "var" else found

    return each_image(obj, change)


def _reduced(
    array: xr.DataArray,
    name: str,
    axes: Sequence[str],
    keepdims: bool,
    skipna: bool | None,
    **options: Any,
) -> xr.DataArray:
    fold = fold_of(name, array.dtype, math.prod(array.sizes[a] for a in axes), skipna)
    if fold is not None:
        return total(array, fold, axes, keepdims)
    found = _by_xarray(array, name, axes, keepdims=keepdims, skipna=skipna, **options)
    return found.astype(array.dtype) if array.dtype == np.float16 else found


def _by_xarray(array: xr.DataArray, name: str, axes: Sequence[str], **options: Any) -> xr.DataArray:
    """Reduce by the method of xarray: arrays in memory in strips that stay in the cache, one by one.

    xarray changes the filters of warnings meanwhile, which all threads share.
    """
    data = data_of(array.variable)
    if not isinstance(data, np.ndarray):
        return _later(array, name, axes, **options)
    copied = name in ("std", "var") or options["skipna"] is not False
    parts = strips(data, [array.get_axis_num(a) for a in axes], STRIP) if copied else []
    if len(parts) <= 1:
        return _xarrays(array, name, axes, **options)
    bare = xr.Variable(array.dims, data)
    first, *others = [_xarrays(xr.DataArray(bare[part]), name, axes, **options) for part in parts]
    cut = next(k for k, (a, b) in enumerate(zip(*parts[:2], strict=True)) if a != b)
    axis = first.dims.index(array.dims[cut])
    return with_data(
        array, np.concatenate([first.values, *[o.values for o in others]], axis), list(map(str, first.dims))
    )


def _later(array: xr.DataArray, name: str, axes: Sequence[str], keepdims: bool, **options: Any) -> xr.DataArray:
    data, dims = lazy(array), list(map(str, array.dims))
    one = xr.DataArray(np.zeros((1,) * data.ndim, data.dtype), dims=dims)
    settings = {k: 0 if k == "ddof" else v for k, v in options.items()}  # a single value has no degrees of freedom
    dtype = _xarrays(one, name, axes, keepdims=keepdims, **settings).dtype
    kept = {d: c for d, c in zip(dims, data.chunks, strict=True) if d not in axes}
    places = [d for d in dims if keepdims or d in kept]

    def build(source: Any) -> Any:
        return _xarrays(xr.DataArray(source, dims=dims), name, axes, keepdims=keepdims, **options).data

    token = (name, tuple(axes), keepdims, tuple(options.items()))
    made = deferred(data, build, token, [kept.get(d, (1,)) for d in places], dtype)
    gone = {a for a in axes if not keepdims or array.sizes[a] != 1}
    lost = {str(n): None for n, c in array.coords.items() if gone & set(c.dims)}
    return with_data(array, made, places, lost)


def _xarrays(array: xr.DataArray, name: str, axes: Sequence[str], **options: Any) -> xr.DataArray:
    source = array.astype(np.float32) if array.dtype == np.float16 else array
    with _BY_NUMPY:
        made: xr.DataArray = getattr(source, name)(axes, keep_attrs=True, **options)
    return made


def _projection(obj: Any, name: str, dim: str | int) -> Any:
    return each_image(obj, lambda array: _reduced(array, name, [_numbered(array, dim)], False, False))


def _numbered(array: xr.DataArray, dim: Any) -> str:
    axes = image_axes(array)
    if isinstance(dim, (int, np.integer)) and not isinstance(dim, bool):
        if not -len(axes) <= dim < len(axes):
            raise AxesError(f"dim={dim}: an image has the axes {spell(axes)!r}, numbered 0 to {len(axes) - 1}")
        return axes[dim]
    if dim not in array.dims:
        raise AxesError(f"dim={dim!r}: the image has no such axis, it has {spell(tuple(map(str, array.dims)))!r}")
    return str(dim)


def one_axis(array: xr.DataArray, dim: str | None) -> str:
    axes = reduced(array, dim)
    if len(axes) != 1:
        raise AxesError(f"the images lie along {', '.join(map(repr, axes))}: name one with dim=")
    return axes[0]


def _verdict(value: Any) -> bool:
    if np.ndim(value) or not isinstance(value, (bool, np.bool_, int, np.integer, np.ndarray)):
        raise TypeError(f"the predicate returned {value!r}: expected True or False for each image")
    return bool(value)


def _callable(func: Any) -> None:
    if not callable(func):
        raise TypeError(f"func={func!r} ({type(func).__name__}): expected a function of one image")


def _each(
    array: xr.DataArray,
    axes: Sequence[str],
    progress: bool | None,
    what: str,
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Iterate over images in order; each chunk is read once, and one row of chunks is in memory."""
    choice("progress", progress, (None, True, False))
    return counted(_images(array, axes), math.prod(array.sizes[a] for a in axes), progress, what)


def _images(array: xr.DataArray, axes: Sequence[str]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    turned, lead = array.transpose(*axes, ...), len(axes)
    if is_held(array):
        for place in np.ndindex(turned.shape[:lead]):
            yield place, turned.values[place].copy()
        return
    data = lazy(turned)
    whole = data.rechunk(dict.fromkeys(range(1, lead), -1))
    start = 0
    for n in whole.chunks[0] if lead else ():
        block = np.asarray(whole[start : start + n].compute())
        for place in np.ndindex(block.shape[:lead]):
            yield (start + place[0], *place[1:]), block[place]
        start += n


def _respaced(picked: Any, old: Any, factors: Mapping[str, int]) -> Any:
    changed = {}
    for axis, factor in factors.items():
        if axis in picked.coords and factor != 1:
            coord = picked[axis].copy(deep=False)
            step = spacing_of(old[axis])
            coord.attrs = {k: v for k, v in coord.attrs.items() if k != "spacing"}
            if step is not None and "spacing" in old[axis].attrs:
                coord.attrs["spacing"] = step * factor
            changed[axis] = coord.variable
    return picked.assign_coords(changed)


# folding
