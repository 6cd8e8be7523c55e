"""Images for the tests of patches: with random values, with positions, and without pixels that can be read."""

from __future__ import annotations

import numpy as np
import xarray as xr

from intake_img.model.pixels import Pixels


class Unreadable:
    """A reader that must not be used."""

    def read_into(self, region, out):
        raise AssertionError("pixels are read")


def image(*shape: int, dims: str = "yx", seed: int = 0, **coords) -> xr.DataArray:
    values = np.random.default_rng(seed).integers(0, 60000, shape).astype("u2")
    return xr.DataArray(values, dims=list(dims), coords=coords, name="image")


def unread(shape: tuple[int, ...], dims: str, tiles: tuple[int, ...]) -> xr.Dataset:
    pixels = Pixels(Unreadable(), shape, np.dtype("u2"), tiles)
    return xr.Dataset({"image": (list(dims), pixels.dask())})


def coord(n: int, spacing: float, origin: float = 0.0, units: str = "µm"):
    return origin + spacing * np.arange(n), {"units": units, "spacing": spacing}


def spaced(array: xr.DataArray, spacing: dict[str, float], origin: dict[str, float] | None = None) -> xr.DataArray:
    new = {}
    for a, s in spacing.items():
        values, attrs = coord(array.sizes[a], s, (origin or {}).get(a, 0.0))
        new[a] = xr.Variable(a, values, attrs)
    return array.assign_coords(new)
