"""ND2 files of a realistic size: a small file, with larger frames in place of its own.

A file is a sequence of chunks, each with a magic number, the lengths of its name and of its data, and these two. The
last one maps the names to their places.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["grown"]

_SMALL = Path(__file__).parents[1] / "files" / "nd2"
_HEAD = struct.Struct("<IIQ")
_MAGIC, _END = 0x0ABECEDA, b"ND2 CHUNK MAP SIGNATURE"


def _chunk(content: bytes, at: int) -> tuple[bytes, bytes]:
    """Name and data of the chunk at a place."""
    _, length, size = _HEAD.unpack_from(content, at)
    start = at + _HEAD.size
    return content[start : start + length], content[start + length : start + length + size]


def _mapped(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and places of the chunks, from the map."""
    at = 0
    while not data.startswith(_END, at):
        stop = data.index(b"!", at) + 1
        yield data[at:stop], struct.unpack_from("<Q", data, stop)[0]
        at = stop + 16


def _resized(attributes: bytes, sizes: dict[str, int]) -> bytes:
    """The attributes of the image with other numbers in their fields."""
    for name, number in sizes.items():
        field = bytes([len(name) + 1]) + f"{name}\0".encode("utf-16-le")
        stop = attributes.index(field) + len(field)
        attributes = attributes[:stop] + struct.pack("<I", number) + attributes[stop + 4 :]
    return attributes


def grown(path: Path, name: str, frames: np.ndarray) -> Path:
    """Write a file whose frames, each of the shape (y, x, channel), replace those of the small file `name`."""
    content = gzip.decompress((_SMALL / f"{name}.nd2.gz").read_bytes())
    _, height, width, channels = frames.shape
    row = width * channels * frames.itemsize
    sizes = {"uiWidth": width, "uiHeight": height, "uiWidthBytes": row, "uiTileWidth": width, "uiTileHeight": height}
    made, places = bytearray(), b""

    def put(title: bytes, data: bytes) -> int:
        at = len(made)
        made.extend(_HEAD.pack(_MAGIC, len(title), len(data)) + title + data)
        return at

    put(*_chunk(content, 0))
    map_title, listed = _chunk(content, struct.unpack("<Q", content[-8:])[0])
    for title, at in _mapped(listed):
        long_title, data = _chunk(content, at)
        if title.startswith(b"ImageDataSeq|"):
            data = data[:8] + frames[int(title[13:-1])].tobytes()  # behind the time
        elif title.startswith(b"ImageAttributesLV"):
            data = _resized(data, sizes)
        places += title + struct.pack("<QQ", put(long_title, data), len(data))
    end = len(made)
    put(map_title, places + _END + b" 0000001!" + struct.pack("<Q", end))
    path.write_bytes(bytes(made))
    return path
