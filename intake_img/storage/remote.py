"""The bytes of files on servers, through fsspec: merged ranges, blocks, and retries after transient failures.

From a server that ignores ranges, or gives no size, the complete file is fetched once and kept in memory or, if it is
large, in a temporary file; ranges and streams are served from that copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from intake_img.errors import IntakeImgError, RemoteError
from intake_img.storage.byte_readers import ByteReader, ByteStream, LocalBytes
from intake_img.storage.kept_blocks import BlockFolder

if TYPE_CHECKING:
    from intake_img.storage.files import File

__all__ = ["RemoteBytes", "first_bytes", "noted_failures", "retried", "retried_async"]

_DELAYS = (0.3, 1.2)  # seconds before the second and the third try
_BLOCK = 2**16  # headers of TIFF and CZI are scattered: small blocks fetch least (reference figures: 22 requests)
_BLOCKS = 32  # kept for each file
_GAP = 2**16  # ranges closer than this are fetched together
_IN_MEMORY = 2**26  # complete files up to this size are kept in memory
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_FAILURES: ContextVar[list[str] | None] = ContextVar("failures", default=None)

_T = TypeVar("_T")


# failures


def retried(place: str, call: Callable[[], _T]) -> _T:
    """Return the result of `call`; after a transient failure, such as status 503 or a connection reset, call it again.

    Parameters
    ----------
    place : str
        URL, for messages.
    call : callable
        Sends a request to a server.

    Raises
    ------
    RemoteError
        If the third call fails too, or the server refuses the request.
    PermissionError
        If the server requires credentials, or rejects the given ones.
    """
    for delay in (*_DELAYS, None):
        try:
            return call()
        except Exception as exc:
            failure = exc
        if delay is None or not _passes(_cause(failure)):
            break
        time.sleep(delay)
    try:
        raise _explained(place, failure)
    finally:
        del failure  # its traceback refers to this frame


async def retried_async(place: str, call: Callable[[], Awaitable[_T]]) -> _T:
    """Do the same as `retried` with a coroutine function."""
    for delay in (*_DELAYS, None):
        try:
            return await call()
        except Exception as exc:
            failure = exc
        if delay is None or not _passes(_cause(failure)):
            break
        await asyncio.sleep(delay)
    try:
        raise _explained(place, failure)
    finally:
        del failure


class noted_failures:
    """List the server failures within a ``with``, also those that a library catches and ignores.

    These are the messages of each `RemoteError`; timers of asyncio keep the list alive, and would keep tracebacks.
    Nested blocks share the same list, so that the outer block gets all failures.
    """

    __slots__ = ("_token", "met")

    def __enter__(self) -> list[str]:
        met = _FAILURES.get()
        self.met: list[str] = [] if met is None else met
        self._token = _FAILURES.set(self.met)
        return self.met

    def __exit__(self, *_: object) -> None:
        _FAILURES.reset(self._token)


def _status(exc: BaseException) -> int | None:
    status = getattr(exc, "status", None)
    status = getattr(exc, "code", None) if status is None else status
    return status if isinstance(status, int) and 400 <= status < 600 else None


def _passes(exc: BaseException) -> bool:
    if (status := _status(exc)) is not None:
        return status in _PASSING
    ours_to_mend = isinstance(exc, (ValueError, FileNotFoundError, PermissionError))  # an invalid URL is a ClientError
    client = type(exc).__module__.partition(".")[0] == "aiohttp"
    return not ours_to_mend and (client or isinstance(exc, (ConnectionError, TimeoutError)))


def _cause(exc: Exception) -> BaseException:
    """Return the cause of an error: fsspec reports every failure of a web server as a missing file."""
    cause = exc.__cause__
    if not isinstance(exc, FileNotFoundError) or cause is None:
        return exc
    known = isinstance(cause, IntakeImgError) or _passes(cause) or _status(cause) not in (None, 404, 410)
    return cause if known else exc


def _explained(place: str, raised: Exception) -> BaseException:
    exc = _cause(raised)
    status = _status(exc)
    said = f"status {status}" if status else f"{type(exc).__name__}: {str(exc)[:200] or 'no details'}"
    if status in (401, 403):
        return PermissionError(f"{place}: the server refuses access ({said}): check storage_options and the URL")
    if _passes(exc):
        tries = len(_DELAYS) + 1
        error = RemoteError(f"{place}: the server failed {tries} times ({said}): try again later")
    elif status and status not in (404, 410):
        error = RemoteError(f"{place}: the server refuses the request ({said}): check storage_options and the URL")
    else:
        return FileNotFoundError(place) if status else exc
    if (met := _FAILURES.get()) is not None:
        met.append(str(error))
    return error


# reading


def first_bytes(file: File, n: int | None, ranged: bool = True) -> bytes:
    """Return the first `n` bytes of a remote file, and never more than these in memory.

    Parameters
    ----------
    file : File
    n : int or None
        None for all bytes.
    ranged : bool
        Whether to request a range: not useful if most of the file is needed.
    """
    fs, path = file.filesystem()

    def fetch() -> bytes:
        if not file.web:
            return bytes(fs.cat_file(path, start=0, end=n)[:n])
        if n is None:
            return bytes(fs.cat_file(path))
        # fsspec's HTTP files stop reading at n bytes, even if a server ignores the range
        size = file.remote_info().get("size") if ranged else None
        known = {"block_size": n, "size": size, "cache_type": "none"} if size else {"block_size": 0, "size": 1}
        with fs.open(path, "rb", **known) as stream:
            return _read_up_to(stream, n)

    return retried(file.path, fetch)


def _read_up_to(stream: IO[bytes], n: int) -> bytes:
    parts, left = [], n
    while left > 0 and (part := stream.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class RemoteBytes(ByteReader):
    """The bytes of a file that fsspec reads.

    Parameters
    ----------
    file : File
    content : bytes, optional
        All of them, if they are there already.
    """

    def __init__(self, file: File, content: bytes | None = None) -> None:
        super().__init__(file)
        self._fs, self._path = file.filesystem()
        self._lock = threading.RLock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._whole: bytes | ByteReader | None = content
        self._ranged = not file.web  # known to support ranges
        self.size = int(file.remote_info().get("size") or (-1 if file.web else 0))  # answers to HEAD are unreliable
        self._kept = self._kept_blocks() if content is None else None
        if content is None and (self.size < 0 or not (self._kept or self._knows_ranges())):
            self._fetch_whole()

    def _kept_blocks(self) -> BlockFolder | None:
        """Return the blocks on the disk; None without a cache, and if the server states no version of the file."""
        folder = self.file.block_folder
        if not folder or self.size < 0 or len(stamp := self.file.stamp()) < 2:  # the size is no version
            return None
        return BlockFolder(folder, repr((self.file.path, stamp)), self.size, self._fetched)

    def _fetched(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return spans from the server, also if it answers with the complete file."""
        blocks = self._fetch_merged(spans) if self._whole is None and self._knows_ranges() else []
        if not blocks and self._whole is None:
            self._fetch_whole()
        return blocks or self._from_whole([a for a, _ in spans], [b - a for a, b in spans])

    def _knows_ranges(self) -> bool:
        """False if the server does not support ranges; for large files a request for one byte finds this out."""
        if not self._ranged and self.file.remote_info().get("partial") is False:
            return False
        if self._ranged or self.size <= _IN_MEMORY:  # the first range request will show it
            return True
        try:
            retried(self.file.path, self._second_byte)
        except ValueError:  # fsspec's way to report a server that ignores ranges
            return False
        self._ranged = True
        return True

    def _second_byte(self) -> bytes:
        with self._fs.open(self._path, "rb", block_size=1, size=self.size, cache_type="none") as stream:
            stream.seek(1)
            return bytes(stream.read(1))

    def _fetch_whole(self) -> None:
        if 0 <= self.size <= _IN_MEMORY:
            self._whole = retried(self.file.path, self._whole_in_memory)
            return
        with tempfile.TemporaryDirectory(prefix="intake_img-") as folder:
            copy = Path(folder, "copy")
            retried(self.file.path, lambda: self._download(copy))
            whole = LocalBytes(type(self.file)(str(copy)))
        whole.file = self.file  # for messages; the copy has no name any more
        self._whole, self.size = whole, whole.size

    def _whole_in_memory(self) -> bytes:
        return _checked(bytes(self._fs.cat_file(self._path)), self.size, 0)

    def _download(self, copy: Path) -> None:
        self._fs.get_file(self._path, str(copy))
        if 0 <= self.size != copy.stat().st_size:
            raise ConnectionError(f"got {copy.stat().st_size} of {self.size} bytes")

    def ranges(self, offsets: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        for offset, count in zip(offsets, counts, strict=True):
            self._check(offset, count)
        if self._whole is None:
            merged = _merged(offsets, counts)
            blocks = self._kept.read(merged) if self._kept else self._fetch_merged(merged)
        if self._whole is not None:
            return self._from_whole(offsets, counts)
        found = []
        for offset, count in zip(offsets, counts, strict=True):
            if count == 0:
                found.append(b"")
                continue
            k = next(k for k, (a, b) in enumerate(merged) if a <= offset and offset + count <= b)
            found.append(blocks[k][offset - merged[k][0] : offset - merged[k][0] + count])
        return found

    def _from_whole(self, offsets: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        if isinstance(self._whole, ByteReader):
            return self._whole.ranges(offsets, counts)
        assert self._whole is not None
        return [self._whole[o : o + n] for o, n in zip(offsets, counts, strict=True)]

    def _fetch_merged(self, merged: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of ranges; none, and the complete file is kept, if the server answers with it."""
        if self._ranged or not merged:
            return retried(self.file.path, lambda: self._cat(merged)) if merged else []
        with self._lock:  # only one range, since each answer may be the complete file
            start, stop = merged[0]
            if self._whole is not None or self._ranged:
                return [] if self._whole is not None else self._fetch_merged(merged)
            block = retried(self.file.path, lambda: self._cat(merged[:1])[0])
            if len(block) > stop - start:
                self._whole = block
                return []
            self._ranged = stop - start < self.size
        return [block, *self._fetch_merged(merged[1:])]

    def _cat(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        starts, stops = [a for a, _ in ranges], [b for _, b in ranges]
        found = self._fs.cat_ranges([self._path] * len(ranges), starts, stops, on_error="raise")
        if failure := next((block for block in found if isinstance(block, Exception)), None):
            raise failure  # before 2025, fsspec returns errors that it should raise
        blocks = [bytes(block) for block in found]
        for (start, stop), block in zip(ranges, blocks, strict=True):
            if self._ranged or len(block) != self.size:
                _checked(block, stop - start, start)
        return blocks

    def read_into(self, offset: int, out: memoryview) -> None:
        out.cast("B")[:] = self.ranges([offset], [out.nbytes])[0]

    @contextlib.contextmanager
    def window(self, offset: int, count: int) -> Iterator[memoryview]:
        yield memoryview(self.ranges([offset], [count])[0])

    def stream(self) -> IO[bytes]:
        return _Stream(self)  # type: ignore[return-value]

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes, fewer at the end of the file, from blocks that are cached for later reads."""
        stop = min(offset + count, self.size)
        if stop <= offset:
            return b""
        numbers = range(offset // _BLOCK, (stop - 1) // _BLOCK + 1)
        if self._whole is not None or len(numbers) > _BLOCKS:
            return self.ranges([offset], [stop - offset])[0]
        with self._lock:
            missing = [k for k in numbers if k not in self._blocks]
            starts = [k * _BLOCK for k in missing]
            fetched = self.ranges(starts, [min(_BLOCK, self.size - a) for a in starts])
            self._blocks.update(zip(missing, fetched, strict=True))
            for k in numbers:
                self._blocks.move_to_end(k)
            data = b"".join(self._blocks[k] for k in numbers)
            while len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        return data[offset - numbers.start * _BLOCK :][: stop - offset]

    def close(self) -> None:
        if isinstance(self._whole, ByteReader):
            self._whole.close()
        self._blocks.clear()


class _Stream(ByteStream):
    """A stream that reads blocks, which are cached for later reads."""

    source: RemoteBytes

    def fill(self, target: memoryview) -> None:
        target[:] = self.source.read_at(self.at, target.nbytes)


def _merged(offsets: Sequence[int], counts: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last byte of each fetch for ranges, in ascending order; near ranges are merged."""
    spans = sorted((o, o + n) for o, n in zip(offsets, counts, strict=True))
    merged: list[list[int]] = []
    for start, stop in spans:
        if start == stop:
            continue
        if merged and start - merged[-1][1] <= _GAP:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return [(a, b) for a, b in merged]


def _checked(data: bytes, wanted: int, start: int) -> bytes:
    if len(data) != wanted:
        raise ConnectionError(f"got {len(data)} of {wanted} bytes from byte {start} on")
    return data
