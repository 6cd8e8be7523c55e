"""The columns of which the texts of a table consist: a search for words reads these, which is less than all texts.

A text is the name, the path, the description, the channels and the free texts of an image in lower case, a line each: a
word is in the text if it is in one of them. Parquet files say which columns these are. Most repeat: there, each
different value is looked at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.catalog.columns import COLUMNS
from intake_img.catalog.seldom import holding_in_any_case

__all__ = ["SINGULAR", "SPOKEN", "is_short", "spoken_in", "words_in"]

SPOKEN = b"intake_img.text"
"""The key of the metadata of a Parquet file under which the columns stand."""
SINGULAR = ("name", "uri")
"""Columns of different values."""
_SHORT = 8  # bytes of a value, on average: of those that repeat only their numbers are stored
_MOST = 100_000  # different values that are looked at one by one


def words_in(kinds: Mapping[str, type]) -> list[str]:
    """Return the columns of a table of which its texts consist; plate, well and field are part of the path, or free."""
    free = [c for c, kind in kinds.items() if kind is str and c not in COLUMNS]
    return [*SINGULAR, "description", "channels", "plate", "well", "field", *free]


def is_short(footer: Any, column: str) -> bool:
    """Whether the values of a column of a Parquet file with such columns are stored as numbers of repeated values."""
    if SPOKEN not in (footer.metadata or {}) or column in SINGULAR or not footer.num_row_groups:
        return False
    group = footer.row_group(0)
    found = group.column(footer.schema.names.index(column))
    return found.physical_type == "BYTE_ARRAY" and found.total_uncompressed_size <= _SHORT * group.num_rows


def spoken_in(columns: Sequence[Any], word: str) -> np.ndarray | None:
    """Return in which rows one of the columns holds a word in lower case; None if the texts themselves must tell.

    Parameters
    ----------
    columns : sequence of pyarrow.Array
        Of one length.
    word : str
    """
    found = np.zeros(len(columns[0]), bool)
    for column in columns:
        mask = _among(column, word) if hasattr(column, "dictionary") else holding_in_any_case(column, word)
        if mask is None:
            return None
        found |= mask
    return found


def _among(column: Any, word: str) -> np.ndarray | None:
    """Return which rows of a dictionary array hold a word; None if it has many different values."""
    values = column.dictionary
    if len(values) > _MOST:
        return None
    holds = np.array([value is not None and word in value.casefold() for value in values.to_pylist()] + [False])
    return np.asarray(holds[column.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)])
