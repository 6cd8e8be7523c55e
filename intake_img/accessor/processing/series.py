"""Series of ``ds.img``: functions along ``t`` (or ``i``) for every pixel, and blocks with complete series."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, data_type, integer, mapping, named, neighbourhood, per_axis
from intake_img.accessor.lengths import pixels
from intake_img.accessor.processing.filtering import MODES, window_of
from intake_img.accessor.processing.halo import bytes_of, halo, merged, new_array, rechunked
from intake_img.accessor.processing.in_memory import Held, chunked, is_held
from intake_img.accessor.processing.reductions import one_axis
from intake_img.accessor.progress import computed
from intake_img.accessor.variables import each_image, image_axes, in_units, lazy, with_data
from intake_img.errors import AxesError
from intake_img.kernels.correlation import ROWS, correlation, merge, moments
from intake_img.kernels.local_filters import box_filter
from intake_img.model.axes import spell
from intake_img.model.machine import threads
from intake_img.model.text import escaped
from intake_img.model.typed import DTypeLike, Lengths, Numbers
from intake_img.model.units import has_unit

__all__ = ["Blocks", "SeriesMethods"]

GROUP = 2**24
"""Bytes of float64 that are centred together in a correlation."""


LARGEST = 2**25
"""Bytes of the blocks to which short chunks along the series are joined."""


class SeriesMethods:
    """Methods along series; see each of them."""

    _obj: Any
    _first: Any

    def localcorr(
        self,
        neighborhood: Lengths = 2,
        *,
        size: Lengths | None = None,
        dim: str | None = None,
        mode: str = "reflect",
        dims: str | Sequence[str] | None = None,
    ) -> Any:
        """Correlate every pixel's series with the series of the mean of its neighbourhood.

        Parameters
        ----------
        neighborhood : int, sequence or mapping
            Radius: the mean is taken over ``2 * neighborhood + 1`` pixels along every spatial axis, the pixel itself
            included. In pixels, or with a unit (``"2 µm"``), which is rounded to pixels.
        size : int, sequence or mapping, optional
            Length of the neighbourhood instead of its radius (as in thunder 1.1 and later).
        dim : str, optional
            The axis of the series; needed if there are several batch axes.
        mode : str
            The extension beyond the edge, as in `gaussian_filter`.
        dims : str, optional
            The spatial axes of the neighbourhood; by default all.

        Returns
        -------
        xarray.Dataset or xarray.DataArray of float64
            Without `dim`; NaN if a series is constant. Every chunk is read once; series may span several chunks.
        """
        known = MODES[choice("mode", mode, tuple(MODES))]
        if size is not None and not (isinstance(neighborhood, int) and neighborhood == 2):
            raise ValueError(f"neighborhood={neighborhood!r} and size={size!r}: give one of them")
        value = neighborhood if size is None else size

        def change(array: xr.DataArray) -> xr.DataArray:
            if array.dtype.kind == "c":
                raise TypeError(
                    f"localcorr: the image has dtype {array.dtype}; expected bool, integers or floats: take a part or "
                    "the magnitude, image.real, image.imag, abs(image)"
                )
            axis = one_axis(array, dim)
            axes = neighbourhood(array, named(dims, "neighborhood" if size is None else "size", value))
            name = "neighborhood" if size is None else "size"
            given = pixels(
                name, per_axis(name, value, axes, 0, _length), array, axes, units="pixel", absent=0, whole=True
            )
            sizes = {a: 2 * n + 1 if size is None else max(1, n) for a, n in given.items()}
            return in_units(_correlated(array, axis, axes, sizes, known), 0)

        return each_image(self._obj, change)

    def map_as_series(
        self,
        func: Callable[[np.ndarray], Any],
        value_size: int | None = None,
        *,
        block_size: int | str | Sequence[int] | Mapping[str, int] = "auto",
        dtype: DTypeLike | None = None,
        dim: str | None = None,
        out_dim: str | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Apply a function to every pixel's series.

        Parameters
        ----------
        func : callable
            ``func(series, **fn_kwargs)`` gets an array of shape (N,) and returns a series or a number.
        value_size : int, optional
            Length of the result; 0 for a number. If it is given together with `dtype`, no pixel is read until the
            result is computed; otherwise both are found now, from one series.
        block_size : "auto", str, int, sequence or mapping
            Size of the blocks that are processed together: bytes (``"150MB"``), or pixels along the other axes.
        dtype : dtype, optional
            Of the result.
        dim : str, optional
            The axis of the series; needed if there are several batch axes.
        out_dim : str, optional
            New name of the axis of the result; by default the old one. If its length changes, it loses its coordinate.
        fn_kwargs : mapping, optional
            Keyword arguments.

        Raises
        ------
        ValueError, TypeError
            On computing, if `func` returns another length or dtype than declared.
        """
        if not callable(func):
            raise TypeError(f"func={func!r}: expected a function of a series")
        wanted = None if value_size is None else integer("value_size", value_size, 0)
        call = partial(func, **mapping("fn_kwargs", fn_kwargs)) if fn_kwargs is not None else func
        dtype = None if dtype is None else data_type("dtype", dtype)
        if out_dim is not None and not isinstance(out_dim, str):
            raise TypeError(f"out_dim={out_dim!r} ({type(out_dim).__name__}): expected the name of an axis")

        def change(array: xr.DataArray) -> xr.DataArray:
            return _series_mapped(array, call, wanted, block_size, dtype, one_axis(array, dim), out_dim)

        return each_image(self._obj, change)

    def to_series(
        self, block_size: int | str | Sequence[int] | Mapping[str, int] = "auto", *, dim: str | None = None
    ) -> Any:
        """Return the images with the batch axis last, and every series in one chunk, lazily.

        Images in memory are copied, so that each series is contiguous.
        """

        def change(array: xr.DataArray) -> xr.DataArray:
            axis = one_axis(array, dim)
            data = _of_series(array, chunked(array), axis, block_size, "block_size")
            if not isinstance(data, Held):
                return array.copy(data=data).transpose(..., axis, transpose_coords=False)
            place = array.get_axis_num(axis)
            dims = [str(d) for k, d in enumerate(array.dims) if k != place]
            return with_data(array, np.array(np.moveaxis(data.array, place, -1), order="C"), [*dims, axis])

        return each_image(self._obj, change)

    def to_timeseries(self, block_size: int | str | Sequence[int] | Mapping[str, int] = "auto") -> Any:
        """Return `to_series` along ``t``; an error if there is no time axis."""
        return self.to_series(block_size, dim="t")

    def to_blocks(
        self,
        size: int | str | Sequence[int] | Mapping[str, int] = "150MB",
        padding: Numbers = 0,
        *,
        dim: str | None = None,
    ) -> Blocks:
        """Return blocks of pixels with their complete series, lazily; those of an image in memory are copies.

        Parameters
        ----------
        size : str, int, sequence or mapping
            Bytes of a block, e.g. ``"150MB"``; or pixels along each axis of the image (a number: along all spatial
            axes).
        padding : int, sequence or mapping
            Overlap with neighbouring blocks along spatial axes, in pixels or as a length with a unit; it is cut off at
            the edge of the image.
        dim : str, optional
            The axis of the series; needed if there are several batch axes.
        """
        array = self._first
        axis = one_axis(array, dim)
        axes = neighbourhood(array, None)
        pads = pixels("padding", padding, array, axes, units="pixel", absent=0, whole=True)
        data = _of_series(array, chunked(array), axis, size, "size")
        return Blocks(array if isinstance(data, Held) else array.copy(data=data), axis, pads, data.chunks)

    def to_local(self, *, progress: bool | None = None) -> Any:
        """Compute the image, and return it with all data in memory.

        Parameters
        ----------
        progress : bool, optional
            Show a progress bar; by default only in a terminal, for work of more than a second.
        """
        return computed(self._obj, progress)


