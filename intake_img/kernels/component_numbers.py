"""Common numbers of labels of chunks: components that pairs of labels join, in the order of their first pixels.

Labels of a chunk are in the order of their first pixels. So the order in the complete image is known from the number of
labels that begin on each line of each chunk; labels need no sort, except those that touch others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np

__all__ = ["begun", "common_tables", "components"]


def begun(labels: np.ndarray, n: int, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return how many of the labels of a chunk, 1 to n in the order of first pixels, begin up to each of its lines.

    Parameters
    ----------
    labels : ndarray
    n, start, shape
        Not used: the number of labels, where the chunk begins, and the shape of the image.

    Returns
    -------
    ndarray of int64
    """
    if labels.shape[-1] == 0:
        return np.zeros(math.prod(labels.shape[:-1]), np.int64)
    return np.maximum.accumulate(labels.max(axis=-1).ravel()).astype(np.int64)


def components(n: int, pairs: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the number of components, and the component (from 0) of each of the provisional labels 1 to n.

    Components are in the order of their first labels.

    Parameters
    ----------
    n : int
    pairs : ndarray of shape (M, 2)
        Pairs of labels of the same component.
    """
    ids, group = _joined(n, pairs - 1)
    first = _firsts(ids, group)
    begins = np.ones(n, bool)
    begins[ids[first != ids]] = False
    component = np.cumsum(begins) - 1
    component[ids] = component[first]
    return int(np.count_nonzero(begins)), component


def common_tables(
    lines: Sequence[np.ndarray], pairs: np.ndarray, chunks: Sequence[Sequence[int]], dtype: np.dtype
) -> list[np.ndarray]:
    """Return a table of the final labels of every chunk, in the order of first pixels; its entry 0 is 0.

    Parameters
    ----------
    lines : sequence of ndarray
        What `begun` returns for each chunk, in C order.
    pairs : ndarray of shape (M, 2)
        Pairs of labels of the same component. To the label of a chunk, the lengths of the tables of all chunks before
        are added.
    chunks : sequence of sequence of int
        The lengths of the chunks along each axis.
    dtype : numpy.dtype
        Of the tables.
    """
    starts = [0, *accumulate(1 + (int(b[-1]) if len(b) else 0) for b in lines)]
    places = list(_places(chunks))
    ids, group = _joined(starts[-1], pairs)
    first = _firsts(ids, group, _places_of(ids, starts, lines, places))
    begins = np.ones(starts[-1], bool)
    begins[starts[:-1]] = False
    begins[ids[first != ids]] = False
    number = np.cumsum(begins, dtype=dtype)
    upto = [np.concatenate([number[[a]], number[a + b]]) for a, b in zip(starts, lines, strict=False)]
    new = np.zeros(sum(map(len, lines)), np.int64)
    for place, counted in zip(places, upto, strict=True):
        new[place] = np.diff(counted)
    before = np.cumsum(new) - new
    for (a, b), line, place, counted in zip(pairwise(starts), lines, places, upto, strict=True):
        number[a + 1 : b] += np.repeat((before[place] - counted[:-1]).astype(dtype), np.diff(line, prepend=0))
        number[a] = 0
    number[ids] = number[first]
    return [number[a:b] for a, b in pairwise(starts)]


def _joined(n: int, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the numbers from 0 to n - 1 occur in pairs, in order, and the component of each."""
    from scipy import sparse

    there = np.zeros(n, bool)
    there[pairs.ravel()] = True
    ids = np.flatnonzero(there)
    place = np.empty(n, np.intp)
    place[ids] = np.arange(len(ids))
    graph = sparse.coo_array(
        (np.ones(len(pairs), bool), (place[pairs[:, 0]], place[pairs[:, 1]])), shape=(len(ids),) * 2
    )
    return ids, sparse.csgraph.connected_components(graph, directed=False)[1]


def _firsts(ids: np.ndarray, group: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """Return, for each number, the first of its component: the least, or the one at the least place."""
    order = slice(None, None, -1) if places is None else np.argsort(places, kind="stable")[::-1]
    first = np.empty(int(group.max(initial=-1)) + 1, np.int64)
    first[group[order]] = ids[order]  # the first is assigned last
    return first[group]


def _places(chunks: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """Iterate over the chunks in C order: the places of their lines in the image, of which each chunk has its own."""
    *shape, width = *(sum(c) for c in chunks[:-1]), len(chunks[-1])
    all_places = np.arange(math.prod(shape) * width).reshape(*shape, width)
    ends = [list(pairwise(accumulate(c, initial=0))) for c in chunks[:-1]]
    for k in np.ndindex(*map(len, chunks)):
        yield all_places[(*(slice(*e[i]) for e, i in zip(ends, k, strict=False)), k[-1])].ravel()


def _places_of(
    ids: np.ndarray, starts: Sequence[int], lines: Sequence[np.ndarray], places: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the places of the lines on which labels begin; labels of the same place are in order."""
    cuts = pairwise(np.searchsorted(ids, starts))
    found = [
        place[np.searchsorted(line, ids[a:b] - start)]
        for (a, b), start, line, place in zip(cuts, starts, lines, places, strict=False)
    ]
    return np.concatenate([np.empty(0, np.int64), *found])
