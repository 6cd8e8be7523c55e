"""Headers of OpenEXR files: the parts, and the window, type and sampling of their channels.

Source: "OpenEXR File Layout", openexr.com. The library reports types only of channels that it has read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from intake_img.errors import FormatError

__all__ = ["ExrChannel", "Part", "parts_of"]

_MULTIPART, _DEEP = 0x1000, 0x800
_TYPES = {0: "u4", 1: "f2", 2: "f4"}
_LONGEST = 2**24  # bytes of a header


class ExrChannel(NamedTuple):
    """A channel: its type, and of how many columns and rows it stores one."""

    name: str
    dtype: str
    across: int
    down: int


@dataclass(frozen=True)
class Part:
    """One image of a file.

    Attributes
    ----------
    window : tuple of int
        First column and row, last column and row: the data window.
    texts : dict of str to bytes
        Attributes that are strings.
    """

    name: str
    window: tuple[int, int, int, int]
    channels: tuple[ExrChannel, ...]
    texts: dict[str, bytes]

    def size(self, channel: ExrChannel) -> tuple[int, int]:
        """Rows and columns of a channel: rows and columns of the window whose number is a multiple of the sampling."""
        left, top, right, bottom = self.window
        spans = ((top, bottom, channel.down), (left, right, channel.across))
        return tuple(last // step - -(-first // step) + 1 for first, last, step in spans)  # type: ignore[return-value]


def parts_of(data: bytes) -> list[Part]:
    """Return the parts of a file.

    Raises
    ------
    FormatError
        If the header is cut off or damaged, or the file contains deep images.
    """
    try:
        version = struct.unpack_from("<I", data, 4)[0]
        if version & _DEEP:
            raise FormatError("deep images, of many samples a pixel, are not read")
        at = 8
        found: list[Part] = []
        while data[at] != 0:
            attributes, at = _attributes(data, at)
            found.append(_part(attributes, len(found)))
            if not version & _MULTIPART:
                break
    except (struct.error, IndexError, KeyError, ValueError) as exc:
        if isinstance(exc, FormatError):
            raise
        raise FormatError(f"the header is truncated or damaged ({type(exc).__name__}: {exc})") from exc
    if not found:
        raise FormatError("the file contains no image")
    return found


def _attributes(data: bytes, at: int) -> tuple[dict[str, tuple[str, bytes]], int]:
    found: dict[str, tuple[str, bytes]] = {}
    while data[at] != 0:
        name, at = _word(data, at)
        kind, at = _word(data, at)
        (count,) = struct.unpack_from("<I", data, at)
        if at + 4 + count > min(len(data), _LONGEST):
            raise ValueError(f"the attribute {name!r} ends beyond the file")
        found[name] = (kind, data[at + 4 : at + 4 + count])
        at += 4 + count
    return found, at + 1


def _word(data: bytes, at: int) -> tuple[str, int]:
    stop = data.index(b"\0", at, at + 256)
    return data[at:stop].decode("latin1"), stop + 1


def _part(attributes: dict[str, tuple[str, bytes]], number: int) -> Part:
    window = struct.unpack("<4i", attributes["dataWindow"][1])
    channels = tuple(_channels(attributes["channels"][1]))
    texts = {name: value for name, (kind, value) in attributes.items() if kind == "string"}
    part = Part(texts.get("name", str(number).encode()).decode("utf-8", "replace"), window, channels, texts)
    if not channels or any(c.across < 1 or c.down < 1 or min(part.size(c)) < 1 for c in channels):
        raise ValueError(f"the data window {window} contains no pixels of a channel")
    return part


def _channels(data: bytes) -> list[ExrChannel]:
    found, at = [], 0
    while data[at] != 0:
        name, at = _word(data, at)
        kind, _, across, down = struct.unpack_from("<iIii", data, at)
        found.append(ExrChannel(name, _TYPES[kind], across, down))
        at += 16
    return found
