"""Very many requests: memory and open files do not grow with them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")

from portal_calls import calling

KEEPS_FILES_OPEN = True  # a portal does, by design

SIDE, CHUNK, REQUESTS = 100_000, 512, 10_000
_ALLOWED = 40  # MB beyond what the first fifth took


def _memory() -> int:
    """MB of this process that are not those of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_many_chunks_of_a_large_image(tmp_path: Path) -> None:
    """10,000 different chunks of an image of 20 GB, some of them twice, some absent."""
    with open(tmp_path / "large.npy", "wb") as stream:  # zeros that take no room on the disk
        header = {"descr": "<u2", "fortran_order": False, "shape": (SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]
        stream.truncate(stream.tell() + 2 * SIDE * SIDE)
    count, seen = -(-SIDE // CHUNK), []

    async def check() -> None:
        async with calling([tmp_path / "large.npy"], tmp_path, memory_bytes=32 * 2**20) as calls:
            for k in range(REQUESTS):
                path = f"/pixels/large.zarr/0/c/{k // count}/{k % count}"
                assert (await calls.get(path, Accept_Encoding="zstd")).status == 200
                if k % 50 == 0:
                    assert (await calls.get(path, Accept_Encoding="zstd")).status == 200
                    assert (await calls.get(f"/pixels/large.zarr/0/c/{k}/{count}")).status == 404
                if k % 500 == 499:
                    seen.append((_memory(), len(os.listdir("/proc/self/fd"))))

    asyncio.run(check())
    early, late = seen[: len(seen) // 5], seen[len(seen) // 5 :]
    assert max(memory for memory, _ in late) <= max(memory for memory, _ in early) + _ALLOWED, seen
    assert max(files for _, files in late) <= max(files for _, files in early) + 2, seen
