"""Application of filters to chunks: windows, halos, borders, and the kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, data_type, integer, named, neighbourhood, number, per_axis
from intake_img.accessor.lengths import pixels
from intake_img.accessor.processing.halo import halo, merged, rechunked
from intake_img.accessor.processing.in_memory import chunked
from intake_img.accessor.variables import each_image, with_data
from intake_img.errors import MissingExtraError
from intake_img.kernels import approximate
from intake_img.kernels import local_filters as kernels
from intake_img.kernels.compiled import opencv
from intake_img.kernels.each_image import EachImage
from intake_img.kernels.order import FILTERS as ORDERED

__all__ = [
    "MODES",
    "Build",
    "Depth",
    "Filter",
    "call",
    "derivatives",
    "edges_along",
    "filtered",
    "gaussian_depth",
    "weighted",
    "window_of",
    "windowed",
]

MODES = {
    "reflect": "reflect",
    "mirror": "mirror",
    "nearest": "nearest",
    "constant": "constant",
    "wrap": "wrap",
    "grid-mirror": "reflect",
    "grid-constant": "constant",
    "grid-wrap": "wrap",
}
"""Names of scipy for what lies beyond the edge, and which of them mean the same."""

TWICE = ("grey_opening", "grey_closing", "white_tophat", "black_tophat")
"""Filters that pass over the image twice."""

PIXELWISE = ("convolve", "correlate", *ORDERED)
"""Filters that do not go along columns."""

LARGE = 24
"""Pixels around one from which on a window is large."""
MOST_BYTES = 2**26
"""Bytes of the largest piece of an image that chunks are merged to."""

Depth = dict[str, tuple[int, int]]
Filter = Callable[..., Any]
Build = Callable[[xr.DataArray, tuple[str, ...]], tuple[Filter, Depth]]


# extents of filters


def window_of(size: int, origin: int) -> tuple[int, int]:
    """The extent of a window before and after a pixel, as in scipy."""
    before = size // 2 + origin
    return before, size - 1 - before


def gaussian_depth(
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


def windowed(
    obj: Any,
    name: str,
    size: Any,
    footprint: Any,
    mode: str,
    cval: float,
    origin: Any,
    units: str,
    dims: Any,
    output_dtype: Any,
    engine: str = "scipy",
    **options: Any,
) -> Any:
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
        func = call(name, **window, origin=[origins[a] for a in axes], **options)
        if name in TWICE:  # and the window mirrored
            return func, {a: (sizes[a] - 1, sizes[a] - 1) for a in axes}
        if name == "grey_dilation":
            return func, {a: window_of(sizes[a], origins[a])[::-1] for a in axes}
        return func, {a: window_of(sizes[a], origins[a]) for a in axes}

    return filtered(obj, name, build, mode, cval, named(dims, "size", size), output_dtype, engine)


def derivatives(
    obj: Any, name: str, sigma: Any, mode: str, cval: float, truncate: float, units: str, dims: Any, output_dtype: Any
) -> Any:
    number("truncate", truncate, 0)

    def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
        sigmas = pixels("sigma", sigma, array, axes, units=units, absent=0.0, whole=False)
        return call(name, sigma=[sigmas[a] for a in axes], truncate=truncate), gaussian_depth(sigmas, truncate)

    return filtered(obj, name, build, mode, cval, named(dims, "sigma", sigma), output_dtype)


def edges_along(
    obj: Any, name: str, axis: str, mode: str, cval: float, dims: Any, output_dtype: Any, engine: str = "scipy"
) -> Any:
    def build(array: xr.DataArray, axes: tuple[str, ...]) -> tuple[Filter, Depth]:
        return call(name, axis=axes.index(choice("axis", axis, axes))), dict.fromkeys(axes, (1, 1))

    return filtered(obj, name, build, mode, cval, dims, output_dtype, engine)


def weighted(
    obj: Any, name: str, weights: Any, mode: str, cval: float, origin: Any, dims: Any, output_dtype: Any, engine: str
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
        func = call(name, weights=kernel, origin=[origins[a] for a in axes])
        return func, {a: window_of(sizes[a], placed[a]) for a in axes}

    return filtered(obj, name, build, mode, cval, dims, output_dtype, engine)


def _shaped(name: str, values: Any, axes: Sequence[str], dtype: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
        array = array.astype(dtype) if array.dtype.kind in "biuf" else np.empty((0, *array.shape))
    except ValueError:  # ragged
        array = np.empty(0)
    if array.ndim != len(axes) or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape} and contains {np.asarray(values).dtype if array.size else 'no numbers'}: "
            f"expected numbers with one axis for each of {', '.join(map(repr, axes))} "
            "(choose the axes with dims=, e.g. dims='yx')"
        )
    return array


def call(name: str, **options: Any) -> Filter:
    own: dict[str, Filter] = {"uniform_filter": kernels.uniform_filter, **ORDERED}
    return partial(own[name], **options) if name in own else partial(kernels.scipy_filter, name=name, **options)


def _checked(name: str, dtype: np.dtype, output: np.dtype) -> None:
    """Raise an error if scipy does not filter such images."""
    for what, d in (("image has", dtype), ("output_dtype is", output)):
        plain = d.kind in "biu" or d in (np.float32, np.float64)
        if not plain and not (d in (np.complex64, np.complex128) and name in kernels.LINEAR):
            advice = (
                "filter a part or the magnitude: image.real, image.imag, abs(image)"
                if d.kind == "c"
                else "convert it with .astype('float32') (or float64)"
            )
            raise TypeError(f"{name}: the {what} dtype {d}; expected bool, integers, float32 or float64; {advice}")
    if (dtype.kind == "c") != (output.kind == "c"):
        raise TypeError(f"{name}: output_dtype={output} for an image of {dtype}: expected both complex, or neither")


def _least(data: Any, depth: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Return the length of chunks for a large window, such that the halo is a small share."""
    large = {k: sum(d) for k, d in depth.items() if sum(d) >= LARGE}
    if not large:
        return {}
    rest = math.prod(max(c, default=1) for k, c in enumerate(data.chunks) if k not in large) * data.dtype.itemsize
    for times in (4, 3, 2, 1):
        if rest * math.prod((times + 1) * n for n in large.values()) <= MOST_BYTES:
            return {k: max(times * n, *depth[k]) for k, n in large.items()}
    return {}


