"""Correlation of two stacks along their first axis, from mergeable, centred sums.

``E[xy] - E[x]E[y]`` loses all precision on a bright background. Here each group of images is centred on its own mean,
and groups are merged with the pairwise formula of Chan, Golub and LeVeque [1]_, so that any chunks of images can be
used.

References
----------
.. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
   variances", COMPSTAT 1982.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ROWS", "correlation", "merge", "moments"]

ROWS = 6
"""Rows of the moments: number, mean of x, mean of y, and the centred sums of xx, yy and xy."""


def moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the moments of two stacks.

    Parameters
    ----------
    x, y : ndarray of shape (N, ...), float64
        They are overwritten.

    Returns
    -------
    ndarray of shape (6, ...)
    """
    out = np.empty((ROWS, *x.shape[1:]))
    out[0] = len(x)
    for row, stack in ((1, x), (2, y)):
        pivot = stack[0].copy()  # a constant series becomes exactly 0
        stack -= pivot
        mean = stack.mean(axis=0)
        stack -= mean
        out[row] = pivot + mean
    out[3] = np.einsum("n...,n...->...", x, x)
    out[4] = np.einsum("n...,n...->...", y, y)
    out[5] = np.einsum("n...,n...->...", x, y)
    return out


def merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the moments of two stacks together."""
    n = a[0] + b[0]
    dx, dy = b[1] - a[1], b[2] - a[2]
    weight = a[0] * b[0] / n
    out = np.empty_like(a)
    out[0] = n
    out[1] = a[1] + dx * (b[0] / n)
    out[2] = a[2] + dy * (b[0] / n)
    out[3] = a[3] + b[3] + dx * dx * weight
    out[4] = a[4] + b[4] + dy * dy * weight
    out[5] = a[5] + b[5] + dx * dy * weight
    return out


def correlation(m: np.ndarray) -> np.ndarray:
    """Return Pearson's coefficient from moments; NaN for a constant series."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(m[5] / (np.sqrt(m[3]) * np.sqrt(m[4])), -1, 1)
