"""A cache of decoded tiles, planes, decompressed bytes and small images, limited in bytes, for each process."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

__all__ = ["CACHE", "Shelf", "TileCache"]


class TileCache:
    """Tiles (anything that has ``nbytes``) by key; the least recently used are dropped first.

    Parameters
    ----------
    limit : int
        The largest number of bytes to keep; 0 disables the cache.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()  # a finalizer may run `forget` while this thread holds it
        self._tiles: OrderedDict[Hashable, Any] = OrderedDict()
        self.nbytes = 0

    def get(self, key: Hashable) -> Any:
        """Return a tile, None if it is not in the cache."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def holds(self, key: Hashable) -> bool:
        """Return whether a tile is in the cache; it does not count as used."""
        return key in self._tiles

    def put(self, key: Hashable, tile: Any, share: float = 0.25) -> None:
        """Keep a tile, unless it is too large for the limit of the cache."""
        if tile.nbytes > self.limit * share:
            return
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self.nbytes += tile.nbytes
            while self.nbytes > self.limit:
                self.nbytes -= self._tiles.popitem(last=False)[1].nbytes

    def forget(self, owner: object) -> None:
        """Drop the tiles whose key is a tuple that begins with `owner`."""
        with self._lock:
            for key in [k for k in self._tiles if isinstance(k, tuple) and k[0] is owner]:
                self.nbytes -= self._tiles.pop(key).nbytes

    def clear(self) -> None:
        """Drop all tiles."""
        with self._lock:
            self._tiles.clear()
            self.nbytes = 0

    def __len__(self) -> int:
        return len(self._tiles)


CACHE = TileCache(128 * 2**20)
"""The cache of this process; set ``CACHE.limit`` to change its size in bytes."""


class Shelf:
    """What one owner, such as an open file, keeps in `CACHE`; it is dropped when the owner drops its shelf."""

    def __init__(self) -> None:
        self._token = object()
        weakref.finalize(self, CACHE.forget, self._token).atexit = False

    def get(self, key: Hashable) -> Any:
        """Return what is kept under `key`, or None."""
        return CACHE.get((self._token, key))

    def holds(self, key: Hashable) -> bool:
        """Return whether something is kept under `key`; it does not count as used."""
        return CACHE.holds((self._token, key))

    def put(self, key: Hashable, tile: Any, share: float = 0.25) -> None:
        """Keep a tile, unless it is larger than this share of the cache."""
        CACHE.put((self._token, key), tile, share)

    def clear(self) -> None:
        """Drop everything."""
        CACHE.forget(self._token)
