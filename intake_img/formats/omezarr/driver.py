"""OME-Zarr 0.1 to 0.5, and any other Zarr group or array: folders, zip files and remote stores.

The driver's contract alone: `scenes` finds the images of a store, `handle` keeps it open, `contents` and `arrays` know
what it holds; `write` lays out an image in a store, `metadata` spells the metadata, `store` reads and writes chunks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.arguments import check_level
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.arrays import decoded, dimensions, is_packed
from intake_img.formats.omezarr.contents import axes_of, coordinates, data_arrays, fitting, labels_of
from intake_img.formats.omezarr.handle import Handle
from intake_img.formats.omezarr.parallel import Written
from intake_img.formats.omezarr.record import level_record, record_of
from intake_img.formats.omezarr.scenes import Scene, scenes_of
from intake_img.formats.omezarr.store import METADATA_FILES, is_zip, read_array, tiles_of
from intake_img.formats.omezarr.target import Target
from intake_img.formats.omezarr.write import OURS, Layout, join, write_coordinate
from intake_img.formats.reading import Probe
from intake_img.formats.source import ImageSource
from intake_img.model.axes import CANONICAL
from intake_img.model.chunks import Region
from intake_img.model.datasets import FILE_ATTRS
from intake_img.model.engine import Tasks
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File

Finish = Callable[[Sequence[Written]], None]
_Address = tuple[str, bool, Hashable]
"""Of an array: its path in the store, whether its numbers stand for others, and the stamp of its metadata."""


class OmeZarrSource(ImageSource):
    """Image in an OME-Zarr store, or any Zarr group or array: folder, ``.zarr.zip`` or ``.ozx`` file, or URL.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL of a store, or of a group or array inside one.
    scene : int or str, optional
        Which image, by number or name: a field of a plate (``"B/03/0"``), a series, a multiscale image, a label image
        of another resolution (``"labels/nuclei"``); ``"all"`` stacks equal ones on ``i``.
    level : int
        Level of the pyramid; 0 is full resolution.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        Free metadata; ``axes``, ``spacing``, ``spacing_units``, ``coords`` overrule the file.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "omezarr"
    format_name = "OME-Zarr"
    extensions = (".ome.zarr", ".zarr", ".zarr.zip", ".ome.zarr.zip", ".ozx")
    folder = True

    def __init__(
        self,
        uri: Any,
        *,
        scene: int | str | None = None,
        level: int = 0,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            scene=scene,
            level=level,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def claims(cls, probe: Probe) -> bool:
        if probe.folder:
            return any(probe.holds(name) for name in METADATA_FILES)
        if not probe.head.startswith(b"PK\x03\x04"):
            return False
        named = probe.name.lower().endswith(tuple(e for e in cls.extensions if e.endswith((".zip", ".ozx"))))
        first = probe.head[30 : 30 + int.from_bytes(probe.head[26:28], "little")]
        return named or first.rpartition(b"/")[2] in [name.encode() for name in METADATA_FILES]

    @classmethod
    def stamp(cls, file: File) -> tuple[Any, ...]:
        """Return what changes when the metadata at the root of the store are written anew."""
        if is_zip(file):
            return file.stamp()
        found: list[Any] = [os.stat(file.path).st_ino] if file.local else []
        for name in METADATA_FILES:
            try:
                if file.local:  # this is asked before each read
                    about = os.stat(f"{file.path}/{name}")
                    found.append((name, about.st_mtime_ns, about.st_size, about.st_ino))
                    continue
                found.append((name, *(file / name).stamp()))
                break
            except (FileNotFoundError, NotADirectoryError):
                continue
        return tuple(found)

    @classmethod
    def open(cls, file: File) -> Handle:
        return Handle(file)

    @classmethod
    def renew(cls, handle: Handle) -> None:
        handle.renew()

    @classmethod
    def scene_names(cls, handle: Handle) -> list[str]:
        return [s.name for s in scenes_of(handle)]

    @classmethod
    def read_region(cls, handle: Handle, address: _Address, region: Region, out: np.ndarray) -> None:
        path, packed, stamp = address
        array = handle.unchanged_array(path, stamp)
        if not packed:
            chunks = handle.chunk_files(path)
            if chunks is None or not chunks.read_into(region, out):
                read_array(array, region, out)
            return
        raw = np.empty(out.shape, array.dtype)
        read_array(array, region, raw)
        out[...] = decoded(array, raw).values

    @classmethod
    def shards(cls, handle: Handle, address: _Address) -> tuple[int, ...] | None:
        shards = handle.array(address[0]).shards
        return None if shards is None else tuple(shards)

    def _pixels_of(self, handle: Handle, array: Any, path: str, packed: bool = False) -> Pixels:
        dtype = decoded(array, np.empty((0,) * array.ndim, array.dtype)).dtype if packed else array.dtype
        return self.pixels(
            (path, packed, handle.opened_stamp(path)), array.shape, dtype, tiles_of(array), parallel=False
        )

    # reading

    def describe_image(self, handle: Handle, scene: int | str, level: int) -> Image:
        entry = scenes_of(handle)[int(scene)]
        attributes = handle.attributes(entry.path)
        image = self._recorded(handle, entry, attributes, level) or self._native(handle, entry, attributes, level)
        told = {k: v for k, v in attributes.items() if k != OURS}
        return replace(image, header={"zarr_format": handle.zarr_format, "path": entry.path, "attributes": told})

    def _native(self, handle: Handle, entry: Scene, attributes: Mapping[str, Any], level: int) -> Image:
        """Return the image as the store's own metadata describe it."""
        if entry.number is None:
            bare = hasattr(handle.node(entry.path), "dtype")
            return self._bare(handle, entry.path, level) if bare else self._plain(handle, entry, level)
        images = ngff.multiscales(ngff.ome_of(attributes))
        if len(images) <= entry.number:
            raise FormatError(f"{handle.file}: the group {entry.path!r} holds no multiscales metadata")
        return self._multiscale(handle, entry.path, images[entry.number], level)

    def _multiscale(self, handle: Handle, path: str, described: ngff.Multiscale, level: int) -> Image:
        check_level(level, len(described.levels), handle.file)
        place = join(path, described.levels[level].path)
        array = handle.array(place)
        axes = axes_of(described, array)
        ome = handle.ome(path)
        attrs = {"kind": "labels"} if ngff.is_labels(ome) and array.dtype.kind in "iu" else {}
        variables = {"image": Variable(self._pixels_of(handle, array, place), axes, attrs)}
        sizes = dict(zip(axes, array.shape, strict=True))
        for name in labels_of(handle, path):
            if (fit := fitting(handle, join(path, "labels", name), sizes)) is not None:
                own, kept, names = fit
                pixels = self._pixels_of(handle, handle.array(own), own).reshape(kept)
                key = name if name not in variables and name not in sizes else f"labels/{name}"
                variables[key] = Variable(pixels, names, {"kind": "labels"})
        coords = {}
        if "c" in sizes:
            channels, about = ngff.channels(ome, sizes["c"])
            if channels is not None:
                coords["c"] = Coordinate(("c",), np.asarray(channels, dtype=str), about)
        spacing, units, origin = described.calibration(level)
        return Image(variables, spacing, units, origin, coords)

    def _bare(self, handle: Handle, path: str, level: int) -> Image:
        check_level(level, 1, handle.file)
        array = handle.array(path)
        return Image.single(self._pixels_of(handle, array, path, is_packed(array)), dimensions(array))

    def _plain(self, handle: Handle, entry: Scene, level: int) -> Image:
        check_level(level, 1, handle.file)
        data = data_arrays(handle, entry.path)
        if entry.only is not None:
            data = {entry.only: data[entry.only]}
        variables = {}
        for name, array in data.items():
            packed = is_packed(array)
            attrs = decoded(array, np.empty((0,) * array.ndim, array.dtype)).attrs
            pixels = self._pixels_of(handle, handle.array(join(entry.path, name)), join(entry.path, name), packed)
            variables[name] = Variable(pixels, dimensions(array), dict(attrs))
        if entry.only is not None:
            variables = {"image": next(iter(variables.values()))}
        attributes = handle.attributes(entry.path)
        attrs = {k: v for k, v in attributes.items() if k not in (*FILE_ATTRS, OURS, "coordinates")}
        arrays = {n: a for n, a in handle.members(entry.path).items() if hasattr(a, "dtype")}
        image = Image(variables, attrs=attrs)
        return replace(image, coords=coordinates(handle, entry.path, arrays, image.sizes))

    def _recorded(self, handle: Handle, entry: Scene, attributes: Mapping[str, Any], level: int) -> Image | None:
        """Return the image as it was saved; None where there is no record, or one that does not fit the arrays."""
        if (ours := record_of(attributes)) is None:
            return None
        arrays, record = ours
        image = self._native(handle, entry, attributes, level) if level else Image({})
        try:
            variables = {}
            for name, facts in record["variables"].items():
                if level < len(arrays[name]):
                    place = join(entry.path, ngff.check_path(arrays[name][level]))
                    array, dtype = handle.array(place), np.dtype(facts["dtype"])
                    if dtype != array.dtype.newbyteorder("=") and not (dtype.kind in "mM" and array.dtype.kind == "i"):
                        return None
                    stored = tuple(facts.get("stored", facts["axes"]))
                    variables[name] = Variable(self._pixels_of(handle, array, place), stored)
            image = replace(image, variables=variables, coords={}, attrs={})
            restored = image.restored(level_record(record, image) if level else record)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        return None if restored is image or not variables else restored

    # writing

    @classmethod
    def many_variables(cls, name: str) -> bool:
        return True

    @classmethod
    def write(
        cls,
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

        A variable whose axes NGFF can hold (two or three of ``zyx``, ``t``, and ``c`` or one other) becomes a
        multiscale image, without further axes of length 1, which only the record keeps; integers with
        ``attrs["kind"] == "labels"`` beside an image become label images. If there is no such variable, the group is
        one that `xarray.open_zarr` opens. All else is kept in the attribute ``"intake_img"`` of the group, by which
        this package reads an equal Dataset back.

        Parameters
        ----------
        image, path, progress
            See `ImageSource.write`.
        compress : bool or str, optional
            True or None for blosc (zstd with bit shuffling); False; ``"zstd"``, ``"gzip"``, ``"lz4"``, ``"lz4hc"``,
            ``"zlib"``, ``"blosclz"``.
        name : str
            Name of the target: gives the image's name in the metadata.
        version : {"0.5", "0.4"}
            Of OME-NGFF: 0.5 is Zarr format 3, 0.4 format 2.
        chunks : int, sequence of int or mapping, optional
            A length for y and x; one for each axis, in the order ``tczyx`` in which the file has them, or by name
            (-1: the whole axis). By default planes of at most 1024 x 1024, several together while they hold less than
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
            for plan in layout.plans:
                plan.write(target, compress, progress)
            for key, c in layout.coordinates.items():
                write_coordinate(target, key, c, compress)
            target.groups = layout.groups()

    @classmethod
    def write_in_tasks(
        cls,
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
    ) -> tuple[Tasks, Finish]:
        """Make the arrays of a store in an empty folder, and return the tasks that fill them, and what completes it.

        Parameters
        ----------
        image, path, compress, progress, name, version, chunks, shards, pyramid, levels
            See `write`. Variables that are in memory are written now.

        Returns
        -------
        tasks : Tasks
            Each returns a `Written`.
        finish : callable
            ``finish(written)`` writes the metadata, by which the folder becomes an image. It pickles.
        """
        layout = _layout(image, name, version, chunks, shards, pyramid, levels)
        tasks = layout.tasks(Target(path, _zarr_format(version), {}), compress, progress)
        return tasks, partial(_finish, layout.without_pixels(), path, compress)

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        import zarr

        pixels = np.arange(2 * 3 * 8 * 9, dtype="uint16").reshape(2, 3, 8, 9)
        path = os.path.join(folder, "sample.ome.zarr")
        axes = [{"name": "c", "type": "channel"}]
        axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
        transformations = [
            {"type": "scale", "scale": [1.0, 2.0, 0.25, 0.25]},
            {"type": "translation", "translation": [0.0, 10.0, 0.0, -1.0]},
        ]
        datasets = [{"path": "full", "coordinateTransformations": transformations}]
        omero = {"channels": [{"label": n, "color": c} for n, c in (("DAPI", "0000FF"), ("GFP", "00FF00"))]}
        ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}], "omero": omero}
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.attrs["ome"] = ome  # type: ignore[assignment]
        array = group.create_array("full", shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 1, 5, 4))
        array[...] = pixels
        coords: dict[str, Any] = {"c": ("c", ["DAPI", "GFP"], {"color": ["#0000FF", "#00FF00"]})}
        for axis, start, step, n in (("z", 10.0, 2.0, 3), ("y", 0.0, 0.25, 8), ("x", -1.0, 0.25, 9)):
            coords[axis] = (axis, start + step * np.arange(n), {"units": "µm", "spacing": step})
        return path, xr.Dataset({"image": (tuple("czyx"), pixels)}, coords=coords)


def _zarr_format(version: str) -> Literal[2, 3]:
    return 3 if version == "0.5" else 2


def _layout(image: Image, name: str, version: str, chunks: Any, shards: Any, pyramid: bool | int,
            levels: Sequence[Image]) -> Layout:  # fmt: skip
    if version not in ngff.VERSIONS:
        raise CannotWriteError(f"version={version!r}: OME-Zarr is written in {' or '.join(ngff.VERSIONS)}")
    if shards and version == "0.4":
        raise CannotWriteError("shards= needs version='0.5': Zarr format 2, which 0.4 uses, has no shards")
    if levels and pyramid:
        raise CannotWriteError("pyramid= makes levels, but the DataTree brings its own: give one of them")
    return Layout(image, name, version, chunks, shards, pyramid, tuple(levels))


def _finish(layout: Layout, path: str | File, compress: Any, written: Sequence[Written]) -> None:
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
