"""Native tiles that several chunks share are decoded once, whatever their size; the pixels equal the file."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from intake_img.errors import TooLargeError
from intake_img.model.pixels import Pixels
from intake_img.portal import native_tiles
from intake_img.portal.caches import BlockCache, DiskCache, memory_cache
from intake_img.portal.costly_blocks import halved, price
from intake_img.portal.native_tiles import shared_tiles
from intake_img.storage.cache import MemoryCache

CHUNK = (1, 8, 8)


class _File:
    """Reads an array, and notes which regions."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.read = array, []  # type: ignore[var-annotated]

    def read_into(self, region, out):
        self.read.append(tuple((s.start, s.stop) for s in region))
        out[...] = self.array[region]


def _file(shape: tuple[int, ...], tile: tuple[int, ...]) -> tuple[_File, Pixels]:
    file = _File(np.random.default_rng(0).integers(0, 60_000, shape).astype("u2"))
    return file, Pixels(file, shape, np.dtype("u2"), tile)


def _chunks(pixels: Pixels):
    for at in np.ndindex(*(-(-n // c) for n, c in zip(pixels.shape, CHUNK, strict=True))):
        yield tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(at, CHUNK, pixels.shape, strict=True))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(native_tiles, "_LEAST_ON_DISK", 0)


# tile, memory in units of the image's bytes, how often the file is read, whether blocks are on disk
_CASES = [
    ((3, 30, 45), 16, 1, False),  # one piece, as it is
    ((3, 30, 45), 3, 1, False),  # one piece, in blocks
    ((3, 30, 45), 1, 1, True),
    ((1, 30, 45), 0.1, 3, True),
    ((3, 16, 45), 0.5, 2, True),  # strips
    ((3, 2, 45), 0.1, 4, True),  # strips that are thinner than a chunk
    ((3, 2, 45), 100, 4, False),
    ((3, 16, 24), 0.3, 4, True),  # tiles
    ((1, 8, 8), 1, 72, False),  # tiles that are chunks are read as they are
]


@pytest.mark.parametrize(("tile", "memory", "reads", "lasting"), _CASES)
def test_each_tile_is_read_once(tmp_path: Path, tile, memory, reads, lasting) -> None:
    file, pixels = _file((3, 30, 45), tile)
    disk = DiskCache(tmp_path, 10**8)
    kept = BlockCache(memory_cache(int(memory * pixels.nbytes)), disk)
    shared = shared_tiles(pixels, CHUNK, "a", kept)
    for region in _chunks(pixels):
        np.testing.assert_array_equal(shared[region], file.array[region])
    assert len(file.read) == reads
    assert any(tmp_path.iterdir()) == lasting
    if lasting:  # another process, or the next start
        again = shared_tiles(pixels, CHUNK, "a", BlockCache(memory_cache(kept.memory.limit), disk))
        np.testing.assert_array_equal(again[:], file.array)
        assert len(file.read) == reads


def test_tiles_that_nothing_can_hold_are_read_as_they_are(tmp_path: Path) -> None:
    _, pixels = _file((3, 30, 45), (3, 30, 45))
    for kept in (
        BlockCache(memory_cache(pixels.nbytes), DiskCache.none()),
        BlockCache(memory_cache(pixels.nbytes), DiskCache(tmp_path, pixels.nbytes)),
    ):
        assert shared_tiles(pixels, CHUNK, "a", kept) is pixels
    memory = Pixels.of(np.zeros((3, 30, 45), "u2"))
    assert shared_tiles(memory, CHUNK, "a", BlockCache(memory_cache(10**8), DiskCache.none())) is memory
    file, pixels = _file((3, 30, 45), (3, 30, 45))
    file.view = lambda: file.array  # memory-mapped: nothing is decoded
    assert shared_tiles(pixels, CHUNK, "a", BlockCache(memory_cache(10**8), DiskCache.none())) is pixels
    _, pixels = _file((3, 30, 45), (3, 12, 45))  # a tile is not a number of chunks
    assert shared_tiles(pixels, CHUNK, "a", BlockCache(memory_cache(100), DiskCache(tmp_path, 10**8))) is pixels


def test_requests_together_read_a_tile_once(tmp_path: Path) -> None:
    file, pixels = _file((3, 30, 45), (3, 30, 45))
    shared = shared_tiles(pixels, CHUNK, "a", BlockCache(memory_cache(3 * pixels.nbytes), DiskCache(tmp_path, 10**8)))
    threads = [threading.Thread(target=shared.__getitem__, args=(region,)) for region in list(_chunks(pixels))[:12]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(file.read) == 1


def test_a_tile_that_fails_is_tried_again(tmp_path: Path) -> None:
    file, pixels = _file((3, 30, 45), (3, 30, 45))
    shared = shared_tiles(pixels, CHUNK, "a", BlockCache(memory_cache(3 * pixels.nbytes), DiskCache(tmp_path, 10**8)))
    array, file.array = file.array, None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        shared[0, :8, :8]
    file.array = array
    np.testing.assert_array_equal(shared[0, :8, :8], array[0, :8, :8])


def test_a_tile_is_priced_once(tmp_path: Path) -> None:
    """Also for a level that needs several of its blocks; a level beyond the budget is refused until it is cached."""
    file, pixels = _file((3, 32, 48), (3, 32, 48))
    kept = BlockCache(memory_cache(3 * pixels.nbytes), DiskCache(tmp_path, 10**8))
    shared = shared_tiles(pixels, CHUNK, "a", kept)
    region = (slice(0, 1), slice(0, 32), slice(0, 48))
    assert price(shared, region, 10**9) == pixels.nbytes
    options = {"name": "a/1", "kept": kept, "labels": False}
    refused = halved(shared, [1, 2], CHUNK, budget=pixels.nbytes - 1, **options)
    with pytest.raises(TooLargeError):
        refused[0, :8, :8]
    assert file.read == []
    level = halved(shared, [1, 2], CHUNK, budget=pixels.nbytes, **options)
    expected = file.array.reshape(3, 16, 2, 24, 2).astype(float).mean((2, 4))
    np.testing.assert_allclose(level[:], expected, atol=0.5)
    assert price(shared, region, 10**9) == 0
    assert len(file.read) == 1


def test_a_request_that_ends_between_two_looks_is_not_repeated():
    """The first look, at the cache, finds nothing; before the second one another request makes the array and ends."""

    class Late(MemoryCache):
        meanwhile = True

        def get(self, key):
            found = super().get(key)
            if self.meanwhile:
                self.meanwhile = False
                kept.get("a", make, lasting=False)
            return found

    def make():
        made.append(np.zeros(3))
        return made[-1]

    made = []
    kept = BlockCache(Late(1000), DiskCache.none())
    assert kept.get("a", make, lasting=False) is made[0]
    assert len(made) == 1
