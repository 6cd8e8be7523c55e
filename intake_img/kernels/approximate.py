"""Linear filters of planes by OpenCV, in the precision of the image (scipy computes in float64).

Images of float32 and integers are computed in float32. Results of n taps differ from scipy's by at most ``n * 2**-22``
of the largest value in the window (box means: in the image) times the sum of the absolute weights; integers, which are
truncated once and not after each axis (box means of unsigned ones: rounded), are up to 2 greater or 1 less. The
extension beyond the edge is the same as in scipy.

OpenCV applies large weights by Fourier transform, which would spread errors and NaN over the image: scipy does this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from intake_img.kernels.compiled import BORDERS, opencv
from intake_img.kernels.local_filters import box_filter, scipy_filter

__all__ = ["opencv_filter", "unsupported"]

DTYPES = ("u1", "u2", "i2", "f4", "f8")
POSITIVE = ("gaussian_filter", "uniform_filter")
"""Filters whose results lie within the range of the image."""
DIRECT = {np.dtype("f4"): 129, np.dtype("f8"): 49}
"""The most weights that OpenCV does not apply by Fourier transform (modules/imgproc/src/filter.dispatch.cpp)."""


def unsupported(
    name: str, dtype: np.dtype, output: np.dtype, axes: Sequence[str], cval: float, options: Mapping[str, Any]
) -> str | None:
    """Return why OpenCV cannot run a filter, and what to do; None if it can."""
    if dtype not in map(np.dtype, DTYPES):
        return f"the image has dtype {dtype}, expected uint8, uint16, int16, float32 or float64"
    if output.kind not in "f" and (output != dtype or name not in POSITIVE):
        return f"output_dtype={output} for an image of {dtype}, expected output_dtype='float32' (or float64)"
    if any(np.ravel(options.get("order", 0))):
        return f"order={options['order']}, expected 0: no derivatives"
    if name == "sobel" and cval:  # scipy extends the result of the first axis in the same way
        return f"cval={cval!r}, expected 0 beyond the edge"
    taken = axes if name in ("sobel", "correlate", "convolve") else _used(axes, options)
    if len(axes) < 2 or not set(taken) <= set(axes[-2:]):
        return f"the filter acts along {', '.join(taken)}, expected a plane: dims='yx'"
    return None


def _used(axes: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    least, values = (1, options["size"]) if "size" in options else (1e-15, options["sigma"])
    return [a for a, v in zip(axes, values, strict=True) if v > least]


def opencv_filter(image: np.ndarray, output: np.ndarray, *, name: str, mode: str, cval: float, **options: Any) -> None:
    """Fill `output` with the planes of an image, filtered by the filter of this name, one of `FILTERS`."""
    cv2: Any = opencv()
    if name == "uniform_filter" and not _finite(image):
        box_filter(image, output, mode=mode, cval=cval, **options)  # a running sum would spread NaN
        return
    dtype = np.dtype(np.float64 if image.dtype == np.float64 else np.float32)
    if np.size(options.get("weights", 0)) > DIRECT[dtype]:
        scipy_filter(image, output, name=name, mode=mode, cval=cval, **_of_planes(image.ndim, options))
        return
    depth = cv2.CV_64F if dtype == np.float64 else cv2.CV_32F
    if name == "uniform_filter" and image.dtype.kind == "u" and image.dtype == output.dtype and not cval:
        dtype, depth = image.dtype, -1
    func, reach = MAKERS[name](cv2, depth, dtype, options)
    for place in np.ndindex(image.shape[:-2]):
        plane, target = np.ascontiguousarray(image[place], dtype), output[place]  # OpenCV is faster for floats
        if mode == "wrap" or cval:  # edges that these functions of OpenCV do not know
            plane = cv2.copyMakeBorder(plane, *chain(*reach), BORDERS[mode], value=float(cval))
            inner = tuple(slice(before, before + n) for (before, _), n in zip(reach, target.shape, strict=True))
            target[...] = func(plane, borderType=cv2.BORDER_REPLICATE)[inner]
        elif target.dtype == dtype and target.strides[-1] == target.itemsize and target.strides[0] > 0:
            func(plane, dst=target, borderType=BORDERS[mode])
        else:
            target[...] = func(plane, borderType=BORDERS[mode])


def _of_planes(ndim: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights of planes and their origin for images with more axes."""
    lead = ndim - 2
    return {"weights": options["weights"][(None,) * lead], "origin": [0] * lead + list(options["origin"])}


