"""Consecutive numbers for labels: one table is made from the labels of all chunks and their first pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.components import image_blocks
from intake_img.accessor.processing.halo import new_array
from intake_img.accessor.processing.in_memory import by_image, is_held
from intake_img.accessor.variables import with_data
from intake_img.kernels import labelling

__all__ = ["renumbered"]

LEAST = 2**16
"""A table with an entry for each number is made up to this label, and up to the number of pixels."""
Firsts = tuple[np.ndarray, np.ndarray]
"""Labels, and the place of the first pixel of each."""


def renumbered(array: xr.DataArray, axes: Sequence[str]) -> xr.DataArray:
    """Return labels 1, 2, ... in the order of their first pixels in each image."""
    if is_held(array):
        found = by_image([array], axes, _of_image, np.int64)
        found.attrs = {"kind": "labels"}
        return found
    from dask.base import tokenize

    outer, data = image_blocks(array, axes)
    token = f"relabel-{tokenize(data.name, axes)}"
    made = new_array(token, partial(_graph, token, data, len(outer)), data.chunks, np.int64, [data])
    found = with_data(array, made, (*outer, *axes)).transpose(*array.dims)
    found.attrs = {"kind": "labels"}
    return found


def _graph(token: str, data: Any, lead: int) -> dict[Any, Any]:
    chunks = data.chunks[lead:]
    shape = tuple(map(sum, chunks))
    graph: dict[Any, Any] = {}
    for image in np.ndindex(*data.numblocks[:lead]):
        parts, table = [], ("table-" + token, *image)
        for k in np.ndindex(*data.numblocks[lead:]):
            start = tuple(sum(c[:i]) for c, i in zip(chunks, k, strict=True))
            key = ("firsts-" + token, *image, *k)
            graph[key] = (partial(_firsts, lead, start, shape), (data.name, *image, *k))
            graph[(token, *image, *k)] = (_looked_up, (data.name, *image, *k), table)
            parts.append(key)
        graph[table] = (_table, parts)
    return graph


def _of_image(image: np.ndarray) -> np.ndarray:
    """Return the new labels of one complete image."""
    return _looked_up(image, _table([_firsts(0, (0,) * image.ndim, image.shape, image)]))


def _firsts(lead: int, start: Sequence[int], shape: Sequence[int], block: np.ndarray) -> Firsts:
    labels = block[(0,) * lead]
    if _countable(labels):
        return labelling.first_by_label(labels, start, shape)
    ids, index = np.unique(labels, return_inverse=True)
    if len(ids) and ids[0] < 0:
        raise ValueError(f"relabel: expected labels of 0 and more, but there is {ids[0]}")
    return ids, labelling.first_places(index.reshape(labels.shape) + 1, len(ids), start, shape)


def _countable(labels: np.ndarray) -> bool:
    """Whether labels are small enough for a table with an entry for each number."""
    return bool(labels.size and labels.min() >= 0 and labels.max() <= max(LEAST, labels.size))


def _table(parts: Sequence[Firsts]) -> Firsts:
    ids, index = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
    first = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(first, index, np.concatenate([p[1] for p in parts]))
    first[ids == 0] = -1
    rank = np.empty(len(ids), np.int64)
    rank[np.argsort(first)] = np.arange(len(ids)) + (0 if (ids == 0).any() else 1)
    return ids, rank


def _looked_up(block: np.ndarray, table: Firsts) -> np.ndarray:
    ids, numbers = table
    if not block.size:
        return block.astype(np.int64)
    if ids[-1] > max(LEAST, block.size):
        return numbers[np.searchsorted(ids, block)]
    by_label = np.zeros(int(ids[-1]) + 1, np.int64)
    by_label[ids] = numbers
    return by_label.take(block)
