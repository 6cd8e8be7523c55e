"""The tiles of an NDTiff dataset beside each other, without their overlap, at any of its resolutions.

A tile of the full resolution covers ``height - overlap`` rows of the mosaic; one of level k as many, each of which
stands for 2**k rows. Half of the overlap is cut off at each side, as Micro-Manager's own reader does it.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import StoredArray
from intake_img.formats.ndtiff.dataset import Resolution
from intake_img.model.chunks import Region

__all__ = ["StitchedLevel"]


class StitchedLevel(StoredArray):
    """Stitched tiles of one level, or where there are any.

    Parameters
    ----------
    full, dataset : Resolution
        The full resolution, which gives the extent, and that of `level`.
    level : int
    mask : bool
    """

    decodes = False

    def __init__(self, full: Resolution, dataset: Resolution, level: int, mask: bool) -> None:
        self.dataset, self.mask = dataset, mask
        names = list(dataset.values)
        self.grid = names.index("row"), names.index("column")
        self.others = [k for k in range(len(names)) if k not in self.grid]
        overlap = [int(full.summary.get(f"GridPixelOverlap{a}", 0)) for a in "YX"]
        self.step = tuple(n - o for n, o in zip(full.shape, overlap, strict=False))
        if min(self.step) < 1 or min(overlap) < 0:
            raise FormatError(f"{full.folder}: tiles of {full.shape[:2]} that overlap by {tuple(overlap)} pixels")
        self.inset = tuple((n - s) // 2 for n, s in zip(dataset.shape, self.step, strict=False))
        spans = [_span(full.values[a], s, level) for a, s in zip(("row", "column"), self.step, strict=True)]
        self.start = tuple(start for start, _ in spans)
        self.places = {
            (
                int(dataset.values["row"][k[self.grid[0]]]),
                int(dataset.values["column"][k[self.grid[1]]]),
                *[k[n] for n in self.others],
            ): k
            for k in dataset.images
        }
        lead = tuple(dataset.outer[k] for k in self.others)
        colour = () if mask else dataset.shape[2:]
        self.shape = (*lead, *(stop - start for start, stop in spans), *colour)
        self.dtype = np.dtype(bool) if mask else dataset.dtype
        self.tiles = (1,) * len(lead) + self.step + colour

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = 0
        lead, plane, rest = region[: len(self.others)], region[len(self.others) :][:2], region[len(self.others) + 2 :]
        parts = [
            list(_tiles(s.start + first, s.stop + first, step))
            for s, first, step in zip(plane, self.start, self.step, strict=True)
        ]
        for (row, y, into_y), (column, x, into_x) in product(*parts):
            inner = (_moved(y, self.inset[0]), _moved(x, self.inset[1]), *rest)
            for other in product(*(range(s.start, s.stop) for s in lead)):
                key = self.places.get((row, column, *other))
                if key is not None:
                    place = tuple(k - s.start for k, s in zip(other, lead, strict=True))
                    self._fill(key, inner, out[(*place, into_y, into_x)])

    def _fill(self, key: tuple[int, ...], inner: Region, out: np.ndarray) -> None:
        if self.mask:
            out[...] = True
        else:
            self.dataset.read(key, inner, out)


def _span(values: list[int | str], step: int, level: int) -> tuple[int, int]:
    """Return where the mosaic begins and ends at a level, in pixels from the corner of the tile 0."""
    if not all(isinstance(v, int) for v in values):
        raise FormatError(f"rows and columns are {values}: expected numbers")
    return (int(values[0]) * step) // 2**level, -(-(int(values[-1]) + 1) * step // 2**level)


def _tiles(start: int, stop: int, step: int) -> list[tuple[int, slice, slice]]:
    """Return for each tile between two pixels: its number, the pixels within it, and where they go."""
    found = []
    for n in range(start // step, -(-stop // step)):
        low, high = max(start, n * step), min(stop, (n + 1) * step)
        found.append((n, slice(low - n * step, high - n * step), slice(low - start, high - start)))
    return found


def _moved(s: slice, by: int) -> slice:
    return slice(s.start + by, s.stop + by)
