"""Filters of one image that `scipy.ndimage` has not ready: boxes whose sums do not run along the line, thresholds.

Every function fills `output`, whose dtype is that of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["box_filter", "percentile_filter", "rank_filter", "scipy_filter", "threshold_local", "uniform_filter"]


def box_filter(image: np.ndarray, output: np.ndarray, *, size: Sequence[int], mode: str, cval: float = 0.0,
               origin: Sequence[int] | int = 0) -> None:  # fmt: skip
    """Average floats over boxes, each window summed by itself.

    `scipy.ndimage.uniform_filter` carries one sum along the line [1]_: a NaN spoils all that follows it, and rounding
    errors depend on where the line begins, hence on the chunks. Here every pixel depends on its window alone.

    References
    ----------
    .. [1] scipy/ndimage/src/ni_filters.c, ``NI_UniformFilter1D``
    """
    origins = [origin] * image.ndim if isinstance(origin, int) else origin
    current: np.ndarray = image
    for axis, (n, shift) in enumerate(zip(size, origins, strict=True)):
        if n > 1:
            sums = ndimage.correlate1d(current, np.ones(n), axis, np.float64, mode, cval, shift)
            sums /= n
            current = sums.astype(output.dtype, copy=False)  # as scipy: each axis in the dtype of the output
    output[...] = current


def uniform_filter(image: np.ndarray, output: np.ndarray, *, size: Sequence[int], mode: str, cval: float = 0.0,
                   origin: Sequence[int] | int = 0) -> None:  # fmt: skip
    """Average over boxes: as scipy does it for integers, whose sums are exact, and with `box_filter` for floats."""
    if image.dtype.kind in "iub" and output.dtype.kind in "iub":
        ndimage.uniform_filter(image, size, output, mode, cval, origin)
    else:
        box_filter(image, output, size=size, mode=mode, cval=cval, origin=origin)


def scipy_filter(image: np.ndarray, output: np.ndarray, *, name: str, **options: Any) -> None:
    """Call the filter of this name in `scipy.ndimage`."""
    getattr(ndimage, name)(image, output=output, **options)


def percentile_filter(image: np.ndarray, output: np.ndarray, *, percentile: float, **options: Any) -> None:
    """See `scipy.ndimage.percentile_filter`."""
    ndimage.percentile_filter(image, percentile, output=output, **options)


def rank_filter(image: np.ndarray, output: np.ndarray, *, rank: int, **options: Any) -> None:
    """See `scipy.ndimage.rank_filter`."""
    ndimage.rank_filter(image, rank, output=output, **options)


def threshold_local(image: np.ndarray, output: np.ndarray, *, method: str, size: Sequence[int], sigma: Sequence[float],
                    offset: float, mode: str, cval: float) -> None:  # fmt: skip
    """Fill `output` (float64) with the local threshold of `skimage.filters.threshold_local` [1]_.

    References
    ----------
    .. [1] skimage/filters/thresholding.py, ``threshold_local``
    """
    if method == "mean":
        box_filter(image, output, size=size, mode=mode, cval=cval)
    elif method == "median":
        ndimage.median_filter(image, size, output=output, mode=mode, cval=cval)
    else:
        ndimage.gaussian_filter(image, sigma, output=output, mode=mode, cval=cval)
    output -= offset
