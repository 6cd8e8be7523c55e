"""Positions in tables: a column is in the unit that the table states for it (``attrs["column_units"]``), if it does.

Tables of this package state the units of their positions, and may be given to any method that takes positions, of an
image in the same unit or another. A column without a stated unit is in the unit that the method documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.lengths import common_unit, unit_of
from intake_img.errors import UnitsError
from intake_img.model.datasets import spacing_of
from intake_img.model.units import PIXEL, convert, symbol

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["as_pixels", "lengths_in", "on_coordinate", "places_on", "stated_unit"]


def stated_unit(table: pd.DataFrame, column: str) -> str | None:
    """Return the symbol of the unit that a table states for a column, None if it states none."""
    return symbol(getattr(table, "attrs", {}).get("column_units", {}).get(column))


def on_coordinate(table: pd.DataFrame, column: str, image: xr.DataArray | xr.Dataset, axis: str) -> np.ndarray:
    """Return positions as values of the coordinate of an axis; as indices if it has none.

    Raises
    ------
    UnitsError
        If the stated unit does not convert to that of the axis.
    """
    values = np.asarray(table[column], np.float64)
    unit, own = stated_unit(table, column), unit_of(image, axis) or common_unit(image)
    if unit is None or unit == own or (unit == PIXEL and axis not in image.coords):
        return values
    if unit == PIXEL:
        start, step = _line(image, axis)
        return start + values * step
    if own is None or axis not in image.coords:
        raise UnitsError(f"the column {column!r} is in {unit!r}, but the axis {axis!r} of the image has no unit")
    return _converted(values, unit, own)


def as_pixels(table: pd.DataFrame, column: str, image: xr.DataArray | xr.Dataset, axis: str, units: str) -> np.ndarray:
    """Return positions as indices, which may lie between pixels.

    Parameters
    ----------
    table : DataFrame
    column : str
    image : DataArray or Dataset
    axis : str
    units : {"pixel", "physical"}
        What a column is in for which the table states no unit.
    """
    unit = stated_unit(table, column)
    if unit == PIXEL or (unit is None and units == "pixel"):
        return np.asarray(table[column], np.float64)
    values = on_coordinate(table, column, image, axis)
    start, step = _line(image, axis)
    return (values - start) / step


def lengths_in(table: pd.DataFrame, column: str, unit: str) -> np.ndarray:
    """Return lengths in a unit: that of a column that states none."""
    values, stated = np.asarray(table[column], np.float64), stated_unit(table, column)
    return values if stated in (None, unit) else _converted(values, stated, unit)


def _converted(values: Any, unit: str | None, to: str) -> np.ndarray:
    return np.asarray(convert(values, str(unit), to), np.float64)


def _line(image: xr.DataArray | xr.Dataset, axis: str) -> tuple[float, float]:
    """Return the position of the first pixel of an axis, and its spacing."""
    step = spacing_of(image[axis]) if axis in image.coords else None
    if step is None:
        raise ValueError(f"units='physical': axis {axis!r} has no evenly spaced coordinate; give positions in pixels")
    return float(image[axis].values[0]), step


def places_on(image: xr.DataArray | xr.Dataset, axis: str, n: int, values: np.ndarray) -> np.ndarray:
    """Return the indices of samples from their labels on an axis of `n`, or from indices if it has no coordinate.

    Where there is no such sample, the index is -1.
    """
    if axis not in image.coords:
        with np.errstate(invalid="ignore"):
            index = values.astype(np.int64)
        return np.where((index == values) & (index >= 0) & (index < n), index, -1)
    labels = image.indexes[axis]
    found = labels.get_indexer(values)
    if (found < 0).any() and np.issubdtype(values.dtype, np.number) and labels.dtype.kind in "iuf":
        near = labels.get_indexer(values, method="nearest")
        step = np.abs(np.diff(labels.to_numpy())).min() if n > 1 else 1.0
        close = np.abs(labels.to_numpy()[near] - values) <= 1e-6 * step
        found = np.where((found < 0) & close, near, found)
    return found
