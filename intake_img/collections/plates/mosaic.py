"""Wells as mosaics: the fields of a well are placed by their stage positions, rounded to pixels.

The position of a field is divided by the spacing and rounded to the nearest pixel, counted from the topmost and the
leftmost field of the well. Fields are drawn in order: where fields overlap, the last one is on top, without blending or
alignment. Gaps are filled with zeros (NaN for floats).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intake_img.collections.plates.plate_table import PlateTable
from intake_img.errors import AxesError, FormatError, UnitsError
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Reader
from intake_img.model.units import canonical, convert
from intake_img.model.wells import Place

__all__ = ["mosaics"]


@dataclass(frozen=True, eq=False)
class _Mosaic:
    """Reads canvases, of shape (well, ..., y, x), from fields of shape (field, ..., y, x).

    Parameters
    ----------
    reader : Reader
        The reader of the fields.
    canvas : tuple of int
        For each field the number of its well.
    corners : tuple of (int, int)
        Top and left pixel of each field on its canvas.
    size : tuple of int
        Height and width of a field.
    at : tuple of int
        Indices of the axes y and x.
    fill : float
        The value between the fields.
    """

    reader: Reader
    canvas: tuple[int, ...]
    corners: tuple[tuple[int, int], ...]
    size: tuple[int, int]
    at: tuple[int, int]
    fill: float

    def __dask_tokenize__(self) -> Any:
        from dask import base

        return base.normalize_token(
            ("mosaic", self.reader, self.canvas, self.corners, self.size, self.at, repr(self.fill))
        )

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self.fill
        for field, (well, corner) in enumerate(zip(self.canvas, self.corners, strict=True)):
            if region[0].start <= well < region[0].stop:
                self._draw(field, well, corner, region, out)

    def _draw(self, field: int, well: int, corner: tuple[int, int], region: Region, out: np.ndarray) -> None:
        source, target = list(region), [slice(None)] * len(region)
        source[0], target[0] = slice(field, field + 1), slice(well - region[0].start, well - region[0].start + 1)
        for axis, start, length in zip(self.at, corner, self.size, strict=True):
            low, high = max(region[axis].start, start), min(region[axis].stop, start + length)
            if low >= high:
                return
            source[axis] = slice(low - start, high - start)
            target[axis] = slice(low - region[axis].start, high - region[axis].start)
        self.reader.read_into(tuple(source), out[tuple(target)])


def mosaics(table: PlateTable, groups: Mapping[str, Sequence[Place]], image: Image, stacked: bool) -> Image:
    """Return wells as mosaics.

    Parameters
    ----------
    table : PlateTable
    groups : mapping of str to sequence of Place
        The fields of each well.
    image : Image
        All these fields, stacked on ``i``.
    stacked : bool
        Stack the wells along ``i``, on canvases of one size; else there is one well.

    Raises
    ------
    FormatError
        If a position or the spacing is unknown.
    """
    name, v = next(iter(image.variables.items()))
    if "y" not in v.axes or "x" not in v.axes:
        raise AxesError(f"layout='stage' needs the axes y and x, but the fields have {''.join(v.axes)!r}")
    at = v.axes.index("y"), v.axes.index("x")
    size = v.pixels.shape[at[0]], v.pixels.shape[at[1]]
    steps = _steps(image)
    corners, canvas, shape = _placed(table, groups, steps, size)
    fill = np.nan if v.pixels.dtype.kind in "fc" else 0
    reader = _Mosaic(v.pixels.reader, tuple(canvas), tuple(corners), size, at, fill)
    lengths = list(v.pixels.shape)
    lengths[0], lengths[at[0]], lengths[at[1]] = len(groups), *shape
    pixels = Pixels(reader, tuple(lengths), v.pixels.dtype, v.pixels.tiles, v.pixels.parallel, v.pixels.many_files)
    if not stacked:
        pixels = pixels.reshape(range(1, pixels.ndim))
    variable = Variable(pixels, v.axes if stacked else v.axes[1:], v.attrs)
    coords = {k: c for k, c in image.coords.items() if not {"i", "y", "x"} & {*c.axes}}
    spacing = {**image.spacing, **dict(zip("yx", steps, strict=True))}
    units = {**image.units, "y": "µm", "x": "µm"}
    origin = {a: o for a, o in image.origin.items() if a not in "yx"}
    whole = replace(image, variables={name: variable}, coords=coords, spacing=spacing, units=units, origin=origin)
    return _told(whole, groups, stacked)


def _steps(image: Image) -> tuple[float, float]:
    """Return the spacing of y and x in µm."""
    found = []
    coords, steps = image.coordinates(), image.steps()
    for axis in "yx":
        unit = coords[axis].attrs.get("units") if axis in coords else None
        try:
            step = convert(steps[axis], canonical(unit) or "µm", "µm") if axis in steps else None
        except UnitsError:
            step = None
        if step is None:
            raise FormatError(
                f"layout='stage' needs the spacing of {axis!r} as a length, which neither the index nor the files state"
            )
        found.append(step)
    return found[0], found[1]


def _placed(
    table: PlateTable, groups: Mapping[str, Sequence[Place]], steps: tuple[float, float], size: tuple[int, int]
) -> tuple[list[tuple[int, int]], list[int], tuple[int, int]]:
    """Return top and left of each field, the number of its well, and the shape of a canvas for all wells."""
    corners: list[tuple[int, int]] = []
    canvas: list[int] = []
    for number, places in enumerate(groups.values()):
        positions = np.array([table.position(p)[::-1] for p in places])
        if not np.isfinite(positions).all():
            lost = next(p.scene for p, at in zip(places, positions, strict=True) if not np.isfinite(at).all())
            raise FormatError(
                f"layout='stage' needs the positions of the fields, but the position of {lost!r} is not known"
            )
        pixels = np.rint((positions - positions.min(0)) / steps).astype(int)
        corners += [(int(top), int(left)) for top, left in pixels]
        canvas += [number] * len(places)
    height, width = (max(c[k] for c in corners) + size[k] for k in (0, 1))
    if math.prod((height, width)) > 2**40:
        raise FormatError(f"the positions of the fields span {height} x {width} pixels: they cannot be right")
    return corners, canvas, (height, width)


def _told(image: Image, groups: Mapping[str, Sequence[Place]], stacked: bool) -> Image:
    """Return mosaics with their wells: along ``i``, or as attributes."""
    attrs = {**image.attrs, "layout": "stage"}
    if not stacked:
        ((well, places),) = groups.items()
        return replace(image, attrs={**attrs, "well": well, "fields": [p.field for p in places]})
    firsts = [places[0] for places in groups.values()]
    coords = {"i": Coordinate(("i",), np.asarray(list(groups)))}
    if all(p.row >= 0 for p in firsts):
        values = {"well": list(groups), "row": [p.row for p in firsts], "column": [p.column for p in firsts]}
        coords |= {k: Coordinate(("i",), np.asarray(v)) for k, v in values.items()}
    return replace(image, attrs=attrs, coords={**image.coords, **coords})
