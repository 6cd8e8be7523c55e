"""References in kerchunk's Parquet layout: a folder that readers load in parts, for many chunks.

The layout, as ``fsspec.implementations.reference.LazyReferenceMapper`` reads it: all metadata, in Zarr format 2, in one
``.zmetadata``; for each array files ``refs.<k>.parq`` of `RECORD` rows, one a chunk in C order, with the columns
``path``, ``offset``, ``size`` and ``raw``. Zarr format 3 is translated if format 2 can express it; else it is refused.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from intake_img.doors.reference_chunks import chunks_of, joined
from intake_img.errors import CannotWriteError
from intake_img.formats.omezarr.version2 import array_of_version_3
from intake_img.model.packages import imported

__all__ = ["RECORD", "write_parquet"]

RECORD = 10_000
"""Rows of a file."""
_VERSION_2 = (".zarray", ".zattrs", ".zgroup")


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
    counts = {os.path.dirname(k): _counts(v) for k, v in metadata.items() if os.path.basename(k) == ".zarray"}
    for name, chunks in chunks_of(references, counts).items():
        _write_array(chunks, counts[name], os.path.join(folder, name))
    document = {"zarr_consolidated_format": 1, "metadata": metadata, "record_size": RECORD}
    with open(os.path.join(folder, ".zmetadata"), "w", encoding="utf-8") as stream:
        json.dump(document, stream, ensure_ascii=False)


def _counts(array: Mapping[str, Any]) -> list[int]:
    return [-(-n // c) for n, c in zip(array["shape"], array["chunks"], strict=True)]


def _metadata(references: Mapping[str, Any]) -> dict[str, Any]:
    """Return the documents of Zarr format 2, by their keys."""
    found: dict[str, Any] = {}
    for key, text in references.items():
        name, document = os.path.split(key)
        if document in _VERSION_2:
            found[key] = json.loads(text)
        elif document == "zarr.json":
            found |= {joined(name, k): v for k, v in _translated(name, json.loads(text)).items()}
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


def _write_array(chunks: Mapping[tuple[int, ...], Any], counts: Sequence[int], folder: str) -> None:
    pa = imported("pyarrow", "parquet", "references in Parquet")
    import pyarrow.parquet as pq

    os.makedirs(folder, exist_ok=True)
    in_order = itertools.product(*map(range, counts))
    for record in range(-(-math.prod(counts) // RECORD)):
        rows = [chunks.get(index) for index in itertools.islice(in_order, RECORD)]
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
