"""Shifts and mosaics, against scikit-image, scipy and numpy on whole images in memory."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import intake_img  # noqa: F401
from intake_img.kernels import translation

registration = pytest.importorskip("skimage.registration")


@cache
def movie() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (8, 1024, 1024)).astype("u2")


def lazily(chunk: int) -> xr.DataArray:
    return xr.DataArray(movie(), dims=["t", "y", "x"]).chunk(t=1, y=chunk, x=chunk)


@pytest.mark.parametrize("chunk", [1024, 256])
@pytest.mark.parametrize("shift", [3.0, 0.3])
def test_apply_shifts(chunk, shift, versus, benchmark):
    values = np.full((8, 2), shift)
    shifts = xr.DataArray(values, dims=["t", "axis"], coords={"axis": ["y", "x"]}, attrs={"units": "px"})
    image = lazily(chunk)
    ratio = versus(
        lambda: image.img.apply_shifts(shifts).compute(),
        lambda: [ndimage.shift(frame, (shift, shift), order=1) for frame in movie()],
        clock=time.process_time,
    )
    assert ratio < 1.3


@cache
def drifting() -> np.ndarray:
    """Frames of one scene that moves by up to 5 pixels, with noise."""
    rng = np.random.default_rng(0)
    scene = ndimage.gaussian_filter(rng.random((1040, 1040)), 3) * 40_000
    frames = [scene[y : y + 1024, x : x + 1024] for y, x in rng.integers(3, 13, (8, 2))]
    return np.clip(np.stack(frames) + rng.normal(0, 50, (8, 1024, 1024)), 0, None).astype("u2")


def measured(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    shift = registration.phase_cross_correlation(one, two, upsample_factor=10, normalization=None)[0]
    return np.asarray(shift)


def measured_with_window(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """What overlaps is measured once more."""
    one, two = one.astype(float), two.astype(float)
    whole = np.round(measured(*translation.faded([one, two])))
    return whole + measured(*translation.faded(translation.overlapping(one, two, whole))) if whole.any() else whole


@pytest.mark.parametrize("window", [False, True])
def test_measure_shifts(window, versus, benchmark):
    frames = drifting()
    image = xr.DataArray(frames, dims=["t", "y", "x"]).chunk(t=1, y=256, x=256)
    raw = measured_with_window if window else measured
    ratio = versus(
        lambda: image.img.measure_shifts(progress=False, window=window),
        lambda: [raw(frames[0], frame) for frame in frames[1:]],
        rounds=2,
        clock=time.process_time,
    )
    assert ratio < 1.3


def test_mosaic(versus, benchmark):
    places = 900 * np.stack(np.unravel_index(np.arange(8), (2, 4)), axis=-1)
    tiles = lazily(512).rename(t="i")

    def pasted() -> np.ndarray:
        out = np.zeros((1924, 3724), "u2")
        for tile, (y, x) in zip(movie(), places, strict=True):
            out[y : y + 1024, x : x + 1024] = tile
        return out

    table = {"y": places[:, 0], "x": places[:, 1]}
    ratio = versus(lambda: tiles.img.mosaic(table, units="pixel").compute(), pasted, rounds=3, clock=time.process_time)
    benchmark.extra_info["note"] = "the raw loop copies 16 MB in memory; here 64 tasks of dask do, and take most of it"
    assert ratio < 10


def test_refine_positions(benchmark):
    places = 900 * np.stack(np.unravel_index(np.arange(8), (2, 4)), axis=-1)
    tiles = lazily(512).rename(t="i")
    table = {"y": places[:, 0], "x": places[:, 1]}
    found = benchmark.pedantic(lambda: tiles.img.refine_positions(table, units="pixel", progress=False), rounds=1)
    assert (found["pairs"] == 0).all()  # noise: nothing overlaps
