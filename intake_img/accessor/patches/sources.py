"""The sources of patches: images with their variables, each on its own pixel grid, aligned by coordinates.

This module converts the box of a patch, in pixels of the reference variable, to a box in pixels of another variable or
of a coarser level. It reads no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import aligned
from intake_img.accessor.patches.lineage import cast, is_computed, pixels_of
from intake_img.accessor.variables import is_categorical, is_image, spatial_axes
from intake_img.errors import AxesError
from intake_img.model.axes import SPATIAL, spell
from intake_img.model.datasets import FILE_ATTRS, spacing_of
from intake_img.model.pixels import Pixels
from intake_img.model.units import convert, differ

__all__ = ["Fit", "Layer", "Source", "as_datasets", "checked", "make_sources"]


@dataclass(frozen=True)
class Fit:
    """The map from pixels of the reference to pixels of an axis: ``own edge = scale * reference edge + shift``.

    Parameters
    ----------
    scale, shift : float
    size : int
        Pixels of a patch along the own axis.
    centred : bool
        Whether a patch keeps its centre and its number of pixels (a coarser level) rather than its box.
    """

    scale: float
    shift: float
    size: int
    centred: bool = False

    @property
    def same(self) -> bool:
        return self.scale == 1 and self.shift == 0

    def start(self, start: np.ndarray, size: int) -> np.ndarray:
        """Return the own first pixels of patches of `size` that begin at `start` on the reference."""
        if self.same:
            return start
        if self.centred:
            edge = self.scale * (start + size / 2) + self.shift - self.size / 2
        else:
            edge = self.scale * start + self.shift
        return np.floor(edge + 0.5 + 1e-9).astype(np.int64)

    def box(self, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first pixels, and the pixels after the last, of boxes on the reference, in own pixels; a box that
        is not empty has at least one. They may lie outside of the layer.
        """
        if self.same:
            return start, stop
        first, last = (np.floor(self.scale * e + self.shift + 0.5).astype(np.int64) for e in (start, stop))
        return first, np.maximum(last, first + (stop > start))

    def own_ends(self, n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return begin and end of each of the `n` own pixels on the reference, clipped to its `length`."""
        edges = ((np.arange(n + 1) - self.shift) / self.scale).clip(0, length)
        return edges[:-1], edges[1:]


@dataclass(frozen=True, eq=False)
class Layer:
    """One variable of a source: unread pixels, and the grid along the cut axes.

    Parameters
    ----------
    name : str
    pixels : Pixels
    dims : tuple of str
        Its axes.
    fits : mapping of str to Fit
        For each cut axis.
    kept : tuple of str
        Axes that patches keep at full length, in the names of the variable.
    names : mapping of str to str
        New names of axes in a Dataset of patches, if their length differs from that of the reference.
    attrs : mapping
    coords : mapping of str to xarray.Variable
        Coordinates of the cut axes, if they differ from those of the reference.
    """

    name: str
    pixels: Pixels
    dims: tuple[str, ...]
    fits: Mapping[str, Fit]
    kept: tuple[str, ...]
    names: Mapping[str, str]
    attrs: Mapping[str, Any]
    coords: Mapping[str, xr.Variable]

    @property
    def cut(self) -> tuple[str, ...]:
        """The cut axes, in the order of the data."""
        return tuple(d for d in self.dims if d in self.fits)

    @property
    def patch_dims(self) -> tuple[str, ...]:
        """Axes of a patch, named as in a Dataset of patches: the kept axes, then the cut axes."""
        return tuple(self.names.get(d, d) for d in (*self.kept, *self.cut))

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Shape of a patch of full size."""
        sizes = dict(zip(self.dims, self.pixels.shape, strict=True))
        return (*(sizes[d] for d in self.kept), *(self.fits[d].size for d in self.cut))


@dataclass(frozen=True, eq=False)
class Source:
    """An image to cut patches from.

    Parameters
    ----------
    number : int
    layers : mapping of str to Layer
        The first is the reference: plans count its pixels.
    coords : xarray.Dataset
        Coordinates and attributes of the image, without its variables.
    original : xarray.Dataset, optional
        The original image.
    """

    number: int
    layers: Mapping[str, Layer]
    coords: xr.Dataset
    original: xr.Dataset | None = None

    @property
    def reference(self) -> Layer:
        return next(iter(self.layers.values()))

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis of the reference variable."""
        return dict(zip(self.reference.dims, self.reference.pixels.shape, strict=True))

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(self.layers)

    @property
    def pixels(self) -> dict[str, Pixels]:
        """The unread pixels of each variable."""
        return {name: layer.pixels for name, layer in self.layers.items()}

    @property
    def uri(self) -> str:
        return str(self.coords.attrs.get("uri", ""))

    @property
    def scene(self) -> str:
        return str(self.coords.attrs.get("scene", ""))

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The lazy image: the original, or one rebuilt from the unread pixels of a pickle."""
        if self.original is not None:
            return self.original
        arrays = {
            n: xr.Variable(layer.dims, layer.pixels.dask(), dict(layer.attrs))
            for n, layer in self.layers.items()
            if not layer.names and not layer.coords
        }
        ds = xr.Dataset(arrays, attrs=self.coords.attrs)
        return ds.assign_coords({n: c.variable for n, c in self.coords.coords.items()})

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k != "dataset"}
        if not any(is_computed(layer.pixels) for layer in self.layers.values()):
            state["original"] = None  # names of files instead of a graph
        return state


