"""Masks from intensities: global thresholds, computed out of core, and hysteresis thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import axis_names, choice, integer, named, neighbourhood, number
from intake_img.accessor.channels import by_number, channel_names
from intake_img.accessor.lengths import pixels
from intake_img.accessor.processing.checks import real, skimage_for
from intake_img.accessor.processing.components import reached
from intake_img.accessor.processing.filtering import Depth, Filter, filtered, gaussian_depth, window_of
from intake_img.accessor.processing.halo import new_array
from intake_img.accessor.processing.in_memory import Held, chunked, mapped_blocks, summed
from intake_img.accessor.processing.object_results import derived
from intake_img.accessor.variables import images, with_data
from intake_img.errors import AxesError
from intake_img.kernels import local_filters as kernels
from intake_img.kernels import thresholding
from intake_img.kernels.thresholding import Counting
from intake_img.model.axes import spell
from intake_img.model.typed import Border, Lengths

__all__ = ["Thresholds"]

TOGETHER = 2**21
"""Bytes of chunks that one task counts: it takes less time than a further task and the fusing of its read."""

Method = (
    Literal["otsu", "li", "triangle", "yen", "isodata", "mean", "minimum", "multiotsu"] | float | Mapping[Any, float]
)


class Thresholds:
    """Methods that make masks of images; see each of them.

    A threshold is the name of a method of scikit-image, a number, or a number for each channel. Thresholds equal those
    of the complete image for any chunks; only counts are in memory while it is read.
    """

    _obj: Any

    def threshold(
        self,
        method: Method = "otsu",
        *,
        per: str | Sequence[str] | None = "c",
        nbins: int | None = None,
        classes: int | None = None,
        output: str = "mask",
        overwrite: bool = False,
    ) -> Any:
        """Return the mask of pixels that are brighter than a threshold. Powered by `skimage.filters`.

        The image is read once for the thresholds of integers, twice for the thresholds of floats, and once more for
        the mask. NaN and infinities are ignored; NaN is not in the mask. An image of one value is background.
        Integers of 8 and 16 bits need 0.5 MB for each computed chunk; wider integers, and floats with ``li``, need
        memory for their distinct values, at most 2**26.

        Parameters
        ----------
        method : str, number or mapping
            ``otsu``, ``li``, ``triangle``, ``yen``, ``isodata``, ``mean``, ``minimum`` or ``multiotsu``, as
            ``threshold_...`` of `skimage.filters` for the complete image; a number; or numbers by channel, ``{"DAPI":
            300, "GFP": 120}``.
        per : str, sequence of str or None
            Axes along which each position has its own threshold: ``"c"`` for each channel, ``"tc"`` for each channel of
            each time point, ``"tcz"`` for each plane; None: one threshold for all.
        nbins : int, optional
            Bins of the histogram of floats, 256 by default. Integers have a bin for each value, as in scikit-image.
        classes : int, optional
            Number of classes of ``multiotsu``; 3 by default.
        output : str
            Name of the new variable of a Dataset.
        overwrite : bool
            Allow `output` to replace a variable.

        Returns
        -------
        xarray.Dataset with a further variable, or xarray.DataArray
            bool, with ``attrs["kind"] == "mask"``; for ``multiotsu`` uint8, the classes from 0, with kind ``"labels"``.

        Raises
        ------
        ValueError
            On computing, if the method finds no threshold.
        TooLargeError
            On computing, if there are more than 2**26 different values or bins of integers.

        See Also
        --------
        threshold_values : The thresholds themselves.
        threshold_local : Thresholds that vary from pixel to pixel.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=["y", "x"])
        >>> int(image.img.threshold(7).sum())
        4
        """
        make = lambda array: _mask(array, method, per, nbins, classes)  # noqa: E731
        return derived(self._obj, make, output, overwrite)

    def threshold_values(
        self,
        method: Method = "otsu",
        *,
        per: str | Sequence[str] | None = "c",
        nbins: int | None = None,
        classes: int | None = None,
    ) -> xr.DataArray:
        """Return the thresholds that `threshold` uses; see there for the parameters.

        Returns
        -------
        xarray.DataArray
            float64, lazy unless the image is in memory, with the axes `per`; for ``multiotsu`` also ``class``.
        """
        array = next(iter(images(self._obj).values()))
        places = _places(array, per, isinstance(method, str))
        values = _values(array, method, places, nbins, classes)
        axes = [str(d) for k, d in enumerate(array.dims) if k in places]
        data = values.astype(float).reshape((values.shape[0], *[array.sizes[a] for a in axes]))
        several = method == "multiotsu"
        found = xr.DataArray(data if several else data[0], dims=["class", *axes] if several else axes, name="threshold")
        return found.assign_coords({a: array[a].variable for a in axes if a in array.coords})

    def hysteresis_threshold(
        self,
        low: Method,
        high: Method,
        *,
        per: str | Sequence[str] | None = "c",
        nbins: int | None = None,
        dims: str | Sequence[str] | None = None,
        output: str = "mask",
        overwrite: bool = False,
    ) -> Any:
        """Return the mask of pixels above `low` that are connected to pixels above `high`.

        Equal to `skimage.filters.apply_hysteresis_threshold` for each complete image, for any chunks.

        Parameters
        ----------
        low, high : str, number or mapping
            Thresholds, see `threshold`, except ``multiotsu``.
        per, nbins, output, overwrite
            See `threshold`.
        dims : str, optional
            The spatial axes along which pixels are connected, by their sides; by default all.

        Returns
        -------
        xarray.Dataset with a further variable, or xarray.DataArray
            bool, with ``attrs["kind"] == "mask"``.

        Raises
        ------
        ValueError
            If `low` is a number greater than `high`.
        """
        for name, value in (("low", low), ("high", high)):
            if isinstance(value, str) and value == "multiotsu":
                raise ValueError(f"{name}='multiotsu' gives several thresholds: expected a method that gives one")
        if per != "c" and not any(isinstance(v, str) for v in (low, high)):
            raise ValueError(f"per={per!r} is for methods such as 'otsu'; low and high are numbers")
        numbers = [v for v in (low, high) if not isinstance(v, (str, Mapping))]
        if len(numbers) == 2 and number("low", low) > number("high", high):
            raise ValueError(f"low={low!r} is greater than high={high!r}")

        def make(array: xr.DataArray) -> xr.DataArray:
            bins = [nbins if isinstance(v, str) else None for v in (low, high)]
            if nbins is not None and bins == [None, None]:
                raise ValueError(f"nbins={nbins!r} is for methods; low and high are numbers")
            weak, strong = (
                _mask(array, v, per if isinstance(v, str) else "c", n, None, name)
                for v, n, name in zip((low, high), bins, ("low", "high"), strict=True)
            )
            return reached(weak, strong, neighbourhood(array, dims))

        return derived(self._obj, make, output, overwrite)

    def threshold_local(
        self,
        block_size: Lengths = 3,
        method: str = "gaussian",
        *,
        offset: float = 0.0,
        sigma: float | None = None,
        mode: Border = "reflect",
        cval: float = 0.0,
        dims: str | Sequence[str] | None = None,
    ) -> Any:
        """Return the local threshold of each pixel, as `skimage.filters.threshold_local` does.

        Compare the image with it for a mask: ``image > image.img.threshold_local(51)``.

        Parameters
        ----------
        block_size : int, sequence or mapping
            Odd size of the neighbourhood in pixels; or a length with a unit, which is rounded to the nearest odd
            number.
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
            sizes = pixels("block_size", block_size, array, axes, units="pixel", absent=1, whole=True, rounding="odd")
            if even := [a for a in axes if sizes[a] % 2 == 0]:
                raise ValueError(
                    f"block_size={block_size!r}: expected odd numbers, but {even[0]!r} has {sizes[even[0]]}"
                )
            sigmas = (
                {a: (sizes[a] - 1) / 6 for a in axes}
                if sigma is None
                else pixels("sigma", sigma, array, axes, units="pixel", absent=0.0, whole=False)
            )
            func = partial(
                kernels.threshold_local,
                method=method,
                size=[sizes[a] for a in axes],
                sigma=[sigmas[a] for a in axes],
                offset=float(offset),
            )
            return func, gaussian_depth(sigmas) if method == "gaussian" else {a: window_of(sizes[a], 0) for a in axes}

        dtype = {np.dtype("f4"): np.dtype("f4")}
        return filtered(
            self._obj,
            "threshold_local",
            build,
            mode,
            cval,
            named(dims, "block_size", block_size),
            lambda d: dtype.get(d, np.dtype("f8")),
        )


