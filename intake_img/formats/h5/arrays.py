"""Arrays in HDF5 files, read region by region.

Plain bytes are read, or mapped, without HDF5. Other arrays of a local file are read by h5py. Of a remote file the
chunks that a region meets are fetched together, outside the lock of HDF5, and become a small file in memory, which HDF5
decodes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError, MissingExtraError, warn
from intake_img.formats.base import RawArray, StoredArray
from intake_img.formats.h5.file import H5File, h5py_module, item_at
from intake_img.model.chunks import Region

__all__ = ["ArrayGrid", "dtype_of", "read_stored", "stored_array"]

_SMALL = 2**18  # bytes that are copied in less time than h5py takes to read into an array that is there


def dtype_of(dataset: Any) -> np.dtype | None:
    """Return the dtype of a dataset's numbers in native byte order; None if they are not numbers."""
    return _native(_stored_dtype(dataset))


def _native(dtype: np.dtype | None) -> np.dtype | None:
    return None if dtype is None else dtype.newbyteorder("=")


def _stored_dtype(dataset: Any) -> np.dtype | None:
    """The dtype of numbers in the byte order of the file; records of a real and an imaginary number are complex."""
    try:
        dtype = dataset.dtype
    except TypeError:  # of HDF5's types some have no equivalent
        return None
    if dtype.kind == "V" and re.fullmatch(r"re?[^,]*,im?[^,]*", ",".join(dtype.names or ())):
        first, second = (dtype[k] for k in range(2))
        pair = first == second and first.str[1:] in ("f4", "f8") and dtype.itemsize == 2 * first.itemsize
        return np.dtype(f"{first.str[0]}c{dtype.itemsize}") if pair else None
    return np.dtype(dtype.str) if dtype.kind in "biufc" else None  # without h5py's notes on enumerations


def read_stored(stored: Any, column: int | None = None) -> np.ndarray:
    """Return the values of a low-level dataset; by h5py's own class a few numbers take five times as long.

    Parameters
    ----------
    stored : h5py.h5d.DatasetID
    column : int, optional
        Only these values along the second of two axes.
    """
    h5s = h5py_module().h5s
    if column is None:
        values = np.zeros(stored.shape, stored.dtype)
        stored.read(h5s.ALL, h5s.ALL, values)
        return values
    values, there = np.zeros(stored.shape[:1], stored.dtype), stored.get_space()
    there.select_hyperslab((0, column), (values.size, 1))
    stored.read(h5s.create_simple((values.size, 1)), there, values)
    return values


def stored_array(h5: H5File, path: str) -> StoredArray:
    """Return the array at a path.

    Raises
    ------
    FormatError
        If it contains no numbers, or reaches beyond the end of the file.
    MissingExtraError
        If it is compressed by a filter that is not installed.
    """
    dataset = None if h5.local is None else item_at(h5.local, path)
    layout = h5.run(lambda f: _Layout.of(f[path])) if dataset is None else _Layout.of(dataset)
    if layout.dtype is None:
        raise FormatError(f"{path} contains no numbers")
    if layout.elsewhere:
        _check_elsewhere(h5, path, layout)
    if layout.offset is not None:
        end = layout.offset + math.prod(layout.shape) * layout.stored.itemsize
        if end > h5.source.size:
            raise FormatError(f"{path} of shape {layout.shape} ends at byte {end}, the file at {h5.source.size}")
        return RawArray(h5.source, layout.offset, layout.stored, layout.shape)
    _check_filters(f"{path} of {h5.file}", layout.filters)
    if dataset is None and layout.chunks:
        return _RemoteChunks(h5, path, layout)
    return _Dataset(h5, path, layout, dataset)


