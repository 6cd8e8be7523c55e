"""Assignment of patches to blocks of a result, and assembly of predictions until a block is complete.

A canvas is the grid of one source: the iterated axes, then the axes along which patches have a size, cut into blocks
that are written one by one. Every patch becomes a box on it (its core if results are cropped, else its part inside the
image), and every box is cut along the edges of the blocks, so that a patch is predicted once for all blocks that it
touches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from intake_img.accessor.patches.plan import Plan
from intake_img.kernels.blending import Piece, blend
from intake_img.kernels.patch_weights import WINDOWS, window_nd
from intake_img.storage.spill import SpillingMemory

__all__ = ["BLENDS", "Assembly", "Boxes", "Canvas", "cast", "grown"]

BLENDS = ("crop", "mean", "hann", "gaussian", "max", "vote")


@dataclass(frozen=True)
class Canvas:
    """The grid of a result and its blocks.

    Parameters
    ----------
    lengths : tuple of int
        Lengths of the iterated axes, then of the axes along which patches have a size.
    block : tuple of int
        Lengths of a block along these axes.
    """

    lengths: tuple[int, ...]
    block: tuple[int, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis."""
        return tuple(-(-n // b) for n, b in zip(self.lengths, self.block, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def region(self, number: int) -> tuple[slice, ...]:
        """Return the region of a block; blocks are numbered in C order."""
        at = np.unravel_index(number, self.counts)
        return tuple(
            slice(int(k) * b, min((int(k) + 1) * b, n)) for k, b, n in zip(at, self.block, self.lengths, strict=True)
        )


def grown(
    unit: Sequence[int],
    lengths: Sequence[int],
    least: Sequence[int],
    itemsize: int,
    nbytes: int = 2**23,
    most: int = 2**26,
) -> tuple[int, ...]:
    """Return the shape of a block: complete units, at least `least` long unless that exceeds `most` bytes.

    Examples
    --------
    >>> grown((1, 64, 64), (5, 1000, 100), (1, 100, 100), 2, nbytes=2**15)
    (1, 128, 100)
    """
    block = [min(u, n) for u, n in zip(unit, lengths, strict=True)]
    for k in reversed(range(len(block))):
        wanted = min(lengths[k], -(-least[k] // unit[k]) * unit[k])
        if wanted > block[k] and math.prod(block) // block[k] * wanted * itemsize <= most:
            block[k] = wanted
    spread = [k for k in range(len(block)) if least[k] > 1]
    while growing := [k for k in spread if block[k] < lengths[k]]:
        k = min(growing, key=lambda k: (block[k], -k))
        if math.prod(block) * itemsize * 2 > nbytes:
            break
        block[k] = min(block[k] * 2, lengths[k])
    return tuple(block)


@dataclass(frozen=True)
class Boxes:
    """The contribution of each patch to a canvas.

    Parameters
    ----------
    low, high : ndarray of int64, shape (n, axes of the canvas)
        The box of each patch in the image.
    start : ndarray of int64, shape (n, sized axes)
        Position of the first pixel of its prediction.
    weights : ndarray or None
        Weight of each pixel of a prediction, along the sized axes.
    """

    low: np.ndarray
    high: np.ndarray
    start: np.ndarray
    weights: np.ndarray | None

    @classmethod
    def of(cls, plan: Plan, which: np.ndarray, lengths: Sequence[int], how: str, halo: Sequence[int]) -> Boxes:
        """Return the boxes of the patches `which` of a plan; `halo` is cut off where other patches cover the pixels."""
        start, low, high = plan.start[which], plan.core_start[which], plan.core_stop[which]
        if how != "crop":
            low = np.minimum(low, start + np.asarray(halo, np.int64))
            high = np.maximum(high, plan.stop[which] - np.asarray(halo, np.int64))
        extent = np.asarray(lengths[len(plan.over) :], np.int64)
        low = np.maximum(low, np.maximum(start, 0))
        high = np.maximum(np.minimum(np.minimum(high, plan.stop[which]), extent), low)
        index = plan.index[which]
        weights = None
        if how in WINDOWS and how != "mean":
            inner = [max(1, n - 2 * h) for n, h in zip(plan.size, halo, strict=True)]
            around = [((n - m) // 2, n - m - (n - m) // 2) for n, m in zip(plan.size, inner, strict=True)]
            weights = np.pad(window_nd(how, inner), around, mode="edge")
        return cls(np.hstack([index, low]), np.hstack([index + 1, high]), start, weights)

    def touched(self, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs (block, patch) with common pixels, sorted by block, then by patch."""
        block = np.asarray(canvas.block, np.int64)
        full = (self.high > self.low).all(axis=1)
        first, last = self.low // block, (self.high - 1) // block
        most = (last - first)[full].max(axis=0, initial=0) + 1
        blocks, patches = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for step in product(*[range(int(n)) for n in most]):
            at = first + np.asarray(step, np.int64)
            here = np.flatnonzero(full & (at <= last).all(axis=1))
            blocks.append(np.ravel_multi_index(tuple(at[here].T), canvas.counts).astype(np.int64))
            patches.append(here)
        pairs = np.concatenate(blocks), np.concatenate(patches)
        order = np.lexsort(pairs[::-1])
        return pairs[0][order], pairs[1][order]

    def piece(self, patch: int, values: np.ndarray, region: Sequence[slice]) -> Piece:
        """Return the part of a prediction (kept axes, then sized ones) that lies in a region of the canvas."""
        sized = self.start.shape[1]
        over = len(region) - sized
        kept = values.ndim - sized
        where: list[int | slice] = [int(self.low[patch, k]) - region[k].start for k in range(over)]
        where += [slice(None)] * kept
        inside = []
        for k in range(sized):
            whole = region[over + k]
            a = max(int(self.low[patch, over + k]), whole.start)
            b = min(int(self.high[patch, over + k]), whole.stop)
            where.append(slice(a - whole.start, b - whole.start))
            inside.append(slice(a - int(self.start[patch, k]), b - int(self.start[patch, k])))
        weights = None if self.weights is None else self.weights[tuple(inside)]
        return Piece(tuple(where), values[(slice(None),) * kept + tuple(inside)], weights)

    def disjoint(self, canvas: Canvas) -> bool:
        """True if no two boxes overlap."""
        if not len(self.low):
            return True
        order = np.lexsort(self.low.T[::-1])
        low, high = self.low[order], self.high[order]
        volume = int(np.prod((high - low).astype(object), axis=1).sum())
        if volume > math.prod(canvas.lengths):
            return False
        edges = [np.unique(np.concatenate([low[:, k], high[:, k]])) for k in range(low.shape[1])]
        cells = math.prod(max(1, len(e) - 1) for e in edges)
        if cells > 64 * len(low) + 2**16:
            return False  # not a grid: the test would need too much memory
        count = np.zeros([max(1, len(e) - 1) for e in edges], np.uint8)
        first = [np.searchsorted(e, low[:, k]) for k, e in enumerate(edges)]
        last = [np.searchsorted(e, high[:, k]) for k, e in enumerate(edges)]
        return _once(count, np.stack(first, 1), np.stack(last, 1))


def _once(count: np.ndarray, first: np.ndarray, last: np.ndarray) -> bool:
    """True if no cell is covered twice by the boxes of cells from `first` to `last`."""
    full = (last > first).all(axis=1)
    first, last = first[full], last[full]
    total = int(np.prod(last - first, axis=1).sum())
    most = (last - first).max(axis=0, initial=0)
    for step in product(*[range(int(n)) for n in most]):
        at = first + np.asarray(step)
        here = at[(at < last).all(axis=1)]
        count[tuple(here.T)] = 1
    return int(count.sum(dtype=np.int64)) == total


@dataclass
class _Open:
    """A block with missing patches."""

    missing: int
    pieces: list[tuple[int, Piece]] = field(default_factory=list)
    whole: np.ndarray | None = None


class Assembly:
    """Collects predictions and returns blocks as soon as they are complete.

    Parameters
    ----------
    canvas : Canvas
    boxes : Boxes
    how : str
        One of `BLENDS`.
    wanted : ndarray of bool, optional
        Which blocks to make; all by default.
    fill : scalar
        Value of pixels that no patch covers.
    memory : SpillingMemory, optional
        Memory for predictions that wait for other patches.
    """

    def __init__(
        self,
        canvas: Canvas,
        boxes: Boxes,
        how: str,
        wanted: np.ndarray | None = None,
        fill: Any = 0,
        memory: SpillingMemory | None = None,
    ) -> None:
        self.canvas, self.boxes, self.how, self.fill = canvas, boxes, how, fill
        self.memory = memory or SpillingMemory(2**62)
        blocks, patches = boxes.touched(canvas)
        if wanted is not None:
            chosen = wanted[blocks]
            blocks, patches = blocks[chosen], patches[chosen]
        self.order = _by_first(patches)
        """The patches that are needed, in the order in which blocks need them."""
        self.touched_blocks = np.unique(blocks)
        by_patch = np.argsort(patches, kind="stable")
        self._blocks = blocks[by_patch]
        self._ends = np.searchsorted(patches[by_patch], np.arange(len(boxes.low) + 1))
        numbers, counts = np.unique(blocks, return_counts=True)
        self.missing = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        self._open: dict[int, _Open] = {}
        self._direct = boxes.disjoint(canvas)

    @property
    def waiting(self) -> int:
        """Number of blocks with some, but not all, of their patches."""
        return len(self._open)

    def blocks_of(self, patch: int) -> list[int]:
        """Return the wanted blocks that a patch touches."""
        return self._blocks[self._ends[patch] : self._ends[patch + 1]].tolist()

    def add(self, patches: Sequence[int], predictions: np.ndarray) -> Iterator[tuple[int, _Open]]:
        """Add predictions (patch, kept axes, sized axes); yield the complete blocks, for `finished`."""
        fresh: list[tuple[_Open, int, Piece]] = []
        for patch, values in zip(patches, predictions, strict=True):
            for number in self.blocks_of(int(patch)):
                state = self._open.get(number)
                if state is None:
                    state = self._open[number] = _Open(self.missing[number])
                piece = self.boxes.piece(int(patch), values, self.canvas.region(number))
                state.missing -= 1
                if self._direct:
                    self._write(state, number, piece)
                else:
                    state.pieces.append((int(patch), piece))
                    fresh.append((state, len(state.pieces) - 1, piece))
                if state.missing == 0:
                    yield number, self._open.pop(number)
        for state, k, piece in fresh:
            if state.missing:  # a view would keep the complete batch alive
                held = self.memory.empty(piece.values.shape, piece.values.dtype)
                held[...] = piece.values
                state.pieces[k] = (state.pieces[k][0], piece._replace(values=held))

    def _write(self, state: _Open, number: int, piece: Piece) -> None:
        if state.whole is None:
            region = [s.stop - s.start for s in self.canvas.region(number)]
            over = len(region) - self.boxes.start.shape[1]
            shape = (*region[:over], *piece.values.shape[: -(len(region) - over)], *region[over:])
            state.whole = self.memory.empty(shape, piece.values.dtype)
            state.whole[...] = self.fill
        state.whole[piece.where] = piece.values

    def finished(self, number: int, state: _Open, kept: Sequence[int]) -> np.ndarray:
        """Return a complete block, with the iterated axes, the kept axes, and the axes with a size."""
        if state.whole is not None:
            return state.whole
        region = [s.stop - s.start for s in self.canvas.region(number)]
        over = len(region) - self.boxes.start.shape[1]
        pieces = [p for _, p in sorted(state.pieces, key=lambda pair: pair[0])]
        return blend(self.how, (*region[:over], *kept, *region[over:]), pieces[0].values.dtype, pieces, self.fill)

    def release(self, state: _Open) -> None:
        """Release the memory of a written block."""
        for array in [state.whole, *(p.values for _, p in state.pieces)]:
            if array is not None:
                self.memory.release(array)


def _by_first(patches: np.ndarray) -> np.ndarray:
    """Return distinct values in the order of their first occurrence."""
    values, first = np.unique(patches, return_index=True)
    return values[np.argsort(first)]


def cast(block: np.ndarray, dtype: Any) -> np.ndarray:
    """Cast a block; for integers, values are rounded half to even and clipped to the range of the dtype."""
    dtype = np.dtype(dtype)
    if block.dtype == dtype:
        return block
    if dtype.kind in "iu" and block.dtype.kind == "f":
        info = np.iinfo(dtype)
        top = float(info.max) if float(info.max) <= info.max else float(np.nextafter(float(info.max), 0))
        return np.clip(np.rint(np.nan_to_num(block.astype(np.float64))), float(info.min), top).astype(dtype)
    if dtype.kind in "iu" and block.dtype.kind in "iu":
        info = np.iinfo(dtype)
        return (
            np.clip(block, info.min, info.max).astype(dtype)
            if not np.can_cast(block.dtype, dtype)
            else block.astype(dtype)
        )
    return block.astype(dtype)
