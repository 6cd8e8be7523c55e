"""The memory and processors of this machine, and the threads in which dask computes."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
from typing import Any

import numpy as np

from intake_img.errors import TooLargeError

_PAGE = 4096  # bytes
_LARGE = 2**20

__all__ = [
    "cpus",
    "empty",
    "give_back",
    "mapped_memory",
    "memory",
    "on_this_machine",
    "overlapping",
    "threads",
    "unguided",
]


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return a new uninitialised array, or raise `TooLargeError` if this machine has too little memory.

    A large one begins at a page of memory. numpy's begin 16 bytes behind one: to copy the pages of a file there takes
    processors with fast ``rep movsb`` three times as long, as each store is followed by a load from the same place in
    another page (Intel, "64 and IA-32 Architectures Optimization Reference Manual", "4K aliasing").
    """
    nbytes = math.prod(shape) * dtype.itemsize
    try:
        if nbytes < _LARGE:
            return np.empty(shape, dtype)
        if nbytes > memory():
            raise _too_large(shape, dtype)
        block = np.empty(nbytes + _PAGE, np.uint8)
        return np.ndarray(shape, dtype, block, -block.ctypes.data % _PAGE)
    except MemoryError as exc:  # a memory limit of the process, or a full address space
        raise _too_large(shape, dtype) from exc


def _too_large(shape: tuple[int, ...], dtype: np.dtype) -> TooLargeError:
    nbytes = math.prod(shape) * dtype.itemsize
    return TooLargeError(
        f"an array of shape {shape} and dtype {dtype} needs {nbytes / 2**30:.1f} GiB, this machine has "
        f"{memory() / 2**30:.1f} GiB: work on it lazily, or load a part (partition=, .isel)"
    )


def memory() -> int:
    """Return the bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this platform
        return 2**40


def mapped_memory() -> int:
    """Return the bytes of mapped files that are in the memory of this process; 0 where this is unknown."""
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library (glibc) keeps it for each thread."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: not on Windows
        ctypes.CDLL(None).malloc_trim(0)


def cpus() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def threads() -> int:
    """Return the number of threads in which dask computes with the options of `overlapping`."""
    import dask

    if not on_this_machine():
        client: Any = getattr(dask.base.get_scheduler(), "__self__", None)
        return max(1, sum(client.nthreads().values())) if hasattr(client, "nthreads") else cpus()
    if (pool := dask.config.get("pool", None)) is not None:
        return getattr(pool, "_max_workers", None) or cpus()
    return int(overlapping().get("num_workers") or dask.config.get("num_workers", None) or cpus())


def on_this_machine() -> bool:
    """True if dask computes in threads of this process, or synchronously."""
    import dask
    from dask import threaded

    return _scheduler() in (None, threaded.get, dask.get)


def _scheduler() -> Any:
    """Return dask's scheduler, None for that of the arrays; without importing `distributed` to look for a client."""
    import dask

    if "distributed" not in sys.modules and dask.config.get("scheduler", None) is None:
        return None
    return dask.base.get_scheduler()


def unguided() -> bool:
    """True if dask would compute in its default threads, and the user set no number of threads and no callbacks."""
    import dask
    from dask import callbacks, threaded

    chosen = dask.config.get("num_workers", None), dask.config.get("pool", None)
    return chosen == (None, None) and not callbacks.Callback.active and _scheduler() in (None, threaded.get)


def overlapping() -> dict[str, int]:
    """Return options of `dask.compute` for tasks that both read and compute: half as many threads again as processors,
    if these are few, so that some wait for the disk while others compute. None if the user chose.
    """
    import dask
    from dask import threaded

    chosen = dask.config.get("num_workers", None), dask.config.get("pool", None)
    if chosen != (None, None) or _scheduler() not in (None, threaded.get):
        return {}
    return {"num_workers": max(cpus(), min(cpus() + (cpus() + 1) // 2, 8))}
