"""Renaming onto files that may be open: Windows refuses while any program, this one included, has the old file open."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from intake_img.storage.handles import POOL

__all__ = ["is_held", "move", "replace"]

PATIENCE = 2.0
"""Seconds for which a refused renaming is tried again: virus scanners and indexers open new files for a moment."""
_HELD = (5, 32, 33, 1224)  # Windows' codes: access denied, sharing violation, locked, mapped into memory


def is_held(exc: OSError) -> bool:
    """Return whether Windows refused because a file is open, or may not be written."""
    return getattr(exc, "winerror", None) in _HELD


def replace(source: str, target: str) -> None:
    """Rename a file, atomically, onto one that may exist.

    Raises
    ------
    PermissionError
        If the system refuses because `target` is open; both files are as they were.
    """
    _patiently(os.replace, source, target)


def move(source: str, target: str) -> None:
    """Rename a file or folder to a name that is free; errors are those of `replace`."""
    _patiently(os.rename, source, target)


def _patiently(call: Callable[[str, str], None], source: str, target: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call(source, target)
        except OSError as exc:
            if not is_held(exc):
                raise
            if time.monotonic() > end:
                raise PermissionError(exc.errno, _REFUSED, source, exc.winerror, target) from exc  # type: ignore[attr-defined]
        POOL.close_idle()  # one of them may keep the file open
        time.sleep(0.01)


_REFUSED = (
    "the system refuses to rename or replace a file that is open: close programs that have it open, and close or "
    "delete Datasets and arrays that read it (ds.close()), or save under another name; nothing was replaced"
)
