"""Small chunks and shards against tensorstore: a whole read, and a crop of the default (dask) and the bare array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from intake_img import autodetect, imload

ts = pytest.importorskip("tensorstore")

LAYOUTS: dict[str, dict[str, Any]] = {
    "small": {"chunks": (8, 64, 64)},
    "shards": {"chunks": (1, 256, 256), "shards": (8, 1024, 1024)},
    "plain": {"chunks": (8, 64, 64), "compressors": None},
    "large": {"chunks": (1, 512, 512)},
}


@pytest.fixture(scope="session", params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> tuple[Path, Any]:
    """The path of 17 MB in one layout, and tensorstore's array of it."""
    path = big / f"chunks-{request.param}.zarr"
    if not path.exists():
        values = np.stack([np.roll(texture[:1024, :1024], 97 * k, axis=1) for k in range(8)])
        array = zarr.create_array(
            str(path), shape=values.shape, dtype="uint16", dimension_names=tuple("zyx"), **LAYOUTS[request.param]
        )
        array[...] = values
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}, "recheck_cached_data": False}
    return path, ts.open(spec).result()


def test_read(layout: tuple[Path, Any], versus, benchmark) -> None:
    path, raw = layout
    benchmark.extra_info["gate"] = "1.25"
    assert versus(lambda: autodetect(path).read().image.values, lambda: raw.read().result()) <= 1.25


@pytest.mark.parametrize("chunks", ["auto", None])
def test_crop(layout: tuple[Path, Any], chunks: str | None, versus, benchmark) -> None:
    path, raw = layout
    image = imload(path, chunks=chunks).image
    benchmark.extra_info["gate"] = "2, or 2 ms above tensorstore"

    def ours() -> np.ndarray:
        return image[:, 300:556, 500:756].values

    ratio = versus(ours, lambda: raw[:, 300:556, 500:756].read().result(), rounds=30)
    assert ratio <= 2 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 2
