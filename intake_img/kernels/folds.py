"""Sums and extrema across blocks, folded one block after the other into one array.

Only what does not depend on the order is folded: sums of integers that do not round, and extrema.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Fold", "fold_of"]


@dataclass(frozen=True)
class Fold:
    """How blocks become one.

    Parameters
    ----------
    ufunc : numpy.ufunc
    dtype : numpy.dtype
        In which the blocks are added up or compared.
    output : numpy.dtype
        Of the result.
    count : int
        What the result is divided by; 1 leaves it alone.
    """

    ufunc: np.ufunc
    dtype: np.dtype
    output: np.dtype
    count: int = 1

    def __call__(self, axes: tuple[int, ...], blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Return what the blocks come to along `axes`, which keep the length 1."""
        state: np.ndarray | None = None
        for block in blocks:
            if state is None:
                state = self._first(axes, block)
            else:
                self.ufunc(state, self._flat(axes, block), out=state)
        assert state is not None
        return state

    def _flat(self, axes: tuple[int, ...], block: np.ndarray) -> np.ndarray:
        if math.prod(block.shape[a] for a in axes) == 1:
            return block
        return self.ufunc.reduce(block, axis=axes, dtype=self.dtype, keepdims=True)

    def _first(self, axes: tuple[int, ...], block: np.ndarray) -> np.ndarray:
        flat = self._flat(axes, block)
        return flat.astype(self.dtype, copy=flat is block)

    def finished(self, state: np.ndarray) -> np.ndarray:
        """Return the result."""
        if self.count != 1:
            return np.true_divide(state, self.count, dtype=self.output)
        return state.astype(self.output, copy=False)


def fold_of(name: str, dtype: np.dtype, count: int, skipna: bool | None) -> Fold | None:
    """Return how a reduction of `count` values goes block by block; None if its result depends on the order.

    Parameters
    ----------
    name : {"max", "min", "mean", "sum", ...}
        Of the method of `xarray.DataArray`.
    dtype : numpy.dtype
    count : int
        Values that become one.
    skipna : bool, optional
        Whether NaN is left out; None does so.
    """
    if dtype.kind not in "biuf" or dtype == np.float16 or not count:
        return None
    if name in ("max", "min"):
        plain, skipping = (np.maximum, np.fmax) if name == "max" else (np.minimum, np.fmin)
        return Fold(plain if dtype.kind != "f" or skipna is False else skipping, dtype, dtype)
    if dtype.kind == "f" or name not in ("mean", "sum"):
        return None
    if name == "sum":
        wide = np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
        return Fold(np.add, wide, wide)
    held = _held(dtype, count)
    return None if held is None else Fold(np.add, held, np.dtype(np.float64), count)


def _held(dtype: np.dtype, count: int) -> np.dtype | None:
    """Return the integers that hold any sum, if float64 holds it as well."""
    largest = count * (1 if dtype.kind == "b" else max(np.iinfo(dtype).max, -int(np.iinfo(dtype).min)))
    if largest < 2**31:
        return np.dtype(np.uint32 if dtype.kind == "u" else np.int32)
    return np.dtype(np.int64) if largest <= 2**53 else None