def _mask(array: xr.DataArray, method: Any, per: Any, nbins: Any, classes: Any, name: str = "method") -> xr.DataArray:
    real("threshold", array)
    places = _places(array, per, isinstance(method, str))
    values = _values(array, method, places, nbins, classes, name)
    several = method == "multiotsu"
    func, dtype = (thresholding.classified, np.uint8) if several else (thresholding.above, bool)
    data = chunked(array)
    if isinstance(data, Held):
        made = mapped_blocks(data, func, dtype, list(values))
    else:
        made = _compared(data, values, func, dtype, isinstance(method, str))
    return _kind(with_data(array, made), "labels" if several else "mask")


def _compared(data: Any, values: Any, func: Any, dtype: Any, found: bool) -> Any:
    """Return what a function makes of each chunk and the thresholds, which are `found` in the data or given."""
    from dask import array as da
    from dask import graph_manipulation

    values = values if found else da.from_array(values, chunks=-1)
    again = graph_manipulation.bind(data, values) if found else data  # read again, instead of keeping it in memory
    aligned = values.rechunk({k + 1: data.chunks[k] for k in range(data.ndim) if values.shape[k + 1] > 1})
    return da.map_blocks(
        func,
        again,
        *[aligned[k] for k in range(aligned.shape[0])],
        dtype=dtype,
        name=None,
        meta=data._meta.astype(dtype),
        token="threshold",
    )


