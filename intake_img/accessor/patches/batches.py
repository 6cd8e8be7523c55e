"""Batches of patches: an order for each epoch, and windows that are read ahead while one is used."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.kernels.sampling import permutation
from intake_img.storage.cache import CACHE
from intake_img.storage.locks import ProcessLock

if TYPE_CHECKING:
    from intake_img.accessor.patches.core import Patches

__all__ = ["Batches", "Buffers", "window_length"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def window_length(lookahead: int | str, batch: int, patch_bytes: int) -> int:
    """Return the number of patches in a window: complete batches, at least one."""
    if isinstance(lookahead, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", lookahead)
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError(f"lookahead={lookahead!r}: expected a number of patches, or bytes such as '64MB'")
        patches = int(float(match[1]) * _UNITS[match[2].lower()]) // max(1, patch_bytes)
    elif isinstance(lookahead, (int, np.integer)) and not isinstance(lookahead, bool):
        patches = int(lookahead)
    else:
        raise TypeError(f"lookahead={lookahead!r}: expected a number of patches, or bytes such as '64MB'")
    return max(1, patches // batch) * batch


_PLAIN_BYTES = 2**23
"""A window of what needs no decoding: nothing is gained by looking further ahead than a processor's cache."""
_KEPT_BYTES = 2**26
"""A window of tiles that all stay in the cache: nothing is gained by larger ones, and memory is lost."""


class Buffers:
    """Memory of windows, used again when no view of it is left: allocating memory costs more than filling it.

    Parameters
    ----------
    most : int
        The largest number of buffers.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: list[np.ndarray] = []

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.most,)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an uninitialised array."""
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        with _LOCK:
            found = next((b for b in self._kept if b.nbytes >= nbytes and sys.getrefcount(b) <= _FREE), None)
            if found is None:
                found = np.empty(nbytes, np.uint8)
                self._kept = [*[b for b in self._kept if sys.getrefcount(b) > _FREE][1 - self.most :], found]
            return found[:nbytes].view(dtype).reshape(shape)


def _free_count() -> int:
    """The reference count of an unused array in a list, as seen by a generator over the list."""
    kept = [np.empty(1, np.uint8)]
    return next(sys.getrefcount(b) for b in kept)


_FREE = _free_count()
_LOCK = ProcessLock()


class Batches:
    """The batches of an epoch; can be iterated over again, and has a length.

    Parameters
    ----------
    patches : Patches
    size : int
    shuffle : bool
    lookahead : int or str
    drop_last : bool
    prefetch : int
    seed : int
    epoch : int
    labelled : bool
    """

    def __init__(
        self,
        patches: Patches,
        size: int,
        shuffle: bool,
        lookahead: int | str,
        drop_last: bool,
        prefetch: int,
        seed: int,
        epoch: int,
        labelled: bool,
    ) -> None:
        self.patches, self.size, self.shuffle, self.drop_last = patches, size, shuffle, drop_last
        self.prefetch, self.seed, self.epoch, self.labelled = prefetch, seed, epoch, labelled
        self.buffers = patches._buffers  # for all epochs
        self.buffers.most = max(self.buffers.most, (prefetch + 2) * len(patches.variables))
        self.window = window_length(lookahead, size, patches.patch_nbytes)

    def order(self) -> np.ndarray:
        """Return the numbers of the patches, in the order of the epoch."""
        n = len(self.patches)
        return permutation(self.seed, self.epoch, n) if self.shuffle else np.arange(n)

    def groups(self) -> list[np.ndarray]:
        """Return the numbers of the patches of each batch; all patches of a batch have the same shape."""
        order = self.order()
        shape = self.patches.plan.shape[order]
        if len(order) and (shape != shape[0]).any():
            kinds = np.unique(shape, axis=0, return_inverse=True)[1].ravel()
            lots = [order[kinds == k] for k in range(kinds.max() + 1)]
        else:
            lots = [order]
        found = [lot[k : k + self.size] for lot in lots for k in range(0, len(lot), self.size)]
        return [g for g in found if len(g) and (len(g) == self.size or not self.drop_last)]

    def __len__(self) -> int:
        return len(self.groups())

    def __iter__(self) -> Iterator[Any]:
        groups = self.groups()
        many = self.window // self.size
        tiles = sum(self.patches._reading(v).decoded_nbytes for v in self.patches.variables)
        if tiles <= CACHE.limit * 3 // 4:
            most = _KEPT_BYTES if tiles else _PLAIN_BYTES
            many = min(many, max(1, most // max(1, self.size * self.patches.patch_nbytes)))
        windows = [groups[k : k + many] for k in range(0, len(groups), many)]
        if not self.prefetch:
            for w in windows:
                yield from self._window(w)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="intake_img-window") as pool:
            waiting = [pool.submit(self._read, w) for w in windows[: self.prefetch]]
            for k, w in enumerate(windows):
                held = waiting.pop(0).result()
                if k + self.prefetch < len(windows):
                    waiting.append(pool.submit(self._read, windows[k + self.prefetch]))
                yield from self._cut(w, held)

    def _window(self, groups: list[np.ndarray]) -> Iterator[Any]:
        yield from self._cut(groups, self._read(groups))

    def _read(self, groups: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Read all patches of a window; return one dictionary of arrays for each run of equal shapes."""
        p = self.patches
        found = []
        for run in self._runs(groups):
            plan = p.plan.take(np.concatenate(run))
            found.append({v: p._reading(v).read(plan, self.buffers.empty) for v in p.variables})
        return found

    def _runs(self, groups: list[np.ndarray]) -> list[list[np.ndarray]]:
        shape = self.patches.plan.shape
        runs: list[list[np.ndarray]] = []
        for g in groups:
            if runs and (shape[runs[-1][0][0]] == shape[g[0]]).all():
                runs[-1].append(g)
            else:
                runs.append([g])
        return runs

    def _cut(self, groups: list[np.ndarray], held: list[dict[str, np.ndarray]]) -> Iterator[Any]:
        for run, arrays in zip(self._runs(groups), held, strict=True):
            start = 0
            for numbers in run:
                part = {v: a[start : start + len(numbers)] for v, a in arrays.items()}
                start += len(numbers)
                yield self.patches.labelled(part, numbers) if self.labelled else (numbers, part)
