"""The one model between formats and xarray: unread pixels, and what is known of their axes.

A driver makes an `Image` from a file and a file from an `Image`; `to_xarray` and `from_xarray` do the rest. What a
format cannot say by itself goes into a *record*, plain JSON that drivers store with the file, so that a round trip
loses nothing.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from intake_img.errors import AxesError, CannotWriteError
from intake_img.model.axes import CANONICAL, canonical_order, check_axes, spell
from intake_img.model.pixels import Pixels, stack
from intake_img.model.units import canonical, known_spacing, stated

__all__ = ["FILE_ATTRS", "Coordinate", "Image", "Variable", "plain", "select", "spacing_of"]

FILE_ATTRS = ("uri", "driver", "scene", "scenes", "original_axes", "original_shape", "fileheader")
"""Attributes of a loaded Dataset that describe the file it came from, not the image."""


@dataclass(frozen=True)
class Coordinate:
    """Explicit values along one or more axes: channel names, time stamps, positions that are not evenly spaced."""

    axes: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variable:
    """Unread pixels with named axes.

    Parameters
    ----------
    pixels : Pixels
    axes : tuple of str
        A name for each axis, in the file's order.
    attrs : mapping
        Attributes of the variable, e.g. ``{"kind": "labels"}``.
    """

    pixels: Pixels
    axes: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", check_axes(self.axes, self.pixels.ndim))


@dataclass(frozen=True)
class Image:
    """Unread pixels and what is known of their axes.

    Parameters
    ----------
    variables : mapping of str to Variable
        ``"image"``, and what the file holds beside it (labels, masks). The first one gives `original_axes`.
    spacing : mapping of str to float
        Distance of neighbours along an axis, for axes where it is known.
    units : mapping of str to str
        Unit of `spacing` and `origin`, in any spelling.
    origin : mapping of str to float
        Position of the first sample; 0 where absent.
    coords : mapping of str to Coordinate
        Explicit coordinates; they take the place of spacing and origin.
    scene, scenes : str, sequence of str
        Name of this image in the file, and names of all of them.
    header : mapping
        The format's own header, JSON-like.
    attrs : mapping
        Further attributes of the Dataset.
    partition : mapping
        If the file is one of many that hold an image together: what it knows of the whole, plain JSON.
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
    def single(cls, pixels: Pixels, axes: str | Sequence[str], *, channels: Sequence[Any] | None = None,
               channel_attrs: Mapping[str, Any] | None = None, variable_attrs: Mapping[str, Any] | None = None,
               **facts: Any) -> Image:  # fmt: skip
        """Return an image of one variable, ``image``; `channels` are the names along ``c``."""
        variable = Variable(pixels, check_axes(axes, pixels.ndim), variable_attrs or {})
        if channels is not None and "c" in variable.axes:
            names = np.asarray([str(c) for c in channels])
            facts["coords"] = {**facts.get("coords", {}), "c": Coordinate(("c",), names, channel_attrs or {})}
        return cls({"image": variable}, **facts)

    @property
    def only(self) -> Variable:
        """The variable of an image that has one.

        Raises
        ------
        CannotWriteError
            If there are several.
        """
        if len(self.variables) != 1:
            raise CannotWriteError(
                f"the format holds one variable to a file, but the image has {len(self.variables)}: "
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

    def overruled(self, axes: str | Sequence[str] | None = None, spacing: Mapping[str, Any] | None = None,
                  spacing_units: Mapping[str, Any] | str | None = None, origin: Mapping[str, Any] | None = None,
                  coords: Mapping[str, Any] | None = None) -> Image:  # fmt: skip
        """Return the image with facts added to, or put in the place of, those of the file.

        Parameters
        ----------
        axes : str, optional
            New names of the axes, in the file's order. What was known of a renamed axis is forgotten.
        spacing : mapping of str to float, optional
            Numbers in `spacing_units`, or in the unit that the file gives; or lengths with a unit (``"300 nm"``).
        spacing_units : mapping of str to str, or str, optional
            A unit for each axis, or one for all spatial axes.
        origin : mapping of str to float, optional
            Position of the first sample, in the unit of the axis; coordinates that are known are shifted to it.
        coords : mapping of str to sequence, optional
            Explicit coordinates, e.g. channel names.
        """
        image = self
        if axes is not None:
            name, first = next(iter(image.variables.items()))
            names = check_axes(axes, first.pixels.ndim)
            renamed = {old for old, new in zip(first.axes, names, strict=True) if old != new}
            if others := [n for n, v in image.variables.items() if n != name and renamed & set(v.axes)]:
                raise AxesError(f"metadata axes={spell(names)!r} would rename axes that {others[0]!r} has as well")
            forget = renamed | (set(names) - set(first.axes))
            kept: dict[str, Any] = {
                k: {a: v for a, v in getattr(image, k).items() if a not in forget}
                for k in ("spacing", "units", "origin")
            }
            explicit = {k: c for k, c in image.coords.items() if not forget & {k, *c.axes}}
            variables = {**image.variables, name: replace(first, axes=names)}
            image = replace(image, variables=variables, coords=explicit, **kept)
        if isinstance(spacing_units, str):
            spacing_units = {a: spacing_units for a in "zyx" if a in image.sizes}
        for given, what in (
            (spacing, "spacing"),
            (spacing_units, "spacing_units"),
            (origin, "origin"),
            (coords, "coords"),
        ):
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"metadata {what} is {given!r}: expected a mapping from axes, e.g. {{'x': ...}}")
            if given and (unknown := [a for a in given if a not in image.sizes]):
                raise AxesError(
                    f"metadata {what} names the axis {unknown[0]!r}, but the image has {spell(tuple(image.sizes))!r}"
                )
        spacing, spacing_units = stated(spacing or {}, spacing_units or {})
        explicit = dict(image.coords)
        for axis, value in spacing.items():
            if known_spacing(value) is None:
                raise ValueError(f"metadata spacing of {axis!r} is {value!r}: expected a positive number")
            explicit.pop(axis, None)
        for axis, value in (origin or {}).items():
            if axis in explicit:
                explicit[axis] = _moved(axis, explicit[axis], _position(axis, value))
        for axis, values in (coords or {}).items():
            array = np.asarray(values)
            if array.shape != (image.sizes[axis],):
                raise ValueError(
                    f"metadata coords of {axis!r} have shape {array.shape}, "
                    f"but the axis has {image.sizes[axis]} samples"
                )
            explicit[axis] = Coordinate((axis,), array, image.coords[axis].attrs if axis in image.coords else {})
        return replace(
            image,
            spacing={**image.spacing, **{a: float(v) for a, v in spacing.items()}},
            units={**image.units, **{a: str(v) for a, v in spacing_units.items()}},
            origin={**image.origin, **{a: _position(a, v) for a, v in (origin or {}).items()}},
            coords=explicit,
        )

    @classmethod
    def stacked(cls, images: Sequence[Image]) -> Image:
        """Return images of equal axes and shapes as one, with the names of their scenes along ``i``."""
        first = images[0]
        for other in images[1:]:
            for name, v in first.variables.items():
                w = other.variables.get(name)
                if w is None or w.axes != v.axes or w.pixels.shape != v.pixels.shape:
                    found = f"{spell(w.axes)} {w.pixels.shape}" if w else "nothing"
                    raise AxesError(
                        f"scenes cannot be stacked: {name!r} of {first.scene!r} is {spell(v.axes)} {v.pixels.shape}, "
                        f"of {other.scene!r} {found}; load them one by one with scene="
                    )
        if "i" in first.sizes:
            raise AxesError("scenes cannot be stacked on 'i': the images have an axis 'i' already")
        variables = {}
        for name, v in first.variables.items():
            dtypes = {im.variables[name].pixels.dtype for im in images}
            pixels = stack([im.variables[name].pixels.astype(np.result_type(*dtypes)) for im in images])
            variables[name] = Variable(pixels, ("i", *v.axes), v.attrs)
        coords = {**first.coords, "i": Coordinate(("i",), np.asarray([im.scene for im in images]))}
        # positions of a scene on the stage differ: they cannot be coordinates of the stack
        origin = {a: o for a, o in first.origin.items() if all(im.origin.get(a) == o for im in images)}
        return replace(first, variables=variables, coords=coords, origin=origin, scene="all")

    # to and from xarray

    def to_xarray(self, *, uri: str = "", driver: str = "", order: str | Sequence[str] | None = CANONICAL,
                  chunks: Any = "auto", original: Image | None = None,
                  data: Callable[[Pixels], Any] | None = None) -> xr.Dataset:  # fmt: skip
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
            The image as the file describes it, where `self` is that image overruled.
        data : callable, optional
            Makes arrays of pixels, in place of `chunks`.
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
                array = indexing.LazilyIndexedArray(_LazyPixels(pixels))
            else:
                wanted = {a: n for a, n in chunks.items() if a in axes} if isinstance(chunks, Mapping) else chunks
                array = pixels.dask(pixels.chunks(wanted, axes))
            encoding = {"preferred_chunks": dict(zip(axes, pixels.auto_block(), strict=True))}
            variables[name] = xr.Variable(axes, array, dict(v.attrs), encoding=encoding)
        ds = xr.Dataset(variables, coords=self._xarray_coords())
        first = next(iter((original or self).variables.values()))
        ds.attrs.update(plain(self.attrs))
        ds.attrs.update(
            uri=uri,
            driver=driver,
            scene=str(self.scene),
            scenes=[str(s) for s in self.scenes],
            original_axes=spell(first.axes),
            original_shape=list(first.pixels.shape),
            fileheader=json.dumps(plain(self.header), ensure_ascii=False),
        )
        return ds

    def _xarray_coords(self) -> dict[str, xr.Variable]:
        coords = {}
        sizes = self.sizes
        for name, c in self.coords.items():
            attrs = dict(c.attrs)
            if name in sizes and (unit := canonical(self.units.get(name))):
                attrs.setdefault("units", unit)
            coords[name] = xr.Variable(c.axes, c.values, attrs)
        for axis, n in sizes.items():
            spacing = known_spacing(self.spacing.get(axis))
            if axis in coords or spacing is None:
                continue
            attrs = {"units": unit} if (unit := canonical(self.units.get(axis))) else {}
            origin = float(self.origin.get(axis) or 0.0)
            values = origin + spacing * np.arange(n)
            coords[axis] = xr.Variable((axis,), values, {**attrs, "spacing": spacing})
        return coords

    @classmethod
    def from_xarray(cls, obj: Any) -> Image:
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
            str(n): Variable(Pixels.of(_data(v.variable)), tuple(map(str, v.dims)), dict(v.attrs))
            for n, v in ds.data_vars.items()
        }
        spacing, units, origin, coords = {}, {}, {}, {}
        for key, coord in ds.coords.items():
            axis = str(key)
            if coord.dims == (key,) and (step := spacing_of(coord)) is not None:
                spacing[axis], origin[axis] = step, float(coord.values[0]) if coord.size else 0.0
            if coord.dims == (key,) and coord.attrs.get("units"):
                units[axis] = str(coord.attrs["units"])
            coords[axis] = Coordinate(tuple(map(str, coord.dims)), np.asarray(coord.values), dict(coord.attrs))
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
        """Return, as plain JSON, all that `restored` needs to bring the image back from a file that holds its pixels.

        Parameters
        ----------
        stored_axes : sequence of str, optional
            The order of the axes in which the pixels are stored, where it is not the image's own.
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

    def restored(self, record: Any) -> Image:
        """Return the image, as a file's own facts describe it, completed by the `record` that was stored with it.

        A file that has one variable need not know its name; of several, each is known by name. A record that does not
        fit the pixels (because the file was edited since) is ignored.
        """
        try:
            facts = dict(record["variables"])
            attrs, partition = dict(record["attrs"]), dict(record.get("partition", {}))
            if len(self.variables) == len(facts) == 1:
                own = dict(zip(facts, self.variables.values(), strict=True))
            else:
                own = {name: self.variables[name] for name in facts}
            variables = {str(name): _restored_variable(own[name], facts[name]) for name in facts}
            sizes = replace(self, variables=variables).sizes
            coords = {str(k): recorded_coordinate(c, sizes) for k, c in record["coords"].items()}
            if not variables:
                return self
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return self
        image = replace(self, variables=variables, coords=coords, spacing={}, units={}, origin={}, attrs=attrs,
                        partition=partition)  # fmt: skip
        fits = all(
            sizes.get(a, n) == n for c in coords.values() for a, n in zip(c.axes, c.values.shape, strict=True)
        ) and all(sizes[a] == n for v in variables.values() for a, n in zip(v.axes, v.pixels.shape, strict=True))
        return image if fits else self


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


def _restored_variable(own: Variable, facts: Mapping[str, Any]) -> Variable:
    places = _places(own.pixels.shape, list(facts["shape"]))
    if places is None:
        raise ValueError("the record does not fit the pixels")
    return Variable(
        own.pixels.reshape(places).astype(np.dtype(facts["dtype"])), check_axes(facts["axes"]), dict(facts["attrs"])
    )


def spacing_of(coord: xr.DataArray) -> float | None:
    """Return the spacing of an axis from its coordinate, or None if it is unknown or not even.

    The differences of the values count; ``attrs["spacing"]`` says it where there is one value, and says it exactly
    where both agree.
    """
    stated = known_spacing(coord.attrs.get("spacing"))
    if coord.ndim != 1 or coord.dtype.kind not in "iuf" or coord.name in ("i", "c"):
        return None
    if coord.size < 2:
        return stated
    values = np.asarray(coord.values, dtype=float)
    if not np.isfinite(values).all() or np.abs(values).max() > 1e300:
        return None
    step = float(values[-1] - values[0]) / (len(values) - 1)
    tolerance = 1e-6 * abs(step) + 4 * np.spacing(np.abs(values).max())
    if known_spacing(step) is None or not (np.abs(np.diff(values) - step) <= tolerance).all():
        return None
    if stated is not None and math.isclose(stated, step, rel_tol=1e-6):
        return stated
    return step


def plain(value: Any, *, strict: bool = False) -> Any:
    """Return `value` as plain JSON types: str, int, float, bool, list, dict with str keys.

    Parameters
    ----------
    value : object
        Numpy scalars and arrays, tuples, sets, dates, enumerations, bytes and paths are translated.
    strict : bool
        Raise `CannotWriteError` for objects that JSON cannot express, instead of writing their text.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value if type(value) in (type(None), bool, int, str) else _builtin(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, np.generic):
        return plain(value.item(), strict=strict) if value.dtype.kind not in "mM" else str(value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist() if value.dtype.kind not in "mM" else value.astype(str).tolist(), strict=strict)
    if isinstance(value, Mapping):
        return {str(k): plain(v, strict=strict) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, strict=strict) for v in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError:
            return "base64:" + base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if strict:
        raise CannotWriteError(
            f"an attribute holds {value!r} of type {type(value).__name__}, which no file can keep: "
            "expected text, numbers, lists or dicts of these"
        )
    return str(value)