def as_datasets(objects: Any, levels: Sequence[str] | None = None) -> tuple[list[xr.Dataset], list[Any]]:
    """Return the images in an xarray object or a list of them, and the coarser levels of the first.

    Parameters
    ----------
    objects : Dataset, DataArray, DataTree, or sequence of these
        Each node of a DataTree that has variables is an image.
    levels : sequence, optional
        Coarser levels: objects, or names of nodes of the DataTree.
    """
    given = [objects] if isinstance(objects, (xr.Dataset, xr.DataArray, xr.DataTree)) else list(objects)
    if not given:
        raise ValueError("there is no image to cut patches from: the list is empty")
    found: list[xr.Dataset] = []
    coarser: list[Any] = list(levels or [])
    for obj in given:
        if isinstance(obj, xr.DataTree):
            nodes = {n.path.strip("/") or "/": n.to_dataset() for n in obj.subtree if n.data_vars}
            if levels is not None:
                coarser = [_level(nodes, name) for name in levels]
                nodes = dict(list(nodes.items())[:1])
            found += [ds.assign_attrs(scene=ds.attrs.get("scene", path)) for path, ds in nodes.items()]
        else:
            found.append(_dataset(obj))
    return found, coarser


def _level(nodes: Mapping[str, xr.Dataset], name: Any) -> Any:
    if isinstance(name, (xr.Dataset, xr.DataArray)):
        return name
    key = str(name).strip("/")
    if key not in nodes:
        raise ValueError(f"levels={name!r}: the tree has no such node; it has {', '.join(map(repr, nodes))}")
    return nodes[key]


def _dataset(obj: Any) -> xr.Dataset:
    if isinstance(obj, xr.Dataset):
        return obj
    if isinstance(obj, xr.DataArray):
        name = str(obj.name) if obj.name is not None and obj.name not in obj.coords else "image"
        ds = obj.rename(None).to_dataset(name=name)
        return ds.assign_attrs({k: obj.attrs[k] for k in FILE_ATTRS if k in obj.attrs})
    raise TypeError(f"patches are cut from Datasets, DataArrays and DataTrees, not from {type(obj).__name__}")


def checked(ds: xr.Dataset, variables: Sequence[str] | None) -> list[str]:
    """Return the names of the variables to cut, the reference first."""
    names = [str(n) for n in ds.data_vars]
    if variables is not None:
        wanted = [variables] if isinstance(variables, str) else list(variables)
        if missing := [v for v in wanted if v not in names]:
            raise ValueError(f"variables={variables!r}: the Dataset has no {missing[0]!r}, it has {', '.join(names)}")
        if not wanted:
            raise ValueError("variables=[]: name at least one")
        return wanted
    grids = [n for n in names if is_image(ds[n]) or (is_categorical(ds[n]) and spatial_axes(ds[n]))]
    names = grids or [n for n in names if set(map(str, ds[n].dims)) & set(SPATIAL)] or names
    if not names:
        raise ValueError("the Dataset has no variable: there is nothing to cut patches from")
    first = "image" if "image" in names else names[0]
    return [first, *(n for n in names if n != first)]


