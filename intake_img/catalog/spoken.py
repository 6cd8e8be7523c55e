"""The columns of which the texts of a table consist: a search for words reads these, which is less than all texts.

A text is the name, the path, the description, the channels and the free texts of an image in lower case, a line each: a
word is in the text if it is in one of them. Parquet files say which columns these are. Most repeat: there, each
different value is looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.catalog.columns import COLUMNS, OF_PATH
from intake_img.catalog.seldom import holding, holding_in_any_case

__all__ = ["SINGULAR", "SPOKEN", "has_word", "is_short", "saying", "spoken_in", "words_in"]

SPOKEN = b"intake_img.text"
"""The key of the metadata of a Parquet file under which the columns stand."""
SINGULAR = ("name", "uri")
"""Columns of different values."""
_SHORT = 8  # bytes of a value, on average: of those that repeat only their numbers are stored
_MOST = 100_000  # different values that are looked at one by one


def words_in(kinds: Mapping[str, type], free: Collection[str] = ()) -> list[str]:
    """Return the columns of a table of which its texts consist.

    Parameters
    ----------
    kinds : mapping of str to type
    free : collection of str
        Which of plate, well and field are given; otherwise they are taken from the path.
    """
    given = [c for c, kind in kinds.items() if kind is str and (c not in COLUMNS or (c in OF_PATH and c in free))]
    return [*SINGULAR, "description", "channels", *given]


def is_short(footer: Any, column: str) -> bool:
    """Whether the values of a column of a Parquet file with such columns are stored as numbers of repeated values."""
    if SPOKEN not in (footer.metadata or {}) or column in SINGULAR or not footer.num_row_groups:
        return False
    group = footer.row_group(0)
    found = group.column(footer.schema.names.index(column))
    return found.physical_type == "BYTE_ARRAY" and found.total_uncompressed_size <= _SHORT * group.num_rows


def saying(read: Callable[[Sequence[str]], Sequence[Any]], columns: Sequence[str], words: Sequence[str]) -> np.ndarray:
    """Return which rows hold all words.

    Parameters
    ----------
    read : callable
        Returns the arrays of columns by their names. The texts themselves are read only if it is necessary.
    columns : sequence of str
        Those of which the texts consist; empty if this is not known.
    words : sequence of str
        In lower case, at least one.
    """
    parts = read(columns) if columns else ()
    masks = [spoken_in(parts, word) if columns else None for word in words]
    known = [mask for mask in masks if mask is not None]
    if len(known) < len(masks):
        (texts,) = read(["text"])
        known = [has_word(texts, word).fill_null(False).to_numpy(zero_copy_only=False) for word in words]
    return np.asarray(np.logical_and.reduce(known))


def has_word(texts: Any, word: str) -> Any:
    """Return which texts of an array hold a word; null for missing ones, or false."""
    import pyarrow as pa
    from pyarrow import compute

    seldom = holding(texts, word) if pa.types.is_string(texts.type) and isinstance(texts, pa.Array) else None
    return compute.match_substring(texts, word) if seldom is None else pa.array(seldom)


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
    holds = _different(column.dictionary, word)
    if holds is None or not holds.any():
        return None if holds is None else np.zeros(len(column), bool)
    places = column.indices.fill_null(len(holds)) if column.null_count else column.indices
    return np.asarray(np.append(holds, False)[places.to_numpy(zero_copy_only=False)])


def _different(values: Any, word: str) -> np.ndarray | None:
    found = holding_in_any_case(values, word)
    if found is None and len(values) <= _MOST:
        found = np.array([value is not None and word in value.casefold() for value in values.to_pylist()], bool)
    return found