def _builtin(value: Any) -> Any:
    if isinstance(value, bool):
        return bool(value)
    return int(value) if isinstance(value, int) else str(value)


def _data(variable: xr.Variable) -> Any:
    """Return the array of a variable without loading it, where xarray indexes lazily."""
    wrapped = variable._data
    if isinstance(wrapped, np.ndarray) or hasattr(wrapped, "dask"):
        return wrapped
    if variable._in_memory:
        return np.asarray(wrapped)
    tile = variable.encoding.get("preferred_chunks", {})
    tiles = tuple(tile.get(d, n) for d, n in zip(variable.dims, variable.shape, strict=True))
    return Pixels(_XarrayReader(variable), variable.shape, variable.dtype, tiles)


@dataclass(frozen=True, eq=False)
class _XarrayReader:
    variable: xr.Variable

    def read_into(self, region: tuple[slice, ...], out: np.ndarray) -> None:
        out[...] = self.variable[region].values


class _LazyPixels(BackendArray):
    """Pixels for xarray's own lazy indexing."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype

    def __getitem__(self, key: Any) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self.pixels.__getitem__)


def _places(own: Sequence[int], wanted: Sequence[int]) -> list[int | None] | None:
    """Return where each wanted axis is found among one's own, if they differ only by axes of length 1."""
    if [n for n in own if n != 1] != [n for n in wanted if n != 1]:
        return None
    left = [k for k, n in enumerate(own) if n != 1]
    return [left.pop(0) if n != 1 else None for n in wanted]


