"""Fetching the subblocks of a remote file before they are drawn, for many planes together.

Where a subblock lies is known from the directory; where its pixels begin in it, its own head tells. Both are fetched as
one range from its beginning to that of the next subblock, so that neighbours merge into one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from intake_img.formats.czi.handle import CziHandle
from intake_img.model.chunks import Region
from intake_img.storage.byte_readers import ByteReader

__all__ = ["Fetched", "Span", "batches", "span_of"]

_BATCH_BYTES = 2**25  # are fetched together, so that memory stays bounded
_HEAD = 2**14  # of head and metadata, which come before the pixels
_SLACK = 2**16  # how much larger than its pixels a compressed tile may be

Span = tuple[int, int]
"""Where bytes begin and end in the file."""


class Fetched:
    """Bytes of a file, some of which were fetched before.

    Parameters
    ----------
    source : ByteReader
    spans : sequence of tuple of int
        What is fetched, now.
    """

    def __init__(self, source: ByteReader, spans: Sequence[Span]) -> None:
        self.source = source
        self.starts = sorted(a for a, _ in spans)
        stops = dict(spans)
        counts = [stops[a] - a for a in self.starts]
        self.blocks = source.ranges(self.starts, counts) if spans else []

    def ranges(self, offsets: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        """Return bytes as `ByteReader.ranges` does."""
        found = [self._known(offset, count) for offset, count in zip(offsets, counts, strict=True)]
        missing = [k for k, data in enumerate(found) if data is None]
        rest = self.source.ranges([offsets[k] for k in missing], [counts[k] for k in missing]) if missing else []
        others = iter(rest)
        return [next(others) if data is None else data for data in found]

    def _known(self, offset: int, count: int) -> bytes | None:
        k = int(np.searchsorted(self.starts, offset, "right")) - 1
        if k < 0 or count < 0:
            return None
        begin = offset - self.starts[k]
        return self.blocks[k][begin : begin + count] if begin + count <= len(self.blocks[k]) else None


def span_of(handle: CziHandle, k: int, window: Region) -> Span | None:
    """Return the range that contains a subblock; None if it is in the cache, or little of it is wanted."""
    dtype, shape = handle.stored(k)
    compressed = bool(handle.index.compression[k])
    rows = window[0].stop - window[0].start
    if k in handle.shelf if compressed else 2 * rows < shape[0]:
        return None
    start = int(handle.index.position[k])
    most = start + _HEAD + math.prod(shape) * dtype.itemsize + (_SLACK if compressed else 0)
    later = handle.positions.searchsorted(start, "right")
    following = int(handle.positions[later]) if later < len(handle.positions) else handle.source.size
    return start, max(start, min(most, following, handle.source.size))


def batches(spans: Sequence[Sequence[Span]]) -> Iterator[slice]:
    """Yield which planes are fetched together: as many as fit, but at least one.

    Parameters
    ----------
    spans : sequence of sequence of tuple of int
        What each plane needs.

    Examples
    --------
    >>> list(batches([[(0, 2**24)], [(2**24, 2**25)], [(2**25, 2**26)]]))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    first, total = 0, 0
    for k, needed in enumerate(spans):
        size = sum(b - a for a, b in needed)
        if total + size > _BATCH_BYTES and k > first:
            yield slice(first, k)
            first, total = k, 0
        total += size
    yield slice(first, len(spans))
