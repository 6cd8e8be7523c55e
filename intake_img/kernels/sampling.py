"""Random positions as a pure function of (seed, epoch, index): counter-based draws, strata, weights, box sums."""

from __future__ import annotations

from itertools import product

import numpy as np

__all__ = ["box_sums", "permutation", "running_sums", "strata", "turns", "uniforms", "weighted"]

_WORD = 2**64


def _generator(seed: int, epoch: int, attempt: int, stream: int) -> np.random.Generator:
    key = np.array([seed % _WORD, epoch % _WORD], np.uint64)
    counter = np.array([0, 0, attempt % _WORD, stream % _WORD], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def uniforms(seed: int, epoch: int, n: int, columns: int, attempt: int = 0, stream: int = 0) -> np.ndarray:
    """Return `n` rows of numbers in [0, 1); row k depends only on the other arguments, not on `n`.

    Drawn by Philox-4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), keyed by seed and epoch;
    `attempt` and `stream` choose disjoint blocks of the counter.

    Examples
    --------
    >>> bool((uniforms(1, 0, 9, 3)[:4] == uniforms(1, 0, 4, 3)).all())
    True
    """
    return _generator(seed, epoch, attempt, stream).random((n, columns))


def permutation(seed: int, epoch: int, n: int, stream: int = 1) -> np.ndarray:
    """Return the numbers below `n` in an order given by seed and epoch."""
    return _generator(seed, epoch, 0, stream).permutation(n)


def turns(n: int, groups: int, times: int) -> np.ndarray:
    """Return the group of each of the numbers below `n`, where so many groups take turns, each `times` times in total.

    Examples
    --------
    >>> turns(10, 2, 3)
    array([0, 1, 0, 1, 0, 1, 2, 3, 2, 3])
    """
    period, within = np.divmod(np.arange(n), groups * times)
    return period * groups + within % groups


def strata(u: np.ndarray, cell: np.ndarray, cells: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return one position in each cell, where `cells` equal cells divide `places` positions.

    Each position is expected ``cells / places`` times, whether or not the division is even.

    Parameters
    ----------
    u : ndarray of float
        In [0, 1).
    cell : ndarray of int
        The number of the cell, for each `u`.
    cells, places : ndarray of int
        May differ from element to element.
    """
    return np.minimum((cell + u) * places // cells, places - 1).astype(np.int64)


def weighted(u: np.ndarray, cumulated: np.ndarray) -> np.ndarray:
    """Return indices drawn in proportion to weights, given by their running sum; weight 0 is never drawn."""
    total = cumulated[-1]
    found = np.searchsorted(cumulated, u * total, side="right")
    last = np.searchsorted(cumulated, total, side="left")  # the last index with a weight above 0
    return np.minimum(found, last).astype(np.int64)


def running_sums(array: np.ndarray) -> np.ndarray:
    """Return the summed-area table of an array: one longer along every axis, with zeros in front."""
    kind = np.float64 if array.dtype.kind == "f" else np.int64
    table = np.zeros(tuple(n + 1 for n in array.shape), kind)
    inner = table[(slice(1, None),) * array.ndim]
    inner[...] = array
    for axis in range(array.ndim):
        np.cumsum(inner, axis=axis, out=inner)
    return table


def box_sums(table: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the sums over boxes from a summed-area table.

    Parameters
    ----------
    table : ndarray
        From `running_sums`.
    low, high : ndarray of int, shape (n, axes)
        Half-open boxes within the array.
    """
    total = np.zeros(len(low), table.dtype)
    for corner in product((0, 1), repeat=table.ndim):
        at = tuple(np.where(c, high[:, k], low[:, k]) for k, c in enumerate(corner))
        total += (-1) ** (table.ndim - sum(corner)) * table[at]
    return total
