"""Watersheds of many objects, each with the labels that scikit-image gives it by itself.

scikit-image floods pixels in the order of (value, time of reaching them). All pixels of markers are reached at time 0,
and the order of those with equal values depends on all other markers. So objects in which that order matters are
flooded one by one, all others in one call. In an object whose only equal markers are the two lowest, the first of
them is flooded first: it is lowered by the last bit, so that it is the first in all company.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from intake_img.kernels import labelling

__all__ = ["flooded", "flooded_one"]


def flooded_one(
    mask: np.ndarray, images: Sequence[np.ndarray], start: Sequence[int], shape: Sequence[int], *, connectivity: int
) -> np.ndarray:
    """Return the watersheds of a mask that is one object; see `flooded`."""
    from skimage.segmentation import watershed

    found: np.ndarray = watershed(_with_order(images[0]), images[1], connectivity=connectivity, mask=mask)
    return found


def flooded(
    mask: np.ndarray, images: Sequence[np.ndarray], start: Sequence[int], shape: Sequence[int], *, connectivity: int
) -> np.ndarray:
    """Return the watersheds of the objects of a mask.

    Parameters
    ----------
    mask : ndarray of bool
        Pixels of different objects do not share a corner.
    images : sequence of ndarray
        The image, in which NaN is flooded last, and the markers.
    start, shape : sequence of int
        Not used.
    connectivity : int
        How many axes neighbours may differ in.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    image, markers = _with_order(images[0]), images[1]
    labels, n = labelling.label_chunk(mask, np.ones((3,) * mask.ndim, bool))
    single, lowered = _in_order(image, markers, mask, labels, n, connectivity)
    if len(lowered):
        image = image.astype(np.float64)
        image.flat[lowered] = np.nextafter(image.flat[lowered], -np.inf)
    if single.all():
        return watershed(image, markers, connectivity=connectivity, mask=mask)
    together = single.take(labels) & mask
    out = watershed(image, markers, connectivity=connectivity, mask=together)
    boxes = ndimage.find_objects(labels)
    for k in np.flatnonzero(~single).tolist():
        box = boxes[k - 1]
        here = labels[box] == k
        found = watershed(image[box], markers[box], connectivity=connectivity, mask=here)
        out[box][here] = found[here]
    return out


def _with_order(image: np.ndarray) -> np.ndarray:
    """Return an image without NaN, which has no order."""
    if image.dtype.kind == "f" and (unordered := np.isnan(image)).any():
        return np.where(unordered, np.inf, image)
    return image


def _in_order(
    image: np.ndarray, markers: np.ndarray, mask: np.ndarray, labels: np.ndarray, n: int, connectivity: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether other objects have no influence on the labels of an object, and which markers are to be lowered.

    They have none on objects with a single label, on those whose markers differ in their values, and on those whose
    only equal markers are the two lowest, if the first of them is lowered.

    Returns
    -------
    single : ndarray of bool, of shape (n + 1,)
        For the background, and each of `n` objects.
    lowered : ndarray of int
        Indices of pixels.
    """
    places = np.flatnonzero(markers)
    places = places[mask.ravel()[places]]
    objects, numbers = labels.ravel()[places], markers.ravel()[places]
    last = np.zeros(n + 1, numbers.dtype)
    last[objects] = numbers
    unclear = np.zeros(n + 1, bool)
    unclear[objects[numbers != last[objects]]] = True
    if not unclear.any() or not _values_count():
        return ~unclear, places[:0]
    places = places[unclear[objects]]
    objects, values = labels.ravel()[places], image.ravel()[places].astype(np.float64)
    order = np.lexsort((values, objects))
    objects, values, places = objects[order], values[order], places[order]
    equal = np.flatnonzero((objects[1:] == objects[:-1]) & (values[1:] == values[:-1]))
    ties = np.bincount(objects[equal], minlength=n + 1)
    lowest = np.diff(objects[:-1], prepend=0)[equal] > 0
    lowered = places[equal[lowest & (ties[objects[equal]] == 1)]]
    lowered = lowered[_are_low(lowered, image, mask, connectivity)]
    ties[labels.ravel()[lowered]] = 0
    return ties == 0, lowered


def _are_low(places: np.ndarray, image: np.ndarray, mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Return which pixels have finite values that no neighbour in the mask is below."""
    from scipy import ndimage

    at = np.stack(np.unravel_index(places, image.shape))
    own = image[tuple(at)].astype(np.float64)
    low = np.isfinite(own)
    limit = np.reshape(image.shape, (-1, 1))
    for step in np.argwhere(ndimage.generate_binary_structure(image.ndim, connectivity)) - 1:
        moved = at + step[:, None]
        there = ((moved >= 0) & (moved < limit)).all(axis=0)
        near = tuple(moved[:, there])
        low[there] &= ~mask[near] | (image[near].astype(np.float64) >= own[there])
    return low


@cache
def _values_count() -> bool:
    """Whether scikit-image floods markers in the order of their values, not all of them first."""
    from skimage.segmentation import watershed

    return watershed(np.array([5.0, 1.0, 1.0, 1.0, 0.0]), np.array([1, 0, 0, 0, 2])).tolist() == [1, 2, 2, 2, 2]
