"""Exact percentiles of data that are read in parts: the order of values is found from their bits, 16 at a time.

Values are mapped to unsigned integers of the same order. The first pass counts their upper 16 bits, which gives the
bucket of each wanted rank; the next pass counts the following 16 bits of the values in these buckets, and so on: one
pass for integers of 8 and 16 bits, two for 32 bits, four for 64 bits. Only counts are in memory, never values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["counted", "interpolated", "levels", "refined"]

BITS = 16


def levels(dtype: np.dtype) -> int:
    """Number of passes for values of this dtype."""
    return max(1, 8 * dtype.itemsize // BITS)


def _keys(values: np.ndarray) -> np.ndarray:
    """Return unsigned integers in the order of the values; NaN and infinities are left out."""
    values = values.ravel()
    unsigned = np.dtype(f"u{values.itemsize}")
    top = unsigned.type(1 << (8 * values.itemsize - 1))
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)] + values.dtype.type(0)  # -0.0 becomes 0.0
        bits = values.view(unsigned)
        return np.where(bits & top, ~bits, bits | top)
    bits = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).view(unsigned)
    return bits ^ top if values.dtype.kind == "i" else bits


def _value(key: int, dtype: np.dtype) -> float | int:
    unsigned = np.dtype(f"u{dtype.itemsize}")
    top = 1 << (8 * dtype.itemsize - 1)
    if dtype.kind == "f":
        bits = key ^ top if key & top else ~key & (2 * top - 1)
        return float(np.array([bits], unsigned).view(dtype)[0])
    return key - top if dtype.kind == "i" else key


def counted(state: np.ndarray | None, level: int, values: np.ndarray) -> np.ndarray:
    """Count the bits of one level of the values that have the same higher bits as a wanted one.

    Parameters
    ----------
    state : ndarray of shape (R + 1, 2), uint64, or None at level 0
        The result of `refined` for the preceding level.
    level : int
        0 for the upper bits.
    values : ndarray

    Returns
    -------
    ndarray of shape (R, 65536), int64; (1, 65536) at level 0
    """
    keys = _keys(values.astype("u1") if values.dtype.kind == "b" else values)
    bits = min(BITS, 8 * keys.itemsize)
    shift = 8 * keys.itemsize - bits * (level + 1)
    if state is None:
        return np.bincount((keys >> keys.dtype.type(shift)).astype(np.int64), minlength=1 << BITS)[None]
    before = keys >> keys.dtype.type(shift + bits)
    found = np.empty((len(state) - 1, 1 << BITS), np.int64)
    known: dict[int, np.ndarray] = {}
    for row, prefix in enumerate(state[:-1, 0].tolist()):
        if prefix not in known:
            here = keys[before == prefix] >> keys.dtype.type(shift)
            known[prefix] = np.bincount((here & keys.dtype.type((1 << bits) - 1)).astype(np.int64), minlength=1 << BITS)
        found[row] = known[prefix]
    return found


def refined(counts: np.ndarray, state: np.ndarray | None, percentiles: Sequence[float]) -> np.ndarray:
    """Return the state after a level: for each wanted rank its known bits and the rank among values with these bits.

    Parameters
    ----------
    counts : ndarray
        The sum of the results of `counted`.
    state : ndarray or None
    percentiles : sequence of float
        Each needs two ranks, below and above its position.

    Returns
    -------
    ndarray of shape (R + 1, 2), uint64
        The last row contains the number of values.
    """
    if state is None:
        n = int(counts.sum())
        ranks = [int(f(p / 100 * max(0, n - 1))) for p in percentiles for f in (np.floor, np.ceil)]
        state = np.array([*[(0, r) for r in ranks], (n, 0)], np.uint64)
        counts = np.broadcast_to(counts, (len(ranks), counts.shape[1]))
    out = state.copy()
    for row, here in enumerate(counts):
        ends = np.cumsum(here)
        rank = int(state[row, 1])
        bucket = int(np.searchsorted(ends, rank, side="right"))
        below = int(ends[bucket - 1]) if bucket else 0
        out[row] = (int(state[row, 0]) << BITS) | min(bucket, len(here) - 1), rank - min(below, rank)
    return out


def interpolated(state: np.ndarray, dtype: np.dtype, percentiles: Sequence[float]) -> np.ndarray:
    """Return the percentiles, interpolated like the default of `numpy.percentile`, as float64; NaN for no values.

    Raises
    ------
    OverflowError
        If percentiles of integers are so close that rounding to float64 would matter.
    """
    n = int(state[-1, 0])
    if not n:
        return np.full(len(percentiles), np.nan)
    own = np.dtype("u1") if dtype.kind == "b" else dtype.newbyteorder("=")
    found = [_value(int(key), own) for key in state[:-1, 0]]
    if own.kind in "iu" and 0 < max(found) - min(found) < 2**20 * (np.spacing(float(max(map(abs, found)))) - 1):
        raise OverflowError(
            f"percentiles of {own} from {min(found)} to {max(found)} lie too close together for float64, which "
            "represents integers up to 2**53; subtract an offset first (.img.subtract), or convert with .astype(float)"
        )
    out = []
    for p, low, high in zip(percentiles, found[::2], found[1::2], strict=True):
        place = p / 100 * (n - 1)
        part = place - np.floor(place)
        with np.errstate(invalid="ignore"):
            low, high = np.float64(low), np.float64(high)
            step = high - low
            out.append(high - step * (1 - part) if part >= 0.5 else low + step * part)
    return np.array(out, np.float64)
