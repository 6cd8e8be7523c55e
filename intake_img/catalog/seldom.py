"""Words that few texts hold, found in the bytes of all texts at once: several times quicker than text by text."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import numpy as np

__all__ = ["holding"]

_FEW = 20  # one text of so many


def holding(texts: Any, word: str) -> np.ndarray | None:
    """Return which texts hold a word.

    Parameters
    ----------
    texts : pyarrow.StringArray
    word : str

    Returns
    -------
    ndarray of bool, or None
        False for missing texts. None if the word is empty or occurs often: then text by text is quicker.
    """
    data = texts.buffers()[2]
    sought = word.encode("utf-8", "surrogatepass")
    if not sought or data is None or not len(texts):
        return None
    bounds = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    view = memoryview(data)[bounds[0] : bounds[-1]]
    most = len(texts) // _FEW + 1
    found = [hit.start() for hit in islice(re.finditer(re.escape(sought), view), most + 1)]
    return None if len(found) > most else _texts_of(np.array(found, np.int64), sought, view, bounds - bounds[0])


def _texts_of(starts: np.ndarray, sought: bytes, view: memoryview, bounds: np.ndarray) -> np.ndarray:
    """Return which texts hold one of the hits, of which no two overlap.

    A hit across the end of a text counts for no text, but it may overlap one that lies within the last text it reaches.
    """
    rows = np.searchsorted(bounds, starts, side="right") - 1
    inside = starts + len(sought) <= bounds[rows + 1]
    mask = np.zeros(len(bounds) - 1, bool)
    mask[rows[inside]] = True
    for row in np.searchsorted(bounds, starts[~inside] + len(sought) - 1, side="right") - 1:
        mask[row] |= sought in bytes(view[bounds[row] : bounds[row + 1]])
    return mask
