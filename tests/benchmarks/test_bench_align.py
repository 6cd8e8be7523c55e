"""Shifts and mosaics, against scikit-image, scipy and numpy on whole images in memory."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import intake_img  # noqa: F401

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


@pytest.mark.parametrize(("options", "gate"), [({"window": False}, 1.3), ({}, 3)], ids=["plain", "window"])
def test_measure_shifts(options, gate, versus, benchmark):
    image, frames = lazily(256), movie()
    ratio = versus(
        lambda: image.img.measure_shifts(progress=False, **options),
        lambda: [
            registration.phase_cross_correlation(frames[0], frame, upsample_factor=10, normalization=None)
            for frame in frames[1:]
        ],
        rounds=2,
        clock=time.process_time,
    )
    assert ratio < gate  # with a window, all is measured twice


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
    benchmark.extra_info["note"] = "tiles in memory: the raw loop copies 16 MB, and does nothing else"
    assert ratio < 12


def test_refine_positions(benchmark):
    places = 900 * np.stack(np.unravel_index(np.arange(8), (2, 4)), axis=-1)
    tiles = lazily(512).rename(t="i")
    table = {"y": places[:, 0], "x": places[:, 1]}
    found = benchmark.pedantic(lambda: tiles.img.refine_positions(table, units="pixel", progress=False), rounds=1)
    assert (found["pairs"] == 0).all()  # noise: nothing overlaps
