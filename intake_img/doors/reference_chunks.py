"""References before they are written: the keys of Zarr stores, and the arrays and chunks to which they belong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from intake_img.storage.files import File

__all__ = ["DOCUMENTS", "Chunks", "Found", "References", "chunks_of", "joined"]

DOCUMENTS = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")
"""Names of files with metadata."""

References = dict[str, Any]
"""Keys of a Zarr store: a text or ``base64:...`` for what is small; ``[url, offset, length]``, or ``[url]``."""

Chunks = dict[tuple[int, ...], Any]
"""References of the chunks of an array, by their indices."""


@dataclass(frozen=True)
class Found:
    """References of one or more images.

    Parameters
    ----------
    references : mapping of str to str or list
    names : tuple of str
        The groups of the images; '' for one image in the root.
    files : mapping of str to File
        The URLs in the references, and the images to which they belong.
    """

    references: Mapping[str, Any]
    names: tuple[str, ...]
    files: Mapping[str, File]

    def look(self, url: str) -> tuple[int, datetime | None]:
        """Return the size of what a reference names, and when it was modified; None if that is unknown."""
        if self.files[url].local:
            found = os.stat(url.removeprefix("file://"))
            return found.st_size, datetime.fromtimestamp(found.st_mtime, UTC)
        fs, _ = self.files[url].filesystem()
        size = int(fs.info(url)["size"])
        try:
            return size, fs.modified(url).astimezone(UTC)
        except NotImplementedError:
            return size, None


def chunks_of(references: Mapping[str, Any], counts: Mapping[str, Sequence[int]]) -> dict[str, Chunks]:
    """Return the references of the chunks of each array.

    Parameters
    ----------
    references : mapping of str to str or list
        Keys of a Zarr store, of format 2 or 3; keys that are neither metadata nor chunks are left out.
    counts : mapping of str to sequence of int
        Names of the arrays, and how many chunks they have along each axis.
    """
    found: dict[str, Chunks] = {name: {} for name in counts}
    keys = {name: _separator(references, name) for name in counts}
    for key, value in references.items():
        name = _array_of(key, counts)
        if name is None:
            continue
        index = _index(key[len(name) + bool(name) :], counts[name], *keys[name])
        if index is not None:
            found[name][index] = value
    return found


def joined(name: str, document: str) -> str:
    """Return the key of a document of an array or group; the root has the name ''."""
    return f"{name}/{document}" if name else document


def _array_of(key: str, arrays: Mapping[str, Any]) -> str | None:
    if os.path.basename(key) in DOCUMENTS:
        return None
    parts = key.split("/")
    names = ("/".join(parts[:k]) for k in range(len(parts) - 1, -1, -1))
    return next((name for name in names if name in arrays), None)


def _separator(references: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the prefix of the chunk keys of an array, and the separator of their numbers."""
    if (document := references.get(joined(name, "zarr.json"))) is None:
        return "", json.loads(references[joined(name, ".zarray")]).get("dimension_separator", ".")
    encoding = json.loads(document)["chunk_key_encoding"]
    given = (encoding.get("configuration") or {}).get("separator")
    return ("", given or ".") if encoding["name"] == "v2" else ("c", given or "/")


def _index(key: str, counts: Sequence[int], prefix: str, separator: str) -> tuple[int, ...] | None:
    """Return the indices of a chunk by its key within the array; None if the key is not a chunk."""
    if not key.startswith(prefix):
        return None
    parts = [p for p in key[len(prefix) :].split(separator) if p]
    if not counts:  # the only chunk of a number is 'c', or '0'
        return () if parts in ([], ["0"]) else None
    if len(parts) != len(counts) or not all(p.isdecimal() for p in parts):
        return None
    index = tuple(map(int, parts))
    return index if all(k < n for k, n in zip(index, counts, strict=True)) else None
