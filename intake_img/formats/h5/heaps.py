"""Global heaps of HDF5, which contain text of variable length: checked before HDF5 walks them.

In a damaged heap, HDF5 runs in circles without end, or beyond its memory: neither can be caught. Format: HDF5 File
Format Specification, III.E, https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["HEAP", "check_heap"]

HEAP = b"GCOL"
_HEAD = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
_LARGEST = 2**28  # bytes of a heap: an attribute has at most 64 KiB, and few share one


def check_heap(at: int, head: bytes, size: int, read: Callable[[int, int], bytes]) -> None:
    """Raise an error for a heap whose objects do not fill it one after the other.

    Parameters
    ----------
    at : int
        Where it begins in the file.
    head : bytes
        What HDF5 reads of it first: all of it, or its beginning.
    size : int
        Of the file.
    read : callable
        ``read(at, count)`` returns bytes of the file.

    Raises
    ------
    OSError
        As h5py raises for other damage.
    """
    if len(head) < _HEAD.size or head[4] != 1 or any(head[5:8]):  # pixels that happen to begin so
        return
    length = _HEAD.unpack_from(head)[2]
    if not _HEAD.size <= length <= min(size - at, _LARGEST):
        raise OSError(f"the heap at byte {at} has {length} bytes: it is damaged")
    heap = head if length <= len(head) else read(at, length)
    place = _HEAD.size
    while place + _OBJECT.size <= length:
        index, _, _, count = _OBJECT.unpack_from(heap, place)
        step = _OBJECT.size + -(-count // 8) * 8 if index else count  # number 0 is the free space, with its header
        if not _OBJECT.size <= step <= length - place:
            raise OSError(f"the heap at byte {at} contains an object of {count} bytes: it is damaged")
        place += step
