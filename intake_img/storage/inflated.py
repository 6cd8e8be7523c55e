"""Random access into a compressed stream: gzip, zlib, deflate (members of zip archives) and bzip2.

A stream is decompressed once from its beginning, up to the requested offset. Every few MiB the state of the decoder is
kept (RFC 1951: a window of 32 KiB), so that a later read can begin there; recently decompressed blocks are in the cache
that all files share. A bzip2 decoder has no such states: its output is kept in memory, and beyond some MiB in an
unnamed temporary file.

Mark Adler's zran (https://github.com/madler/zlib/blob/develop/examples/zran.c) describes the idea.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.byte_readers import ByteReader, ByteStream
from intake_img.storage.cache import Shelf
from intake_img.storage.spill import SpillingMemory

__all__ = ["Inflated"]

_BLOCK = 2**22  # bytes between two states
_PIECE = (
    2**18
)  # compressed bytes that are read at a time; a quarter for local files, since each state keeps its unused input
_WBITS = {"gzip": zlib.MAX_WBITS | 16, "zlib": zlib.MAX_WBITS, "deflate": -zlib.MAX_WBITS}
_HELD = 2**26  # bytes of a bzip2 stream held in memory


@dataclass(frozen=True)
class _State:
    """The state of a decoder: the offset of the next compressed byte, and the decoder, which is not shared."""

    at: int
    decoder: Any


class Inflated(ByteReader):
    """The decompressed bytes of a stream in a file.

    Parameters
    ----------
    source : ByteReader
        The file.
    kind : {"gzip", "zlib", "deflate", "bzip2"}
        Several gzip or bzip2 streams may follow each other; bytes after the last one are ignored.
    offset, count : int, optional
        Position of the stream in the file; by default from `offset` to the end.
    size : int, optional
        Number of decompressed bytes, if known; else it is found by decompressing everything when it is first requested.
    checksum : int, optional
        The CRC-32 of these bytes (zip keeps it outside of the stream; gzip's own is verified anyway).
    """

    slack = _BLOCK

    def __init__(
        self,
        source: ByteReader,
        kind: Literal["gzip", "zlib", "deflate", "bzip2"],
        offset: int = 0,
        count: int | None = None,
        *,
        size: int | None = None,
        checksum: int | None = None,
    ) -> None:
        super().__init__(source.file)
        self.source, self.kind, self.checksum = source, kind, checksum
        self._start, self._stop = offset, source.size if count is None else offset + count
        self._known, self._sum = size, 0
        self._lock = threading.RLock()
        self._shelf = Shelf()
        self._states: list[_State | None] = [_State(offset, self._decoder())]  # at the beginning of each block
        self._length = 0  # inflated so far, from the beginning
        self._held: list[np.ndarray] = []  # for bzip2
        self._failure: str | None = None  # for bzip2
        self._memory = SpillingMemory(_HELD)

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of inflated bytes."""
        with self._lock:
            if self._known is None:
                while self._states[-1] is not None:
                    self._advance()
                self._known = self._length
            return self._known

    def reaches(self, offset: int) -> bool:
        """Return whether there are bytes at `offset` or beyond; decompresses only up to there."""
        try:
            return bool(self._block(offset // _BLOCK).size > offset % _BLOCK)
        except FormatError:
            return False

    def _decoder(self) -> Any:
        return bz2.BZ2Decompressor() if self.kind == "bzip2" else zlib.decompressobj(_WBITS[self.kind])

    # blocks

    def _block(self, number: int) -> np.ndarray:
        """Return an inflated block, of uint8; the last one may be shorter than `_BLOCK`."""
        found = self._kept(number)
        if found is not None:
            return found
        with self._lock:
            if (found := self._kept(number)) is not None:
                return found
            while len(self._states) <= number + 1:
                if self._states[-1] is None:
                    raise self._ends(self._length)
                block = self._advance()
                if len(self._states) == number + 2:
                    return block
            state = self._states[number]
        assert state is not None
        block, _ = self._step(_State(state.at, state.decoder.copy()))
        self._shelf.put(number, block)
        return block

    def _kept(self, number: int) -> np.ndarray | None:
        if self.kind == "bzip2":
            return self._held[number] if number < len(self._held) else None
        return self._shelf.get(number)

    def _advance(self) -> np.ndarray:
        """Inflate the next block; the lock is held."""
        state = self._states[-1]
        assert state is not None
        if self.kind == "bzip2":
            block, after = self._uncopied(state)
        else:
            block, after = self._step(_State(state.at, state.decoder.copy()))
        self._verify(block, after is None)
        self._keep(len(self._states) - 1, block)
        self._states.append(after)
        return block

    def _uncopied(self, state: _State) -> tuple[np.ndarray, _State | None]:
        """Return what `_step` returns. The decoder has no copies: after a failure it is of no use."""
        if self._failure is not None:
            raise FormatError(self._failure)
        try:
            return self._step(state)
        except FormatError as exc:
            self._failure = str(exc)
            raise
        except BaseException:  # of the file, which may be read again: start over
            self._states, self._length, self._sum = [_State(self._start, self._decoder())], 0, 0
            raise

    def _keep(self, number: int, block: np.ndarray) -> None:
        if self.kind != "bzip2":
            self._shelf.put(number, block)
        elif number == len(self._held):
            held = self._memory.empty(block.shape, block.dtype)
            held[...] = block
            self._held.append(held)

    def _verify(self, block: np.ndarray, last: bool) -> None:
        """Count a block that was just inflated; raise `FormatError`, and count nothing, if it cannot be the last."""
        length = self._length + block.size
        found = self._sum if self.checksum is None else zlib.crc32(block.data, self._sum)
        if last and self._known is not None and length < self._known:
            raise self._ends(length)
        if last and self.checksum is not None and found != self.checksum:
            raise FormatError(
                f"{self.file}: the checksum of compressed data is {found:#010x}, the file says "
                f"{self.checksum:#010x}: it is damaged"
            )
        self._length, self._sum = length, found

    def _ends(self, length: int) -> FormatError:
        return FormatError(
            f"{self.file}: compressed data end after {length} bytes, and more were expected: it is truncated or damaged"
        )

    def _step(self, state: _State) -> tuple[np.ndarray, _State | None]:
        """Return the next block and the state of the decoder after it; None at the end of the data."""
        decoder, at, parts, missing = state.decoder, state.at, [], _BLOCK
        fed = b""
        while missing:
            part, fed = self._decoded(decoder, fed, missing)
            parts.append(part)
            missing -= len(part)
            if decoder.eof:
                at -= len(decoder.unused_data)
                fed = b""
                if not self._another(at):
                    return self._joined(parts), None
                decoder = self._decoder()
            elif not part and not fed:
                fed = self._piece(at)
                at += len(fed)
        return self._joined(parts), _State(at - len(fed), decoder)

    def _decoded(self, decoder: Any, fed: bytes, most: int) -> tuple[bytes, bytes]:
        try:
            part = decoder.decompress(fed, most)
        except (zlib.error, OSError, EOFError) as exc:
            raise FormatError(f"{self.file}: compressed data are damaged: {exc}") from exc
        return part, b"" if self.kind == "bzip2" else decoder.unconsumed_tail

    def _piece(self, at: int) -> bytes:
        count = min(_PIECE // 4 if self.file.local else _PIECE, self._stop - at)
        if count <= 0:
            raise FormatError(f"{self.file}: ends within compressed data: it is truncated or damaged")
        return self.source.ranges([at], [count])[0]

    def _another(self, at: int) -> bool:
        """Whether another stream follows."""
        magic = {"gzip": b"\x1f\x8b", "bzip2": b"BZh"}.get(self.kind)
        if magic is None or at + len(magic) > self._stop:
            return False
        return self.source.ranges([at], [len(magic)])[0] == magic

    @staticmethod
    def _joined(parts: Sequence[bytes]) -> np.ndarray:
        return np.frombuffer(b"".join(parts), np.uint8)

    # the interface of a ByteReader

    def ranges(self, offsets: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        return [self._bytes(offset, count) for offset, count in zip(offsets, counts, strict=True)]

    def _bytes(self, offset: int, count: int) -> bytes:
        return b"".join(part.tobytes() for part in self._parts(offset, count))

    def _parts(self, offset: int, count: int) -> Iterator[np.ndarray]:
        if offset < 0 or count < 0 or (self._known is not None and offset + count > self._known):
            self._check(offset, count)
        stop = offset + count
        while offset < stop:
            number, first = divmod(offset, _BLOCK)
            part = self._block(number)[first : first + stop - offset]
            if not part.size:
                raise self._ends(self._length)
            yield part
            offset += part.size

    def read_into(self, offset: int, out: memoryview) -> None:
        target, done = np.frombuffer(out, np.uint8), 0
        for part in self._parts(offset, target.size):
            target[done : done + part.size] = part
            done += part.size

    @contextlib.contextmanager
    def window(self, offset: int, count: int) -> Iterator[memoryview]:
        parts = list(self._parts(offset, count))
        yield parts[0].data if len(parts) == 1 else memoryview(b"".join(p.tobytes() for p in parts))

    def stream(self) -> IO[bytes]:
        return io.BufferedReader(ByteStream(self))

    def close(self) -> None:
        self._shelf.clear()
        self._held.clear()
        self.source.close()
