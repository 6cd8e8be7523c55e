"""Chunk stores against tensorstore: opening, a whole read, a small region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intake_img import autodetect, imload

ts = pytest.importorskip("tensorstore")

SHAPE = (1024, 1024, 32)  # x first


def _n5(path: Path) -> dict[str, Any]:
    metadata = {"dimensions": SHAPE, "dataType": "uint16", "blockSize": [128, 128, 32], "compression": {"type": "gzip"}}
    return {"driver": "n5", "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}


def _precomputed(path: Path) -> dict[str, Any]:
    scale = {"size": SHAPE, "encoding": "raw", "chunk_size": (128, 128, 32), "resolution": (8, 8, 8)}
    metadata = {"type": "image", "data_type": "uint16", "num_channels": 1}
    place = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": str(path)}}
    return {**place, "scale_metadata": scale, "multiscale_metadata": metadata}


STORES = {"n5": _n5, "precomputed": _precomputed}


@pytest.fixture(scope="session", params=list(STORES))
def store(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> tuple[Path, dict[str, Any]]:
    path = big / f"store.{request.param}"
    spec = STORES[request.param](path)
    if not path.exists():
        planes = [np.roll(texture[:1024, :1024], 97 * k, axis=1) for k in range(SHAPE[2])]
        values = np.stack(planes).T
        written = ts.open(spec, create=True).result()
        written[...] = values.reshape(written.shape)
    return path, {k: v for k, v in spec.items() if k in ("driver", "kvstore")}


def test_open(store: tuple[Path, Any], versus, benchmark) -> None:
    path, spec = store
    benchmark.extra_info["gate"] = "3 ms above tensorstore"
    versus(lambda: autodetect(path).image().sizes, lambda: ts.open(spec, context=ts.Context()).result(), rounds=20)
    assert benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 3


def test_read(store: tuple[Path, Any], versus, benchmark) -> None:
    path, spec = store
    raw = ts.open(spec).result()
    benchmark.extra_info["gate"] = "1.25"
    assert versus(lambda: autodetect(path).read(), lambda: raw.read().result()) <= 1.25


def test_region(store: tuple[Path, Any], versus, benchmark) -> None:
    path, spec = store
    raw, ds = ts.open(spec).result(), imload(path, chunks=None)
    benchmark.extra_info["gate"] = "2, or 0.5 ms above tensorstore"  # the time of an access through xarray

    def ours() -> np.ndarray:
        return ds["image"][..., 5, 200:250, 300:350].values

    ratio = versus(ours, lambda: raw[300:350, 200:250, 5].read().result(), rounds=30)
    assert ratio <= 2 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 0.5
