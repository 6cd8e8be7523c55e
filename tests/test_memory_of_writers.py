"""What bounds the memory of a write: the blocks in which levels are made, and memory that is given back after each."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from intake_img import imsave
from intake_img.formats.omezarr import store
from intake_img.formats.omezarr.store import Halved, block_shape
from intake_img.model.machine import give_back


@pytest.mark.parametrize(("chunk", "tile"), [(181, 181), (180, 90), (1, 1)])
def test_half_of_an_odd_chunk_is_no_unit_of_reading(chunk: int, tile: int) -> None:
    """Blocks of a level would have to span hundreds of chunks, to consist of complete ones."""
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array({}, shape=(4000, 4000), chunks=(chunk, chunk), dtype="u2")
    pixels = Halved(array, (2, 2), False).pixels()
    assert pixels.tiles == (tile, tile)
    assert block_shape(pixels.shape, pixels.tiles, (4 * chunk,) * 2, 2, least=1) == (4 * chunk,) * 2


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
