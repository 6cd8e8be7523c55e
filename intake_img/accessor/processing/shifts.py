"""How far the images along an axis are shifted: one pair of whole images a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import neighbourhood
from intake_img.accessor.channels import channel_number
from intake_img.accessor.lengths import common_unit, step_of
from intake_img.accessor.picture_planes import position_on
from intake_img.accessor.processing.in_memory import each_shown, is_held
from intake_img.accessor.processing.regions import blocks_of
from intake_img.accessor.progress import bar
from intake_img.accessor.variables import lazy
from intake_img.errors import AxesError
from intake_img.kernels.translation import translation
from intake_img.model.axes import SPATIAL, spell
from intake_img.model.datasets import data_of
from intake_img.model.units import PIXEL

__all__ = ["Images", "at_place", "chosen_images", "measured_shifts"]

Place = tuple[int, ...]


@dataclass(frozen=True)
class Images:
    """Images to compare.

    Parameters
    ----------
    array : xarray.DataArray
        With the axes `outer`, `along` and `axes`, in this order.
    outer : tuple of str
        Axes along which each place has shifts of its own.
    along : str
    axes : tuple of str
        Of an image.
    reference : int, optional
        Index along the axis; None for the image before.
    """

    array: xr.DataArray
    outer: tuple[str, ...]
    along: str
    axes: tuple[str, ...]
    reference: int | None


def chosen_images(array: xr.DataArray, along: Any, reference: Any, dims: Any, place: Mapping[str, Any]) -> Images:
    """Return the images that `Registrations.measure_shifts` compares."""
    array = at_place(array, along, place)
    previous = isinstance(reference, str) and reference == "previous"
    index = None if previous else 0 if reference is None else _index("reference", array, along, reference)
    axes = neighbourhood(array, dims)
    outer = tuple(str(d) for d in array.dims if d != along and d not in axes)
    return Images(array.transpose(*outer, along, *axes), outer, along, axes, index)


def at_place(array: xr.DataArray, along: Any, place: Mapping[str, Any]) -> xr.DataArray:
    """Return what is measured: of other axes the place that is named, of channels one."""
    every = tuple(map(str, array.dims))
    if not isinstance(along, str) or along not in every or along in SPATIAL:
        raise AxesError(f"along={along!r}: expected an axis of {spell(every)!r} that is not space")
    for axis, key in place.items():
        if axis not in every or axis == along or axis in SPATIAL:
            raise AxesError(
                f"{axis}={key!r} is not a position to measure at; the axes are {spell(every)!r}, along={along!r}"
            )
        array = array.isel({axis: _index(axis, array, axis, key)}, drop=True)
    for axis in ("c", "s"):
        if axis in array.dims and axis != along:
            if array.sizes[axis] > 1:
                raise AxesError(
                    f"the image has {array.sizes[axis]} samples along {axis!r}: name the one whose shifts count for "
                    f"all, such as {axis}=0"
                )
            array = array.isel({axis: 0}, drop=True)
    if not array.size:
        raise AxesError(f"along={along!r}: the image is empty")
    return array


def _index(name: str, array: xr.DataArray, axis: str, key: Any) -> int:
    if isinstance(key, bool) or not isinstance(key, (int, float, str, np.number)):
        raise TypeError(f"{name}={key!r}: expected an index or a coordinate along {axis!r}")
    try:
        return channel_number(array, key) if axis == "c" else position_on(array, axis, key)
    except (AxesError, KeyError, IndexError) as exc:
        raise AxesError(f"{name}={key!r}: {exc.args[0]}") from exc


def measured_shifts(images: Images, options: Sequence[Any], physical: bool, progress: Any) -> xr.DataArray:
    """Return the shifts of images, as `Registrations.measure_shifts` describes them."""
    steps = [step_of(images.array, a) if physical else 1.0 for a in images.axes]
    lead = len(images.outer) + 1
    shape = images.array.shape[:lead]
    pairs = {
        (*outer, k): ((*outer, before), (*outer, k))
        for *outer, k in np.ndindex(*shape)
        if (before := _before(images.reference, k)) is not None
    }
    found = _compared_pairs(images.array, pairs, tuple(options), progress)
    shifts, alike = np.zeros((*shape, len(images.axes))), np.ones(shape)
    for place, (shift, correlation) in found.items():
        shifts[place], alike[place] = shift, correlation
    if images.reference is None:
        shifts = np.cumsum(shifts, axis=lead - 1)
    return _told(images, shifts * steps, alike, common_unit(images.array) if physical else PIXEL)


def _before(reference: int | None, k: int) -> int | None:
    """Return the image that another is compared with; None for one that stays where it is."""
    if reference is None:
        return k - 1 if k else None
    return reference if k != reference else None


def _compared_pairs(
    array: xr.DataArray, pairs: Mapping[Place, tuple[Place, Place]], options: Sequence[Any], progress: Any
) -> dict[Place, tuple[np.ndarray, float]]:
    """Return the shift and the correlation of each pair of images, which are named by their places."""
    if is_held(array):
        held = np.asarray(data_of(array.variable))
        found = each_shown(
            lambda pair: translation(held[pair[0]], held[pair[1]], *options),
            list(pairs.values()),
            progress,
            "measuring shifts",
        )
        return dict(zip(pairs, found, strict=True))
    import dask

    lead, data = len(next(iter(pairs), ())), lazy(array)
    blocks = blocks_of(data.rechunk({k: 1 if k < lead else -1 for k in range(data.ndim)}))
    blocks = blocks.reshape(blocks.shape[:lead])
    job = dask.delayed(partial(_compared, lead, options), pure=False)
    with bar(progress, "measuring shifts"):
        (computed,) = dask.compute({place: job(blocks[one], blocks[two]) for place, (one, two) in pairs.items()})
    return dict(computed)


def _compared(lead: int, options: Sequence[Any], one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, float]:
    return translation(one[(0,) * lead], two[(0,) * lead], *options)


def _told(images: Images, shifts: np.ndarray, alike: np.ndarray, unit: str | None) -> xr.DataArray:
    dims = (*images.outer, images.along)
    kept = {a: images.array[a].variable for a in dims if a in images.array.coords}
    coords = {**kept, "axis": list(images.axes), "correlation": (dims, alike)}
    attrs = {"units": unit or "1"}
    return xr.DataArray(shifts, dims=(*dims, "axis"), coords=coords, name="shift", attrs=attrs)
