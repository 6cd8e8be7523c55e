"""What bounds the memory of a write: the blocks in which levels are made, and memory that is given back after each."""

from __future__ import annotations

import platform
import tracemalloc
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from intake_img import imsave
from intake_img.formats.omezarr import store
from intake_img.formats.omezarr.store import Halved, block_bytes, block_shape
from intake_img.model.machine import cpus, give_back
from intake_img.model.readers import stretch_of


@pytest.mark.parametrize(("chunk", "tile"), [(181, 181), (180, 90), (1, 1)])
def test_half_of_an_odd_chunk_is_no_unit_of_reading(chunk: int, tile: int) -> None:
    """Blocks of a level would have to span hundreds of chunks, to consist of complete ones."""
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array({}, shape=(4000, 4000), chunks=(chunk, chunk), dtype="u2")
    pixels = Halved(array, (2, 2), False).pixels()
    assert pixels.tiles == (tile, tile)
    assert block_shape(pixels.shape, pixels.tiles, (4 * chunk,) * 2, 2, least=1) == (4 * chunk,) * 2


@pytest.mark.parametrize("pyramid", [0, 2])
@pytest.mark.parametrize("lazily", [False, True])
def test_a_writer_holds_at_most_eight_chunks_for_each_thread(tmp_path: Path, pyramid: int, lazily: bool) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (32, 724, 724), dtype="u2")  # a plane has 1 MiB
    data = da.from_array(values, chunks=(1, -1, -1)) if lazily else values
    image = xr.Dataset({"image": (("z", "y", "x"), data)})
    chunks = {"z": 1, "y": 724, "x": 724}
    imsave(image.isel(z=slice(2)), tmp_path / "first.zarr", chunks=chunks, pyramid=pyramid)  # it imports
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        imsave(image, tmp_path / "all.zarr", chunks=chunks, pyramid=pyramid)
        assert tracemalloc.get_traced_memory()[1] - before <= 8 * max(2, cpus()) * values[0].nbytes
    finally:
        tracemalloc.stop()


def test_neighbours_of_blocks_are_rarely_computed_again(tmp_path: Path) -> None:
    """Blocks of filtered pixels are large: the planes beyond the ends of each are computed for it alone."""
    computed = []

    def plane(block_info: Any = None) -> np.ndarray:
        computed.append(block_info)
        return np.ones((1, 724, 724), "u2")

    data = da.map_blocks(plane, chunks=((1,) * 32, (724,), (724,)), dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    image = xr.Dataset({"image": (("z", "y", "x"), data)}).img.gaussian_filter(1)
    imsave(image, tmp_path / "a.zarr", chunks={"z": 1, "y": 724, "x": 724})
    assert len(computed) <= 1.5 * 32


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_blocks_grow_with_chunks(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "cpus", lambda: threads)
    sizes = [block_bytes(unit) for unit in (2**16, 2**20, 2**21, 2**22, 2**26)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 2**22
    assert sizes[-1] == 2**24
    assert sizes[2] == max(2**22, threads * 2**22)


def test_threads_read_less_of_a_level_at_a_time() -> None:
    """For each pixel of it, four or eight of the level above are in memory."""
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array({}, shape=(64, 2048, 2048), chunks=(1, 512, 512), dtype="u2")
    level = Halved(array, (2, 2, 2), False).pixels()
    assert stretch_of(level.select([slice(0, 4), slice(0, 512), 0]).reader) == 8


def test_memory_is_given_back_after_large_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(store, "give_back", lambda: calls.append(1))
    monkeypatch.setattr(store, "_GIVEN_BACK", 1000)
    image = xr.Dataset({"image": (("y", "x"), np.ones((64, 64), "u2"))})
    imsave(image, tmp_path / "levels.ome.zarr", pyramid=3)
    assert len(calls) == 2, "those of 8192 and 2048 bytes, not those of 512 and 128"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do not keep freed memory so")
def test_freed_memory_is_given_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    held = [np.ones(20_000, np.uint8) for _ in range(4000)]
    rest = held[::100]  # between the others, so that the end of the heap is in use
    del held
    before = resident()
    give_back()
    assert before - resident() > 40e6
    assert len(rest) == 40
