"""Readers of arrays, and readers that wrap another to transpose, select, stack, cast or scale.

They are small, picklable and stateless.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.model.chunks import Region
from intake_img.model.indices import Index, Indices, Run, composed, runs_of, span, taken
from intake_img.model.machine import empty

__all__ = [
    "Cast",
    "Dask",
    "Memory",
    "Reader",
    "Reshaped",
    "Scaled",
    "Selected",
    "Stacked",
    "Transposed",
    "Unscaled",
    "compute_into",
    "leaf_of",
    "mapped",
    "selected",
    "stretch_of",
    "usual_dtype",
    "with_leaf",
]


class Reader(Protocol):
    """The reader of `Pixels`. It must be picklable, and may be called from many threads concurrently."""

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Fill `out`, which has the shape of `region`, with the pixels of the region."""


class _Named:
    """Base of the readers: dask would pickle the class for its token, which takes longer than all else."""

    def __dask_tokenize__(self) -> object:
        from dask import base

        return base.normalize_token([type(self).__name__, *vars(self).items()])


def usual_dtype(dtype: np.dtype) -> np.dtype:
    """Return a dtype in native byte order, with its usual character: C has several names for one integer size."""
    native = dtype.newbyteorder("=")
    return np.dtype(native.str) if native.kind in "iu" else native


@dataclass(frozen=True, eq=False)
class Memory(_Named):
    array: np.ndarray

    def chunk(self, region: Region) -> np.ndarray:
        """Return a region, without a copy if possible."""
        found = np.ascontiguousarray(self.array[region], self.array.dtype.newbyteorder("=")).view(
            usual_dtype(self.array.dtype)
        )
        found.flags.writeable = False
        return found

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self.array[region]


@dataclass(frozen=True, eq=False)
class Dask(_Named):
    array: Any

    def chunk(self, region: Region) -> np.ndarray | None:
        """Return a region that lies in one chunk, without a copy if possible; None if it spans several chunks."""
        part = self.array[region]
        if part.npartitions != 1:
            return None
        found = np.ascontiguousarray(part.compute(), self.array.dtype.newbyteorder("=")).view(
            usual_dtype(self.array.dtype)
        )
        found.flags.writeable = False
        return found

    def read_into(self, region: Region, out: np.ndarray) -> None:
        part = self.array[region]
        if part.npartitions > 1:
            compute_into([part], [out])
        else:  # this needs no more memory
            out[...] = part.compute()


def compute_into(arrays: Sequence[Any], outs: Sequence[np.ndarray]) -> None:
    """Fill arrays with the values of dask arrays, all in one computation."""
    import dask
    from dask import array as da
    from dask import base, local, threaded

    planned = any(hasattr(array, "expr") for array in arrays)  # dask cannot store array expressions
    if not planned and base.get_scheduler(collections=arrays) in (threaded.get, local.get_sync):
        targets: Any = [_Target(out) for out in outs]
        da.store(list(arrays), targets, lock=False)  # chunk by chunk, without a second copy
        return
    for out, values in zip(outs, dask.compute(*arrays), strict=True):  # other processes cannot fill `out`
        out[...] = values


@dataclass(frozen=True, eq=False)
class _Target:
    """An array to store into, which dask does not treat as its own data."""

    array: np.ndarray

    def __dask_tokenize__(self) -> object:
        return uuid.uuid4().hex  # the contents of the array are irrelevant: they need not be hashed

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[key] = value


@dataclass(frozen=True)
class Cast(_Named):
    reader: Reader
    source: np.dtype

    def read_into(self, region: Region, out: np.ndarray) -> None:
        native = np.empty(out.shape, self.source)
        self.reader.read_into(region, native)
        out[...] = native


