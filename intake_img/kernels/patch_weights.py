"""Weights of the pixels of a patch for blending: one window along each axis, always greater than zero.

A window that is zero at its ends would give no weight to the rim of the image, which only one patch covers; therefore
the windows of `scipy.signal.windows` are computed two samples longer, without their ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["WINDOWS", "window", "window_nd"]

WINDOWS = ("mean", "hann", "gaussian")
"""Names of windows: constant, raised cosine, bell."""
_SIGMA = 0.125


def window(name: str, n: int) -> np.ndarray:
    """Return the weights of `n` neighbouring pixels.

    Parameters
    ----------
    name : {"mean", "hann", "gaussian"}
        ``"mean"``: 1 everywhere; ``"hann"``: ``sin(pi (k + 1) / (n + 1)) ** 2``, a Hann window of ``n + 2`` samples
        without its two zeros; ``"gaussian"``: a Gaussian around the middle with a standard deviation of an eighth of
        `n`.
    n : int
        Number of pixels, at least 1.

    Returns
    -------
    ndarray of shape (n,)
        float64, symmetric, all greater than 0.

    Examples
    --------
    >>> window("hann", 3).round(3)
    array([0.5, 1. , 0.5])
    """
    if name == "mean":
        return np.ones(n)
    k = np.arange(n)
    if name == "hann":
        half = np.sin(np.pi * (k + 1) / (n + 1)) ** 2
    elif name == "gaussian":
        half = np.exp(-0.5 * ((k - (n - 1) / 2) / (_SIGMA * n)) ** 2)
    else:
        raise ValueError(f"window {name!r}: expected one of {', '.join(map(repr, WINDOWS))}")
    return np.maximum(half, half[::-1])  # exactly symmetric, whatever the rounding


def window_nd(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return the product of windows along several axes.

    Parameters
    ----------
    name : {"mean", "hann", "gaussian"}
    shape : sequence of int

    Returns
    -------
    ndarray of shape `shape`
        float64.

    Examples
    --------
    >>> window_nd("hann", (3, 1)).round(3)
    array([[0.5],
           [1. ],
           [0.5]])
    """
    out = np.ones(())
    for n in shape:
        out = np.multiply.outer(out, window(name, n))
    return out
