"""Documents inside zip files."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["overwrite_document"]

_CRC_IN_HEADER, _CRC_IN_DIRECTORY = 14, 16  # APPNOTE.TXT of PKWARE, 4.3.7 and 4.3.12


def overwrite_document(path: str, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON document, stored without compression in a zip file, where it is; it may not become longer.

    Parameters
    ----------
    path : str
        Of a zip file.
    name : str
        Of the member.
    change : callable
        Returns the new content for the old one.

    Raises
    ------
    ValueError
        If the new document is longer than the old one.
    """
    with zipfile.ZipFile(path) as archive:
        info, directory = archive.getinfo(name), archive.start_dir
        old = archive.read(info)
        entry = _entry(archive, name)
    new = json.dumps(change(json.loads(old)), separators=(",", ":")).encode()
    if len(new) > len(old) or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"the document {name!r} of {len(old)} bytes has no room for {len(new)}")
    content = new.ljust(len(old))
    crc = struct.pack("<L", zlib.crc32(content))
    with open(path, "r+b") as stream:
        stream.seek(info.header_offset + 26)
        stream.seek(sum(struct.unpack("<HH", stream.read(4))), 1)  # past its name and extra fields
        stream.write(content)
        for place in (info.header_offset + _CRC_IN_HEADER, directory + entry + _CRC_IN_DIRECTORY):
            stream.seek(place)
            stream.write(crc)


def _entry(archive: zipfile.ZipFile, name: str) -> int:
    """Return where in the central directory the entry of a member begins."""
    place = 0
    for info in archive.infolist():
        if info.filename == name:
            break
        place += 46 + len(info.orig_filename.encode()) + len(info.extra) + len(info.comment)
    return place
