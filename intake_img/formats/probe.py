"""What is seen of a file before a format is chosen."""

from __future__ import annotations

import bz2
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from intake_img.storage.files import File

__all__ = ["Probe"]

_INNER = 1024  # bytes


@dataclass(frozen=True)
class Probe:
    """What is seen of a file before a format is chosen: its name, its first bytes, whether it is a folder.

    `seen` holds what one format found out with more effort, for the next ones.
    """

    file: File
    head: bytes
    folder: bool
    seen: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.file.name

    def holds(self, name: str) -> bool:
        """True if the folder holds a file of that name."""
        return self.folder and (self.file / name).exists()

    @cached_property
    def inner(self) -> bytes:
        """The first bytes of what a gzip or bzip2 file holds, inflated when asked for; empty for other files."""
        if self.head.startswith(b"\x1f\x8b"):
            return _inflated(zlib.decompressobj(zlib.MAX_WBITS | 16), self.head)
        if self.head.startswith(b"BZh"):  # a block has to be there as a whole
            return _inflated(bz2.BZ2Decompressor(), self.file.head(2**20))
        return b""


def _inflated(stream: zlib._Decompress | bz2.BZ2Decompressor, head: bytes) -> bytes:
    try:
        return stream.decompress(head, _INNER)
    except (zlib.error, OSError, EOFError):
        return b""
