"""Caches of the portal: blocks of pixels in memory and on disk, pictures on disk, all with size limits."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from intake_img.storage.cache import MemoryCache

__all__ = ["BlockCache", "DiskCache", "memory_cache"]


def memory_cache(limit: int) -> MemoryCache:
    """Return a cache in memory; a value above an eighth of the limit is not kept."""
    return MemoryCache(limit, share=1 / 8)


class DiskCache:
    """A disk cache of bytes by key, limited in size; the least recently used files are removed.

    If the folder is not writable, or the disk is full, nothing is kept. Several processes may share a folder.

    Parameters
    ----------
    folder : Path
    limit : int
        Bytes; 0 keeps nothing.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._added = limit  # list existing files before the first addition
        self._lock = threading.Lock()

    @classmethod
    def none(cls) -> DiskCache:
        """Return a disabled cache."""
        return cls(Path(os.devnull), 0)

    def get(self, key: str) -> bytes | None:
        """Return the bytes, or None."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        if len(data) > self.limit // 8:
            return
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                raise
        with self._lock:
            self._added += len(data)
            due, self._added = self._added > self.limit // 8, 0 if self._added > self.limit // 8 else self._added
        if due:
            self.prune()

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def prune(self) -> None:
        """Remove the least recently used files, until the rest fits."""
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
        held = sum(size for _, size, _ in found)
        for _, size, path in sorted(found, key=lambda f: f[0]):
            if held <= self.limit * 7 // 8:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                held -= size

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / name[2:40]


class BlockCache:
    """Arrays by key, in memory and, if they should last, on disk. Concurrent requests for an array compute it once."""

    def __init__(self, memory: MemoryCache, disk: DiskCache) -> None:
        self.memory, self.disk = memory, disk
        self._making: dict[str, Future[np.ndarray]] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], np.ndarray], lasting: bool) -> np.ndarray:
        """Return an array; compute it if it is not in the cache."""
        if (found := self.memory.get(key)) is not None:
            return found
        with self._lock:
            mine = key not in self._making
            future = self._making.setdefault(key, Future())
        if not mine:
            return future.result(timeout=120)
        try:
            array: np.ndarray | None = self.memory.get(key)  # from a request that ended after the first look
            if array is None:
                array = self._made(key, make, lasting)
            future.set_result(array)
            return array
        except BaseException as exc:
            future.set_exception(exc)
            raise
        finally:
            with self._lock:
                self._making.pop(key, None)

    def _made(self, key: str, make: Callable[[], np.ndarray], lasting: bool) -> np.ndarray:
        array = self._from_disk(key) if lasting else None
        if array is None:
            array = make()
            self.put(key, array, lasting)
        else:
            self._hold(key, array)
        return array

    def found(self, key: str, lasting: bool) -> np.ndarray | None:
        """Return an array that is in the cache; None otherwise."""
        found: np.ndarray | None = self.memory.get(key)
        return self._from_disk(key) if found is None and lasting else found

    def put(self, key: str, array: np.ndarray, lasting: bool) -> None:
        if lasting and key not in self.disk:
            self.disk.put(key, _packed(array))
        self._hold(key, array)

    def _hold(self, key: str, array: np.ndarray) -> None:
        array.flags.writeable = False
        self.memory.put(key, array)

    def holds(self, key: str, lasting: bool) -> bool:
        return key in self.memory or (lasting and key in self.disk)

    def _from_disk(self, key: str) -> np.ndarray | None:
        data = self.disk.get(key)
        if data is None:
            return None
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, OSError, EOFError):  # damaged
            return None


def _packed(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
