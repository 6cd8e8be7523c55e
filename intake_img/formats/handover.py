"""A file that was opened to choose its format, handed over to the handle that reads it, so that it is opened once.

Only within `handing_over`, so that nothing stays open that nobody reads: at its end, what nobody took is closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from intake_img.storage.files import File

__all__ = ["handing_over", "leave", "stamp_before", "taken"]


class _Opened(Protocol):
    file: File

    def close(self) -> None: ...


_LEFT: ContextVar[list[tuple[_Opened, Any]] | None] = ContextVar("the file that was left open", default=None)


@contextlib.contextmanager
def handing_over() -> Iterator[None]:
    """Keep the last file that `leave` gets, for `taken`."""
    left: list[tuple[_Opened, Any]] = []
    token = _LEFT.set(left)
    try:
        yield
    finally:
        _LEFT.reset(token)
        _close(left)


def stamp_before(file: File) -> Any:
    """Return what `leave` wants to know of a file that will be opened; None outside of `handing_over`."""
    return None if _LEFT.get() is None else file.stamp()


def leave(opened: _Opened, stamp: Any) -> None:
    """Give away an open file, which had this stamp before it was opened."""
    left = _LEFT.get()
    if left is None or stamp is None:
        opened.close()
        return
    _close(left)
    left.append((opened, stamp))


def taken(file: File) -> Any:
    """Return the open file that was left, if it is this one and has not changed since; else None."""
    left = _LEFT.get()
    if left and left[0][0].file == file and left[0][1] == file.stamp():
        return left.pop()[0]
    return None


def _close(left: list[tuple[_Opened, Any]]) -> None:
    while left:
        left.pop()[0].close()
