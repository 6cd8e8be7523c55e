"""Consecutive numbers for labels, and labels of which some are left out.

A summary of each chunk (its labels, and the first pixel or a count of each) goes to one task for each image, which
returns a table of new numbers. Until then the labels are kept in the smallest type, beyond a limit in files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.components import image_blocks
from intake_img.accessor.processing.halo import new_array
from intake_img.accessor.processing.in_memory import by_image, is_held
from intake_img.accessor.processing.kept import kept
from intake_img.accessor.variables import with_data
from intake_img.kernels import labelling
from intake_img.model.machine import on_this_machine

__all__ = ["chosen", "renumbered"]

LEAST = 2**16
"""A table with an entry for each number is made up to this label, and up to the number of pixels."""
ByLabel = tuple[np.ndarray, np.ndarray]
"""Labels, and a number for each: the place of the first pixel, a count, or the new label."""
Part = tuple[np.ndarray, np.ndarray, np.ndarray, bool]
"""The labels of a chunk, a number for each, and for each pixel its label, or the place of its label among them: which
of the two."""
Summary = Callable[[Sequence[int], Sequence[int], np.ndarray], ByLabel]
"""Of where a chunk begins, the shape of the image and the labels of the chunk."""


def renumbered(array: xr.DataArray, axes: Sequence[str]) -> xr.DataArray:
    """Return labels 1, 2, ... in the order of their first pixels in each image."""
    dtype = labelling.number_type([array.sizes[a] for a in axes])
    return _tabled(array, axes, _firsts, partial(_ranked, dtype), dtype, "relabel")


def chosen(
    array: xr.DataArray,
    axes: Sequence[str],
    statistic: Callable[[np.ndarray, int, Sequence[int], Sequence[int]], np.ndarray],
    keep: Callable[[np.ndarray], np.ndarray],
    name: str,
) -> xr.DataArray:
    """Return the labels that are kept by a statistic, which is summed over the chunks of each image; 0 elsewhere.

    Parameters
    ----------
    array : xarray.DataArray of integers
    axes : sequence of str
        Of an image.
    statistic : callable
        Of labels 1 to n, n, where the chunk begins and the shape of the image: a whole number for each label.
    keep : callable
        Of the sums: which labels are kept.
    name : str
        Of the method.
    """
    return _tabled(array, axes, partial(_counts, statistic, name), partial(_kept, keep), array.dtype, name)


def _tabled(
    array: xr.DataArray,
    axes: Sequence[str],
    summary: Summary,
    finish: Callable[[Sequence[Any]], ByLabel],
    dtype: np.dtype,
    name: str,
) -> xr.DataArray:
    if is_held(array):
        found = by_image([array], axes, partial(_of_image, summary, finish), dtype)
    else:
        outer, made = _lazily(array, axes, summary, finish, dtype, name)
        found = with_data(array, made, (*outer, *axes)).transpose(*array.dims)
    found.attrs = {"kind": "labels"}
    return found


def _lazily(
    array: xr.DataArray, axes: Sequence[str], summary: Summary, finish: Any, dtype: np.dtype, name: str
) -> tuple[tuple[str, ...], Any]:
    from dask import base

    outer, data = image_blocks(array, axes)
    token = f"{name}-{base.tokenize(data.name, axes, summary, finish)}"
    graph = partial(_graph, token, data, len(outer), summary, finish)
    return outer, new_array(token, graph, data.chunks, dtype, [data])


def _graph(token: str, data: Any, lead: int, summary: Summary, finish: Any) -> dict[Any, Any]:
    chunks = data.chunks[lead:]
    shape, here = tuple(map(sum, chunks)), on_this_machine()
    graph: dict[Any, Any] = {}
    for image in np.ndindex(*data.numblocks[:lead]):
        summaries, table = [], ("table-" + token, *image)
        for n, k in enumerate(np.ndindex(*data.numblocks[lead:])):
            start = tuple(sum(c[:i]) for c, i in zip(chunks, k, strict=True))
            part = ("part-" + token, *image, *k)
            graph[part] = (partial(_of_block, lead, partial(summary, start, shape)), (data.name, *image, *k))
            graph[(token, *image, *k)] = (partial(_renewed, lead), part, table)
            summaries.append(part)
            if not here:  # labels stay where they were made
                summaries[n] = ("summary-" + token, *image, *k)
                graph[summaries[n]] = (_by_label, part)
        graph[table] = (finish, summaries)
    return graph


def _of_block(lead: int, summary: Callable[[np.ndarray], ByLabel], block: np.ndarray) -> Part:
    labels = block[(0,) * lead]
    ids, numbers = summary(labels)
    if _countable(labels):
        return ids, numbers, kept(labels, np.min_scalar_type(int(ids[-1]))), True
    return ids, numbers, kept(np.searchsorted(ids, labels), np.min_scalar_type(len(ids))), False


def _by_label(part: Part) -> ByLabel:
    return part[:2]


def _renewed(lead: int, part: Part, table: ByLabel) -> np.ndarray:
    """Return the new labels of a chunk."""
    ids, _, small, are_labels = part
    new = table[1][np.searchsorted(table[0], ids)]
    if are_labels:
        by_label = np.zeros(int(ids[-1]) + 1, new.dtype)
        by_label[ids] = new
        new = by_label
    out = np.empty(small.shape, new.dtype)
    labelling.look_up(new, small, out)
    return out[(None,) * lead]


def _of_image(summary: Summary, finish: Callable[[Sequence[ByLabel]], ByLabel], image: np.ndarray) -> np.ndarray:
    """Return the new labels of one complete image."""
    return _looked_up(image, finish([summary((0,) * image.ndim, image.shape, image)]))


def _firsts(start: Sequence[int], shape: Sequence[int], labels: np.ndarray) -> ByLabel:
    if _countable(labels):
        return labelling.first_by_label(labels, start, shape)
    ids, index = _indexed(labels, "relabel")
    return ids, labelling.first_places(index + 1, len(ids), start, shape)


def _counts(statistic: Any, name: str, start: Sequence[int], shape: Sequence[int], labels: np.ndarray) -> ByLabel:
    ids, index = _indexed(labels, name)
    return ids, statistic(index + 1, len(ids), start, shape)


def _indexed(labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a chunk, in order, and of each pixel the place of its label among them."""
    if _countable(labels):
        places = labels.astype(np.intp, copy=False)
        there = np.bincount(places.ravel()) > 0
        return np.flatnonzero(there).astype(labels.dtype), (np.cumsum(there) - 1)[places]
    ids, index = np.unique(labels, return_inverse=True)
    if len(ids) and ids[0] < 0:
        raise ValueError(f"{name}: expected labels of 0 and more, but there is {ids[0]}")
    return ids, index.reshape(labels.shape)


