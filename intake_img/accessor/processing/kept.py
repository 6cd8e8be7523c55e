"""Intermediate results that are as large as the image: in memory up to a limit, beyond it in unnamed files.

dask keeps what a task returns in memory until the last task that needs it has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.model.machine import memory
from intake_img.storage.spill import SpillingMemory
from intake_img.storage.turns import Turn, finally_call

__all__ = ["kept"]


def kept(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return values in another type, in a new array that may be in a file.

    All such arrays that this process uses hold at most an eighth of the memory of the machine. Further ones are in
    dask's ``temporary-directory``, by default the folder for temporary files.
    """
    out = _KEPT.empty(values.shape, dtype)
    np.copyto(out, values, casting="unsafe")
    return out


class _Kept:
    """The arrays that are in use."""

    def __init__(self) -> None:
        self._lock = Turn()
        self._space: SpillingMemory | None = None
        self._used = 0

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        import dask

        with self._lock:
            if self._space is None:
                self._space = SpillingMemory(memory() // 8, dask.config.get("temporary-directory", None))
            array = self._space.empty(shape, dtype)
            self._used += 1
            held = array.nbytes if array.base is None else 0
            finally_call(array, self._release, held)
        return array

    def _release(self, nbytes: int) -> None:
        with self._lock:
            self._used -= 1
            if self._space is not None:
                self._space.held -= nbytes
                if not self._used:
                    self._space = None  # and its last file


_KEPT = _Kept()
