"""Tiles that overlap: which do, where they lie best, and how one image is drawn of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["balanced", "neighbours", "paint"]


def neighbours(corners: np.ndarray, size: Sequence[int], least: int) -> list[tuple[int, int]]:
    """Return the pairs of tiles of one size that overlap by at least `least` pixels along each axis.

    Parameters
    ----------
    corners : ndarray of int, of shape (n, d)
    size : sequence of int
        Of a tile; along axes that are shorter than `least` an overlap of the whole axis is enough.
    least : int
    """
    found = []
    for k, corner in enumerate(corners):
        common = np.asarray(size) - np.abs(corners[k + 1 :] - corner)
        near = (common >= np.minimum(least, size)).all(axis=1)
        found += [(k, int(j)) for j in np.flatnonzero(near) + k + 1]
    return found


def balanced(n: int, pairs: Sequence[tuple[int, int]], offsets: np.ndarray) -> np.ndarray:
    """Return displacements of tiles that agree best with those measured between pairs, by least squares.

    Parameters
    ----------
    n : int
        Number of tiles.
    pairs : sequence of (int, int)
    offsets : ndarray of shape (m, d)
        How much further the second tile of each pair lies from the first than it should.

    Returns
    -------
    ndarray of shape (n, d)
        Of least norm: the mean of tiles that hang together is 0, and a tile without a pair stays where it is.

    Examples
    --------
    >>> balanced(4, [(0, 1), (1, 2)], np.array([[3.0], [3.0]])).round(6).ravel().tolist()
    [-3.0, 0.0, 3.0, 0.0]
    """
    from scipy import sparse
    from scipy.sparse.linalg import lsqr

    out = np.zeros((n, offsets.shape[1]))
    if not len(pairs):
        return out
    rows = np.repeat(np.arange(len(pairs)), 2)
    signs = np.tile([-1.0, 1.0], len(pairs))
    graph = sparse.csr_matrix((signs, (rows, np.ravel(pairs))), shape=(len(pairs), n))
    for k in range(offsets.shape[1]):
        out[:, k] = lsqr(graph, offsets[:, k], atol=1e-14, btol=1e-14, conlim=0, iter_lim=20 * n + 100)[0]
    return out


def paint(out: np.ndarray, parts: Sequence[tuple[Any, np.ndarray]], overlap: str, fill: Any) -> None:
    """Draw an image of tiles.

    Parameters
    ----------
    out : ndarray
    parts : sequence of (tuple of slice, ndarray)
        Where each tile lies, and its pixels, in the order of the tiles.
    overlap : {"last", "first", "mean"}
        What is shown where tiles overlap.
    fill : number
        What is between tiles.
    """
    if not any(pixels.shape == out.shape for _, pixels in parts):
        out[...] = fill
    if overlap != "mean" or len(parts) < 2:
        for target, pixels in parts if overlap == "last" else list(parts)[::-1]:
            out[target] = pixels
        return
    wide = out.dtype.kind in "iu" and out.dtype.itemsize == 8
    total, count = np.zeros(out.shape, np.int64 if wide else float), np.zeros(out.shape, np.uint32)
    high = np.zeros(out.shape, out.dtype) if wide else None
    for target, pixels in parts:
        if high is not None:
            high[target] += pixels >> pixels.dtype.type(32)
        total[target] += pixels if high is None else (pixels & pixels.dtype.type(2**32 - 1)).astype(np.int64)
        count[target] += 1
        out[target] = pixels  # of single tiles the values themselves
    several = count > 1
    n = count[several]
    if high is not None:
        out[several] = _whole_means(high[several], total[several], n.astype(np.int64))
    else:
        mean = total[several] / n
        out[several] = np.rint(mean) if out.dtype.kind in "iu" else mean


def _whole_means(high: np.ndarray, low: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return sums over n, rounded half to even, of integers whose upper and lower 32 bits were added separately."""
    upper, rest = np.divmod(high, n.astype(high.dtype))
    lower, left = np.divmod((rest.astype(np.int64) << 32) + low, n)
    lower += (2 * left > n) | ((2 * left == n) & (lower % 2 == 1))
    return (upper << high.dtype.type(32)) + lower.astype(high.dtype)
