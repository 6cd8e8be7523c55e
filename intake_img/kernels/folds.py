"""Sums and extrema across blocks, which are folded one by one into one array.

Only order-independent reductions are folded: exact sums of integers, and extrema.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Fold", "fold_of"]

LEAST = 2**14
"""Pixels of the parts that are folded one by one, without a result for each block in between."""


@dataclass(frozen=True)
class Fold:
    """A reduction of blocks.

    Parameters
    ----------
    ufunc : numpy.ufunc
    dtype : numpy.dtype
        The dtype in which blocks are added or compared.
    output : numpy.dtype
        Dtype of the result.
    count : int
        Divisor of the result; 1 for no division.
    """

    ufunc: np.ufunc
    dtype: np.dtype
    output: np.dtype
    count: int = 1

    def __call__(self, axes: tuple[int, ...], blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Return the reduction of the blocks along `axes`, which are kept with length 1."""
        state: np.ndarray | None = None
        for block in blocks:
            for part in _parts(axes, block):
                if state is None:
                    state = self._first(axes, part)
                else:
                    self.ufunc(state, self._flat(axes, part), out=state)
        assert state is not None
        return state

    def fill(self, axes: tuple[int, ...], array: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, of the dtype of the result, with the reduction of an array along `axes`, of length 1 in `out`."""
        if out.dtype == self.dtype and self.count == 1:
            self.ufunc.reduce(array, axis=axes, dtype=self.dtype, keepdims=True, out=out)
        else:
            state = self.ufunc.reduce(array, axis=axes, dtype=self.dtype, keepdims=True)
            np.true_divide(state, self.count, out=out)

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


def _parts(axes: tuple[int, ...], block: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the parts of a block that become one value for each pixel; small ones together."""
    count = math.prod(block.shape[a] for a in axes)
    if count <= 1 or block.size // count < LEAST:
        yield block
        return
    for place in np.ndindex(tuple(block.shape[a] for a in axes)):
        at = dict(zip(axes, place, strict=True))
        yield block[tuple(slice(at[k], at[k] + 1) if k in at else slice(None) for k in range(block.ndim))]


def fold_of(name: str, dtype: np.dtype, count: int, skipna: bool | None) -> Fold | None:
    """Return the blockwise form of a reduction of `count` values; None if its result depends on the order.

    Parameters
    ----------
    name : {"max", "min", "mean", "sum", ...}
        Name of the method of `xarray.DataArray`.
    dtype : numpy.dtype
    count : int
        Number of reduced values.
    skipna : bool, optional
        Whether NaN is ignored; None ignores it.
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
    """Return an integer dtype that can represent any sum, if float64 can represent it as well."""
    largest = count * (1 if dtype.kind == "b" else max(np.iinfo(dtype).max, -int(np.iinfo(dtype).min)))
    if largest < 2**31:
        return np.dtype(np.uint32 if dtype.kind == "u" else np.int32)
    return np.dtype(np.int64) if largest <= 2**53 else None
