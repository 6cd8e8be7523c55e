"""Unread pixels: a shape, a dtype, native tiles, and one function that reads a region into an array.

Dask arrays, xarray's lazy indexing, full reads and writers all use that function. Drivers return `Pixels`;
`intake_img.model.readers` wrap each other to transpose, select or cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import AxesError, TooLargeError
from intake_img.model.chunks import CHUNK_BYTES, MOST_CHUNKS, Region, axis_chunks, cut, inner_ends, regions_of
from intake_img.model.indices import Indices, index_of, taken
from intake_img.model.machine import cpus, empty
from intake_img.model.readers import (
    Cast,
    Dask,
    Memory,
    Reader,
    Reshaped,
    Scaled,
    Stacked,
    Transposed,
    Unscaled,
    leaf_of,
    mapped,
    selected,
    stretch_of,
    usual_dtype,
)
from intake_img.model.typed import ArrayLike, Chunks, DTypeLike, Key

if TYPE_CHECKING:
    import dask.array

__all__ = ["Pixels", "chunk_of", "stack"]

_SMALL = 2**20  # up to this many bytes, one thread copies from a memory map faster than several threads


@dataclass(frozen=True, eq=False)
class Pixels:
    """An n-dimensional array that has not been read.

    Parameters
    ----------
    reader : Reader
        Reads regions.
    shape : tuple of int
    dtype : numpy.dtype
        In native byte order.
    tiles : tuple of int
        Shape of the blocks in which the file stores the pixels.
    parallel : bool
        Whether several reading threads are faster. False if the reader itself uses all cores.
    many_files : bool
        Whether the reader refers to many files: it is then not copied into every task, and each file is a separate
        chunk.
    cuts : tuple of (ndarray or None)
        For each axis the block boundaries, if they are not multiples of `tiles`.
    """

    reader: Reader
    shape: tuple[int, ...]
    dtype: np.dtype
    tiles: tuple[int, ...]
    parallel: bool = True
    many_files: bool = False
    cuts: tuple[np.ndarray | None, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        tiles = tuple(min(max(int(t), 1), max(n, 1)) for t, n in zip(self.tiles, shape, strict=True))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "tiles", tiles)
        object.__setattr__(self, "cuts", self.cuts or (None,) * len(shape))
        object.__setattr__(self, "dtype", usual_dtype(np.dtype(self.dtype)))

    @classmethod
    def of(cls, array: ArrayLike | Pixels) -> Pixels:
        """Return the pixels of an array in memory, or of a dask array."""
        if isinstance(array, Pixels):
            return array
        if hasattr(array, "dask"):
            if isinstance(unread := getattr(array, "pixels", None), Pixels):
                return unread  # only a selection of a file: it is read without a graph
            lazy: Any = array
            longest = tuple(map(max, lazy.chunks))
            cuts = tuple(inner_ends(np.cumsum(c), n) for c, n in zip(lazy.chunks, longest, strict=True))
            return cls(Dask(lazy), lazy.shape, lazy.dtype, longest, parallel=False, cuts=cuts)
        values = np.asarray(array)
        return cls(Memory(values), values.shape, values.dtype, values.shape, parallel=False)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def edges(self, axis: int) -> np.ndarray:
        """Return the starts of the blocks along an axis, and the end of the last block."""
        n, cuts = self.shape[axis], self.cuts[axis]
        if cuts is None:
            if n // self.tiles[axis] > MOST_CHUNKS:
                raise TooLargeError(f"an axis of {n} pixels in tiles of {self.tiles[axis]} is too long: select a part")
            cuts = np.arange(self.tiles[axis], n, self.tiles[axis])
        return np.concatenate([[0], cuts, [n]]).astype(np.int64) if n else np.zeros(1, np.int64)

    @property
    def in_memory(self) -> bool:
        """Whether reading is only copying from an array."""
        return isinstance(leaf_of(self.reader), Memory)

    def __dask_tokenize__(self) -> Any:
        from dask import base

        return base.normalize_token((type(self).__name__, self.reader, self.shape, self.dtype.str))

    # reading

    def read_into(self, region: Region, out: np.ndarray) -> None:
        self.reader.read_into(region, out)

    def read(self, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Read all pixels into one new array, block by block, in several threads if that is faster.

        Parameters
        ----------
        progress : callable, optional
            Called with the number of bytes of each block that was read.

        Raises
        ------
        TooLargeError
            If the array is larger than the memory of this machine.
        """
        out = empty(self.shape, self.dtype)
        regions = list(regions_of(self.auto_chunks(self._block_bytes())))
        if not self.parallel and progress is None:
            regions = [tuple(slice(0, n) for n in self.shape)]

        def fill(region: Region) -> None:
            key: Any = (*region, ...)
            part = out[key]  # a view, of scalars too
            self.reader.read_into(region, part)
            if progress is not None:
                progress(part.nbytes)

        workers = min(cpus(), len(regions)) if self.parallel else 1
        if workers <= 1:
            for region in regions:
                fill(region)
        else:
            with ThreadPoolExecutor(workers, thread_name_prefix="intake_img-read") as pool:
                for _ in pool.map(fill, regions):
                    pass
        return out

    def _block_bytes(self) -> int:
        """Return how much a thread reads at a time: all threads have work; strides count all bytes that they decode."""
        if not self.parallel:
            return 4 * CHUNK_BYTES
        stretch = stretch_of(self.reader)
        share = min(4 * CHUNK_BYTES, max(CHUNK_BYTES // 4, self.nbytes * stretch // (2 * cpus())))
        return max(1, share // stretch)

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a selection: integers, slices (any step), and lists of integers or booleans for each axis (outer)."""
        part, dropped = self._part(key)
        out = empty(part.shape, part.dtype)
        part.read_into(tuple(slice(0, n) for n in part.shape), out)
        return out.squeeze(axis=dropped) if dropped else out

    def read_part(self, key: Key) -> np.ndarray:
        """Read a selection like ``pixels[key]``, but a large one block by block in several threads, like `read`."""
        keys, dropped = self._keys(key)
        indices = tuple([index_of(k, n) for k, n in zip(keys, self.shape, strict=True)])
        nbytes = math.prod(map(len, indices)) * self.dtype.itemsize
        out = self._box(indices) if nbytes <= _SMALL // 2 else None
        if out is None and nbytes <= _SMALL:
            out = self.mapped_part(indices)
        if out is None:
            out = self._selection(indices).read()
        return out.squeeze(axis=dropped) if dropped else out

    def _box(self, indices: Indices) -> np.ndarray | None:
        """Read a small box without steps in this thread; None for other selections, and boxes of many files."""
        if self.many_files or not all(isinstance(i, range) and i.step == 1 for i in indices):
            return None
        if stretch_of(self.reader) != 1:
            return None
        out = empty(tuple(map(len, indices)), self.dtype)
        if out.size:
            self.reader.read_into(tuple([slice(i[0], i[-1] + 1) for i in indices]), out)
        return out

    def mapped_part(self, indices: Indices) -> np.ndarray | None:
        """Read a selection from a memory map, if the pixels are in one; else None."""
        view = mapped(self.reader)
        return None if view is None else np.array(taken(view, indices), self.dtype, order="C")

    def _part(self, key: Key) -> tuple[Pixels, tuple[int, ...]]:
        """Return the selected pixels, and which of their axes an integer index drops."""
        keys, dropped = self._keys(key)
        return self.select(keys), dropped

    def _keys(self, key: Key) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        """Return a key for each axis, and which axes an integer index drops."""
        keys: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
        if any(k is Ellipsis for k in keys):
            at = next(n for n, k in enumerate(keys) if k is Ellipsis)
            fill = self.ndim - (len(keys) - 1)
            keys = keys[:at] + (slice(None),) * fill + keys[at + 1 :]
        keys += (slice(None),) * (self.ndim - len(keys))
        return keys, tuple([n for n, k in enumerate(keys) if isinstance(k, (int, np.integer))])

    # views

    def select(self, keys: Sequence[Any]) -> Pixels:
        """Return a selection of the pixels, still unread; an integer keeps its axis, with length 1.

        Parameters
        ----------
        keys : sequence
            An integer, slice, or list of integers or booleans for each axis.
        """
        return self._selection(tuple([index_of(k, n) for k, n in zip(keys, self.shape, strict=True)]))

    def _selection(self, indices: Indices) -> Pixels:
        if all(isinstance(i, range) and i == range(n) for i, n in zip(indices, self.shape, strict=True)):
            return self
        shape = tuple(len(i) for i in indices)
        tiles = tuple(
            max(1, -(-t // abs(i.step))) if isinstance(i, range) else t
            for t, i in zip(self.tiles, indices, strict=True)
        )
        cuts = tuple(_cuts_within(self, k, i, t) for k, (i, t) in enumerate(zip(indices, tiles, strict=True)))
        return replace(self, reader=selected(self.reader, indices, self.tiles), shape=shape, tiles=tiles, cuts=cuts)

    def transpose(self, order: Sequence[int]) -> Pixels:
        """Return the pixels with axis ``order[k]`` at position k."""
        order = tuple(order)
        if order == tuple(range(self.ndim)):
            return self
        shape, tiles = tuple(self.shape[k] for k in order), tuple(self.tiles[k] for k in order)
        cuts = tuple(self.cuts[k] for k in order)
        return replace(self, reader=Transposed(self.reader, order), shape=shape, tiles=tiles, cuts=cuts)

    def plain(self) -> tuple[Pixels, tuple[int | None, ...]]:
        """Return the pixels without the transposing and reshaping readers around their reader, which slow down each
        read.

        Returns
        -------
        pixels : Pixels
        places : tuple of (int or None)
            The axis of `self` for each axis of the result; None for an axis of length 1 that `self` drops.
        """
        pixels = self
        places: tuple[int | None, ...] = tuple(range(self.ndim))
        while isinstance(pixels.reader, (Transposed, Reshaped)):
            outer = pixels.reader
            if isinstance(outer, Transposed):
                order: Sequence[int | None] = outer.order
                ndim = pixels.ndim
            else:
                order, ndim = outer.axes, outer.ndim
            inner = {k: n for n, k in enumerate(order) if k is not None}
            places = tuple(places[inner[k]] if k in inner else None for k in range(ndim))
            shape = tuple(pixels.shape[inner[k]] if k in inner else 1 for k in range(ndim))
            tiles = tuple(pixels.tiles[inner[k]] if k in inner else 1 for k in range(ndim))
            cuts = tuple(pixels.cuts[inner[k]] if k in inner else None for k in range(ndim))
            pixels = replace(pixels, reader=outer.reader, shape=shape, tiles=tiles, cuts=cuts)
        return pixels, places

    def reshape(self, axes: Sequence[int | None]) -> Pixels:
        """Return the pixels with axes of length 1 added (None) or dropped (not named in `axes`)."""
        if list(axes) == list(range(self.ndim)):
            return self
        if lost := [n for k, n in enumerate(self.shape) if k not in axes and n != 1]:
            raise AxesError(f"an axis of length {lost[0]} cannot be left out")
        shape = tuple(1 if k is None else self.shape[k] for k in axes)
        tiles = tuple(1 if k is None else self.tiles[k] for k in axes)
        cuts = tuple(None if k is None else self.cuts[k] for k in axes)
        return replace(self, reader=Reshaped(self.reader, tuple(axes), self.ndim), shape=shape, tiles=tiles, cuts=cuts)

    def astype(self, dtype: DTypeLike) -> Pixels:
        """Return the pixels cast to `dtype` when they are read."""
        dtype = np.dtype(dtype)
        return self if dtype == self.dtype else replace(self, reader=Cast(self.reader, self.dtype), dtype=dtype)

    def scaled(
        self,
        slope: float | Sequence[float] = 1.0,
        offset: float | Sequence[float] = 0.0,
        dtype: DTypeLike = np.float64,
        *,
        axis: int | None = None,
        missing: float | None = None,
    ) -> Pixels:
        """Return ``slope * pixels + offset``, computed in `dtype` when they are read.

        Parameters
        ----------
        slope, offset : float or sequence of float
            One for all, or one for each index along `axis`.
        dtype : numpy.dtype
            The dtype of the values: a floating-point type.
        axis : int, optional
            The axis along which slopes and offsets differ.
        missing : int or float, optional
            The stored number that means "no value": it becomes NaN.

        Returns
        -------
        Pixels
            Unchanged if slope is 1, offset 0, and no number is missing.

        Raises
        ------
        ValueError
            If there are not as many slopes or offsets as the axis has indices, or one is not finite.
        """
        slopes, offsets = (tuple(np.atleast_1d(np.asarray(v, float)).tolist()) for v in (slope, offset))
        for name, values in (("slopes", slopes), ("offsets", offsets)):
            if len(values) != 1 and (axis is None or len(values) != self.shape[axis]):
                raise ValueError(f"{len(values)} {name}: expected one, or one for each index along an axis")
            if not np.isfinite(values).all():
                raise ValueError(f"the {name} {values} are not finite")
        if set(slopes) == {1.0} and set(offsets) == {0.0} and missing is None:
            return self
        reader = Scaled(self.reader, self.dtype, slopes, offsets, axis, missing)
        return replace(self, reader=reader, dtype=np.dtype(dtype))

    def unscaled(self, slope: float, offset: float, dtype: DTypeLike, missing: float | None = None) -> Pixels:
        """Return the integers that `scaled` turns back into these values: the nearest ones, ties to even.

        Parameters
        ----------
        slope, offset : float
        dtype : numpy.dtype
            An integer type.
        missing : int, optional
            The number that replaces NaN.

        Raises
        ------
        ValueError
            If `slope` is 0 or not finite.
        CannotWriteError
            When they are read, if a value does not fit `dtype`.
        """
        if not (math.isfinite(slope) and math.isfinite(offset)) or slope == 0:
            raise ValueError(f"slope {slope} and offset {offset}: expected finite numbers, and a slope that is not 0")
        reader = Unscaled(self.reader, self.dtype, float(slope), float(offset), missing)
        return replace(self, reader=reader, dtype=np.dtype(dtype))

    # chunks

    def auto_chunks(self, nbytes: int = CHUNK_BYTES) -> tuple[tuple[int, ...], ...]:
        """Return chunks of complete native tiles, grouped until they contain about `nbytes`, as dask writes chunks.

        Raises
        ------
        TooLargeError
            If there are more than `MOST_CHUNKS`.
        """
        return cut(self.shape, self.auto_block(nbytes))

    def auto_block(self, nbytes: int = CHUNK_BYTES) -> tuple[int, ...]:
        """Return the shape of an automatic chunk: complete native tiles, about `nbytes` together."""
        block = list(self.tiles)
        budget = max(1, nbytes // max(1, self.dtype.itemsize))
        tiled = [k for k in range(self.ndim) if self.tiles[k] > 1] or list(range(self.ndim))[-2:]
        # first square blocks along the axes of a tile, then further complete planes
        while growing := [k for k in tiled if block[k] < self.shape[k]]:
            k = min(growing, key=lambda k: (block[k], -k))
            if math.prod(block) * 2 > budget:
                break
            block[k] = min(block[k] * 2, self.shape[k])
        else:
            for k in reversed([k for k in range(self.ndim) if k not in tiled and not self.many_files]):
                times = budget // max(1, math.prod(block))
                if times < 2:
                    break
                block[k] = min(times, self.shape[k])
                if block[k] < self.shape[k]:
                    break
        return tuple(block)

    def chunks(self, wanted: Chunks = "auto", axes: Sequence[str] | None = None) -> tuple[tuple[int, ...], ...]:
        """Return chunks as dask writes them.

        Parameters
        ----------
        wanted : "auto", int, or mapping
            ``"auto"``; or a chunk length for each axis by name (``-1``: the full length of the axis; ``"auto"`` or
            absent: as in an automatic chunk); or one length for all axes.
        axes : sequence of str, optional
            Names of the axes, for a mapping.
        """
        if isinstance(wanted, str) and wanted == "auto":
            return self.auto_chunks()
        if isinstance(wanted, Mapping):
            if unknown := [a for a in wanted if a not in (axes or ())]:
                raise AxesError(f"chunks name the axis {unknown[0]!r}, but the data have {''.join(axes or ())!r}")
            asked = [wanted.get(a, "auto") for a in axes or ()]
        elif isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool):
            asked = [int(wanted)] * self.ndim
        else:
            raise TypeError(f"chunks={wanted!r}: expected 'auto', None, a number or a mapping of axes to lengths")
        found = [axis_chunks(w, n, auto) for w, n, auto in zip(asked, self.shape, self.auto_block(), strict=True)]
        return cut(self.shape, found)

    def dask(self, chunks: tuple[tuple[int, ...], ...] | None = None) -> dask.array.Array:
        """Return a dask array of one task per chunk; each task opens the file itself.

        Slices and transposes of it are views of the pixels, too: only the final selection is read.
        """
        import dask  # all of it: a part is incomplete while another thread imports the whole

        from intake_img.model.lazy_arrays import array_of

        chunks = self.auto_chunks() if chunks is None else chunks
        return array_of(self, chunks, f"pixels-{dask.base.tokenize(self, repr(chunks))}")


def stack(parts: Sequence[Pixels]) -> Pixels:
    """Return equal pixels stacked along a new first axis."""
    first = parts[0]
    for k, part in enumerate(parts):
        if part.shape != first.shape:
            raise AxesError(
                f"cannot stack images of unequal shape: the first has {first.shape}, number {k} {part.shape}"
            )
    dtype = np.result_type(*[p.dtype for p in parts])
    readers = tuple(p.astype(dtype).reader for p in parts)
    cuts = (None, *first.cuts)
    return Pixels(Stacked(readers), (len(parts), *first.shape), dtype, (1, *first.tiles), first.parallel, cuts=cuts)


def chunk_of(pixels: Pixels, region: Region) -> np.ndarray | None:
    """Return a region that need not be copied, since it is in memory or in one chunk of a dask array; else None."""
    return pixels.reader.chunk(region) if isinstance(pixels.reader, (Dask, Memory)) else None


def _in_one_tile(index: range, length: int) -> bool:
    """Whether an even selection begins with a tile, or lies in one."""
    return index.start % length == 0 or index.start // length == (index.stop - 1) // length


def _cuts_within(pixels: Pixels, axis: int, index: range | tuple[int, ...], tile: int) -> np.ndarray | None:
    """The block boundaries within a selection of an axis."""
    cuts = pixels.cuts[axis]
    if isinstance(index, range) and index.step == 1:
        length = pixels.tiles[axis]
        if cuts is None and (_in_one_tile(index, length) or len(index) // length > MOST_CHUNKS):
            return None
        if cuts is None:  # only within the selection, so that a long axis costs nothing
            return inner_ends(np.append(np.arange(-index.start % length, len(index), length), len(index)), tile)
        inner = pixels.edges(axis)[1:-1] - index.start
        inner = inner[(inner > 0) & (inner < len(index))]
    else:
        if len(index) > MOST_CHUNKS:
            return None
        positions = np.asarray(index)
        blocks = positions // pixels.tiles[axis] if cuts is None else np.searchsorted(cuts, positions, "right")
        inner = np.flatnonzero(np.diff(blocks)) + 1
    return inner_ends(np.append(inner, len(index)), tile)
