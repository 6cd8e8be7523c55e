"""Which part of a file an untransformed dask array shows: selections and exchanged axes are followed through its graph.

The graph is run with boxes, arrays that know nothing but which indices of the file each of their axes stands for, in
place of the chunks of the file. What comes out as boxes is a selection; what does not is left to dask.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from intake_img.model.pixels import UNCHANGED, Pixels

__all__ = ["followed"]

_MOST_BLOCKS = 10_000


class _Untraceable(Exception):
    """Something was done to a box that is no selection."""


@dataclass(frozen=True, eq=False)
class _Box:
    """A part of an array: for each axis, which axis of the array it is, and its indices there; fixed ones beside."""

    axes: tuple[int, ...]
    indices: tuple[np.ndarray, ...]
    fixed: tuple[tuple[int, int], ...]
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(i) for i in self.indices)

    @property
    def ndim(self) -> int:
        return len(self.axes)

    def __getitem__(self, key: Any) -> _Box:
        key = key if isinstance(key, tuple) else (key,)
        if Ellipsis in [k for k in key if not isinstance(k, np.ndarray)] or len(key) > self.ndim:
            raise _Untraceable
        key += (slice(None),) * (self.ndim - len(key))
        axes, indices, fixed = [], [], list(self.fixed)
        lists = 0
        for axis, index, k in zip(self.axes, self.indices, key, strict=True):
            if isinstance(k, (int, np.integer)) and not isinstance(k, (bool, np.bool_)):
                fixed.append((axis, int(index[k])))
                continue
            if not isinstance(k, slice):
                k, lists = np.asarray(k), lists + 1
                if k.ndim != 1 or k.dtype.kind not in "iub" or lists > 1:
                    raise _Untraceable
            axes.append(axis)
            indices.append(index[k])
        return _Box(tuple(axes), tuple(indices), tuple(fixed), self.dtype)

    def transpose(self, *given: Any) -> _Box:
        order: Any = given
        if len(given) == 1 and not isinstance(given[0], (int, np.integer)):
            order = given[0]
        places = tuple(reversed(range(self.ndim))) if not order else tuple(int(k) % self.ndim for k in order)
        return _Box(tuple(self.axes[k] for k in places), tuple(self.indices[k] for k in places), self.fixed, self.dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise _Untraceable

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        raise _Untraceable

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.transpose:
            return self.transpose(kwargs.get("axes", args[1] if len(args) > 1 else None))
        raise _Untraceable


def followed(array: Any) -> Pixels | None:
    """Return the pixels that a dask array shows a part of; None if anything else was done to them."""
    layers = getattr(array.dask, "layers", {})
    found = [name for name in layers if name in UNCHANGED]
    if len(found) != 1 or len(layers) > 8 or array.npartitions > _MOST_BLOCKS:
        return None
    name = found[0]
    pixels = UNCHANGED[name]
    if name == array.name:
        return pixels if pixels.shape == array.shape else None
    try:
        boxes = _boxes(array, name, pixels)
        return _selected(array, boxes, pixels)
    except Exception:  # whatever a graph does to a box that is no array: dask computes it
        return None


def _boxes(array: Any, name: str, pixels: Pixels) -> dict[tuple[int, ...], _Box]:
    """Run the graph on boxes and return that of each block."""
    import dask
    from dask.core import flatten

    layers = array.dask.layers
    edges = _edges(layers[name], pixels)
    graph: dict[Any, Any] = {}
    for layer_name, layer in layers.items():
        if layer_name != name:
            graph.update(dict(layer))
    for place in product(*(range(len(e) - 1) for e in edges)):
        indices = tuple(np.arange(e[k], e[k + 1]) for e, k in zip(edges, place, strict=True))
        graph[(name, *place)] = _Box(tuple(range(pixels.ndim)), indices, (), pixels.dtype)
    wanted = list(flatten(array.__dask_keys__()))
    results = dask.get(graph, wanted)
    found = dict(zip([k[1:] for k in wanted], results, strict=True))
    if not all(isinstance(b, _Box) for b in found.values()):
        raise _Untraceable
    return found


def _edges(layer: Any, pixels: Pixels) -> list[list[int]]:
    """Return where the chunks of the file's array begin, which its layer knows."""
    found = [d.chunks for d in layer.io_deps.values() if hasattr(d, "chunks")]
    if len(found) != 1 or tuple(sum(c) for c in found[0]) != pixels.shape:
        raise _Untraceable
    return [[0, *np.cumsum(c).tolist()] for c in found[0]]


def _selected(array: Any, boxes: dict[tuple[int, ...], _Box], pixels: Pixels) -> Pixels:
    """Return the selection that all boxes together are; each axis must be the same in all blocks of a row."""
    first = boxes[(0,) * array.ndim]
    chosen: list[list[np.ndarray]] = []
    for d, axis_chunks in enumerate(array.chunks):
        places = [tuple(k if e == d else 0 for e in range(array.ndim)) for k in range(len(axis_chunks))]
        chosen.append([boxes[place].indices[d] for place in places])
    for place, box in boxes.items():
        same = box.axes == first.axes and dict(box.fixed) == dict(first.fixed)
        if not same or any(
            not np.array_equal(i, chosen[d][k]) for d, (i, k) in enumerate(zip(box.indices, place, strict=True))
        ):
            raise _Untraceable
    keys: list[Any] = [slice(None)] * pixels.ndim
    for axis, rows in zip(first.axes, chosen, strict=True):
        index = np.concatenate(rows)
        steps = np.diff(index)
        if len(index) and (steps == 1).all():
            keys[axis] = slice(int(index[0]), int(index[-1]) + 1)
        else:
            keys[axis] = index
    for axis, value in first.fixed:
        keys[axis] = value
    part = pixels.select(keys)
    dropped = {axis for axis, _ in first.fixed}
    part = part.reshape([k for k in range(pixels.ndim) if k not in dropped])
    left = [k for k in range(pixels.ndim) if k not in dropped]
    part = part.transpose([left.index(axis) for axis in first.axes])
    if part.shape != array.shape or part.dtype != array.dtype:
        raise _Untraceable
    return part
