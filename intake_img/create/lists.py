"""Batches of a list or an RDD as unread pixels, and series of files of one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.collections.sequence import DirectorySource, FilePatternSource, ImageListSource, SequenceSource
from intake_img.errors import AxesError, FormatError
from intake_img.model.axes import CANONICAL, check_axes
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels, stack
from intake_img.storage.files import File

__all__ = ["Items", "alike", "files_of", "lazy_dataset", "recounted", "series", "series_axes"]


def lazy_dataset(image: Image, chunks: Any, data: Callable[[Pixels], Any] | None = None) -> xr.Dataset:
    ds = image.to_xarray(chunks=chunks, data=data)
    ds.attrs = dict(image.attrs)  # not from a file
    return ds


def series_axes(ndim: int) -> tuple[str, ...]:
    """Axis names for a series of images: time first, then the channel."""
    known = {2: "yx", 3: "tyx", 4: "tzyx", 5: "tczyx", 6: "itczyx"}
    if ndim not in known:
        raise AxesError(f"an array of {ndim} axes has no names for them: pass axes=, a letter each")
    return tuple(known[ndim])


def alike(items: Sequence[np.ndarray]) -> np.ndarray:
    if not items:
        raise ValueError("expected at least one array, got an empty list")
    for k, item in enumerate(items):
        if item.shape != items[0].shape or item.dtype != items[0].dtype:
            raise ValueError(
                f"item {k} has shape {item.shape} and dtype {item.dtype}, but item 0 has {items[0].shape} and "
                f"{items[0].dtype}: the images of a series must have the same shape and dtype"
            )
    return np.stack(items)


@dataclass(frozen=True, eq=False)
class Items:
    """Evaluates one item of a list when its pixels are read."""

    items: tuple[Any, ...]
    accessor: Callable[[Any], Any] | None
    shape: tuple[int, ...]
    dtype: np.dtype

    def read_into(self, region: Region, out: np.ndarray) -> None:
        for n, k in enumerate(range(region[0].start, region[0].stop)):
            item = self.items[k]
            value = np.asarray(item if self.accessor is None else self.accessor(item))
            if value.shape != self.shape or value.dtype != self.dtype:
                raise FormatError(
                    f"item {k} has shape {value.shape} and dtype {value.dtype}, expected {self.shape} and {self.dtype}"
                )
            out[n] = value[region[1:]]


@dataclass(frozen=True, eq=False)
class _Batches:
    """Evaluates the files of the requested images, each once."""

    files: tuple[File, ...]
    accessor: Callable[[File], Any]
    stops: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    def read_into(self, region: Region, out: np.ndarray) -> None:
        start = 0
        for file, stop in zip(self.files, self.stops, strict=True):
            low, high = max(start, region[0].start), min(stop, region[0].stop)
            if low < high:
                images = np.asarray(self.accessor(file))
                if images.shape != (stop - start, *self.shape) or images.dtype != self.dtype:
                    raise FormatError(
                        f"{file}: the accessor returned {images.dtype} {images.shape}, and before {self.dtype} "
                        f"{(stop - start, *self.shape)}"
                    )
                place = slice(low - region[0].start, high - region[0].start)
                out[place] = images[(slice(low - start, high - start), *region[1:])]
            start = stop


def recounted(files: Sequence[File], accessor: Callable[[File], Any], axis: str, axes: str | None) -> xr.Dataset:
    """Evaluate all files only to count their images; each file is a chunk."""
    counts: list[int] = []
    first: np.ndarray | None = None
    for file in files:
        images = np.asarray(accessor(file))
        if images.ndim < 3:
            raise FormatError(f"{file}: the accessor returned shape {images.shape}: expected images on the first axis")
        if first is not None and (images.shape[1:] != first.shape or images.dtype != first.dtype):
            raise FormatError(
                f"{file} contains images of {images.dtype} {images.shape[1:]}, and {files[0]} of {first.dtype} "
                f"{first.shape}: the images of a series must have the same shape and dtype"
            )
        first = np.empty(images.shape[1:], images.dtype) if first is None else first
        counts.append(len(images))
    assert first is not None
    stops = tuple(int(n) for n in np.cumsum(counts))
    names = check_axes(axes, first.ndim) if axes is not None else tuple(CANONICAL[len(CANONICAL) - first.ndim :])
    reader = _Batches(tuple(files), accessor, stops, first.shape, first.dtype)
    tiles = (max(counts), *first.shape)
    pixels = Pixels(reader, (stops[-1], *first.shape), first.dtype, tiles, many_files=True)
    return lazy_dataset(Image({"image": Variable(pixels, (axis, *names))}), {axis: tuple(n for n in counts if n)})


def series(parts: Sequence[Pixels], names: Sequence[str]) -> Pixels:
    """Stack images, which must have the same shape and dtype."""
    for part in parts:
        if part.shape != parts[0].shape or part.dtype != parts[0].dtype:
            raise FormatError(
                f"the files {names[0]}, ... contain images of {parts[0].dtype} {parts[0].shape} and of {part.dtype} "
                f"{part.shape}: the images of a series must have the same shape and dtype"
            )
    tiles = (1, *parts[0].auto_block())
    return replace(stack(parts), tiles=tiles, many_files=True)


def _chosen(
    files: Sequence[Any], given: Any, start: int | None, stop: int | None, options: Mapping[str, Any]
) -> SequenceSource:
    """Return the source of a slice of a list of files."""
    from intake_img.collections.options import sequence_options

    chosen = list(files)[start:stop]
    if not chosen:
        raise FileNotFoundError(f"no file is left of {given!r}: start={start}, stop={stop}")
    return ImageListSource(chosen, **sequence_options(ImageListSource, options))


def files_of(
    path: Any,
    ext: str | None,
    start: int | None,
    stop: int | None,
    recursive: bool,
    axis: str,
    storage_options: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> SequenceSource:
    from intake_img.collections.options import sequence_options

    common = {"axis": axis, "storage_options": storage_options, **options}
    if isinstance(path, (list, tuple)):
        return _chosen(path, path, start, stop, common)
    file = File.parse(path, storage_options)
    if not file.is_folder() and file.exists():
        return _chosen([file], path, start, stop, common)
    common |= {"start": start, "stop": stop}
    if file.is_folder():
        return DirectorySource(file, ext=ext, recursive=recursive, **sequence_options(DirectorySource, common))
    return FilePatternSource(file, **sequence_options(FilePatternSource, common))
