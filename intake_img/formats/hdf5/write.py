"""HDF5 files that ilastik and Fiji open with their axes.

A variable is a dataset of its name at the root. Its axes are ilastik's ``axistags`` and ``axis_units``, the labels of
HDF5's dimensions, and Fiji's ``element_size_um``; the rest is in the record.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, UnitsError
from intake_img.formats.compression import codec_of
from intake_img.formats.h5.file import h5py_module
from intake_img.formats.h5.tree import attributes_of
from intake_img.formats.hdf5.record import RECORD, sealed_facts, variable_path, write_record
from intake_img.model.image import Image, Variable
from intake_img.model.record import seal_of
from intake_img.model.units import canonical, convert
from intake_img.storage.streams import iter_planes

__all__ = ["write_hdf5"]

_TYPE_FLAGS = {"c": 1, "x": 2, "y": 2, "z": 2, "t": 8}  # vigra::AxisType
_UNKNOWN = 64
_TILE = 256
_CODECS = {None: None, False: None, True: "gzip", "gzip": "gzip", "lzf": "lzf"}


def write_hdf5(image: Image, path: str, compress: Any, progress: Callable[[int], None] | None) -> None:
    """Write an image; for the parameters see `intake_img.formats.hdf5.driver.Hdf5.write`."""
    codec = codec_of(compress, _CODECS, "HDF5")
    if clash := [name for name in image.variables if variable_path(name) in ("", RECORD)]:
        raise CannotWriteError(f"a variable cannot be called {clash[0]!r} in HDF5 files: rename it")
    h5py = h5py_module("writing HDF5 files")
    facts = []
    with open(path, "w+b") as stream, h5py.File(stream, "w") as f:  # HDF5's own files crash the process on a full disk
        for name, variable in image.variables.items():
            dataset = _write_pixels(f, variable_path(name), variable, codec, progress)
            _write_axes(dataset, image, variable)
            facts.append(sealed_facts(attributes_of(dataset)))
        write_record(f, {"seal": seal_of(*facts), **image.record()})


def _write_pixels(
    f: Any, path: str, variable: Variable, codec: str | None, progress: Callable[[int], None] | None
) -> Any:
    pixels = variable.pixels
    if pixels.dtype.kind not in "biufc":
        raise CannotWriteError(f"dtype {pixels.dtype} is not supported: expected numbers")
    plane = min(2, pixels.ndim)
    if "y" in variable.axes and "x" in variable.axes:  # complete planes, with the axes within a pixel
        plane = pixels.ndim - min(variable.axes.index(a) for a in "yx")
    options: dict[str, Any] = {"track_times": False}
    if codec and pixels.size and pixels.ndim:
        options |= {"compression": codec, "shuffle": True, "chunks": _chunks(variable, plane)}
    dataset = f.create_dataset(path, pixels.shape, pixels.dtype, **options)
    lead = np.ndindex(pixels.shape[: pixels.ndim - plane])
    for place, values in zip(lead, iter_planes(pixels, plane), strict=False):
        dataset[(*place, ...)] = values
        if progress is not None:
            progress(values.nbytes)
    return dataset


def _chunks(variable: Variable, plane: int) -> tuple[int, ...]:
    """One plane high, so that no chunk is compressed twice."""
    shape = variable.pixels.shape
    return tuple(1 if k < len(shape) - plane else min(n, _TILE) for k, n in enumerate(shape))


def _write_axes(dataset: Any, image: Image, variable: Variable) -> None:
    units = {a: unit for a in variable.axes if (unit := canonical(image.units.get(a)))}
    tags = [
        {
            "key": axis,
            "typeFlags": _TYPE_FLAGS.get(axis, _UNKNOWN),
            "resolution": float(image.spacing.get(axis, 0.0)),
            "description": "",
        }
        for axis in variable.axes
    ]
    dataset.attrs["axistags"] = json.dumps({"axes": tags})
    dataset.attrs["axis_units"] = json.dumps({a: units.get(a, "") for a in variable.axes})
    for axis, dimension in zip(variable.axes, dataset.dims, strict=True):
        dimension.label = axis
    if variable.kind == "labels":
        dataset.attrs["display_mode"] = "random-colortable"
    sizes = [_micrometres(image.spacing.get(axis), units.get(axis)) for axis in "zyx"]
    if all(sizes[1:]) and (sizes[0] or "z" not in variable.axes):
        dataset.attrs["element_size_um"] = np.array([sizes[0] or 1.0, *sizes[1:]], np.float32)


def _micrometres(spacing: float | None, unit: str | None) -> float | None:
    with contextlib.suppress(UnitsError, ValueError):
        return convert(spacing, unit, "µm") if spacing and unit else None
    return None
