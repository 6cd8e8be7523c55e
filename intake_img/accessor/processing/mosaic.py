"""Mosaics of ``ds.img``: tiles of a stage drawn as one image, at their positions or at refined ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, number, space
from intake_img.accessor.lengths import common_unit, pixels, step_of, unit_of
from intake_img.accessor.processing.checks import real, skimage_for
from intake_img.accessor.processing.in_memory import chunked, each_shown, is_held
from intake_img.accessor.processing.moving import fill_of
from intake_img.accessor.processing.placing import Cutout, Spans, drawn, overlap_of
from intake_img.accessor.processing.shifts import at_place
from intake_img.accessor.progress import bar
from intake_img.accessor.table_positions import stated_unit
from intake_img.accessor.variables import gridded, is_categorical, joined, lazy, with_data
from intake_img.errors import AxesError, UnitsError
from intake_img.kernels import mosaic as tiles
from intake_img.kernels.translation import offset
from intake_img.model.axes import SPATIAL, spell
from intake_img.model.chunks import equal_lengths
from intake_img.model.datasets import data_of
from intake_img.model.typed import Lengths, Units
from intake_img.model.units import PIXEL, convert, differ

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Mosaics"]

Region = tuple[Any, ...]

_LEAST = 8  # pixels of an overlap that is measured


class Mosaics:
    """Methods on tiles; see each of them. (`Patches.stitch` puts patches back that were cut from one image.)"""

    _obj: Any
    _first: Any

    def mosaic(
        self,
        positions: pd.DataFrame | Mapping[str, Sequence[float]],
        *,
        along: str = "i",
        overlap: str = "last",
        units: Units = "physical",
        fill: float | None = None,
    ) -> Any:
        """Draw the tiles along an axis as one image, each at its position on the stage, lazily.

        Positions are rounded to whole pixels, counted from the lowest along each axis, as in the mosaics of plates
        (``imload(plate, layout="stage")``); pixels are not interpolated. A chunk reads what it shows.

        Parameters
        ----------
        positions : pandas.DataFrame, or mapping of axis to sequence of float
            Of the first pixel of each tile, for two or three of ``z``, ``y``, ``x``.
        along : str
            The axis of the tiles.
        overlap : {"last", "first", "mean"}
            What is shown where tiles overlap: the last one, the first one, or their mean (of integers rounded, halves
            to even). Of labels and masks the last one; labels keep their numbers.
        units : {"physical", "pixel"}
            Whether positions are in the common unit of the image, that of ``x``, or in pixels; columns whose unit a
            table states (``attrs["column_units"]``) are in that.
        fill : float, optional
            What is between tiles; by default NaN in floats, 0 in all else.

        Returns
        -------
        xarray.Dataset or xarray.DataArray
            Without the axis of the tiles; coordinates begin at the lowest position.

        Raises
        ------
        AxesError
            If an axis is not there.
        ValueError
            If positions are not finite, are not one for each tile, or span more than 2**40 pixels.

        See Also
        --------
        refine_positions : positions from what overlaps.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> tiles = xr.DataArray([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], dims=["i", "y", "x"])
        >>> tiles.img.mosaic({"y": [0, 1], "x": [0, 1]}, units="pixel").values.tolist()
        [[1, 2, 0], [3, 5, 6], [0, 7, 8]]
        """
        choice("overlap", overlap, ("last", "first", "mean"))

        def change(array: xr.DataArray) -> xr.DataArray:
            labels = is_categorical(array) or array.dtype == bool
            stage = _Stage.of(array, positions, along, units)
            return _drawn(array, stage, "last" if labels else overlap, fill_of(array, None if labels else fill))

        real("mosaic", self._first)
        if isinstance(self._obj, xr.DataArray):
            return change(self._obj)
        return joined(self._obj, {n: change(v) for n, v in gridded(self._obj).items()})

    def refine_positions(
        self,
        positions: pd.DataFrame | Mapping[str, Sequence[float]],
        *,
        along: str = "i",
        units: Units = "physical",
        max_shift: Lengths | None = None,
        min_correlation: float = 0.5,
        progress: bool | None = None,
        **place: int | float | str,
    ) -> pd.DataFrame:
        """Measure where tiles lie, from what overlaps, beginning with their positions on the stage.

        Of every two tiles that overlap by 8 pixels or more, the shift of whole pixels is taken after which the overlaps
        correlate best [1]_, and all positions together are those that agree best with the shifts, by least squares
        [2]_. Tiles that hang together keep
        their mean position; a tile without a usable overlap keeps its own. Only overlaps are read. Of axes of space
        without positions the maximum counts.

        Parameters
        ----------
        positions, along, units
            See `mosaic`.
        max_shift : length, sequence or mapping, optional
            Shifts that are larger are not used; by default half of an overlap has to overlap still. Bare numbers are in
            `units`.
        min_correlation : float
            Pairs whose overlap, after the shift, has a lower Pearson's correlation are not used.
        progress : bool, optional
            Show a progress bar; by default only in a terminal.
        **place : int, float or str
            Where to measure on other axes: ``c="DAPI", t=0``. Needed for each axis with several samples.

        Returns
        -------
        pandas.DataFrame
            A row for each tile: its position along each axis, to be given to `mosaic`, and ``pairs``, how many overlaps
            were used. ``attrs["column_units"]`` has the units.

        References
        ----------
        .. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Transactions on Image Processing 21
           (2012) 2706-2718.
        .. [2] S. Preibisch, S. Saalfeld, P. Tomancak, "Globally optimal stitching of tiled 3D microscopic image
           acquisitions", Bioinformatics 25 (2009) 1463-1465.
        """
        import pandas as pd

        array = self._first
        real("refine_positions", array)
        choice("progress", progress, (None, True, False))
        lowest = number("min_correlation", min_correlation, -1, 1)
        skimage_for("refine_positions")
        array = at_place(array, along, place)
        stage = _Stage.of(array, positions, along, units)
        if many := [str(d) for d in array.dims if d not in (along, *SPATIAL) and array.sizes[d] > 1]:
            raise AxesError(f"the tiles have {array.sizes[many[0]]} samples along {many[0]!r}: name one, {many[0]}=0")
        most = None
        if max_shift is not None:
            found = pixels("max_shift", max_shift, array, stage.axes, units=units, absent=math.inf, whole=False)
            most = [found[a] for a in stage.axes]
        pairs, offsets = _measured(array, stage, most, lowest, progress)
        moved = stage.positions + tiles.balanced(len(stage.corners), pairs, offsets) * stage.steps
        table = pd.DataFrame(dict(zip(stage.axes, moved.T, strict=True)))
        table["pairs"] = np.bincount(np.ravel(np.asarray(pairs, int)), minlength=len(table))
        unit = PIXEL if units == "pixel" else common_unit(array)
        table.attrs = {"column_units": dict.fromkeys(stage.axes, unit) if unit else {}}
        return table


@dataclass(frozen=True)
class _Stage:
    """Where tiles lie.

    Parameters
    ----------
    along : str
    axes : tuple of str
        Those with positions.
    positions : ndarray of shape (n, d)
    steps : ndarray of shape (d,)
        What a pixel is in the unit of the positions.
    corners : ndarray of int, of shape (n, d)
        First pixel of each tile.
    size : tuple of int
        Of a tile.
    physical : bool
    """

    along: str
    axes: tuple[str, ...]
    positions: np.ndarray
    steps: np.ndarray
    corners: np.ndarray
    size: tuple[int, ...]
    physical: bool

    @classmethod
    def of(cls, array: xr.DataArray, positions: Any, along: Any, units: str) -> _Stage:
        """Return the stage that positions describe, or say what is wrong with them."""
        choice("units", units, ("pixel", "physical"))
        if not isinstance(along, str) or along not in array.dims or along in SPATIAL:
            raise AxesError(
                f"along={along!r}: expected the axis of the tiles, one of {spell(tuple(map(str, array.dims)))!r} that "
                "is not space"
            )
        axes, values = _values(array, positions, array.sizes[along])
        steps = np.array([step_of(array, a) if units == "physical" else 1.0 for a in axes])
        values = values * [_scale(array, a, stated_unit(positions, a), units) for a in axes]
        corners = np.rint((values - values.min(axis=0)) / steps).astype(np.int64)
        size = tuple(array.sizes[a] for a in axes)
        stage = cls(along, axes, values, steps, corners, size, units == "physical")
        if math.prod(stage.shape) > 2**40:
            raise ValueError(f"positions span {' x '.join(map(str, stage.shape))} pixels: they cannot be right")
        return stage

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.corners.max(axis=0) + self.size)


def _scale(array: xr.DataArray, axis: str, unit: str | None, units: str) -> float:
    """Return what the unit that a table states is in pixels, or in the common unit of the image."""
    if unit is None:
        return 1.0
    if unit == PIXEL:
        return 1.0 if units == "pixel" else step_of(array, axis)
    common = common_unit(array)
    if common is None:
        raise UnitsError(f"positions along {axis!r} are in {unit!r}, but the axes of the image have no unit")
    factor = 1.0 if unit == common else convert(1.0, unit, common)
    return factor / step_of(array, axis) if units == "pixel" else factor


def _values(array: xr.DataArray, positions: Any, n: int) -> tuple[tuple[str, ...], np.ndarray]:
    if not hasattr(positions, "keys") or not hasattr(positions, "__getitem__"):
        raise TypeError(f"positions={positions!r}: expected a table or mapping with the positions along y, x, ...")
    axes = tuple(a for a in space(array) if a in positions)
    if len(axes) < 2:
        raise AxesError(
            f"positions have {', '.join(map(repr, positions))}: expected at least two of "
            f"{', '.join(map(repr, space(array)))}"
        )
    try:
        values = np.stack([np.asarray(positions[a], float) for a in axes], axis=-1)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"expected positions as numbers, one for each tile and axis: {exc}") from exc
    if values.shape != (n, len(axes)) or not n:
        raise ValueError(f"positions have the shape {values.shape}: expected {n} tiles and {len(axes)} axes")
    if not np.isfinite(values).all():
        raise ValueError(f"positions of tile {int(np.argwhere(~np.isfinite(values))[0, 0])} are not finite")
    return axes, values


# drawing


@dataclass(frozen=True)
class _Plan:
    """Which tiles the chunks of a mosaic show."""

    stage: _Stage
    dims: tuple[str, ...]

    def __call__(self, spans: Spans) -> list[Cutout]:
        own = dict(zip([d for d in self.dims if d != self.stage.along], spans, strict=True))
        low, high = (np.array([own[a][k] for a in self.stage.axes]) for k in (0, 1))
        corners = self.stage.corners
        seen = ((corners < high) & (corners + self.stage.size > low)).all(axis=1)
        return [self._cutout(int(k), own) for k in np.flatnonzero(seen)]

    def _cutout(self, tile: int, own: Mapping[str, tuple[int, int]]) -> Cutout:
        source = {**own, self.stage.along: (tile, tile + 1)}
        target = {a: slice(None) for a in own}
        for a, corner, n in zip(self.stage.axes, self.stage.corners[tile].tolist(), self.stage.size, strict=True):
            low, high = overlap_of(own[a], (corner, corner + n))
            source[a], target[a] = (low - corner, high - corner), slice(low - own[a][0], high - own[a][0])
        return Cutout(tuple(source[d] for d in self.dims), tuple(target.values()))


def _paint(place: int, overlap: str, fill: Any, out: np.ndarray, parts: Sequence[tuple[Any, np.ndarray]]) -> None:
    tiles.paint(out, [(where, p.squeeze(place)) for where, p in parts], overlap, fill)


def _drawn(array: xr.DataArray, stage: _Stage, overlap: str, fill: Any) -> xr.DataArray:
    dims = tuple(map(str, array.dims))
    kept = tuple(d for d in dims if d != stage.along)
    data = chunked(array)
    lengths = dict(zip(stage.axes, stage.shape, strict=True))
    chunks = [
        equal_lengths(lengths[d], max(c)) if d in lengths else c
        for d, c in zip(dims, data.chunks, strict=True)
        if d in kept
    ]
    paint = partial(_paint, dims.index(stage.along), overlap, fill)
    key = (stage.corners.tobytes(), dims, stage.along, stage.axes, overlap, repr(fill))
    made = drawn(data, chunks, _Plan(stage, dims), paint, "mosaic", *key)
    return with_data(array, made, kept, {a: _coordinate(array, stage, k) for k, a in enumerate(stage.axes)})


def _coordinate(array: xr.DataArray, stage: _Stage, k: int) -> xr.Variable | None:
    axis = stage.axes[k]
    if axis not in array.coords:
        return None
    coord, n = array[axis], stage.shape[k]
    values = coord.values.astype(float)
    step = values[1] - values[0] if len(values) > 1 else float(coord.attrs.get("spacing", 1))
    start = values[0]
    if stage.physical:
        start, unit, to = float(stage.positions[:, k].min()), common_unit(array), unit_of(array, axis)
        start = convert(start, unit, to) if unit and to and differ(unit, to) else start
    return xr.Variable((axis,), start + step * np.arange(n), coord.attrs)


# measuring


def _measured(
    array: xr.DataArray, stage: _Stage, most: Sequence[float] | None, lowest: float, progress: bool | None
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Return the pairs of tiles that are used, and how much further apart they lie."""
    array = array.squeeze([d for d in array.dims if d not in (stage.along, *stage.axes) and array.sizes[d] == 1])
    if rest := [d for d in array.dims if d not in (stage.along, *stage.axes)]:
        array = array.max(rest)
    array = array.transpose(stage.along, *stage.axes)
    pairs = tiles.neighbours(stage.corners, stage.size, _LEAST)
    regions = [_overlap(stage, one, two) for one, two in pairs]
    found = _offsets(array, regions, progress)
    used, offsets = [], []
    for pair, (shift, correlation) in zip(pairs, found, strict=True):
        near = most is None or (np.abs(shift) <= most).all()
        if near and correlation >= lowest:
            rounding = (stage.positions[pair[1]] - stage.positions[pair[0]]) / stage.steps
            offsets.append(shift + stage.corners[pair[1]] - stage.corners[pair[0]] - rounding)
            used.append(pair)
    return used, np.array(offsets).reshape(len(used), len(stage.axes))


def _overlap(stage: _Stage, one: int, two: int) -> tuple[Region, Region]:
    """Return where two tiles overlap, in each of them."""
    step = stage.corners[two] - stage.corners[one]
    spans = [(max(0, s), min(n, n + s)) for s, n in zip(step.tolist(), stage.size, strict=True)]
    first = tuple(slice(low, high) for low, high in spans)
    second = tuple(slice(low - s, high - s) for (low, high), s in zip(spans, step.tolist(), strict=True))
    return (one, *first), (two, *second)


def _offsets(
    array: xr.DataArray, regions: Sequence[tuple[Region, Region]], progress: bool | None
) -> Sequence[tuple[np.ndarray, float]]:
    """Return the offset and the correlation of each pair of regions."""
    if is_held(array):
        held = np.asarray(data_of(array.variable))
        return each_shown(lambda pair: offset(held[pair[0]], held[pair[1]]), regions, progress, "measuring overlaps")
    import dask

    data: Any = lazy(array)
    job = dask.delayed(offset, pure=False)
    with bar(progress, "measuring overlaps"):
        (found,) = dask.compute([job(data[one], data[two]) for one, two in regions])
    return list(found)
