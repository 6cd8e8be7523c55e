"""Connected components of a chunk, and pairs of labels that touch across chunk boundaries."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.kernels.compiled import opencv
from intake_img.kernels.component_numbers import components

__all__ = [
    "are_few",
    "at_edges",
    "first_by_label",
    "first_places",
    "label_chunk",
    "label_image",
    "label_parts",
    "look_up",
    "number_type",
    "sizes",
    "touching",
]


LOOKED_UP = 2**15
"""Pixels that are looked up together."""
COMPARED = 2**19
"""Pixels of planes that are compared together."""
ROUGH = 4
"""Where values change more often than after this many pixels, scipy labels volumes in less time."""
SHORT = 1
"""Where values change more often than this many times for each pixel of the mask, and corners touch, scipy does too."""
EIGHTH = 8
"""One line in this many is examined to see whether there are many runs of pixels."""
WIDE = 2**16
"""Entries of OpenCV's table for 16 bits."""


def number_type(shape: Sequence[int]) -> np.dtype:
    """Return the type of the labels of an image, as in scipy: int32 if it has a number for each pixel, else int64."""
    return np.dtype(np.int32 if math.prod(shape) < 2**31 - 1 else np.int64)


def are_few(mask: np.ndarray) -> bool:
    """Whether 16 bits suffice for the labels of a mask, also temporary ones: each begins a run of pixels."""
    return _runs(mask[::EIGHTH]) * EIGHTH < WIDE and _runs(mask) < WIDE


def _runs(mask: np.ndarray) -> int:
    """Return the number of runs of pixels along the last axis, or slightly more."""
    flat = mask.reshape(-1)
    return int(np.count_nonzero(flat[1:] > flat[:-1]) + np.count_nonzero(mask[..., :1])) + 1


def label_chunk(mask: np.ndarray, structure: np.ndarray) -> tuple[np.ndarray, int]:
    """Label the components of one chunk, as `scipy.ndimage.label` does."""
    labels = np.empty(mask.shape, np.int32)
    return labels, label_image(mask, structure, labels)


def label_image(mask: np.ndarray, structure: np.ndarray, out: np.ndarray) -> int:
    """Fill `out` with the labels of the components, and return their number."""
    n, pairs = label_parts(mask, structure, out)
    if len(pairs):
        n, table = _table(n, pairs)
        look_up(table.astype(out.dtype), out, out)
    return n


def label_parts(mask: np.ndarray, structure: np.ndarray, out: np.ndarray) -> tuple[int, np.ndarray]:
    """Label parts of components, in the order of their first pixels; what is joined in a plane is one part.

    Parameters
    ----------
    mask : ndarray of bool
    structure : ndarray of bool, 3 along every axis
        As `scipy.ndimage.generate_binary_structure` returns it.
    out : ndarray of int32 or int64; of uint16 where labels `are_few`
        Filled with the labels.

    Returns
    -------
    n : int
        Number of parts.
    pairs : ndarray of shape (M, 2)
        Parts of the same component, enough to join all.
    """
    from scipy import ndimage

    none = np.empty((0, 2), np.int64)
    if (count := _by_opencv(mask, structure, out)) is not None:
        return count, none
    if (planes := _by_planes(mask, structure, out)) is not None:
        return planes
    return int(ndimage.label(mask, structure, out)), none


