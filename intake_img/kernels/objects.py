"""Overlap of two label images: common voxels, sizes, centres and surfaces, from exact sums over chunks."""

from __future__ import annotations

import numpy as np
from scipy import spatial

__all__ = ["count_objects", "edge_distances", "surface"]


def count_objects(one: np.ndarray, two: np.ndarray, start: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Count the voxels of each pair of labels in a chunk, and sum their indices.

    Parameters
    ----------
    one, two : ndarray of integers, same shape
        Labels; 0 is background. Numbers below 0 are counted, too.
    start : tuple of int
        Index of the chunk's first voxel in the complete image.

    Returns
    -------
    keys : ndarray of shape (K, 2), int64
        Distinct pairs of labels.
    sums : ndarray of shape (K, 1 + ndim), int64
        Number of voxels, and sums of their indices along each axis.
    """
    keep = (one != 0) | (two != 0)
    places = np.nonzero(keep)
    pairs = np.stack([one[places], two[places]], axis=1).astype(np.int64)
    if not len(pairs):
        return np.empty((0, 2), np.int64), np.empty((0, 1 + one.ndim), np.int64)
    columns = [np.ones(len(pairs), np.int64), *(p + s for p, s in zip(places, start, strict=True))]
    return add_counts([(pairs, np.stack(columns, axis=1))])


def add_counts(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the counts of chunks."""
    keys, sums = (np.concatenate(x) for x in zip(*parts, strict=True))
    if not len(keys):
        return keys, sums
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys, sums = keys[order], sums[order]
    starts = np.concatenate([[0], np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1])
    return keys[starts], np.add.reduceat(sums, starts, axis=0)


def surface(labels: np.ndarray) -> np.ndarray:
    """Return which voxels have a face neighbour of another label, or lie at the border of the array."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        if labels.shape[axis] == 1:
            continue
        differs = np.diff(labels, axis=axis) != 0
        ahead = [slice(None)] * labels.ndim
        behind = list(ahead)
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        edge[tuple(ahead)] |= differs
        edge[tuple(behind)] |= differs
        for end in (0, -1):
            border = list(ahead)
            border[axis] = end  # type: ignore[call-overload]
            edge[tuple(border)] = True
    return edge & (labels > 0)


def edge_distances(
    labels1: np.ndarray, points1: np.ndarray, labels2: np.ndarray, points2: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance between the nearest surface voxels of objects that lie within a limit.

    Parameters
    ----------
    labels1, points1 : ndarray of shape (n,) and (n, d)
        Labels and positions of the surface voxels of one set of objects.
    labels2, points2 : ndarray
    limit : float

    Returns
    -------
    pairs : ndarray of shape (K, 2)
    distances : ndarray of shape (K,)
    """
    if not len(points1) or not len(points2):
        return np.empty((0, 2), np.int64), np.empty(0)
    tree = spatial.cKDTree(points2)
    best: dict[tuple[int, int], float] = {}
    for start in range(0, len(points1), 4096):  # a bounded number of pairs at a time
        part = points1[start : start + 4096]
        found = spatial.cKDTree(part).sparse_distance_matrix(tree, limit, output_type="ndarray")
        pairs = np.stack([labels1[start + found["i"]], labels2[found["j"]]], axis=1)
        distances = found["v"]
        order = np.lexsort((distances, pairs[:, 1], pairs[:, 0]))
        pairs, distances = pairs[order], distances[order]
        if len(pairs):
            first = np.concatenate([[True], (pairs[1:] != pairs[:-1]).any(axis=1)])
            for (p, q), d in zip(pairs[first].tolist(), distances[first].tolist(), strict=True):
                best[p, q] = min(d, best.get((p, q), np.inf))
    keys = sorted(best)
    return np.array(keys, np.int64).reshape(-1, 2), np.array([best[k] for k in keys])
