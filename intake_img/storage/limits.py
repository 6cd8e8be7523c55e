"""Limits for decompressing metadata: opening a small file must not take gigabytes."""

from __future__ import annotations

import zlib
from typing import IO

from intake_img.errors import FormatError

__all__ = ["inflate", "record_limit", "record_of_stream"]

_RECORD_BYTES = 2**25
_RATIO = 20  # texts of numbers compress to a third; texts that compress better are short, or malicious


def record_limit(packed: int) -> int:
    """Return the largest decompressed size that is allowed for `packed` bytes of text."""
    return _RECORD_BYTES + _RATIO * packed


def inflate(data: bytes, what: str) -> bytes:
    """Decompress zlib-compressed data.

    Parameters
    ----------
    data : bytes
    what : str
        Description of the data, for the message.

    Raises
    ------
    FormatError
        If they inflate to more than `record_limit`, or are damaged.
    """
    most = record_limit(len(data))
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, most + 1)
    except zlib.error as exc:
        raise FormatError(f"{what} cannot be inflated ({exc}): it is damaged") from exc
    if len(found) > most:
        raise _too_large(what, len(data), most)
    if not stream.eof:
        raise FormatError(f"{what} ends before its compressed data do: it is truncated")
    return found


def record_of_stream(stream: IO[bytes], packed: int, what: str) -> bytes:
    """Read the rest of a stream that decompresses `packed` bytes; raises the errors of `inflate`."""
    most = record_limit(packed)
    found = stream.read(most + 1)
    if len(found) > most:
        raise _too_large(what, packed, most)
    return found


def _too_large(what: str, packed: int, most: int) -> FormatError:
    return FormatError(
        f"{what} has {packed} bytes and inflates to more than {most / 2**20:.4g} MiB, the most that is read of "
        "metadata: it is damaged, or made to fill the memory"
    )
