"""Translation of images: how far one lies from another, and images moved by whole and by parts of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from intake_img.kernels.wide import beyond_floats

__all__ = [
    "SNAP",
    "Origin",
    "agreement",
    "faded",
    "moved_whole",
    "offset",
    "origin",
    "overlapping",
    "translation",
    "weighted",
]

SNAP = 1e-6
"""A shift that is closer than this to whole pixels is one of whole pixels."""


def translation(
    reference: np.ndarray, moving: np.ndarray, upsample: int, normalization: str | None, window: bool
) -> tuple[np.ndarray, float]:
    """Return the shift that moves an image onto another, by `skimage.registration.phase_cross_correlation`.

    Parameters
    ----------
    reference, moving : ndarray of the same shape
    upsample : int
        The shift is found to a fraction ``1 / upsample`` of a pixel.
    normalization : {"phase", None}
    window : bool
        Whether to subtract the mean of an image, and let what is left fade towards its edges (a Hann window). A window
        draws the shift towards 0, therefore what overlaps after moving by whole pixels is measured once more.

    Returns
    -------
    shift : ndarray of float64, of shape (d,)
        In pixels; NaN if one of the images has one value only.
    correlation : float
        Pearson's correlation of the pixels that overlap then.

    Raises
    ------
    ValueError
        If a pixel is NaN or infinite.
    """
    if _blank(reference, moving):
        return np.full(reference.ndim, np.nan), np.nan
    images = [a.astype(np.float64) if a.dtype.kind in "biu" else a for a in (reference, moving)]
    options = {"upsample_factor": upsample, "normalization": normalization}
    shift = _measured(faded(images) if window else images, options)
    for _ in range(_PASSES if window else 0):
        if not np.round(shift).any():  # all of them overlaps: nothing else would be measured
            break
        parts = overlapping(images[0], images[1], shift)
        small = any(n < min(_LEAST, m) for n, m in zip(parts[0].shape, reference.shape, strict=True))
        if small or any(np.ptp(a) == 0 for a in parts):
            break
        rest = _measured(faded(parts), options)
        shift = np.round(shift) + rest
        if not np.round(rest).any():
            break
    return shift, agreement(images[0], images[1], shift)


_PASSES, _LEAST = 3, 8


def _blank(*images: np.ndarray) -> bool:
    """Return whether one of the images has one value only; pixels that are not finite are refused."""
    ends = [(a.min(), a.max()) for a in images]
    if not np.isfinite(ends).all():
        raise ValueError("shifts cannot be measured in images with NaN or infinite pixels: fill them first (fillna)")
    return any(low == high for low, high in ends)


def _measured(images: Sequence[np.ndarray], options: dict[str, Any]) -> np.ndarray:
    from skimage.registration import phase_cross_correlation

    return np.asarray(phase_cross_correlation(*images, **options)[0], np.float64)


def offset(reference: np.ndarray, moving: np.ndarray, least: float = 0.5) -> tuple[np.ndarray, float]:
    """Return the shift of whole pixels after which two images correlate best where they overlap.

    By `skimage.registration.phase_cross_correlation` with masks: normalized cross-correlation, which knows of no edges
    and suits narrow strips.

    Parameters
    ----------
    reference, moving : ndarray of the same shape
    least : float
        How much of the images has to overlap after the shift.

    Returns
    -------
    shift : ndarray of float64, of shape (d,)
        NaN if one of the images has one value only.
    correlation : float
        Pearson's correlation of the pixels that overlap then.

    References
    ----------
    .. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Transactions on Image Processing 21
       (2012) 2706-2718.
    """
    from skimage.registration import phase_cross_correlation

    if _blank(reference, moving):
        return np.full(reference.ndim, np.nan), np.nan
    images = [a.astype(np.float64) for a in (reference, moving)]
    masks = {f"{which}_mask": np.ones(reference.shape, bool) for which in ("reference", "moving")}
    shift = np.asarray(phase_cross_correlation(*images, **masks, overlap_ratio=least)[0], np.float64)
    return shift, agreement(images[0], images[1], shift)


def faded(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return images of one shape less their means, times a Hann window along each axis."""
    weights = np.ones(())
    for n in images[0].shape:
        weights = np.multiply.outer(weights, np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2)
    return [((a - a.mean(dtype=np.float64)) * weights).astype(a.dtype, copy=False) for a in images]


