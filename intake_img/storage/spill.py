"""Temporary arrays in memory or, beyond a limit, in files."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

__all__ = ["SpillingMemory"]

_ARENA = 2**26


class SpillingMemory:
    """Temporary arrays: in memory up to a limit, beyond it in unnamed files.

    Parameters
    ----------
    limit : int
        Bytes to keep in memory.
    folder : str, optional
        Folder of the files; by default the folder for temporary files.
    """

    def __init__(self, limit: int, folder: str | None = None) -> None:
        self.limit, self.folder, self.held, self.spilled = limit, folder, 0, 0
        self._arena: mmap.mmap | None = None
        self._used = 0

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Return a new array."""
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if self.held + nbytes <= self.limit or nbytes == 0:
            self.held += nbytes
            return np.empty(shape, dtype)
        if self._arena is None or self._used + nbytes > len(self._arena):
            if self._arena is not None and hasattr(mmap, "MADV_DONTNEED"):
                self._arena.madvise(mmap.MADV_DONTNEED)  # its pages are in the file, and need not be in memory
            self._arena, self._used = self._file(max(nbytes, _ARENA)), 0
        at, self._used = self._used, -(-(self._used + nbytes) // 64) * 64
        self.spilled += nbytes
        return np.frombuffer(self._arena, dtype, math.prod(shape), at).reshape(shape)

    def _file(self, nbytes: int) -> mmap.mmap:
        with tempfile.TemporaryFile(dir=self.folder) as stream:  # the memory map keeps it alive
            _allocate(stream, nbytes)
            return mmap.mmap(stream.fileno(), nbytes)

    def release(self, array: np.ndarray) -> None:
        """Release the bytes of an array that is no longer needed."""
        if array.base is None:  # not a view of a file, or of predictions that were never copied
            self.held -= array.nbytes


def _allocate(file: IO[bytes], nbytes: int) -> None:
    """Allocate the bytes of a file: on a full disk, writing to a memory map of a hole would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, nbytes)
        return
    zeros = bytes(2**20)
    for at in range(0, nbytes, len(zeros)):
        file.write(zeros[: nbytes - at])
    file.flush()