@dataclass(frozen=True)
class Scaled(_Named):
    """Values from stored numbers: ``slope * number + offset``.

    Parameters
    ----------
    reader : Reader
    source : numpy.dtype
        The dtype of the stored numbers.
    slopes, offsets : tuple of float
        One for all, or one for each index along `axis`.
    axis : int, optional
    missing : int or float, optional
        The stored number that means "no value"; it becomes NaN.
    """

    reader: Reader
    source: np.dtype
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    axis: int | None = None
    missing: float | None = None

    def read_into(self, region: Region, out: np.ndarray) -> None:
        stored = np.empty(out.shape, self.source)
        self.reader.read_into(region, stored)
        slope, offset = (self._along(values, region, out) for values in (self.slopes, self.offsets))
        np.multiply(stored, slope, out=out, dtype=out.dtype, casting="unsafe")
        np.add(out, offset, out=out)
        if self.missing is not None:
            out[stored == np.asarray(self.missing, self.source)] = np.nan

    def _along(self, values: tuple[float, ...], region: Region, out: np.ndarray) -> np.ndarray:
        if self.axis is None or len(values) == 1:
            return np.asarray(values[0], out.dtype)
        chosen = np.asarray(values[region[self.axis]], out.dtype)
        return chosen.reshape([-1 if k == self.axis else 1 for k in range(out.ndim)])

    def select(self, indices: Indices, tiles: tuple[int, ...]) -> Scaled:
        """Return the reader of a selection."""
        chosen: dict[str, Any] = {}
        if self.axis is not None:
            for name in ("slopes", "offsets"):
                values = getattr(self, name)
                chosen[name] = values if len(values) == 1 else tuple(values[k] for k in indices[self.axis])
        return replace(self, reader=selected(self.reader, indices, tiles), **chosen)


@dataclass(frozen=True)
class Unscaled(_Named):
    """The inverse of `Scaled`: numbers to store, rounded half to even; values outside of the dtype are an error."""

    reader: Reader
    source: np.dtype
    slope: float
    offset: float
    missing: float | None = None

    def read_into(self, region: Region, out: np.ndarray) -> None:
        values = np.empty(out.shape, self.source)
        self.reader.read_into(region, values)
        numbers = np.rint((values.astype(np.float64) - self.offset) / self.slope)
        known = np.isfinite(numbers)
        if self.missing is not None:
            numbers[np.isnan(numbers)] = self.missing
        limits = np.iinfo(out.dtype)
        lost = ~known if self.missing is None else np.isinf(numbers)
        if lost.any() or (numbers[known] < limits.min).any() or (numbers[known] > limits.max).any():
            raise CannotWriteError(
                f"values do not fit {out.dtype} with slope {self.slope} and offset {self.offset}: choose others, or "
                "save them as floating-point numbers"
            )
        out[...] = numbers


