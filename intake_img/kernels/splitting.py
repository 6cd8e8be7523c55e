"""Functions of one component of a mask: distances to the background, parts, and local maxima of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intake_img.kernels import order, wide
from intake_img.kernels.thresholding import above

__all__ = ["candidates", "distances", "skeleton", "spaced", "split"]


def distances(
    mask: np.ndarray,
    images: Sequence[np.ndarray],
    start: Sequence[int],
    shape: Sequence[int],
    *,
    steps: Sequence[float],
) -> np.ndarray:
    """Return the Euclidean distance of each pixel to the nearest background; infinite if there is none."""
    from scipy import ndimage

    if mask.all():
        return np.full(mask.shape, np.inf)
    return ndimage.distance_transform_edt(mask, sampling=steps)


def skeleton(mask: np.ndarray, images: Sequence[np.ndarray], start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return the skeleton of one component."""
    from skimage.morphology import skeletonize

    return skeletonize(mask)


def split(
    mask: np.ndarray,
    images: Sequence[np.ndarray],
    start: Sequence[int],
    shape: Sequence[int],
    *,
    radii: Sequence[int],
    steps: Sequence[float],
) -> np.ndarray:
    """Split one component at the watersheds between the maxima of its distance to the background.

    Returns
    -------
    ndarray of int64
        Of each part the place of its first pixel in the whole image, from 1. A component without background around it
        is one part: it has no distances.
    """
    from skimage.segmentation import watershed

    if mask.all():
        return _first_places(mask.astype(np.int64), start, shape)
    away = distances(mask, images, start, shape, steps=steps)
    high = np.zeros(mask.shape, bool)
    candidates(away, high, radii=radii, threshold=0.0)
    places = np.argwhere(high)
    places = spaced(places, away[high], radii)
    markers = np.zeros(mask.shape, np.int64)
    markers[tuple(places.T)] = np.arange(1, len(places) + 1)
    parts = watershed(-away, markers, connectivity=mask.ndim, mask=mask) if len(places) > 1 else mask.astype(np.int64)
    return _first_places(parts, start, shape)


def _first_places(parts: np.ndarray, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    flat = np.flatnonzero(parts)
    numbers = parts.ravel()[flat]
    first = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    places = np.stack(np.unravel_index(flat[::-1], parts.shape)) + np.reshape(start, (-1, 1))
    first[numbers[::-1]] = np.ravel_multi_index(tuple(places), tuple(shape)) + 1
    return first[parts]


def candidates(image: np.ndarray, output: np.ndarray, *, radii: Sequence[int], threshold: float) -> None:
    """Mark pixels above a threshold that none in a box around them exceeds."""
    from scipy import ndimage

    image = image.astype(np.float32) if image.dtype == np.float16 else image  # which scipy does not filter
    size = [2 * r + 1 for r in radii]
    if wide.beyond_floats(image):
        highest = np.empty_like(image)
        order.extreme_filter(image, highest, name="maximum_filter", mode="nearest", cval=0, origin=0, size=size)
    else:
        highest = ndimage.maximum_filter(image, size, mode="nearest")
    output[...] = (image == highest) & above(image, np.asarray(threshold))


def spaced(places: np.ndarray, values: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """Return positions, the highest first, without positions closer than `radii` to a higher or earlier one.

    Parameters
    ----------
    places : ndarray of shape (N, n), int64
        In C order.
    values : ndarray of shape (N,)
    radii : sequence of int
        A place is too close if it is closer than these along every axis.
    """
    from scipy import spatial

    order = len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]
    places = places[order]
    if max(radii) <= 1 or len(places) < 2:
        return places
    tree = spatial.cKDTree(places / np.maximum(radii, 1))
    kept = np.ones(len(places), bool)
    near = tree.query_ball_point(tree.data, 1 - 1e-9, p=np.inf, return_length=True)
    for k in np.flatnonzero(near > 1):
        if kept[k]:
            kept[tree.query_ball_point(tree.data[k], 1 - 1e-9, p=np.inf)] = False
            kept[k] = True
    return places[kept]
