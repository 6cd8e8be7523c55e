"""Helper threads for a short piece of work, if no other work in this process has them."""

from __future__ import annotations

import _thread
import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

__all__ = ["for_all"]

_TURN = threading.Lock()


def _renew() -> None:
    global _TURN
    _TURN = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def for_all(func: Callable[[Any], object], items: Sequence[Any], threads: int) -> None:
    """Call a function for each item, in this thread and in helpers, which end with it.

    Without helpers where other work has them, as in one of several threads that all read: each would start its own.

    Parameters
    ----------
    func : callable
        May be called from several threads concurrently, in any order.
    items : sequence
    threads : int
        How many threads work, this one included.
    """
    turn = _TURN
    if threads < 2 or not turn.acquire(blocking=False):
        _call(func, items)
        return
    try:
        _share(_Work(func, iter(items)), threads - 1)
    finally:
        turn.release()


class _Work:
    """Items; a free worker takes the next one."""

    def __init__(self, func: Callable[[Any], object], left: Iterator[Any]) -> None:
        self._func, self._left = func, left
        self._lock, self._waiting = threading.Lock(), threading.Lock()
        self._busy, self._over = 0, False
        self.failures: list[BaseException] = []

    def take(self) -> None:
        try:
            _call(self._func, self._left)
        except BaseException as exc:
            self.failures.append(exc)

    def help(self) -> None:
        """Take items, in a helper, unless it comes too late."""
        with self._lock:
            if self._over:
                return
            self._busy += 1
        self.take()
        with self._lock:
            self._busy -= 1
            if self._over and not self._busy:
                self._waiting.release()

    def end(self) -> None:
        """Wait for the helpers that took an item, not for those that the system has not started yet."""
        self._waiting.acquire()
        with self._lock:
            self._over, busy = True, self._busy
        if busy:
            self._waiting.acquire()


def _share(work: _Work, helpers: int) -> None:
    # `Thread.start` waits until the thread runs: as long as half a small region takes, and far longer on a busy machine
    with contextlib.suppress(RuntimeError):  # the system has no more threads
        for _ in range(helpers):
            _thread.start_new_thread(work.help, ())
    work.take()
    work.end()
    if work.failures:
        try:
            raise work.failures[0]
        finally:
            work.failures.clear()  # it leads to this frame, and so to the items


def _call(func: Callable[[Any], object], items: Iterable[Any]) -> None:
    for item in items:
        func(item)
