"""Chunked images drawn from parts of others: each chunk of a result takes the parts of the source that it shows.

One task for each chunk. It gathers the parts from the chunks they lie in and hands them, as they are, to a function
that draws the chunk of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.accessor.processing.halo import gathered, new_array, parts_of
from intake_img.accessor.processing.in_memory import Held, assembled
from intake_img.model.graph_layers import BlockLayer, Task

if TYPE_CHECKING:
    import dask.array

__all__ = ["Cutout", "Spans", "drawn", "overlap_of"]

Spans = tuple[tuple[int, int], ...]
"""First and last, exclusive, along each axis."""
Draw = Callable[[np.ndarray, Sequence[tuple[Any, np.ndarray]]], None]
_Cuts = Sequence[Sequence[tuple[int, slice]]]


@dataclass(frozen=True)
class Cutout:
    """A part of the source, and what the function that draws needs to know of it.

    Parameters
    ----------
    source : Spans
        What is taken of the source.
    detail : object
    """

    source: Spans
    detail: Any


def overlap_of(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    """Return what two spans have in common; empty if the first is not less than the second."""
    return max(one[0], two[0]), min(one[1], two[1])


def drawn(
    array: dask.array.Array | Held,
    chunks: Sequence[Sequence[int]],
    plan: Callable[[Spans], Sequence[Cutout]],
    draw: Draw,
    name: str,
    *key: Any,
) -> Any:
    """Return an array whose chunks are drawn from parts of another one, of the same dtype.

    Parameters
    ----------
    array : dask.array.Array or Held
        The source.
    chunks : sequence of sequence of int
        Of the result.
    plan : callable
        ``plan(spans)`` returns the parts that the chunk at `spans` of the result shows.
    draw : callable
        ``draw(out, parts)`` fills a chunk; a part is its `detail` and its pixels.
    name : str
        Of the step.
    *key : object
        What the result depends on besides the source and the chunks: names the result.

    Returns
    -------
    dask.array.Array or ndarray
        An ndarray of an array in memory.
    """
    stops = tuple(np.cumsum([0, *c]).tolist() for c in chunks)
    grid = [len(c) for c in chunks]
    if isinstance(array, Held):
        make = partial(_of_held, array.array, plan, draw, stops)
        places = {place: place for place in product(*map(range, grid))}
        return assembled(make, places, chunks, array.dtype, fills=True)
    from dask import base

    token = f"{name}-{base.tokenize(array.name, chunks, key)}"
    own = tuple(np.cumsum(c).tolist() for c in array.chunks)
    layer = partial(_layer, token, grid, _Tasks(plan, draw, stops, array.name, own, array.dtype))
    if hasattr(array, "expr"):
        return new_array(token, layer(None), chunks, array.dtype, [array])
    from intake_img.model.lazy_arrays import filled_array  # imports dask.array

    return filled_array(layer, token, tuple(map(tuple, chunks)), array.dtype, array)


def _layer(token: str, grid: Sequence[int], tasks: _Tasks, out: Any) -> BlockLayer:
    return BlockLayer(token, grid, replace(tasks, out=out))


def _spans(stops: Sequence[Sequence[int]], place: tuple[int, ...]) -> Spans:
    return tuple((s[k], s[k + 1]) for s, k in zip(stops, place, strict=True))


@dataclass(frozen=True)
class _Tasks:
    """Makes the task of a chunk of a result from its place.

    Parameters
    ----------
    plan, draw : callable
        See `drawn`.
    stops : sequence of sequence of int
        Where the chunks of the result begin and end.
    source : str
        Name of the source.
    own : sequence of sequence of int
        Where the chunks of the source end.
    dtype : numpy.dtype
    out : callable, optional
        See `filled_array`.
    """

    plan: Callable[[Spans], Sequence[Cutout]]
    draw: Draw
    stops: Sequence[Sequence[int]]
    source: str
    own: Sequence[Sequence[int]]
    dtype: np.dtype
    out: Any = None

    def __call__(self, place: tuple[int, ...]) -> Task:
        spans = _spans(self.stops, place)
        parts = self.plan(spans)
        cuts = [[list(parts_of([span], ends)) for span, ends in zip(p.source, self.own, strict=True)] for p in parts]
        keys = [(self.source, *ks) for cut in cuts for ks in product(*[[k for k, _ in axis] for axis in cut])]
        new = self.out(place) if self.out else partial(np.empty, tuple(b - a for a, b in spans), self.dtype)
        return partial(_draw, self.draw, new, [p.detail for p in parts], cuts), keys


def _of_held(
    array: np.ndarray,
    plan: Callable[[Spans], Sequence[Cutout]],
    draw: Draw,
    stops: Sequence[Sequence[int]],
    place: tuple[int, ...],
    out: np.ndarray | None = None,
) -> np.ndarray:
    spans = _spans(stops, place)
    target = np.empty([b - a for a, b in spans], array.dtype) if out is None else out
    draw(target, [(p.detail, array[tuple(slice(*span) for span in p.source)]) for p in plan(spans)])
    return target


def _draw(
    draw: Draw,
    new: Callable[[], np.ndarray],
    details: Sequence[Any],
    cuts: Sequence[_Cuts],
    blocks: Sequence[np.ndarray],
) -> np.ndarray:
    """Draw a chunk of the blocks of all its parts, one part after another."""
    left, out = iter(blocks), new()
    draw(out, [(d, gathered(c, list(islice(left, prod(map(len, c)))))) for d, c in zip(details, cuts, strict=True)])
    return out
