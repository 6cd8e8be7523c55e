"""Helper threads for a short piece of work, if no other work in this process has them."""

from __future__ import annotations

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
        _share(func, iter(items), threads - 1)
    finally:
        turn.release()


def _share(func: Callable[[Any], object], left: Iterator[Any], helpers: int) -> None:
    """Let whoever is free take the next item."""
    failures: list[BaseException] = []

    def help() -> None:
        try:
            _call(func, left)
        except BaseException as exc:
            failures.append(exc)

    started = [threading.Thread(target=help, name="intake_img-helper") for _ in range(helpers)]
    for helper in started:
        helper.start()
    help()
    for helper in started:
        helper.join()
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # it leads to this frame, and so to `items`


def _call(func: Callable[[Any], object], items: Iterable[Any]) -> None:
    for item in items:
        func(item)
