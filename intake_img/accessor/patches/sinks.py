"""Sinks of finished blocks: arrays in memory, or the arrays of a store in a staging folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.accessor.patches.ledger import mark
from intake_img.accessor.patches.output import Output
from intake_img.accessor.patches.stitch import cast
from intake_img.storage.files import File

__all__ = ["InMemory", "InStore"]


class InMemory:
    """Writes blocks into one array in memory for each source."""

    def __init__(self, outputs: Sequence[Output], fill: Any) -> None:
        from intake_img.model.pixels import Pixels

        self.outputs = outputs
        self.arrays = []
        for out in outputs:
            shape, dtype = tuple(out.sizes.values()), np.dtype(out.dtype)
            array = Pixels(_Nothing(), shape, dtype, shape, parallel=False).read()  # raises a clear error if too large
            array[...] = fill
            self.arrays.append(array)

    def put(self, source: int, number: int, block: np.ndarray) -> None:
        """Write a block."""
        out = self.outputs[source]
        self.arrays[source][out.key(number)] = cast(block, out.dtype)


class _Nothing:
    def read_into(self, region: Any, out: np.ndarray) -> None:
        pass


class InStore:
    """Writes blocks into Zarr arrays, with a marker for each finished block. It is picklable.

    Parameters
    ----------
    folder : File
        The staging folder of the ledger.
    store : File
        The store in it.
    outputs : sequence of Output
    """

    def __init__(self, folder: File, store: File, outputs: Sequence[Output]) -> None:
        self.folder, self.store, self.outputs = folder, store, tuple(outputs)
        self._arrays: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "store": self.store, "outputs": self.outputs, "_arrays": {}}

    def _array(self, source: int) -> Any:
        if source not in self._arrays:
            import zarr

            from intake_img.formats.omezarr.target import array_config, folder_store

            out = self.outputs[source]
            place = self.store.within(out.path, out.array)
            found: Any = zarr.open_array(folder_store(place), mode="r+")
            config = array_config(np.dtype(out.dtype).kind, 0)
            self._arrays[source] = zarr.Array(zarr.AsyncArray(found.metadata, found.store_path, config))
        return self._arrays[source]

    def put(self, source: int, number: int, block: np.ndarray) -> None:
        """Write a block, then its marker."""
        out = self.outputs[source]
        key = dict(zip(out.dims, out.key(number), strict=True))
        inside = tuple(slice(None) if a in out.stored else 0 for a in out.dims)
        left = [a for a in out.dims if a in out.stored]
        data = cast(block, out.dtype)[inside].transpose([left.index(a) for a in out.stored])
        self._array(source)[tuple(key[a] for a in out.stored)] = data
        mark(self.folder, out, number)