@dataclass(frozen=True)
class Transposed(_Named):
    reader: Reader
    order: tuple[int, ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        inverse = _inverse(self.order)
        self.reader.read_into(tuple([region[k] for k in inverse]), out.transpose(inverse))


def _inverse(order: Sequence[int]) -> list[int]:
    """Return the order that undoes an order of axes."""
    return sorted(range(len(order)), key=order.__getitem__)


@dataclass(frozen=True)
class Reshaped(_Named):
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
        self.reader.read_into(base, view.transpose(_inverse(order)))


@dataclass(frozen=True)
class Stacked(_Named):
    readers: tuple[Reader, ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        for n, k in enumerate(range(region[0].start, region[0].stop)):
            self.readers[k].read_into(region[1:], out[(n, ...)])


@dataclass(frozen=True)
class Selected(_Named):
    """A selection of the pixels of `reader`.

    Parameters
    ----------
    reader : Reader
    indices : tuple of (range or tuple of int)
        For each axis.
    tiles : tuple of int
        Shape of the blocks in which `reader` finds its pixels: blocks between two selected samples are not read.
    """

    reader: Reader
    indices: Indices
    tiles: tuple[int, ...]

    @property
    def stretch(self) -> int:
        """How many pixels are read for each selected pixel, since complete tiles are read."""
        steps = [abs(i.step) if isinstance(i, range) and len(i) > 1 else 1 for i in self.indices]
        return math.prod(min(step, tile) for step, tile in zip(steps, self.tiles, strict=True))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 in out.shape:
            return
        parts = [i[r] for i, r in zip(self.indices, region, strict=True)]
        if _skips(parts) and (view := mapped(self.reader)) is not None:
            out[...] = taken(view, parts)
            return
        for combination in product(*self._runs(parts, out.itemsize)):
            base = tuple(run.source for run in combination)
            target = out[tuple(run.target for run in combination)]
            within = [run.within for run in combination]
            if not _skips(within):
                self.reader.read_into(base, target)
                continue
            whole = empty(tuple(s.stop - s.start for s in base), out.dtype)
            self.reader.read_into(base, whole)
            target[...] = taken(whole, within)

    def _runs(self, parts: list[Index], nbytes: int) -> list[list[Run]]:
        """Cut the indices of each axis into runs that are read together."""
        found = []
        for index, tile in zip(reversed(parts), reversed(self.tiles), strict=True):
            found.append(runs_of(index, tile, _MOST_SPARED // nbytes))
            whole = span(index)
            nbytes *= whole.stop - whole.start
        return found[::-1]


def _skips(indices: Sequence[Index]) -> bool:
    """Whether samples are skipped or reversed."""
    return any(isinstance(i, tuple) or (i.step != 1 and len(i) > 1) for i in indices)


_MOST_SPARED = 2**16  # a gap of up to this many bytes is read and discarded instead of skipped


def selected(reader: Reader, indices: Indices, tiles: tuple[int, ...]) -> Reader:
    """Return a reader of a selection. It is applied beneath readers that transpose, reshape, cast or select already.

    Parameters
    ----------
    reader : Reader
    indices : tuple of (range or tuple of int)
        For each axis.
    tiles : tuple of int
        Shape of the blocks in which `reader` finds its pixels.
    """
    if isinstance(reader, Selected):
        pairs = zip(reader.indices, indices, strict=True)
        return Selected(reader.reader, tuple(composed(outer, inner) for outer, inner in pairs), reader.tiles)
    if isinstance(reader, Transposed):
        inverse = _inverse(reader.order)
        inner, blocks = tuple(indices[k] for k in inverse), tuple(tiles[k] for k in inverse)
        return Transposed(selected(reader.reader, inner, blocks), reader.order)
    if isinstance(reader, Cast):
        return Cast(selected(reader.reader, indices, tiles), reader.source)
    if isinstance(reader, Scaled):
        return reader.select(indices, tiles)
    if isinstance(reader, Reshaped) and all(
        len(i) == 1 for k, i in zip(reader.axes, indices, strict=True) if k is None
    ):
        of_axis, of_tile = dict(zip(reader.axes, indices, strict=True)), dict(zip(reader.axes, tiles, strict=True))
        inner = tuple(of_axis.get(k, range(1)) for k in range(reader.ndim))
        blocks = tuple(of_tile.get(k, 1) for k in range(reader.ndim))
        return Reshaped(selected(reader.reader, inner, blocks), reader.axes, reader.ndim)
    return Selected(reader, indices, tiles)


_WRAPPERS = (Cast, Scaled, Transposed, Reshaped, Selected)


def leaf_of(reader: Any) -> Any:
    """Return the innermost reader, beneath all readers that transpose, reshape, cast, scale or select."""
    while isinstance(reader, _WRAPPERS):
        reader = reader.reader
    return reader


def with_leaf(reader: Any, leaf: Any) -> Any:
    """Return a reader with its innermost reader replaced (see `leaf_of`)."""
    if isinstance(reader, _WRAPPERS):
        return replace(reader, reader=with_leaf(reader.reader, leaf))
    return leaf


def stretch_of(reader: Any) -> int:
    """Return how many pixels are read for each requested one: a selection discards some, a lower level unites some."""
    while isinstance(reader, _WRAPPERS):
        if isinstance(reader, Selected) and reader.stretch != 1:
            return reader.stretch
        reader = reader.reader
    return getattr(reader, "stretch", 1)


def mapped(reader: Any) -> np.ndarray | None:
    """Return the pixels of a reader as a view of an array in memory or of a memory-mapped file, else None.

    The file has been checked for changes since it was opened; use the view immediately.
    """
    if isinstance(reader, Memory):
        return reader.array
    if not isinstance(reader, (Transposed, Reshaped, Selected)):
        look = getattr(reader, "view", None)
        return None if look is None else look()
    view = mapped(reader.reader)
    if view is None:
        return None
    if isinstance(reader, Transposed):
        return view.transpose(reader.order)
    if isinstance(reader, Selected):
        return taken(view, reader.indices) if all(isinstance(i, range) for i in reader.indices) else None
    kept = [k for k in reader.axes if k is not None]
    view = view[(*(slice(None) if k in kept else 0 for k in range(reader.ndim)), ...)]
    view = view.transpose(np.argsort(np.argsort(kept)))
    return view[(*(None if k is None else slice(None) for k in reader.axes), ...)]
