"""The header of a ``.npy`` file or archive member."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.locks import ProcessLock

__all__ = ["HEADER_LIMIT", "ArrayPlace", "read_header"]

HEADER_LIMIT = 2**14
"""Bytes that are read to parse a header; numpy itself refuses headers of more than 10 000 bytes."""


@dataclass(frozen=True)
class ArrayPlace:
    """Where an array lies: offset of its first value in the file, or in the archive member that must be inflated."""

    dtype: np.dtype
    shape: tuple[int, ...]  # as stored, C order
    transposed: bool  # the file is in Fortran order: the axes are reversed
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


_PARSING = ProcessLock()
"""Until Python 3.12, `ast` fails where two threads parse (github.com/python/cpython/issues/106905)."""


def read_header(stream: Any) -> ArrayPlace:
    """Parse a header; the offset is that of the first value, from the start of the header.

    Raises
    ------
    FormatError
        If the array does not contain numbers, or the version of the format is unknown.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise FormatError(f"version {version} of the .npy format is unknown")
    with _PARSING:
        shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "biufc" or any(n < 0 for n in shape):
        raise FormatError(f"an array of dtype {dtype} and shape {shape} is not supported: expected numbers")
    return ArrayPlace(dtype, tuple(reversed(shape)) if fortran else shape, fortran, stream.tell())
