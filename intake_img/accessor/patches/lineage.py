"""From an xarray variable to the unread pixels of its file behind dask, and to uncompressed bytes if there are any."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.reading import FileReader
from intake_img.model.datasets import data_of
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Cast, Dask, Memory, Reshaped, Selected, Transposed
from intake_img.storage.locks import SafeLock, finally_call

__all__ = ["cast", "computed_array", "file_readers", "is_computed", "mapped_view", "pixels_of"]

_MOST_MAPS = 16


def pixels_of(variable: xr.Variable) -> Pixels:
    """Return the pixels of a variable, without reading them.

    A dask array leads to the reader of its file if only selections and transpositions were applied since it was opened.
    """
    return Pixels.of(data_of(variable))


def is_computed(pixels: Pixels) -> bool:
    """Whether reading the pixels runs a dask graph."""
    reader: Any = pixels.reader
    while reader is not None and not isinstance(reader, Dask):
        reader = getattr(reader, "reader", None)
    return reader is not None


def cast(pixels: Pixels, dtype: np.dtype) -> Pixels:
    """Return pixels as another dtype; for computed pixels, the cast is part of the graph."""
    if pixels.dtype == dtype:
        return pixels
    array = computed_array(pixels.reader)
    return pixels.astype(dtype) if array is None else Pixels.of(array.astype(dtype))


def computed_array(reader: Any) -> Any:
    """Return the dask array that a reader computes, None if there is none."""
    if isinstance(reader, Dask):
        return reader.array
    return None


def file_readers(reader: Any, most: int) -> tuple[FileReader, ...]:
    """Return the underlying file readers of a reader; none if they are more than `most`."""
    if isinstance(reader, FileReader):
        return (reader,)
    inner = getattr(reader, "readers", None) or ([r] if (r := getattr(reader, "reader", None)) is not None else [])
    if len(inner) > most:
        return ()
    found = tuple(f for r in inner for f in file_readers(r, most))
    return found if len(found) <= most else ()


def mapped_view(reader: Any) -> np.ndarray | None:
    """Return the array of a reader as a view, if it is in memory or uncompressed in a local file.

    Its dtype may differ from the dtype of the reader's pixels, in byte order or by a pending cast.
    """
    if isinstance(reader, Memory):
        return reader.array
    if isinstance(reader, FileReader):
        return _MAPS.view(reader)
    if isinstance(reader, (Transposed, Reshaped, Selected, Cast)):
        inner = mapped_view(reader.reader)
        return None if inner is None else _through(reader, inner)
    return None


def _through(reader: Any, view: np.ndarray) -> np.ndarray | None:
    """Apply a wrapping reader to a view; None if the result cannot be a view."""
    if isinstance(reader, Transposed):
        return view.transpose(reader.order)
    if isinstance(reader, Selected):
        steps = [i for i in reader.indices if isinstance(i, range) and i.step > 0]
        if len(steps) < view.ndim:
            return None
        key: Any = tuple(slice(i.start, i.stop, i.step) for i in steps)
        return view[key]
    if isinstance(reader, Reshaped):
        kept = [k for k in reader.axes if k is not None]
        if any(view.shape[k] != 1 for k in range(view.ndim) if k not in kept):
            return None
        whole = view.transpose([*kept, *(k for k in range(view.ndim) if k not in kept)])
        left: Any = (..., *[0] * (view.ndim - len(kept)))
        spread: Any = tuple(None if k is None else slice(None) for k in reader.axes)
        return whole[left][spread]
    return view


class _Maps:
    """Memory maps of local files, a few at a time; a map keeps its file open."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = SafeLock()
        self._views: OrderedDict[Any, np.ndarray | None] = OrderedDict()

    def view(self, reader: FileReader) -> np.ndarray | None:
        key = (reader.key, repr(reader.address))
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
                return self._views[key]
        view = _map(reader)
        finally_call(reader, self._forget, key)
        with self._lock:
            self._views[key] = view
            while len(self._views) > self.most:
                self._views.popitem(last=False)
        return view

    def _forget(self, key: Any) -> None:
        with self._lock:
            self._views.pop(key, None)


def _map(reader: FileReader) -> np.ndarray | None:
    reader.check()
    view = reader.mapped()
    return None if view is None or view.size == 0 else view


_MAPS = _Maps(_MOST_MAPS)
