"""Contents of groups: data arrays, coordinates, levels and labels, with their axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.handle import StoreHandle
from intake_img.formats.omezarr.plain_arrays import coordinate_names, decoded, dimensions
from intake_img.formats.omezarr.write import join
from intake_img.model.image import Coordinate

__all__ = ["axes_of", "coordinates", "data_arrays", "fitting", "labels_of", "sizes_of"]


def data_arrays(handle: StoreHandle, path: str) -> dict[str, Any]:
    """The arrays of a group that are images: numbers along axes, and no coordinates."""
    arrays = {n: a for n, a in handle.members(path).items() if hasattr(a, "dtype")}
    beside = coordinate_names(handle.attributes(path), arrays)
    data = {n: a for n, a in arrays.items() if n not in beside and a.dtype.kind in "biufc"}
    if any(a.ndim >= 2 for a in data.values()):
        return data
    named = any(getattr(a.metadata, "dimension_names", None) or "_ARRAY_DIMENSIONS" in a.attrs for a in data.values())
    return data if named else {}


def coordinates(
    handle: StoreHandle, path: str, arrays: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, Coordinate]:
    """The coordinates of a plain group, read and decoded."""
    found = {}
    for name in sorted(coordinate_names(handle.attributes(path), arrays)):
        array = arrays[name]
        axes = dimensions(array)
        if any(sizes.get(a) != n for a, n in zip(axes, array.shape, strict=True)) or array.nbytes > 2**28:
            continue
        variable = decoded(array, np.asarray(array[...]))
        values = np.asarray(variable.values)
        if values.dtype.kind in "UT":
            texts = values.astype(object)  # fails on damaged text, which pandas would choke on
            values = texts if values.dtype.kind == "T" else values
        found[name] = Coordinate(axes, values, dict(variable.attrs))
    return found


def sizes_of(handle: StoreHandle, path: str, image: ngff.Multiscale, level: int) -> dict[str, int]:
    array = handle.zarr_array(join(path, image.levels[level].path))
    return dict(zip(axes_of(image, array), array.shape, strict=True))


def axes_of(image: ngff.Multiscale, array: Any) -> tuple[str, ...]:
    """Axes as the metadata name them, as the array does, or (before 0.3) those that there were then."""
    if names := image.axis_names(array.ndim):
        return names
    if getattr(array.metadata, "dimension_names", None) or array.ndim > 5:
        return dimensions(array)
    return tuple("tczyx"[5 - array.ndim :])


def labels_of(handle: StoreHandle, path: str) -> list[str]:
    return ngff.label_paths(handle.ome(join(path, "labels")))


def fitting(
    handle: StoreHandle, path: str, sizes: Mapping[str, int]
) -> tuple[str, tuple[int, ...], tuple[str, ...]] | None:
    """Find the level of a label image that lies on the grid of an image of these sizes.

    Returns
    -------
    path : str
        Of its array.
    kept : tuple of int
        The axes of the array that the variable has; other axes have length 1 and cover the complete axis of the image.
    axes : tuple of str
    """
    images = ngff.multiscales(handle.ome(path))
    for level in range(len(images[0].levels) if images else 0):
        own = sizes_of(handle, path, images[0], level)
        axes = list(own)
        kept = tuple(k for k, a in enumerate(axes) if not (own[a] == 1 and sizes.get(a, 1) != 1))
        shared = [axes[k] for k in kept]
        new = any(a not in sizes and own[a] != 1 for a in shared)
        if not new and all(sizes.get(a, own[a]) == own[a] for a in shared):
            return join(path, images[0].levels[level].path), kept, tuple(shared)
    return None