def overlapping(reference: np.ndarray, moving: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
    """Return the parts of two images that overlap after moving one by whole pixels; views."""
    steps = [(round(float(s)), n) for s, n in zip(shift, reference.shape, strict=True)]
    own = tuple(slice(max(0, s), max(0, n + min(0, s))) for s, n in steps)
    other = tuple(slice(max(0, -s), max(0, n - max(0, s))) for s, n in steps)
    return [reference[own], moving[other]]


def agreement(reference: np.ndarray, moving: np.ndarray, shift: np.ndarray) -> float:
    """Return Pearson's correlation of what overlaps after moving by whole pixels; NaN if that has one value."""
    one, two = (a.astype(np.float64).ravel() for a in overlapping(reference, moving, shift))
    if not one.size:
        return math.nan
    one, two = one - one.mean(), two - two.mean()
    power = math.sqrt(float(one @ one) * float(two @ two))
    return float(one @ two) / power if power else math.nan


class Origin(NamedTuple):
    """Where the pixels of an image that is moved along one axis come from.

    Attributes
    ----------
    start : int
        Pixel k comes from ``k + start``,
    fraction : float
        and so much further on.
    first, last : int
        The first pixel that does not come from outside, and the last, exclusive, counted from the end of the image.
    """

    start: int
    fraction: float
    first: int
    last: int


def origin(shift: float, order: int) -> Origin:
    """Return where pixels come from; with order 0 fractions are rounded away, halves to the pixel further on.

    Examples
    --------
    >>> origin(2, 1)
    Origin(start=-2, fraction=0.0, first=2, last=2)
    >>> origin(-0.25, 1)
    Origin(start=0, fraction=0.25, first=0, last=-1)
    >>> origin(-0.5, 0)
    Origin(start=1, fraction=0.0, first=0, last=-1)
    """
    near = round(shift)
    s = float(near) if abs(shift - near) < SNAP else float(shift)
    start = math.floor(0.5 - s) if order == 0 else math.floor(-s)
    return Origin(start, 0.0 if order == 0 else -s - start, math.ceil(s), math.floor(s))


def weighted(image: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Return an image between pixels, axis by axis: of neighbours ``a, b`` the value ``(1 - f) a + f b``.

    The weights do not depend on the place, so that every part of an image has the same values as in the whole.

    Parameters
    ----------
    image : ndarray
    fractions : sequence of float
        For the last axes; along an axis whose fraction is not 0 the result is a pixel shorter.

    Returns
    -------
    ndarray of the same dtype; integers are rounded, halves away from zero, as in `scipy.ndimage.shift`
    """
    _check(image)
    values = image.astype(np.float64)
    for axis, f in zip(range(-len(fractions), 0), fractions, strict=True):
        if f:
            n = values.shape[axis]
            low, high = (np.take(values, range(k, n - 1 + k), axis) for k in (0, 1))
            values = (1 - f) * low + f * high
    return _as(values, image.dtype)


def moved_whole(image: np.ndarray, shift: Sequence[float], order: int, fill: Any) -> np.ndarray:
    """Return an image moved by `scipy.ndimage.shift`, a spline of some order; what comes from outside is `fill`."""
    from scipy import ndimage

    _check(image)
    values = image.astype(np.float32) if image.dtype == np.float16 else image  # which scipy does not filter
    return ndimage.shift(values, shift, order=order, mode="constant", cval=fill).astype(image.dtype, copy=False)


def _check(image: np.ndarray) -> None:
    if beyond_floats(image):
        raise OverflowError(
            f"the image has {image.dtype} beyond 2**53, which float64 cannot represent; expected smaller "
            "numbers, order=0, or floats: image.astype(float)"
        )


def _as(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu":
        values = np.trunc(values + np.copysign(0.5, values))
    return values.astype(dtype)
