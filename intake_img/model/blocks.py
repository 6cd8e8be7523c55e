"""Pixels as dask arrays of given blocks, for a write in dask tasks; each chunk of a source is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np

from intake_img.model.chunks import cut
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Cast, Dask, Reader, Reshaped, Selected, Transposed

__all__ = ["blocks_of", "is_computed"]


def is_computed(pixels: Pixels) -> bool:
    """Return whether dask computes the pixels; otherwise they are read from a file, or are in memory."""
    return _computed(pixels.reader) is not None


def blocks_of(parts: Sequence[tuple[Pixels, Sequence[int | tuple[int, ...]]]]) -> list[Any]:
    """Return dask arrays of pixels whose chunks have the shape of a block, or the listed lengths along an axis.

    Arrays that dask computes stay dask arrays; only chunks that other workers need are transferred. A chunk of a file
    is read by its own task if it consists of complete tiles; tiles that blocks cut are read once and shared. Common
    inputs of several arrays are computed once, if the arrays are computed together.

    Parameters
    ----------
    parts : sequence of (Pixels, block)
    """
    import dask

    shared = any(is_computed(pixels) for pixels, _ in parts[1:])
    arrays = [_blocks(pixels, block, shared) for pixels, block in parts]
    return arrays if shared else list(dask.optimize(*arrays))  # fusing would copy shared reads into several tasks


def _blocks(pixels: Pixels, block: Sequence[int | tuple[int, ...]], shared: bool) -> Any:
    chunks = cut(pixels.shape, block)
    array = _computed(pixels.reader)
    if array is None:
        whole = all(k % t == 0 for c, t in zip(chunks, pixels.tiles, strict=True) for k in accumulate(c[:-1]))
        # with its usual chunks it has the name of the array from which other arrays are most likely computed
        array = pixels.dask(chunks if whole and not shared and not any(c is not None for c in pixels.cuts) else None)
    array = array.astype(pixels.dtype) if array.dtype != pixels.dtype else array
    return array.rechunk(chunks)


def _computed(reader: Reader) -> Any:
    """Return the underlying dask array, with later operations applied but for a last cast; None if there is none."""
    if isinstance(reader, Dask):
        return reader.array
    if not isinstance(reader, (Cast, Transposed, Reshaped, Selected)):
        return None
    inner = _computed(reader.reader)
    if inner is None:
        return None
    if isinstance(reader, Cast):
        return inner if inner.dtype == reader.source else inner.astype(reader.source)  # of a cast before this one
    if isinstance(reader, Transposed):
        return inner.transpose(reader.order)
    if isinstance(reader, Selected):
        return reduce(_taken, enumerate(reader.indices), inner)
    kept = [k for k in reader.axes if k is not None]
    inner = inner[tuple(slice(None) if k in kept else 0 for k in range(reader.ndim))]
    inner = inner.transpose(np.argsort(np.argsort(kept)).tolist()) if kept else inner
    return inner[tuple(None if k is None else slice(None) for k in reader.axes)]


def _taken(array: Any, selection: tuple[int, range | tuple[int, ...]]) -> Any:
    axis, index = selection
    if isinstance(index, tuple):
        key: Any = list(index)
    else:
        stop = index.start + len(index) * index.step
        key = slice(index.start, None if stop < 0 else stop, index.step)
    return array[(slice(None),) * axis + (key,)]
