"""Tracks of ``ds.img``: rows of a table of objects, linked over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import integer, space
from intake_img.accessor.lengths import common_unit, length, unit_of, voxel_size
from intake_img.errors import AxesError
from intake_img.kernels.tracking import linked
from intake_img.model.typed import Length
from intake_img.model.units import PIXEL, convert, symbol

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tracks"]


class Tracks:
    """Methods on tracks; see each of them."""

    _obj: Any
    _first: Any

    def track(self, table: pd.DataFrame, max_distance: Length, *, gap: int = 0) -> pd.DataFrame:
        """Link objects over ``t``: give the rows of a table that are one object in time the same number.

        From each time to the next, objects are paired so that the sum of distances is least, an object without a
        partner costing as much as a pair at `max_distance`: the linear assignment of Jaqaman et al. [1]_, without
        splitting and merging. With `gap`, ends of tracks are then linked to beginnings that lie a little later.

        Parameters
        ----------
        table : pandas.DataFrame
            As of `measure_objects`, `regionprops`, `peaks` or `detect_blobs`: a column ``t``, and positions
            ``centroid-0``, ... or ``z``, ``y``, ``x``, whose units ``attrs["column_units"]`` has. Columns named like
            other axes of the image (``i``, ``c``) keep their tracks apart.
        max_distance : float, str or quantity
            Objects that move so far, or further, are not linked: in the common unit of the image, that of ``x``; in
            pixels if it has none. The same over a gap.
        gap : int
            How many times in a row an object may be missing.

        Returns
        -------
        pandas.DataFrame
            The table with a column ``track``: numbers from 1, in the order of the first rows of the tracks in time.

        Raises
        ------
        ValueError
            If the table lacks ``t`` or positions, they are not finite, or do not say their unit.
        AxesError
            If the image has no ``t``.

        References
        ----------
        .. [1] K. Jaqaman et al., "Robust single-particle tracking in live-cell time-lapse sequences", Nature Methods 5
           (2008) 695-702.

        Examples
        --------
        >>> import numpy as np, pandas as pd, xarray as xr
        >>> movie = xr.DataArray(np.zeros((3, 9, 9)), dims=["t", "y", "x"])
        >>> table = pd.DataFrame({"t": [0, 0, 1, 1, 2], "y": [1, 8, 2, 8, 3], "x": [1, 8, 1, 7, 1]})
        >>> movie.img.track(table, 3)["track"].tolist()
        [1, 2, 1, 2, 1]
        """
        array = self._first
        if "t" not in array.dims:
            raise AxesError(f"tracks are along 't', but the image has the axes {''.join(map(str, array.dims))!r}")
        integer("gap", gap, 0)
        most = length("max_distance", max_distance, array)
        if not most > 0:
            raise ValueError(f"max_distance={max_distance!r}: expected a length greater than 0")
        positions, frames = _positions(table, array), _frames(table, array)
        numbers = np.zeros(len(table), np.int64)
        for rows in _groups(table, array):
            numbers[rows] = linked(positions[rows] / most, frames[rows], gap) + numbers.max(initial=0)
        out = table.assign(track=_in_order(numbers, frames))
        out.attrs = dict(table.attrs)
        return out


def _positions(table: Any, array: xr.DataArray) -> np.ndarray:
    """Return positions in the common unit of the image."""
    if not hasattr(table, "columns") or not hasattr(table, "assign"):
        raise TypeError(f"table={table!r}: expected a DataFrame of objects")
    axes = space(array)
    columns = [f"centroid-{k}" for k in range(len(axes))]
    columns = columns if columns[0] in table else list(axes)
    if lost := [c for c in columns if c not in table]:
        raise ValueError(f"the table lacks the column {lost[0]!r}: positions are centroid-0, ... or {', '.join(axes)}")
    stated = table.attrs.get("column_units", {})
    found = [table[c].to_numpy(float) * _scale(array, a, c, stated.get(c)) for a, c in zip(axes, columns, strict=True)]
    values = np.stack(found, axis=-1)
    if not np.isfinite(values).all():
        raise ValueError("the table has positions that are not finite: leave these rows out first")
    return values


def _scale(array: xr.DataArray, axis: str, column: str, stated: Any) -> float:
    """Return what one unit of a column is in the common unit."""
    to, unit = common_unit(array), symbol(stated)
    if unit == PIXEL or (unit is None and to is None):
        return voxel_size(array, axis)
    if unit is None:
        raise ValueError(
            f"the table does not say the unit of {column!r}: set table.attrs['column_units'] = {{{column!r}: "
            f"{unit_of(array, axis) or PIXEL!r}, ...}}"
        )
    return convert(1.0, unit, to or PIXEL) if unit != to else 1.0


def _frames(table: Any, array: xr.DataArray) -> np.ndarray:
    """Return the index of the time of each row."""
    if "t" not in table:
        raise ValueError("the table lacks the column 't'")
    times = array["t"].values if "t" in array.coords else np.arange(array.sizes["t"])
    order = np.argsort(times, kind="stable")
    place = np.searchsorted(times[order], table["t"].to_numpy()).clip(0, len(times) - 1)
    if len(wrong := np.flatnonzero(times[order][place] != table["t"].to_numpy())):
        raise ValueError(f"the table has t={table['t'].iloc[wrong[0]]!r}, which the image has not")
    return order[place]


def _groups(table: Any, array: xr.DataArray) -> Iterator[np.ndarray]:
    """Give the rows whose tracks are linked together."""
    apart = [str(d) for d in array.dims if d in table and d not in ("t", *space(array))]
    if not apart:
        yield np.arange(len(table))
        return
    yield from table.groupby(apart, sort=False).indices.values()


def _in_order(numbers: np.ndarray, frames: np.ndarray) -> np.ndarray:
    order = np.lexsort((np.arange(len(frames)), frames))
    _, first, inverse = np.unique(numbers[order], return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(1, len(first) + 1)
    out = np.empty(len(numbers), np.int64)
    out[order] = ranks[inverse]
    return out
