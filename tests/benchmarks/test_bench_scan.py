"""Scans: against opening each file with tifffile in as many threads, and against asking for sizes and times."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from intake_img import scan

FILES, WORKERS = 4_000, 2
LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in 20 folders whose names are words without numbers: each is a separate image."""
    root = tmp_path_factory.mktemp("archive")
    content = io.BytesIO()
    tifffile.imwrite(content, np.zeros((32, 32), "u1"), resolution=(10_000, 10_000), resolutionunit=3)
    for k in range(FILES):
        folder = root / "abcdefghijklmnopqrst"[k % 20]
        folder.mkdir(exist_ok=True)
        name = hashlib.sha256(str(k).encode()).hexdigest()[:16].translate(LETTERS)
        (folder / f"{name}.tif").write_bytes(content.getvalue())
    return root


@pytest.fixture(scope="module", params=["tif", "ome.tif"])
def differing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of which no two headers are equal."""
    root = tmp_path_factory.mktemp("differing")
    for k in range(FILES // 4):
        name = hashlib.sha256(str(k).encode()).hexdigest()[:16].translate(LETTERS)
        step, shape = 0.1 + k / FILES, (24 + k % 17, 24 + k % 13)
        if request.param == "tif":
            options = {"imagej": True, "resolution": (1 / step, 1 / step)}
            metadata = {"unit": "um", "axes": "ZYX", "spacing": 1 + k % 9}
            tifffile.imwrite(root / f"{name}.tif", np.zeros((2, *shape), "u2"), metadata=metadata, **options)
        else:
            metadata = {"axes": "CYX", "PhysicalSizeX": step, "PhysicalSizeY": step, "Name": name}
            tifffile.imwrite(root / f"{name}.ome.tif", np.zeros((2, *shape), "u2"), metadata=metadata)
    return root


def test_scan_of_differing_headers(differing: Path, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "3"
    assert compared(differing, FILES // 4, versus) <= 3


def files_in(root: Path) -> list[str]:
    return [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]


def compared(root: Path, count: int, versus: Callable[..., float]) -> float:
    """Return the ratio of a scan to opening each file with tifffile in as many threads."""

    def opened(path: str) -> tuple[int, ...]:
        with tifffile.TiffFile(path) as tif:
            return tif.series[0].shape

    def raw() -> None:
        with ThreadPoolExecutor(WORKERS) as pool:
            assert len(list(pool.map(opened, files_in(root)))) == count

    def ours() -> None:
        assert len(scan(root, workers=WORKERS)) == count

    return versus(ours, raw, clock=time.process_time)


def test_scan(archive: Path, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "3"
    assert compared(archive, FILES, versus) <= 3


def test_scan_of_an_unchanged_tree(archive: Path, tmp_path: Path, versus, benchmark) -> None:
    memory = tmp_path / "memory.sqlite"
    scan(archive, memory=memory)

    def raw() -> None:
        waiting, size = [os.fspath(archive)], 0
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        waiting.append(entry.path)
                    else:
                        size += entry.stat().st_size
        assert size

    def ours() -> None:
        assert scan(archive, memory=memory).unchanged

    benchmark.extra_info["gate"] = "2"
    assert versus(ours, raw) <= 2