def make_sources(
    datasets: Sequence[xr.Dataset],
    size: Mapping[str, int],
    over: Sequence[str],
    variables: Sequence[str] | None,
    paired: Mapping[str, Any] | None,
    levels: Sequence[Any] | None,
) -> tuple[Source, ...]:
    """Return the sources of patches of `size` pixels, all of the same variables, axes and sizes.

    Raises
    ------
    AxesError, ValueError
        If they differ, or a variable cannot be aligned.
    """
    sources = []
    for k, ds in enumerate(datasets):
        names = checked(ds, variables)
        reference = ds[names[0]]
        if missing := [a for a in (*size, *over) if a not in reference.dims]:
            raise AxesError(
                f"{names[0]!r} of source {k} has the axes {spell(tuple(map(str, reference.dims)))!r}, no {missing[0]!r}"
            )
        layers = {n: _layer(n, ds[n], size, over) for n in names}
        for name, other in (paired or {}).items():
            for own, array in _arrays(name, _of_source(other, k, len(datasets), f"paired[{name!r}]")):
                if own in layers:
                    raise ValueError(f"paired={name!r}: the source has a variable of this name; choose another")
                layers[own] = aligned_layer(own, array, reference, size, over, centred=False)
        for level, other in enumerate(levels or (), 1):
            coarse = _dataset(_of_source(other, k, len(datasets), "levels"))
            for n in [n for n in names if n in coarse.data_vars] or checked(coarse, None)[:1]:
                own = f"{n}_level{level}"
                layers[own] = aligned_layer(own, coarse[n], reference, size, over, centred=True)
        sources.append(Source(k, layers, ds.drop_vars(list(ds.data_vars)), ds))
    return _alike(sources)


def _of_source(other: Any, k: int, n: int, what: str) -> Any:
    if isinstance(other, (list, tuple)):
        if len(other) != n:
            raise ValueError(f"{what} is a list of {len(other)}, but there are {n} sources: expected one for each")
        return other[k]
    if n > 1:
        raise ValueError(f"{what}: there are {n} sources; give a list with one for each")
    return other


def _arrays(name: str, obj: Any) -> list[tuple[str, xr.DataArray]]:
    if isinstance(obj, xr.DataArray):
        return [(name, obj)]
    if not isinstance(obj, xr.Dataset):
        raise TypeError(f"paired[{name!r}] is {type(obj).__name__}: expected a DataArray or Dataset")
    names = checked(obj, None)
    return [(name if len(names) == 1 else f"{name}_{n}", obj[n]) for n in names]


def _layer(name: str, array: xr.DataArray, size: Mapping[str, int], over: Sequence[str]) -> Layer:
    dims = tuple(map(str, array.dims))
    fits = {a: Fit(1, 0, n) for a, n in size.items() if a in dims}
    if not fits:
        raise AxesError(f"{name!r} has the axes {spell(dims)!r}, none of {', '.join(size)}: leave it out (variables=)")
    kept = tuple(d for d in dims if d not in fits and d not in over)
    return Layer(name, pixels_of(array.variable), dims, fits, kept, {}, dict(array.attrs), {})


def aligned_layer(
    name: str,
    array: xr.DataArray,
    reference: xr.DataArray,
    size: Mapping[str, int],
    over: Sequence[str],
    centred: bool,
    cover: bool = True,
) -> Layer:
    """Return the layer of a variable on another grid; along axes that are iterated over it must cover the reference, or
    (`cover` False) is 0 elsewhere.
    """
    array = aligned(name, array, reference.isel({a: 0 for a in reference.dims if a not in over}), cover=cover)
    plain = _layer(name, array, size, over)
    fits, names, coords = {}, {}, {}
    for a in plain.cut:
        scale, shift = _alignment(name, array, reference, a, guess=centred)
        pixels = size[a] if centred else max(1, math.floor(size[a] * scale + 0.5))
        fits[a] = Fit(scale, shift, pixels, centred)
        first, last = fits[a].own_ends(array.sizes[a], reference.sizes[a])
        if array.sizes[a] and reference.sizes[a] and not (last > first).any():
            raise AxesError(
                f"{name!r} has no pixel in common with the image along {a!r}: its first pixel lies "
                f"{-shift / scale:.6g} pixels of the image beside that of the image; align them first, or "
                f"drop_vars({a!r}) to align by position"
            )
        if not fits[a].same:
            suffix = name.rpartition("_")[2] if centred else name
            names[a] = f"{a}_{suffix}"
            if a in array.coords:
                coords[a] = array[a].variable
    for a in plain.kept:
        if a in reference.dims and array.sizes[a] != reference.sizes[a]:
            names[a] = f"{a}_{name}"
    return replace(plain, fits=fits, names=names, coords=coords)


