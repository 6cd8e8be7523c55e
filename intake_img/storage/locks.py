"""Locks that neither a finalizer nor a forked child can deadlock on.

The garbage collector may call a finalizer in any thread at any line, also while this thread holds a lock. A finalizer
that then waits for another lock can close a circle of waiting threads, and one that gets the same lock changes data in
the middle of another change. So what finalizers do waits until their thread holds no `SafeLock`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["ProcessLock", "SafeLock", "finally_call"]


class _Own(threading.local):
    """What a thread has: the number of locks that it holds, and the work of finalizers that waits for their end."""

    def __init__(self) -> None:
        self.inside = 0
        self.waiting: deque[Callable[[], None]] = deque()


_OWN = _Own()


class SafeLock:
    """A lock for short changes of shared data; a thread may enter it again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        _OWN.inside += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        _OWN.inside -= 1
        while _OWN.waiting and not _OWN.inside:
            _call(_OWN.waiting.popleft())


def finally_call(owner: object, work: Callable[..., None], *arguments: Any) -> None:
    """Call a function when an object is gone, but not at the exit of the process, nor while a `SafeLock` is held."""
    weakref.finalize(owner, _when_free, work, arguments).atexit = False


def _when_free(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    if _OWN.inside:
        _OWN.waiting.append(lambda: work(*arguments))
    else:
        work(*arguments)


class _Owner:
    pass


def _call(work: Callable[[], None]) -> None:
    """Call a function as a finalizer: an error of it is reported, but not raised in the middle of something else."""
    owner = _Owner()
    weakref.finalize(owner, work).atexit = False
    del owner


class ProcessLock:
    """A lock of all threads of the process; a forked child gets it unlocked, also if another thread held it."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # in a child that was forked by the thread that held it
            self._lock.release()
