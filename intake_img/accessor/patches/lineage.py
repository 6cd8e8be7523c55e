"""From an xarray variable to the unread pixels of its file, beneath dask."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from intake_img.image import _data
from intake_img.lazy import Pixels, _Dask, _Memory
from intake_img.source import FileReader

__all__ = ["computed_array", "file_readers", "is_computed", "mapped_view", "pixels_of"]


def pixels_of(variable: xr.Variable) -> Pixels:
    """Return the pixels of a variable, without reading them."""
    return Pixels.of(_data(variable))


def is_computed(pixels: Pixels) -> bool:
    """Whether reading the pixels runs a dask graph."""
    reader: Any = pixels.reader
    while reader is not None and not isinstance(reader, _Dask):
        reader = getattr(reader, "reader", None)
    return reader is not None


def computed_array(reader: Any) -> Any:
    """Return the dask array behind a reader, None if there is none."""
    return reader.array if isinstance(reader, _Dask) else None


def file_readers(reader: Any, most: int) -> tuple[FileReader, ...]:
    """Return the readers of files beneath a reader; none if they are more than `most`."""
    if isinstance(reader, FileReader):
        return (reader,)
    inner = getattr(reader, "readers", None) or ([r] if (r := getattr(reader, "reader", None)) is not None else [])
    if len(inner) > most:
        return ()
    found = tuple(f for r in inner for f in file_readers(r, most))
    return found if len(found) <= most else ()


def mapped_view(reader: Any) -> np.ndarray | None:
    """Return the array that a reader reads from, if that lies in memory or in a file as plain bytes."""
    if isinstance(reader, _Memory):
        return reader.array
    return None
