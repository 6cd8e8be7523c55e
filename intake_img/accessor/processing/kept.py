"""Intermediate results that are as large as the image: in memory up to a limit, beyond it in unnamed files.

dask keeps what a task returns in memory until the last task that needs it has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.model.machine import memory
from intake_img.storage.locks import SafeLock, finally_call
from intake_img.storage.spill import SpillingMemory

__all__ = ["kept"]


def kept(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return values, which the caller gives away, in another type; if there is no room, in an array in a file.

    All such arrays that this process uses take at most an eighth of the memory of the machine. Further ones are in
    dask's ``temporary-directory``, by default the folder for temporary files.
    """
    if values.dtype == dtype and values.base is None and _KEPT.takes(values):
        return values
    out = _KEPT.empty(values.shape, dtype)
    np.copyto(out, values, casting="unsafe")
    return out


class _Kept:
    """The arrays that are in use."""

    def __init__(self) -> None:
        self._lock = SafeLock()
        self._space: SpillingMemory | None = None
        self._used = 0

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        folder = _folder()
        with self._lock:
            array = self._of(folder).empty(shape, dtype)
            self._count(array)
        return array

    def takes(self, array: np.ndarray) -> bool:
        """Whether there is room for an array; then it counts like those that `empty` returns."""
        folder = _folder()
        with self._lock:
            space = self._of(folder)
            if space.held + array.nbytes > space.limit:
                return False
            space.held += array.nbytes
            self._count(array)
        return True

    def _of(self, folder: str | None) -> SpillingMemory:
        if self._space is None:
            self._space = SpillingMemory(memory() // 8, folder)
        return self._space

    def _count(self, array: np.ndarray) -> None:
        self._used += 1
        held = array.nbytes if array.base is None else 0
        finally_call(array, self._release, held)

    def _release(self, nbytes: int) -> None:
        with self._lock:
            self._used -= 1
            if self._space is not None:
                self._space.held -= nbytes
                if not self._used:
                    self._space = None  # and its last file


def _folder() -> str | None:
    import dask

    return dask.config.get("temporary-directory", None)


_KEPT = _Kept()
