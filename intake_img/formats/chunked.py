"""Arrays of chunks on a regular grid, which are read and decoded completely: N5, Neuroglancer, WKW.

What the formats share: which chunks a region overlaps, several requests at a time to servers, missing chunks, and the
check that a decoded chunk has the size that its array says.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import StoredArray
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader, File
from intake_img.storage.listings import present

__all__ = [
    "ChunkedArray",
    "Cut",
    "Place",
    "Readers",
    "copy_rows",
    "cuts_of",
    "digest_of",
    "file_bytes",
    "file_json",
    "folder_stamp",
    "morton",
    "positive",
    "put",
    "there",
    "values_in",
]

_REQUESTS = 16  # at a time, to one server
_MOST_CHUNK = 2**31  # bytes
_MANY = 16  # chunks of a region, from which on it is found out first which of them there are

Place = tuple[int, ...]
"""Position of a chunk in the grid: its index along each axis."""
Cut = tuple[slice, slice]
"""What a region cuts of a chunk along an axis: where it is in the array of the region, and where in the chunk."""


class ChunkedArray(StoredArray):
    """An array that can only be read by complete chunks: a format defines only `read_chunk`.

    Parameters
    ----------
    file : File
        The folder of the chunks.
    shape : tuple of int
    dtype : numpy.dtype
    chunk : tuple of int
        Shape of the chunks.
    """

    def __init__(self, file: File, shape: Sequence[int], dtype: np.dtype, chunk: Sequence[int]) -> None:
        self.file, self.shape, self.dtype = file, tuple(shape), np.dtype(dtype).newbyteorder("=")
        self.tiles = tuple(chunk)
        if (nbytes := math.prod(self.tiles) * self.dtype.itemsize) > _MOST_CHUNK:
            raise FormatError(f"{file}: chunks of {nbytes} bytes are too large: its metadata are damaged")

    def read_chunk(self, place: Place) -> np.ndarray | None:
        """Return the chunk at `place`; None where there is none, which means zeros.

        Its shape is that of a chunk. What of it lies beyond the end of the array may be left out.
        """
        raise NotImplementedError

    def present(self, spans: Sequence[range]) -> list[Place]:
        """Return the positions in a box of the grid that may have a chunk; the others are zeros.

        Called for large boxes only: a format that can list many chunks in one go overrides it, as most chunks of a
        sparse array are missing.

        Parameters
        ----------
        spans : sequence of range
            Numbers of chunks along each axis.
        """
        return list(product(*spans))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        spans = [range(s.start // n, -(-s.stop // n)) for s, n in zip(region, self.tiles, strict=True)]
        count = math.prod(map(len, spans))
        places = self.present(spans) if count >= _MANY else list(product(*spans))
        if len(places) < count:
            out[...] = 0
        self.deliver(places, region, out)

    def deliver(self, places: Sequence[Place], region: Region, out: np.ndarray) -> None:
        """Fill the parts of `out`, the array of a region, that lie in the chunks at these positions."""
        cuts = cuts_of(region, self.tiles)
        self.each(lambda place: put(place, self.read_chunk(place), cuts, out), places)

    def each(self, func: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Call a function for each item: of a remote file in several threads, as each call is a request."""
        if self.file.local or len(items) < 2:
            for item in items:
                func(item)
            return
        with ThreadPoolExecutor(min(_REQUESTS, len(items)), thread_name_prefix="intake_img-chunks") as pool:
            for _ in pool.map(func, items):
                pass

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-n // m) for n, m in zip(self.shape, self.tiles, strict=True))

    def extent(self, place: Place) -> tuple[int, ...]:
        """Return the shape of the part of a chunk that lies within the array."""
        return tuple(min(n, m - k * n) for k, n, m in zip(place, self.tiles, self.shape, strict=True))