def _kind(result: xr.DataArray, kind: str) -> xr.DataArray:
    result.attrs = {"kind": kind}
    return result


def _places(array: xr.DataArray, per: Any, named: bool) -> tuple[int, ...]:
    """Return the indices of the axes along which there are several thresholds."""
    if not named and per != "c":
        raise ValueError(f"per={per!r} is for methods such as 'otsu'; give numbers by channel: {{channel: number}}")
    axes = () if per is None else axis_names("per", per)
    every = tuple(map(str, array.dims))
    if per != "c" and (unknown := [a for a in axes if a not in every]):
        raise AxesError(f"per={per!r}: the image has no axis {unknown[0]!r}, it has {spell(every)!r}")
    return tuple(k for k, a in enumerate(every) if a in axes)


def _values(
    array: xr.DataArray, method: Any, places: Sequence[int], nbins: Any, classes: Any, name: str = "method"
) -> Any:
    """Return thresholds (n, ...): the axes of the image, of length 1 where there is one threshold.

    Numbers that were given, or found in an image in memory, are an array in memory, else a dask array.
    """
    if not isinstance(method, str):
        if nbins is not None or classes is not None:
            raise ValueError(f"nbins={nbins!r}, classes={classes!r} are for methods, not for a number")
        return _numbers(array, method, name)[None]
    if method not in thresholding.METHODS:
        raise ValueError(_expected(name, method))
    if nbins is not None and method in ("li", "mean"):
        raise ValueError(f"nbins={nbins!r}: method {method!r} has no histogram with bins")
    if classes is not None and method != "multiotsu":
        raise ValueError(f"classes={classes!r} are for method='multiotsu', not {method!r}")
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise TypeError(f"threshold: the image has dtype {array.dtype}: expected integers, or floats of up to 64 bits")
    skimage_for("threshold")
    bins = 256 if nbins is None else integer("nbins", nbins, 2)
    counting = Counting(method, array.dtype, bins, 3 if classes is None else integer("classes", classes, 2))
    data = chunked(array)
    return (_counted_now if isinstance(data, Held) else _counted)(data, tuple(places), counting)


def _expected(name: str, given: Any) -> str:
    known = ", ".join(map(repr, thresholding.METHODS))
    return f"{name}={given!r}: expected one of {known}, a number, or a mapping of channels to numbers"


def _numbers(array: xr.DataArray, method: Any, name: str) -> np.ndarray:
    if not isinstance(method, Mapping):
        try:
            return _exact([number(name, method)], array.dtype).reshape((1,) * array.ndim)
        except TypeError:
            raise TypeError(_expected(name, method)) from None
    if "c" not in array.dims:
        raise AxesError(f"{name}={method!r} names channels, but the image has no axis 'c'")
    given = by_number(name, {c: number(f"{name}[{c!r}]", v) for c, v in method.items()}, array)
    if missing := [c for k, c in enumerate(channel_names(array)) if k not in given]:
        raise ValueError(f"{name} lacks a number for the channel {missing[0]!r}")
    values = [given[k] for k in range(len(given))]
    return _exact(values, array.dtype).reshape([len(values) if d == "c" else 1 for d in array.dims])


