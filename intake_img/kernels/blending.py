"""Putting overlapping pieces together into one block: by weighted mean, maximum or vote, exactly where they agree.

A weighted mean is taken of the *differences* to the first piece that covers a pixel, in float64. Where all pieces
agree these are zero, so that the mean is that value, bit for bit, for every dtype: 64-bit integers, which float64
cannot hold, as well as NaN and infinity. Integers are rounded half to even before they are cast. Pieces are taken in
the order in which they are given, so that the same pieces always make the same bytes.
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
        Its place in the block: an index or slice for each axis.
    values : ndarray
        Of the shape that ``block[where]`` has.
    weights : ndarray or None
        Weight of each pixel, which broadcasts against `values`; None where all weigh the same.
    """

    where: Key
    values: np.ndarray
    weights: np.ndarray | None = None


def blend(how: str, shape: Sequence[int], dtype: Any, pieces: Sequence[Piece], fill: Any = 0) -> np.ndarray:
    """Return a block made of pieces.

    Parameters
    ----------
    how : {"crop", "mean", "hann", "gaussian", "max", "vote"}
        ``"crop"``: later pieces lie over earlier ones; ``"mean"`` and the names of windows: the mean, weighted by the
        pieces' weights; ``"max"``: the greatest; ``"vote"``: the most frequent, of equally frequent ones the smallest.
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
    """Return a block in which later pieces lie over earlier ones."""
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
    """Return the greatest of all pieces at each pixel; NaN where one of them is NaN."""
    out, covered = np.full(shape, fill, dtype), np.zeros(shape, bool)
    for piece in pieces:
        part, known = out[piece.where], covered[piece.where]
        out[piece.where] = np.where(known, np.maximum(part, piece.values), piece.values)
        covered[piece.where] = True
    return out


def vote(shape: Sequence[int], dtype: Any, pieces: Sequence[Piece], fill: Any = 0) -> np.ndarray:
    """Return the most frequent value of all pieces at each pixel; of equally frequent ones the smallest.

    Memory is as many blocks as pieces lie over one pixel at most.
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
    """Return the weighted mean of all pieces at each pixel, bit for bit their value where they agree.

    It takes two blocks of float64 beside the result (of complex numbers: of complex128). 64-bit integers are added to
    the first piece as integers, so that they lose no digit where pieces agree; where they differ, the mean is as near
    as float64 comes, and never beyond the pieces themselves.
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
    unsigned = np.uint64  # the distance of two 64-bit numbers fits 64 bits, their difference does not
    up = values >= base
    low, high = np.where(up, base, values).view(unsigned), np.where(up, values, base).view(unsigned)
    distance = (high - low).astype(wide)
    return np.where(up, distance, -distance)


def _moved(first: np.ndarray, by: np.ndarray, pieces: Sequence[Piece]) -> np.ndarray:
    """Return 64-bit integers moved by a float64, but not beyond what the pieces hold."""
    low, high = first.copy(), first.copy()
    for piece in pieces:
        np.minimum(low[piece.where], piece.values, out=low[piece.where])
        np.maximum(high[piece.where], piece.values, out=high[piece.where])
    unsigned = np.uint64
    room = np.where(by < 0, first.view(unsigned) - low.view(unsigned), high.view(unsigned) - first.view(unsigned))
    step = np.rint(np.abs(by))
    least = np.minimum(step, 2.0**64 - 2048).astype(unsigned)  # the greatest float64 that fits
    whole = np.where(step >= room.astype(np.float64), room, least)
    bits = first.view(unsigned)
    return np.where(by < 0, bits - whole, bits + whole).view(first.dtype)
