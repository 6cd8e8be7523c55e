"""Differences and sums of 64-bit integers, exact or an error: numpy has no wider integer type."""

from __future__ import annotations

import numpy as np

__all__ = ["checked_difference", "checked_sum"]

_LOW = 0xFFFFFFFF


def checked_difference(a: np.ndarray, b: np.ndarray | np.integer) -> np.ndarray:
    """Return ``a - b`` as int64.

    Parameters
    ----------
    a, b : ndarray of integers or bool, of any width
        They are broadcast against each other.

    Raises
    ------
    OverflowError
        If int64 cannot represent a difference.

    Examples
    --------
    >>> checked_difference(np.array([2**64 - 1], "u8"), np.uint64(2**64 - 3))
    array([2])
    """
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    low = a_low - b_low
    high = a_high - b_high + (low >> 32)
    wrong = (high < -(2**31)) | (high >= 2**31)
    if wrong.any():
        place = tuple(int(k) for k in np.argwhere(wrong)[0])
        pair = [int(np.broadcast_to(x, wrong.shape)[place]) for x in (a, b)]
        raise OverflowError(
            f"subtract: {pair[0]} - {pair[1]} is beyond int64, the widest integer type; "
            "subtract from floats, image.astype(float), if rounding does not matter"
        )
    return (high << 32) | (low & _LOW)


def checked_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a + b``, two arrays of one dtype.

    Raises
    ------
    OverflowError
        If an integer of this dtype cannot represent a sum.
    """
    total = a + b
    if total.dtype.kind in "iu":
        wrong = (b >= 0) != (total >= a)
        if wrong.any():
            raise OverflowError(
                f"a sum of two integers is beyond {total.dtype}, the widest integer type; convert the image "
                "first, image.astype(float), if rounding does not matter"
            )
    return total


def _halves(x: np.ndarray | np.integer) -> tuple[np.ndarray, np.ndarray]:
    wide = np.asarray(x)
    wide = wide.astype(np.uint64 if wide.dtype.kind == "u" else np.int64, copy=False)
    return (wide >> wide.dtype.type(32)).astype(np.int64), (wide & wide.dtype.type(_LOW)).astype(np.int64)
