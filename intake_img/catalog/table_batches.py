"""Rows of tables, some thousand at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

__all__ = ["BATCH", "in_batches"]

BATCH = 10_000


def in_batches(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    """Iterate over lists of rows, none of which is empty."""
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch
