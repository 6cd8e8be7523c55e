"""Images that are computed completely when writing begins, because every part of them depends on the whole.

Writers read an image part by part. Where each chunk depends on all of the image (labels across chunks, a division by
the standard deviation), dask would compute everything again for each part.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.model.machine import memory
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Dask, compute_into
from intake_img.storage.spill import SpillingMemory

__all__ = ["computed_now", "computed_once", "depends_on_far"]

_FAR = 4
"""Chunks so far apart have no halo in common."""

Key = tuple[int, str]
"""The number of an image and the name of a variable."""


def computed_once(images: Sequence[Image], folder: str | None = None) -> list[Image]:
    """Return images whose parts can be read one by one, without computing anything twice.

    Variables whose distant chunks share tasks are all computed when the first part of one is read: in memory up to an
    eighth of that of the machine, beyond it in an unnamed temporary file. The others stay as they are.

    Parameters
    ----------
    images : sequence of Image
        An image, and the further levels of a pyramid.
    folder : str, optional
        Folder of the temporary file; by default the folder for temporary files.
    """
    arrays = dict(_shared(images))
    values = _Values(arrays, folder)
    return [
        replace(image, variables={name: _read_from(values, (k, name), v) for name, v in image.variables.items()})
        for k, image in enumerate(images)
    ]


def computed_now(image: Image, folder: str | None = None) -> Image:
    """Return an image whose values are all computed now, in memory or an unnamed temporary file as for `computed_once`.

    Parameters
    ----------
    image : Image
    folder : str, optional
        Folder of the temporary file; by default the folder for temporary files.
    """
    lazy = {n: v.pixels for n, v in image.variables.items() if not v.pixels.in_memory}
    arrays = [p.reader.array if isinstance(p.reader, Dask) else p.dask() for p in lazy.values()]
    spilling = SpillingMemory(memory() // 8, folder)
    made = [spilling.empty(a.shape, a.dtype.newbyteorder("=")) for a in arrays]
    compute_into(arrays, made)
    values = {n: replace(image.variables[n], pixels=Pixels.of(a)) for n, a in zip(lazy, made, strict=True)}
    return replace(image, variables={**image.variables, **values})


def _read_from(values: _Values, key: Key, variable: Any) -> Any:
    if key not in values.arrays:
        return variable
    return replace(variable, pixels=replace(variable.pixels, reader=_Value(values, key)))


def _shared(images: Sequence[Image]) -> Iterator[tuple[Key, Any]]:
    for k, image in enumerate(images):
        for name, variable in image.variables.items():
            reader = variable.pixels.reader
            if isinstance(reader, Dask) and depends_on_far(reader.array):
                yield (k, name), reader.array


class _Values:
    """The values of dask arrays, all computed when one is first needed."""

    def __init__(self, arrays: Mapping[Key, Any], folder: str | None) -> None:
        self.arrays, self._folder = arrays, folder
        self._made: dict[Key, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getitem__(self, key: Key) -> np.ndarray:
        with self._lock:
            if not self._made:
                spilling = SpillingMemory(memory() // 8, self._folder)
                made = {k: spilling.empty(a.shape, a.dtype.newbyteorder("=")) for k, a in self.arrays.items()}
                compute_into(list(self.arrays.values()), list(made.values()))
                self._made = made
        return self._made[key]


class _Value:
    """The reader of one of the values."""

    def __init__(self, values: _Values, key: Key) -> None:
        self.values, self.key = values, key

    def __reduce__(self) -> tuple[Any, ...]:
        return Dask, (self.values.arrays[self.key],)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self.values[self.key][region]


def depends_on_far(array: Any) -> bool:
    """Return whether chunks of a dask array that lie far apart along an axis depend on the same intermediate results.

    Tasks without inputs, such as those that read a file or contain an array, do not count.
    """
    far = [axis for axis, count in enumerate(array.numblocks) if count >= _FAR]
    if not far or 0 in array.shape:
        return False
    origin = (0,) * array.ndim
    needed = _needed(array, origin)
    ends = ((*origin[:k], array.numblocks[k] - 1, *origin[k + 1 :]) for k in far)
    return any(needed & _needed(array, end) for end in ends)


def _needed(array: Any, place: tuple[int, ...]) -> set[Any]:
    """Return the keys of the tasks with inputs on which a chunk depends."""
    from dask import highlevelgraph, optimization

    graph = array.__dask_graph__()
    if isinstance(graph, highlevelgraph.HighLevelGraph):
        inputs = graph.cull({(array.name, *place)}).get_all_dependencies()
    else:  # the keys of array expressions are not the name of the array and the place
        keys: Any = array.__dask_keys__()
        for k in place:
            keys = keys[k]
        inputs = optimization.cull(dict(graph), keys)[1]
    return {key for key, needs in inputs.items() if needs}
