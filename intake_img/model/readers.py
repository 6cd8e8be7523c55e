"""Readers of arrays, and readers that wrap another to transpose, select, stack, cast or scale.

They are small, picklable and stateless.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.model.chunks import Region
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
    "index_of",
    "leaf_of",
    "selected",
    "usual_dtype",
    "with_leaf",
]


class Reader(Protocol):
    """What `Pixels` reads through; it must pickle, and may be called from many threads at once."""

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Fill `out`, whose shape is that of `region`, with the pixels of the region."""


def usual_dtype(dtype: np.dtype) -> np.dtype:
    """Return a dtype in native byte order, by its usual character: C has several names for one size of integer."""
    native = dtype.newbyteorder("=")
    return np.dtype(native.str) if native.kind in "iu" else native


@dataclass(frozen=True, eq=False)
class Memory:
    array: np.ndarray

    def chunk(self, region: Region) -> np.ndarray:
        """Return a region, without a copy of it where there need be none."""
        found = np.ascontiguousarray(self.array[region], self.array.dtype.newbyteorder("=")).view(
            usual_dtype(self.array.dtype)
        )
        found.flags.writeable = False
        return found

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self.array[region]


@dataclass(frozen=True, eq=False)
class Dask:
    array: Any

    def chunk(self, region: Region) -> np.ndarray | None:
        """Return a region that lies in one chunk, without a copy of it where there need be none; else None."""
        part = self.array[region]
        if part.npartitions != 1:
            return None
        found = np.ascontiguousarray(part.compute(), self.array.dtype.newbyteorder("=")).view(
            usual_dtype(self.array.dtype)
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
class Cast:
    reader: Reader
    source: np.dtype

    def read_into(self, region: Region, out: np.ndarray) -> None:
        native = np.empty(out.shape, self.source)
        self.reader.read_into(region, native)
        out[...] = native


@dataclass(frozen=True)
class Scaled:
    """Values from stored numbers: ``slope * number + offset``.

    Parameters
    ----------
    reader : Reader
    source : numpy.dtype
        Of the stored numbers.
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

    def select(self, indices: tuple[range | tuple[int, ...], ...]) -> Scaled:
        """Return the reader of a part."""
        chosen: dict[str, Any] = {}
        if self.axis is not None:
            for name in ("slopes", "offsets"):
                values = getattr(self, name)
                chosen[name] = values if len(values) == 1 else tuple(values[k] for k in indices[self.axis])
        return replace(self, reader=selected(self.reader, indices), **chosen)


@dataclass(frozen=True)
class Unscaled:
    """The reverse of `Scaled`: numbers to store, rounded half to even; what does not fit the dtype is an error."""

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
class Transposed:
    reader: Reader
    order: tuple[int, ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        inverse = np.argsort(self.order).tolist()
        self.reader.read_into(tuple(region[k] for k in inverse), out.transpose(inverse))


@dataclass(frozen=True)
class Reshaped:
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
class Stacked:
    readers: tuple[Reader, ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        for n, k in enumerate(range(region[0].start, region[0].stop)):
            self.readers[k].read_into(region[1:], out[(n, ...)])


@dataclass(frozen=True)
class Selected:
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
                whole = empty(tuple(s.stop - s.start for s in base), out.dtype)
                self.reader.read_into(base, whole)
                target[...] = whole[tuple(slice(None, None, step) for step in steps)]


def selected(reader: Reader, indices: tuple[range | tuple[int, ...], ...]) -> Reader:
    """Return a reader of a part. The selection is made beneath what transposes, reshapes, casts or selects already."""
    if isinstance(reader, Selected):
        pairs = zip(reader.indices, indices, strict=True)
        return Selected(reader.reader, tuple(_composed(outer, inner) for outer, inner in pairs))
    if isinstance(reader, Transposed):
        inner = tuple(indices[k] for k in np.argsort(reader.order).tolist())
        return Transposed(selected(reader.reader, inner), reader.order)
    if isinstance(reader, Cast):
        return Cast(selected(reader.reader, indices), reader.source)
    if isinstance(reader, Scaled):
        return reader.select(indices)
    if isinstance(reader, Reshaped) and all(
        len(i) == 1 for k, i in zip(reader.axes, indices, strict=True) if k is None
    ):
        of_axis = dict(zip(reader.axes, indices, strict=True))
        inner = tuple(of_axis.get(k, range(1)) for k in range(reader.ndim))
        return Reshaped(selected(reader.reader, inner), reader.axes, reader.ndim)
    return Selected(reader, indices)


_WRAPPERS = (Cast, Scaled, Transposed, Reshaped, Selected)


def leaf_of(reader: Any) -> Any:
    """Return the reader beneath all that transpose, reshape, cast, scale or select."""
    while isinstance(reader, _WRAPPERS):
        reader = reader.reader
    return reader


def with_leaf(reader: Any, leaf: Any) -> Any:
    """Return a reader with another one beneath all that transpose, reshape, cast, scale or select."""
    if isinstance(reader, _WRAPPERS):
        return replace(reader, reader=with_leaf(reader.reader, leaf))
    return leaf


def _composed(first: range | tuple[int, ...], then: range | tuple[int, ...]) -> range | tuple[int, ...]:
    """Return the indices that a selection of a selection stands for."""
    if isinstance(first, range) and isinstance(then, range):
        start = first.start + then.start * first.step
        return range(start, start + len(then) * first.step * then.step, first.step * then.step)
    return tuple(first[k] for k in then)


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


def index_of(key: Any, n: int) -> range | tuple[int, ...]:
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
