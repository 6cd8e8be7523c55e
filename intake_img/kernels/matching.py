"""Pairing of two sets of points within an ellipsoid of tolerance: exact optima, sparse, for millions of points.

Points are paired if they lie strictly within `tolerance` of each other, measured along each axis in units of that
axis's
tolerance. Candidates come from a KD-tree; an optimum falls apart into connected components of candidates, most of them
tiny, that are solved one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from intake_img.errors import TooLargeError

__all__ = ["METHODS", "candidates", "match"]

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of the first set, rows of the second, distances in units of the tolerance."""
_DENSE = 2**18
_DENSE_MOST = 2**29


def candidates(a: np.ndarray, b: np.ndarray, tolerance: np.ndarray) -> Edges:
    """Return all pairs of points that lie strictly within the tolerance, sorted by row of `a`, then of `b`.

    Parameters
    ----------
    a, b : ndarray of shape (n, d) and (m, d)
    tolerance : ndarray of shape (d,)
        Semi-axes of the ellipsoid, in the unit of the points. A distance that equals the tolerance but for rounding
        is not
        within it.
    """
    nothing = np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0)
    if not len(a) or not len(b):
        return nothing
    near = cKDTree(a / tolerance).sparse_distance_matrix(cKDTree(b / tolerance), 1 + 1e-6, output_type="ndarray")
    i, j = near["i"].astype(np.intp), near["j"].astype(np.intp)
    if not len(i):
        return nothing
    distance = np.sqrt((((a[i] - b[j]) / tolerance) ** 2).sum(axis=1))
    rounding = (
        4 * np.finfo(float).eps * max(1.0, float(np.abs(a / tolerance).max()), float(np.abs(b / tolerance).max()))
    )
    keep = distance < 1 - rounding
    i, j, distance = i[keep], j[keep], distance[keep]
    order = np.lexsort((j, i))
    return i[order], j[order], distance[order]


