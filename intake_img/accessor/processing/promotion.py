"""Dtypes in which reductions and differences are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass

__all__ = ["promoted", "wider"]


def promoted(dtype: np.dtype, val: Any) -> np.dtype:
    """Return a dtype in which the difference of an array of this dtype and `val` does not wrap around.

    Examples
    --------
    >>> promoted(np.dtype("u1"), 300), promoted(np.dtype("u1"), 1e5), promoted(np.dtype("f4"), 1.5)
    (dtype('int16'), dtype('float64'), dtype('float32'))
    """
    if dtype.kind == "b":
        dtype = np.dtype("i1")
    if isinstance(val, (int, np.integer)) and not isinstance(val, (bool, np.bool_)):
        if dtype.kind not in "iu":
            return dtype
        least = np.min_scalar_type(-abs(int(val)) if val else 0)
        other = np.result_type(least, np.int8)
    elif isinstance(val, float) and not isinstance(val, np.floating):
        return dtype if dtype.kind in "fc" else np.dtype("f8")
    else:
        other = np.asarray(val).dtype if not hasattr(val, "dtype") else val.dtype
        if other.kind == "u" and dtype.kind in "iu":
            other = _signed(other)
    return np.result_type(wider(dtype) if dtype.kind == "i" else _signed(dtype), other)


def _signed(dtype: np.dtype) -> np.dtype:
    return np.result_type(dtype, np.int8) if dtype.kind == "u" else dtype


def wider(dtype: np.dtype) -> np.dtype:
    """The next wider integer of the same kind; floats and 64-bit integers are returned unchanged."""
    if dtype.kind == "b":
        return np.dtype("u1")
    return np.dtype(f"{dtype.kind}{min(8, 2 * dtype.itemsize)}") if dtype.kind in "iu" else dtype
