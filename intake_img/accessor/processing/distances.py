"""Distances to the background of chunked images, by passes along one axis after the other, each on complete lines.

A task of a pass gathers the lines of some chunks from the tasks of the pass before. Distances along the first axis, 1
or 2 bytes a pixel, wait until they are known of all of an image; later passes need complete planes, or, of larger ones,
the planes of one layer of chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.components import image_blocks
from intake_img.accessor.processing.halo import gathered, merged, new_array, parts_of
from intake_img.accessor.processing.in_memory import by_image, is_held
from intake_img.accessor.processing.kept import kept
from intake_img.accessor.variables import with_data
from intake_img.kernels import euclidean

__all__ = ["distances"]

MOST, LEAST = 2**23, 2**18
"""Pixels that a task works on, if chunks can be cut or joined so."""
Chunks = tuple[tuple[int, ...], ...]
Place = tuple[int, ...]
Work = Callable[[np.ndarray], np.ndarray]


def distances(mask: xr.DataArray, axes: Sequence[str], steps: Sequence[float]) -> xr.DataArray:
    """Return the distance of each pixel of a mask to the nearest background of its image.

    Parameters
    ----------
    mask : xarray.DataArray of bool
    axes : sequence of str
        Of an image.
    steps : sequence of float
        The distance of neighbours along each of them.
    """
    if is_held(mask):
        return by_image([mask], axes, partial(euclidean.distances, steps=tuple(steps)), float)
    from dask import base

    outer, data = image_blocks(mask, axes)
    token = f"distance_transform-{base.tokenize(data.name, axes, steps)}"
    graph = partial(_graph, token, data.name, data.chunks, len(outer), tuple(steps))
    return with_data(mask, new_array(token, graph, data.chunks, float, [data]), (*outer, *axes)).transpose(*mask.dims)


def _graph(token: str, source: str, chunks: Chunks, lead: int, steps: tuple[float, ...]) -> dict[Any, Any]:
    own, graph = chunks[lead:], {}
    passes = _passes(own, lead, steps)
    for image in np.ndindex(*map(len, chunks[:lead])):
        before, name = own, source
        for step, (grid, work) in enumerate(passes):
            last = step == len(passes) - 1
            target = token if last else f"pass{step}-{token}"
            for place in np.ndindex(*map(len, grid)):
                cuts = _cuts(before, grid, place)
                keys = [(name, *image, *ks) for ks in product(*[[k for k, _ in c] for c in cuts])]
                graph[(target, *image, *place)] = (_Task(lead, cuts, work), keys)
            before, name = grid, target
    return graph


def _passes(own: Chunks, lead: int, steps: tuple[float, ...]) -> list[tuple[Chunks, Work]]:
    """Return the chunks of each pass, and what is done with them; the last one restores the chunks of the image."""
    shape = tuple(map(sum, own))
    if all(len(c) == 1 for c in own):
        return [(own, partial(_complete, lead, steps))]
    first, *others = [k for k, n in enumerate(shape) if n > 1] or [0]
    squares = (shape[first], steps[first], euclidean.kind_of_squares(shape, steps))
    passes: list[tuple[Chunks, Work]] = [(_lines(own, (first,)), partial(_first, lead + first))]
    together = math.prod(shape[k] for k in others) <= MOST
    for axes in [others] if others and together else [[k] for k in others]:
        given = squares if axes[0] == others[0] else None
        along = [(lead + k, steps[k]) for k in axes]
        passes.append((_lines(own, axes), partial(_further, along, given)))
    return [*passes, (own, partial(_restored, None if others else squares))]


def _lines(own: Chunks, axes: Sequence[int]) -> Chunks:
    """Return chunks that have complete lines along some axes."""
    grid = [(sum(c),) if k in axes else tuple(c) for k, c in enumerate(own)]
    others = [k for k in range(len(own)) if k not in axes]
    while _size(grid) > MOST and (wide := [k for k in others if max(grid[k]) > 1]):
        k = max(wide, key=lambda k: max(grid[k]))
        grid[k] = tuple(m for n in grid[k] for m in (n - n // 2, n // 2) if m)
    while 2 * _size(grid) <= LEAST and (cut := [k for k in others if len(grid[k]) > 1]):
        grid[cut[-1]] = merged(grid[cut[-1]], 2 * max(grid[cut[-1]]))
    return tuple(grid)


def _size(grid: Sequence[Sequence[int]]) -> int:
    return math.prod(map(max, grid))


def _cuts(before: Chunks, grid: Chunks, place: Place) -> list[list[tuple[int, slice]]]:
    """Return which chunks of the pass before a chunk needs along each axis, and what of them."""
    cuts = []
    for old, new, k in zip(before, grid, place, strict=True):
        start, stop = list(pairwise(accumulate(new, initial=0)))[k]
        cuts.append(list(parts_of([(start, stop)], list(accumulate(old)))))
    return cuts


@dataclass(frozen=True)
class _Task:
    """Gathers a chunk from those of the pass before, and works on it.

    Parameters
    ----------
    lead : int
        Axes that are not of an image, along which chunks have one pixel.
    cuts : list
        See `_cuts`.
    work : callable
    """

    lead: int
    cuts: list[list[tuple[int, slice]]]
    work: Work

    def __call__(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        return self.work(gathered([[(0, slice(0, 1))]] * self.lead + self.cuts, blocks))


def _complete(lead: int, steps: tuple[float, ...], mask: np.ndarray) -> np.ndarray:
    return euclidean.distances(mask[(0,) * lead], steps)[(None,) * lead]


def _first(lead: int, mask: np.ndarray) -> np.ndarray:
    found = euclidean.line_distances(mask, lead)
    return kept(found, found.dtype)


def _further(along: Sequence[tuple[int, float]], squares: Any, found: np.ndarray) -> np.ndarray:
    if squares:
        found = euclidean.squares(found, *squares)
    for axis, step in along:
        found = euclidean.further_pass(found, axis, step)
    return kept(found, found.dtype)


def _restored(squares: Any, found: np.ndarray) -> np.ndarray:
    return euclidean.rooted(euclidean.squares(found, *squares) if squares else found)
