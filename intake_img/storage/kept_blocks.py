"""Blocks of remote files kept on the disk, each a file of its own, for any number of threads and processes.

A block is renamed into place when it is complete, and its folder is named after the URL and the version of the file:
what several processes write at the same time is equal, and blocks of an older version are never read.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["BLOCK", "BlockFolder"]

BLOCK = 2**18
"""Bytes of a block; 4000 blocks are 1 GB."""

Span = tuple[int, int]


class BlockFolder:
    """The blocks of one version of one file.

    Parameters
    ----------
    folder : str
        The folder of the cache.
    identity : str
        URL and version of the file.
    size : int
        Bytes of the file.
    fetch : callable
        Returns the bytes of spans, which are given as first and last byte in ascending order.
    """

    def __init__(
        self, folder: str, identity: str, size: int, fetch: Callable[[Sequence[Span]], Sequence[bytes]]
    ) -> None:
        name = hashlib.sha256(identity.encode()).hexdigest()
        self.folder, self.size, self.fetch = Path(folder, name[:2], name), size, fetch

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the bytes of spans; missing blocks are fetched together."""
        numbers = sorted({k for start, stop in spans for k in range(start // BLOCK, -(-stop // BLOCK))})
        blocks = {k: self._kept(k) for k in numbers}
        fetched = self._fetched([k for k, block in blocks.items() if block is None])
        known = {**{k: block for k, block in blocks.items() if block is not None}, **fetched}
        return [_cut(known, start, stop) for start, stop in spans]

    def _kept(self, number: int) -> bytes | None:
        try:
            block = (self.folder / str(number)).read_bytes()
        except FileNotFoundError:
            return None
        return block if len(block) == self._length(number) else None

    def _length(self, number: int) -> int:
        return min(BLOCK, self.size - number * BLOCK)

    def _fetched(self, missing: Sequence[int]) -> dict[int, bytes]:
        runs: list[list[int]] = []
        for number in missing:
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        spans = [(run[0] * BLOCK, run[-1] * BLOCK + self._length(run[-1])) for run in runs]
        found = {}
        for run, data in zip(runs, self.fetch(spans) if spans else (), strict=True):
            for k, number in enumerate(run):
                found[number] = data[k * BLOCK : (k + 1) * BLOCK]
                self._keep(number, found[number])
        return found

    def _keep(self, number: int, block: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(block)
            os.replace(temporary, self.folder / str(number))
        except BaseException:
            os.unlink(temporary)
            raise


def _cut(blocks: dict[int, bytes], start: int, stop: int) -> bytes:
    first = start // BLOCK
    data = b"".join(blocks[k] for k in range(first, -(-stop // BLOCK)))
    return data[start - first * BLOCK : stop - first * BLOCK]
