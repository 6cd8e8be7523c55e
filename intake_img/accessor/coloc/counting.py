"""Joint histograms that are counted chunk by chunk and added."""

from __future__ import annotations

import numpy as np

from intake_img.kernels import joint, packing

__all__ = ["MOST_CELLS", "TooManyPairs", "added", "count_into", "counters_of", "packed_of", "settle"]

MOST_CELLS = 2**25
"""Number of cells of the arrays in which a task counts the channel pairs of a chunk, and which it passes to the
next."""


class TooManyPairs(Exception):
    """There are more distinct pairs of values than a histogram contains, or values that do not fit into its keys.

    A chunk never has more of them than the complete image, so the outcome does not depend on the chunks.
    """

    def __str__(self) -> str:
        return "too many pairs of values for a histogram: the image is read again, for sums and bins"


def counters_of(dtype: np.dtype, npairs: int, most: int | None, size: int) -> list[joint.Counter]:
    return [joint.Counter(dtype, size, most, MOST_CELLS // npairs) for _ in range(npairs)]


def count_into(counters: list[joint.Counter], parts: list[list[packing.Pixels]]) -> None:
    for k, counter in enumerate(counters):
        counter.add([part[k] for part in parts])
        if counter.failed:
            raise TooManyPairs


def settle(counters: list[joint.Counter]) -> None:
    for counter in counters:
        counter.settle()


def added(parts: list[list[joint.Counter]]) -> list[joint.Counter]:
    first, *others = parts
    for other in others:
        for mine, its in zip(first, other, strict=True):
            mine.absorb(its)
            if mine.failed:
                raise TooManyPairs
    return first


def packed_of(counter: joint.Counter) -> packing.Packed:
    packed = counter.packed()
    if packed is None:
        raise TooManyPairs
    return packed
