"""Reading many boxes of one array together: each tile of the file is decoded once, and copied to all its boxes.

Arrays in memory, plain memory-mapped files and images that fit into the cache are gathered through a window view.
This module does not know axes, names or plans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np

from intake_img.accessor.patches.board import Board
from intake_img.accessor.patches.lineage import computed_array, file_readers, mapped_view
from intake_img.errors import FormatError
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels
from intake_img.storage.cache import CACHE

__all__ = ["CHECK_SECONDS", "Gatherer"]

_THREAD_BYTES = 2**19
"""Work of fewer bytes is done in the calling thread."""
_COMPUTE_BYTES = 2**28
"""Bytes of lazily transformed chunks that are in memory at the same time."""
_RUN_BYTES = 2**20
"""Neighbouring tiles of this many bytes are read in one call."""
_VIEW_BYTES = 2**24
"""Copies of fewer bytes from memory are done in the calling thread."""
_SMALL_BYTES = 2**14
"""Patches of at most this many bytes are gathered in one call."""
_CALL_BYTES = 2**17
"""What can be copied in the time that one reading of a region takes besides the copying."""
_BOARD_SHARE = 0.75
"""Images that take at most this much of the cache are kept as a whole."""
Scatter = Callable[[int, np.ndarray, np.ndarray], None]
"""``scatter(k, data, origin)`` copies the k-th decoded region, which begins at `origin`, to its boxes."""
CHECK_SECONDS = 0.05
"""For this time a file is taken to be the one that was just looked at, where patches are read one by one."""


class Gatherer:
    """Reads boxes of an array into the rows of others.

    Parameters
    ----------
    pixels : Pixels
    axes : sequence of str
        Names of the axes, for messages.
    threads : int, optional
        Number of tiles that are decoded concurrently; by default the number of processors.
    """

    def __init__(self, pixels: Pixels, axes: Sequence[str], threads: int | None = None) -> None:
        self.pixels, self.axes, self.threads = pixels, tuple(axes), threads
        self.decoded = 0
        """Tiles that were decoded so far."""

    def __getstate__(self) -> dict[str, Any]:
        return {"pixels": self.pixels, "axes": self.axes, "threads": self.threads, "decoded": 0}

    @cached_property
    def files(self) -> tuple[Any, ...]:
        return file_readers(self.pixels.reader, 4)

    @cached_property
    def lazy(self) -> Any:
        """The dask array, if the data are computed."""
        return computed_array(self.pixels.reader)

    @cached_property
    def direct(self) -> bool:
        """Whether regions can be read without decoding complete tiles."""
        return len(self.files) == 1 and not self.files[0].decodes()

    @cached_property
    def edges(self) -> list[np.ndarray]:
        """The starts of tiles along each axis, and the end of the last."""
        if self.lazy is not None:
            return [np.concatenate([[0], np.cumsum(c)]).astype(np.int64) for c in self.lazy.chunks]
        return [
            np.append(np.arange(0, n, t), n).astype(np.int64)
            for n, t in zip(self.pixels.shape, self.pixels.tiles, strict=True)
        ]

    @cached_property
    def token(self) -> str:
        from dask import base

        return base.tokenize(self.pixels)

    def view(self) -> np.ndarray | None:
        """Return the complete array as a view of memory or of a mapped file, if possible."""
        return mapped_view(self.pixels.reader)

    def check(self) -> None:
        """Raise `SourceChangedError` if a file was replaced; cached tiles are not read again."""
        for reader in self.files:
            if reader.file.local:
                reader.check()

    def gather(self, low: np.ndarray, high: np.ndarray, out: np.ndarray, rows: np.ndarray, at: np.ndarray) -> None:
        """Read boxes.

        Parameters
        ----------
        low, high : ndarray of int64, shape (n, ndim)
            Half-open boxes within the array, none empty.
        out : ndarray of shape (m, ...)
        rows : ndarray of int, shape (n,)
            The row of `out` for each box.
        at : ndarray of int, shape (n, ndim)
            The start of the box in the row.
        """
        if not len(low):
            return
        self.check()
        whole = (high - low == out.shape[1:]).all(axis=1)
        view = self.view()
        if view is not None:
            _from_window(view, low, high, out, rows, at, whole, self.threads or cpus())
        else:
            self._from_tiles(low, high, out, rows, at, whole)

    # tiles

    def _from_tiles(
        self, low: np.ndarray, high: np.ndarray, out: np.ndarray, rows: np.ndarray, at: np.ndarray, whole: np.ndarray
    ) -> None:
        box, tile = _pairs(self.edges, low, high)
        numbers, which = np.unique(tile, return_inverse=True)

        def scatter_of(box: np.ndarray, group: np.ndarray) -> Scatter:
            order = np.argsort(group, kind="stable")
            box, cuts = box[order], np.append(np.flatnonzero(np.diff(group[order], prepend=-1)), len(order))

            def scatter(k: int, data: np.ndarray, origin: np.ndarray) -> None:
                mine = box[cuts[k] : cuts[k + 1]]
                _scatter(data, origin, low[mine], high[mine], out, rows[mine], at[mine], whole[mine])

            return scatter

        if self.lazy is not None:
            self._computed(numbers, scatter_of(box, which))
            return
        item = self.pixels.dtype.itemsize * math.prod(self.pixels.tiles)
        if self._rather_direct(len(low), len(numbers) * item, low, high):
            for a, b, row, place in zip(low, high, rows.tolist(), at, strict=True):
                self._direct(a, b, out[row], place)
            return
        workers = self.threads or cpus()
        if len(low) > 1 and (board := self._board(len(numbers))) is not None:
            self.decoded += board.fill(numbers, self._read, workers if len(numbers) * item >= _THREAD_BYTES else 1)
            _from_window(board.array, low, high, out, rows, at, whole, workers)
            return

        kept = np.array([(self.token, n) in CACHE for n in numbers.tolist()])
        run = self._runs(numbers, kept)
        starts = np.append(np.flatnonzero(np.diff(run, prepend=-1)), len(numbers))
        box, group = np.divmod(np.unique(box * len(starts) + run[which]), len(starts))  # a box once for each run
        scatter = scatter_of(box, group)
        turn = np.argsort(~kept[starts[:-1]], kind="stable").tolist()  # kept tiles first, before others replace them

        def work(part: Sequence[int]) -> None:
            for k in part:
                data, origin = self._run(numbers[starts[k] : starts[k + 1]])
                scatter(k, data, origin)

        workers = min(workers, len(turn))
        if workers == 1 or len(numbers) * item < _THREAD_BYTES:
            work(turn)
            return
        step = max(1, len(turn) // (workers * 8))
        with ThreadPoolExecutor(workers, thread_name_prefix="intake_img-patches") as pool:
            for _ in pool.map(work, [turn[k : k + step] for k in range(0, len(turn), step)]):
                pass

    def _runs(self, numbers: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return for each of some tiles, in order, its run: neighbours along the last axis that are read together.

        Tiles that are `kept` in the cache are runs of their own.
        """
        most = max(1, _RUN_BYTES // max(1, math.prod(self.pixels.tiles) * self.pixels.dtype.itemsize))
        along = len(self.edges[-1]) - 1
        new = (np.diff(numbers, prepend=-2) != 1) | (numbers % along == 0) | kept
        new[1:] |= kept[:-1]
        within = np.arange(len(numbers)) - np.maximum.accumulate(np.where(new, np.arange(len(numbers)), 0))
        return np.cumsum(new | (within % most == 0)) - 1

    def _rather_direct(self, boxes: int, nbytes: int, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether to read the boxes directly, instead of the tiles (of this many bytes) that contain them."""
        if boxes == 1 and math.prod(self.pixels.tiles) * self.pixels.dtype.itemsize * 4 > CACHE.limit:
            return True  # a tile that is too large for the cache
        if boxes > 1 and self.pixels.nbytes <= CACHE.limit * _BOARD_SHARE:
            return False  # all tiles will stay in the cache
        wanted = int((high - low).prod(axis=1).sum()) * self.pixels.dtype.itemsize
        return self.direct and wanted + boxes * _CALL_BYTES < nbytes

    def _board(self, tiles: int) -> Board | None:
        """Return the complete image, if it fits into the cache and enough of its tiles are needed."""
        if self.pixels.nbytes > CACHE.limit * _BOARD_SHARE:
            return None
        key = (self.token, "board")
        if tiles * 2 < math.prod(len(e) - 1 for e in self.edges):
            return CACHE.get(key)
        make = partial(Board, self.pixels.shape, self.pixels.dtype, self.edges)
        return CACHE.shared(key, make, _BOARD_SHARE)

    def _direct(self, low: np.ndarray, high: np.ndarray, out: np.ndarray, at: np.ndarray) -> None:
        target = tuple(slice(a, a + h - b) for a, b, h in zip(at, low, high, strict=True))
        self._read([(int(a), int(b)) for a, b in zip(low, high, strict=True)], out[target])

    def _read(self, bounds: Sequence[tuple[int, int]], out: np.ndarray) -> None:
        """Read a box from the file; errors name its position."""
        try:
            self.pixels.read_into(tuple(slice(a, b) for a, b in bounds), out)
        except (FormatError, ValueError, RuntimeError) as exc:
            where = ", ".join(f"{a}={b}:{c}" for a, (b, c) in zip(self.axes, bounds, strict=True))
            raise FormatError(f"the tile at {where} cannot be read: {exc}") from exc

    def _bounds(self, number: int) -> list[tuple[int, int]]:
        place = np.unravel_index(number, [len(e) - 1 for e in self.edges])
        return [(int(e[k]), int(e[k + 1])) for e, k in zip(self.edges, place, strict=True)]

    def _tile(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a decoded tile and its start."""
        bounds = self._bounds(number)
        key = (self.token, number)
        tile = CACHE.get(key)
        if tile is None:
            tile = np.empty([b - a for a, b in bounds], self.pixels.dtype)
            self._read(bounds, tile)
            self.decoded += 1
            CACHE.put(key, tile)
        return tile, np.array([a for a, _ in bounds], np.int64)

    def _run(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return decoded tiles that are neighbours along the last axis, as one array, and its start."""
        if len(numbers) == 1:
            return self._tile(int(numbers[0]))
        bounds = self._bounds(int(numbers[0]))
        ends = self.edges[-1][int(numbers[0]) % (len(self.edges[-1]) - 1) :][: len(numbers) + 1].tolist()
        bounds[-1] = (ends[0], ends[-1])
        data = np.empty([b - a for a, b in bounds], self.pixels.dtype)
        try:
            self._read(bounds, data)
        except FormatError:
            for number in numbers.tolist():
                self._tile(number)  # names the one that cannot be read
            raise
        self.decoded += len(numbers)
        if CACHE.limit:
            for number, a, b in zip(numbers.tolist(), ends[:-1], ends[1:], strict=True):
                CACHE.put((self.token, number), data[..., a - ends[0] : b - ends[0]].copy())
        return data, np.array([a for a, _ in bounds], np.int64)

    # one by one

    def single(self, low: Sequence[int], high: Sequence[int], out: np.ndarray) -> None:
        """Read one box that lies completely inside an array of regular tiles."""
        tiles = self.pixels.tiles
        if self.direct:
            self._read(list(zip(low, high, strict=True)), out)
            return
        spans = [range(a // t, (b - 1) // t + 1) for a, b, t in zip(low, high, tiles, strict=True)]
        for place in product(*spans):
            number = 0
            for k, n, t in zip(place, self.pixels.shape, tiles, strict=True):
                number = number * -(-n // t) + k
            tile = CACHE.get((self.token, number))
            if tile is None:
                tile = self._tile(number)[0]
            source, target = [], []
            for k, a, b, t in zip(place, low, high, tiles, strict=True):
                first, last = max(a, k * t), min(b, (k + 1) * t)
                source.append(slice(first - k * t, last - k * t))
                target.append(slice(first - a, last - a))
            out[tuple(target)] = tile[tuple(source)]

    # lazily transformed data

    def _computed(self, numbers: np.ndarray, scatter: Scatter) -> None:
        """Compute the needed chunks, many in one run of dask, so that they share their inputs."""
        import dask

        grid = [len(e) - 1 for e in self.edges]
        for part in _batches(numbers, grid, self.edges, self.pixels.dtype.itemsize):
            places = [np.unravel_index(int(numbers[k]), grid) for k in part]
            blocks = dask.compute(*[self.lazy.blocks[tuple(int(i) for i in p)] for p in places])
            self.decoded += len(part)
            for k, place, block in zip(part, places, blocks, strict=True):
                origin = np.array([e[i] for e, i in zip(self.edges, place, strict=True)], np.int64)
                scatter(k, np.asarray(block), origin)


def _batches(numbers: np.ndarray, grid: Sequence[int], edges: Sequence[np.ndarray], item: int) -> Iterator[list[int]]:
    part: list[int] = []
    size = 0
    for k, number in enumerate(numbers.tolist()):
        place = np.unravel_index(number, grid)
        nbytes = item * math.prod(int(e[i + 1] - e[i]) for e, i in zip(edges, place, strict=True))
        if part and size + nbytes > _COMPUTE_BYTES:
            yield part
            part, size = [], 0
        part.append(k)
        size += nbytes
    if part:
        yield part


def _pairs(edges: Sequence[np.ndarray], low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of a box and a tile that it touches; tiles are numbered in C order."""
    grid = [len(e) - 1 for e in edges]
    first = np.stack([np.searchsorted(e, low[:, k], side="right") - 1 for k, e in enumerate(edges)], 1)
    last = np.stack([np.searchsorted(e, high[:, k], side="left") for k, e in enumerate(edges)], 1)
    span = last - first
    times = span.prod(axis=1)
    box = np.repeat(np.arange(len(low)), times)
    within = np.arange(len(box)) - np.repeat(np.cumsum(times) - times, times)
    tile = np.zeros(len(box), np.int64)
    stride = 1
    for k in reversed(range(len(edges))):
        tile += (first[box, k] + within % span[box, k]) * stride
        within //= span[box, k]
        stride *= grid[k]
    return box, tile


def _windows(tile: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return all windows of a size, by their first pixel; a view."""
    shape = tuple(n - s + 1 for n, s in zip(tile.shape, size, strict=True))
    return np.lib.stride_tricks.as_strided(tile, (*shape, *size), tile.strides * 2, writeable=False)


def _copy_windows(windows: np.ndarray, first: np.ndarray, out: np.ndarray, rows: np.ndarray) -> None:
    """Copy windows into rows: small ones in one call, without a second copy of large ones."""
    if out[0].nbytes <= _SMALL_BYTES:
        out[rows] = windows[tuple(first.T)]
        return
    for row, place in zip(rows.tolist(), first.tolist(), strict=True):
        out[row] = windows[tuple(place)]


def _from_window(
    view: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    out: np.ndarray,
    rows: np.ndarray,
    at: np.ndarray,
    whole: np.ndarray,
    workers: int,
) -> None:
    inside = np.flatnonzero(whole)
    if inside.size:
        windows = _windows(view, out.shape[1:])
        if workers > 1 and inside.size > 1 and out[0].nbytes * inside.size > _VIEW_BYTES:
            parts = np.array_split(inside, workers)
            with ThreadPoolExecutor(workers, thread_name_prefix="intake_img-patches") as pool:
                for _ in pool.map(lambda part: _copy_windows(windows, low[part], out, rows[part]), parts):
                    pass
        else:
            _copy_windows(windows, low[inside], out, rows[inside])
    for k in np.flatnonzero(~whole):
        source = tuple(slice(a, b) for a, b in zip(low[k], high[k], strict=True))
        target = tuple(slice(a, a + h - b) for a, b, h in zip(at[k], low[k], high[k], strict=True))
        out[rows[k]][target] = view[source]


def _scatter(
    tile: np.ndarray,
    origin: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    out: np.ndarray,
    rows: np.ndarray,
    at: np.ndarray,
    whole: np.ndarray,
) -> None:
    """Copy the intersections of boxes with a tile into their rows."""
    first, last = low - origin, high - origin
    begin, end = np.maximum(first, 0), np.minimum(last, tile.shape)
    inside = whole & (begin == first).all(axis=1) & (end == last).all(axis=1)
    if inside.sum() > 2:
        _copy_windows(_windows(tile, out.shape[1:]), first[inside], out, rows[inside])
        left = np.flatnonzero(~inside)
    else:
        left = np.arange(len(low))
    if not len(left):
        return
    target = at[left] + begin[left] - first[left]
    stop = target + end[left] - begin[left]
    for row, a, b, c, d in zip(
        rows[left].tolist(), begin[left].tolist(), end[left].tolist(), target.tolist(), stop.tolist(), strict=True
    ):
        out[(row, *map(slice, c, d))] = tile[tuple(map(slice, a, b))]