@dataclass(frozen=True)
class _Layout:
    """How a dataset is stored."""

    shape: tuple[int, ...]
    dtype: np.dtype | None
    stored: np.dtype
    chunks: tuple[int, ...] | None
    offset: int | None
    filters: tuple[tuple[int, str], ...]
    elsewhere: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Any) -> _Layout:
        h5d, plist = h5py_module().h5d, dataset.id.get_create_plist()
        kind = plist.get_layout()
        chunks, virtual = plist.get_chunk() if kind == h5d.CHUNKED else None, kind == h5d.VIRTUAL
        codes = [plist.get_filter(k) for k in range(plist.get_nfilters())]
        filters = tuple((int(f[0]), bytes(f[3]).decode(errors="replace")) for f in codes)
        names = [source.file_name for source in dataset.virtual_sources()] if virtual else []
        names += [name for name, *_ in dataset.external or ()] if plist.get_external_count() else []
        stored = _stored_dtype(dataset)
        plain = not (chunks or filters or names or virtual) and stored is not None
        offset = dataset.id.get_offset() if plain and _is_plain(dataset) else None
        elsewhere = tuple(name for name in names if name != ".")
        return cls(dataset.id.shape, _native(stored), stored or np.dtype("V1"), chunks, offset, filters, elsewhere)

    @property
    def tiles(self) -> tuple[int, ...]:
        return self.chunks or (1,) * (len(self.shape) - 1) + self.shape[-1:]


def _is_plain(dataset: Any) -> bool:
    """Whether the bytes are numpy's: HDF5 knows numbers of any count of bits."""
    h5t = h5py_module().h5t
    return bool(h5t.py_create(dataset.dtype, logical=True).equal(dataset.id.get_type()))


def _check_elsewhere(h5: H5File, path: str, layout: _Layout) -> None:
    """Refuse pixels in other files where these must not be opened; warn of those that are not there."""
    names = ", ".join(layout.elsewhere[:3]) + ", …" * (len(layout.elsewhere) > 3)
    if h5.local is None or h5.file.jail is not None:
        raise FormatError(
            f"{h5.file}: the pixels of {path} are in other files ({names}), which are not opened "
            + (
                "on behalf of a catalog"
                if h5.file.jail is not None
                else "on a server: copy all of them, and open the copy"
            )
        )
    lost = [name for name in set(layout.elsewhere) if "%" not in name and not h5.file.sibling(name).exists()]
    if lost:
        warn(
            f"{h5.file}: {len(lost)} files with pixels of {path} are missing ({lost[0]}): these read as the fill value"
        )


def _check_filters(what: str, filters: Sequence[tuple[int, str]]) -> None:
    available = h5py_module().h5z.filter_avail
    if all(available(code) for code, _ in filters):
        return
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401  (registers its filters)
    for code, name in filters:
        if not available(code):
            which = f"{code} ({name.partition(';')[0].strip()})" if name else str(code)
            raise MissingExtraError("hdf5plugin", "hdf5plugin", f"reading {what}, compressed by HDF5's filter {which},")


class _Dataset(StoredArray):
    """An array that HDF5 reads."""

    parallel = False  # HDF5 has one lock

    def __init__(self, h5: H5File, path: str, layout: _Layout, dataset: Any) -> None:
        self.h5, self.path = h5, path
        assert layout.dtype is not None
        self.shape, self.dtype, self.tiles = layout.shape, layout.dtype, layout.tiles
        self.decodes = bool(layout.filters)
        self.open = dataset  # keeps its decoded chunks
        if layout.elsewhere:  # only by its name HDF5 finds files beside it
            self.open = h5py_module().File(h5.file.path, "r")[path]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if self.open is not None:
            _read(self.open, region, out)
        else:
            self.h5.run(lambda f: _read(f[self.path], region, out))


def _read(dataset: Any, region: Region, out: np.ndarray) -> None:
    if dataset.dtype.kind == "V":  # HDF5 would match the fields by name
        out[...] = dataset[region].view(_stored_dtype(dataset))
    elif out.flags.c_contiguous and out.nbytes > _SMALL:
        dataset.read_direct(out, region)
    else:
        out[...] = dataset[region]


