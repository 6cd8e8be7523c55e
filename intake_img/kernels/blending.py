"""Blending of overlapping pieces into one block by weighted mean, maximum or vote; exact where pieces agree.

A weighted mean is computed from the *differences* to the first piece that covers a pixel, in float64. Where all pieces
agree these are zero, so the mean is that value, bit for bit, for every dtype: also for 64-bit integers, which float64
cannot represent, and for NaN and infinity. Integers are rounded half to even before they are cast. Pieces are processed
in the given order, so that the same pieces always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Piece", "blend", "crop", "maximum", "mean", "vote"]

Key = tuple[int | slice, ...]


class Piece(NamedTuple):
    """A part of a block.

    Parameters
    ----------
    where : tuple of int or slice
        Its position in the block: an index or slice for each axis.
    values : ndarray
        Values of the shape of ``block[where]``.
    weights : ndarray or None
        Weight of each pixel, which broadcasts against `values`; None for equal weights.
    """

    where: Key
    values: np.ndarray
    weights: np.ndarray | None = None


def blend(how: str, shape: Sequence[int], dtype: Any, pieces: Sequence[Piece], fill: Any = 0) -> np.ndarray:
    """Return a block blended from pieces.

    Parameters
    ----------
    how : {"crop", "mean", "hann", "gaussian", "max", "vote"}
        ``"crop"``: later pieces cover earlier ones; ``"mean"`` and the names of windows: the mean, weighted by the
        pieces' weights; ``"max"``: the maximum; ``"vote"``: the most frequent value, among equally frequent values the
        smallest.
    shape : sequence of int
    dtype : dtype
    pieces : sequence of Piece
    fill : scalar
        Value of pixels that no piece covers.

    Returns
    -------
    ndarray of shape `shape`
    """
    if how == "crop" or len(pieces) <= 1:
        return crop(shape, dtype, pieces, fill)
    if how == "max":
        return maximum(shape, dtype, pieces, fill)
    if how == "vote":
        return vote(shape, dtype, pieces, fill)
    return mean(shape, dtype, pieces, fill)


def crop(shape: Sequence[int], dtype: Any, pieces: Sequence[Piece], fill: Any = 0) -> np.ndarray:
    """Return a block in which later pieces cover earlier ones."""
    out = np.full(shape, fill, dtype)
    for piece in pieces:
        out[piece.where] = piece.values
    return out


def _count(shape: Sequence[int], pieces: Sequence[Piece]) -> np.ndarray:
    """Return how many pieces cover each pixel."""
    count = np.zeros(shape, np.int32)
    for piece in pieces:
        count[piece.where] += 1
    return count


def maximum(shape: Sequence[int], dtype: Any, pieces: Sequence[Piece], fill: Any = 0) -> np.ndarray:
    """Return the maximum of all pieces at each pixel; NaN if one of them is NaN."""
    out, covered = np.full(shape, fill, dtype), np.zeros(shape, bool)
    for piece in pieces:
        part, known = out[piece.where], covered[piece.where]
        out[piece.where] = np.where(known, np.maximum(part, piece.values), piece.values)
        covered[piece.where] = True
    return out


def vote(shape: Sequence[int], dtype: Any, pieces: Sequence[Piece], fill: Any = 0) -> np.ndarray:
    """Return the most frequent value of all pieces at each pixel; among equally frequent values the smallest.

    The memory needed is one block for each piece that covers the most covered pixel.
    """
    count = _count(shape, pieces)
    layers = np.empty((int(count.max(initial=0)), *shape), dtype)
    count[...] = 0
    for piece in pieces:
        level = count[piece.where]
        for k in range(int(level.min(initial=0)), int(level.max(initial=-1)) + 1):
            np.copyto(layers[k][piece.where], piece.values, where=level == k)
        count[piece.where] += 1
    best, most = np.full(shape, fill, dtype), np.zeros(shape, np.int32)
    for k in range(len(layers)):
        votes = np.zeros(shape, np.int32)
        for other in range(len(layers)):
            votes += (layers[other] == layers[k]) & (count > other)
        better = (count > k) & ((votes > most) | ((votes == most) & (layers[k] < best)))
        np.copyto(best, layers[k], where=better)
        np.copyto(most, votes, where=better)
    return best


def mean(shape: Sequence[int], dtype: Any, pieces: Sequence[Piece], fill: Any = 0) -> np.ndarray:
    """Return the weighted mean of all pieces at each pixel; where they agree, their value, bit for bit.

    It needs two blocks of float64 besides the result (complex128 for complex numbers). Differences of 64-bit integers
    are added to the first piece as integers, so that no precision is lost where pieces agree; where they differ, the
    mean has the precision of float64, and stays within the range of the pieces.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return mean(
            shape, np.uint8, [p._replace(values=np.asarray(p.values).view(np.uint8)) for p in pieces], int(fill)
        ).astype(bool)
    first, covered = np.full(shape, fill, dtype), np.zeros(shape, bool)
    several = False
    for piece in pieces:
        known = covered[piece.where]
        several = several or bool(known.any())
        np.copyto(first[piece.where], piece.values, where=~known)
        covered[piece.where] = True
    if not several:
        return first
    base = first if dtype.kind in "iu" else np.where(np.isfinite(first), first, dtype.type(0))
    total, weight = _differences(base, pieces, covered)
    np.divide(total, weight, out=total)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return _moved(first, total, pieces)
    if dtype.kind in "iu":
        return np.rint(base + total, out=total).astype(dtype)
    return np.where(total == 0, first, base + total).astype(dtype)


def _differences(base: np.ndarray, pieces: Sequence[Piece], covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted sum of the differences to `base`, and the sum of the weights (1 where there is none)."""
    wide = np.result_type(base.dtype, np.float64)
    total, weight = np.zeros(base.shape, wide), np.where(covered, 0.0, 1.0)
    for piece in pieces:
        difference = _difference(np.asarray(piece.values), base[piece.where], wide)
        if piece.weights is not None:
            difference *= piece.weights
        total[piece.where] += difference
        weight[piece.where] += 1.0 if piece.weights is None else piece.weights
    return total, weight


def _difference(values: np.ndarray, base: np.ndarray, wide: np.dtype) -> np.ndarray:
    if base.dtype.kind not in "iu" or base.dtype.itemsize < 8:
        return values.astype(wide) - base
    unsigned = np.uint64  # the absolute difference of two 64-bit numbers fits into 64 bits, the signed one does not
    up = values >= base
    low, high = np.where(up, base, values).view(unsigned), np.where(up, values, base).view(unsigned)
    distance = (high - low).astype(wide)
    return np.where(up, distance, -distance)


def _moved(first: np.ndarray, by: np.ndarray, pieces: Sequence[Piece]) -> np.ndarray:
    """Return 64-bit integers plus a float64, clipped to the range of the pieces."""
    low, high = first.copy(), first.copy()
    for piece in pieces:
        np.minimum(low[piece.where], piece.values, out=low[piece.where])
        np.maximum(high[piece.where], piece.values, out=high[piece.where])
    unsigned = np.uint64
    room = np.where(by < 0, first.view(unsigned) - low.view(unsigned), high.view(unsigned) - first.view(unsigned))
    step = np.rint(np.abs(by))
    least = np.minimum(step, 2.0**64 - 2048).astype(unsigned)  # the largest float64 that fits
    whole = np.where(step >= room.astype(np.float64), room, least)
    bits = first.view(unsigned)
    return np.where(by < 0, bits - whole, bits + whole).view(first.dtype)
