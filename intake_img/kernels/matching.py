"""Matching of two sets of points within an ellipsoid of tolerance: exact sparse optima for millions of points.

Points are paired if they lie strictly within `tolerance` of each other, measured along each axis in units of that
axis's
tolerance. Candidates come from a KD-tree; the problem decomposes into connected components of candidates, most of them
tiny, which are solved one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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
        Semi-axes of the ellipsoid, in the unit of the points. A distance that equals the tolerance up to rounding is
        not within it.
    """
    from scipy import spatial

    nothing = np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0)
    if not len(a) or not len(b):
        return nothing
    near = spatial.cKDTree(a / tolerance).sparse_distance_matrix(
        spatial.cKDTree(b / tolerance), 1 + 1e-6, output_type="ndarray"
    )
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
    """Pair each point with at most one point of the other set.

    Parameters
    ----------
    a, b : ndarray of shape (n, d) and (m, d)
    tolerance : ndarray of shape (d,)
        Positive.
    method : {"gated", "max_pairs", "greedy", "mutual_nearest", "assign_then_cut"}
        ``"gated"``: the smallest sum of distances, where an unpaired point costs as much as a pair at the tolerance.
        ``"max_pairs"``: the largest number of pairs, and among these the smallest sum of distances. ``"greedy"``:
        nearest pairs first. ``"mutual_nearest"``: pairs that are each other's nearest. ``"assign_then_cut"``: the
        smallest sum of distances over all points at any distance, then pairs beyond the tolerance are dropped
        (MagellanMapper; dense, loses pairs).

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
    from scipy import optimize, spatial

    if len(a) * len(b) > _DENSE_MOST:
        raise TooLargeError(
            f"'assign_then_cut' needs a dense matrix of {len(a)} x {len(b)} distances "
            f"({len(a) * len(b) * 8 / 2**30:.0f} GiB): use method='gated', or match blocks"
        )
    scaling = tolerance.max() / tolerance
    distances = spatial.distance.cdist(a * scaling, b * scaling)
    i, j = optimize.linear_sum_assignment(distances)
    distance = distances[i, j] / tolerance.max()
    keep = distances[i, j] < tolerance.max()
    return i[keep], j[keep], distance[keep]


def _optimal(most_pairs: bool) -> Callable[[Edges, int, int], Edges]:
    def solve(edges: Edges, n: int, m: int) -> Edges:
        i, j, distance = edges
        if not len(i):
            return edges
        parts = _Components(i, j, n, m)
        star = (parts.rows == 1) | (parts.columns == 1)  # one point against one or more: the nearest
        square = (parts.rows == 2) & (parts.columns == 2)
        best = np.lexsort((j, i, distance, parts.of_edge))
        taken = [best[parts.starts[:-1][star]], _squares(parts, square, distance, most_pairs)]
        own = distance[parts.order], parts.row[parts.order], parts.column[parts.order]
        for c in np.flatnonzero(~star & ~square).tolist():
            where = slice(parts.starts[c], parts.starts[c + 1])
            rows, columns = int(parts.rows[c]), int(parts.columns[c])
            found = _component(own[1][where], own[2][where], own[0][where], rows, columns, most_pairs)
            taken.append(parts.order[where][found])
        chosen = np.concatenate(taken)
        return i[chosen], j[chosen], distance[chosen]

    return solve


class _Components:
    """Edges by connected component, with rows and columns numbered within each.

    Attributes
    ----------
    of_edge : ndarray of shape (E,)
        Component of each edge.
    order, starts : ndarray of shape (E,), (C + 1,)
        Edges grouped by component, in the order of (i, j), and the start of each component.
    row, column : ndarray of shape (E,)
        Numbers of the ends of each edge within its component.
    rows, columns : ndarray of shape (C,)
    """

    def __init__(self, i: np.ndarray, j: np.ndarray, n: int, m: int) -> None:
        from scipy import sparse

        graph = sparse.coo_matrix((np.ones(len(i), np.int8), (i, j + n)), shape=(n + m, n + m))
        self.of_edge = _dense(sparse.csgraph.connected_components(graph, directed=False)[1][i])
        self.order = np.argsort(self.of_edge, kind="stable")
        self.starts = np.searchsorted(self.of_edge[self.order], np.arange(int(self.of_edge.max()) + 2))
        self.row, self.rows = self._numbered(i)
        self.column, self.columns = self._numbered(j)

    def _numbered(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.lexsort((point, self.of_edge))
        component, point = self.of_edge[order], point[order]
        new = np.concatenate([[True], (np.diff(point) != 0) | (np.diff(component) != 0)])
        number = np.cumsum(new) - 1
        first = number[self.starts[:-1]]
        local = np.empty(len(order), np.intp)
        local[order] = number - first[component]
        return local, np.diff(first, append=number[-1] + 1)


def _dense(numbers: np.ndarray) -> np.ndarray:
    used = np.zeros(int(numbers.max()) + 1, np.intp)
    used[numbers] = 1
    return (np.cumsum(used) - 1)[numbers]


def _squares(parts: _Components, square: np.ndarray, distance: np.ndarray, most_pairs: bool) -> np.ndarray:
    """Numbers of the edges in optima of components of two against two: one diagonal or the other."""
    edges = np.flatnonzero(square[parts.of_edge])
    component = _dense(parts.of_edge[edges]) if len(edges) else edges
    size = int(square.sum())
    unpaired = _unpaired(2, 2, most_pairs)
    gain, number = np.zeros((size, 2, 2)), np.full((size, 2, 2), -1)
    at = component, parts.row[edges], parts.column[edges]
    gain[at], number[at] = unpaired - distance[edges], edges
    straight = gain[:, 0, 0] + gain[:, 1, 1] >= gain[:, 0, 1] + gain[:, 1, 0]
    first, second = (
        np.where(straight, number[:, 0, 0], number[:, 0, 1]),
        np.where(straight, number[:, 1, 1], number[:, 1, 0]),
    )
    found = np.concatenate([first, second])
    return found[found >= 0]


def _unpaired(n: int, m: int, most_pairs: bool) -> float:
    """Cost of an unpaired point: more than all distances together, or the tolerance."""
    return float(min(n, m) + 1) if most_pairs else 1.0


def _component(
    row: np.ndarray, column: np.ndarray, distance: np.ndarray, n: int, m: int, most_pairs: bool
) -> np.ndarray:
    """Numbers of the edges in an optimum of one component."""
    unpaired = _unpaired(n, m, most_pairs)
    if n * m <= _DENSE:
        from scipy import optimize

        cost = np.zeros((n, m))
        cost[row, column] = distance - unpaired
        number = np.full((n, m), -1)
        number[row, column] = np.arange(len(row))
        found = number[optimize.linear_sum_assignment(cost)]
        return found[found >= 0]
    return _sparse_component(row, column, distance, n, m, unpaired)


def _sparse_component(
    row: np.ndarray, column: np.ndarray, distance: np.ndarray, n: int, m: int, unpaired: float
) -> np.ndarray:
    from scipy import sparse

    if n > m:
        row, column, n, m = column, row, m, n
    # a private dummy column for each row makes a full matching feasible; the constant keeps zeros from being dropped
    weights = np.concatenate([distance + 1, np.full(n, unpaired + 1)])
    all_rows = np.concatenate([row, np.arange(n)])
    all_columns = np.concatenate([column, m + np.arange(n)])
    graph = sparse.csr_matrix((weights, (all_rows, all_columns)), shape=(n, m + n))
    number = sparse.csr_matrix((np.arange(1, len(row) + 1), (row, column)), shape=(n, m + n))
    got_rows, got_columns = sparse.csgraph.min_weight_full_bipartite_matching(graph)
    found = np.asarray(number[got_rows, got_columns]).ravel() - 1
    return found[found >= 0]


METHODS: dict[str, Callable[[Edges, int, int], Edges]] = {
    "gated": _optimal(most_pairs=False),
    "max_pairs": _optimal(most_pairs=True),
    "greedy": _greedy,
    "mutual_nearest": _mutual,
    "assign_then_cut": _greedy,  # handled separately: it needs the points, not candidates
}
