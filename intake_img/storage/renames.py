"""Names in a local file system: atomic exchange, exclusive renaming and locks, each with a portable form.

Linux and macOS have system calls for what POSIX lacks; where a call is missing (other systems, some network file
systems), the functions here fall back to what every system has. What a fallback cannot do is said at each function.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # everywhere else
    msvcrt = None  # type: ignore[assignment]

__all__ = ["Lock", "abandoned", "exchange", "flush", "held", "remove_tree", "rename_flagged", "rename_new", "synced"]

_HERE = -100  # AT_FDCWD
_FLAGS = {"linux": {"new": 1, "swap": 2}, "darwin": {"new": 4, "swap": 2}}
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
_DEAD_AFTER = 86_400.0
"""Seconds after which a folder is abandoned, on file systems that have no locks to tell."""


def exchange(one: str, other: str) -> bool:
    """Swap two names atomically; return False where the system cannot, and nothing has happened then."""
    return rename_flagged(one, other, "swap") == 0


def rename_new(source: str, target: str) -> None:
    """Rename atomically, but never over something that exists.

    Without system calls for it, files are linked to the new name first (POSIX, NTFS); on file systems without links an
    empty file reserves the name, which a killed process can leave behind.

    Raises
    ------
    FileExistsError
        If `target` exists.
    """
    code = rename_flagged(source, target, "new")
    if code == 0:
        return
    if code == errno.EEXIST:
        raise FileExistsError(code, os.strerror(code), target)
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), source, None, target)
    if os.path.isdir(source):
        _rename_new_folder(source, target)
    else:
        _rename_new_file(source, target)


def _rename_new_folder(source: str, target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    try:
        os.rename(source, target)  # over a folder that holds something, or a file, this fails on every system
    except OSError as exc:
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from exc
        raise


def _rename_new_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except (OSError, AttributeError, NotImplementedError):
        with open(target, "xb"):
            pass
        os.replace(source, target)
    else:
        os.unlink(source)


def rename_flagged(source: str, target: str, flag: str) -> int:
    """Call the system's rename with the flag "new" or "swap"; return 0, or the error number (ENOSYS: no such call)."""
    flags = _FLAGS.get(sys.platform)
    if flags is None:
        return errno.ENOSYS
    try:
        library = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(source), os.fsencode(target)
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, flags[flag])
        else:
            failed = library.renameat2(_HERE, names[0], _HERE, names[1], flags[flag])
    except (OSError, AttributeError):
        return errno.ENOSYS
    return ctypes.get_errno() if failed else 0


def remove_tree(path: str, patience: float = 2.0) -> None:
    """Remove a file or a folder with all in it; what is gone already is no error.

    Parameters
    ----------
    path : str
    patience : float
        Seconds for which a folder that does not become empty is tried again: threads of a write that has failed may
        still be making files in it.

    Raises
    ------
    OSError
        If something cannot be removed.
    """
    end = time.monotonic() + patience
    while os.path.lexists(path):
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:  # another process removes it too
            continue
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def flush(path: str, only: bool = False) -> None:
    """Wait until a file, or a folder with all in it, is on the disk.

    Parameters
    ----------
    path : str
    only : bool
        Of a folder only the names in it.
    """
    whole = not only and os.path.isdir(path)
    if whole and sys.platform == "linux" and _flushed_at_once(path):
        return
    if whole:
        for folder, _, names in os.walk(path):
            for name in names:
                _flush_one(os.path.join(folder, name))
    _flush_one(path)


def _flushed_at_once(path: str) -> bool:
    """Flush the file system that a folder is on; return False where there is no such call."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return ctypes.CDLL(None).syncfs(descriptor) == 0
        finally:
            os.close(descriptor)
    return False


def _flush_one(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (*_UNSUPPORTED, errno.EBADF):  # some file systems flush no folders, Windows no readers
            raise
    finally:
        os.close(descriptor)


def synced(path: str, content: bytes) -> None:
    """Write a small file and wait until it is on the disk."""
    with open(path, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


class Lock:
    """An advisory lock on a file, which the system releases when the process ends, however it ends.

    Where neither ``fcntl`` nor ``msvcrt`` is there, or the file system has no locks, every lock is granted.

    Parameters
    ----------
    path : str
        The file; it is made if it does not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self.certain = True
        """False if the lock was granted because there are no locks."""

    def take(self, wait: bool = False) -> bool:
        """Take the lock; return False if another process (or another `Lock` of this one) holds it.

        Raises
        ------
        FileNotFoundError
            If the folder of the file does not exist.
        """
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                granted = self._granted(descriptor)
                if granted and _same_file(descriptor, self.path):  # else its last holder removed it meanwhile
                    self._descriptor, descriptor = descriptor, -1
                    return True
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            if not granted:
                if not wait:
                    return False
                time.sleep(0.005)

    def _granted(self, descriptor: int) -> bool:
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif msvcrt is not None:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            else:
                self.certain = False
        except OSError as exc:
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                return False
            self.certain = False
        return True

    def release(self, remove: bool = False) -> None:
        """Let go of the lock, and remove its file if asked to."""
        if self._descriptor is None:
            return
        if remove and msvcrt is None:  # before others can have it; Windows removes no open file
            self._unlink()
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a forked process may have the descriptor too
        os.close(self._descriptor)
        self._descriptor = None
        if remove and msvcrt is not None:
            self._unlink()

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Hold the lock on `path` for the time of a ``with``; wait for it. Its folder and file are removed afterwards."""
    lock = Lock(path)
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            lock.take(wait=True)
            break
        except FileNotFoundError:  # another process has just removed the folder
            continue
    try:
        yield
    finally:
        lock.release(remove=True)
        with contextlib.suppress(OSError):  # somebody else uses it
            os.rmdir(os.path.dirname(path))


def _same_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def abandoned(lock: Lock, folder: str) -> bool:
    """Return whether the writer of a folder is dead, given that its lock could be taken."""
    if lock.certain:
        return True
    newest = max((_mtime(path) for path in (folder, lock.path)), default=0.0)
    return time.time() - newest > _DEAD_AFTER


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