@dataclass(frozen=True)
class Blocks:
    """Blocks of an image; iterate for ``(region, block)``.

    ``region`` is a mapping of axes to slices, without padding; ``block`` is a DataArray, with padding: a lazy one, or a
    copy of what is in memory.

    Attributes
    ----------
    array : xarray.DataArray
        The image; if it is lazy, its chunks are the blocks.
    dim : str
        The axis of the series, complete in each block.
    padding : mapping of str to int
    chunks : tuple of tuple of int
        Lengths of the blocks along each axis.
    """

    array: xr.DataArray
    dim: str
    padding: Mapping[str, int]
    chunks: tuple[tuple[int, ...], ...]

    def _regions(self) -> Iterator[dict[str, slice]]:
        from intake_img.model.chunks import regions_of

        for region in regions_of(self.chunks):
            yield dict(zip(map(str, self.array.dims), region, strict=True))

    def __len__(self) -> int:
        return math.prod(map(len, self.chunks))

    def __iter__(self) -> Iterator[tuple[dict[str, slice], xr.DataArray]]:
        for region in self._regions():
            block = self.array.isel(self._padded(region))
            yield region, block.copy() if self.array.chunks is None else block

    def _padded(self, region: Mapping[str, slice]) -> dict[str, slice]:
        return {
            a: slice(
                max(0, s.start - self.padding.get(a, 0)), min(self.array.sizes[a], s.stop + self.padding.get(a, 0))
            )
            for a, s in region.items()
        }

    def __repr__(self) -> str:
        largest = [max(c, default=0) for c in self.chunks]
        shape = ", ".join(f"{escaped(d)}: {n}" for d, n in zip(self.array.dims, largest, strict=True))
        nbytes = math.prod(largest) * self.array.dtype.itemsize
        return f"<{len(self)} blocks of at most ({shape}), {nbytes / 1e6:.1f} MB, series along {self.dim!r}>"


