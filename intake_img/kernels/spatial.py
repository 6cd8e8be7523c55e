"""Spatial statistics of two kinds of points in a box: nearest neighbours, Ripley's cross-K, and random-label nulls."""

from __future__ import annotations

import numpy as np
from scipy import spatial

__all__ = ["cross_k", "nearest", "random_labels"]


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each point of `a` the distance to the nearest of `b` (infinite if there is none) and its row (-1).

    Parameters
    ----------
    a, b : ndarray of shape (n, d) and (m, d)
    """
    if not len(b) or not len(a):
        return np.full(len(a), np.inf), np.full(len(a), -1)
    distance, row = spatial.cKDTree(b).query(a)
    return distance, row


def _near(points: np.ndarray, others: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not len(points) or not len(others):
        nothing = np.empty(0, np.intp)
        return nothing, nothing, np.empty(0)
    found = spatial.cKDTree(points).sparse_distance_matrix(spatial.cKDTree(others), radius, output_type="ndarray")
    return found["i"], found["j"], found["v"]


def _weights(a: np.ndarray, b: np.ndarray, box: np.ndarray, edges: str) -> np.ndarray:
    """Translation correction (Ohser 1983): volume of the box over that of its overlap with itself, moved by b - a."""
    if edges == "none":
        return np.ones(len(a))
    return np.prod(box / np.maximum(box - np.abs(a - b), 1e-300), axis=1)


def cross_k(a: np.ndarray, b: np.ndarray, radii: np.ndarray, box: np.ndarray, edges: str = "translation") -> np.ndarray:
    """Return Ripley's cross-K: V / (n m) times the number of pairs within each radius.

    Parameters
    ----------
    a, b : ndarray of shape (n, d) and (m, d)
        Points in a box.
    radii : ndarray of shape (R,)
    box : ndarray of shape (d,)
        Lengths of the box.
    edges : {"translation", "none"}
        How pairs are weighted for what lies outside the box.

    Returns
    -------
    ndarray of shape (R,)
        Without interaction the volume of a ball of that radius. NaN without points.
    """
    if edges not in ("translation", "none"):
        raise ValueError(f"edges={edges!r}: expected 'translation' or 'none'")
    if not len(a) or not len(b):
        return np.full(len(radii), np.nan)
    i, j, distance = _near(a, b, float(np.max(radii)))
    weight = _weights(a[i], b[j], box, edges)
    return _cumulative(distance, weight, radii) * np.prod(box) / (len(a) * len(b))


def _cumulative(distance: np.ndarray, weight: np.ndarray, radii: np.ndarray) -> np.ndarray:
    order = np.argsort(distance, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    return total[np.searchsorted(distance[order], radii, side="right")]


def random_labels(
    a: np.ndarray, b: np.ndarray, radii: np.ndarray, box: np.ndarray, n: int, seed: int, edges: str = "translation"
) -> np.ndarray:
    """Return cross-K for `n` random exchanges of the labels of the points, which stay where they are.

    Returns
    -------
    ndarray of shape (n, R)
    """
    if not len(a) or not len(b):
        return np.full((n, len(radii)), np.nan)
    points = np.concatenate([a, b])
    i, j, distance = _near(points, points, float(np.max(radii)))
    weight = _weights(points[i], points[j], box, edges)
    order = np.argsort(distance, kind="stable")
    i, j, distance, weight = i[order], j[order], distance[order], weight[order]
    last = np.searchsorted(distance, radii, side="right")
    generator = np.random.default_rng(seed)
    out = np.empty((n, len(radii)))
    for k in range(n):
        first = np.zeros(len(points), bool)
        first[generator.choice(len(points), len(a), replace=False)] = True
        total = np.concatenate([[0.0], np.cumsum(np.where(first[i] & ~first[j], weight, 0.0))])
        out[k] = total[last]
    return out * np.prod(box) / (len(a) * len(b))
