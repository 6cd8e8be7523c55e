"""The model between formats and xarray: unread pixels and the metadata of their axes.

A driver makes an `Image` from a file and a file from an `Image`; `to_xarray` and `from_xarray` do the rest. Metadata
that a format cannot express go into a *record*, plain JSON that drivers store with the file, so that a round trip loses
nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import AxesError, CannotWriteError, warn
from intake_img.model.affine import AFFINE_AXES, Affine
from intake_img.model.axes import CANONICAL, canonical_order, check_axes, spell
from intake_img.model.datasets import (
    FILE_ATTRS,
    attributes_of,
    coordinate,
    data_of,
    dataset_of,
    indexed_lazily,
    remember_names,
    spacing_of,
    step_of,
)
from intake_img.model.pixels import Pixels
from intake_img.model.record import coordinate_record, plain, recorded_coordinate, restored_variable
from intake_img.model.typed import Chunks, ImageLike
from intake_img.model.units import canonical, known_spacing, stated
from intake_img.model.variables import Coordinate, Variable

__all__ = ["Coordinate", "Image", "Variable"]

_JSON = json.JSONEncoder(ensure_ascii=False)
_LONGEST = 2**25
"""Samples of an axis with coordinates, which take 8 bytes each: a damaged header may state any number."""
_FAR = 1e9
"""Positions of fewer samples than this are even to 1e-6 of the spacing, whatever is lost by rounding."""


@dataclass(frozen=True)
class Image:
    """Unread pixels and the metadata of their axes.

    Parameters
    ----------
    variables : mapping of str to Variable
        ``"image"``, and further variables of the file (labels, masks). The first one gives `original_axes`.
    spacing : mapping of str to float
        Distance of neighbouring samples, for axes where it is known.
    units : mapping of str to str
        Unit of `spacing` and `origin`, in any spelling.
    origin : mapping of str to float
        Position of the first sample; 0 where absent.
    coords : mapping of str to Coordinate
        Explicit coordinates; they replace spacing and origin.
    scene, scenes : str, sequence of str
        Name of this image in the file, and names of all of them.
    header : mapping
        The format's own header, JSON-like.
    attrs : mapping
        Further attributes of the Dataset.
    partition : mapping
        If the file is one of several files of an image: what it states about the complete image, as plain JSON.
    """

    variables: Mapping[str, Variable]
    spacing: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, float] = field(default_factory=dict)
    coords: Mapping[str, Coordinate] = field(default_factory=dict)
    scene: str = "0"
    scenes: Sequence[str] = ("0",)
    header: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    partition: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def single(
        cls,
        pixels: Pixels,
        axes: str | Sequence[str],
        *,
        channels: Sequence[Any] | None = None,
        channel_attrs: Mapping[str, Any] | None = None,
        variable_attrs: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> Image:
        """Return an image of one variable, ``image``; `channels` are the names along ``c``."""
        variable = Variable(pixels, check_axes(axes, pixels.ndim), variable_attrs or {})
        if channels is not None and "c" in variable.axes:
            names = np.asarray([str(c) for c in channels])
            facts["coords"] = {**facts.get("coords", {}), "c": Coordinate(("c",), names, channel_attrs or {})}
        return cls({"image": variable}, **facts)

    @property
    def only(self) -> Variable:
        """The only variable of the image.

        Raises
        ------
        CannotWriteError
            If there are several.
        """
        if len(self.variables) != 1:
            raise CannotWriteError(
                f"the format stores one variable to a file, but the image has {len(self.variables)}: "
                f"{', '.join(self.variables) or 'none'}; select one (ds[['{next(iter(self.variables), 'image')}']]), "
                "or save as .zarr"
            )
        return next(iter(self.variables.values()))

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every axis."""
        return {a: n for v in self.variables.values() for a, n in zip(v.axes, v.pixels.shape, strict=True)}

    @property
    def channels(self) -> list[str] | None:
        """Channel names, if known."""
        return [str(v) for v in np.ravel(self.coords["c"].values)] if "c" in self.coords else None

    # changes

    def overruled(
        self,
        axes: str | Sequence[str] | None = None,
        spacing: Mapping[str, Any] | None = None,
        spacing_units: Mapping[str, Any] | str | None = None,
        origin: Mapping[str, Any] | None = None,
        coords: Mapping[str, Any] | None = None,
    ) -> Image:
        """Return the image with metadata that add to, or replace, the metadata of the file.

        Parameters
        ----------
        axes : str, optional
            New names of the axes, in the file's order. Metadata of a renamed axis are dropped.
        spacing : mapping of str to float, optional
            Numbers in `spacing_units`, or in the unit that the file gives; or lengths with a unit (``"300 nm"``).
        spacing_units : mapping of str to str, or str, optional
            A unit for each axis, or one for all spatial axes.
        origin : mapping of str to float, optional
            Position of the first sample, in the unit of the axis; existing coordinates are shifted to it.
        coords : mapping of str to sequence, optional
            Explicit coordinates, e.g. channel names.
        """
        if all(given is None for given in (axes, spacing, spacing_units, origin, coords)):
            return self
        image = self if axes is None else self._renamed(axes)
        if isinstance(spacing_units, str):
            spacing_units = {a: spacing_units for a in "zyx" if a in image.sizes}
        given = {"spacing": spacing, "spacing_units": spacing_units, "origin": origin, "coords": coords}
        for what, facts in given.items():
            image._check_names(what, facts)
        spacing, spacing_units = stated(spacing or {}, spacing_units or {})
        explicit = image._positions(spacing, origin or {}, coords or {})
        moved = {*spacing, *spacing_units, *(origin or {}), *(coords or {})}
        if axes is not None or moved & set(AFFINE_AXES):  # the stated affine is no longer valid
            image = replace(image, attrs={k: v for k, v in image.attrs.items() if k != "affine"})
        return replace(
            image,
            spacing={**image.spacing, **{a: float(v) for a, v in spacing.items()}},
            units={**image.units, **{a: str(v) for a, v in spacing_units.items()}},
            origin={**image.origin, **{a: _position(a, v) for a, v in (origin or {}).items()}},
            coords=explicit,
        )

    def _renamed(self, axes: str | Sequence[str]) -> Image:
        """Return the image with new names of the axes of its first variable."""
        name, first = next(iter(self.variables.items()))
        names = check_axes(axes, first.pixels.ndim)
        renamed = {old for old, new in zip(first.axes, names, strict=True) if old != new}
        if others := [n for n, v in self.variables.items() if n != name and renamed & set(v.axes)]:
            raise AxesError(f"metadata axes={spell(names)!r} would rename axes that {others[0]!r} has as well")
        forget = renamed | (set(names) - set(first.axes))
        kept: dict[str, Any] = {
            k: {a: v for a, v in getattr(self, k).items() if a not in forget} for k in ("spacing", "units", "origin")
        }
        explicit = {k: c for k, c in self.coords.items() if not forget & {k, *c.axes}}
        return replace(self, variables={**self.variables, name: replace(first, axes=names)}, coords=explicit, **kept)

    def _check_names(self, what: str, given: Any) -> None:
        """Raise an error if metadata are not a mapping, or name axes that the image lacks."""
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"metadata {what} is {given!r}: expected a mapping from axes, e.g. {{'x': ...}}")
        if given and (unknown := [a for a in given if a not in self.sizes]):
            raise AxesError(
                f"metadata {what} names the axis {unknown[0]!r}, but the image has {spell(tuple(self.sizes))!r}"
            )

    def _positions(
        self, spacing: Mapping[str, Any], origin: Mapping[str, Any], coords: Mapping[str, Any]
    ) -> dict[str, Coordinate]:
        """Return the explicit coordinates that are unchanged, moved or replaced."""
        explicit = dict(self.coords)
        for axis, value in spacing.items():
            if known_spacing(value) is None:
                raise ValueError(f"metadata spacing of {axis!r} is {value!r}: expected a positive number")
            explicit.pop(axis, None)
        for axis, value in origin.items():
            if axis in explicit:
                explicit[axis] = _moved(axis, explicit[axis], _position(axis, value))
        for axis, values in coords.items():
            array = np.asarray(values)
            if array.shape != (self.sizes[axis],):
                raise ValueError(
                    f"metadata coords of {axis!r} have shape {array.shape}, but the axis has {self.sizes[axis]} samples"
                )
            explicit[axis] = Coordinate((axis,), array, self.coords[axis].attrs if axis in self.coords else {})
        return explicit

    @property
    def affine(self) -> Affine | None:
        """The position of the pixels in space, from the attribute ``affine`` and the coordinates; None if unknown."""
        found = Affine.of(self.attrs)
        if found is None:
            return None
        try:
            return found.at({a: c.values for a, c in self.coordinates().items() if a in AFFINE_AXES})
        except AxesError:
            return None

    def placed(self, affine: Affine) -> Image:
        """Return the image with spacing, origin and the attribute ``affine`` of an affine map.

        Axes x, y and z that the image lacks are ignored.
        """
        known = {a: n for a, n in affine.spacing.items() if a in self.sizes}
        units = dict.fromkeys(known, affine.unit) if affine.unit else {}
        return replace(
            self,
            spacing={**self.spacing, **known},
            origin={**self.origin, **{a: affine.origin[a] for a in known}},
            units={**self.units, **units},
            attrs={**self.attrs, "affine": affine.attribute()},
        )

    # to and from xarray

    def to_xarray(
        self,
        *,
        uri: str = "",
        driver: str = "",
        order: str | Sequence[str] | None = CANONICAL,
        chunks: Chunks = "auto",
        original: Image | None = None,
        data: Callable[[Pixels], Any] | None = None,
    ) -> xr.Dataset:
        """Return a Dataset in canonical order.

        Parameters
        ----------
        uri, driver : str
            For the attributes.
        order : str or None
            See `intake_img.model.axes.canonical_order`.
        chunks : "auto", None, int or mapping
            Chunks of the dask arrays; None for xarray's own lazy indexing.
        original : Image, optional
            The image as the file describes it, if `self` has overruled metadata.
        data : callable, optional
            Makes arrays of pixels, instead of `chunks`.
        """
        if isinstance(chunks, Mapping) and (unknown := [a for a in chunks if a not in self.sizes]):
            raise AxesError(f"chunks name the axis {unknown[0]!r}, but the image has {spell(tuple(self.sizes))!r}")
        variables = {}
        for name, v in self.variables.items():
            axes = canonical_order(v.axes, order)
            pixels = v.pixels.transpose([v.axes.index(a) for a in axes])
            if data is not None:
                array = data(pixels)
            elif chunks is None:
                array = indexed_lazily(pixels)
            else:
                wanted = {a: n for a, n in chunks.items() if a in axes} if isinstance(chunks, Mapping) else chunks
                array = pixels.dask(pixels.chunks(wanted, axes))
            encoding = {"preferred_chunks": dict(zip(axes, pixels.auto_block(), strict=True))}
            variables[name] = xr.Variable(axes, array, dict(v.attrs), encoding=encoding)
        ds = dataset_of(variables, self.coordinates())
        first = next(iter((original or self).variables.values()))
        ds.attrs.update(plain(self.attrs))
        ds.attrs.update(
            uri=uri,
            driver=driver,
            scene=str(self.scene),
            scenes=[str(s) for s in self.scenes],
            original_axes=spell(first.axes),
            original_shape=list(first.pixels.shape),
            fileheader=_JSON.encode(plain(self.header)),
        )
        return ds

    def coordinates(self) -> dict[str, xr.Variable]:
        """Return the coordinates for xarray, including the coordinates computed from spacing and origin."""
        coords = {}
        sizes = self.sizes
        for name, c in self.coords.items():
            attrs = dict(c.attrs)
            if name in sizes and (unit := canonical(self.units.get(name))):
                attrs.setdefault("units", unit)
            coords[name] = coordinate(name, c.axes, c.values, attrs)
            remember_names(coords[name])
        for axis, n in sizes.items():
            spacing = known_spacing(self.spacing.get(axis))
            if axis in coords or spacing is None:
                continue
            if n > _LONGEST:
                warn(f"the axis {axis!r} of {n} samples is too long for coordinates")
                continue
            attrs = {"units": unit} if (unit := canonical(self.units.get(axis))) else {}
            origin = float(self.origin.get(axis) or 0.0)
            values = np.arange(n, dtype=float)
            values *= spacing
            values += origin
            coords[axis] = coordinate(axis, (axis,), values, {**attrs, "spacing": spacing})
        return coords

    def unfit(self) -> str | None:
        """Return the name of an explicit coordinate that has other lengths than its axes; None if all fit."""
        sizes = self.sizes
        for name, c in self.coords.items():
            shape = c.values.shape
            if len(shape) != len(c.axes) or any(sizes.get(a, n) != n for a, n in zip(c.axes, shape, strict=True)):
                return name
        return None

    def steps(self) -> dict[str, float]:
        """Return the distance of neighbouring samples of each axis: the spacing, or the step of an even coordinate."""
        found = {a: self._step(a, n) for a, n in self.sizes.items() if a not in ("i", "c")}
        return {a: step for a, step in found.items() if step is not None}

    def _step(self, axis: str, count: int) -> float | None:
        """Return the spacing of the coordinate that `coordinates` has for an axis."""
        c = self.coords.get(axis)
        if c is not None:
            return step_of(c.values, c.attrs.get("spacing")) if c.values.ndim == 1 else None
        spacing = known_spacing(self.spacing.get(axis))
        if spacing is None:
            return None
        origin = float(self.origin.get(axis) or 0.0)
        if abs(origin) + spacing * count < min(_FAR * spacing, 1e300):
            return spacing
        return step_of(origin + spacing * np.arange(count), spacing)

    @classmethod
    def from_xarray(cls, obj: ImageLike) -> Image:
        """Return the image in a Dataset, DataArray or array.

        Parameters
        ----------
        obj : xarray.Dataset, xarray.DataArray, numpy.ndarray or dask.array.Array
            An array without names has the last of the canonical axes: ``yx``, ``zyx``, ``czyx``, ``tczyx``, ``itczyx``.
        """
        if isinstance(obj, xr.DataArray):
            name = obj.name if isinstance(obj.name, str) and obj.name not in obj.coords else "image"
            attrs = {k: v for k, v in obj.attrs.items() if k in FILE_ATTRS}
            ds = obj.drop_attrs(deep=False).to_dataset(name=name)
            ds[name].attrs.update({k: v for k, v in obj.attrs.items() if k not in FILE_ATTRS})
            ds.attrs.update(attrs)
        elif isinstance(obj, xr.Dataset):
            ds = obj
        elif hasattr(obj, "shape") and hasattr(obj, "dtype"):
            if not 2 <= obj.ndim <= len(CANONICAL):
                raise AxesError(
                    f"an array of shape {tuple(obj.shape)} has no names for its axes: expected 2 to {len(CANONICAL)} "
                    f"axes (the last of {CANONICAL!r}); name them with xarray.DataArray(array, dims=...)"
                )
            ds = xr.Dataset({"image": (tuple(CANONICAL[-obj.ndim :]), obj)})
        else:
            raise TypeError(f"expected a Dataset, a DataArray or an array, got {type(obj).__name__}")
        if not ds.data_vars:
            raise CannotWriteError("the Dataset has no variable to save")
        variables = {
            str(n): Variable(Pixels.of(data_of(v.variable)), tuple(map(str, v.dims)), dict(v.attrs))
            for n, v in ds.data_vars.items()
        }
        spacing, units, origin, coords = {}, {}, {}, {}
        for key, coord in ds.coords.items():
            axis = str(key)
            if coord.dims == (key,) and (step := spacing_of(coord)) is not None:
                spacing[axis], origin[axis] = step, float(coord.values[0]) if coord.size else 0.0
            if coord.dims == (key,) and coord.attrs.get("units"):
                units[axis] = str(coord.attrs["units"])
            coords[axis] = Coordinate(tuple(map(str, coord.dims)), np.asarray(coord.values), attributes_of(coord))
        source = {k: ds.attrs[k] for k in ("uri", "driver", "scene", "fileheader") if k in ds.attrs}
        return cls(
            variables,
            spacing=spacing,
            units=units,
            origin=origin,
            coords=coords,
            scene=str(ds.attrs.get("scene", "0")),
            header=source,
            attrs={str(k): v for k, v in ds.attrs.items() if k not in FILE_ATTRS},
        )

    # the record

    def record(self, stored_axes: Sequence[str] | None = None) -> dict[str, Any]:
        """Return, as plain JSON, everything that `restored` needs to rebuild the image from a file with its pixels.

        Parameters
        ----------
        stored_axes : sequence of str, optional
            The order of the axes in which the pixels are stored, if it differs from the image's order.
        """
        variables = {}
        for name, v in self.variables.items():
            axes = tuple(stored_axes) if stored_axes is not None else v.axes
            variables[name] = {
                "axes": list(axes),
                "shape": [v.pixels.shape[v.axes.index(a)] for a in axes],
                "dtype": v.pixels.dtype.str,
                "attrs": plain(v.attrs, strict=True),
            }
        return {
            "version": 1,
            "variables": variables,
            "coords": {name: coordinate_record(c) for name, c in self.coords.items()},
            "attrs": plain(self.attrs, strict=True),
            "source": plain(self.header),
            **({"partition": dict(self.partition)} if self.partition else {}),
        }

    def restored(self, record: Mapping[str, Any] | None) -> Image:
        """Return the image, as described by the metadata of the file, completed by the `record` stored with it.

        The name of a single variable need not match; several variables are matched by name. A record that does not fit
        the pixels (because the file was edited since) is ignored.
        """
        if record is None:
            return self
        try:
            facts = dict(record["variables"])
            attrs, partition = dict(record["attrs"]), dict(record.get("partition", {}))
            if len(self.variables) == len(facts) == 1:
                own = dict(zip(facts, self.variables.values(), strict=True))
            else:
                own = {name: self.variables[name] for name in facts}
            variables = {str(name): restored_variable(own[name], facts[name]) for name in facts}
            sizes = replace(self, variables=variables).sizes
            coords = {str(k): recorded_coordinate(c, sizes) for k, c in record["coords"].items()}
            if not variables:
                return self
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return self
        image = replace(
            self, variables=variables, coords=coords, spacing={}, units={}, origin={}, attrs=attrs, partition=partition
        )
        agree = all(sizes[a] == n for v in variables.values() for a, n in zip(v.axes, v.pixels.shape, strict=True))
        return image if agree and image.unfit() is None else self


def _position(axis: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"metadata origin of {axis!r} is {value!r}: expected a number")
    return number


def _moved(axis: str, c: Coordinate, start: float) -> Coordinate:
    """Return a coordinate whose first value is `start`."""
    if c.values.dtype.kind not in "iuf" or c.axes != (axis,) or not c.values.size:
        raise ValueError(f"metadata origin names the axis {axis!r}, whose coordinates are not numbers: give coords")
    return replace(c, values=c.values.astype(float) - float(c.values[0]) + start)
