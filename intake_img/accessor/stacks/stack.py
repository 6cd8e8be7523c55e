"""Image stacks: SC(Z)YX views of unread pixels from which patches are cut, with the protocol of CAREamics.

`ImageStack` turns a patch into a region of the file, pads it with zeros outside of the image, and copies pixels
directly if they are in memory or memory-mapped. `stack_axes` defines how axes are merged, `stack_sources` has the
constructors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from intake_img.accessor.stacks.axes import Merge, spelled
from intake_img.accessor.stacks.parts import Parts, clipped, copied, runs
from intake_img.errors import SourceChangedError
from intake_img.formats.reading import FileReader
from intake_img.model.chunks import Region
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Memory
from intake_img.model.text import escaped
from intake_img.storage.files import File
from intake_img.storage.handles import POOL

__all__ = ["ImageStack", "WholeFile"]

_TRUSTED = 0.001
"""Seconds for which a memory-mapped file is taken to be the one that was just looked at."""


class ImageStack:
    """Patches of an image whose pixels stay in its file: the ``ImageStack`` protocol of CAREamics.

    Made by ``ds.img.stack``, `CziStack`, `FileStack`, `MemoryStack` and `ZarrStack`. A pickled stack contains only
    names, so that worker processes, forked or spawned, open the file themselves; it may be read from many threads.

    Parameters
    ----------
    pixels : Pixels
        Unread pixels, with the axes of `merge`.
    merge : Merge
        How the axes become SC(Z)YX.
    dtype : dtype, optional
        Dtype of the patches; by default that of the file, so that no value changes.
    source : Path or str
        The origin of the image; it opens the same stack again.
    data_path : Path or str, optional
        `source` without the scene.
    scene : int or str, optional
        The scene of the file.
    """

    def __init__(
        self,
        pixels: Pixels,
        merge: Merge,
        *,
        dtype: DTypeLike | None = None,
        source: Path | str = "array",
        data_path: Path | str | None = None,
        scene: int | str | None = None,
    ) -> None:
        self._merge = merge
        self._native = pixels.dtype
        self._tiles = pixels.tiles
        self._pixels, places = pixels.plain()
        self._dtype = pixels.dtype if dtype is None else np.dtype(dtype)
        self._source = source
        self._data_path = source if data_path is None else data_path
        self._scene = scene
        self._parts = Parts(merge, places)
        self._sample_shape = merge.lengths(merge.samples)
        self._space = merge.lengths(merge.space)
        self._forget()

    def _forget(self) -> None:
        self._loaded: np.ndarray | None = None
        self._direct: np.ndarray | None = None  # pixels that can be copied, with axes samples, channels and space
        self._stamp: tuple[Any, ...] | None = None  # of the file mapped by `_direct`
        self._good_until = 0.0
        self._looked = False  # whether `_direct` has been determined

    # the attributes of the protocol

    @property
    def source(self) -> Path | str:
        """The origin of the image: an absolute path, with ``@scene`` if a scene was chosen; ``"array"`` for arrays."""
        return self._source

    @property
    def data_path(self) -> Path | str:
        """`source` without the scene."""
        return self._data_path

    @property
    def scene(self) -> int | str | None:
        """The chosen scene, None if none was chosen."""
        return self._scene

    @property
    def axes(self) -> str:
        """Axes of the stack: ``"SCYX"``, ``"SCZYX"`` or ``"SCTYX"``."""
        return self._merge.stack_axes

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of the stack, in the order of `axes`."""
        return self._merge.stack_shape

    @property
    def data_dtype(self) -> np.dtype:
        """Dtype of the patches."""
        return self._dtype

    @property
    def original_axes(self) -> str:
        """Axes before they were merged, in capitals: S for samples, T, C, Z, Y, X; R, I, H, V, B of CZI files."""
        return spelled(self._merge.axes)

    @property
    def original_data_shape(self) -> tuple[int, ...]:
        """Shape before axes were merged, in the order of `original_axes`."""
        return self._merge.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a decoded block (for shards: an inner chunk), in the order of `original_axes`."""
        return self._tiles

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of the shards of a sharded Zarr array, in the order of `original_axes`; None for other arrays."""
        reader = self._pixels.reader
        own = reader.shards() if isinstance(reader, FileReader) else getattr(reader, "shard_shape", None)
        if own is None:
            return None
        by_axis = dict(zip(self._parts.axes, own, strict=True))
        return tuple(by_axis.get(a, 1) for a in self._merge.axes)

    def __len__(self) -> int:
        """Number of samples."""
        return self.data_shape[0]

    def __repr__(self) -> str:
        scene = f", scene={self.scene!r}" if self.scene is not None else ""
        return escaped(
            f"<{type(self).__name__} {self.axes} {self.data_shape} {self.data_dtype} of {self.original_axes} "
            f"{self.original_data_shape}, {str(self.data_path)!r}{scene}>"
        )

    # patches

    def extract_patch(
        self, sample_idx: int, channels: Sequence[int] | None, coords: Sequence[int], patch_size: Sequence[int]
    ) -> np.ndarray:
        """Cut one patch; pixels outside of the image are zero.

        Only the tiles that the patch touches are read, without a dask graph unless the data are computed lazily.

        Parameters
        ----------
        sample_idx : int
            Number of the sample; negative ones count from the end.
        channels : sequence of int, or None
            Numbers of the channels, in any order, negative ones from the end; None for all.
        coords : sequence of int
            First pixel of the patch, (Z)YX; may be negative.
        patch_size : sequence of int
            Size of the patch, (Z)YX.

        Returns
        -------
        ndarray of shape (C, (Z), Y, X)
            A new array of `data_dtype`.

        Raises
        ------
        IndexError
            If there is no such sample.
        ValueError
            If there is no such channel, `channels` is empty, or `coords` and `patch_size` do not fit the stack.
        SourceChangedError
            If the file was changed or replaced since the stack was made.
        """
        space = self._space
        if len(coords) != len(space) or len(patch_size) != len(space):
            raise self._wrong_dimensions(coords, patch_size)
        sample = self._sample(sample_idx)
        picked = slice(None) if channels is None else self._channels(channels)
        windows, places = clipped(coords, patch_size, space)
        if places is None:
            direct = self._direct if self._looked else self._look()
            if direct is not None:
                if self._stamp is not None:
                    self._check()
                return copied(direct, sample, picked, windows, self._dtype)
        count = self.data_shape[1] if channels is None else len(channels)
        out = (np.empty if places is None else np.zeros)((count, *map(index, patch_size)), self._dtype)
        if all(w.stop > w.start for w in windows):
            self._fill(out if places is None else out[(slice(None), *places)], sample, picked, windows)
        return out

    def _fill(self, out: np.ndarray, sample: tuple[int, ...], picked: Any, windows: list[slice]) -> None:
        """Fill `out` (channels and space) with pixels that lie inside of the image."""
        direct = self._look()
        if direct is not None:
            if self._stamp is not None:
                self._check()
            out[...] = copied(direct, sample, picked, windows, self._dtype)
            return
        if self._dtype != self._native:
            native = np.empty(out.shape, self._native)
            self._read(native, sample, picked, windows)
            out[...] = native
        else:
            self._read(out, sample, picked, windows)

    def _read(self, out: np.ndarray, sample: tuple[int, ...], picked: Any, windows: list[slice]) -> None:
        lengths = self._merge.lengths(self._merge.channels)
        samples = [slice(k, k + 1) for k in sample]
        chosen: list[slice]
        for first, last, at in runs(picked, self.data_shape[1], single=len(lengths) == 2):
            if len(lengths) == 2 and last - first == 1:
                chosen = [slice(k, k + 1) for k in divmod(first, lengths[1])]
            else:
                chosen = [slice(first, last)] if len(lengths) == 1 else [slice(0, n) for n in lengths]
            region, view = self._parts.region(samples, chosen, windows, out[at : at + last - first])
            self._pixels.read_into(region, view)

    def _sample(self, sample_idx: int) -> tuple[int, ...]:
        n = index(sample_idx)
        count = self._merge.stack_shape[0]
        if not -count <= n < count:
            raise IndexError(
                f"sample_idx={n} is out of range: the stack has {count} sample{'s' * (count != 1)} "
                f"(0 to {count - 1}; original axes {self.original_axes}, shape {self.original_data_shape})"
            )
        n %= count
        lengths = self._sample_shape
        if len(lengths) < 2:
            return (n,) if lengths else ()
        place = []
        for length in reversed(lengths):
            n, k = divmod(n, length)
            place.append(k)
        return tuple(reversed(place))

    def _channels(self, channels: Sequence[int]) -> slice | list[int]:
        count = self.data_shape[1]
        found = [index(k) for k in channels]
        if not found:
            raise ValueError(f"channels=[] selects no channel: give some of 0 to {count - 1}, or None for all {count}")
        for k in found:
            if not -count <= k < count:
                raise ValueError(
                    f"Channel index {k} is out of bounds for data with {count} channel{'s' * (count != 1)}: "
                    f"channels={list(channels)!r}, allowed are 0 to {count - 1}, or None for all"
                )
        first = found[0] % count
        if all(k % count == first + n for n, k in enumerate(found)):
            return slice(first, first + len(found))
        return [k % count for k in found]

    def _wrong_dimensions(self, coords: Sequence[int], patch_size: Sequence[int]) -> ValueError:
        wanted, given = len(self._space), len(patch_size)
        if len(coords) != given:
            return ValueError(
                f"Patch coordinates and patch size must have the same dimensions, but coords={tuple(coords)} has "
                f"{len(coords)} and patch_size={tuple(patch_size)} has {given}: give {wanted} each ({self.axes[2:]})"
            )
        hint = ""
        if given == 3:
            hint = ": make the stack with depth_axis='Z' or 'T', or give two numbers each (YX)"
        elif given == 2:
            hint = f": give three numbers each ({self.axes[2:]}), or make the stack with depth_axis='none'"
        return ValueError(
            f"Requested a {given}D patch (patch_size={tuple(patch_size)}) from a {wanted}D image stack with axes "
            f"{self.axes}{hint}"
        )

    # pixels that need no reading

    def _look(self) -> np.ndarray | None:
        """Return the pixels as an array if they are loaded, in memory, or can be memory-mapped."""
        if not self._looked:
            reader = self._pixels.reader
            array = self._loaded
            if array is None and isinstance(reader, Memory):
                array = reader.array
            elif array is None and isinstance(reader, FileReader):
                array = reader.mapped()
                if array is not None:
                    reader.check()
                    self._path, self._stamp = reader.file.path, reader.file.stamp()
            elif array is None and isinstance(reader, WholeFile):
                self.load()
                array = self._loaded
            self._direct = None if array is None else self._parts.arranged(array)
            self._looked = True
        return self._direct

    def _check(self) -> None:
        """Raise `SourceChangedError` before reading memory-mapped pixels of a changed file.

        This check costs more than cutting a patch from a memory map, so it runs only once in a while.
        """
        if (now := perf_counter()) < self._good_until:
            return
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            found = None
        if found is None or (found.st_mtime_ns, found.st_size, found.st_ino) != self._stamp:
            raise SourceChangedError(f"{self._path} was changed or replaced since it was opened: make the stack again")
        self._good_until = now + _TRUSTED

    # files

    @property
    def is_loaded(self) -> bool:
        """Whether the pixels are in memory."""
        return self._loaded is not None or isinstance(self._pixels.reader, Memory)

    def load(self) -> None:
        """Read all pixels into memory, so that patches are copied from there; never necessary.

        Raises
        ------
        TooLargeError
            If they do not fit into the memory of this machine.
        """
        if not self.is_loaded:
            loaded = self._pixels.read()
            self._forget()
            self._loaded = loaded

    def close(self) -> None:
        """Release loaded pixels and the open file; patches can still be extracted: the file is opened again."""
        self._forget()
        if isinstance(self._pixels.reader, FileReader):
            POOL.shut(self._pixels.reader.key)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.update(_loaded=None, _direct=None, _stamp=None, _good_until=0.0, _looked=False)
        return state

    # the inverse

    def restore(self, samples: ArrayLike) -> Any:
        """Return an array of axes SC(Z)YX, such as predictions for all samples, with `original_axes`.

        Parameters
        ----------
        samples : array
            All samples in their order. Sizes along Z, Y and X may differ from the stack's, and along C if the image has
            an axis C.

        Returns
        -------
        array
            A view if possible.

        Raises
        ------
        ValueError
            If the number of axes, samples or channels does not fit.
        """
        return self._merge.restored(samples if hasattr(samples, "transpose") else np.asarray(samples))


@dataclass(frozen=True, eq=False)
class WholeFile:
    """A file that a user's function reads completely.

    Parameters
    ----------
    file : File
    stamp : tuple
        The stamp of the file when its shape was determined.
    read_func : callable
        Takes the path and returns an array.
    read_kwargs : mapping
        Further arguments of `read_func`.
    """

    file: File
    stamp: tuple[Any, ...]
    read_func: Callable[..., Any]
    read_kwargs: Mapping[str, Any]

    def read(self) -> np.ndarray:
        """Return what the function reads."""
        path = Path(self.file.path) if self.file.local else self.file.path
        return np.asarray(self.read_func(path, **self.read_kwargs))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if self.file.stamp() != self.stamp:
            raise SourceChangedError(f"{self.file} was changed or replaced since the stack was made: make it again")
        out[...] = self.read()[region]
