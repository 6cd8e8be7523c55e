"""Regions of the images for training and for validation, without common pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intake_img.accessor.patches.plan import Plan
from intake_img.kernels.sampling import box_sums, permutation, running_sums

__all__ = ["Region", "split_blocks", "split_places"]

_STREAM = 7


@dataclass(frozen=True, eq=False)
class Region:
    """A region of the images, as blocks along the cut axes, or as sources or indices.

    Parameters
    ----------
    block : tuple of int
        Lengths of the blocks along the cut axes.
    allowed : tuple of ndarray of bool, or None
        For each source, which blocks of its grid belong to the region; None for all.
    sources : ndarray of bool, optional
        Which sources belong to it.
    axis, indices : int, tuple of ndarray of bool
        Which indices along an iterated axis belong to it, for each source.
    """

    block: tuple[int, ...] = ()
    allowed: tuple[np.ndarray, ...] | None = None
    sources: np.ndarray | None = None
    axis: int | None = None
    indices: tuple[np.ndarray, ...] | None = None

    def accept(self, plan: Plan, lengths: np.ndarray) -> np.ndarray:
        """Return which patches lie completely in the region; their parts outside of the image are ignored."""
        if self.sources is not None:
            return self.sources[plan.source]
        good = np.ones(len(plan), bool)
        for k in np.unique(plan.source):
            rows = np.flatnonzero(plan.source == k)
            if self.axis is not None and self.indices is not None:
                good[rows] = self.indices[k][plan.index[rows, self.axis]]
            elif self.allowed is not None:
                block = np.array(self.block, np.int64)
                low = np.clip(plan.start[rows], 0, lengths[k] - 1) // block
                high = (np.clip(plan.stop[rows], 1, lengths[k]) - 1) // block + 1
                inside = box_sums(running_sums(self.allowed[k]), low, high)
                good[rows] = inside == (high - low).prod(axis=1)
        return good


def split_blocks(lengths: np.ndarray, block: Sequence[int], share: float, seed: int) -> tuple[Region, Region]:
    """Return two regions without a common block; the second has the given share of all blocks."""
    grids = [tuple(-(-int(n) // b) for n, b in zip(row, block, strict=True)) for row in lengths]
    counts = [int(np.prod(g)) for g in grids]
    total = sum(counts)
    if total < 2:
        raise ValueError(
            f"block={tuple(block)}: the images are a single block, there is nothing to divide; take a smaller block"
        )
    chosen = np.zeros(total, bool)
    chosen[permutation(seed, 0, total, _STREAM)[: min(total - 1, max(1, round(share * total)))]] = True
    parts = np.split(chosen, np.cumsum(counts)[:-1])
    second = tuple(p.reshape(g) for p, g in zip(parts, grids, strict=True))
    first = tuple(~p for p in second)
    return Region(tuple(block), first), Region(tuple(block), second)


def split_places(lengths: Sequence[int], axis: int | None, share: float, seed: int) -> tuple[Region, Region]:
    """Return two regions of complete sources (`axis` None: `lengths` is one number), or of indices of an axis."""
    total = sum(lengths)
    if total < 2:
        raise ValueError("there is only one source or index: it cannot be divided; split by blocks (by=None)")
    chosen = np.zeros(total, bool)
    chosen[permutation(seed, 0, total, _STREAM)[: min(total - 1, max(1, round(share * total)))]] = True
    if axis is None:
        return Region(sources=~chosen), Region(sources=chosen)
    parts = tuple(np.split(chosen, np.cumsum(lengths)[:-1]))
    return Region(axis=axis, indices=tuple(~p for p in parts)), Region(axis=axis, indices=parts)
