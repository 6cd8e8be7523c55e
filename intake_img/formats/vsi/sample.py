"""A tiny VSI for the conformance suite: a tree of tags and a file of uncompressed tiles, both written by hand.

The tree has what slideio asks for and no more: an image with its frame, whose pixels are in another file (tags 2053
and 20005), resolution (2019), and two dimensions: z with its step (2007, 2013) and channels with their names (2419).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["write_sample"]

_NUMBER, _BOOLEAN, _DOUBLE, _TEXT, _RECTANGLE, _PAIR, _NAME = 5, 12, 10, 13, 0x103, 0x104, 0x2000
_MICRON = "10^-6m^1".encode("utf-16-le")
_INLINE, _VOLUME, _INDEXED, _PLAIN = 0x40000000, 0x90000000, 0x98000000, 402

Node = tuple[int, int, "int | None", bytes, "int | None"]  # type, tag, index, content, size


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write a VSI of two channels, three planes and two by two tiles; see `Format.sample`."""
    values = np.arange(2 * 3 * 20 * 24, dtype="<u2").reshape(2, 3, 20, 24)
    path = os.path.join(folder, "sample.vsi")
    page = b"".join(struct.pack("<HHII", *tag) for tag in _overview(at=8))
    tree = _tree()
    with open(path, "wb") as stream:
        end = 8 + len(tree)
        stream.write(b"II*\0" + struct.pack("<I", end) + tree + struct.pack("<H", 9) + page + bytes(4))
    os.makedirs(f"{folder}/_sample_/stack1")
    with open(f"{folder}/_sample_/stack1/frame_t_0.ets", "wb") as stream:
        stream.write(_ets(values, 10, 12))
    coords: dict[str, Any] = {
        a: (a, step * np.arange(n), {"units": "µm", "spacing": step})
        for a, n, step in (("z", 3, 2.0), ("y", 20, 0.25), ("x", 24, 0.25))
    }
    return path, xr.Dataset({"image": (tuple("czyx"), values)}, {**coords, "c": ["DAPI", "GFP"]})


def _overview(at: int) -> list[tuple[int, int, int, int]]:
    """Return the tags of a TIFF page of one grey pixel."""
    return [
        (256, 3, 1, 1),
        (257, 3, 1, 1),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, at),
        (277, 3, 1, 1),
        (278, 3, 1, 1),
        (279, 4, 1, 1),
    ]


def _tree() -> bytes:
    unit = _leaf(_TEXT, 268435456, _MICRON)
    step = _leaf(_DOUBLE, 268435458, struct.pack("<d", 2.0))
    names = [
        _volume(
            _INDEXED | 1, 2008, k, [_inline(_NUMBER, 2023, 4), _leaf(_NAME, 2419, name.encode("utf-16-le"))], _PLAIN
        )
        for k, name in enumerate(("DAPI", "GFP"))
    ]
    frame = [_leaf(_RECTANGLE, 2053, struct.pack("<4i", 0, 0, 24, 20)), _inline(_BOOLEAN, 20005, 1)]
    resolution = [_leaf(_PAIR, 2019, struct.pack("<2d", 0.25, 0.25)), _leaf(_TEXT, 2020, _MICRON)]
    depth = [_volume(_VOLUME | 2, 2013, None, [unit, step], _PLAIN), _inline(_NUMBER, 2023, 1)]
    image = [
        _volume(_INDEXED, 2002, 0, [_volume(_VOLUME | 1, 2018, None, frame, _PLAIN)], 1),
        _volume(_VOLUME | 1, 2005, None, resolution, _PLAIN),
        _volume(_INDEXED, 2007, 1, [_volume(_INDEXED | 1, 2008, 0, depth, _PLAIN)], 1),
        _volume(_INDEXED, 2007, 2, names, 1),
    ]
    return _serialised([_volume(_INDEXED, 2000, 0, [_volume(_INDEXED, 2001, 1, image, 1)], 1)], _PLAIN)


def _leaf(kind: int, tag: int, content: bytes) -> Node:
    return kind, tag, None, content, len(content)


def _inline(kind: int, tag: int, value: int) -> Node:
    return _INLINE | kind, tag, None, b"", value


def _volume(kind: int, tag: int, index: int | None, children: Sequence[Node], make: int) -> Node:
    return kind, tag, index, _serialised(children, make), 0 if index is None or kind & 1 else None


def _serialised(nodes: Sequence[Node], make: int) -> bytes:
    out = struct.pack("<HHIQII", 24, 21321, make, 24, len(nodes), 0)
    for k, (kind, tag, index, content, size) in enumerate(nodes):
        more = b"" if index is None else struct.pack("<i", index)
        end = len(out) + 16 + len(more) + len(content)
        following = end if k + 1 < len(nodes) else 0
        out += struct.pack("<IiII", kind, tag, following, end - 20 if size is None else size) + more + content
    return out


def _ets(values: np.ndarray, height: int, width: int) -> bytes:
    """Return a file of uncompressed tiles."""
    tiles = [
        ((x, y, 0, z, c, 0), values[c, z, y * height : (y + 1) * height, x * width : (x + 1) * width].tobytes())
        for c, z, y, x in np.ndindex(*values.shape[:2], values.shape[2] // height, values.shape[3] // width)
    ]
    start, size = 64 + 228, len(tiles[0][1])
    table = start + size * len(tiles)
    head = struct.pack("<4sIIIQIIQII", b"SIS\0", 64, 3, 6, 64, 228, 0, table, len(tiles), 0)
    about = struct.pack("<4s9I", b"ETS\0", 196614, 4, 1, 1, 0, 100, width, height, 1)
    rows = b"".join(struct.pack("<I6iQII", 6, *place, start + k * size, size, 0) for k, (place, _) in enumerate(tiles))
    return head.ljust(64, b"\0") + about.ljust(228, b"\0") + b"".join(data for _, data in tiles) + rows
