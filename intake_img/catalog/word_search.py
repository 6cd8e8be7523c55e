"""The columns of which the texts of a table consist: a search for words reads these, which is less than all texts.

A text is the name, the path, the description, the channels and the free texts of an image in lower case, a line each: a
word is in the text if it is in one of them. Most of their values repeat: there, each different value is looked at once.
In tables of other programs a text is the column ``text`` in lower case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.catalog.columns import COLUMNS, OF_PATH
from intake_img.catalog.rare_words import containing, containing_in_any_case

__all__ = ["SINGULAR", "has_word", "rows_with", "words_in"]

SINGULAR = ("name", "uri")
"""Columns of different values."""
_MOST = 100_000  # different values that are looked at one by one

Read = Callable[[Sequence[str]], Sequence[Any]]
"""Returns the arrays of columns by their names."""


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


def rows_with(read: Read, places: Mapping[str, Collection[str]] | None, words: Sequence[str]) -> np.ndarray:
    """Return which rows contain all words.

    Parameters
    ----------
    read : callable
        The texts themselves are read only if it is necessary.
    places : mapping of str to collection of str, optional
        For each word the columns that may contain it, at least one; None if it is not known of which columns the texts
        consist.
    words : sequence of str
        In lower case, at least one.
    """
    if places is None:
        (texts,) = read(["text"])
        return _all([_in_any_text(texts, word) for word in words])
    names = list(dict.fromkeys(c for columns in places.values() for c in columns))
    parts = dict(zip(names, read(names), strict=True))
    masks = [_in_any_column([parts[c] for c in places[word]], word) for word in words]
    known = [mask for mask in masks if mask is not None]
    if len(known) < len(masks):
        (texts,) = read(["text"])  # in lower case
        known = [_filled(has_word(texts, word)) for word in words]
    return _all(known)


def _all(masks: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.logical_and.reduce(masks))


def _filled(mask: Any) -> np.ndarray:
    return np.asarray(mask.fill_null(False).to_numpy(zero_copy_only=False))


def has_word(texts: Any, word: str) -> Any:
    """Return which texts of an array contain a word; null for missing ones, or false."""
    import pyarrow as pa
    from pyarrow import compute

    found = containing(texts, word) if pa.types.is_string(texts.type) and isinstance(texts, pa.Array) else None
    return compute.match_substring(texts, word) if found is None else pa.array(found)


def _in_any_column(columns: Sequence[Any], word: str) -> np.ndarray | None:
    """Return in which rows one of the columns contains a word in lower case; None if the texts have to be searched."""
    found = np.zeros(len(columns[0]), bool)
    for column in columns:
        mask = _among(column, word) if hasattr(column, "dictionary") else containing_in_any_case(column, word)
        if mask is None:
            return None
        found |= mask
    return found


def _among(column: Any, word: str) -> np.ndarray | None:
    """Return which rows of a dictionary array contain a word; None if it has many different values."""
    holds = containing_in_any_case(column.dictionary, word)
    if holds is None and len(column.dictionary) <= _MOST:
        holds = _one_by_one(column.dictionary, word)
    if holds is None or not holds.any():
        return None if holds is None else np.zeros(len(column), bool)
    places = column.indices.fill_null(len(holds)) if column.null_count else column.indices
    return np.asarray(np.append(holds, False)[places.to_numpy(zero_copy_only=False)])


def _in_any_text(texts: Any, word: str) -> np.ndarray:
    """Return which texts, in any case and of any letters, contain a word in lower case."""
    values = texts.dictionary if hasattr(texts, "dictionary") else texts
    holds = containing_in_any_case(values, word)
    holds = _one_by_one(values, word) if holds is None else holds
    if values is texts:
        return holds
    return np.append(holds, False)[texts.indices.fill_null(len(holds)).to_numpy(zero_copy_only=False)]


def _one_by_one(values: Any, word: str) -> np.ndarray:
    return np.array([value is not None and word in value.casefold() for value in values.to_pylist()], bool)
