"""One array that the tasks of a computation fill, so that dask need not copy their results together."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from intake_img.model.chunks import Region, regions_of
from intake_img.model.machine import empty

__all__ = ["ReadBuffer", "joined"]

_FILLED: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
"""The arrays of all buffers by the address of their first byte."""


class ReadBuffer:
    """An array whose parts are given away once; in another process, or a second time, each part is a new array.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, here: bool = True) -> None:
        self.shape, self.dtype, self.here = shape, dtype, here
        self._array: np.ndarray | None = None
        self._given: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadBuffer, (self.shape, self.dtype, False)

    def part(self, region: Region) -> np.ndarray:
        """Return the part of the array at `region`, to be filled."""
        start = tuple([s.start for s in region])
        with self._lock:
            if self.here and start not in self._given:
                self._given.add(start)
                if self._array is None:
                    self._array = empty(self.shape, self.dtype)
                    _FILLED[_address(self._array)] = self._array
                key: Any = (*region, ...)
                return self._array[key]
        return empty(tuple([s.stop - s.start for s in region]), self.dtype)


def joined(join: Callable[[Any], Any], chunks: tuple[tuple[int, ...], ...], blocks: Any) -> Any:
    """Return the array whose parts all `blocks` are, if there is one; else ``join(blocks)``.

    Parameters
    ----------
    join : callable
        Joins blocks, as `dask.array` does.
    chunks : tuple of tuple of int
        Lengths of the blocks along each axis.
    blocks : ndarray or nested list of ndarray
    """
    leaves = list(_leaves(blocks))
    first = leaves[0] if leaves else None
    if type(first) is not np.ndarray or not first.size:
        return join(blocks)
    array = _FILLED.pop(_address(first), None)
    return array if array is not None and _is_cut(array, chunks, leaves) else join(blocks)


def _leaves(blocks: Any) -> Iterator[Any]:
    if isinstance(blocks, (list, tuple)):
        for block in blocks:
            yield from _leaves(block)
    else:
        yield blocks


def _is_cut(array: np.ndarray, chunks: tuple[tuple[int, ...], ...], blocks: list[Any]) -> bool:
    """Return whether the blocks are the array, cut into chunks."""
    regions = list(regions_of(chunks))
    start = _address(array)
    return len(regions) == len(blocks) and all(
        type(block) is np.ndarray
        and block.dtype == array.dtype
        and block.strides == array.strides
        and block.shape == tuple(s.stop - s.start for s in region)
        and _address(block) == start + sum(s.start * n for s, n in zip(region, array.strides, strict=True))
        for block, region in zip(blocks, regions, strict=True)
    )


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])