def _alignment(name: str, array: xr.DataArray, reference: xr.DataArray, axis: str, guess: bool) -> tuple[float, float]:
    """Return scale and shift between edges of pixels, from the coordinates of both."""
    own, ref = _line(array, axis), _line(reference, axis)
    if own is None or ref is None:
        if array.sizes[axis] == reference.sizes[axis]:
            return 1, 0
        if guess and own is None and ref is None:
            return array.sizes[axis] / reference.sizes[axis], 0
        lacks = name if own is None else str(reference.name or "the image")
        raise ValueError(
            f"{name!r} has {array.sizes[axis]} pixels along {axis!r}, the image {reference.sizes[axis]}: they are "
            f"aligned by coordinates, but {axis!r} of {lacks!r} has no evenly spaced one"
        )
    (origin, step, unit), (ref_origin, ref_step, ref_unit) = own, ref
    if differ(unit, ref_unit):
        origin, step = convert(origin, unit, ref_unit), convert(step, unit, ref_unit)
    scale = ref_step / step
    shift = (ref_origin - ref_step / 2 - origin) / step + 0.5
    if abs(scale - 1) < 1e-6 and abs(shift) < 1e-4:
        return 1, 0
    near = round(shift * 1024) / 1024  # coordinates are rounded; edges of pixels usually coincide
    return scale, near if abs(near - shift) < 1e-6 else shift


def _line(array: xr.DataArray, axis: str) -> tuple[float, float, str] | None:
    if axis not in array.coords or (step := spacing_of(array[axis])) is None:
        return None
    values = array[axis].values
    return float(values[0]), step, str(array[axis].attrs.get("units", ""))


def _alike(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Check that patches of all sources fit into one array, and promote their dtypes to a common one."""
    first = sources[0]
    for s in sources[1:]:
        if s.variables != first.variables:
            raise ValueError(
                f"source {s.number} has the variables {', '.join(s.variables)}, the first "
                f"{', '.join(first.variables)}: name those that all have (variables=)"
            )
        for name, layer in s.layers.items():
            other = first.layers[name]
            if (layer.kept, layer.cut) != (other.kept, other.cut) or layer.patch_shape != other.patch_shape:
                raise ValueError(
                    f"patches of {name!r} of source {s.number} are {_described(layer)}, of the first "
                    f"{_described(other)}: sources must have the same channels and axes; select equal "
                    "ones (ds.isel, ds.sel), or iterate (over=)"
                )
        if (names := _names(s)) != _names(first):
            raise ValueError(
                f"source {s.number} has the channels {names}, the first {_names(first)}: bring them into one order "
                "(ds.sel(c=[...])), or drop the names (ds.drop_vars('c'))"
            )
    dtypes = {n: np.result_type(*[s.layers[n].pixels.dtype for s in sources]) for n in first.variables}
    return tuple(
        replace(s, layers={n: replace(v, pixels=cast(v.pixels, dtypes[n])) for n, v in s.layers.items()})
        for s in sources
    )


def _names(source: Source) -> list[str] | None:
    if "c" not in source.reference.kept or "c" not in source.coords.coords:
        return None
    return [str(v) for v in np.ravel(source.coords["c"].values)]


def _described(layer: Layer) -> str:
    return ", ".join(f"{d}: {n}" for d, n in zip((*layer.kept, *layer.cut), layer.patch_shape, strict=True))