def _by_engine(
    func: Filter, engine: str, name: str, array: xr.DataArray, dtype: np.dtype, axes: Sequence[str], cval: float
) -> Filter:
    """Return the filter of the requested engine."""
    if engine == "scipy":
        return partial(kernels.by_parts, func=func) if array.dtype.kind == "c" else func
    if opencv() is None:
        raise MissingExtraError("opencv-python-headless", "fast", f"{name}(engine='opencv')")
    options = {k: v for k, v in getattr(func, "keywords", {}).items() if k != "name"}
    if reason := approximate.unsupported(name, array.dtype, dtype, axes, cval, options):
        raise ValueError(f"{name}(engine='opencv'): {reason}; or leave engine out, for scipy")
    return partial(approximate.opencv_filter, name=name, **options)


def filtered(
    obj: Any, name: str, build: Build, mode: str, cval: float, dims: Any, output_dtype: Any, engine: str = "scipy"
) -> Any:
    choice("engine", engine, ("scipy", "opencv"))
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
        func = _by_engine(func, engine, name, array, dtype, axes, value)
        places = [array.get_axis_num(a) for a in axes]
        columns = name not in PIXELWISE and not (name == "uniform_filter" and array.dtype.itemsize < 8)
        each = EachImage(partial(func, mode=known, cval=value), places, dtype, roomy=engine == "scipy" and columns)
        edge = "wrap" if known == "wrap" else "own"
        far = {array.get_axis_num(a): d for a, d in depth.items()}
        data: Any = chunked(array)
        data = rechunked(data, {k: merged(data.chunks[k], n) for k, n in _least(data, far).items()})
        data = halo(data, each, far, edge=edge, passes=1 + (name in TWICE), dtype=dtype, name=name)
        return with_data(array, data)

    return each_image(obj, change)