def coordinate_record(c: Coordinate) -> dict[str, Any]:
    """Return a coordinate as plain JSON, exactly."""
    values = np.asarray(c.values)
    facts: dict[str, Any] = {"axes": list(c.axes), "dtype": values.dtype.str, "attrs": plain(c.attrs, strict=True)}
    if values.dtype.kind == "O" or values.dtype.kind == "T":
        facts["dtype"] = "text" if all(isinstance(v, str) for v in values.ravel()) else "object"
    if values.ndim == 1 and values.dtype == np.float64 and values.size > 2:
        with np.errstate(over="ignore", invalid="ignore"):
            step = known_spacing(c.attrs.get("spacing")) or float(values[1] - values[0])
            even = values[0] + step * np.arange(values.size)
        if np.isfinite(values).all() and np.array_equal(even, values) and math.isfinite(step):
            return {**facts, "start": float(values[0]), "step": float(step), "size": int(values.size)}
    if values.dtype.kind in "mM":
        values = values.astype("i8")
    if values.dtype.kind in "fc":
        return {**facts, "values": _texts(values.tolist())}
    return {**facts, "values": plain(values.tolist(), strict=True)}


def _texts(values: Any) -> Any:
    """Nested lists with the numbers that JSON lacks (NaN, infinite, complex) as text that numpy reads back."""
    if isinstance(values, list):
        return [_texts(v) for v in values]
    return values if isinstance(values, float) and math.isfinite(values) else str(values)


