"""An open HDF5 file, local or remote.

h5py reads through a stream of ours: a file that it opens by name is locked against writers, and cannot be opened in
another mode elsewhere in the process. A remote file is opened on blocks that were fetched before: where HDF5 needs
another block, the attempt ends, the block is fetched, and the attempt is repeated. So nothing waits for a server while
HDF5 has its lock (h5py issue 2019: a garbage collection in the thread that fetches waits for that lock, a deadlock),
and no object of h5py outlives a call.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from intake_img.errors import FormatError
from intake_img.formats.h5.heaps import HEAP, check_heap
from intake_img.model.packages import imported
from intake_img.storage.byte_readers import ByteReader, ByteStream
from intake_img.storage.files import File

__all__ = ["SIGNATURE", "H5File", "h5py_module", "item_at"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BLOCK = 2**16  # bytes that are fetched of a remote file
_NEAR = 2**14  # bytes of a local file that are read where HDF5 asks for a few
_HEAD = 2**15  # the same at its beginning
_CHUNK_CACHE = 2**24  # bytes of decoded chunks that HDF5 keeps of each open dataset

_H5PY: Any = None

_T = TypeVar("_T")


def h5py_module(purpose: str = "reading HDF5 files") -> Any:
    """Return h5py.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    global _H5PY
    if _H5PY is None or sys.modules.get("h5py") is not _H5PY:  # each opening asks some fifty times
        _H5PY = imported("h5py", "hdf5", purpose)
    return _H5PY


def item_at(group: Any, path: str | bytes) -> Any:
    """Return ``group[path]`` of h5py, which asks the file for its mode whenever it opens a dataset.

    Raises
    ------
    KeyError
        If there is no such group or dataset, or it is damaged.
    """
    h5py = h5py_module()
    found = h5py.h5o.open(group.id, path.encode() if isinstance(path, str) else path, lapl=group._lapl)
    if isinstance(found, h5py.h5d.DatasetID):
        return h5py.Dataset(found, readonly=True)
    return h5py.Group(found) if isinstance(found, h5py.h5g.GroupID) else group[path]


class H5File:
    """An open HDF5 file; safe to share between threads.

    Parameters
    ----------
    file : File

    Attributes
    ----------
    source : ByteReader
        Its bytes.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self._h5py = h5py_module()
        self.source: ByteReader = file.open()
        self._blocks: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self.local: Any = None
        try:
            if file.local:
                self.local = _opened(self._h5py, _Local(self.source))
                _OPEN.add(self)
        except BaseException as exc:
            self.source.close()
            _check_complete(file, exc)
            raise

    def run(self, read: Callable[[Any], _T]) -> _T:
        """Return what `read` returns of the `h5py.File`.

        Parameters
        ----------
        read : callable
            Returns nothing that belongs to the file; of a remote file it is called again until all that it needs is
            there, whatever it makes of the errors in between.
        """
        if self.local is not None:
            return read(self.local)
        while True:
            stream = _Blocks(self.source, self._blocks)
            found: Any = None
            failure: Exception | None = None
            try:
                with self._h5py.File(stream, "r") as f:
                    found = read(f)
            except Exception as exc:
                failure = exc
            try:
                if not stream.missing:
                    if failure is not None:
                        _check_complete(self.file, failure)
                        raise failure
                    return found
            finally:
                del failure  # its traceback refers to objects of h5py
            self._fetch(stream.missing)

    def _fetch(self, numbers: Iterable[int]) -> None:
        with self._lock:
            wanted = [k for k in numbers if k not in self._blocks]
            starts = [k * _BLOCK for k in wanted]
            sizes = [min(_BLOCK, self.source.size - start) for start in starts]
            self._blocks.update(zip(wanted, self.source.ranges(starts, sizes), strict=True))

    def close(self) -> None:
        if self.local is not None:
            self.local.close()
        self.source.close()
        self._blocks.clear()


def _opened(h5py: Any, stream: _Stream) -> Any:
    """Return ``h5py.File(stream, "r", rdcc_nbytes=_CHUNK_CACHE)``, without properties of files that are written."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    unused, slots, _, share = access.get_cache()
    access.set_cache(unused, slots, _CHUNK_CACHE, share)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, stream)
    name = repr(stream).encode("ascii", "replace")
    return h5py.File(h5py.h5f.open(name, h5py.h5f.ACC_RDONLY, fapl=access))


def _check_complete(file: File, failure: BaseException) -> None:
    """Raise an error that says what to do if HDF5 did not open a file because it was cut off."""
    if isinstance(failure, OSError) and "truncated file" in str(failure):
        raise FormatError(
            f"{file} was cut off, and HDF5 opens complete files only: copy it again from where it was made ({failure})"
        ) from failure


class _NotFetchedError(OSError):
    """HDF5 looked for bytes that are not there yet."""


class _Stream(ByteStream):
    """The bytes of a file, as h5py reads them."""

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        count = max(0, min(target.nbytes, self.source.size - self.at))
        self.fill(target[:count])
        if target[:4] == HEAP:
            check_heap(self.at, bytes(target[:count]), self.source.size, self.filled)
        if count < target.nbytes:
            target[count:] = bytes(target.nbytes - count)
        self.at += count
        return count

    def filled(self, at: int, count: int) -> bytes:
        """Return the bytes elsewhere in the file."""
        here, found = self.at, bytearray(count)
        self.at = at
        try:
            self.fill(memoryview(found))
        finally:
            self.at = here
        return bytes(found)


class _Local(_Stream):
    """The bytes of a local file; metadata, which HDF5 reads in many small pieces, are read with what lies around.

    Most of them lie in the first bytes of a file, which are kept besides the last ones that were read.
    """

    def __init__(self, source: ByteReader) -> None:
        super().__init__(source)
        self.head = source.ranges([0], [min(_HEAD, source.size)])[0]
        self.first, self.near = 0, b""

    def readinto(self, buffer: Any) -> int:
        target, skip, near = memoryview(buffer), self.at, self.head
        count = target.nbytes
        if skip + count > len(near):
            skip, near = skip - self.first, self.near
        if not 0 <= skip <= len(near) - count or near.startswith(HEAP, skip):
            return super().readinto(target)
        target[:] = near[skip : skip + count]
        self.at += count
        return count

    def fill(self, target: memoryview) -> None:
        if target.nbytes > _NEAR // 4:
            return super().fill(target)
        skip = self.at - self.first
        if not 0 <= skip <= len(self.near) - target.nbytes:
            self.first, skip = self.at, 0
            self.near = self.source.ranges([self.at], [min(_NEAR, self.source.size - self.at)])[0]
        target[:] = self.near[skip : skip + target.nbytes]


class _Blocks(_Stream):
    """The blocks of a file that are there; takes note of the missing ones."""

    def __init__(self, source: ByteReader, blocks: dict[int, bytes]) -> None:
        super().__init__(source)
        self.blocks = blocks
        self.missing: set[int] = set()

    def fill(self, target: memoryview) -> None:
        numbers = range(self.at // _BLOCK, -(-(self.at + target.nbytes) // _BLOCK))
        if missing := [k for k in numbers if k not in self.blocks]:
            self.missing.update(missing)
            raise _NotFetchedError(f"{len(missing)} blocks are not fetched yet")
        skip = self.at - numbers.start * _BLOCK
        target[:] = b"".join(self.blocks[k] for k in numbers)[skip : skip + target.nbytes]


_OPEN: weakref.WeakSet[H5File] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """HDF5 would close them later, when there is no Python left to read through."""
    for h5 in list(_OPEN):
        h5.close()
