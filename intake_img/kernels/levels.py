"""How often each value of small integers occurs."""

from __future__ import annotations

import numpy as np

from intake_img.kernels.compiled import opencv

__all__ = ["level_counts"]

PART = 2**18
"""Pixels that are counted at a time: their copies in 64 bits stay in the cache."""
EXACT = 2**24
"""OpenCV returns counts as float32, which represents every integer up to this one."""


def level_counts(block: np.ndarray) -> np.ndarray:
    """Return how many pixels have each value, from the least to the greatest that the dtype holds.

    Parameters
    ----------
    block : ndarray of integers of 8 or 16 bits

    Returns
    -------
    ndarray of shape (256,) or (65536,), int64
    """
    size = 2 ** (8 * block.itemsize)
    flat = np.ascontiguousarray(block).ravel().view(f"u{block.itemsize}")
    counts = np.zeros(size, np.int64)
    cv2 = opencv()
    step = PART if cv2 is None else EXACT
    for start in range(0, flat.size, step):
        part = flat[start : start + step]
        if cv2 is None:
            counts += np.bincount(part, minlength=size)
        else:
            counts += cv2.calcHist([part[None]], [0], None, [size], [0, size]).ravel().astype(np.int64)
    return counts if block.dtype.kind == "u" else np.roll(counts, size // 2)  # negative numbers look the greatest