def _countable(labels: np.ndarray) -> bool:
    """Whether labels are small enough for a table with an entry for each number."""
    return bool(labels.size and labels.min() >= 0 and labels.max() <= max(LEAST, labels.size))


def _together(parts: Sequence[ByLabel | Part]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all labels, and the numbers of all chunks with the place of their label."""
    ids, index = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
    return ids, index, np.concatenate([p[1] for p in parts])


def _ranked(dtype: np.dtype, parts: Sequence[ByLabel | Part]) -> ByLabel:
    ids, index, places = _together(parts)
    first = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(first, index, places)
    first[ids == 0] = -1
    rank = np.empty(len(ids), dtype)
    rank[np.argsort(first)] = np.arange(len(ids)) + (0 if (ids == 0).any() else 1)
    return ids, rank


def _kept(keep: Callable[[np.ndarray], np.ndarray], parts: Sequence[ByLabel | Part]) -> ByLabel:
    ids, index, counts = _together(parts)
    total = np.zeros(len(ids), np.int64)
    np.add.at(total, index, counts)
    return ids, np.where(keep(total), ids, ids.dtype.type(0))


def _looked_up(block: np.ndarray, table: ByLabel) -> np.ndarray:
    ids, numbers = table
    if not block.size:
        return block.astype(numbers.dtype)
    if ids[-1] > max(LEAST, block.size):
        return numbers[np.searchsorted(ids, block)]
    by_label = np.zeros(int(ids[-1]) + 1, numbers.dtype)
    by_label[ids] = numbers
    return by_label.take(block)
