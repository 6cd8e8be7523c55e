"""Forks of a process that has used dask: the child has no threads of its pool, and would wait for them for ever."""

from __future__ import annotations

import os
import sys

__all__ = ["register"]

_REGISTERED: list[bool] = []


def register() -> None:
    """Have each child that is forked from now on make a pool of its own when it first computes."""
    if hasattr(os, "register_at_fork") and not _REGISTERED:
        os.register_at_fork(after_in_child=_forget_threads)
        _REGISTERED.append(True)


def _forget_threads() -> None:
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None  # type: ignore[attr-defined]
        getattr(threaded, "pools", {}).clear()  # of other numbers of threads, by thread
