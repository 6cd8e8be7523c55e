"""Filters of one image: box means without running sums, local thresholds, and those of `scipy.ndimage`.

Every function fills `output`, whose dtype is that of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from intake_img.kernels.box_means import PADS, float_means, integer_means

__all__ = [
    "LINEAR",
    "box_filter",
    "by_parts",
    "padded",
    "scipy_filter",
    "slabs",
    "threshold_local",
    "uniform_filter",
    "windowed",
]

LINEAR = (
    "convolve",
    "correlate",
    "gaussian_filter",
    "gaussian_laplace",
    "laplace",
    "prewitt",
    "sobel",
    "uniform_filter",
)
"""Filters that act on real and imaginary parts alike."""

SLAB = 2**15
"""Pixels of a part that is filtered in one call."""


def box_filter(
    image: np.ndarray,
    output: np.ndarray,
    *,
    size: Sequence[int],
    mode: str,
    cval: float = 0.0,
    origin: Sequence[int] | int = 0,
) -> None:
    """Average floats over boxes; each window is summed separately.

    `scipy.ndimage.uniform_filter` uses a running sum along the line [1]_: a NaN affects all following pixels, and
    rounding errors depend on the start of the line, hence on the chunks. Here every pixel depends only on its window.

    References
    ----------
    .. [1] scipy/ndimage/src/ni_filters.c, ``NI_UniformFilter1D``
    """
    from scipy import ndimage

    origins = [origin] * image.ndim if isinstance(origin, int) else origin
    if image.size and float_means(image, output, size, mode, cval, origins):
        return
    current: np.ndarray = image
    for axis, (n, shift) in enumerate(zip(size, origins, strict=True)):
        if n > 1:
            made = np.empty(image.shape, output.dtype)  # as scipy: each axis in the dtype of the output
            for part in slabs(image.shape, axis):
                sums = ndimage.correlate1d(current[part], np.ones(n), axis, np.float64, mode, cval, shift)
                np.divide(sums, n, out=sums)
                made[part] = sums
            current = made
    output[...] = current


def padded(image: np.ndarray, reach: Sequence[tuple[int, int]], mode: str, cval: float) -> np.ndarray:
    """Return a padded image, with `reach` pixels before and after along each axis."""
    if not any(any(r) for r in reach):
        return image
    options: dict[str, Any] = {"constant_values": image.dtype.type(cval)} if mode == "constant" else {}
    pad: Any = np.pad
    return pad(image, reach, PADS[mode], **options)


def slabs(shape: Sequence[int], axis: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array across `axis` into parts whose lines fit into the CPU cache; lines are not cut."""
    across = len(shape) - 1 if axis < len(shape) - 1 else 0
    whole = (slice(None),) * len(shape)
    if len(shape) == 1:
        yield whole
        return
    step = max(1, SLAB // max(1, math.prod(shape) // max(1, shape[across])))
    for start in range(0, shape[across], step):
        yield (*whole[:across], slice(start, start + step), *whole[across + 1 :])


def uniform_filter(
    image: np.ndarray,
    output: np.ndarray,
    *,
    size: Sequence[int],
    mode: str,
    cval: float = 0.0,
    origin: Sequence[int] | int = 0,
) -> None:
    """Average over boxes: with scipy for integers whose sums float64 can represent, exactly for larger integers, and
    with `box_filter` for floats.
    """
    from scipy import ndimage

    if image.dtype.kind not in "iub" or output.dtype.kind not in "iub":
        box_filter(image, output, size=size, mode=mode, cval=cval, origin=origin)
        return
    origins = [origin] * image.ndim if isinstance(origin, int) else origin
    if image.size and integer_means(image, output, size, mode, cval, origins):
        return
    if _sums_held(image, max(size, default=1), cval if mode == "constant" else 0):
        ndimage.uniform_filter(image, size, output, mode, cval, origin)
    else:
        _exact_box(image, output, size, mode, cval, origins)


def _sums_held(image: np.ndarray, n: int, cval: float) -> bool:
    """Whether float64 can represent every sum of n values."""
    if image.dtype.itemsize < 8 or not image.size:
        return True
    return n * max(int(image.max()), -int(image.min()), abs(cval)) <= 2**53


def _exact_box(
    image: np.ndarray, output: np.ndarray, size: Sequence[int], mode: str, cval: float, origins: Sequence[int]
) -> None:
    """Average 64-bit integers over boxes, axis by axis; each mean is truncated towards zero, as in scipy."""
    info = np.iinfo(image.dtype)
    if mode == "constant" and not (float(cval).is_integer() and info.min <= cval <= info.max):
        raise ValueError(f"cval={cval!r}: with integers beyond 2**53 expected an integer that fits into {image.dtype}")
    current = image
    for axis, (n, shift) in enumerate(zip(size, origins, strict=True)):
        if n > 1:
            before = n // 2 + shift
            reach = [(before, n - 1 - before) if k == axis else (0, 0) for k in range(image.ndim)]
            current = _truncated_means(padded(current, reach, mode, cval), n, axis)
    output[...] = current.astype(output.dtype)


def _truncated_means(values: np.ndarray, n: int, axis: int) -> np.ndarray:
    """Return the mean of every n neighbours: of ``x = q n + r`` the sum is ``n sum(q) + sum(r)``."""
    parts = np.divmod(np.moveaxis(values, axis, -1), values.dtype.type(n))
    whole, rest = (np.lib.stride_tricks.sliding_window_view(p, n, axis=-1).sum(-1, dtype=p.dtype) for p in parts)
    more, rest = np.divmod(rest, values.dtype.type(n))
    floor = whole + more
    return np.moveaxis(floor + ((floor < 0) & (rest != 0)).astype(floor.dtype), -1, axis)


def by_parts(image: np.ndarray, output: np.ndarray, *, func: Callable[..., Any], **options: Any) -> None:
    """Filter the real and the imaginary part of a complex image with a linear filter."""
    cval = options.pop("cval", 0.0)
    for name, beyond in (("real", cval), ("imag", 0.0)):
        part = np.empty(image.shape, output.real.dtype)
        func(np.ascontiguousarray(getattr(image, name)), part, cval=beyond, **options)
        getattr(output, name)[...] = part


def scipy_filter(image: np.ndarray, output: np.ndarray, *, name: str, **options: Any) -> None:
    """Call the filter of this name in `scipy.ndimage`."""
    windowed(name, image, output=output, **options)


def windowed(name: str, image: np.ndarray, *first: Any, **options: Any) -> Any:
    """Call a filter of `scipy.ndimage`, also where its window is far larger than the image.

    In the mode ``"reflect"``, scipy (1.17) reads beyond the memory of the image where a window that is not passed over
    line by line begins four lengths before it [1]_. There the image is extended by complete copies.

    References
    ----------
    .. [1] scipy/ndimage/src/ni_support.c, ``NI_InitFilterOffsets``
    """
    from scipy import ndimage

    func = getattr(ndimage, name)
    copies = _copies(name, image.shape, options) if options.get("mode") == "reflect" else []
    if not any(copies):
        return func(image, *first, **options)
    if name in _TWICE:
        return _twice(name, image, **options)
    reach = [(k * n, k * n) for k, n in zip(copies, image.shape, strict=True)]
    output = options.pop("output", None)
    dtype = getattr(output, "dtype", output)
    made = func(padded(image, reach, "reflect", 0), *first, output=dtype, **options)
    inner = made[tuple(slice(k, k + n) for (k, _), n in zip(reach, image.shape, strict=True))]
    if not isinstance(output, np.ndarray):
        return inner
    output[...] = inner
    return output


_TWICE = {
    "grey_opening": ("grey_erosion", "grey_dilation"),
    "grey_closing": ("grey_dilation", "grey_erosion"),
    "white_tophat": ("grey_erosion", "grey_dilation"),
    "black_tophat": ("grey_dilation", "grey_erosion"),
}
_FAR = 4
"""Lengths of the image that a window may begin before it."""


def _copies(name: str, shape: Sequence[int], options: dict[str, Any]) -> list[int]:
    """Return the number of copies to put before and behind the image along each axis."""
    window = next((options[k] for k in ("footprint", "weights") if options.get(k) is not None), None)
    if window is not None:
        sizes = np.shape(window)
    elif name in ("median_filter", "rank_filter", "percentile_filter"):
        sizes = tuple(np.broadcast_to(options["size"], len(shape)).tolist())
    else:
        return []
    need = [(size - 1) / (_FAR * n) if n > 1 else 0.0 for size, n in zip(sizes, shape, strict=True)]
    return [math.floor((lengths - 1) / 2) + 1 if lengths >= 1 else 0 for lengths in need]


def _twice(name: str, image: np.ndarray, output: Any = None, **options: Any) -> Any:
    """Openings, closings and what they remove, in two passes as in scipy."""
    first, second = _TWICE[name]
    made = windowed(second, windowed(first, image, **options), output=output, **options)
    if name.endswith("tophat"):
        difference = np.bitwise_xor if image.dtype == made.dtype == bool else np.subtract
        more, less = (image, made) if name == "white_tophat" else (made, image)
        difference(more, less, out=made)
    return made


def threshold_local(
    image: np.ndarray,
    output: np.ndarray,
    *,
    method: str,
    size: Sequence[int],
    sigma: Sequence[float],
    offset: float,
    mode: str,
    cval: float,
) -> None:
    """Fill `output` (float64) with the local threshold of `skimage.filters.threshold_local` [1]_.

    References
    ----------
    .. [1] skimage/filters/thresholding.py, ``threshold_local``
    """
    from scipy import ndimage

    if method == "mean":
        box_filter(image, output, size=size, mode=mode, cval=cval)
    elif method == "median":
        windowed("median_filter", image, size=size, output=output, mode=mode, cval=cval)
    else:
        ndimage.gaussian_filter(image, sigma, output=output, mode=mode, cval=cval)
    output -= offset
