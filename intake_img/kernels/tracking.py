"""Points linked over time: pairs of one time and the next by linear assignment, then gaps."""

from __future__ import annotations

import numpy as np

from intake_img.kernels.matching import METHODS, candidates, match

__all__ = ["linked"]


def linked(points: np.ndarray, frames: np.ndarray, gap: int) -> np.ndarray:
    """Return the track of each point, numbered from 1.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        In units of the largest distance that is linked.
    frames : ndarray of int, of shape (n,)
    gap : int
        How many frames in a row a track may leave out.
    """
    from scipy import sparse

    one = np.ones(points.shape[1])
    before, after = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    rows = {int(f): np.flatnonzero(frames == f) for f in np.unique(frames)}
    for frame, own in rows.items():
        if frame + 1 in rows:
            i, j, _ = match(points[own], points[rows[frame + 1]], one)
            before.append(own[i])
            after.append(rows[frame + 1][j])
    if gap:
        ends = np.setdiff1d(np.arange(len(points)), np.concatenate(before))
        starts = np.setdiff1d(np.arange(len(points)), np.concatenate(after))
        i, j, distance = candidates(points[ends], points[starts], one)
        later = frames[starts[j]] - frames[ends[i]]
        near = (later > 1) & (later <= gap + 1)
        if near.any():
            i, j, _ = METHODS["gated"]((i[near], j[near], distance[near]), len(ends), len(starts))
            before.append(ends[i])
            after.append(starts[j])
    pair = np.concatenate(before), np.concatenate(after)
    graph = sparse.coo_matrix((np.ones(len(pair[0]), np.int8), pair), shape=(len(points),) * 2)
    return sparse.csgraph.connected_components(graph, directed=False)[1] + 1 if len(points) else np.empty(0, np.intp)
