"""Where the patches of a grid begin along one axis, and which pixels each of them answers for."""

from __future__ import annotations

import numpy as np

__all__ = ["EDGES", "cores", "count", "starts"]

EDGES = ("shift", "pad", "drop", "partial", "balanced", "error")
"""What becomes of the last patch of a row where it would reach beyond the image."""


def count(n: int, size: int, step: int) -> int:
    """Return how many patches cover an axis.

    Examples
    --------
    >>> count(20, 8, 8), count(20, 8, 5), count(5, 8, 8)
    (3, 4, 1)
    """
    return 1 if n <= size else -(-(n - size) // step) + 1


def starts(n: int, size: int, step: int, edge: str) -> np.ndarray:
    """Return the first pixel of each patch along an axis.

    Parameters
    ----------
    n : int
        Length of the axis.
    size, step : int
        Length of a patch, and the distance from one to the next.
    edge : str
        ``"shift"`` moves the last patch inwards, ``"balanced"`` spreads all of them evenly, ``"pad"`` and ``"partial"``
        let it reach beyond the image, ``"drop"`` leaves it out, ``"error"`` refuses lengths that do not come out even.

    Returns
    -------
    ndarray of int64
        Rising; empty if nothing fits.

    Raises
    ------
    ValueError
        If the patch is larger than the image and `edge` does not allow for it, or the axis does not come out even.

    Examples
    --------
    >>> starts(20, 8, 8, "shift"), starts(20, 8, 8, "balanced"), starts(20, 8, 8, "drop")
    (array([ 0,  8, 12]), array([ 0,  6, 12]), array([0, 8]))
    """
    if edge == "drop":
        return np.arange(0, n - size + 1, step, dtype=np.int64)
    if size > n and edge not in ("pad", "partial"):
        raise ValueError(f"a patch of {size} is larger than the image of {n}")
    number = count(n, size, step)
    if edge == "balanced":
        return np.round(np.linspace(0, n - size, number)).astype(np.int64)
    first = np.arange(number, dtype=np.int64) * step
    if edge == "error" and first[-1] + size != n:
        raise ValueError(f"{n} pixels do not come out even in patches of {size} every {step}")
    return np.minimum(first, n - size) if edge == "shift" else first


def cores(first: np.ndarray, size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each patch of a row the pixels that it alone answers for: overlaps are cut in their middle.

    Parameters
    ----------
    first : ndarray of int
        Starts, rising.
    size : int
    n : int
        Length of the axis; cores end there.

    Returns
    -------
    begin, end : ndarray of int64
        Half-open ranges that lie within the patches, do not overlap, and leave no pixel out that lies in a patch.

    Examples
    --------
    >>> cores(np.array([0, 8, 12]), 8, 20)
    (array([ 0,  8, 14]), array([ 8, 14, 20]))
    """
    first = np.asarray(first, np.int64)
    begin, end = np.maximum(first, 0), np.minimum(first + size, n)
    cut = np.where(end[:-1] > begin[1:], (end[:-1] + begin[1:]) // 2, end[:-1])
    new_end = np.concatenate([cut, end[-1:]])
    new_begin = np.concatenate([begin[:1], np.where(end[:-1] > begin[1:], cut, begin[1:])])
    return new_begin, new_end
