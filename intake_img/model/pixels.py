"""Unread pixels: a shape, a dtype, native tiles, and one function that reads a region into an array.

Dask arrays, xarray's lazy indexing, whole reads and writers are all users of that one function. `Pixels` is what
drivers hand upwards; readers are small, picklable and stateless, and wrap each other to transpose, select or cast.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from intake_img.errors import AxesError, TooLargeError

if TYPE_CHECKING:
    import dask.array

__all__ = ["CHUNK_BYTES", "MOST_CHUNKS", "Pixels", "Reader", "Region", "chunk_of", "cpus", "on_this_machine",
           "overlapping", "regions_of", "split", "stack", "threads"]  # fmt: skip

_UNCHANGED: WeakValueDictionary[str, Pixels] = WeakValueDictionary()  # by the name of the dask array made of them

Region = tuple[slice, ...]
"""One slice per axis, with ``0 <= start <= stop <= length`` and no step."""

MOST_CHUNKS = 10**7
"""The most chunks of which a dask array is made: its graph takes about a kilobyte for each when it is computed."""
CHUNK_BYTES = 4 * 2**20
"""What an automatic chunk holds: whole native tiles, grouped up to about this many bytes."""


class Reader(Protocol):
    """What `Pixels` reads through; it must pickle, and may be called from many threads at once."""

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Fill `out`, whose shape is that of `region`, with the pixels of the region."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """An n-dimensional array that has not been read.

    Parameters
    ----------
    reader : Reader
        Reads regions.
    shape : tuple of int
    dtype : numpy.dtype
        Of native byte order.
    tiles : tuple of int
        Shape of the blocks in which the file stores the pixels.
    parallel : bool
        Whether several threads reading at once are faster. False where the reader itself uses all cores.
    many_files : bool
        Whether the reader names many files: it is then not copied into every task, and each file is a chunk of its own.
    cuts : tuple of (ndarray or None)
        For each axis where blocks end within it, if that is not at the multiples of `tiles`.
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
        object.__setattr__(self, "dtype", _plain_dtype(np.dtype(self.dtype)))

    @classmethod
    def of(cls, array: Any) -> Pixels:
        """Return the pixels of an array in memory, or of a dask array."""
        if isinstance(array, Pixels):
            return array
        if hasattr(array, "dask"):
            if (whole := _UNCHANGED.get(array.name)) is not None and whole.shape == array.shape:
                return whole  # nothing was done to it: the file is read without a detour through a graph
            cuts = tuple(_cuts(np.cumsum(c), t) for c, t in zip(array.chunks, array.chunksize, strict=True))
            return cls(_Dask(array), array.shape, array.dtype, array.chunksize, parallel=False, cuts=cuts)
        array = np.asarray(array)
        return cls(_Memory(array), array.shape, array.dtype, array.shape, parallel=False)

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
        """Return where blocks begin along an axis, and the end of the last."""
        n, cuts = self.shape[axis], self.cuts[axis]
        if cuts is None:
            if n // self.tiles[axis] > MOST_CHUNKS:
                raise TooLargeError(f"an axis of {n} pixels in tiles of {self.tiles[axis]} is too long: select a part")
            cuts = np.arange(self.tiles[axis], n, self.tiles[axis])
        return np.concatenate([[0], cuts, [n]]).astype(np.int64) if n else np.zeros(1, np.int64)

    @property
    def in_memory(self) -> bool:
        """Whether reading is no more than copying from an array."""
        reader: Any = self.reader
        while isinstance(reader, (_Cast, _Transposed, _Reshaped, _Selected)):
            reader = reader.reader
        return isinstance(reader, _Memory)

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return normalize_token((type(self).__name__, self.reader, self.shape, str(self.dtype)))

    # reading

    def read_into(self, region: Region, out: np.ndarray) -> None:
        self.reader.read_into(region, out)

    def read(self, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Read everything into one new array, block by block, in several threads where that helps.

        Parameters
        ----------
        progress : callable, optional
            Called with the number of bytes of each block that was read.

        Raises
        ------
        TooLargeError
            If the array is larger than the memory of this machine.
        """
        out = _empty(self.shape, self.dtype)
        regions = list(regions_of(self.auto_chunks(4 * CHUNK_BYTES)))
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

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part: integers, slices (any step), and lists of integers or booleans that act per axis (outer)."""
        key = key if isinstance(key, tuple) else (key,)
        if any(k is Ellipsis for k in key):
            at = next(n for n, k in enumerate(key) if k is Ellipsis)
            fill = self.ndim - (len(key) - 1)
            key = key[:at] + (slice(None),) * fill + key[at + 1 :]
        key += (slice(None),) * (self.ndim - len(key))
        dropped = tuple(n for n, k in enumerate(key) if isinstance(k, (int, np.integer)))
        part = self.select(key)
        out = _empty(part.shape, part.dtype)
        part.read_into(tuple(slice(0, n) for n in part.shape), out)
        return out.squeeze(axis=dropped) if dropped else out

    # views

    def select(self, keys: Sequence[Any]) -> Pixels:
        """Return a part of the pixels, still unread; an integer keeps its axis, with length 1.

        Parameters
        ----------
        keys : sequence
            An integer, slice, or list of integers or booleans for each axis.
        """
        indices = tuple(_as_range(k, n) for k, n in zip(keys, self.shape, strict=True))
        if all(isinstance(i, range) and i == range(n) for i, n in zip(indices, self.shape, strict=True)):
            return self
        shape = tuple(len(i) for i in indices)
        tiles = tuple(max(1, -(-t // abs(i.step))) if isinstance(i, range) else t
                      for t, i in zip(self.tiles, indices, strict=True))  # fmt: skip
        cuts = tuple(_cuts_within(self, k, i, t) for k, (i, t) in enumerate(zip(indices, tiles, strict=True)))
        return replace(self, reader=_Selected(self.reader, indices), shape=shape, tiles=tiles, cuts=cuts)

    def transpose(self, order: Sequence[int]) -> Pixels:
        """Return the pixels with axis ``order[k]`` at place k."""
        order = tuple(order)
        if order == tuple(range(self.ndim)):
            return self
        shape, tiles = tuple(self.shape[k] for k in order), tuple(self.tiles[k] for k in order)
        cuts = tuple(self.cuts[k] for k in order)
        return replace(self, reader=_Transposed(self.reader, order), shape=shape, tiles=tiles, cuts=cuts)

    def plain(self) -> tuple[Pixels, tuple[int | None, ...]]:
        """Return the pixels without the transposing and reshaping around their reader, which costs time at each read.

        Returns
        -------
        pixels : Pixels
        places : tuple of (int or None)
            Which axis of `self` each axis of the result is; None for one of length 1 that `self` leaves out.
        """
        pixels = self
        places: tuple[int | None, ...] = tuple(range(self.ndim))
        while isinstance(pixels.reader, (_Transposed, _Reshaped)):
            outer = pixels.reader
            if isinstance(outer, _Transposed):
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
        """Return the pixels with axes of length 1 added (None) or left out (not named in `axes`)."""
        if lost := [n for k, n in enumerate(self.shape) if k not in axes and n != 1]:
            raise AxesError(f"an axis of length {lost[0]} cannot be left out")
        shape = tuple(1 if k is None else self.shape[k] for k in axes)
        tiles = tuple(1 if k is None else self.tiles[k] for k in axes)
        cuts = tuple(None if k is None else self.cuts[k] for k in axes)
        return replace(self, reader=_Reshaped(self.reader, tuple(axes), self.ndim), shape=shape, tiles=tiles, cuts=cuts)

    def astype(self, dtype: Any) -> Pixels:
        """Return the pixels cast to `dtype` when they are read."""
        dtype = np.dtype(dtype)
        return self if dtype == self.dtype else replace(self, reader=_Cast(self.reader, self.dtype), dtype=dtype)

    # chunks

    def auto_chunks(self, nbytes: int = CHUNK_BYTES) -> tuple[tuple[int, ...], ...]:
        """Return chunks of whole native tiles, grouped until they hold about `nbytes`, as dask writes chunks.

        Raises
        ------
        TooLargeError
            If there are more than `MOST_CHUNKS`.
        """
        return _cut(self.shape, self.auto_block(nbytes))

    def auto_block(self, nbytes: int = CHUNK_BYTES) -> tuple[int, ...]:
        """Return the shape of an automatic chunk: whole native tiles, about `nbytes` together."""
        block = list(self.tiles)
        budget = max(1, nbytes // max(1, self.dtype.itemsize))
        tiled = [k for k in range(self.ndim) if self.tiles[k] > 1] or list(range(self.ndim))[-2:]
        # first square blocks from the axes that make a tile, then whole further planes
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

    def chunks(self, wanted: Any = "auto", axes: Sequence[str] | None = None) -> tuple[tuple[int, ...], ...]:
        """Return chunks as dask writes them.

        Parameters
        ----------
        wanted : "auto", int, or mapping
            ``"auto"``; or a chunk length for each axis by name (``-1`` the whole axis, ``"auto"`` or absent: as many
            whole tiles as an automatic chunk has); or one length for all axes.
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
        found = [_axis_chunks(w, n, auto) for w, n, auto in zip(asked, self.shape, self.auto_block(), strict=True)]
        return _cut(self.shape, found)

    def dask(self, chunks: tuple[tuple[int, ...], ...] | None = None) -> dask.array.Array:
        """Return a dask array of one task per chunk; each task opens the file by itself."""
        import dask.array as da
        from dask.base import tokenize

        chunks = self.auto_chunks() if chunks is None else chunks
        name = f"pixels-{tokenize(self, chunks)}"
        _UNCHANGED[name] = self
        return da.from_array(  # slices of the result are fused into the task: only their tiles are read
            self,
            chunks=chunks,
            name=name,
            asarray=False,
            inline_array=not self.many_files,
            meta=np.empty((0,) * self.ndim, self.dtype),
        )


def _plain_dtype(dtype: np.dtype) -> np.dtype:
    """Return a dtype in native byte order, by its usual character: C has several names for one size of integer."""
    native = dtype.newbyteorder("=")
    return np.dtype(native.str) if native.kind in "iu" else native


def regions_of(chunks: tuple[tuple[int, ...], ...]) -> Iterator[Region]:
    """Iterate over the blocks that `chunks` (as dask writes them) cut, in C order."""
    edges = []
    for lengths in chunks:
        stops = np.cumsum(lengths).tolist()
        edges.append([slice(stop - n, stop) for stop, n in zip(stops, lengths, strict=True)])
    return product(*edges)


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
    return Pixels(_Stacked(readers), (len(parts), *first.shape), dtype, (1, *first.tiles), first.parallel, cuts=cuts)


def chunk_of(pixels: Pixels, region: Region) -> np.ndarray | None:
    """Return a region that need not be copied, as it is in memory or one chunk of a dask array; else None."""
    return pixels.reader.chunk(region) if isinstance(pixels.reader, (_Dask, _Memory)) else None


def split(edges: np.ndarray, most: int) -> tuple[int, ...]:
    """Return the lengths of parts of an axis of at most `most` pixels that cut as few chunks as can be.

    Examples
    --------
    >>> split(np.array([0, 3, 7, 11, 12]), 8)
    (7, 5)
    >>> split(np.array([0, 3, 7, 11, 12]), 2)
    (2, 1, 2, 2, 2, 2, 1)
    """
    lengths: list[int] = []
    start = 0
    ends = edges.tolist()[1:]
    for k, end in enumerate(ends):
        if k + 1 < len(ends) and ends[k + 1] - start <= most:
            continue
        lengths += [min(most, end - at) for at in range(start, end, most)]
        start = end
    return tuple(lengths)


# readers of arrays, and readers that wrap another


@dataclass(frozen=True, eq=False)
class _Memory:
    array: np.ndarray

    def chunk(self, region: Region) -> np.ndarray:
        """Return a region, without a copy of it where there need be none."""
        found = np.ascontiguousarray(self.array[region], self.array.dtype.newbyteorder("=")).view(
            _plain_dtype(self.array.dtype)
        )
        found.flags.writeable = False
        return found

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self.array[region]


@dataclass(frozen=True, eq=False)
class _Dask:
    array: Any

    def chunk(self, region: Region) -> np.ndarray | None:
        """Return a region that lies in one chunk, without a copy of it where there need be none; else None."""
        part = self.array[region]
        if part.npartitions != 1:
            return None
        found = np.ascontiguousarray(part.compute(), self.array.dtype.newbyteorder("=")).view(
            _plain_dtype(self.array.dtype)
        )
        found.flags.writeable = False
        return found

    def read_into(self, region: Region, out: np.ndarray) -> None:
        import dask.array as da
        from dask.base import get_scheduler
        from dask.local import get_sync
        from dask.threaded import get as get_threaded

        part = self.array[region]
        if part.npartitions > 1 and get_scheduler(collections=[part]) in (get_threaded, get_sync):
            target: Any = _Target(out)
            da.store(part, target, lock=False)  # chunk by chunk: there is no second copy of the region
        else:  # one chunk needs no more memory so; and other processes cannot fill `out`
            out[...] = part.compute()


@dataclass(frozen=True, eq=False)
class _Target:
    """An array to store into, that dask does not take for data of its own."""

    array: np.ndarray

    def __dask_tokenize__(self) -> object:
        return uuid.uuid4().hex  # what the array holds is of no interest: it need not be looked at

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[key] = value


@dataclass(frozen=True)
class _Cast:
    reader: Reader
    source: np.dtype

    def read_into(self, region: Region, out: np.ndarray) -> None:
        native = np.empty(out.shape, self.source)
        self.reader.read_into(region, native)
        out[...] = native


@dataclass(frozen=True)
class _Transposed:
    reader: Reader
    order: tuple[int, ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        inverse = np.argsort(self.order).tolist()
        self.reader.read_into(tuple(region[k] for k in inverse), out.transpose(inverse))


@dataclass(frozen=True)
class _Reshaped:
    reader: Reader
    axes: tuple[int | None, ...]
    ndim: int

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 in out.shape:
            return
        base = tuple(region[self.axes.index(k)] if k in self.axes else slice(0, 1) for k in range(self.ndim))
        kept = [k for k in self.axes if k is not None]
        view = out[(*(0 if k is None else slice(None) for k in self.axes), ...)]  # the base's axes, in order of `kept`
        view = view[(..., *[None] * (self.ndim - len(kept)))]
        order = kept + [k for k in range(self.ndim) if k not in kept]
        self.reader.read_into(base, view.transpose(np.argsort(order)))


@dataclass(frozen=True)
class _Stacked:
    readers: tuple[Reader, ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        for n, k in enumerate(range(region[0].start, region[0].stop)):
            self.readers[k].read_into(region[1:], out[(n, ...)])


@dataclass(frozen=True)
class _Selected:
    reader: Reader
    indices: tuple[range | tuple[int, ...], ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 in out.shape:
            return
        runs = [_runs(i[r]) for i, r in zip(self.indices, region, strict=True)]
        for combination in product(*runs):
            base = tuple(source for source, _, _ in combination)
            target = out[tuple(place for _, place, _ in combination)]
            steps = tuple(step for _, _, step in combination)
            if all(step == 1 for step in steps):
                self.reader.read_into(base, target)
            else:
                whole = _empty(tuple(s.stop - s.start for s in base), out.dtype)
                self.reader.read_into(base, whole)
                target[...] = whole[tuple(slice(None, None, step) for step in steps)]


def _cuts(ends: np.ndarray, tile: int) -> np.ndarray | None:
    """Ends of blocks within an axis, None if all are multiples of a length."""
    inner = ends[:-1]
    return None if not (inner % tile).any() and (np.diff(inner, prepend=0) == tile).all() else inner


def _cuts_within(pixels: Pixels, axis: int, index: range | tuple[int, ...], tile: int) -> np.ndarray | None:
    """Where blocks end within a selection of an axis."""
    cuts = pixels.cuts[axis]
    if isinstance(index, range) and index.step == 1:
        length = pixels.tiles[axis]
        if cuts is None and (index.start % length == 0 or len(index) // length > MOST_CHUNKS):
            return None
        if cuts is None:  # in steps within the selection alone, however long the axis
            return _cuts(np.append(np.arange(-index.start % length, len(index), length), len(index)), tile)
        inner = pixels.edges(axis)[1:-1] - index.start
        inner = inner[(inner > 0) & (inner < len(index))]
    else:
        if len(index) > MOST_CHUNKS:
            return None
        positions = np.asarray(index)
        blocks = positions // pixels.tiles[axis] if cuts is None else np.searchsorted(cuts, positions, "right")
        inner = np.flatnonzero(np.diff(blocks)) + 1
    return _cuts(np.append(inner, len(index)), tile)


def _runs(index: range | tuple[int, ...]) -> list[tuple[slice, slice, int]]:
    """Cut indices into runs: (slice of the source, slice of the target, step within the source's slice)."""
    if isinstance(index, range):
        low, high = min(index[0], index[-1]), max(index[0], index[-1]) + 1
        return [(slice(low, high), slice(0, len(index)), index.step if len(index) > 1 else 1)]
    runs, start = [], 0
    for n in range(1, len(index) + 1):
        if n == len(index) or index[n] != index[n - 1] + 1:
            runs.append((slice(index[start], index[n - 1] + 1), slice(start, n), 1))
            start = n
    return runs


def _as_range(key: Any, n: int) -> range | tuple[int, ...]:
    if isinstance(key, slice):
        return range(n)[key]
    if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
        k = int(key)
        if not -n <= k < n:
            raise IndexError(f"index {k} is out of range for an axis of length {n}")
        return range(k % n, k % n + 1)
    array = np.asarray(key)
    if array.ndim != 1 or (array.dtype.kind not in "iub" and array.size):
        raise IndexError(f"expected an integer, a slice or a list of integers or booleans, got {key!r}")
    if array.dtype.kind == "b":
        if len(array) != n:
            raise IndexError(f"a mask of length {len(array)} does not fit an axis of length {n}")
        array = np.flatnonzero(array)
    if array.size and (array.min() < -n or array.max() >= n):
        raise IndexError(f"indices {key!r} are out of range for an axis of length {n}")
    return tuple(int(k) % n for k in array)


def _axis_chunks(wanted: Any, n: int, automatic: int) -> int | tuple[int, ...]:
    """Return the length of the chunks of an axis, or all lengths where they are listed."""
    if wanted == "auto" or wanted is None:
        return automatic
    if isinstance(wanted, (tuple, list)):
        if sum(wanted) != n:
            raise ValueError(f"chunks {tuple(wanted)} add up to {sum(wanted)}, but the axis has {n}")
        return tuple(int(w) for w in wanted)
    if not isinstance(wanted, (int, np.integer)) or (wanted < 1 and wanted != -1):
        raise ValueError(f"chunk length {wanted!r}: expected a positive number, -1 or 'auto'")
    return max(n, 1) if wanted == -1 else int(wanted)


def _cut(shape: Sequence[int], lengths: Sequence[int | tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Return chunks as dask writes them, or raise `TooLargeError` if they are too many for a graph."""
    counts = [-(-n // max(1, b)) if isinstance(b, int) else len(b) for n, b in zip(shape, lengths, strict=True)]
    if (count := math.prod(counts)) > MOST_CHUNKS:
        raise TooLargeError(
            f"an array of shape {tuple(shape)} would have {count:.3g} chunks, more than the {MOST_CHUNKS:.0e} that a "
            "dask graph can hold: pass larger chunks=, or chunks=None and select a part"
        )
    return tuple(_split(n, b) if isinstance(b, int) else b for n, b in zip(shape, lengths, strict=True))


def _split(n: int, block: int) -> tuple[int, ...]:
    if n == 0:
        return (0,)
    block = max(1, block)
    return (block,) * (n // block) + ((n % block,) if n % block else ())


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    nbytes = math.prod(shape) * dtype.itemsize
    too_large = TooLargeError(
        f"an array of shape {shape} and dtype {dtype} needs {nbytes / 2**30:.1f} GiB, this machine has "
        f"{_memory() / 2**30:.1f} GiB: work on it lazily, or load a part (partition=, .isel)"
    )
    if nbytes > _memory():
        raise too_large
    try:
        return np.empty(shape, dtype)
    except MemoryError as exc:  # a limit of the process, or an address space that is full
        raise too_large from exc


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this platform
        return 2**40


def cpus() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def threads() -> int:
    """Return the number of threads in which dask computes with the options of `overlapping`."""
    import dask

    if not on_this_machine():
        client: Any = getattr(dask.base.get_scheduler(), "__self__", None)
        return max(1, sum(client.nthreads().values())) if hasattr(client, "nthreads") else cpus()
    if (pool := dask.config.get("pool", None)) is not None:
        return getattr(pool, "_max_workers", None) or cpus()
    return int(overlapping().get("num_workers") or dask.config.get("num_workers", None) or cpus())


def on_this_machine() -> bool:
    """True if dask computes in threads of this process, or in none."""
    import dask
    from dask.threaded import get

    return dask.base.get_scheduler() in (None, get, dask.get)


def overlapping() -> dict[str, int]:
    """Return options of `dask.compute` for tasks that both read and compute: half as many threads again as processors,
    where these are few, so that some wait for the disk while others compute. None where the user chose.
    """
    import dask
    from dask.threaded import get

    chosen = dask.config.get("num_workers", None), dask.config.get("pool", None)
    if chosen != (None, None) or dask.base.get_scheduler() not in (None, get):
        return {}
    return {"num_workers": max(cpus(), min(cpus() + (cpus() + 1) // 2, 8))}
