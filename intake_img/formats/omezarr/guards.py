"""Guards of Zarr stores: which metadata were read and whether they changed, and limits on what they may ask for.

Nothing here knows what groups and attributes mean.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import zipfile
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from intake_img.errors import FormatError
from intake_img.storage.files import File

__all__ = ["MOST_METADATA", "Journal", "check_chunk", "checked_member", "document_digest", "with_found_separator"]

MOST_METADATA = 2**26
"""The most bytes that one metadata document may have, inflated."""
_LARGE_CHUNK = 2**28
_MOST_RATIO = 64

_Stat = tuple[int, int, int] | None


class Journal:
    """The metadata files of a local store that were looked at, present or absent, and what they looked like then.

    Parameters
    ----------
    file : File
        The store, for messages.
    root : str or None
        Its folder; None for other stores, of which nothing is recorded.
    """

    def __init__(self, file: File, root: str | None) -> None:
        self._file, self._root = file, root
        self._seen: dict[str, _Stat] = {}

    def stat(self, path: str) -> _Stat:
        """Return modification time, size and inode of a file or folder of the store now; None if it is absent."""
        try:
            found = os.stat(os.path.join(self._root or "", path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def look(self, path: str) -> _Stat:
        """Record a file that is about to be read, and return its `stat`.

        Raises
        ------
        FormatError
            If it is no regular file, or has more than `MOST_METADATA` bytes.
        """
        if self._root is None:
            return None
        try:
            found = os.stat(os.path.join(self._root, path))
        except (FileNotFoundError, NotADirectoryError):
            self._seen.setdefault(path, None)
            return None
        if not stat.S_ISREG(found.st_mode):
            raise FormatError(f"{self._file}: {path!r} is not a regular file; expected a metadata document")
        _check_size(found.st_size, path, self._file)
        return self._seen.setdefault(path, (found.st_mtime_ns, found.st_size, found.st_ino))

    def look_at_folder(self, path: str) -> None:
        """Record a folder that is about to be listed."""
        self._seen.setdefault(path, self.stat(path))

    def changed(self) -> bool:
        """Return whether anything recorded looks different now."""
        return any(self.stat(path) != before for path, before in list(self._seen.items()))

    def clear(self) -> None:
        self._seen.clear()


def checked_member(info: zipfile.ZipInfo, file: File) -> zipfile.ZipInfo:
    """Return a member of a zip file, or raise `FormatError` if it inflates to more than `MOST_METADATA` bytes."""
    _check_size(info.file_size, info.filename, file)
    return info


def _check_size(nbytes: int, path: str, file: File) -> None:
    if nbytes > MOST_METADATA:
        raise FormatError(
            f"{file}: the metadata document {path!r} has {nbytes / 2**20:.0f} MiB; at most {MOST_METADATA >> 20} MiB "
            "are read"
        )


def check_chunk(array: Any, name: str) -> None:
    """Raise `FormatError` if a chunk of an array is large, and many times as large as the array itself.

    Reading a pixel would allocate the complete chunk.
    """
    try:
        chunk = math.prod(array.chunks)
    except NotImplementedError:  # chunks of unequal lengths add up to the array's
        return
    nbytes = chunk * array.dtype.itemsize
    if nbytes > max(_LARGE_CHUNK, _MOST_RATIO * array.nbytes):
        raise FormatError(
            f"{name} has shape {array.shape} but chunks of shape {array.chunks} ({nbytes / 2**30:.3g} GiB each): a "
            f"chunk of more than {_LARGE_CHUNK >> 20} MiB may be at most {_MOST_RATIO} times as large as its array; "
            "write the array again with smaller chunks"
        )


def document_digest(array: Any) -> Hashable:
    """Return a hash of the metadata of an array, as they were read."""
    facts = array.metadata.to_dict()
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def with_found_separator(array: Any, folder: str | None) -> Any:
    """Return an array of Zarr format 2 with the chunk separator that its keys have.

    Writers of nested stores used to leave out ``dimension_separator``, which then means ``"."``: all chunks would seem
    to be missing. In a local folder the first chunk that is listed decides, in other stores the one at the origin.

    Parameters
    ----------
    array : zarr.Array
    folder : str or None
        The local folder of the array, if it is one.
    """
    metadata = array.metadata
    if metadata.zarr_format != 2 or array.ndim < 2 or metadata.dimension_separator != ".":
        return array
    nested = _nested_folder(folder) if folder is not None else _nested_store(array)
    if not nested:
        return array
    from zarr import Array, AsyncArray

    described = replace(metadata, dimension_separator="/")
    return Array(AsyncArray(described, store_path=array.store_path, config=array.async_array.config))


def _nested_folder(folder: str) -> bool:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[:1].isdigit():
                return entry.name.isdigit() and entry.is_dir()
    return False


def _nested_store(array: Any) -> bool:
    from zarr.core.sync import sync

    def there(separator: str) -> bool:
        return bool(sync((array.store_path / separator.join("0" * array.ndim)).exists()))

    return not there(".") and there("/")
