"""Whole slides and their segmentations: frames that are tiles of a plane.

DICOM PS3.3, C.7.6.17.3 (Total Pixel Matrix) and C.8.12.4: ``TILED_FULL`` orders tiles by column, row, focal plane and
optical path or segment; ``TILED_SPARSE`` says where each one lies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import StoredArray
from intake_img.formats.dicom.header import DicomHeader, whole_number
from intake_img.model.chunks import Region

__all__ = ["AllTrue", "Tiled", "tile_table"]


class Tiled(StoredArray):
    """Planes of tiles: (*outer, y, x) or (*outer, y, x, sample).

    Parameters
    ----------
    frames : StoredArray
        (frame, y, x) or (frame, y, x, sample).
    table : ndarray of int
        Number of the frame at (*outer, row of tiles, column of tiles); -1 where there is none, which reads as 0.
    plane : (int, int)
        Height and width of the complete image.
    """

    def __init__(self, frames: StoredArray, table: np.ndarray, plane: tuple[int, int]) -> None:
        self.frames, self.table = frames, table
        self.dtype, self.decodes = frames.dtype, frames.decodes
        self.tile, rest = frames.shape[1:3], frames.shape[3:]
        outer = table.shape[:-2]
        self.shape = (*outer, *plane, *rest)
        self.tiles = (*[1] * len(outer), *self.tile, *rest)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        n = self.table.ndim - 2
        outer, plane, rest = region[:n], region[n : n + 2], region[n + 2 :]
        spans = [
            range(s.start // size, -(-s.stop // size)) if s.stop > s.start else range(0)
            for s, size in zip(plane, self.tile, strict=True)
        ]
        for index in itertools.product(*(range(s.start, s.stop) for s in outer), *spans):
            parts = [
                (max(s.start, k * size), min(s.stop, (k + 1) * size))
                for s, size, k in zip(plane, self.tile, index[n:], strict=True)
            ]
            target = (
                *(k - s.start for k, s in zip(index, outer, strict=False)),
                *(slice(a - s.start, b - s.start) for (a, b), s in zip(parts, plane, strict=True)),
            )
            number = int(self.table[index])
            if number < 0:
                out[target] = 0
                continue
            inner = [slice(a - k * z, b - k * z) for (a, b), k, z in zip(parts, index[n:], self.tile, strict=True)]
            self.frames.read_into((slice(number, number + 1), *inner, *rest), out[target][None])


class AllTrue(StoredArray):
    """Frames that are True everywhere: with `Tiled`, a mask of the tiles that are there."""

    decodes = False

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape, self.dtype, self.tiles = tuple(shape), np.dtype(bool), (1, *shape[1:])

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = True


def tile_table(header: DicomHeader, outer: int, groups: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the table of tiles (outer, row, column) and the size of the plane.

    Parameters
    ----------
    header : DicomHeader
    outer : int
        Number of planes.
    groups : sequence
        For each frame the plane that it belongs to and its functional groups, for ``TILED_SPARSE``; else None.

    Raises
    ------
    FormatError
        If tiles lie between the positions of the grid, or there are too few.
    """
    ds = header.item
    plane = whole_number(ds, "TotalPixelMatrixRows"), whole_number(ds, "TotalPixelMatrixColumns")
    tile = whole_number(ds, "Rows"), whole_number(ds, "Columns")
    if min(*plane, *tile) < 1 or math.prod(plane) > 2**44:
        raise FormatError(f"{header.file}: a plane of {plane} pixels in tiles of {tile}: damaged")
    grid = tuple(-(-n // t) for n, t in zip(plane, tile, strict=True))
    if str(ds.get("DimensionOrganizationType") or "") == "TILED_FULL" or groups is None:
        count = outer * math.prod(grid)
        if count != header.stated:
            raise FormatError(f"{header.file}: {header.stated} frames are not {outer} planes of {grid} tiles")
        numbers = np.arange(count).reshape(outer, *grid)
        return np.where(numbers < header.frames, numbers, -1), plane
    table = np.full((outer, *grid), -1)
    for number, (k, place) in enumerate(groups):
        x, y = (whole_number(place, f"{a}PositionInTotalImagePixelMatrix", 1) - 1 for a in ("Column", "Row"))
        if x % tile[1] or y % tile[0] or not (0 <= x < plane[1] and 0 <= y < plane[0] and 0 <= k < outer):
            raise FormatError(
                f"{header.file}: frame {number} lies at row {y} and column {x}, which does not fit a grid of {tile}: "
                "such slides are not supported"
            )
        table[k, y // tile[0], x // tile[1]] = number
    return table, plane
