"""Random access to the bytes of an open file, and its implementation for local files.

Local files are read with positional reads and windows of a memory map, so that one descriptor serves many threads and
forked processes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.model.machine import mapped_memory

if TYPE_CHECKING:
    from intake_img.storage.files import File
from intake_img.storage.positioned import read_at, read_into_at

__all__ = ["ByteReader", "ByteStream", "LocalBytes", "closed_on_error", "noted"]

_KEPT: dict[int, mmap.mmap] = {}
"""The latest memory maps, by the descriptors of their files: a new map would fault all its pages again."""
_MOST_KEPT = 4  # each uses a file descriptor
_MOST_SHARED = 2**22  # bytes of a window up to which it is in one of these, where its pages can be given back
_GIVES_BACK = hasattr(mmap, "MADV_DONTNEED")  # not on Windows
_MOST_RESIDENT = 2**29  # bytes of mapped files in memory, which count as memory of the process, e.g. of a dask worker
_USES = itertools.count(1)
_LOOK = 16  # uses of maps between looks at how much of them is in memory
_OPENED: ContextVar[list[ByteReader] | None] = ContextVar("readers opened", default=None)


@contextlib.contextmanager
def closed_on_error() -> Iterator[None]:
    """Close everything that `File.open` opens within a ``with``, if the block fails."""
    opened: list[ByteReader] = []
    token = _OPENED.set(opened)
    try:
        yield
    except BaseException:
        for reader in opened:
            reader.close()
        raise
    finally:
        _OPENED.reset(token)


def noted(reader: ByteReader) -> ByteReader:
    """Return a reader, registered with `closed_on_error`."""
    if (opened := _OPENED.get()) is not None:
        opened.append(reader)
    return reader


class ByteReader:
    """Random access to the bytes of one open file; safe to share between threads.

    Attributes
    ----------
    size : int
        Length of the file in bytes.
    maps : bool
        Whether a `window` is a memory map, so that only the used pages are read.
    slack : int
        Unneeded bytes that a `window` may include to avoid many small reads.
    """

    size: int
    maps = False
    slack = 0

    def __init__(self, file: File) -> None:
        self.file = file

    def ranges(self, offsets: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        """Return ``counts[k]`` bytes from ``offsets[k]`` on, for every k.

        Raises
        ------
        FormatError
            If a range lies outside the file.
        """
        raise NotImplementedError

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill the writable, contiguous buffer `out` with the bytes from `offset` on."""
        raise NotImplementedError

    def window(self, offset: int, count: int) -> contextlib.AbstractContextManager[memoryview]:
        """Yield `count` bytes from `offset` on, memory-mapped if the file is local; valid within the ``with``."""
        raise NotImplementedError

    def mapped(self) -> mmap.mmap | None:
        """Return the complete file as a read-only memory map, shared while in use; None for remote files.

        Before reading from it, the caller must check that the file still has the same length.
        """
        return None

    def stream(self) -> IO[bytes]:
        """Return a new seekable binary file, for libraries that parse headers. The caller closes it."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _check(self, offset: int, count: int) -> None:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise FormatError(
                f"{self.file}: the header points to bytes {offset} to {offset + count}, but the file ends at "
                f"{self.size}: it is truncated or damaged"
            )


class ByteStream(io.RawIOBase):
    """A seekable stream over the bytes of a file; a read returns fewer bytes only at the end of the file.

    Parameters
    ----------
    source : ByteReader
    """

    def __init__(self, source: ByteReader) -> None:
        self.source, self.at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset >= 0:  # as libraries seek before each of many small reads
            self.at = offset
            return offset
        at = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.source.size}[whence] + offset
        if at < 0:
            raise io.UnsupportedOperation(f"negative seek value {at}")
        self.at = at
        return at

    def readinto(self, buffer: Any) -> int:
        target = np.frombuffer(buffer, np.uint8)  # a buffer of any item type, such as an array of records
        count = max(0, min(target.size, self.source.size - self.at))
        if count:
            self.fill(target[:count].data)
        self.at += count
        return count

    def readall(self) -> bytes:
        return self.read(max(0, self.source.size - self.at)) or b""

    def fill(self, target: memoryview) -> None:
        """Fill `target` with the bytes at the current position."""
        self.source.read_into(self.at, target)


def _keep(fd: int, found: mmap.mmap) -> None:
    _KEPT[fd] = found
    while len(_KEPT) > _MOST_KEPT:
        with contextlib.suppress(RuntimeError, StopIteration):  # another thread was quicker
            _KEPT.pop(next(iter(_KEPT)), None)


class LocalBytes(ByteReader):
    """The bytes of a local file."""

    maps = True

    def __init__(self, file: File) -> None:
        super().__init__(file)
        self._fd = file.descriptor()
        self.size = os.fstat(self._fd).st_size
        self._map: weakref.ref[mmap.mmap] | None = None

    def mapped(self) -> mmap.mmap | None:
        found = self._map() if self._map is not None else None
        if found is None and self.size:
            found = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
            self._map = weakref.ref(found)
            _keep(self._fd, found)
        if _GIVES_BACK and not next(_USES) % _LOOK and mapped_memory() > _MOST_RESIDENT:
            for kept in list(_KEPT.values()):
                kept.madvise(mmap.MADV_DONTNEED)
        return found

    def ranges(self, offsets: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        found = []
        for offset, count in zip(offsets, counts, strict=True):
            self._check(offset, count)
            data = read_at(self._fd, count, offset)
            if len(data) != count:
                raise FormatError(f"{self.file}: only {len(data)} of {count} bytes at {offset}: it was truncated")
            found.append(data)
        return found

    def read_into(self, offset: int, out: memoryview) -> None:
        count = out.nbytes
        self._check(offset, count)
        done = read_into_at(self._fd, out, offset) if count else 0
        while done < count:
            n = read_into_at(self._fd, out.cast("B")[done:], offset + done)
            if n == 0:
                raise FormatError(f"{self.file}: ends within the pixels, at byte {offset + done}: it was truncated")
            done += n

    @contextlib.contextmanager
    def window(self, offset: int, count: int) -> Iterator[memoryview]:
        self._check(offset, count)
        if count == 0:
            yield memoryview(b"")
            return
        if os.fstat(self._fd).st_size < offset + count:  # reading a map beyond the end kills the process
            raise FormatError(f"{self.file}: was truncated while in use")
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        found = self.mapped() if _GIVES_BACK and count <= _MOST_SHARED else None
        if found is not None and len(found) >= offset + count:
            try:
                with memoryview(found) as view, view[offset : offset + count] as part:
                    yield part
            finally:  # a file that is read window by window must not stay in memory
                found.madvise(mmap.MADV_DONTNEED, start, offset + count - start)
            return
        with mmap.mmap(self._fd, offset + count - start, access=mmap.ACCESS_READ, offset=start) as mapped:
            view = memoryview(mapped)
            part = view[offset - start :]
            try:
                yield part
            finally:
                part.release()
                view.release()

    def stream(self) -> IO[bytes]:
        return open(self.file.path, "rb", opener=lambda *_: self.file.descriptor())

    def close(self) -> None:
        _KEPT.pop(self._fd, None)  # existing views of the map remain valid
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
