"""Connected components of chunked images: their labels, and masks of selected components.

Every chunk is labelled separately. A summary (the number of labels, a statistic for each, the planes at its boundaries)
goes to one task for each image, which joins components across boundaries and returns a table for the labels of each
chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import integer, neighbourhood
from intake_img.accessor.processing.halo import new_array
from intake_img.accessor.processing.in_memory import by_image, is_held
from intake_img.accessor.variables import lazy, with_data
from intake_img.kernels import labelling
from intake_img.model.axes import spell
from intake_img.model.datasets import data_of
from intake_img.model.graph_layers import BlockLayer, Task

__all__ = ["ChunkGrid", "image_blocks", "labelled", "reached", "selected", "structure_of"]

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
    if is_held(array):
        return _of_images(array, axes, partial(_label_whole, 0, structure), np.int64, "labels")
    parts = _Parts(array, axes, structure, "label")
    if parts.single:
        return parts.result(parts.mapped(_label_whole, np.int64), "labels")
    return parts.result(parts.looked_up(labelling.first_rows, labelling.unified, np.int64), "labels")


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
    return parts.result(parts.looked_up(statistic, finish, np.dtype(bool)), "mask")


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
    return parts.result(parts.looked_up(_overlap, finish, np.dtype(bool), values=True), "mask")


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
        from dask.base import tokenize

        self.array, self.axes = array, tuple(axes)
        self.outer, self.data = image_blocks(array, axes)
        self.lead = len(self.outer)
        self.structure, self.holes = structure, holes
        self.grid = ChunkGrid(self.data.chunks[self.lead :], structure)
        self.name = f"{name}-{tokenize(self.data.name, structure, holes, axes)}"

    @property
    def single(self) -> bool:
        """Whether every image is one chunk."""
        return all(len(c) == 1 for c in self.grid.chunks)

    def mapped(self, func: Callable[..., np.ndarray], dtype: Any) -> Any:
        """Return the result of a function for each image."""
        task = partial(_of_block, partial(func, self.lead, self.structure), self.data.name)
        layer = BlockLayer(self.name, self.data.numblocks, task)
        return new_array(self.name, layer, self.data.chunks, dtype, [self.data])

    def looked_up(self, statistic: Any, finish: Callable[..., np.ndarray], dtype: Any, values: bool = False) -> Any:
        """Return the entries of the tables of labels for the pixels of each chunk."""
        make = partial(self._graph, statistic, finish, values)
        if hasattr(self.data, "expr"):
            graph = partial(make, partial(_new_chunk, self.data.chunks, dtype))
            return new_array(self.name, graph, self.data.chunks, dtype, [self.data])
        from intake_img.model.lazy_arrays import filled_array  # imports dask.array

        return filled_array(make, self.name, self.data.chunks, np.dtype(dtype), self.data)

    def _graph(self, statistic: Any, finish: Callable[..., np.ndarray], values: bool, out: Any) -> dict[Any, Any]:
        graph: dict[Any, Any] = {}
        name = self.name
        for image in np.ndindex(*self.data.numblocks[: self.lead]):
            summaries, tables = [], ("tables-" + name, *image)
            for n, k in enumerate(np.ndindex(*self.data.numblocks[self.lead :])):
                block, part = (self.data.name, *image, *k), ("part-" + name, *image, *k)
                graph[part] = (partial(_label_part, self.lead, self.structure, self.holes), block)
                summary = partial(self.grid.summary, k, statistic, self.lead)
                graph[("summary-" + name, *image, *k)] = (summary, part, block if values else None)
                summaries.append(("summary-" + name, *image, *k))
                graph[(name, *image, *k)] = (partial(_looked_up, self.lead, n, out((*image, *k))), part, tables)
            graph[tables] = (partial(self.grid.tables, finish), summaries)
        return graph

    def result(self, made: Any, kind: str) -> xr.DataArray:
        return _named(self.array, made, (*self.outer, *self.axes), kind)


def _of_block(func: Callable[..., np.ndarray], source: str, place: tuple[int, ...]) -> Task:
    return func, (source, *place)


def _label_whole(lead: int, structure: np.ndarray, block: np.ndarray) -> np.ndarray:
    image = block[(0,) * lead]
    out = np.empty(block.shape, np.int64)
    labelling.label_image(image if image.dtype == bool else image != 0, structure, out[(0,) * lead])
    return out


def _label_part(lead: int, structure: np.ndarray, holes: bool, block: np.ndarray) -> tuple[np.ndarray, int]:
    image = block[(0,) * lead]
    mask = image if image.dtype == bool else image != 0
    return labelling.label_chunk(~mask if holes else mask, structure)


def _new_chunk(chunks: Sequence[Sequence[int]], dtype: Any, place: tuple[int, ...]) -> Callable[[], np.ndarray]:
    return partial(np.empty, tuple(c[k] for c, k in zip(chunks, place, strict=True)), dtype)


def _looked_up(
    lead: int, n: int, new: Callable[[], np.ndarray], part: tuple[np.ndarray, int], tables: Sequence[np.ndarray]
) -> np.ndarray:
    out = new()
    labelling.look_up(tables[n], part[0], out[(0,) * lead])
    return out


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
    part = _label_part(0, structure, holes, image)
    summary = grid.summary((0,) * image.ndim, statistic, 0, part, image if values else None)
    (table,) = grid.tables(finish, [summary])
    out = np.empty(image.shape, table.dtype)
    labelling.look_up(table, part[0], out)
    return out


@dataclass(frozen=True)
class ChunkGrid:
    """The chunks of one image, and the joining of their components."""

    chunks: tuple[tuple[int, ...], ...]
    structure: np.ndarray

    def summary(
        self, k: tuple[int, ...], statistic: Any, lead: int, part: tuple[np.ndarray, int], block: np.ndarray | None
    ) -> tuple[np.ndarray, dict[Any, np.ndarray]]:
        """Return the summary of a chunk: a number for each label, and the planes at its boundaries."""
        labels, n = part
        shape, start = [sum(c) for c in self.chunks], self.start(k)
        found = statistic(labels, n, start, shape) if block is None else statistic(block[(0,) * lead], labels, n)
        return found, self.planes(k, labels)

    def start(self, k: tuple[int, ...]) -> list[int]:
        """Return the position of a chunk in the image."""
        return [sum(c[:i]) for c, i in zip(self.chunks, k, strict=True)]

    def planes(self, k: tuple[int, ...], labels: np.ndarray) -> dict[Any, np.ndarray]:
        """Return the label planes of a chunk at its boundaries."""
        planes = {}
        for axis, i in enumerate(k):
            if i > 0:
                planes[(axis, 0)] = np.take(labels, 0, axis).copy()
            if i < len(self.chunks[axis]) - 1:
                planes[(axis, 1)] = np.take(labels, -1, axis).copy()
        return planes

    def tables(
        self, finish: Callable[..., np.ndarray], summaries: Sequence[tuple[np.ndarray, dict[Any, np.ndarray]]]
    ) -> list[np.ndarray]:
        """Return a table of the labels of every chunk; its entry 0 is for the background."""
        offsets, joined = self.joined([len(s[0]) for s in summaries], [s[1] for s in summaries])
        final = finish(np.concatenate([s[0] for s in summaries]), *joined)
        return [np.concatenate([final[:1], final[a + 1 : b + 1]]) for a, b in pairwise(offsets)]

    def joined(
        self, numbers: Sequence[int], planes_of: Sequence[dict[Any, np.ndarray]]
    ) -> tuple[np.ndarray, tuple[int, np.ndarray]]:
        """Return the offset of the labels of each chunk in the image, and the component of each label.

        Parameters
        ----------
        numbers : sequence of int
            Number of labels of each chunk, in C order.
        planes_of : sequence of dict
            See `planes`.
        """
        places = list(np.ndindex(*[len(c) for c in self.chunks]))
        offsets = np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)
        planes = {k: (p, offset) for k, p, offset in zip(places, planes_of, offsets[:-1], strict=True)}
        pairs = [np.empty((0, 2), np.int64)]
        for axis, chunks in enumerate(self.chunks):
            for cut in range(len(chunks) - 1):
                before, after = self._plane(planes, axis, cut, 1), self._plane(planes, axis, cut + 1, 0)
                pairs.append(labelling.touching(before, after, self.structure, axis))
        return offsets, labelling.components(int(offsets[-1]), np.concatenate(pairs))

    def _plane(self, planes: dict[Any, Any], axis: int, place: int, side: int) -> np.ndarray:
        """Return a complete plane of the image at a boundary, in labels that are unique in the image."""
        others = [c for k, c in enumerate(self.chunks) if k != axis]
        out = np.zeros([sum(c) for c in others], np.int64)
        edges = [np.concatenate([[0], np.cumsum(c)]) for c in others]
        for k in product(*[range(len(c)) for c in others]):
            faces, offset = planes[(*k[:axis], place, *k[axis:])]
            face = faces[(axis, side)]
            where = tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, k, strict=True))
            out[where] = np.where(face > 0, face + offset, 0)
        return out
