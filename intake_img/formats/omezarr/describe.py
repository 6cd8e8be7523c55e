"""The handle of a Zarr store: describes and reads its images through its metadata."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.arguments import check_level
from intake_img.formats.base import StoredArray
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.contents import axes_of, coordinates, data_arrays, fitting, labels_of
from intake_img.formats.omezarr.growth import FILLING, growth_of
from intake_img.formats.omezarr.handle import StoreHandle
from intake_img.formats.omezarr.plain_arrays import decoded, dimensions, is_packed
from intake_img.formats.omezarr.record import level_record, record_of
from intake_img.formats.omezarr.scenes import StoreScene, scenes_of
from intake_img.formats.omezarr.store import read_array, tiles_of
from intake_img.formats.omezarr.write import OURS, join
from intake_img.model.chunks import Region
from intake_img.model.datasets import FILE_ATTRS
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.wells import Place

__all__ = ["StoreImages"]


@dataclass(frozen=True)
class Address:
    """Names an array: its path, whether its numbers stand for others (packed), and the stamp of its metadata."""

    path: str
    packed: bool
    stamp: Hashable


class _ZarrArray(StoredArray):
    """One array; its metadata are looked at when they are asked for."""

    def __init__(self, handle: StoreHandle, address: Address) -> None:
        self.handle, self.address = handle, address

    @property
    def parallel(self) -> bool:  # type: ignore[override]
        return self.handle.in_folder  # of others, zarr fetches many chunks together

    @property
    def _stored(self) -> Any:
        return self.handle.zarr_array(self.address.path)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self._stored.shape)

    @property
    def dtype(self) -> np.dtype:  # type: ignore[override]
        array = self._stored
        return _empty(array).dtype if self.address.packed else array.dtype

    @property
    def tiles(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(tiles_of(self._stored))

    @property
    def shards(self) -> tuple[int, ...] | None:  # type: ignore[override]
        shards = self._stored.shards
        return None if shards is None else tuple(shards)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        array = self.handle.unchanged_array(self.address.path, self.address.stamp)
        if self.address.packed:
            raw = np.empty(out.shape, array.dtype)
            self._read(array, region, raw)
            out[...] = decoded(array, raw).values
        else:
            self._read(array, region, out)
        if self.handle.in_folder:  # it may have been replaced meanwhile
            self.handle.unchanged_array(self.address.path, self.address.stamp)

    def _read(self, array: Any, region: Region, out: np.ndarray) -> None:
        chunks = self.handle.chunk_files(self.address.path)
        if chunks is None:
            read_array(array, region, out, self.handle.file.within(self.address.path))
        else:
            chunks.read_into(region, out)


def _empty(array: Any) -> Any:
    """Return a packed array without an element, as xarray decodes it."""
    return decoded(array, np.empty((0,) * array.ndim, array.dtype))


class StoreImages(StoreHandle):
    """An open store; arrays are called by their `Address`."""

    @property
    def scene_names(self) -> Sequence[str]:
        return [s.name for s in scenes_of(self)]

    @property
    def places(self) -> Sequence[Place]:
        return self.remembered("places", self._places)

    def _places(self) -> Sequence[Place]:
        wells = ngff.well_places(self.ome(""))
        found = [s.path.rpartition("/") for s in scenes_of(self)] if wells else []
        if any(well not in wells for well, _, _ in found):
            return ()
        return [Place(*wells[well], field) for well, _, field in found]

    def array(self, address: Address) -> StoredArray:
        return _ZarrArray(self, address)

    def _pixels_of(self, path: str, packed: bool = False) -> Pixels:
        return self.pixels(Address(path, packed, self.opened_stamp(path)))

    def describe(self, scene: int | str, level: int) -> Image:
        entry = scenes_of(self)[int(scene)]
        attributes = self.attributes(entry.path)
        image = self._recorded(entry, attributes, level) or self._native(entry, attributes, level)
        attrs = {k: v for k, v in attributes.items() if k != OURS}
        return replace(image, header={"zarr_format": self.zarr_format, "path": entry.path, "attributes": attrs})

    def _native(self, entry: StoreScene, attributes: Mapping[str, Any], level: int) -> Image:
        """Return the image as the store's own metadata describe it."""
        if entry.number is None:
            bare = hasattr(self.node(entry.path), "dtype")
            return self._bare(entry.path, level) if bare else self._plain(entry, level)
        images = ngff.multiscales(ngff.ome_of(attributes))
        if len(images) <= entry.number:
            raise FormatError(f"{self.file}: the group {entry.path!r} contains no multiscales metadata")
        return self._multiscale(entry.path, images[entry.number], level)

    def _multiscale(self, path: str, described: ngff.Multiscale, level: int) -> Image:
        check_level(level, len(described.levels), self.file)
        place = join(path, described.levels[level].path)
        array = self.zarr_array(place)
        axes = axes_of(described, array)
        ome = self.ome(path)
        attrs = {"kind": "labels"} if ngff.is_labels(ome) and array.dtype.kind in "iu" else {}
        variables = {"image": Variable(self._pixels_of(place), axes, attrs)}
        sizes = dict(zip(axes, array.shape, strict=True))
        for name in labels_of(self, path):
            if (fit := fitting(self, join(path, "labels", name), sizes)) is not None:
                own, kept, names = fit
                pixels = self._pixels_of(own).reshape(kept)
                key = name if name not in variables and name not in sizes else f"labels/{name}"
                variables[key] = Variable(pixels, names, {"kind": "labels"})
        coords = {}
        if "c" in sizes:
            channels, about = ngff.channels(ome, sizes["c"])
            if channels is not None:
                coords["c"] = Coordinate(("c",), np.asarray(channels, dtype=str), about)
        spacing, units, origin = described.calibration(level)
        further = {"transformations": dict(described.transformations)} if described.transformations else {}
        return Image(variables, spacing, units, origin, coords, attrs=further)

    def _bare(self, path: str, level: int) -> Image:
        check_level(level, 1, self.file)
        array = self.zarr_array(path)
        return Image.single(self._pixels_of(path, is_packed(array)), dimensions(array))

    def _plain(self, entry: StoreScene, level: int) -> Image:
        check_level(level, 1, self.file)
        data = data_arrays(self, entry.path)
        if entry.only is not None:
            data = {entry.only: data[entry.only]}
        variables = {}
        for name, array in data.items():
            packed = is_packed(array)
            attrs = _empty(array).attrs
            pixels = self._pixels_of(join(entry.path, name), packed)
            variables[name] = Variable(pixels, dimensions(array), dict(attrs))
        if entry.only is not None:
            variables = {"image": next(iter(variables.values()))}
        attributes = self.attributes(entry.path)
        attrs = {k: v for k, v in attributes.items() if k not in (*FILE_ATTRS, OURS, "coordinates")}
        arrays = {n: a for n, a in self.members(entry.path).items() if hasattr(a, "dtype")}
        image = Image(variables, attrs=attrs)
        return replace(image, coords=coordinates(self, entry.path, arrays, image.sizes))

    def _recorded(self, entry: StoreScene, attributes: Mapping[str, Any], level: int) -> Image | None:
        """Return the saved image; None if there is no record, or it does not fit the arrays."""
        if (ours := record_of(attributes)) is None:
            return None
        arrays, record = ours
        if region := attributes[OURS].get(FILLING):
            warn(
                f"{self.file}: the region {region} is being written now, or its write was killed: it may contain old "
                "and new pixels; write it again"
            )
        growth = growth_of(attributes[OURS])
        image = self._native(entry, attributes, level) if level else Image({})
        try:
            variables = {}
            for name, facts in record["variables"].items():
                if level < len(arrays[name]):
                    place = join(entry.path, ngff.check_path(arrays[name][level]))
                    array, dtype = self.zarr_array(place), np.dtype(facts["dtype"])
                    if dtype != array.dtype.newbyteorder("=") and not (dtype.kind in "mM" and array.dtype.kind == "i"):
                        return None
                    stored = tuple(facts.get("stored", facts["axes"]))
                    pixels = growth.counted(self._pixels_of(place), facts, stored)
                    variables[name] = Variable(pixels, stored)
            image = replace(image, variables=variables, coords={}, attrs={})
            restored = image.restored(level_record(record, image) if level else record)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        return None if restored is image or not variables else restored
