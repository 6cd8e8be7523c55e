"""The files with the pixels of a VSI, ``.ets``: where they are, and whether they are complete.

Layout, as Bio-Formats' CellSensReader reads it: 64 bytes that begin with ``SIS\\0`` and say where two more headers are,
that of the tiles (``ETS\\0``) and the table of chunks, whose entries end with the offset and length of a tile.
"""

from __future__ import annotations

import glob
import os
import struct

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.files import File

__all__ = ["check_ets", "find_ets", "folder_of"]

_HEAD = struct.Struct("<4sIIIQIIQII")
_MOST_DIMENSIONS = 16
_MOST_SIDE = 2**20  # pixels of a tile


def folder_of(file: File) -> File:
    """Return the folder beside a VSI in which its pixels are."""
    return file.sibling(f"_{file.name.rpartition('.')[0]}_")


def find_ets(file: File) -> list[File]:
    """Return the files that contain the pixels of a VSI.

    Raises
    ------
    FormatError
        If there are none; the message names the folder where they should be.
    """
    folder = folder_of(file)
    found = sorted(glob.glob(f"{glob.escape(folder.path)}/stack*/frame_t*.ets"))
    if found:
        return [file.at(path) for path in found]
    what = "which contains no stack*/frame_t*.ets" if os.path.isdir(folder.path) else "which is missing"
    raise FormatError(
        f"{file}: the pixels of a VSI are in the folder {folder.name} beside it, {what}: copy the folder to "
        f"{folder.parent} with all its files. The VSI alone contains a small overview, which intake.open_tif(uri) reads"
    )


def check_ets(file: File) -> None:
    """Raise `FormatError` if a file with pixels is damaged, before a library reads what its headers point to."""
    source = file.open()
    try:
        if source.size < _HEAD.size:
            raise FormatError(f"{file} has {source.size} bytes: it is truncated")
        magic, _, _, dims, tiles, _, _, table, count, _ = _HEAD.unpack(source.ranges([0], [_HEAD.size])[0])
        entry = 20 + 4 * dims
        if magic != b"SIS\0" or not 2 <= dims <= _MOST_DIMENSIONS or table + count * entry > source.size:
            raise FormatError(f"{file} begins with {magic!r} and names {count} tiles at byte {table}: it is damaged")
        about = struct.unpack("<4s9I", source.ranges([tiles], [40])[0])
        if about[0] != b"ETS\0" or not 0 < min(about[7:9]) <= max(about[7:9]) <= _MOST_SIDE:
            raise FormatError(f"{file}: its tiles are {about[8]} x {about[7]} pixels: it is damaged")
        layout = np.dtype([("skip", "V", 4 + 4 * dims), ("offset", "<u8"), ("length", "<u4"), ("more", "V", 4)])
        rows = np.frombuffer(source.ranges([table], [count * entry])[0], layout)
        if count and (rows["offset"] + rows["length"]).max() > source.size:
            raise FormatError(f"{file} ends at byte {source.size}, before some of its tiles: it is truncated")
    finally:
        source.close()
