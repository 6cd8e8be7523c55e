"""Leica LIF and Olympus OIB against liffile and oiffile: opening, a whole read, a small region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from olympus import main_file, oib, planes

from intake_img import autodetect, imload

liffile = pytest.importorskip("liffile")
oiffile = pytest.importorskip("oiffile")

DEPTH, SIDE = 32, 1024


def _lif(path: Path, values: np.ndarray) -> Path:
    from test_lif import description, element, lif

    image = description("xyz", (SIDE, SIDE, DEPTH), (2, 2 * SIDE, 2 * SIDE * SIDE), (0,), bits=16)
    return lif(path, {"b": values.tobytes()}, element("one", image, size=values.nbytes))


def _oib(path: Path, values: np.ndarray) -> Path:
    return oib(path, main_file("XYZ", {}, {"Z": (0.0, 31.0, "um")}), planes(values[:12, :512, :512], "Z"))


MAKERS = {".lif": _lif, ".oib": _oib}


@pytest.fixture(scope="session", params=list(MAKERS))
def path(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> Path:
    target = big / f"microscope{request.param}"
    if not target.exists():
        values = np.stack([np.roll(texture[:SIDE, :SIDE], 97 * k, axis=1) for k in range(DEPTH)])
        MAKERS[request.param](target, np.ascontiguousarray(values.astype("<u2")))
    return target


def _raw(path: Path) -> np.ndarray:
    if path.suffix == ".oib":
        with oiffile.OifFile(str(path)) as document:
            return document.asarray()
    with liffile.LifFile(path) as document:
        return document.images[0].asarray()


def _raw_open(path: Path) -> Any:
    if path.suffix == ".oib":
        with oiffile.OifFile(str(path)) as document:
            return document.shape
    with liffile.LifFile(path) as document:
        return document.images[0].sizes


def _raw_region(path: Path) -> np.ndarray:
    if path.suffix == ".oib":
        with oiffile.OifFile(str(path)) as document:
            return document.asarray("Storage00001/s_Z006.tif")[200:250, 300:350]
    with liffile.LifFile(path) as document:
        return document.images[0].asarray(out="memmap")[5, 200:250, 300:350].copy()


def test_open(path: Path, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "3 ms above the library"
    versus(lambda: autodetect(path).image().sizes, lambda: _raw_open(path), rounds=20)
    assert benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 3


def test_read(path: Path, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "1.25"
    assert versus(lambda: autodetect(path).read(), lambda: _raw(path)) <= 1.25


def test_region(path: Path, versus, benchmark) -> None:
    ds = imload(path, chunks=None)
    benchmark.extra_info["gate"] = "2, or 0.5 ms above the library"  # the time of an access through xarray
    ratio = versus(lambda: ds["image"][5, 200:250, 300:350].values, lambda: _raw_region(path), rounds=30)
    assert ratio <= 2 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 0.5
