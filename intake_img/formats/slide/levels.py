"""The pixels of one level of a slide, in tiles at fixed positions, so that every region reads the same values.

OpenSlide takes the place of a region in pixels of the full resolution, and levels are smaller by factors that need not
be whole: a region read at another place would be resampled differently.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from intake_img.formats.base import Handle, StoredArray
from intake_img.model.chunks import Region

__all__ = ["SlideLevel"]

_TILE, _LEAST_TILE, _MOST_TILE = 512, 128, 2048  # strips of a few rows, as in NDPI, are not useful tiles


class SlideLevel(StoredArray):
    """One level, in the order y, x, colour.

    Parameters
    ----------
    handle : Handle
        Its attribute ``slide`` is the open slide.
    level : int
    bounds : bool
        Whether to leave out the margin around what was scanned.
    """

    def __init__(self, handle: Handle, level: int, bounds: bool) -> None:
        self.handle, self.level = handle, level
        self.slide: Any = handle.slide  # type: ignore[attr-defined]
        properties = self.slide.properties
        self.factor = self.slide.level_downsamples[level]
        width, height = self.slide.level_dimensions[level]
        self.start = tuple(int(properties.get(f"openslide.bounds-{a}", 0)) if bounds else 0 for a in "yx")
        left = [n - int(s / self.factor) for n, s in zip((height, width), self.start, strict=True)]
        known = [properties.get(f"openslide.bounds-{a}") if bounds else None for a in ("height", "width")]
        sides = [n if k is None else min(n, math.ceil(int(k) / self.factor)) for n, k in zip(left, known, strict=True)]
        self.shape, self.dtype = (*(max(1, n) for n in sides), 3), np.dtype("u1")
        given = [properties.get(f"openslide.level[{level}].tile-{a}") for a in ("height", "width")]
        tile = tuple(int(g) if g and _LEAST_TILE <= int(g) <= _MOST_TILE else _TILE for g in given)
        self.tiles = (min(tile[0], self.shape[0]), min(tile[1], self.shape[1]), 3)

    @cached_property
    def background(self) -> tuple[int, ...]:
        """The colour of what was not scanned."""
        return tuple(bytes.fromhex(self.slide.properties.get("openslide.background-color", "ffffff")))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        places = [range(s.start // t, -(-s.stop // t)) for s, t in zip(region[:2], self.tiles, strict=False)]
        for index in product(*places):
            corner = [k * t for k, t in zip(index, self.tiles, strict=False)]
            size = [min(t, n - c) for t, n, c in zip(self.tiles, self.shape, corner, strict=False)]
            parts = [(max(s.start, c), min(s.stop, c + n)) for s, c, n in zip(region[:2], corner, size, strict=True)]
            tile = self._tile(index, size, all(b - a == n for (a, b), n in zip(parts, size, strict=True)))
            inner = tuple(slice(a - c, b - c) for (a, b), c in zip(parts, corner, strict=True))
            place = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(parts, region[:2], strict=True))
            out[place] = tile[(*inner, region[2])]

    def _tile(self, index: tuple[int, ...], size: list[int], complete: bool) -> np.ndarray:
        """Return a tile; it is kept for a while where all of it is not asked for."""
        if complete:
            return self._decoded(index, size)
        return self.handle.kept((self.level, self.start, index), lambda: self._decoded(index, size))

    def _decoded(self, index: tuple[int, ...], size: list[int]) -> np.ndarray:
        y, x = (s + round(k * t * self.factor) for s, k, t in zip(self.start, index, self.tiles, strict=False))
        picture = np.asarray(self.slide.read_region((x, y), self.level, (size[1], size[0])))  # not premultiplied
        colours = np.ascontiguousarray(picture[..., :3])
        if not picture[..., 3].all():
            colours[picture[..., 3] == 0] = self.background
        return colours
