"""Chunks and regions: block boundaries along an axis, and the regions of an array that are read together.

Chunks are lengths along each axis, as dask writes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from intake_img.errors import TooLargeError

__all__ = [
    "CHUNK_BYTES",
    "MOST_CHUNKS",
    "Region",
    "axis_chunks",
    "cut",
    "equal_lengths",
    "inner_ends",
    "regions_of",
    "split",
]


Region = tuple[slice, ...]
"""One slice per axis, with ``0 <= start <= stop <= length`` and no step."""
MOST_CHUNKS = 10**7
"""The largest number of chunks of a dask array: its graph takes about a kilobyte for each when it is computed."""
CHUNK_BYTES = 4 * 2**20
"""Size of an automatic chunk: native tiles are grouped up to about this many bytes."""


def regions_of(chunks: tuple[tuple[int, ...], ...]) -> Iterator[Region]:
    """Iterate over the blocks of `chunks` (as dask writes them), in C order."""
    edges = []
    for lengths in chunks:
        stops = np.cumsum(lengths).tolist()
        edges.append([slice(stop - n, stop) for stop, n in zip(stops, lengths, strict=True)])
    return product(*edges)


def split(edges: np.ndarray, most: int) -> tuple[int, ...]:
    """Return lengths of at most `most` pixels that divide an axis and cut as few chunks as possible.

    Examples
    --------
    >>> split(np.array([0, 3, 7, 11, 12]), 8)
    (7, 5)
    >>> split(np.array([0, 3, 7, 11, 12]), 2)
    (2, 1, 2, 2, 2, 2, 1)
    """
    lengths: list[int] = []
    start = 0
    ends = edges.tolist()[1:]
    for k, end in enumerate(ends):
        if k + 1 < len(ends) and ends[k + 1] - start <= most:
            continue
        lengths += [min(most, end - at) for at in range(start, end, most)]
        start = end
    return tuple(lengths)


def inner_ends(ends: np.ndarray, tile: int) -> np.ndarray | None:
    """Ends of blocks within an axis, None if all are multiples of a length."""
    inner = ends[:-1]
    return None if not (inner % tile).any() and (np.diff(inner, prepend=0) == tile).all() else inner


def axis_chunks(wanted: Any, n: int, automatic: int) -> int | tuple[int, ...]:
    """Return the length of the chunks of an axis, or all lengths if they are listed."""
    if wanted == "auto" or wanted is None:
        return automatic
    if isinstance(wanted, (tuple, list)):
        if sum(wanted) != n:
            raise ValueError(f"chunks {tuple(wanted)} add up to {sum(wanted)}, but the axis has {n}")
        return tuple(int(w) for w in wanted)
    if not isinstance(wanted, (int, np.integer)) or (wanted < 1 and wanted != -1):
        raise ValueError(f"chunk length {wanted!r}: expected a positive number, -1 or 'auto'")
    return max(n, 1) if wanted == -1 else int(wanted)


def cut(shape: Sequence[int], lengths: Sequence[int | tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Return chunks as dask writes them, or raise `TooLargeError` if they are too many for a graph."""
    counts = [-(-n // max(1, b)) if isinstance(b, int) else len(b) for n, b in zip(shape, lengths, strict=True)]
    if (count := math.prod(counts)) > MOST_CHUNKS:
        raise TooLargeError(
            f"an array of shape {tuple(shape)} would have {count:.3g} chunks, more than the {MOST_CHUNKS:.0e} that a "
            "dask graph can have: pass larger chunks=, or chunks=None and select a part"
        )
    return tuple(equal_lengths(n, b) if isinstance(b, int) else b for n, b in zip(shape, lengths, strict=True))


def equal_lengths(n: int, block: int) -> tuple[int, ...]:
    """Return the lengths of the chunks of an axis: `block`, but for a shorter last one."""
    if n == 0:
        return (0,)
    block = max(1, block)
    return (block,) * (n // block) + ((n % block,) if n % block else ())
