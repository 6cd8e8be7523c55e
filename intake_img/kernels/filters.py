"""Filters of one image that `scipy.ndimage` has not ready: boxes whose sums do not run along the line, thresholds.

Every function fills `output`, whose dtype is that of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["box_filter", "scipy_filter", "slabs", "threshold_local", "uniform_filter"]

SLAB = 2**15
"""Pixels of a part that is filtered at once."""


def box_filter(image: np.ndarray, output: np.ndarray, *, size: Sequence[int], mode: str, cval: float = 0.0,
               origin: Sequence[int] | int = 0) -> None:  # fmt: skip
    """Average floats over boxes, each window summed by itself.

    `scipy.ndimage.uniform_filter` carries one sum along the line [1]_: a NaN spoils all that follows it, and rounding
    errors depend on where the line begins, hence on the chunks. Here every pixel depends on its window alone.

    References
    ----------
    .. [1] scipy/ndimage/src/ni_filters.c, ``NI_UniformFilter1D``
    """
    from scipy import ndimage

    origins = [origin] * image.ndim if isinstance(origin, int) else origin
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


def slabs(shape: Sequence[int], axis: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array across `axis` into parts whose lines stay in the cache; along lines nothing is cut."""
    across = len(shape) - 1 if axis < len(shape) - 1 else 0
    whole = (slice(None),) * len(shape)
    if len(shape) == 1:
        yield whole
        return
    step = max(1, SLAB // max(1, math.prod(shape) // max(1, shape[across])))
    for start in range(0, shape[across], step):
        yield (*whole[:across], slice(start, start + step), *whole[across + 1 :])


def uniform_filter(image: np.ndarray, output: np.ndarray, *, size: Sequence[int], mode: str, cval: float = 0.0,
                   origin: Sequence[int] | int = 0) -> None:  # fmt: skip
    """Average over boxes: as scipy does it for integers, whose sums are exact, and with `box_filter` for floats."""
    from scipy import ndimage

    if image.dtype.kind in "iub" and output.dtype.kind in "iub":
        ndimage.uniform_filter(image, size, output, mode, cval, origin)
    else:
        box_filter(image, output, size=size, mode=mode, cval=cval, origin=origin)


def scipy_filter(image: np.ndarray, output: np.ndarray, *, name: str, **options: Any) -> None:
    """Call the filter of this name in `scipy.ndimage`."""
    from scipy import ndimage

    getattr(ndimage, name)(image, output=output, **options)


def threshold_local(image: np.ndarray, output: np.ndarray, *, method: str, size: Sequence[int], sigma: Sequence[float],
                    offset: float, mode: str, cval: float) -> None:  # fmt: skip
    """Fill `output` (float64) with the local threshold of `skimage.filters.threshold_local` [1]_.

    References
    ----------
    .. [1] skimage/filters/thresholding.py, ``threshold_local``
    """
    from scipy import ndimage

    if method == "mean":
        box_filter(image, output, size=size, mode=mode, cval=cval)
    elif method == "median":
        ndimage.median_filter(image, size, output=output, mode=mode, cval=cval)
    else:
        ndimage.gaussian_filter(image, sigma, output=output, mode=mode, cval=cval)
    output -= offset
