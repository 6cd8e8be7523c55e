"""References in kerchunk's Parquet layout: a folder that readers load in parts, for many chunks.

The layout, as ``fsspec.implementations.reference.LazyReferenceMapper`` reads it: all metadata, in Zarr format 2, in one
``.zmetadata``; for each array files ``refs.<k>.parq`` of `RECORD` rows, one a chunk in C order, with the columns
``path``, ``offset``, ``size`` and ``raw``. Zarr format 3 is translated if format 2 can express it; else it is refused.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from intake_img.errors import CannotWriteError, MissingExtraError
from intake_img.formats.omezarr.version2 import array_of_version_3

__all__ = ["RECORD", "write_parquet"]

RECORD = 10_000
"""Rows of a file."""
_VERSION_2 = (".zarray", ".zattrs", ".zgroup")

Chunks = dict[int, Any]
"""References of an array by the number of the chunk, in C order."""


def write_parquet(references: Mapping[str, Any], folder: str) -> None:
    """Write references into an empty folder.

    Parameters
    ----------
    references : mapping of str to str or list
        Keys of a Zarr store; texts, or ``[url]`` or ``[url, offset, length]``. Files that are neither metadata nor
        chunks are left out, since the layout does not support them.
    folder : str

    Raises
    ------
    CannotWriteError
        If an array cannot be expressed in Zarr format 2.
    """
    metadata = _metadata(references)
    arrays = {os.path.dirname(k): _Grid(v) for k, v in metadata.items() if os.path.basename(k) == ".zarray"}
    chunks: dict[str, Chunks] = {name: {} for name in arrays}
    keys = {name: _separator(references, name) for name in arrays}
    for key, value in references.items():
        name = _array_of(key, arrays)
        number = None if name is None else arrays[name].number(key[len(name) + bool(name) :], *keys[name])
        if name is not None and number is not None:
            chunks[name][number] = value
    for name, grid in arrays.items():
        _write_array(chunks[name], grid.count, os.path.join(folder, name))
    document = {"zarr_consolidated_format": 1, "metadata": metadata, "record_size": RECORD}
    with open(os.path.join(folder, ".zmetadata"), "w", encoding="utf-8") as stream:
        json.dump(document, stream, ensure_ascii=False)


class _Grid:
    """The chunks of an array."""

    def __init__(self, array: dict[str, Any]) -> None:
        self.shape = [-(-n // c) for n, c in zip(array["shape"], array["chunks"], strict=True)]
        self.count = math.prod(self.shape)

    def number(self, key: str, prefix: str, separator: str) -> int | None:
        """Return the number of a chunk by its key within the array; None if the key is not a chunk."""
        if not key.startswith(prefix):
            return None
        parts = [p for p in key[len(prefix) :].split(separator) if p]
        if not self.shape:  # the only chunk of a number is 'c', or '0'
            return 0 if parts in ([], ["0"]) else None
        if len(parts) != len(self.shape) or not all(p.isdecimal() for p in parts):
            return None
        at = 0
        for part, n in zip(parts, self.shape, strict=True):
            if int(part) >= n:
                return None
            at = at * n + int(part)
        return at


def _array_of(key: str, arrays: Mapping[str, Any]) -> str | None:
    if os.path.basename(key) in (*_VERSION_2, ".zmetadata", "zarr.json"):
        return None
    parts = key.split("/")
    names = ("/".join(parts[:k]) for k in range(len(parts) - 1, -1, -1))
    return next((name for name in names if name in arrays), None)


def _separator(references: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the prefix of the chunk keys of an array, and the separator of their numbers."""
    if (document := references.get(_join(name, "zarr.json"))) is None:
        return "", json.loads(references[_join(name, ".zarray")]).get("dimension_separator", ".")
    encoding = json.loads(document)["chunk_key_encoding"]
    given = (encoding.get("configuration") or {}).get("separator")
    return ("", given or ".") if encoding["name"] == "v2" else ("c", given or "/")


def _join(name: str, document: str) -> str:
    return f"{name}/{document}" if name else document


def _metadata(references: Mapping[str, Any]) -> dict[str, Any]:
    """Return the documents of Zarr format 2, by their keys."""
    found: dict[str, Any] = {}
    for key, text in references.items():
        name, document = os.path.split(key)
        if document in _VERSION_2:
            found[key] = json.loads(text)
        elif document == "zarr.json":
            found |= {_join(name, k): v for k, v in _translated(name, json.loads(text)).items()}
    for array in (v for k, v in found.items() if os.path.basename(k) == ".zarray"):
        array["dimension_separator"] = "."  # the only one that the layout supports
    return found


def _translated(name: str, document: dict[str, Any]) -> dict[str, Any]:
    attributes = document.get("attributes") or {}
    if document["node_type"] == "group":
        return {".zgroup": {"zarr_format": 2}, ".zattrs": attributes}
    try:
        array = array_of_version_3(document)
    except CannotWriteError as exc:
        raise CannotWriteError(
            f"the array {name!r} {exc}, which references in Parquet cannot express: write them to a .json file"
        ) from None
    if all(document.get("dimension_names") or [None]):
        attributes = {"_ARRAY_DIMENSIONS": document["dimension_names"], **attributes}
    return {".zarray": array, ".zattrs": attributes}


def _write_array(chunks: Chunks, count: int, folder: str) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtraError("pyarrow", "parquet", "references in Parquet") from exc
    os.makedirs(folder, exist_ok=True)
    for record in range(-(-count // RECORD)):
        rows = [chunks.get(k) for k in range(record * RECORD, min(count, (record + 1) * RECORD))]
        table = pa.table(_columns(pa, rows))
        pq.write_table(table, os.path.join(folder, f"refs.{record}.parq"), compression="zstd", write_statistics=False)


def _columns(pa: Any, rows: Sequence[Any]) -> dict[str, Any]:
    """Return the columns of a file; for a missing chunk all are null or 0."""
    places = [row if isinstance(row, list) else [None] for row in rows]
    columns = {
        "path": pa.array([p[0] for p in places], pa.string()).dictionary_encode(),
        "offset": pa.array([p[1] if len(p) > 1 else 0 for p in places], pa.int64()),
        "size": pa.array([p[2] if len(p) > 1 else 0 for p in places], pa.int64()),
    }
    if any(isinstance(row, str) for row in rows):
        columns["raw"] = pa.array([_bytes(row) if isinstance(row, str) else None for row in rows], pa.binary())
    return columns


def _bytes(text: str) -> bytes:
    return base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode()
