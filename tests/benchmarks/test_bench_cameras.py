"""Formats of cameras, slides and photon counters against the library of each: opening, a whole read, a small region."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intake_img import autodetect
from intake_img.formats.slide.driver import SlideSource

# ndstorage and OpenSlide leave files open
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

FRAMES, SIDE, CROP = 60, 1024, 64


@dataclass(frozen=True)
class Case:
    """A file, and what the library does with it."""

    path: Path
    open: Callable[[], Any]
    read: Callable[[], np.ndarray]
    region: Callable[[], np.ndarray]
    ours: dict[str, Any]  # the region, for isel
    close: Callable[[], Any]
    source: Callable[..., Any] = autodetect


def _ndtiff(folder: Path, texture: np.ndarray) -> Case:
    """Frames of a camera, in the order of time, against ndstorage."""
    ndstorage = pytest.importorskip("ndstorage")
    with contextlib.redirect_stdout(io.StringIO()):
        made = ndstorage.NDTiffDataset(str(folder), name="bench", summary_metadata={}, writable=True)
        for t, c in itertools.product(range(FRAMES // 2), ("DAPI", "GFP")):
            made.put_image({"time": t, "channel": c}, texture[t : t + SIDE, :SIDE].copy(), b"{}")
        made.finish()
        made.close()
    path = next(folder.glob("bench*"))

    def opened() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return ndstorage.NDTiffDataset(str(path))

    dataset = opened()
    return Case(
        path,
        opened,
        lambda: np.asarray(dataset.as_array()),
        lambda: dataset.read_image(time=7, channel="GFP")[100 : 100 + CROP, 200 : 200 + CROP].copy(),
        {"t": 7, "c": 1, "y": slice(100, 100 + CROP), "x": slice(200, 200 + CROP)},
        dataset.close,
    )


def _slide(folder: Path, texture: np.ndarray) -> Case:
    """A real NDPI of 58 MB against OpenSlide; read tile by tile, as OpenSlide wants it."""
    openslide = pytest.importorskip("openslide")
    path = _real("ndpi/test3-TRITC 2 (560).ndpi")
    slide = openslide.OpenSlide(path)
    width, height = slide.dimensions

    def whole() -> np.ndarray:
        out = np.empty((height, width, 3), "u1")
        for y, x in itertools.product(range(0, height, 512), range(0, width, 512)):
            size = min(512, width - x), min(512, height - y)
            out[y : y + 512, x : x + 512] = np.asarray(slide.read_region((x, y), 0, size))[..., :3]
        return out

    return Case(
        path,
        lambda: openslide.OpenSlide(path),
        whole,
        lambda: np.asarray(slide.read_region((600, 700), 0, (CROP, CROP)))[..., :3],
        {"y": slice(700, 700 + CROP), "x": slice(600, 600 + CROP)},
        slide.close,
        SlideSource,
    )


def _real(name: str) -> Path:
    path = Path(os.environ.get("INTAKE_IMG_DATA", "")) / "data" / name
    if not path.exists():
        pytest.skip("INTAKE_IMG_DATA is not set")
    return path


def _vsi(folder: Path, texture: np.ndarray) -> Case:
    """A real VSI of 121 MB in JPEG 2000 against slideio."""
    slideio = pytest.importorskip("slideio")
    path = _real("vsi/vsi-ets-test-jpg2k.vsi")
    scene = slideio.open_slide(str(path), "VSI").get_scene(0)

    def opened() -> None:
        with slideio.open_slide(str(path), "VSI") as slide, slide.get_scene(0):
            pass

    return Case(
        path,
        opened,
        lambda: scene.read_block((0, 0, *scene.size), slices=(0, 11)),
        lambda: scene.read_block((200, 100, CROP, CROP), channel_indices=[1], slices=(5, 6)),
        {"c": 1, "z": 5, "y": slice(100, 100 + CROP), "x": slice(200, 200 + CROP)},
        scene.close,
    )


def _ptu(folder: Path, texture: np.ndarray) -> Case:
    """Four million photons against ptufile, which decodes all of them for any part."""
    ptufile = pytest.importorskip("ptufile")
    path = folder / "bench.ptu"
    counts = np.random.default_rng(0).poisson(2, (2, 128, 128, 1, 64)).astype("u2")
    ptufile.imwrite(path, counts, global_resolution=1e-7, tcspc_resolution=1e-9, pixel_time=1e-4, pixel_resolution=1.0)
    opened = ptufile.PtuFile(path)

    def counted() -> np.ndarray:
        with ptufile.PtuFile(path) as again:
            return again.decode_image()

    def shape() -> tuple[int, ...]:
        with ptufile.PtuFile(path) as again:
            return again.shape

    return Case(
        path,
        shape,
        counted,
        lambda: opened.decode_image([slice(1, 2), slice(30, 60), slice(40, 80)]),
        {"t": slice(1, 2), "y": slice(30, 60), "x": slice(40, 80)},
        opened.close,
    )


CASES = {"ndtiff": _ndtiff, "slide": _slide, "vsi": _vsi, "ptu": _ptu}


@pytest.fixture(scope="session", params=list(CASES))
def case(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> Iterator[Case]:
    folder = big / f"camera-{request.param}"
    folder.mkdir()
    made = CASES[request.param](folder, texture)
    yield made
    made.close()


def test_open(case: Case, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "3 ms above the library"

    def ours() -> None:
        source = case.source(str(case.path))
        source.image()
        source.close()

    versus(ours, case.open, rounds=10)
    assert benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 3


def test_read(case: Case, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "1.25"
    assert versus(lambda: case.source(str(case.path)).read(), case.read, rounds=3) <= 1.25


def test_region(case: Case, versus, benchmark) -> None:
    ds = case.source(str(case.path), chunks=None).dataset()
    benchmark.extra_info["gate"] = "2, or 0.5 ms above the library"  # the time of an access through xarray
    ratio = versus(lambda: ds["image"].isel(case.ours).values, case.region, rounds=10)
    assert ratio <= 2 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 0.5