def cuts_of(region: Region, tiles: Sequence[int]) -> list[dict[int, Cut]]:
    """Return for each axis the chunks that a region overlaps, by their index, with what it cuts of each.

    Examples
    --------
    >>> cuts_of((slice(3, 9),), (4,))
    [{0: (slice(0, 1, None), slice(3, 4, None)), 1: (slice(1, 5, None), slice(0, 4, None)), 2: (slice(5, 6, None), \
slice(0, 1, None))}]
    """
    return [
        {k: _cut(k * n - part.start, n, part.stop - part.start) for k in range(part.start // n, -(-part.stop // n))}
        for part, n in zip(region, tiles, strict=True)
    ]


def _cut(start: int, length: int, end: int) -> Cut:
    """Return the cut of a chunk that begins at `start`, which may be negative, in a region of length `end`."""
    first, stop = max(start, 0), min(start + length, end)
    return slice(first, stop), slice(first - start, stop - start)


def put(place: Place, chunk: np.ndarray | None, cuts: Sequence[Mapping[int, Cut]], out: np.ndarray) -> None:
    """Copy what the region of `cuts` cuts of a chunk into its place in `out`; zeros if there is no chunk."""
    found = [of_axis[k] for of_axis, k in zip(cuts, place, strict=True)]
    target = out[tuple([within for within, _ in found])]
    if chunk is None:
        target[...] = 0
    else:
        copy_rows(chunk[tuple([inside for _, inside in found])], target)


def copy_rows(part: np.ndarray, out: np.ndarray) -> None:
    """Copy an array into another one of its shape: rows of the same type as one item each, in half the time."""
    while part.ndim > 1 and part.shape[-1] == 1:
        part, out = part[..., 0], out[..., 0]
    item = part.itemsize
    if part.ndim > 1 and part.dtype == out.dtype and part.strides[-1] == out.strides[-1] == item:
        row = f"V{part.shape[-1] * item}"
        part, out = part.view(row), out.view(row)
    out[...] = part


class Readers:
    """Files that contain many chunks each: local ones are open while they are read, others until all are closed."""

    def __init__(self) -> None:
        self._remote: dict[str, ByteReader] = {}

    @contextlib.contextmanager
    def opened(self, file: File) -> Iterator[ByteReader | None]:
        """Yield an open file within a ``with``; None if there is no such file."""
        try:
            reader = self._remote.get(file.path) or file.open()
        except FileNotFoundError:
            yield None
            return
        if not file.local:
            self._remote[file.path] = reader
            yield reader
            return
        try:
            yield reader
        finally:
            reader.close()

    def close(self) -> None:
        """Close open files."""
        while self._remote:
            self._remote.popitem()[1].close()


def there(folder: File, names: Mapping[str, Place], grid: Sequence[int]) -> list[Place]:
    """Return the positions of a remote array that may have a chunk: all of them, if one listing does not show it.

    Parameters
    ----------
    folder : File
    names : mapping of str to tuple
        The position of each file of a box in the grid, in order.
    grid : sequence of int
        How many positions there are along each axis, the axis of the last component of the names last.
    """
    found = present(folder, list(names), grid)
    return [place for name, place in names.items() if found is None or name in found]


def morton(place: Sequence[int], grid: Sequence[int]) -> int:
    """Return the number of a chunk: the interleaved bits of its position, without bits that the grid does not have.

    Examples
    --------
    >>> [morton(place, (2, 3, 1)) for place in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 2, 0)]]
    [0, 1, 2, 5]
    """
    number, at = 0, 0
    for bit in range(max(n - 1 for n in grid).bit_length()):
        for k, n in zip(place, grid, strict=True):
            if 1 << bit < n:
                number |= (k >> bit & 1) << at
                at += 1
    return number


def values_in(data: Any, dtype: np.dtype, shape: Sequence[int], what: object) -> np.ndarray:
    """Return decoded bytes as an array in C order.

    Raises
    ------
    FormatError
        If they are not as many as the shape needs.
    """
    want, found = math.prod(shape) * dtype.itemsize, memoryview(data).nbytes
    if found != want:
        raise FormatError(f"{what} contains {found} bytes of pixels, expected {want}: it is truncated or damaged")
    return np.frombuffer(data, dtype).reshape(shape)


def file_bytes(file: File) -> bytes | None:
    """Return the contents of a file, None if there is no such file."""
    try:
        if not file.local:
            return file.read(_MOST_CHUNK)
        descriptor = file.descriptor()
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        file.check_size(size, _MOST_CHUNK)
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def folder_stamp(folder: File, *names: str) -> tuple[Any, ...]:
    """Return what changes when a folder is replaced, or the first of the named files that it has is written again."""
    found = [os.stat(folder.path).st_ino] if folder.local else []
    for name in names:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return (*found, *(folder / name).stamp())
    return tuple(found)


def file_json(file: File) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is no such file.

    Raises
    ------
    FormatError
        If it contains something else.
    """
    try:
        text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{file} is not JSON ({str(exc)[:100]}): it is truncated or damaged") from None
    if not isinstance(found, dict):
        raise FormatError(f"{file} contains no JSON object: it is damaged")
    return found


def positive(value: Any, what: object, least: int = 1) -> tuple[int, ...]:
    """Return a list of integers as a tuple, or raise `FormatError`."""
    good = isinstance(value, list) and 0 < len(value) <= 32
    if not good or not all(type(n) is int and least <= n < 2**48 for n in value):
        raise FormatError(f"{what} is {value!r:.80}: expected whole numbers of at least {least}")
    return tuple(value)


def digest_of(attributes: Mapping[str, Any]) -> str:
    """Return a short text that changes when the attributes of an array do."""
    return f"{zlib.crc32(json.dumps(attributes, sort_keys=True).encode()):08x}"
