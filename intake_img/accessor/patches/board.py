"""A complete image in memory whose tiles are decoded on demand, so that reading a patch is one copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

__all__ = ["Board"]


class Board:
    """An array of which some tiles are filled.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    edges : sequence of ndarray
        The starts of tiles along each axis, and the end of the last.
    """

    def __init__(self, shape: Sequence[int], dtype: np.dtype, edges: Sequence[np.ndarray]) -> None:
        self.array = np.empty(shape, dtype)  # memory is allocated only for written pages
        self.edges = edges
        self._grid = [len(e) - 1 for e in edges]
        self._known = np.zeros(int(np.prod(self._grid)), bool)
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def fill(
        self, numbers: np.ndarray, read: Callable[[Sequence[tuple[int, int]], np.ndarray], None], workers: int
    ) -> int:
        """Read missing tiles, given by their numbers in C order; return how many were read now.

        Parameters
        ----------
        numbers : ndarray of int
        read : callable
            ``read(bounds, out)`` decodes the tile within ``bounds``, first and last pixel along each axis, into `out`.
        workers : int
            Threads that decode.
        """
        with self._lock:  # a tile is not visible until it is complete
            missing = numbers[~self._known[numbers]]
            if not len(missing):
                return 0

            def work(part: Iterable[int]) -> None:
                for number in part:
                    place = np.unravel_index(number, self._grid)
                    bounds = [(int(e[k]), int(e[k + 1])) for e, k in zip(self.edges, place, strict=True)]
                    region: Any = (*(slice(a, b) for a, b in bounds), ...)
                    read(bounds, self.array[region])
                    self._known[number] = True

            if min(workers, len(missing)) < 2:
                work(missing.tolist())
            else:
                parts = np.array_split(missing, min(len(missing), workers * 8))
                with ThreadPoolExecutor(workers, thread_name_prefix="intake_img-patches") as pool:
                    for _ in pool.map(lambda part: work(part.tolist()), parts):
                        pass
            return len(missing)
