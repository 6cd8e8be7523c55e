"""Images as records of a Spark RDD, and records as unread pixels, without collecting the RDD or importing pyspark.

Executors get names, regions, and small functions of this module, so they need the package too; they return keys, and
the pixels of one region at a time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise, product
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.model.chunks import Region
from intake_img.model.pixels import Pixels

__all__ = ["Records", "find_records", "read_block", "spread"]

_MOST_PARTITIONS = 10_000

Key = tuple[Any, ...]
Block = tuple[Region, np.ndarray | None]


# out


def spread(sc: Any, blocks: Sequence[Block], read: Callable[[Block], Iterable[Any]], partitions: int | None) -> Any:
    """Return an RDD of the records that `read` makes from each block on the executors.

    Parameters
    ----------
    sc : pyspark.SparkContext
    blocks : sequence of (region, array or None)
        Regions along the leading axes; with the pixels, if these are in memory.
    read : callable
        See `read_block`.
    partitions : int, optional
        Number of partitions; by default one for each block.
    """
    if not callable(getattr(sc, "parallelize", None)):
        raise TypeError(f"expected a SparkContext (of a SparkSession: spark.sparkContext), got {type(sc).__name__}")
    if partitions is not None and (not isinstance(partitions, int) or partitions < 1):
        raise ValueError(f"partitions={partitions!r}: expected a positive number")
    count = partitions or min(len(blocks), _MOST_PARTITIONS)
    return sc.parallelize(list(blocks), count).flatMap(read)


def read_block(pixels: Pixels | None, lead: int) -> Callable[[Block], Iterator[tuple[Key, np.ndarray]]]:
    """Return the function that makes the records of a block on the executor.

    Parameters
    ----------
    pixels : Pixels or None
        Unread pixels; None if the blocks contain their pixels.
    lead : int
        Number of leading axes; indices along them are the keys.
    """
    return partial(_records_of_block, pixels, lead)


def _records_of_block(pixels: Pixels | None, lead: int, block: Block) -> Iterator[tuple[Key, np.ndarray]]:
    import dask

    region, array = block
    if array is None:
        assert pixels is not None
        whole = [slice(None)] * (pixels.ndim - lead)
        with dask.config.set(scheduler="synchronous"):  # Spark runs one task per processor
            array = pixels.select([*region, *whole]).read()
    for place in product(*(range(s.start, s.stop) for s in region)):
        at = tuple(p - s.start for p, s in zip(place, region, strict=True))
        yield place or (0,), np.asarray(array[at])


# in


@dataclass(frozen=True)
class _Records:
    """The records of an RDD: their labels along each axis, in order, and the partition of each key."""

    labels: tuple[tuple[Any, ...], ...]
    partitions: dict[Key, int]
    shape: tuple[int, ...]
    dtype: np.dtype

    @cached_property
    def counts(self) -> Counter[int]:
        """The number of records in each partition."""
        return Counter(self.partitions.values())

    def cuts(self) -> list[tuple[int, ...]]:
        """Return chunk lengths along each axis: single records; along the last axis runs within one partition."""
        *lead, last = self.labels
        edges = {0, len(last)}
        for head in product(*lead):
            owners = [self.partitions[(*head, k)] for k in last]
            edges |= {n for n in range(1, len(last)) if owners[n] != owners[n - 1]}
        places = sorted(edges)
        runs = tuple(b - a for a, b in pairwise(places))
        return [*((1,) * len(axis) for axis in lead), runs]


def find_records(rdd: Any) -> _Records:
    """Return the records of an RDD: one job computes them on the executors and returns keys, shapes and dtypes.

    Raises
    ------
    FormatError
        If the images differ in shape or dtype, or keys repeat or do not fill a grid.
    """
    facts = rdd.mapPartitionsWithIndex(_facts).collect()
    if not facts:
        raise ValueError("the RDD has no record: expected pairs of a key and an image")
    _, first, shape, dtype = facts[0]
    partitions: dict[Key, int] = {}
    for number, key, its_shape, its_dtype in facts:
        if its_shape != shape or its_dtype != dtype:
            raise FormatError(
                f"record {key} has shape {its_shape}, dtype {its_dtype}, but record {first} has {shape} and {dtype}; "
                "the images of a series must have the same shape and dtype"
            )
        if len(key) != len(first):
            raise FormatError(f"the keys {first} and {key} have different lengths: expected one number for each axis")
        if key in partitions:
            raise FormatError(f"the key {key} occurs twice")
        partitions[key] = number
    labels = tuple(tuple(sorted(set(column))) for column in zip(*partitions, strict=True))
    lost = [key for key in product(*labels) if key not in partitions]
    if lost:
        raise FormatError(f"the keys fill no grid: {len(lost)} are missing, e.g. {lost[0]}")
    return _Records(labels, partitions, tuple(shape), np.dtype(dtype))


def _facts(number: int, records: Iterable[Any]) -> Iterator[tuple[int, Key, tuple[int, ...], str]]:
    for key, value in records:
        array = np.asarray(value)
        yield number, _as_key(key), array.shape, array.dtype.newbyteorder("=").str


def _as_key(key: Any) -> Key:
    return tuple(key) if isinstance(key, (tuple, list)) else (key,)


@dataclass(frozen=True, eq=False)
class Records:
    """Reads regions of an RDD of images: a job on their partitions, which returns only the region.

    Parameters
    ----------
    rdd : pyspark.RDD
    grid : tuple of int
        Number of records along each axis.
    shape, dtype
        Of one image.
    known : _Records, optional
        The records of the RDD; by default they are determined with the first pixels.
    """

    rdd: Any
    grid: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    known: _Records | None = None
    lock: Any = field(default_factory=threading.Lock)

    def __dask_tokenize__(self) -> Any:
        return ("spark", self.rdd.context.applicationId, self.rdd.id(), self.grid, self.shape, str(self.dtype))

    def __reduce__(self) -> Any:
        raise TypeError(
            "images of a Spark RDD belong to the process that has the SparkContext: compute them with threads "
            "(dask's default), or save them to files first"
        )

    def found(self) -> _Records:
        """Return the records of the RDD."""
        with self.lock:
            if self.known is None:
                found = find_records(self.rdd)
                grid = tuple(map(len, found.labels))
                if (grid, found.shape, found.dtype) != (self.grid, self.shape, self.dtype):
                    raise FormatError(
                        f"the RDD contains {grid} images of shape {found.shape} and dtype {found.dtype}, but "
                        f"{self.grid} of {self.shape} and {self.dtype} were announced"
                    )
                object.__setattr__(self, "known", found)
            assert self.known is not None
            return self.known

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 in out.shape:
            return
        found, n = self.found(), len(self.grid)
        wanted: dict[int, dict[Key, Key]] = {}
        for place in product(*(range(s.start, s.stop) for s in region[:n])):
            key = tuple(axis[k] for axis, k in zip(found.labels, place, strict=True))
            at = tuple(p - s.start for p, s in zip(place, region, strict=False))
            wanted.setdefault(found.partitions[key], {})[key] = at
        for number, places in wanted.items():
            part_of_image = tuple((s.start, s.stop) for s in region[n:])
            take = partial(_take, frozenset(places), len(places) == found.counts[number], part_of_image)
            for key, array in self.rdd.context.runJob(self.rdd, take, [number]):
                part = out[(*places.pop(key), ...)]
                if array.shape != part.shape or array.dtype.newbyteorder("=") != self.dtype:
                    raise FormatError(
                        f"record {key} gave {array.dtype} of shape {array.shape}, expected {self.dtype} {part.shape}"
                    )
                part[...] = array
            if places:
                raise FormatError(
                    f"the RDD has no record {next(iter(places))} any more: cache it, or make it repeatable"
                )


def _take(
    keys: frozenset[Key], all_of_it: bool, region: tuple[tuple[int, int], ...], records: Iterable[Any]
) -> Iterator[tuple[Key, np.ndarray]]:
    left = set(keys)
    for k, value in records:
        key = _as_key(k)
        if key in left:
            left.remove(key)
            yield key, np.ascontiguousarray(np.asarray(value)[tuple(slice(*r) for r in region)])
        if not left and not all_of_it:  # after an iterator that was not exhausted, Spark would start another worker
            return