def _finite(image: np.ndarray) -> bool:
    return image.dtype.kind != "f" or bool(np.isfinite(image.min()) and np.isfinite(image.max()))


Made = tuple[Callable[..., np.ndarray], list[tuple[int, int]]]
"""``func(plane, dst=, borderType=)``, and its extent along each axis."""


def _separable(cv2: Any, depth: int, dtype: np.dtype, lines: Sequence[np.ndarray]) -> Made:
    down, along = (np.asarray(line, dtype) for line in lines[-2:])
    reach = [(len(line) // 2, len(line) // 2) for line in (down, along)]
    return partial(cv2.sepFilter2D, ddepth=depth, kernelX=along, kernelY=down), reach


def _gaussian(cv2: Any, depth: int, dtype: np.dtype, options: Mapping[str, Any]) -> Made:
    sigmas = options["sigma"]
    given = options.get("radius", [None] * len(sigmas))
    radii = [
        int(options.get("truncate", 4.0) * s + 0.5) if r is None else r for s, r in zip(sigmas, given, strict=True)
    ]
    lines = [_bell(s, r) if s > 1e-15 else np.ones(1) for s, r in zip(sigmas, radii, strict=True)]
    return _separable(cv2, depth, dtype, lines)


def _bell(sigma: float, radius: int) -> np.ndarray:
    values = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    return values / values.sum()


def _sobel(cv2: Any, depth: int, dtype: np.dtype, options: Mapping[str, Any]) -> Made:
    lines = [np.array([1.0, 2.0, 1.0])] * 2
    lines[options["axis"]] = np.array([-1.0, 0.0, 1.0])
    return _separable(cv2, depth, dtype, lines)


def _uniform(cv2: Any, depth: int, dtype: np.dtype, options: Mapping[str, Any]) -> Made:
    size, (before, reach) = options["size"][-2:], _around(options["size"][-2:], options["origin"][-2:])
    return partial(cv2.boxFilter, ddepth=depth, ksize=tuple(size[::-1]), anchor=before), reach


def _correlate(cv2: Any, depth: int, dtype: np.dtype, options: Mapping[str, Any]) -> Made:
    weights = np.asarray(options["weights"], dtype)
    before, reach = _around(weights.shape, options["origin"])
    return partial(cv2.filter2D, ddepth=depth, kernel=weights, anchor=before), reach


def _around(size: Sequence[int], origin: Sequence[int]) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """Return the anchor of a window, as (x, y), and the extent of the window along each axis."""
    before = [n // 2 + o for n, o in zip(size, origin, strict=True)]
    return tuple(before[::-1]), [(b, n - 1 - b) for b, n in zip(before, size, strict=True)]


def _convolve(cv2: Any, depth: int, dtype: np.dtype, options: Mapping[str, Any]) -> Made:
    weights = np.asarray(options["weights"])
    origin = [-o - (n % 2 == 0) for o, n in zip(options["origin"], weights.shape, strict=True)]
    return _correlate(cv2, depth, dtype, {"weights": weights[::-1, ::-1].copy(), "origin": origin})


MAKERS: dict[str, Callable[..., Made]] = {
    "gaussian_filter": _gaussian,
    "uniform_filter": _uniform,
    "sobel": _sobel,
    "correlate": _correlate,
    "convolve": _convolve,
}