def _table(n: int, pairs: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the number of components, and the component of each part, both from 1 in the order of first pixels."""
    count, component = components(n, pairs)
    return count, np.concatenate([[0], component + 1])


def _by_planes(mask: np.ndarray, structure: np.ndarray, out: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Label the planes of a volume as one plane, with an empty line after each; not where lines change often."""
    if mask.ndim != 3 or not mask.size or _is_rough(mask, structure):
        return None
    depth, height, width = mask.shape
    apart = np.zeros((depth, height + 1, width), bool)
    apart[:, :height] = mask
    labels = np.empty(apart.shape, np.uint16 if out.dtype == np.uint16 else np.int32)
    n = _by_opencv(apart.reshape(-1, width), structure[1], labels.reshape(-1, width))
    if n is None:
        return None
    out[...] = labels[:, :height]
    return n, _between_planes(apart, labels.reshape(-1), structure[2])


def _is_rough(mask: np.ndarray, structure: np.ndarray) -> bool:
    """Whether there are so many pixels that touch in different planes that joining them takes more time than scipy."""
    changes = np.count_nonzero(mask[..., 1:] != mask[..., :-1])
    if ROUGH * changes > mask.size:
        return True
    return bool(structure[0, 0].any() and changes > SHORT * np.count_nonzero(mask))


def _between_planes(planes: np.ndarray, labels: np.ndarray, links: np.ndarray) -> np.ndarray:
    """Return pairs of labels that touch between planes.

    Parameters
    ----------
    planes : ndarray of bool, of shape (D, H, W)
    labels : ndarray of shape (D * H * W,)
    links : ndarray of bool, of shape (3, 3)
        Which pixels of the next plane touch the pixel in the middle.
    """
    _, height, width = planes.shape
    some = max(1, COMPARED // (height * width))
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(planes) - 1, some):
        here, there = planes[start:-1][:some], planes[start + 1 :][:some]
        for y, x in np.argwhere(links).tolist():
            found = np.flatnonzero(_meeting(here, there, y - 1, x - 1)) + start * height * width
            away = height * width + (y - 1) * width + x - 1
            pairs.append(np.stack([labels[found], labels[found + away]], axis=1))
    return np.concatenate(pairs)


def _meeting(here: np.ndarray, there: np.ndarray, y: int, x: int) -> np.ndarray:
    """Return pixels that touch the pixel of the next plane that lies further by (y, x): of each two parts one or more.

    Neighbours in a plane belong to one part. Of pixels above each other, those count whose neighbours before them do
    not meet. Pixels that touch only by an edge or a corner count where no pixels above each other join the same parts.
    """
    if y == x == 0:
        both = here & there
        found = both.copy()
        found[:, 1:] &= ~both[:, :-1]
        found[:, :, 1:] &= ~both[:, :, :-1]
        return found
    found = np.zeros(here.shape, bool)
    at, to = (
        (slice(None), *(slice(max(0, -o), n - max(0, o)) for o, n in zip(way, here.shape[1:], strict=True)))
        for way in ((y, x), (-y, -x))
    )
    np.greater(here[at] & there[to], there[at] | here[to], out=found[at])
    return found


def _by_opencv(mask: np.ndarray, structure: np.ndarray, out: np.ndarray) -> int | None:
    """Label a plane by the algorithm of OpenCV that numbers components as scipy does, by their first pixels [1]_.

    References
    ----------
    .. [1] K. Wu, E. Otoo, K. Suzuki: Optimizing two-pass connected-component labeling algorithms. Pattern Analysis and
       Applications 12, 117-135 (2009). Of OpenCV's other algorithms, those of eight neighbours number by blocks.
    """
    cv2 = opencv()
    if cv2 is None or mask.ndim != 2 or not 0 < mask.size < 2**31 or mask.dtype != bool:
        return None
    neighbours = int(structure.sum()) - 1
    if neighbours not in (4, 8):
        return None
    plane = np.ascontiguousarray(mask).view(np.uint8)
    kind = cv2.CV_16U if out.dtype == np.uint16 else cv2.CV_32S
    direct = out.dtype in (np.uint16, np.int32) and _is_readable(out)
    # filling memory that is new takes as long as labelling
    given = out if direct else None
    count, labels = cv2.connectedComponentsWithAlgorithm(plane, neighbours, kind, cv2.CCL_WU, labels=given)
    if not direct:
        out[...] = labels
    return int(count) - 1


def first_places(labels: np.ndarray, n: int, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return, for the labels 1 to n of a chunk, the index of their first pixel in C order of the complete image."""
    first = _firsts(labels, n)[1:]
    return _of_image(first, labels.shape, start, shape) if n else first


def first_by_label(labels: np.ndarray, start: Sequence[int], shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a chunk, in order, and the index of the first pixel of each as `first_places` does.

    Parameters
    ----------
    labels : ndarray
        Of small integers from 0. The index of label 0, if it occurs, is -1.
    """
    first = _firsts(labels, int(labels.max()))
    ids = np.flatnonzero(first >= 0)
    places = _of_image(first[ids], labels.shape, start, shape) if len(ids) else ids
    if not labels.all():
        ids, places = np.concatenate([[0], ids]), np.concatenate([[-1], places])
    return ids.astype(labels.dtype), places


def _firsts(labels: np.ndarray, n: int) -> np.ndarray:
    """Return the index of the first pixel of the labels 0 to n in a chunk; -1 for label 0, and for absent labels."""
    found = np.flatnonzero(labels)
    first = np.full(n + 1, -1, np.int64)
    first[labels.ravel()[found][::-1]] = found[::-1]  # the first pixel of a label is assigned last
    return first


def _of_image(first: np.ndarray, own: Sequence[int], start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return indices of pixels of a chunk as indices in the image."""
    place = np.unravel_index(first, tuple(own))
    return np.ravel_multi_index([p + s for p, s in zip(place, start, strict=True)], tuple(shape))


def look_up(table: np.ndarray, labels: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` with the entries of a table for labels, all of which it has; `out` has the type of the table.

    It may be the labels themselves.
    By OpenCV where it takes the type of the labels. Otherwise labels become indices of numpy a few thousand at a time:
    those of a whole chunk would be another array of its size.
    """
    if _by_table(table, labels, out):
        return
    step = max(1, LOOKED_UP // max(1, math.prod(labels.shape[1:])))
    for start in range(0, len(labels), step):
        index = labels[start : start + step].astype(np.intp)
        out[start : start + step] = table.take(index, mode="clip")


def _by_table(table: np.ndarray, labels: np.ndarray, out: np.ndarray) -> bool:
    """Look up labels of 8 or 16 bits with OpenCV, which copies the entries; return whether it did."""
    cv2, entries = opencv(), 2 ** (8 * labels.itemsize)
    if cv2 is None or labels.dtype not in ("u1", "u2") or labels.ndim < 2 or table.itemsize not in _BY_SIZE:
        return False
    if labels.size < 4 * entries or (entries == WIDE and not _looks_up_wide()) or not _is_readable(out):
        return False
    raw = np.dtype(_BY_SIZE[table.itemsize])
    full = np.zeros((1, entries), raw)
    full[0, : len(table)] = table.view(raw)
    for place in np.ndindex(labels.shape[:-2]):
        plane, target = np.ascontiguousarray(labels[place]), out[place].view(raw)
        step = max(1, LOOKED_UP // plane.shape[1])
        for start in range(0, len(plane), step):  # too few for OpenCV's own threads
            cv2.LUT(plane[start : start + step], full, dst=target[start : start + step])
    return True


_BY_SIZE = {1: "u1", 2: "u2", 4: "f4", 8: "f8"}
"""The types of OpenCV's tables, whose entries it copies."""


def _is_readable(image: np.ndarray) -> bool:
    """Whether OpenCV can fill the planes of an array."""
    *_, line, pixel = image.strides
    return pixel == image.itemsize and line >= image.shape[-1] * pixel


@functools.cache
def _looks_up_wide() -> bool:
    """Whether this release of OpenCV has tables for 16 bits."""
    cv2: Any = opencv()
    try:
        cv2.LUT(np.zeros((1, 1), np.uint16), np.zeros((1, WIDE)))
    except cv2.error:
        return False
    return True


def sizes(labels: np.ndarray, n: int, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return how many pixels of a chunk have the labels 1 to n."""
    return np.bincount(labels.ravel(), minlength=n + 1)[1:]


def at_edges(labels: np.ndarray, n: int, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return how many pixels of the labels 1 to n lie at an edge of the image; corner pixels count twice."""
    faces = [np.empty(0, np.int64)]
    for axis, (first, length) in enumerate(zip(start, shape, strict=True)):
        if first == 0:
            faces.append(np.take(labels, 0, axis).ravel())
        if first + labels.shape[axis] == length:
            faces.append(np.take(labels, -1, axis).ravel())
    return np.bincount(np.concatenate(faces).astype(np.int64), minlength=n + 1)[1:]


def touching(
    before: np.ndarray, after: np.ndarray, structure: np.ndarray, axis: int, starts: Sequence[Sequence[int]] = ()
) -> np.ndarray:
    """Return pairs of labels that touch across a chunk boundary; a pair may occur more than once.

    Neighbours in a plane are joined elsewhere: within a chunk, or across another boundary.

    Parameters
    ----------
    before, after : ndarray
        The planes on both sides of the boundary; 0 is background.
    structure : ndarray of bool, 3 along every axis
        As `scipy.ndimage.generate_binary_structure` returns it.
    axis : int
        The axis across the boundary.
    starts : sequence of sequence of int
        Where the chunks on one side begin along each axis of the planes; by default there is one chunk on each side.
    """
    one, other = before != 0, after != 0
    pairs = [np.empty((0, 2), np.int64)]
    for link in np.argwhere(structure.take(2, axis)).tolist():
        here = tuple([slice(max(0, 1 - k), n - max(0, k - 1)) for k, n in zip(link, before.shape, strict=True)])
        there = tuple([slice(max(0, k - 1), n - max(0, 1 - k)) for k, n in zip(link, before.shape, strict=True)])
        found = _first_meetings(one, other, here, there, starts or [[0]] * before.ndim)
        pairs.append(np.stack([before[here][found], after[there][found]], axis=1).astype(np.int64))
    return np.concatenate(pairs)


def _first_meetings(
    before: np.ndarray,
    after: np.ndarray,
    here: tuple[slice, ...],
    there: tuple[slice, ...],
    starts: Sequence[Sequence[int]],
) -> np.ndarray:
    """Return where pixels `here` touch those `there`; see `_meeting`. At its start, a chunk has no neighbours."""
    found = before[here] & after[there]
    if here != there:
        return found & ~(after[here] | before[there])
    both = found.copy()
    for axis, first in enumerate(starts):
        later, earlier = (tuple(p if k == axis else slice(None) for k in range(both.ndim)) for p in _AFTER_FIRST)
        alone = ~both[earlier]
        alone[(slice(None),) * axis + ([k - 1 for k in first[1:]],)] = True
        found[later] &= alone
    return found


_AFTER_FIRST = (slice(1, None), slice(-1))
