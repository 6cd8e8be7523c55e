"""Saving to OME-Zarr: in one go, in tasks of several processes, and into a store that is there.

`write` lays out an image in a store, `parallel` and `extend` fill its chunks, `target` is the store that is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

from intake_img.errors import CannotWriteError
from intake_img.formats.base import Format
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.describe import StoreImages
from intake_img.formats.omezarr.extend import append, fill, stored
from intake_img.formats.omezarr.growth import kept_stamps
from intake_img.formats.omezarr.parallel import Written
from intake_img.formats.omezarr.store import is_zip
from intake_img.formats.omezarr.target import Target
from intake_img.formats.omezarr.write import OURS, StoreLayout, write_coordinate
from intake_img.formats.reading import FileReader
from intake_img.model.engine import Tasks
from intake_img.model.image import Image
from intake_img.storage.files import File
from intake_img.storage.handles import POOL

__all__ = ["WritesStores"]

Finish = Callable[[Sequence[Written]], None]


class WritesStores(Format):
    """The part of the format that writes."""

    def many_variables(self, name: str) -> bool:
        return True

    def write(
        self,
        image: Image,
        path: str | File,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".zarr",
        version: str = "0.5",
        chunks: Any = None,
        shards: Any = None,
        pyramid: bool | int = False,
        levels: Sequence[Image] = (),
    ) -> None:
        """Write OME-Zarr: a folder, or a zip file.

        A variable whose axes NGFF can store (two or three of ``zyx``, ``t``, and ``c`` or one other) becomes a
        multiscale image, without further axes of length 1, which only the record keeps; integers with
        ``attrs["kind"] == "labels"`` beside an image become label images. If there is no such variable, the group is
        one that `xarray.open_zarr` opens. All else is kept in the attribute ``"intake_img"`` of the group, by which
        this package reads an equal Dataset back.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : bool or str, optional
            True or None for blosc (zstd with bit shuffling); False; ``"zstd"``, ``"gzip"``, ``"lz4"``, ``"lz4hc"``,
            ``"zlib"``, ``"blosclz"``.
        name : str
            Name of the target: gives the image's name in the metadata.
        version : {"0.5", "0.4"}
            Of OME-NGFF: 0.5 is Zarr format 3, 0.4 format 2.
        chunks : int, sequence of int or mapping, optional
            A length for y and x; one for each axis, in the order ``tczyx`` in which the file has them, or by name
            (-1: the full length). By default planes of at most 1024 x 1024, several together while they have less than
            a MiB.
        shards : bool, int, sequence of int or mapping, optional
            Put chunks together in files: True for files of at most 64 MiB of pixels, or lengths as for `chunks`.
            Version 0.5 alone.
        pyramid : bool or int
            Number of further levels, or True for as many as make y and x at most 256. Each halves y and x, and z where
            it is sampled at least as finely as y; samples are means of the level above (of labels and masks: the most
            frequent value), a last odd row is left out.
        levels : sequence of Image
            The further levels themselves, from the nodes of a DataTree.

        Raises
        ------
        CannotWriteError
            For dtypes that Zarr lacks, and options that do not fit.
        """
        layout = _layout(image, name, version, chunks, shards, pyramid, levels)
        with Target(path, _zarr_format(version), layout.room()) as target:
            layout.fill(target, compress, progress)
            for key, c in layout.coordinates.items():
                write_coordinate(target, key, c, compress)
            target.groups = layout.groups()

    def write_in_tasks(
        self,
        image: Image,
        path: str | File,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        **options: Any,
    ) -> tuple[Tasks, Finish]:
        """Make the arrays of a store in an empty folder, and return the tasks that fill them, and what completes it.

        Parameters
        ----------
        image, path, compress, progress, options
            See `write`. Variables that are in memory are written now.

        Returns
        -------
        tasks : Tasks
            Each returns a `Written`.
        finish : callable
            ``finish(written)`` writes the metadata, by which the folder becomes an image. It pickles.
        """
        layout = _layout(image, **options)
        tasks = layout.tasks(Target(path, _zarr_format(layout.version), {}), compress, progress)
        return tasks, partial(_finish, layout.without_pixels(), path, compress)

    def same(self, file: File, stamp: tuple[Any, ...]) -> bool:
        """Return whether a store is the one that had this stamp: the same, or longer by appends since."""
        now = self.stamp(file)
        if now == stamp:
            return True
        name = ".zattrs" if any(part[0] == ".zattrs" for part in now if isinstance(part, tuple)) else "zarr.json"
        return not is_zip(file) and stamp in kept_stamps(file, name, now, OURS)

    def extend(
        self,
        image: Image,
        file: File,
        *,
        append_dim: str | None = None,
        region: Any = None,
        progress: Callable[[int], None] | None = None,
        parallel: bool = False,
    ) -> None:
        """Write an image into a store that is there, at the end of an axis or in a region; see `Format.extend`."""
        reader = FileReader(self, file, self.stamp(file), options=self.options())
        POOL.use(reader.key, reader)
        with reader.lease() as handle:
            handle.renew()
            store = stored(cast(StoreImages, handle))
        stamp = partial(self.stamp, file)
        if append_dim is not None:
            append(store, image, append_dim, stamp, progress, parallel)
        else:
            fill(store, image, region, stamp, progress, parallel)


def _zarr_format(version: str) -> Literal[2, 3]:
    return 3 if version == "0.5" else 2


def _layout(
    image: Image,
    name: str = ".zarr",
    version: str = "0.5",
    chunks: Any = None,
    shards: Any = None,
    pyramid: bool | int = False,
    levels: Sequence[Image] = (),
) -> StoreLayout:
    if version not in ngff.VERSIONS:
        raise CannotWriteError(f"version={version!r}: OME-Zarr is written in {' or '.join(ngff.VERSIONS)}")
    if shards and version == "0.4":
        raise CannotWriteError("shards= needs version='0.5': Zarr format 2, which 0.4 uses, has no shards")
    if levels and pyramid:
        raise CannotWriteError("pyramid= makes levels, but the DataTree brings its own: give one of them")
    return StoreLayout(image, name, version, chunks, shards, pyramid, tuple(levels))


def _finish(layout: StoreLayout, path: str | File, compress: Any, written: Sequence[Written]) -> None:
    _remove_unfinished(File.parse(path))
    layout.look_back(written)
    with Target(path, _zarr_format(layout.version), {}) as target:
        for key, c in layout.coordinates.items():
            write_coordinate(target, key, c, compress)
        target.groups = layout.groups()


def _remove_unfinished(folder: File) -> None:
    """Remove what killed workers left of chunks that others have written since."""
    for place, _, names in os.walk(folder.path) if folder.local else ():
        for name in names:
            if name.endswith(".partial"):
                os.unlink(os.path.join(place, name))
