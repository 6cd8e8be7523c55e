"""The bytes of the entries of a CZI directory: dimensions by name, read as columns of numbers.

Format: ZEISS, "CZI image file format", DS_ZISRAW-FileFormat.
"""

from __future__ import annotations

import numpy as np

from intake_img.errors import FormatError

__all__ = ["ABSENT", "agree", "column", "dimension_names", "entry_size", "gathered", "records"]

ABSENT = -(2**31)
"""Placeholder for a missing scene or tile number; it sorts first."""
_SCHEMA = int.from_bytes(b"DV", "little")
_FIXED = [
    ("schema", "<u2"),
    ("pixel_type", "<i4"),
    ("position", "<i8"),
    ("part", "<i4"),
    ("compression", "<i4"),
    ("pyramid", "u1"),
    ("spare", "V5"),
    ("dimensions", "<i4"),
]
_DIMENSION = np.dtype([("name", "<u4"), ("start", "<i4"), ("size", "<i4"), ("coordinate", "<f4"), ("stored", "<i4")])
_MOST_DIMENSIONS = 32


def entry_size(dimensions: int) -> int:
    """Return the length in bytes of an entry of this many dimensions."""
    return 32 + _DIMENSION.itemsize * dimensions


def agree(entry: bytes, copy: bytes) -> bool:
    """True if two entries describe the same pixels: that of the directory, and the copy in its subblock."""
    if entry == copy:
        return True
    if len(copy) < len(entry) or copy[:2] != b"DV" or copy[2:6] != entry[2:6] or copy[18:22] != entry[18:22]:
        return False
    return _extent(entry) == _extent(copy[: len(entry)])


def _extent(entry: bytes) -> dict[int, tuple[int, int, int]]:
    n = int.from_bytes(entry[28:32], "little", signed=True)
    if not 0 < n <= _MOST_DIMENSIONS or entry_size(n) != len(entry):
        return {}
    dimensions = np.frombuffer(entry, _DIMENSION, n, 32).tolist()
    return {name: (start, size, stored or size) for name, start, size, _, stored in dimensions}


def records(data: bytes, count: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return records of equal layout with the numbers of their entries (nearly always all at once), and all offsets."""
    first = int.from_bytes(data[28:32], "little", signed=True)
    if 0 < first <= _MOST_DIMENSIONS and count * entry_size(first) <= len(data):
        records = np.frombuffer(data, _record_type(first), count)
        if (records["schema"] == _SCHEMA).all() and (records["dimensions"] == first).all():
            return [(np.arange(count), records)], np.arange(count) * entry_size(first)
    offsets, kinds = np.empty(count, np.int64), np.empty(count, np.int64)
    at = 0
    for k in range(count):
        n = int.from_bytes(data[at + 28 : at + 32], "little", signed=True)
        if data[at : at + 2] != b"DV" or not 0 < n <= _MOST_DIMENSIONS or at + entry_size(n) > len(data):
            raise FormatError(f"entry {k} of the directory is damaged")
        offsets[k], kinds[k] = at, n
        at += entry_size(n)
    raw = np.frombuffer(data, np.uint8)
    groups = []
    for n in np.unique(kinds).tolist():
        which = np.flatnonzero(kinds == n)
        rows = raw[offsets[which, None] + np.arange(entry_size(n))]
        groups.append((which, rows.view(_record_type(n))[:, 0]))
    return sorted(groups, key=lambda g: int(g[0][0])), offsets


def _record_type(dimensions: int) -> np.dtype:
    return np.dtype([*_FIXED, ("entries", _DIMENSION, (dimensions,))])


def dimension_names(records: np.ndarray) -> list[int]:
    names = records["entries"]["name"]
    if (names == names[0]).all():
        return [int(n) for n in names[0]]
    return list(dict.fromkeys([*names[0].tolist(), *np.unique(names).tolist()]))


def column(
    groups: list[tuple[np.ndarray, np.ndarray]], name: int, count: int, place: int | None
) -> tuple[np.ndarray, ...]:
    """Return start (`ABSENT` where an entry lacks the dimension), size and stored size; `place`, if always the same."""
    if place is not None:
        entries = groups[0][1]["entries"]
        start, size, stored = (entries[field][:, place].astype(np.int64) for field in ("start", "size", "stored"))
        return start, size, stored
    columns = np.full(count, ABSENT, np.int64), np.ones(count, np.int64), np.ones(count, np.int64)
    for which, records in groups:
        entries = records["entries"]
        match = entries["name"] == name
        rows = np.flatnonzero(match.any(axis=1))
        places = match.argmax(axis=1)[rows]
        for column, field in zip(columns, ("start", "size", "stored"), strict=True):
            column[which[rows]] = entries[field][rows, places]
    return columns


def gathered(groups: list[tuple[np.ndarray, np.ndarray]], field: str, count: int) -> np.ndarray:
    column = np.empty(count, np.int64)
    for which, records in groups:
        column[which] = records[field]
    return column