def _length(name: str, value: Any) -> Any:
    if has_unit(value):
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{name}={value!r}: expected an integer of at least 0 (pixels), or a length such as '2 µm'")
    return int(value)


# correlation


def _correlated(
    array: xr.DataArray, axis: str, axes: Sequence[str], sizes: Mapping[str, int], mode: str
) -> xr.DataArray:
    time, places = array.get_axis_num(axis), [array.get_axis_num(a) for a in axes]
    data = chunked(array)
    if isinstance(data, Held):
        return _correlated_in_memory(array, data, time, places, sizes, mode)
    least = min(
        -(-8 * ROWS // data.dtype.itemsize),
        max(1, LARGEST * max(data.chunks[time], default=0) // max(1, bytes_of(data))),
    )
    grouped = merged(data.chunks[time], least)  # otherwise the moments would be larger than the images
    data = data if grouped == data.chunks[time] else rechunked(data, {time: grouped})
    result = _merged_moments(_moments_of(data, time, places, list(sizes.values()), mode), time)
    return with_data(array, result, [d for d in map(str, array.dims) if d != axis])


def _correlated_in_memory(
    array: xr.DataArray, data: Held, time: int, places: Sequence[int], sizes: Mapping[str, int], mode: str
) -> xr.DataArray:
    """Correlate complete series, in a strip of the image for each thread."""
    first, n = places[0], data.shape[places[0]]
    strips = np.array_split(range(n), max(1, min(threads(), n // max(8, 2 * max(sizes.values())))))
    data = data.rechunk({time: -1, first: tuple(map(len, strips))})
    parts = _moments_of(data, time, places, list(sizes.values()), mode)
    return with_data(
        array, correlation(np.moveaxis(parts, time, 0)), [str(d) for k, d in enumerate(array.dims) if k != time]
    )


def _moments_of(data: Any, time: int, places: Sequence[int], sizes: Sequence[int], mode: str) -> Any:
    """Return the moments of each chunk, along time."""
    depth = {p: window_of(n, 0) for p, n in zip(places, sizes, strict=True)}
    kernel = _Moments(time, tuple(places), tuple(sizes), mode)
    counts = partial(_moment_chunks, time)
    edge = "wrap" if mode == "wrap" else "own"
    return halo(data, kernel, depth, edge=edge, chunks=counts, dtype=np.float64, name="localcorr-moments")


def _moment_chunks(time: int, spans: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    return [(ROWS,) * len(s) if k == time else s for k, s in enumerate(spans)]


@dataclass(frozen=True)
class _Moments:
    """Moments of a block and of its local means; they replace the time axis."""

    time: int
    places: tuple[int, ...]
    sizes: tuple[int, ...]
    mode: str

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        images = np.moveaxis(piece, self.time, 0)
        kept = tuple(s for k, s in enumerate(inner) if k != self.time)
        space = [p - (p > self.time) for p in self.places]
        shape = tuple(s.stop - s.start for s in kept)
        step = max(1, GROUP // max(8, 8 * math.prod(shape)))
        total: np.ndarray | None = None
        for first in range(0, len(images), step):
            group = images[first : first + step]
            x, y = np.empty((len(group), *shape)), np.empty((len(group), *shape))
            for k, image in enumerate(group):
                x[k] = image[kept]
                y[k] = self._blurred(image, space)[kept]
            part = moments(x, y)
            total = part if total is None else merge(total, part)
        if total is None:
            total = np.zeros((ROWS, *shape))
        return np.moveaxis(total, 0, self.time)

    def _blurred(self, image: np.ndarray, space: Sequence[int]) -> np.ndarray:
        out = np.empty(image.shape)
        size = [1] * image.ndim
        for axis, n in zip(space, self.sizes, strict=True):
            size[axis] = n
        held = image.astype(np.float32) if image.dtype == np.float16 else image
        box_filter(held, out, size=size, mode=self.mode)
        return out


def _merged_moments(parts: Any, time: int) -> Any:
    """Merge the moments of all chunks along time, in pairs of eight, and return the correlation."""
    from dask import base

    name = f"localcorr-{base.tokenize(parts.name, time)}"
    rest = [k for k in range(parts.ndim) if k != time]
    return new_array(
        name, partial(_merging, name, parts, time, rest), [parts.chunks[k] for k in rest], np.float64, [parts]
    )


def _merging(name: str, parts: Any, time: int, rest: Sequence[int]) -> dict[Any, Any]:
    graph: dict[Any, Any] = {}
    for place in np.ndindex(*[parts.numblocks[k] for k in rest]):
        keys = [(parts.name, *place[:time], k, *place[time:]) for k in range(parts.numblocks[time])]
        level = 0
        while len(keys) > 8:
            merged = [(f"merge-{name}", level, k, *place) for k in range(-(-len(keys) // 8))]
            graph.update({m: (_merge_all, time, keys[8 * k : 8 * k + 8]) for k, m in enumerate(merged)})
            keys, level = merged, level + 1
        graph[(name, *place)] = (_finish, time, keys)
    return graph


def _merge_all(time: int, parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.moveaxis(reduce(merge, [np.moveaxis(p, time, 0) for p in parts]), 0, time)


def _finish(time: int, parts: Sequence[np.ndarray]) -> np.ndarray:
    return correlation(np.moveaxis(_merge_all(time, parts), time, 0))


# series


def _of_series(array: xr.DataArray, data: Any, axis: str, size: Any, name: str) -> Any:
    """Return the data of an array in chunks of complete series."""
    from dask import array as da

    dims = tuple(map(str, array.dims))
    if size == "auto" or isinstance(size, str):
        wanted = {k: -1 if d == axis or not array.size else "auto" for k, d in enumerate(dims)}
        try:
            chunks = da.core.normalize_chunks(
                tuple(wanted.values()), data.shape, "100MB" if size == "auto" else size, data.dtype, data.chunks
            )
        except (ValueError, NotImplementedError) as exc:
            raise ValueError(f"{name}={size!r}: expected a size such as '150MB', or pixels for each axis") from exc
        return rechunked(data, dict(enumerate(chunks)))
    if isinstance(size, (int, np.integer, Mapping)):
        axes: tuple[str, ...] = tuple(
            d for d in image_axes(array) if not isinstance(size, (int, np.integer)) or d in "zyx"
        )
    else:
        axes = image_axes(array)
        if not isinstance(size, (Sequence, np.ndarray)):
            raise TypeError(f"{name}={size!r}: expected a size such as '150MB', or pixels for each of {spell(axes)!r}")
    lengths = per_axis(name, size, axes, -1, lambda n, v: integer(n, v, 1))
    if large := [a for a, n in lengths.items() if n > array.sizes[a]]:
        raise ValueError(
            f"{name}={size!r}: a block of {lengths[large[0]]} is longer than axis {large[0]!r} of "
            f"{array.sizes[large[0]]}"
        )
    return rechunked(data, {k: -1 if d == axis else lengths.get(d, -1) for k, d in enumerate(dims)})


def _series_mapped(
    array: xr.DataArray, func: Any, value_size: int | None, block_size: Any, dtype: Any, axis: str, out_dim: str | None
) -> xr.DataArray:
    place, n = array.get_axis_num(axis), array.sizes[axis]
    if out_dim is not None and out_dim != axis and out_dim in array.dims:
        raise AxesError(f"out_dim={out_dim!r}: the image has such an axis already")
    data = _of_series(array, chunked(array), axis, block_size, "block_size")
    if value_size is None or dtype is None:
        if not array.size:
            raise ValueError("there is no series to infer the result from: give value_size= and dtype=")
        series = array[tuple(slice(None) if k == place else 0 for k in range(array.ndim))]
        one = np.array(series.values if is_held(array) else lazy(series).compute())
        found = np.asarray(func(one))
        if found.ndim > 1:
            raise ValueError(f"func returned shape {found.shape}: expected a series or a number")
        value_size = (found.shape[0] if found.ndim else 0) if value_size is None else value_size
        dtype = found.dtype if dtype is None else dtype
    kernel = _Along(func, place, value_size, np.dtype(dtype))
    chunks = partial(_series_chunks, place, value_size)
    result = halo(data, kernel, chunks=chunks, dtype=dtype, name="map_as_series")
    dims = list(map(str, array.dims))
    if value_size == 0:
        dims.remove(axis)
        return with_data(array, result[tuple(0 if k == place else slice(None) for k in range(array.ndim))], dims)
    dims[place] = out_dim or axis
    return with_data(array, result, dims, {axis: None} if value_size != n or out_dim not in (None, axis) else None)


def _series_chunks(place: int, value_size: int, spans: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    return [(max(1, value_size),) if k == place else s for k, s in enumerate(spans)]


@dataclass(frozen=True)
class _Along:
    """A function of a series, applied along an axis of a block."""

    func: Any
    place: int
    size: int
    dtype: np.dtype

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        series = np.moveaxis(piece, self.place, -1)
        out = np.empty((*series.shape[:-1], max(1, self.size)), self.dtype)
        for at in np.ndindex(series.shape[:-1]):
            value = np.asarray(self.func(series[at].copy()))  # a function may change it
            if value.shape != ((self.size,) if self.size else ()):
                raise ValueError(
                    f"func returned shape {value.shape}, expected {(self.size,) if self.size else 'a number'}: "
                    f"pass value_size={value.shape[0] if value.ndim else 0}"
                )
            if not np.can_cast(value.dtype, self.dtype, "same_kind"):
                raise TypeError(f"func returned {value.dtype}, expected {self.dtype}: pass dtype={str(value.dtype)!r}")
            out[at] = value
        return np.moveaxis(out, -1, self.place)