class _RemoteChunks(StoredArray):
    """A chunked array of a remote file."""

    def __init__(self, h5: H5File, path: str, layout: _Layout) -> None:
        self.h5, self.path = h5, path
        assert layout.dtype is not None
        assert layout.chunks is not None
        self.shape, self.dtype, self.tiles = layout.shape, layout.dtype, layout.chunks
        self._index: dict[tuple[int, ...], tuple[int, int, int]] | None = None
        self._kind: tuple[Any, Any] = (None, None)

    def _chunks(self) -> dict[tuple[int, ...], tuple[int, int, int]]:
        """Offset, size and filter mask of each chunk, by the index of its first pixel."""
        if self._index is None:
            self._kind, self._index = self.h5.run(lambda f: _index_of(f[self.path]))
        return self._index

    def read_into(self, region: Region, out: np.ndarray) -> None:
        index = self._chunks()
        firsts = [range(s.start // t * t, s.stop, t) for s, t in zip(region, self.tiles, strict=True)]
        there = [place for place in itertools.product(*firsts) if place in index]
        found = [index[place] for place in there]
        data = self.h5.source.ranges([f[0] for f in found], [f[1] for f in found])
        corner = [f.start for f in firsts]
        places = [tuple(p - c for p, c in zip(place, corner, strict=True)) for place in there]
        box = tuple(min(f[-1] + t, n) - f.start for f, t, n in zip(firsts, self.tiles, self.shape, strict=True))
        part = tuple(slice(s.start - c, s.stop - c) for s, c in zip(region, corner, strict=True))
        masks = [f[2] for f in found]
        _decode(self._kind, box, list(zip(places, masks, data, strict=True)), part, out)


def _index_of(dataset: Any) -> tuple[tuple[Any, Any], dict[tuple[int, ...], tuple[int, int, int]]]:
    """Type and creation properties of a dataset, which outlive its file, and its chunks."""
    index: dict[tuple[int, ...], tuple[int, int, int]] = {}

    def note(chunk: Any) -> None:
        index[tuple(chunk.chunk_offset)] = (chunk.byte_offset, chunk.size, chunk.filter_mask)

    dataset.id.chunk_iter(note)
    plist = dataset.id.get_create_plist()
    plist.set_alloc_time(h5py_module().h5d.ALLOC_TIME_INCR)
    return (dataset.id.get_type().copy(), plist), index


def _decode(
    kind: tuple[Any, Any], box: tuple[int, ...], chunks: Sequence[tuple[Any, int, bytes]], part: Region, out: np.ndarray
) -> None:
    """Fill `out` with a part of a box of chunks as they are stored; those that are missing contain the fill value."""
    h5py = h5py_module()
    with h5py.File(uuid.uuid4().hex, "w", driver="core", backing_store=False) as f:
        made = h5py.h5d.create(f.id, b"box", kind[0], h5py.h5s.create_simple(box), kind[1])
        for place, mask, data in chunks:
            made.write_direct_chunk(place, data, mask)
        _read(h5py.Dataset(made), part, out)


class ArrayGrid(StoredArray):
    """Equal arrays in a grid, as one array with the axes of the grid in front.

    Parameters
    ----------
    lookup : callable
        Returns the `StoredArray` at a path.
    paths : ndarray of object
        A path for each place; None where the file contains nothing: zeros.
    shape : sequence of int
        Shape that each array is cut to: files pad them.
    dtype : numpy.dtype, optional
        What the bits of the pixels mean, where that is not what the file says.

    Raises
    ------
    FormatError
        If the first array is smaller than `shape`, or there is none.
    """

    parallel = False

    def __init__(
        self,
        lookup: Callable[[str], StoredArray],
        paths: np.ndarray,
        shape: Sequence[int],
        dtype: np.dtype | None = None,
    ) -> None:
        path = next((p for p in paths.ravel() if p is not None), None)
        if path is None:
            raise FormatError("it contains no pixels at all")
        self.lookup, self.paths, self.inner = lookup, paths, tuple(shape)
        first = self._checked(path, lookup(path))
        self.stored, self.dtype = first.dtype, dtype or first.dtype
        self.shape, self.tiles = paths.shape + self.inner, (1,) * paths.ndim + tuple(first.tiles)
        self.decodes = first.decodes

    def _checked(self, path: str, array: StoredArray) -> StoredArray:
        if len(array.shape) != len(self.inner) or any(n < m for n, m in zip(array.shape, self.inner, strict=True)):
            raise FormatError(f"{path} has the shape {array.shape}, but the stated shape of the image is {self.inner}")
        return array

    def read_into(self, region: Region, out: np.ndarray) -> None:
        lead, inner = region[: self.paths.ndim], region[self.paths.ndim :]
        for place in itertools.product(*(range(s.start, s.stop) for s in lead)):
            target = out[tuple(k - s.start for k, s in zip(place, lead, strict=True))]
            path = self.paths[place]
            if path is None:
                target[...] = 0
            else:
                self._read(path, inner, target)

    def _read(self, path: str, region: Region, target: np.ndarray) -> None:
        array = self._checked(path, self.lookup(path))
        if array.dtype == self.stored:
            array.read_into(region, target.view(self.stored))
        else:
            part = np.empty(target.shape, array.dtype)
            array.read_into(region, part)
            target[...] = part
