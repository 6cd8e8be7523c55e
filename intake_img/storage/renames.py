"""Atomic exchange, exclusive renaming and locks in a local file system, each with a portable fallback.

Linux and macOS have system calls that POSIX lacks; where a call is missing (other systems, some network file systems),
the functions here fall back to portable calls. Each function documents the limits of its fallback.
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

from intake_img.storage.handles import POOL
from intake_img.storage.replacing import is_held

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
"""Seconds after which a folder counts as abandoned, on file systems without locks."""


def exchange(one: str, other: str) -> bool:
    """Swap two names atomically; return False, without any change, if the system cannot."""
    return rename_flagged(one, other, "swap") == 0


def rename_new(source: str, target: str) -> None:
    """Rename atomically, but never replace an existing target.

    Without a system call for this, files are linked to the new name first (POSIX, NTFS); on file systems without links
    an empty file reserves the name, and a killed process can leave it behind.

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
        os.rename(source, target)  # this fails on every system if the target is a file or a folder that is not empty
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


def remove_tree(path: str) -> None:
    """Remove a file or a folder with its contents; missing files are not an error.

    Removing is retried for two seconds: of a folder that is not empty, as threads of a failed write may still create
    files in it; on Windows, of files that are open.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError
        If something cannot be removed.
    """
    end = time.monotonic() + 2
    while os.path.lexists(path):
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:  # another process removes it too
            continue
        except OSError as exc:
            again = exc.errno in (errno.ENOTEMPTY, errno.EEXIST) or is_held(exc)
            if not again or time.monotonic() > end:
                raise
            POOL.close_idle() if is_held(exc) else None
            time.sleep(0.01)


def flush(path: str, only: bool = False) -> None:
    """Wait until a file, or a folder with its contents, is on the disk.

    Parameters
    ----------
    path : str
    only : bool
        For a folder, flush only its entries.
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
    """Flush the file system of a folder; return False if there is no such call."""
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
    except PermissionError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (*_UNSUPPORTED, errno.EBADF):  # folders; on Windows, readers
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
    """An advisory lock on a file, which the system releases whenever the process ends.

    Without ``fcntl`` and ``msvcrt``, or on a file system without locks, every lock is granted.

    Parameters
    ----------
    path : str
        The file; it is created if it does not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self.certain = True
        """False if the lock was granted because locks are not supported."""

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
                if granted and _same_file(descriptor, self.path):  # else its last holder has removed it
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
        """Release the lock, and remove its file if requested."""
        if self._descriptor is None:
            return
        if remove and msvcrt is None:  # before others can take it; Windows cannot remove open files
            self._unlink()
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a forked process may share the descriptor
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
    """Wait for the lock on `path` and hold it within the ``with``. Its folder and file are removed afterwards."""
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
        with contextlib.suppress(OSError):  # another process uses it
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