def recorded_coordinate(facts: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> Coordinate:
    """Return the coordinate that `coordinate_record` wrote; `sizes` are those that it must fit."""
    sizes = sizes or {}
    if "start" in facts:
        size = int(facts["size"])
        if size > sizes.get(facts["axes"][0], 2**24):  # before it is allocated
            raise ValueError("the record does not fit the pixels")
        values = float(facts["start"]) + float(facts["step"]) * np.arange(size)
    elif facts["dtype"] in ("text", "object"):
        values = np.asarray(facts["values"], dtype=object)
    else:
        dtype = np.dtype(facts["dtype"])
        values = np.asarray(facts["values"], dtype="i8" if dtype.kind in "mM" else None)
        values = values.astype(dtype)
    if values.ndim != len(facts["axes"]):
        raise ValueError("the record does not fit the pixels")
    return Coordinate(tuple(facts["axes"]), values, dict(facts["attrs"]))


def select(image: Image, indexers: Mapping[Hashable, Any]) -> tuple[Image, dict[str, int]]:
    """Return the part of an image, still unread, and the axes that an index of one sample leaves out.

    Parameters
    ----------
    image : Image
    indexers : mapping
        For each axis an index (int), a label (text or float), a slice of either, or a list of either.

    Raises
    ------
    AxesError
        If the image lacks an axis.
    LookupError
        If there is no such index or label.
    """
    sizes = image.sizes
    if unknown := [a for a in indexers if a not in sizes]:
        raise AxesError(f"partition names the axis {unknown[0]!r}, but the image has {spell(tuple(sizes))!r}")
    coords = image._xarray_coords()
    keys = {str(a): _positions(str(a), key, sizes[str(a)], coords.get(str(a))) for a, key in indexers.items()}
    variables = {
        n: replace(v, pixels=v.pixels.select([_kept(keys.get(a, slice(None))) for a in v.axes]))
        for n, v in image.variables.items()
    }
    explicit = {}
    for name, c in coords.items():  # evenly spaced ones too: a part of them need not start at the origin
        picked = c[tuple(_kept(keys.get(str(a), slice(None))) for a in c.dims)]
        explicit[name] = Coordinate(tuple(map(str, c.dims)), np.asarray(picked.values), dict(c.attrs))
    dropped = {a: 0 for a, key in keys.items() if isinstance(key, int)}
    return replace(image, variables=variables, coords=explicit), dropped


def _kept(key: Any) -> Any:
    return [key] if isinstance(key, int) else key


def _positions(axis: str, key: Any, n: int, coord: xr.Variable | None) -> int | slice | list[int]:
    def position(label: Any) -> int:
        if isinstance(label, (bool, np.bool_)):
            raise IndexError(f"partition of {axis!r}: expected an index or a label, got {label!r}")
        if isinstance(label, (int, np.integer)):
            if not -n <= label < n:
                raise IndexError(f"partition of {axis!r}: index {int(label)} is out of range for {n} samples")
            return int(label) % n
        if coord is None:
            raise KeyError(
                f"partition of {axis!r}: there is no label {label!r}, the axis has no coordinate; use an index"
            )
        values = coord.values
        if isinstance(label, (float, np.floating)) and values.dtype.kind in "iuf":
            nearest = int(np.abs(values - label).argmin())
            step = np.abs(np.diff(values)).min() if n > 1 else 1.0
            if abs(values[nearest] - label) <= 1e-6 * max(step, 1e-300) + 4 * np.spacing(abs(float(label))):
                return nearest
        elif (found := np.flatnonzero(values == label)).size:
            return int(found[0])
        shown = ", ".join(map(str, values[:8])) + (", …" if n > 8 else "")
        raise KeyError(f"partition of {axis!r}: no label {label!r}; there are {shown}")

    if isinstance(key, slice):
        if all(k is None or isinstance(k, (int, np.integer)) for k in (key.start, key.stop)):
            return key
        if coord is not None and coord.dtype.kind in "iuf":  # a range of positions, ends included as in xarray
            values = coord.values
            slack = 1e-6 * np.abs(np.diff(values)).min() if n > 1 else 0.0  # 3 * 0.2 is a little more than 0.6
            low = -np.inf if key.start is None else key.start - slack
            high = np.inf if key.stop is None else key.stop + slack
            return np.flatnonzero((values >= low) & (values <= high))[:: key.step].tolist()
        start = None if key.start is None else position(key.start)
        return slice(start, None if key.stop is None else position(key.stop) + 1, key.step)
    if isinstance(key, (list, tuple, range, np.ndarray)):
        array = np.asarray(key)
        if array.dtype.kind == "b" and array.shape == (n,):
            return np.flatnonzero(array).tolist()
        return [position(k) for k in key]
    return position(key)
