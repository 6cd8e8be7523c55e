"""Connected components of chunked images: their labels, and masks of selected components.

Every chunk is labelled separately. What is found (a statistic of each label, the planes at boundaries) goes to one task
for each image, which joins components across boundaries and returns a table for the labels of each chunk. Until then
the labels are kept in the smallest type, beyond a limit in files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate, pairwise, product
from operator import add, attrgetter
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import integer, neighbourhood
from intake_img.accessor.processing.halo import new_array
from intake_img.accessor.processing.in_memory import by_image, is_held
from intake_img.accessor.processing.kept import kept
from intake_img.accessor.variables import lazy, with_data
from intake_img.kernels import component_numbers, labelling
from intake_img.model.axes import spell
from intake_img.model.datasets import data_of
from intake_img.model.graph_layers import BlockLayer, DeferredLayer, Task, apart_from_source
from intake_img.model.machine import on_this_machine

__all__ = ["ChunkGrid", "image_blocks", "labelled", "reached", "selected", "structure_of"]

Place = tuple[int, ...]
_itemsize = attrgetter("itemsize")
CLOSE = 16
"""Pixels between boundaries; the planes at more distant ones are kept, in 2 of 16 pixels or fewer."""
Statistic = Callable[[np.ndarray, int, Sequence[int], Sequence[int]], np.ndarray]
"""Of the labels of a chunk, their number, where it begins and the shape of the image: a whole number for each label."""


def structure_of(connectivity: Any, axes: Sequence[str]) -> np.ndarray:
    """Return the structuring element of a connectivity."""
    from scipy import ndimage

    rank = integer("connectivity", connectivity, 1)
    if rank > len(axes):
        raise ValueError(f"connectivity={connectivity}: an image with axes {spell(axes)!r} allows 1 to {len(axes)}")
    return ndimage.generate_binary_structure(len(axes), rank)


def labelled(array: xr.DataArray, connectivity: int, dims: Any) -> xr.DataArray:
    """Return the labels of the components of nonzero pixels."""
    axes = neighbourhood(array, dims)
    structure = structure_of(connectivity, axes)
    dtype = labelling.number_type([array.sizes[a] for a in axes])
    if is_held(array):
        return _of_images(array, axes, partial(_label_whole, 0, structure), dtype, "labels")
    parts = _Parts(array, axes, structure, "label")
    if parts.single:
        return parts.result(parts.mapped(_label_whole, dtype), "labels")
    tables = partial(ChunkGrid.numbered, dtype=dtype)
    return parts.result(parts.looked_up(component_numbers.begun, tables, dtype, numbers=True), "labels")


def selected(
    array: xr.DataArray,
    axes: Sequence[str],
    structure: np.ndarray,
    statistic: Statistic,
    keep: Callable[[np.ndarray], np.ndarray],
    *,
    holes: bool = False,
) -> xr.DataArray:
    """Return the mask of the components that are kept by a statistic, which is summed over chunks.

    With `holes`, the components are regions of background, and the kept ones are added to the foreground.
    """
    finish = partial(_kept, keep, holes)
    if is_held(array):
        make = partial(_looked_up_whole, structure, holes, statistic, finish, False)
        return _of_images(array, axes, make, bool, "mask")
    parts = _Parts(array, axes, structure, "select", holes=holes)
    return parts.result(parts.looked_up(statistic, partial(ChunkGrid.tables, finish=finish), np.dtype(bool)), "mask")


def reached(weak: xr.DataArray, strong: xr.DataArray, axes: Sequence[str]) -> xr.DataArray:
    """Return the components of `weak` that contain a pixel of `strong`."""
    held = is_held(weak) and is_held(strong)
    low, high = (weak.values, strong.values) if held else (lazy(weak), lazy(strong))
    both = weak.copy(data=low.astype(np.uint8) + high)  # 1: weak, 2: strong as well
    structure, finish = structure_of(1, axes), partial(_kept, _any, False)
    if held:
        make = partial(_looked_up_whole, structure, False, _overlap, finish, True)
        return _of_images(both, axes, make, bool, "mask")
    parts = _Parts(both, axes, structure, "hysteresis")
    return parts.result(
        parts.looked_up(_overlap, partial(ChunkGrid.tables, finish=finish), np.dtype(bool), values=True), "mask"
    )


def _any(found: np.ndarray) -> np.ndarray:
    return found > 0


def _overlap(block: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(labels[block > 1], minlength=n + 1)[1:]


def _kept(
    keep: Callable[[np.ndarray], np.ndarray], holes: bool, statistic: np.ndarray, count: int, component: np.ndarray
) -> np.ndarray:
    total = np.zeros(count, np.int64)
    np.add.at(total, component, statistic)
    return np.concatenate([[holes], np.asarray(keep(total), bool)[component]])


def image_blocks(array: xr.DataArray, axes: Sequence[str]) -> tuple[tuple[str, ...], Any]:
    """Return the other axes of an array, and its data (other axes, ``axes``) with chunks of one image or less.

    Arrays in memory are not cut.
    """
    outer = tuple(d for d in map(str, array.dims) if d not in axes)
    turned = array.transpose(*outer, *axes)
    data: Any = lazy(turned)
    lead = len(outer)
    chunks: dict[int, Any] = {k: tuple(n for n in c if n) or (0,) for k, c in enumerate(data.chunks)}
    if isinstance(data_of(array.variable), np.ndarray):
        chunks = dict.fromkeys(range(data.ndim), -1)
    return outer, data.rechunk({**chunks, **dict.fromkeys(range(lead), 1)})


def _of_images(
    array: xr.DataArray, axes: Sequence[str], func: Callable[[np.ndarray], np.ndarray], dtype: Any, kind: str
) -> xr.DataArray:
    """Return what a function makes of each image in memory, as soon as it is called."""
    result = by_image([array], axes, func, dtype)
    result.attrs = {"kind": kind}
    return result


def _named(array: xr.DataArray, made: Any, dims: Sequence[str], kind: str) -> xr.DataArray:
    result = with_data(array, made, dims).transpose(*array.dims)
    result.attrs = {"kind": kind}
    return result


class _Parts:
    """The labels of every chunk, and the functions on them."""

    def __init__(
        self, array: xr.DataArray, axes: Sequence[str], structure: np.ndarray, name: str, *, holes: bool = False
    ) -> None:
        from dask import base

        self.array, self.axes = array, tuple(axes)
        self.outer, self.data = image_blocks(array, axes)
        self.lead = len(self.outer)
        self.structure, self.holes = structure, holes
        self.grid = ChunkGrid(self.data.chunks[self.lead :], structure)
        self.name = f"{name}-{base.tokenize(self.data.name, structure, holes, axes)}"

    @property
    def single(self) -> bool:
        """Whether every image is one chunk."""
        return all(len(c) == 1 for c in self.grid.chunks)

    def mapped(self, func: Callable[..., np.ndarray], dtype: Any) -> Any:
        """Return the result of a function for each image."""
        task = partial(_of_block, partial(func, self.lead, self.structure), self.data.name)
        layer = BlockLayer(self.name, self.data.numblocks, task)
        return new_array(self.name, layer, self.data.chunks, dtype, [self.data])

    def looked_up(self, statistic: Any, tables: Any, dtype: Any, *, values: bool = False, numbers: bool = False) -> Any:
        """Return the entries of the tables of labels, made by a method of `ChunkGrid`, for the pixels of each chunk.

        With `numbers`, entries are labels as well: of an array that is filled as a whole, they replace those of chunks.
        """
        make = partial(self._graph, statistic, tables, values, np.dtype(dtype), numbers)
        if hasattr(self.data, "expr"):
            return new_array(self.name, partial(make, None), self.data.chunks, dtype, [self.data])
        from intake_img.model.lazy_arrays import filled_array  # imports dask.array

        layer = partial(_deferred, make)
        return filled_array(layer, self.name, self.data.chunks, np.dtype(dtype), self.data)

    def _graph(
        self, statistic: Any, tabled: Any, values: bool, dtype: np.dtype, numbers: bool, out: Any
    ) -> dict[Any, Any]:
        graph: dict[Any, Any] = {}
        name, here = self.name, on_this_machine()
        apart = apart_from_source(graph, name) if out else ()
        new, parts = out or partial(_new_chunk, self.data.chunks, dtype), f"part-{name}"
        replaced = bool(out and numbers)
        if replaced:  # a cache of dask must not take them for those of another computation
            parts += f"-{uuid4().hex}"
        for image in np.ndindex(*self.data.numblocks[: self.lead]):
            summaries, tables = [], ("tables-" + name, *image)
            for n, k in enumerate(np.ndindex(*self.data.numblocks[self.lead :])):
                part, place = (parts, *image, *k), (*image, *k)
                make = partial(self._part, k, statistic, values, new(place) if replaced else None)
                graph[part] = (make, (self.data.name, *place), *apart)
                graph[(name, *place)] = (partial(_looked_up, self.lead, n, new(place)), part, tables)
                summaries.append(part)
                if not here:  # labels stay where they were made
                    summaries[n] = ("summary-" + name, *image, *k)
                    graph[summaries[n]] = (_summary, part)
            links = self._links(parts, image)
            graph.update(links)
            graph[tables] = (partial(tabled, self.grid), summaries, list(links))
        return graph

    def _part(self, k: Place, statistic: Any, values: bool, new: Any, block: np.ndarray, *_: Any) -> ChunkLabels:
        image, out = (0,) * self.lead, new() if new else None
        part = self.grid.part(k, block[image], statistic, self.holes, values, None if out is None else out[image])
        return replace(part, out=out)

    def _links(self, name: str, image: tuple[int, ...]) -> dict[Any, Any]:
        """Return the tasks that find which labels touch across boundaries that are close to each other."""
        links: dict[Any, Any] = {}
        for axis in self.grid.close:
            for k in np.ndindex(*self.data.numblocks[self.lead :]):
                if across := self.grid.across(k, axis):
                    parts = [(name, *image, *p) for p in (k, *across)]
                    links[(f"links-{axis}-{self.name}", *image, *k)] = (partial(self.grid.links, k, axis), parts)
        return links

    def result(self, made: Any, kind: str) -> xr.DataArray:
        return _named(self.array, made, (*self.outer, *self.axes), kind)


def _deferred(make: Callable[[Any], dict[Any, Any]], out: Any) -> DeferredLayer:
    return DeferredLayer(partial(make, out))


def _of_block(func: Callable[..., np.ndarray], source: str, place: tuple[int, ...]) -> Task:
    return func, (source, *place)


def _label_whole(lead: int, structure: np.ndarray, block: np.ndarray) -> np.ndarray:
    image = block[(0,) * lead]
    out = np.empty(block.shape, labelling.number_type(image.shape))
    labelling.label_image(image if image.dtype == bool else image != 0, structure, out[(0,) * lead])
    return out


def _new_chunk(chunks: Sequence[Sequence[int]], dtype: Any, place: tuple[int, ...]) -> Callable[[], np.ndarray]:
    return partial(np.empty, tuple(c[k] for c, k in zip(chunks, place, strict=True)), dtype)


def _looked_up(
    lead: int, n: int, new: Callable[[], np.ndarray], part: ChunkLabels, tables: Sequence[np.ndarray]
) -> np.ndarray:
    out = new() if part.out is None else part.out
    labelling.look_up(tables[n], part.labels, out[(0,) * lead])
    return out


def _summary(part: ChunkLabels) -> ChunkLabels:
    return replace(part, labels=part.labels[:0].copy(), out=None)  # a view would keep the labels in memory


def _looked_up_whole(
    structure: np.ndarray,
    holes: bool,
    statistic: Any,
    finish: Callable[..., np.ndarray],
    values: bool,
    image: np.ndarray,
) -> np.ndarray:
    """Return the entries of the table of one image that is a single chunk; see `_Parts`."""
    grid = ChunkGrid(tuple((n,) for n in image.shape), structure)
    part = grid.part((0,) * image.ndim, image, statistic, holes, values)
    (table,) = grid.tables([part], finish=finish)
    out = np.empty(image.shape, table.dtype)
    labelling.look_up(table, part.labels, out)
    return out


@dataclass(frozen=True, eq=False)
class ChunkLabels:
    """What is found in a chunk.

    Parameters
    ----------
    labels : ndarray
        Of parts of components; see `labelling.label_parts`.
    n : int
        Number of labels.
    found : ndarray
        A number for each label, or for each line of pixels.
    pairs : ndarray of shape (M, 2)
        Labels of the same component.
    planes : dict
        See `ChunkGrid.planes`; without the planes across the axes that are `ChunkGrid.close`.
    out : ndarray, optional
        To be filled with what becomes of the labels, which may lie in it; a chunk with its outer axes.
    """

    labels: np.ndarray
    n: int
    found: np.ndarray
    pairs: np.ndarray
    planes: dict[Any, np.ndarray]
    out: np.ndarray | None = None


@dataclass(frozen=True)
class ChunkGrid:
    """The chunks of one image, and the joining of their components."""

    chunks: tuple[tuple[int, ...], ...]
    structure: np.ndarray

    @property
    def close(self) -> list[int]:
        """The axes whose boundaries are so close to each other that all their planes would be much of the image."""
        return [axis for axis, c in enumerate(self.chunks) if len(c) > 1 and sum(c) < CLOSE * len(c)]

    def part(
        self, k: Place, image: np.ndarray, statistic: Any, holes: bool, values: bool, out: np.ndarray | None = None
    ) -> ChunkLabels:
        """Label a chunk; in `out`, if it is given, where labels are many."""
        mask = image if image.dtype == bool else image != 0
        mask = np.ascontiguousarray(~mask if holes else mask)
        few = labelling.are_few(mask)
        labels = np.empty(mask.shape, np.uint16 if few else np.int32) if few or out is None else out
        n, pairs = labelling.label_parts(mask, self.structure, labels)
        if labels is not out:
            labels = kept(labels, min(labels.dtype, np.min_scalar_type(n), key=_itemsize))
        shape = [sum(c) for c in self.chunks]
        found = statistic(image, labels, n) if values else statistic(labels, n, self.start(k), shape)
        return ChunkLabels(labels, n, found, pairs, self.planes(k, labels, self.close))

    def start(self, k: tuple[int, ...]) -> list[int]:
        """Return the position of a chunk in the image."""
        return [sum(c[:i]) for c, i in zip(self.chunks, k, strict=True)]

    def planes(self, k: tuple[int, ...], labels: np.ndarray, without: Sequence[int] = ()) -> dict[Any, np.ndarray]:
        """Return the label planes of a chunk at its boundaries, except at those across some axes."""
        planes = {}
        for axis, i in enumerate(k):
            if i > 0 and axis not in without:
                planes[(axis, 0)] = _face(labels, axis, 0).copy()
            if i < len(self.chunks[axis]) - 1 and axis not in without:
                planes[(axis, 1)] = _face(labels, axis, -1).copy()
        return planes

    def across(self, k: Place, axis: int) -> list[Place]:
        """Return the chunks that touch chunk `k` at its end along an axis; the first is opposite to it."""
        if k[axis] == len(self.chunks[axis]) - 1:
            return []
        places = [tuple(map(add, k, step)) for step in self._steps[axis]]
        return [p for p in places if all(0 <= i < len(c) for i, c in zip(p, self.chunks, strict=True))]

    @cached_property
    def _steps(self) -> list[list[Place]]:
        """For each axis, from a chunk to those that touch it at its end; the first is to the opposite one."""
        steps = [
            step
            for step in product((-1, 0, 1), repeat=len(self.chunks))
            if self.structure[tuple(map((1).__add__, step))]
        ]
        steps.sort(key=lambda step: sum(map(abs, step)))
        return [[step for step in steps if step[axis] == 1] for axis in range(len(self.chunks))]

    def links(self, k: Place, axis: int, parts: Sequence[ChunkLabels]) -> np.ndarray:
        """Return which labels touch at the end of a chunk along an axis, with the places of their chunks in C order.

        Parameters
        ----------
        k, axis
            See `across`.
        parts : sequence of ChunkLabels
            The chunk and those of `across`.

        Returns
        -------
        ndarray of shape (M, 2)
            ``place * 2**32 + label``.
        """
        planes = [_face(part.labels, axis, 0 if n else -1) for n, part in enumerate(parts)]
        across = self.across(k, axis)
        return self._touching(k, axis, planes[0], dict(zip(across, planes[1:], strict=True)), self._place)

    def tables(
        self,
        parts: Sequence[ChunkLabels],
        links: Sequence[np.ndarray] = (),
        *,
        finish: Callable[..., np.ndarray],
    ) -> list[np.ndarray]:
        """Return a table of the labels of every chunk, made of what is found; its entry 0 is for the background."""
        offsets, pairs = self._pairs([p.n for p in parts], [p.planes for p in parts], [*links, *_own(parts)])
        final = finish(np.concatenate([p.found for p in parts]), *component_numbers.components(int(offsets[-1]), pairs))
        return [np.concatenate([final[:1], final[a + 1 : b + 1]]) for a, b in pairwise(offsets)]

    def numbered(
        self, parts: Sequence[ChunkLabels], links: Sequence[np.ndarray] = (), *, dtype: np.dtype
    ) -> list[np.ndarray]:
        """Return a table of the final labels of every chunk; what is found is that of `component_numbers.begun`."""
        _, pairs = self._pairs([p.n + 1 for p in parts], [p.planes for p in parts], [*links, *_own(parts)])
        return component_numbers.common_tables([p.found for p in parts], pairs, self.chunks, dtype)

    def joined(
        self, numbers: Sequence[int], planes_of: Sequence[dict[Any, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the offset of the labels of each chunk in the image, and the component of each label.

        Parameters
        ----------
        numbers : sequence of int
            Number of labels of each chunk, in C order.
        planes_of : sequence of dict
            See `planes`.
        """
        offsets, pairs = self._pairs(numbers, planes_of)
        return offsets, component_numbers.components(int(offsets[-1]), pairs)[1]

    def _pairs(
        self,
        numbers: Sequence[int],
        planes_of: Sequence[dict[Any, np.ndarray]],
        links: Sequence[np.ndarray] = (),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the offset of the labels of each chunk in the image, and labels with offsets that are joined.

        Parameters
        ----------
        numbers : sequence of int
            By how much the offset grows with each chunk, in C order.
        planes_of : sequence of dict
            See `planes`.
        links : sequence of ndarray
            Further pairs; see `links`.
        """
        offsets = np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)
        pairs = [np.empty((0, 2), np.int64), *(offsets[found >> 32] + (found & 0xFFFFFFFF) for found in links)]
        for axis, c in enumerate(self.chunks):
            starts = [list(accumulate(c[:-1], initial=0)) for n, c in enumerate(self.chunks) if n != axis]
            for i in range(len(c) - 1 if (axis, 1) in planes_of[0] else 0):
                before, after = (self._plane(axis, i + 1 - side, side, offsets, planes_of) for side in (1, 0))
                pairs.append(labelling.touching(before, after, self.structure, axis, starts))
        return offsets, np.concatenate(pairs)

    def _plane(
        self, axis: int, i: int, side: int, offsets: np.ndarray, planes_of: Sequence[dict[Any, np.ndarray]]
    ) -> np.ndarray:
        """Return the complete plane of the image at a side of its chunks `i` along an axis; offsets are added."""
        starts = [[0, *accumulate(c)] for n, c in enumerate(self.chunks) if n != axis]
        plane = np.zeros([s[-1] for s in starts], np.int64)
        numbers = np.arange(len(planes_of)).reshape([*map(len, self.chunks)]).take(i, axis)
        for n, k in zip(numbers.ravel().tolist(), np.ndindex(*numbers.shape), strict=True):
            at = tuple([slice(s[j], s[j + 1]) for s, j in zip(starts, k, strict=True)])
            plane[at] = _shifted(planes_of[n][(axis, side)], int(offsets[n]))
        return plane

    def _place(self, k: Place) -> int:
        return int(np.ravel_multi_index(k, [len(c) for c in self.chunks])) << 32

    def _touching(
        self,
        k: Place,
        axis: int,
        before: np.ndarray,
        after: Mapping[Place, np.ndarray],
        offset: Callable[[Place], int],
    ) -> np.ndarray:
        """Return the pairs of labels that touch at the end of a chunk, to which the offsets of chunks are added."""
        if len(after) == 1:
            ((opposite, plane),) = after.items()
            return labelling.touching(before, plane, self.structure, axis) + np.array([offset(k), offset(opposite)])
        both = np.zeros((2, *(n + 2 for n in before.shape)), np.int64)
        inner = (slice(1, -1),) * before.ndim
        both[0][inner] = _shifted(before, offset(k))
        for place, plane in after.items():
            steps = [p - i for n, (p, i) in enumerate(zip(place, k, strict=True)) if n != axis]
            edge = tuple({-1: slice(-1, None), 0: slice(None), 1: slice(0, 1)}[s] for s in steps)
            here = tuple({-1: slice(0, 1), 0: slice(1, -1), 1: slice(-1, None)}[s] for s in steps)
            both[1][here] = _shifted(plane[edge], offset(place))
        return labelling.touching(both[0], both[1], self.structure, axis)


def _own(parts: Sequence[ChunkLabels]) -> list[np.ndarray]:
    """Return the labels of the same component in each chunk; see `ChunkGrid.links`."""
    return [p.pairs.astype(np.int64) + (n << 32) for n, p in enumerate(parts)]


def _face(labels: np.ndarray, axis: int, at: int) -> np.ndarray:
    """Return a view of the plane at a place on an axis; `numpy.take` would copy all of an array that is a part."""
    return labels[(slice(None),) * axis + (at,)]


def _shifted(labels: np.ndarray, offset: int) -> np.ndarray:
    return np.where(labels > 0, labels + np.int64(offset), 0)
