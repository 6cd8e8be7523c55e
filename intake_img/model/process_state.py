"""State that all threads of the process share, changed for the time of a block.

A context manager such as `warnings.catch_warnings` (until Python 3.14) or `xarray.set_options` restores what it found
when it was entered. If two threads leave it in another order than they entered it, the second one restores the change
of the first, which then lasts for ever. The two here do not.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["Overlapping", "quiet"]

_QUIET: ContextVar[bool] = ContextVar("warnings are ignored", default=False)


class _InThisContext(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _QUIET.get()


class Silenced(Warning, metaclass=_InThisContext):
    """The category of the filter of `quiet`: in a context that is within it all warnings, elsewhere none."""


_FILTER = ("ignore", None, Silenced, None, 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of this thread, and of what it runs in the event loops of others, such as that of zarr.

    The filter for this stays among those of the process, because it matches nothing outside of the block.
    """
    if [*warnings.filters[:1]] != [_FILTER]:
        warnings.simplefilter("ignore", Silenced)
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


class Overlapping:
    """A context manager whose change is made when the first thread enters, and undone when the last one leaves.

    Parameters
    ----------
    make : callable
        Returns the context manager that makes the change.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._own = threading.local()
        self._inside = 0
        self._made: contextlib.AbstractContextManager[Any] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def __enter__(self) -> None:
        with self._lock:
            if self._made is None:
                made = self._make()
                made.__enter__()
                self._made = made
            self._inside += 1
        self._own.depth = getattr(self._own, "depth", 0) + 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        with self._lock:
            self._inside -= 1
            self._undo()

    def _undo(self) -> None:
        made = self._made
        if made is not None and not self._inside:
            self._made = None
            made.__exit__(None, None, None)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._inside = getattr(self._own, "depth", 0)  # the other threads do not exist in a forked child
        self._undo()