def match(a: np.ndarray, b: np.ndarray, tolerance: np.ndarray, method: str = "gated") -> Edges:
    """Pair each point with at most one of the other set.

    Parameters
    ----------
    a, b : ndarray of shape (n, d) and (m, d)
    tolerance : ndarray of shape (d,)
        Positive.
    method : {"gated", "max_pairs", "greedy", "mutual_nearest", "assign_then_cut"}
        ``"gated"``: least sum of distances, an unpaired point costing as much as a pair at the tolerance.
        ``"max_pairs"``: most pairs, and among these the least sum of distances. ``"greedy"``: nearest pairs first.
        ``"mutual_nearest"``: pairs that are each other's nearest. ``"assign_then_cut"``: least sum of distances over
        all
        points whatever their distance, then pairs beyond the tolerance are dropped (MagellanMapper; dense, loses
        pairs).

    Returns
    -------
    rows of a, rows of b, distances in units of the tolerance, sorted by row of a
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    a, b, tolerance = (np.asarray(x, float) for x in (a, b, tolerance))
    if not (tolerance > 0).all() or not np.isfinite(tolerance).all():
        raise ValueError(f"tolerance {tolerance.tolist()}: expected positive lengths")
    if method == "assign_then_cut":
        return _assign_then_cut(a, b, tolerance)
    i, j, distance = METHODS[method](candidates(a, b, tolerance), len(a), len(b))
    order = np.lexsort((j, i))
    return i[order], j[order], distance[order]


def _greedy(edges: Edges, n: int, m: int) -> Edges:
    i, j, distance = edges
    free_a, free_b = bytearray(b"\1") * n, bytearray(b"\1") * m
    taken = []
    order = np.lexsort((j, i, distance))
    for k, p, q in zip(order.tolist(), i[order].tolist(), j[order].tolist(), strict=True):
        if free_a[p] and free_b[q]:
            free_a[p] = free_b[q] = 0
            taken.append(k)
    return i[taken], j[taken], distance[taken]


def _mutual(edges: Edges, n: int, m: int) -> Edges:
    i, j, distance = edges
    nearest = []
    for own, other, size in ((i, j, n), (j, i, m)):
        order = np.lexsort((other, distance, own))
        first = np.full(size, -1)
        rows, at = np.unique(own[order], return_index=True)
        first[rows] = order[at]
        nearest.append(first[own] == np.arange(len(own)))
    keep = nearest[0] & nearest[1]
    return i[keep], j[keep], distance[keep]


def _assign_then_cut(a: np.ndarray, b: np.ndarray, tolerance: np.ndarray) -> Edges:
    if len(a) * len(b) > _DENSE_MOST:
        raise TooLargeError(
            f"'assign_then_cut' needs a dense matrix of {len(a)} x {len(b)} distances "
            f"({len(a) * len(b) * 8 / 2**30:.0f} GiB): use method='gated', or match blocks"
        )
    scaling = tolerance.max() / tolerance
    distances = cdist(a * scaling, b * scaling)
    i, j = linear_sum_assignment(distances)
    distance = distances[i, j] / tolerance.max()
    keep = distances[i, j] < tolerance.max()
    return i[keep], j[keep], distance[keep]


def _optimal(most_pairs: bool) -> Callable[[Edges, int, int], Edges]:
    def solve(edges: Edges, n: int, m: int) -> Edges:
        i, j, distance = edges
        if not len(i):
            return edges
        graph = sparse.coo_matrix((np.ones(len(i), np.int8), (i, j + n)), shape=(n + m, n + m))
        _, component = connected_components(graph, directed=False)
        of_edge = component[i]
        order = np.argsort(of_edge, kind="stable")  # edges of a component together, sorted by (i, j)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(of_edge[order])) + 1])
        sizes = np.diff(starts, append=len(order))
        one_a = np.maximum.reduceat(i[order], starts) == np.minimum.reduceat(i[order], starts)
        one_b = np.maximum.reduceat(j[order], starts) == np.minimum.reduceat(j[order], starts)
        star = one_a | one_b  # one point against one or more: the nearest
        best = np.lexsort((j[order], i[order], distance[order], np.repeat(np.arange(len(starts)), sizes)))
        taken = [order[best[starts[star]]]]
        for start, size in zip(starts[~star].tolist(), sizes[~star].tolist(), strict=True):
            part = order[start : start + size]
            taken.append(part[_component(i[part], j[part], distance[part], most_pairs)])
        chosen = np.concatenate(taken)
        return i[chosen], j[chosen], distance[chosen]

    return solve


def _component(i: np.ndarray, j: np.ndarray, distance: np.ndarray, most_pairs: bool) -> np.ndarray:
    """Numbers of the edges that an optimum of one component uses."""
    rows, row = np.unique(i, return_inverse=True)
    columns, column = np.unique(j, return_inverse=True)
    n, m = len(rows), len(columns)
    unpaired = float(min(n, m) + 1) if most_pairs else 1.0  # more than all distances together, or the tolerance
    if n * m <= _DENSE:
        cost = np.zeros((n, m))
        cost[row, column] = distance - unpaired
        number = np.full((n, m), -1)
        number[row, column] = np.arange(len(i))
        found = number[linear_sum_assignment(cost)]
        return found[found >= 0]
    if n > m:
        row, column, n, m = column, row, m, n
    # a private dummy column for each row makes a full matching feasible; the constant keeps zeros from being dropped
    weights = np.concatenate([distance + 1, np.full(n, unpaired + 1)])
    all_rows = np.concatenate([row, np.arange(n)])
    all_columns = np.concatenate([column, m + np.arange(n)])
    graph = sparse.csr_matrix((weights, (all_rows, all_columns)), shape=(n, m + n))
    number = sparse.csr_matrix((np.arange(1, len(i) + 1), (row, column)), shape=(n, m + n))
    got_rows, got_columns = min_weight_full_bipartite_matching(graph)
    found = np.asarray(number[got_rows, got_columns]).ravel() - 1
    return found[found >= 0]


METHODS: dict[str, Callable[[Edges, int, int], Edges]] = {
    "gated": _optimal(most_pairs=False),
    "max_pairs": _optimal(most_pairs=True),
    "greedy": _greedy,
    "mutual_nearest": _mutual,
    "assign_then_cut": _greedy,  # handled apart: it needs the points, not candidates
}
