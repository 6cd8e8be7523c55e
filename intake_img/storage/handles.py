"""A small pool of open files per process, so that chunk tasks contain names and not descriptors.

A handle is the object that a driver's ``open`` returns. Tasks lease it by key. The pool opens it on first use, shares
it between threads, closes the least recently used handles, and is empty in a forked child. It drops a handle when the
last image of this process that uses it is gone, or immediately on `close`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from intake_img.storage.locks import SafeLock, finally_call

__all__ = ["POOL", "HandlePool"]


class _Entry:
    def __init__(self) -> None:
        self.lock = threading.Lock()  # held while the file is being opened
        self.handle: Any = None
        self.leases = 0
        self.doomed = False  # to be closed when the last lease ends


class _Lease:
    """A lease of a pool; a class, since a generator takes twice as long as the rest of a small read."""

    __slots__ = ("_entry", "_key", "_opener", "_pool")

    def __init__(self, pool: HandlePool, key: Hashable, opener: Callable[[], Any]) -> None:
        self._pool, self._key, self._opener = pool, key, opener

    def __enter__(self) -> Any:
        entry = self._entry = self._pool.begin(self._key)
        handle = entry.handle
        if handle is not None:
            return handle
        try:
            with entry.lock:
                if entry.handle is None:
                    entry.handle = self._opener()
                return entry.handle
        except BaseException:
            self._pool.end(self._key, entry)
            raise

    def __exit__(self, *_: object) -> None:
        self._pool.end(self._key, self._entry)


class HandlePool:
    """Open handles by key.

    Parameters
    ----------
    limit : int
        Number of idle handles that stay open.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _forget(self) -> None:
        self._lock = SafeLock()  # never held while a handle is opened or closed, which may wait for other locks
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._users: dict[Hashable, int] = {}  # images of this process that use the key
        self._closed: set[Hashable] = set()  # keys whose handles are closed after each lease

    def _after_fork(self) -> None:
        # The parent's handles are kept alive but never touched: their destructors might wait for the parent's threads.
        self._inherited = [*getattr(self, "_inherited", []), self._entries]
        self._forget()

    def lease(self, key: Hashable, opener: Callable[[], Any]) -> contextlib.AbstractContextManager[Any]:
        """Lease the handle of `key`; open it with `opener` if it is not open yet."""
        return _Lease(self, key, opener)

    def begin(self, key: Hashable) -> _Entry:
        """Return the entry of `key`, with one lease more."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.doomed:
                entry = self._entries[key] = _Entry()
                entry.doomed = key in self._closed
            entry.leases += 1
            self._entries.move_to_end(key)
            return entry

    def end(self, key: Hashable, entry: _Entry) -> None:
        """End a lease of `begin`."""
        with self._lock:
            if not entry.doomed and entry.handle is not None and len(self._entries) <= self.limit:
                entry.leases -= 1
                return
        with self._dropping() as dropped:
            entry.leases -= 1
            if entry.leases == 0 and (entry.doomed or entry.handle is None):
                dropped.append(self._drop(key, entry))
            while len(self._entries) > self.limit:
                idle = next((k for k, e in self._entries.items() if e.leases == 0), None)
                if idle is None:
                    break
                dropped.append(self._drop(idle, self._entries[idle]))

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[list[Any]]:
        """Hold the lock; thereafter close the handles that were put into the list."""
        dropped: list[Any] = []
        with self._lock:
            yield dropped
        with contextlib.ExitStack() as closing:
            for handle in dropped:
                if hasattr(handle, "close"):
                    closing.callback(handle.close)

    def _drop(self, key: Hashable, entry: _Entry) -> Any:
        if self._entries.get(key) is entry:
            del self._entries[key]
        handle, entry.handle = entry.handle, None
        return handle

    def use(self, key: Hashable, user: object) -> None:
        """Keep the handle of `key` open between leases for as long as `user` lives in this process."""
        with self._lock:
            self._closed.discard(key)
            self._users[key] = self._users.get(key, 0) + 1
        finally_call(user, self._release, key, os.getpid())

    def _release(self, key: Hashable, pid: int) -> None:
        if pid != os.getpid():
            return
        with self._dropping() as dropped:
            self._users[key] = self._users.get(key, 1) - 1
            if self._users[key] <= 0:
                del self._users[key]
                dropped += self._shut(key)
                self._closed.discard(key)

    def close(self, key: Hashable) -> None:
        """Close the handle of `key` now, or when its running leases end; each later lease opens and closes its own."""
        with self._dropping() as dropped:
            self._closed.add(key)
            dropped += self._shut(key)

    def shut(self, key: Hashable) -> None:
        """Close the handle of `key` now, or when its running leases end; the next lease opens it again."""
        with self._dropping() as dropped:
            dropped += self._shut(key)

    def close_idle(self) -> None:
        """Close all handles that no lease uses; the next lease opens them again."""
        with self._dropping() as dropped:
            for key, entry in [(k, e) for k, e in self._entries.items() if e.leases == 0]:
                dropped.append(self._drop(key, entry))

    def _shut(self, key: Hashable) -> list[Any]:
        """Return the handle to close, if it is idle; else it is closed when its last lease ends."""
        entry = self._entries.get(key)
        if entry is None:
            return []
        entry.doomed = True
        return [self._drop(key, entry)] if entry.leases == 0 else []

    def __len__(self) -> int:
        """Number of handles that are open."""
        with self._lock:
            return sum(e.handle is not None for e in self._entries.values())


POOL = HandlePool()
"""The pool of this process."""
