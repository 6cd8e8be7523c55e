"""Stamps of the metadata of a store that were read, to detect changes.

Nothing here knows what groups and attributes mean, nor refuses anything: whoever opens a file checks it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable
from typing import Any

from intake_img.formats.omezarr.keys import METADATA_FILES
from intake_img.formats.omezarr.store import is_zip
from intake_img.storage.files import File

__all__ = ["MetadataStamps", "document_digest", "root_stamp"]

_Stat = tuple[int, int, int] | None


class MetadataStamps:
    """The metadata files of a local store that were looked at, present or absent, and what they looked like then.

    Parameters
    ----------
    root : str or None
        The folder of the store; None for other stores, which are not recorded.
    """

    def __init__(self, root: str | None) -> None:
        self._root = root
        self._seen: dict[str, _Stat] = {}

    def stat(self, path: str) -> _Stat:
        """Return modification time, size and inode of a file or folder of the store now; None if it is absent."""
        try:
            found = os.stat(os.path.join(self._root or "", path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def look(self, path: str) -> _Stat:
        """Record a file or folder that is about to be read, and return what it looked like when it was first."""
        if self._root is None:
            return None
        found = self.stat(path)
        before = self._seen.setdefault(path, found)
        return None if found is None else before

    def changed(self) -> bool:
        """Return whether anything recorded looks different now."""
        return any(self.stat(path) != before for path, before in list(self._seen.items()))

    def clear(self) -> None:
        self._seen.clear()


def document_digest(array: Any) -> Hashable:
    """Return a hash of the metadata of an array, as they were read."""
    facts = array.metadata.to_dict()
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def root_stamp(file: File) -> tuple[Any, ...]:
    """Return what changes when the metadata at the root of a store are written again."""
    if is_zip(file):
        return file.stamp()
    found: list[Any] = [os.stat(file.path).st_ino] if file.local else []
    for name in METADATA_FILES:
        try:
            if not file.local:
                found.append((name, *(file / name).stamp()))
                break
            if os.access(path := f"{file.path}/{name}", os.F_OK):  # an exception costs more than a question
                about = os.stat(path)
                found.append((name, about.st_mtime_ns, about.st_size, about.st_ino))
                if name == "zarr.json":  # this is asked before and after each read, and it hides the others
                    break
        except (FileNotFoundError, NotADirectoryError):
            continue
    return tuple(found)
