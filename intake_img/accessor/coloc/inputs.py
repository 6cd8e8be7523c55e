"""Checks of user input: channels and pairs of channels, masks and labels, thresholds, lengths in physical units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import aligned
from intake_img.accessor.arguments import choice, number
from intake_img.accessor.channels import channel_names, channel_number
from intake_img.accessor.lengths import common_unit, in_common, length, position, unit_of, voxel_size
from intake_img.accessor.processing.checks import real
from intake_img.accessor.variables import lacking_plane
from intake_img.errors import AxesError
from intake_img.model.axes import SPATIAL
from intake_img.model.datasets import spacing_of
from intake_img.model.units import PIXEL, has_unit

__all__ = ["ChannelImage", "pixels_of"]


class ChannelImage:
    """An image with channels: its axes by role, its channels by name.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self.obj = obj
        self.image: xr.DataArray = obj.img._first
        real("coloc", self.image)
        dims = tuple(map(str, self.image.dims))
        self.spatial = tuple(a for a in dims if a in SPATIAL)
        self.lead = tuple(a for a in dims if a not in SPATIAL and a != "c")
        if "c" not in dims:
            raise AxesError(f"colocalization needs a channel axis 'c'; the image has the axes {''.join(dims)!r}")
        if said := lacking_plane(self.image):
            raise AxesError(f"{said}; colocalization needs an axis of space among 'zyx'")

    @property
    def channels(self) -> list[str | int]:
        """Names of the channels; their numbers if they have no names."""
        return channel_names(self.image)

    def channel(self, name: Any) -> int:
        """Number of a channel given by name or number; see `intake_img.accessor.channels`."""
        return channel_number(self.image, name)

    def pairs(self, pairs: Any = None) -> list[tuple[int, int]]:
        """Pairs of channel numbers: all by default, in the image's order; or one pair; or a list of pairs."""
        if pairs is None:
            found = list(combinations(range(len(self.channels)), 2))
            if not found:
                raise AxesError("colocalization needs two channels; the image has one")
            return found
        if not isinstance(pairs, (tuple, list)) or not len(pairs):
            raise TypeError(f"pairs={pairs!r}: expected a pair of channels or a list of pairs, e.g. ('actin', 'DNA')")
        if len(pairs) == 2 and not isinstance(pairs[0], (tuple, list)):
            pairs = [pairs]
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ValueError(f"pairs contain {pair!r}: expected pairs of channels, e.g. [('actin', 'DNA')]")
        return [(self.channel(a), self.channel(b)) for a, b in pairs]

    def spacing(self, axis: str) -> float:
        """Spacing of an axis in the common unit; 1 if the unit is unknown."""
        return voxel_size(self.image, axis)

    def origin(self, axis: str) -> float:
        """Position of the first sample in the common unit; 0 without a coordinate."""
        return float(in_common(self.image, axis, self._start(axis)))

    def place(self, axis: str, index: Any) -> Any:
        """Value of the coordinate of an axis (in its own unit) at an index, which may lie between pixels."""
        known = spacing_of(self.image[axis]) if axis in self.image.coords else None
        return self._start(axis) + index * (1.0 if known is None else known)

    def _start(self, axis: str) -> float:
        return float(self.image[axis].values[0]) if axis in self.image.coords and self.image.sizes[axis] else 0.0

    def positions(self, table: Any, axes: Sequence[str] | None = None) -> np.ndarray:
        """Positions of a table, on the coordinates, as an array of shape (n, d) in the common unit."""
        columns = [in_common(self.image, a, table[a].to_numpy(float)) for a in (self.spatial if axes is None else axes)]
        return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))

    @property
    def unit(self) -> str:
        """The common unit of lengths; ``"px"`` if no axis has a spacing, empty if no axis has a unit."""
        known = any(spacing_of(self.image[a]) is not None for a in self.spatial if a in self.image.coords)
        return common_unit(self.image) or ("" if known else PIXEL)

    def unit_of(self, axis: str) -> str:
        """Unit of the coordinate of an axis; `unit` if it has none."""
        return unit_of(self.image, axis) or self.unit

    def region(self, roi: Any) -> Any:
        """A region in which limits with a unit (``"3 µm"``) are converted to values of the coordinates."""
        if not isinstance(roi, Mapping):
            return roi
        return {a: self._limits(a, pair) for a, pair in roi.items()}

    def _limits(self, axis: str, bounds: Any) -> Any:
        pair = (bounds.start, bounds.stop) if isinstance(bounds, slice) else bounds
        if not isinstance(pair, (tuple, list)) or not any(map(has_unit, pair)):
            return bounds
        return tuple(position(f"roi[{axis!r}]", v, self.image, axis) if has_unit(v) else v for v in pair)

    def lengths(self, given: Any, what: str, units: str | None = None, *, above: bool = True) -> np.ndarray:
        """A length for each spatial axis in the common unit: from a number, a quantity, or a mapping of axes.

        Parameters
        ----------
        given : float, str, quantity, or mapping of str to these
            A bare number is in the common unit.
        what : str
            Name of the argument, for messages.
        above : bool
            Whether 0 is not allowed.
        units : {None, "px"}
            ``"px"``: bare numbers are in pixels.
        """
        return np.array([self._length(f, v, a, units, above) for a, (f, v) in self._each(given, what, units).items()])

    def in_pixels(self, given: Any, what: str, units: str | None = None, *, above: bool = True) -> np.ndarray:
        """A length for each spatial axis in pixels; see `lengths`."""
        each = self._each(given, what, units)
        if units == PIXEL and not any(has_unit(v) for _, v in each.values()):
            return np.array([number(name, v, 0, above=above) for name, v in each.values()])
        scale = [self.spacing(a) for a in self.spatial]
        return self.lengths(given, what, units, above=above) / scale

    def _each(self, given: Any, what: str, units: str | None) -> dict[str, tuple[str, Any]]:
        choice("units", units, (None, PIXEL))
        if isinstance(given, Mapping):
            if unknown := [a for a in given if a not in self.spatial]:
                raise AxesError(
                    f"{what} names the axis {unknown[0]!r}; the axes of space are {''.join(self.spatial)!r}"
                )
            if missing := [a for a in self.spatial if a not in given]:
                raise AxesError(f"{what} lacks the axis {missing[0]!r}: expected a length for each of {self.spatial}")
            return {a: (f"{what}[{a!r}]", given[a]) for a in self.spatial}
        if np.ndim(given) != 0:
            raise TypeError(f"{what}={given!r}: expected a number, or a mapping of axes to numbers")
        return dict.fromkeys(self.spatial, (what, given))

    def _length(self, what: str, value: Any, axis: str, units: str | None, above: bool) -> float:
        if has_unit(value):
            return number(what, length(what, value, self.image, axis), 0, above=above)
        found = number(what, value, 0, above=above)
        return found * self.spacing(axis) if units == PIXEL else found

    def companion(self, given: Any, what: str) -> xr.DataArray | None:
        """A mask or label image aligned with the image: the name of a variable, a DataArray, or a plain array; see
        `intake_img.accessor.alignment`."""
        if given is None:
            return None
        if isinstance(given, str):
            if not isinstance(self.obj, xr.Dataset) or given not in self.obj:
                raise KeyError(f"{what}={given!r}: the Dataset has no such variable")
            given = self.obj[given]
        if isinstance(given, xr.Dataset):
            given = given.img._first
        if not isinstance(given, xr.DataArray):
            if not hasattr(given, "ndim"):
                given = np.asarray(given)
            ndim = given.ndim
            dims = [self.spatial, self.lead + self.spatial]
            named = next((d for d in dims if len(d) == ndim), None)
            if named is None:
                raise AxesError(f"{what} has {ndim} axes: expected {' or '.join(repr(''.join(d)) for d in dims)}")
            given = xr.DataArray(given, dims=named)
        if given.dtype.kind not in "biuf":
            raise TypeError(f"{what} contains {given.dtype}: expected numbers or bool")
        if unknown := [str(d) for d in given.dims if d not in self.lead + self.spatial]:
            raise AxesError(f"{what} has the axis {unknown[0]!r}, expected only {''.join(self.lead + self.spatial)!r}")
        return aligned(what, given, self.image)

    def pair_coords(self, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Coordinates ``pair``, ``channel1`` and ``channel2`` of a result."""
        names = self.channels
        text = np.array([f"{names[a]}-{names[b]}" for a, b in pairs], dtype=object).astype(str)
        first, second = (np.array([names[p[k]] for p in pairs]) for k in (0, 1))
        return {"pair": text, "channel1": ("pair", first), "channel2": ("pair", second)}

    def lead_coords(self) -> dict[str, Any]:
        """Coordinates of the axes that are not pooled."""
        return {a: self.image[a] for a in self.lead if a in self.image.coords}


def pixels_of(array: xr.DataArray, order: Sequence[str], whole: Sequence[str] = ()) -> Any:
    """Return the dask array of an image with its axes in `order`, and one chunk along each axis in `whole`."""
    from dask import array as da

    data = array.transpose(*order).data
    if not isinstance(data, da.Array):
        data = da.from_array(np.asarray(data) if isinstance(data, np.ndarray) else data, chunks="auto")
    return data.rechunk({order.index(a): -1 for a in whole}) if whole else data
