"""Watersheds of many objects, each with the labels that scikit-image gives it by itself.

scikit-image floods pixels in the order of (value, time of reaching them). All pixels of markers are reached at time 0,
and the order of those with equal values depends on all other markers. So objects in which that order matters are
flooded one by one, all others in one call.
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

    markers = np.where(mask, images[1], 0)
    found: np.ndarray = watershed(_with_order(images[0]), markers, connectivity=connectivity, mask=mask)
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

    image, markers = _with_order(images[0]), np.where(mask, images[1], 0)
    labels, n = labelling.label_chunk(mask, np.ones((3,) * mask.ndim, bool))
    single = _in_order(image, markers, labels, n)
    if single.all():
        return watershed(image, markers, connectivity=connectivity, mask=mask)
    together = single.take(labels) & mask
    out = watershed(image, np.where(together, markers, 0), connectivity=connectivity, mask=together)
    boxes = ndimage.find_objects(labels)
    for k in np.flatnonzero(~single).tolist():
        box = boxes[k - 1]
        here = labels[box] == k
        found = watershed(image[box], np.where(here, markers[box], 0), connectivity=connectivity, mask=here)
        out[box][here] = found[here]
    return out


def _with_order(image: np.ndarray) -> np.ndarray:
    """Return an image without NaN, which has no order."""
    if image.dtype.kind == "f" and (unordered := np.isnan(image)).any():
        return np.where(unordered, np.inf, image)
    return image


def _in_order(image: np.ndarray, markers: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """Return, for each of `n` objects and the background, whether other objects have no influence on its labels.

    They have none on objects with a single label, and on those whose markers differ in their values.
    """
    places = np.flatnonzero(markers)
    objects, numbers = labels.ravel()[places], markers.ravel()[places]
    last = np.zeros(n + 1, numbers.dtype)
    last[objects] = numbers
    unclear = np.zeros(n + 1, bool)
    unclear[objects[numbers != last[objects]]] = True
    if not unclear.any() or not _values_count():
        return ~unclear
    places = places[unclear[objects]]
    objects, values = labels.ravel()[places], image.ravel()[places].astype(np.float64)
    order = np.lexsort((values, objects))
    objects, values = objects[order], values[order]
    equal = (objects[1:] == objects[:-1]) & (values[1:] == values[:-1])
    tied = np.zeros(n + 1, bool)
    tied[objects[1:][equal]] = True
    return ~tied


@cache
def _values_count() -> bool:
    """Whether scikit-image floods markers in the order of their values, not all of them first."""
    from skimage.segmentation import watershed

    return watershed(np.array([5.0, 1.0, 1.0, 1.0, 0.0]), np.array([1, 0, 0, 0, 2])).tolist() == [1, 2, 2, 2, 2]