def _exact(numbers: list[float], dtype: np.dtype) -> np.ndarray:
    """Return numbers as float64; as they are beside integers of 64 bits, if float64 would round them."""
    wide = dtype.kind in "iu" and dtype.itemsize == 8 and any(isinstance(n, int) for n in numbers)
    return np.array(numbers, object if wide else float)


def _counted_now(data: Held, places: tuple[int, ...], counting: Counting) -> np.ndarray:
    """Return the thresholds of an array in memory."""
    by_one = data.rechunk({k: (1,) * data.shape[k] for k in places})
    limits: dict[Any, Any] = {}
    if counting.ranged:
        limits = summed(by_one, places, lambda at, block: counting.range(block), counting.ranges)
    counts = summed(by_one, places, lambda at, block: counting.count(limits.get(at), block), counting.add)
    out: Any = np.empty((counting.size, *(n if k in places else 1 for k, n in enumerate(data.shape))))
    for at, count in counts.items():
        out[:, *at] = counting.thresholds(limits.get(at), count)
    return out


def _counted(data: Any, places: tuple[int, ...], counting: Counting) -> Any:
    from dask import base, graph_manipulation

    by_one = data.rechunk(dict.fromkeys(places, 1))
    name = f"thresholds-{base.tokenize(data.name, places, counting)}"
    if not counting.ranged:
        return _tree(by_one, places, name, counting, None)
    limits = _tree(by_one, places, f"range-{name}", counting, None, ranging=True)
    return _tree(graph_manipulation.bind(by_one, limits), places, name, counting, limits)


def _tree(data: Any, places: tuple[int, ...], name: str, counting: Counting, limits: Any, ranging: bool = False) -> Any:
    """Count the chunks of each position, add the counts 16 by 16, and compute one chunk of the result from them."""
    shape = tuple(data.shape[k] if k in places else 1 for k in range(data.ndim))
    graph = partial(_counting, data, places, shape, name, counting, None if limits is None else limits.name, ranging)
    chunks = [(2 if ranging else counting.size,), *[(1,) * n for n in shape]]
    dtype = counting.dtype if ranging else np.dtype(float)
    return new_array(name, graph, chunks, dtype, [data] if limits is None else [data, limits])


def _counting(
    data: Any, places: tuple[int, ...], shape: Any, name: str, counting: Counting, limits: str | None, ranging: bool
) -> dict[Any, Any]:
    graph: dict[Any, Any] = {}
    together = max(1, TOGETHER // max(1, math.prod(map(max, data.chunks)) * data.dtype.itemsize))
    for place in np.ndindex(*shape):
        known = None if limits is None else (limits, 0, *place)
        blocks = [range(1) if k in places else range(n) for k, n in enumerate(data.numblocks)]
        sums, keys = (
            [],
            [
                (data.name, *[place[k] if k in places else b for k, b in enumerate(block)])
                for block in np.ndindex(*map(len, blocks))
            ],
        )
        for n in range(0, len(keys), together):
            sums.append((f"count-{name}", *place, n))
            graph[sums[-1]] = (_count, counting, known, ranging, keys[n : n + together])
        add, step = counting.ranges if ranging else counting.add, 0
        while len(sums) > 1:
            groups = [sums[k : k + 16] for k in range(0, len(sums), 16)]
            sums, step = [(f"sum{step}-{name}", *place, k) for k in range(len(groups))], step + 1
            graph.update({key: (add, group) for key, group in zip(sums, groups, strict=True)})
        last = (_stacked_range, sums[0]) if ranging else (_thresholds, counting, known, sums[0])
        graph[(name, 0, *place)] = (_shaped, data.ndim, last)
    return graph


def _stacked_range(found: np.ndarray) -> np.ndarray:
    return found if len(found) else np.full(2, np.nan, found.dtype)


def _count(counting: Counting, limits: np.ndarray | None, ranging: bool, blocks: Sequence[Any]) -> Any:
    arrays, known = map(np.asarray, blocks), _flat(limits)
    found = [counting.range(a) if ranging else counting.count(known, a) for a in arrays]
    return found[0] if len(found) == 1 else (counting.ranges if ranging else counting.add)(found)


def _thresholds(counting: Counting, limits: np.ndarray | None, counts: Any) -> np.ndarray:
    return counting.thresholds(_flat(limits), counts)


def _flat(limits: np.ndarray | None) -> np.ndarray | None:
    if limits is None:
        return None
    flat = limits.ravel()
    return flat if np.isfinite(flat).all() else flat[:0]


def _shaped(ndim: int, values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *(1,) * ndim)
