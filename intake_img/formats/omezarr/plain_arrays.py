"""Plain Zarr arrays: the names of their axes, packed numbers, and unsupported arrays."""

from __future__ import annotations

import base64
import contextlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.omezarr.write import PACKED
from intake_img.model.axes import default_axes

__all__ = ["check_array", "coordinate_names", "decoded", "dimensions", "is_packed", "with_found_separator"]


_MOST_BYTES = 2**50
_LARGE_CHUNK = 2**28
_MOST_RATIO = 64


def _nbytes(array: Any) -> int:
    return math.prod(array.shape) * int(array.dtype.itemsize)  # zarr's own number may overflow


def dimensions(array: Any) -> tuple[str, ...]:
    """Names of the axes of an array, as Zarr itself knows them, else the last of the canonical ones."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(named, (list, tuple)) and len(named) == array.ndim and len(set(named)) == len(named):
        spare = [a for a in "xyzctihabdefgjklmn" if a not in named]
        names = [str(n) if n else None for n in named]
        return tuple(reversed([n or spare.pop(0) for n in reversed(names)]))
    return default_axes(array.ndim)


def coordinate_names(attributes: Mapping[str, Any], arrays: Mapping[str, Any]) -> set[str]:
    """Names of arrays that are coordinates, by the rules of xarray: dimensions, and what ``coordinates`` lists."""
    listed = [attributes.get("coordinates"), *(a.attrs.get("coordinates") for a in arrays.values())]
    names = {n for text in listed if isinstance(text, str) for n in text.split()}
    names |= {d for a in arrays.values() for d in dimensions(a) if d in arrays and arrays[d].ndim == 1}
    return names & set(arrays)


def is_packed(array: Any) -> bool:
    """True for arrays whose numbers stand for others, by the CF conventions that xarray writes."""
    attrs = array.attrs
    masked = ("_FillValue" in attrs and array.dtype.kind in "iu") or "missing_value" in attrs
    unpacked = any(k in attrs for k in PACKED) or attrs.get("dtype") == "bool" or " since " in str(attrs.get("units"))
    return masked or unpacked


def decoded(array: Any, values: np.ndarray) -> xr.Variable:
    variable = xr.Variable(dimensions(array), values, _cf_attrs(array))
    return xr.conventions.decode_cf_variable("array", variable, decode_timedelta=False)


def _cf_attrs(array: Any) -> dict[str, Any]:
    attrs = {k: v for k, v in dict(array.attrs).items() if k not in ("_ARRAY_DIMENSIONS", "coordinates")}
    if array.metadata.zarr_format == 2 and any(k in attrs for k in PACKED) and array.fill_value is not None:
        attrs["_FillValue"] = array.fill_value  # there, xarray keeps it in its own place
    elif isinstance(text := attrs.get("_FillValue"), str):
        fill = _fill_value(text, array)
        attrs = {**attrs, "_FillValue": fill} if fill is not None else {k: attrs[k] for k in attrs if k != "_FillValue"}
    return attrs


def _fill_value(text: str, array: Any) -> Any:
    """Return the missing value that xarray wrote as text (a float64 in base64), or that of the array.

    Early releases of xarray for Zarr format 3 wrote NaN there, and left 0 as the fill value of the array.
    """
    if array.dtype.kind == "f":
        with contextlib.suppress(ValueError, struct.error):
            return struct.unpack("<d", base64.b64decode(text, validate=True))[0]
    return array.fill_value if array.dtype.kind in "iuf" else None


def check_array(array: Any, name: str) -> None:
    """Raise `FormatError` if an array cannot be an image, or asks for chunks that are far larger than itself."""
    if array.dtype.kind not in "biufc" or any(n < 0 for n in array.shape) or _nbytes(array) > _MOST_BYTES:
        raise FormatError(f"{name} has dtype {array.dtype} and shape {array.shape}: no image")
    _check_chunk(array, name)


def _check_chunk(array: Any, name: str) -> None:
    """Raise `FormatError` if a chunk of an array is large, and many times as large as the array itself.

    Reading a pixel would allocate the complete chunk.
    """
    try:
        chunk = math.prod(array.chunks)
    except NotImplementedError:  # chunks of unequal lengths add up to the array's
        return
    nbytes = chunk * array.dtype.itemsize
    if nbytes > max(_LARGE_CHUNK, _MOST_RATIO * array.nbytes):
        raise FormatError(
            f"{name} has shape {array.shape} but chunks of shape {array.chunks} ({nbytes / 2**30:.3g} GiB each): a "
            f"chunk of more than {_LARGE_CHUNK >> 20} MiB may be at most {_MOST_RATIO} times as large as its array; "
            "write the array again with smaller chunks"
        )


def with_found_separator(array: Any, folder: str | None) -> Any:
    """Return an array of Zarr format 2 with the chunk separator that its keys have.

    Writers of nested stores used to leave out ``dimension_separator``, which then means ``"."``: all chunks would seem
    to be missing. In a local folder the first chunk that is listed decides, in other stores the one at the origin.

    Parameters
    ----------
    array : zarr.Array
    folder : str or None
        The local folder of the array, if it is one.
    """
    metadata = array.metadata
    if metadata.zarr_format != 2 or array.ndim < 2 or metadata.dimension_separator != ".":
        return array
    nested = _nested_folder(folder) if folder is not None else _nested_store(array)
    if not nested:
        return array
    from zarr import Array, AsyncArray

    described = replace(metadata, dimension_separator="/")
    return Array(AsyncArray(described, store_path=array.store_path))


def _nested_folder(folder: str) -> bool:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[:1].isdigit():
                return entry.name.isdigit() and entry.is_dir()
    return False


def _nested_store(array: Any) -> bool:
    import zarr
    import zarr.core.sync

    def there(separator: str) -> bool:
        return bool(zarr.core.sync.sync((array.store_path / separator.join("0" * array.ndim)).exists()))

    return not there(".") and there("/")
