"""Which row groups of a Parquet file may contain a word: those whose texts have all trigrams of the word.

A trigram is three bytes in a row, in UTF-8 and lower case. The file stores the trigrams of each column of which its
texts consist, and the row groups that have them: a search reads only columns and row groups that may contain its words.
They are metadata of the file, not of its schema: programs that change rows and write them again do not keep them.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

__all__ = ["TRIGRAMS", "Trigrams", "groups_with", "packed", "trigrams_in", "unpacked"]

TRIGRAMS = b"intake_img.trigrams"
"""The key of the metadata of a Parquet file."""
_MOST = 2**26  # bytes of a column when they are decompressed

Trigrams = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""For each column, its trigrams in order, of shape (N,), and the row groups that have them, of shape (N, groups)."""


def trigrams_in(texts: Iterable[str | None]) -> np.ndarray:
    """Return the trigrams of texts in lower case, uint32, in order, each once."""
    return _codes("\n".join(text for text in texts if text).casefold())


def _codes(lower: str) -> np.ndarray:
    data = np.frombuffer(lower.encode("utf-8", "surrogatepass"), np.uint8).astype(np.uint32)
    return np.unique((data[:-2] << 16) | (data[1:-1] << 8) | data[2:])


def packed(groups: Sequence[Mapping[str, np.ndarray]], sizes: Sequence[int]) -> bytes:
    """Return the trigrams of the columns of each row group, as they are stored.

    Parameters
    ----------
    groups : sequence of mapping
        For each row group, the trigrams of each column.
    sizes : sequence of int
        The number of rows of each row group.
    """
    columns = {}
    for column in groups[0] if groups else ():
        own = [group[column] for group in groups]
        codes = np.unique(np.concatenate(own))
        present = np.zeros((len(codes), len(groups)), bool)
        for g, found in enumerate(own):
            present[np.searchsorted(codes, found), g] = True
        steps = np.diff(codes, prepend=np.uint32(0)).astype("<u4")
        columns[column] = [_text(steps.tobytes()), _text(np.packbits(present).tobytes())]
    return json.dumps({"sizes": list(sizes), "columns": columns}).encode()


def unpacked(stored: bytes, sizes: Sequence[int]) -> Trigrams | None:
    """Return stored trigrams; None if they are damaged, or those of other row groups: then texts are read."""
    try:
        found = json.loads(stored)
        if found["sizes"] != list(sizes):
            return None
        return {c: _column(steps, present, len(sizes)) for c, (steps, present) in found["columns"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
        return None


def _column(steps: str, present: str, groups: int) -> tuple[np.ndarray, np.ndarray]:
    codes = np.cumsum(np.frombuffer(_bytes(steps), "<u4"), dtype=np.uint32)
    bits = np.unpackbits(np.frombuffer(_bytes(present), np.uint8)).astype(bool)
    return codes, bits[: len(codes) * groups].reshape(len(codes), groups)


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def _bytes(text: str) -> bytes:
    return zlib.decompressobj().decompress(base64.b64decode(text), _MOST)


def groups_with(word: str, trigrams: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which row groups of a column may contain a word in lower case, by the trigrams of the column."""
    codes, present = trigrams
    sought = _codes(word)
    if not np.isin(sought, codes).all():
        return np.zeros(present.shape[1], bool)
    return np.asarray(present[np.searchsorted(codes, sought)].all(axis=0))
