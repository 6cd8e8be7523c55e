"""Peaks of chunked images: candidates are found in each chunk with a halo, and filtered in the complete image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice
from intake_img.accessor.lengths import unit_of
from intake_img.accessor.processing.checks import real
from intake_img.accessor.processing.components import image_blocks
from intake_img.accessor.processing.halo import halo, merged
from intake_img.accessor.processing.in_memory import each, is_held
from intake_img.accessor.processing.regions import blocks_of
from intake_img.accessor.progress import bar
from intake_img.kernels import splitting
from intake_img.kernels.each_image import EachImage
from intake_img.model.units import PIXEL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["table_of_peaks"]


@dataclass(frozen=True)
class _Part:
    """Candidates in a part of an image.

    Flat ground is full of pixels that none around them exceeds. Most are at the lowest value of the image, and are no
    peaks, but that value is known only when all parts are. Until then a bit for each pixel is kept.

    Parameters
    ----------
    places, values : ndarray
        Of candidates above the lowest value of the part.
    lowest : scalar
    ground : ndarray
        The candidates at the lowest value, as `numpy.packbits` returns them.
    start, shape : sequence of int
        Of the part.
    count : int
        Of all candidates.
    """

    places: np.ndarray
    values: np.ndarray
    lowest: Any
    ground: np.ndarray
    start: Sequence[int]
    shape: Sequence[int]
    count: int

    @classmethod
    def of(cls, start: Sequence[int], image: np.ndarray, high: np.ndarray) -> _Part:
        lowest = image.min()
        ground = high & (image == lowest)
        above = high & ~ground
        places = np.argwhere(above) + np.asarray(start)
        return cls(
            places, image[above], lowest, np.packbits(ground), start, image.shape, len(places) + int(ground.sum())
        )

    def higher(self, least: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the places and values of candidates above a value that is not below the lowest of the image."""
        kept = self.values > least
        places, values = self.places[kept], self.values[kept]
        if not self.lowest > least:
            return places, values
        ground = np.unpackbits(self.ground, count=math.prod(self.shape)).reshape(self.shape)
        more = np.argwhere(ground) + np.asarray(self.start)
        return np.concatenate([places, more]), np.concatenate([values, np.full(len(more), self.lowest, values.dtype)])


Found = dict[Any, list[_Part]]
"""The parts of each image."""


def table_of_peaks(
    array: xr.DataArray,
    axes: Sequence[str],
    radii: Sequence[int],
    threshold: float | None,
    border: bool,
    physical: bool,
    progress: Any,
) -> pd.DataFrame:
    """Return the table of `Splits.peaks`."""
    import pandas as pd

    real("peaks", array)
    choice("progress", progress, (None, True, False))
    outer = tuple(d for d in map(str, array.dims) if d not in axes)
    shape = tuple(array.sizes[a] for a in axes)
    with bar(progress, "finding peaks"):
        found = (_found_now if is_held(array) else _found)(array, axes, radii, threshold)
    rows = []
    for image, parts in found.items():
        places, values = _peaks(parts, radii, threshold, shape, border)
        where = {d: array[d].values[k] if d in array.coords else k for d, k in zip(outer, image, strict=True)}
        rows.append(pd.DataFrame({**where, **_positions(array, axes, places, physical), "value": values}))
    rows = [r for r in rows if len(r)] or rows[:1]
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*outer, *axes, "value"])
    units = {a: unit_of(array, a) if physical else PIXEL for a in axes}
    table.attrs = {"column_units": {a: u for a, u in units.items() if u}}
    return table


def _found_now(array: xr.DataArray, axes: Sequence[str], radii: Sequence[int], threshold: float | None) -> Found:
    """Return the candidates of each image in memory."""
    outer = tuple(d for d in map(str, array.dims) if d not in axes)
    data = array.transpose(*outer, *axes).values

    def search(place: tuple[int, ...]) -> list[_Part]:
        image = data[place]
        high = np.empty(image.shape, bool)
        splitting.candidates(image, high, radii=radii, threshold=_least(threshold))
        return [_Part.of((0,) * image.ndim, image, high)]

    images = list(np.ndindex(data.shape[: len(outer)]))
    return dict(zip(images, each(search, images), strict=True))


def _found(array: xr.DataArray, axes: Sequence[str], radii: Sequence[int], threshold: float | None) -> Found:
    """Return the candidates in the chunks of each image."""
    import dask

    outer, data = image_blocks(array, axes)
    lead = len(outer)
    if not math.prod(data.shape[:lead]):
        return {}
    data = data.rechunk({lead + k: merged(data.chunks[lead + k], r) for k, r in enumerate(radii)})
    high = _candidates(data, lead, radii, threshold)
    pixels, marks = blocks_of(data, fused=False), blocks_of(high, fused=False)
    tasks = {}
    for k in np.ndindex(*data.numblocks):
        start = [sum(c[:i]) for c, i in zip(data.chunks[lead:], k[lead:], strict=True)]
        tasks[k] = dask.delayed(partial(_gathered, lead, start), pure=False)(pixels[k], marks[k])
    (found,) = dask.compute(tasks)
    parts: Found = {image: [] for image in np.ndindex(*data.shape[:lead])}
    for k, v in found.items():
        parts[k[:lead]].append(v)
    return parts


def _least(threshold: float | None) -> float:
    return -np.inf if threshold is None else threshold


def _candidates(data: Any, lead: int, radii: Sequence[int], threshold: float | None) -> Any:
    places = list(range(lead, data.ndim))
    func = partial(splitting.candidates, radii=radii, threshold=_least(threshold))
    depth = {k: (r, r) for k, r in zip(places, radii, strict=True)}
    kernel = EachImage(func, places, np.dtype(bool), roomy=False)
    return halo(data, kernel, depth, dtype=np.dtype(bool), name="peaks")


def _gathered(lead: int, start: Sequence[int], block: np.ndarray, high: np.ndarray) -> _Part:
    return _Part.of(start, block[(0,) * lead], high[(0,) * lead])


def _peaks(
    parts: Sequence[_Part], radii: Sequence[int], threshold: float | None, shape: Sequence[int], border: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and values of the peaks of one image, the highest first."""
    least = np.min([p.lowest for p in parts]) if threshold is None else threshold
    if sum(p.count for p in parts) == math.prod(shape):  # all are equal
        parts = [replace(parts[0], places=parts[0].places[:0], values=parts[0].values[:0], lowest=least)]
    found = [p.higher(least) for p in parts]
    places, values = np.concatenate([p[0] for p in found]), np.concatenate([p[1] for p in found])
    if border:
        kept = ((places >= radii) & (places < np.subtract(shape, radii))).all(axis=1)
        places, values = places[kept], values[kept]
    order = np.lexsort(places.T[::-1])
    places, values = places[order], values[order]
    chosen = splitting.spaced(places, values, radii)
    flat = np.ravel_multi_index(tuple(places.T), tuple(shape))
    return chosen, values[np.searchsorted(flat, np.ravel_multi_index(tuple(chosen.T), tuple(shape)))]


def _positions(array: xr.DataArray, axes: Sequence[str], places: np.ndarray, physical: bool) -> dict[str, np.ndarray]:
    if not physical:
        return {a: places[:, k] for k, a in enumerate(axes)}
    return {a: array[a].values[places[:, k]] for k, a in enumerate(axes)}
