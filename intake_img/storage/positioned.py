"""Positional reads of an open file, from several threads concurrently, on every platform.

On systems without ``pread`` (Windows), threads take turns to seek and read.
"""

from __future__ import annotations

import os
import threading

__all__ = ["read_at", "read_into_at"]

_TURN = threading.Lock()  # duplicated descriptors share their position: one lock for all


def _renew() -> None:
    global _TURN
    _TURN = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def read_at(fd: int, count: int, offset: int) -> bytes:
    """Return up to `count` bytes of a file from `offset` on, as ``os.pread`` does."""
    if hasattr(os, "pread"):
        return os.pread(fd, count, offset)
    with _TURN:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)


def read_into_at(fd: int, out: memoryview, offset: int) -> int:
    """Fill a buffer with bytes of a file from `offset` on, and return how many were read, as ``os.preadv`` does."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [out], offset)
    data = read_at(fd, min(out.nbytes, 2**24), offset)  # this copies, so some MiB at a time
    out[: len(data)] = data
    return len(data)
