"""Caches in memory, limited in bytes; one for decoded tiles, planes and decompressed bytes of all open files."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from intake_img.storage.locks import SafeLock, finally_call

__all__ = ["CACHE", "MemoryCache", "Shelf"]


class MemoryCache:
    """The most recently used values by key, up to a number of bytes; safe for threads, and empty after a fork.

    Parameters
    ----------
    limit : int
        The largest number of bytes to keep; 0 disables the cache.
    share : float
        The largest part of the limit that one value may take.
    """

    def __init__(self, limit: int, share: float = 0.25) -> None:
        self.limit, self.share = limit, share
        self.renew()
        _CACHES.add(self)

    def renew(self) -> None:
        """Begin with nothing, in a child after a fork."""
        self._lock = SafeLock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.nbytes = 0

    def get(self, key: Hashable) -> Any:
        """Return a value, None if it is not in the cache."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def __contains__(self, key: Hashable) -> bool:
        """Whether a value is in the cache; it does not count as used."""
        return key in self._values

    def put(self, key: Hashable, value: Any, share: float | None = None, *, nbytes: int | None = None) -> None:
        """Keep a value and drop the least recently used ones.

        Parameters
        ----------
        key : hashable
        value : object
        share : float, optional
            In place of that of the cache: a larger value is not kept.
        nbytes : int, optional
            By default ``value.nbytes``.
        """
        size = value.nbytes if nbytes is None else nbytes
        if size > self.limit * (self.share if share is None else share):
            return
        with self._lock:
            self.nbytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            while self.nbytes > self.limit:
                self.nbytes -= self._values.popitem(last=False)[1][1]

    def shared(self, key: Hashable, make: Callable[[], Any], share: float | None = None) -> Any:
        """Return a value; it is made and kept if it is not in the cache, once however many threads ask for it."""
        with self._lock:
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found, share)
            return found

    def forget(self, owner: object) -> None:
        """Drop the values whose key is a tuple that begins with `owner`."""
        with self._lock:
            for key in [k for k in self._values if isinstance(k, tuple) and k[0] is owner]:
                self.nbytes -= self._values.pop(key)[1]

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()
            self.nbytes = 0

    def __len__(self) -> int:
        return len(self._values)


_CACHES: weakref.WeakSet[MemoryCache] = weakref.WeakSet()


def _renew_all() -> None:
    for cache in list(_CACHES):
        cache.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)

CACHE = MemoryCache(128 * 2**20)
"""The cache of this process; set ``CACHE.limit`` to change its size in bytes."""


class Shelf:
    """What one owner, such as an open file, keeps in `CACHE`; it is dropped when the owner drops its shelf."""

    def __init__(self) -> None:
        self._token = object()
        finally_call(self, CACHE.forget, self._token)

    def get(self, key: Hashable) -> Any:
        """Return what is kept under `key`, or None."""
        return CACHE.get((self._token, key))

    def __contains__(self, key: Hashable) -> bool:
        """Whether something is kept under `key`; it does not count as used."""
        return (self._token, key) in CACHE

    def put(self, key: Hashable, tile: Any, share: float | None = None) -> None:
        """Keep a tile, unless it is larger than this share of the cache."""
        CACHE.put((self._token, key), tile, share)

    def clear(self) -> None:
        """Drop everything."""
        CACHE.forget(self._token)
