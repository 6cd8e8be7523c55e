"""Functions of single connected components of a mask, exact for every chunking.

Components within a chunk are processed with the chunk. Components that touch a chunk boundary are gathered from all
chunks, joined, and processed each in its own bounding box. Other pixels stay in their chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.components import ChunkGrid, image_blocks, structure_of
from intake_img.accessor.processing.halo import new_array
from intake_img.accessor.processing.in_memory import by_image, is_held
from intake_img.accessor.processing.kept import kept
from intake_img.accessor.variables import with_data
from intake_img.kernels import labelling

__all__ = ["by_component"]

Box = tuple[slice, ...]
OfComponent = Callable[[np.ndarray, Sequence[np.ndarray], Sequence[int], Sequence[int]], np.ndarray]
"""Of a mask, further images, their place in the whole image and its shape: values of the pixels of the mask, else 0."""
Found = tuple[np.ndarray, int, dict[Any, np.ndarray], list[tuple[int, Box, list[np.ndarray]]]]
"""The values of the components within a chunk, its number of labels, planes at cuts, and what reaches a cut."""


def by_component(
    mask: xr.DataArray,
    others: Sequence[xr.DataArray],
    axes: Sequence[str],
    func: OfComponent,
    dtype: Any,
    *,
    several: OfComponent | None = None,
    name: str,
) -> xr.DataArray:
    """Apply a function to the components of a mask; the result is 0 elsewhere.

    Parameters
    ----------
    mask : xarray.DataArray of bool
    others : sequence of xarray.DataArray
        Further inputs of the function, with the axes of the mask.
    axes : sequence of str
        Of an image.
    func : callable
        It gets one component, with a margin of one pixel, except at the edge of the image.
    dtype : dtype
    several : callable, optional
        The same of many components in one mask, in less time.
    name : str
        Name of the step.
    """
    if all(map(is_held, (mask, *others))):
        complete = partial(_of_image, func, several, np.dtype(dtype))
        return by_image([mask, *(o.transpose(*mask.dims) for o in others)], axes, complete, dtype)
    from dask import base

    outer, data = image_blocks(mask, axes)
    lead = len(outer)
    more = [image_blocks(o.transpose(*mask.dims), axes)[1].rechunk(data.chunks) for o in others]
    grid = ChunkGrid(data.chunks[lead:], structure_of(len(axes), axes))
    work = _Work(grid, lead, func, several, np.dtype(dtype))
    token = f"{name}-{base.tokenize(data.name, [m.name for m in more], func, several, str(dtype))}"
    graph = partial(_graph, work, token, data.numblocks, [a.name for a in (data, *more)])
    made = new_array(token, graph, data.chunks, dtype, [data, *more])
    return with_data(mask, made, (*outer, *axes)).transpose(*mask.dims)


def _graph(work: _Work, token: str, numblocks: Sequence[int], sources: Sequence[str]) -> dict[Any, Any]:
    graph: dict[Any, Any] = {}
    places = list(np.ndindex(*numblocks[work.lead :]))
    for image in np.ndindex(*numblocks[: work.lead]):
        parts = [("part-" + token, *image, *k) for k in places]
        joined = ("joined-" + token, *image)
        graph[joined] = (work.joined, parts)
        for n, (k, part) in enumerate(zip(places, parts, strict=True)):
            first, *others = [(source, *image, *k) for source in sources]
            graph[part] = (partial(work.part, k), first, others)
            graph[(token, *image, *k)] = (partial(work.pasted, n), part, joined)
    return graph


@dataclass(frozen=True)
class _Work:
    """The tasks of one image."""

    grid: ChunkGrid
    lead: int
    func: OfComponent
    several: OfComponent | None
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(sum, self.grid.chunks))

    def part(self, k: tuple[int, ...], block: np.ndarray, others: Sequence[np.ndarray]) -> Found:
        """Process the components within a chunk, and extract the ones that touch a boundary."""
        mask, images = block[(0,) * self.lead], [o[(0,) * self.lead] for o in others]
        if self.several and mask.shape == self.shape:  # nothing is cut
            return self.several(mask, images, self.grid.start(k), self.shape).astype(self.dtype, copy=False), 0, {}, []
        labels, n = labelling.label_chunk(mask, self.grid.structure)
        planes, start = self.grid.planes(k, labels), self.grid.start(k)
        cut = np.zeros(n + 1, bool)
        for plane in planes.values():
            cut[plane.ravel()] = True
        cut[0] = False
        boxes = _boxes(labels) if not self.several or cut.any() else []
        if not self.several or cut[1:].all():
            values = np.zeros(mask.shape, self.dtype)
            for label in np.flatnonzero(~cut[1:]) + 1:
                self._fill(values, labels, int(label), boxes[label - 1], images, start)
        else:
            inside = np.concatenate([[False], ~cut[1:]]).take(labels)
            values = self.several(inside, images, start, self.shape).astype(self.dtype, copy=False)
        pieces = []
        for label in np.flatnonzero(cut):
            box = boxes[label - 1]
            own = [labels[box] == label, *[i[box].copy() for i in images]]
            pieces.append(
                (int(label), tuple(slice(b.start + s, b.stop + s) for b, s in zip(box, start, strict=True)), own)
            )
        return kept(values, self.dtype) if planes else values, n, planes, pieces

    def _fill(
        self, values: np.ndarray, labels: np.ndarray, label: int, box: Box, images: Sequence[np.ndarray], start: Any
    ) -> None:
        around = _grown(box, values.shape)
        mask = labels[around] == label
        place = [a.start + s for a, s in zip(around, start, strict=True)]
        values[around][mask] = self.func(mask, [i[around] for i in images], place, self.shape)[mask]

    def joined(self, parts: Sequence[Found]) -> list[list[tuple[Box, np.ndarray, np.ndarray]]]:
        """Process the components that touch boundaries; return, for each chunk, the values and where to put them."""
        offsets, component = self.grid.joined([p[1] for p in parts], [p[2] for p in parts])
        groups: dict[int, list[tuple[int, Box, list[np.ndarray]]]] = {}
        for n, part in enumerate(parts):
            for label, box, images in part[3]:
                groups.setdefault(int(component[offsets[n] + label - 1]), []).append((n, box, images))
        found: list[list[tuple[Box, np.ndarray, np.ndarray]]] = [[] for _ in parts]
        starts = [self.grid.start(k) for k in np.ndindex(*map(len, self.grid.chunks))]
        for pieces in groups.values():
            around, values = self._together(pieces)
            for n, box, images in pieces:
                here = tuple(slice(b.start - a.start, b.stop - a.start) for b, a in zip(box, around, strict=True))
                local = tuple(slice(b.start - s, b.stop - s) for b, s in zip(box, starts[n], strict=True))
                found[n].append((local, images[0], values[here][images[0]]))
        return found

    def _together(self, pieces: Sequence[tuple[int, Box, list[np.ndarray]]]) -> tuple[Box, np.ndarray]:
        """Process one component that is joined from several chunks."""
        around = _grown(
            tuple(
                slice(min(s.start for s in axis), max(s.stop for s in axis))
                for axis in zip(*(p[1] for p in pieces), strict=True)
            ),
            self.shape,
        )
        whole = [np.zeros([s.stop - s.start for s in around], i.dtype) for i in pieces[0][2]]
        for _, box, images in pieces:
            here = tuple(slice(b.start - a.start, b.stop - a.start) for b, a in zip(box, around, strict=True))
            for target, image in zip(whole, images, strict=True):
                target[here][images[0]] = image[images[0]]
        return around, self.func(whole[0], whole[1:], [s.start for s in around], self.shape)

    def pasted(self, n: int, part: Found, joined: Sequence[Sequence[tuple[Box, np.ndarray, np.ndarray]]]) -> np.ndarray:
        values = part[0].copy() if joined[n] else part[0]
        for box, mask, own in joined[n]:
            values[box][mask] = own
        return values[(None,) * self.lead]


def _of_image(
    func: OfComponent, several: OfComponent | None, dtype: np.dtype, mask: np.ndarray, *others: np.ndarray
) -> np.ndarray:
    """Process the components of one complete image."""
    grid = ChunkGrid(tuple((n,) for n in mask.shape), structure_of(mask.ndim, mask.shape))
    return _Work(grid, 0, func, several, dtype).part((0,) * mask.ndim, mask, others)[0]


def _boxes(labels: np.ndarray) -> list[Box]:
    from scipy import ndimage

    return ndimage.find_objects(labels)


def _grown(box: Box, shape: Sequence[int]) -> Box:
    return tuple(slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, shape, strict=True))
