"""The images of an entry or a Dataset as groups of OME-Zarr 0.5: one, one for each scene and position, or a plate."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from xml.sax.saxutils import quoteattr

import xarray as xr

from intake_img.collections.plates.hcs import field_paths, groups
from intake_img.collections.plates.plate import plate_source
from intake_img.collections.plates.source import PlateSource
from intake_img.errors import TooLargeError
from intake_img.formats.omezarr.write import join
from intake_img.formats.registry import ImgSource
from intake_img.formats.source import ImageSource
from intake_img.io import imload
from intake_img.model.image import Image
from intake_img.model.wells import Place
from intake_img.portal.caches import BlockCache
from intake_img.portal.levels import native_levels, pyramid
from intake_img.portal.virtual_store import (
    ImageStore,
    ServedArray,
    at_position,
    encoded_json,
    group_document,
    node,
    positions,
)

__all__ = ["Hierarchy", "ServedImage"]

_MOST_SERIES = 20_000


@dataclass(frozen=True)
class ServedImage:
    """One image of an entry: its scene in the file, and its indices along axes that OME-Zarr lacks, or its field."""

    path: str
    name: str
    scene: int
    place: Mapping[str, int]
    well: Place | None = None


@dataclass(eq=False)
class Hierarchy:
    """Images that are served together.

    Parameters
    ----------
    dataset : xarray.Dataset
        The first scene; no pixels are read.
    name : str
        Title of the images.
    stamp : str
        A text that changes with the pixels.
    kept : BlockCache
    budget : int
        The largest number of bytes of the file for one block of a computed level.
    source : object, optional
        The Intake source, for other scenes and levels; without one, `dataset` is the only image.
    coarser : sequence of xarray.Dataset
        Existing levels of `dataset`, the finest first, if there is no source.
    """

    dataset: xr.Dataset
    name: str
    stamp: str
    kept: BlockCache
    budget: int
    source: Any = None
    coarser: Sequence[xr.Dataset] = ()
    stores: dict[str, ImageStore] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)
    _arrays: dict[str, ServedArray] = field(default_factory=dict)  # requested stores, by path

    @cached_property
    def plate(self) -> PlateSource | None:
        """The plate of the entry; None if it is not a plate, or not one that OME-Zarr can express."""
        if not isinstance(self.source, ImageSource) or getattr(self.source, "scene", None) is not None:
            return None
        found = plate_source(self.source)
        if found is None or found.layout is not None or any(p.row < 0 for p in found.table.fields):
            return None
        return found if len(positions(Image.from_xarray(self.dataset))) == 1 else None

    @cached_property
    def series(self) -> list[ServedImage]:
        """All images of the entry; a single image has the path ``""``, since the group itself is the image.

        Raises
        ------
        TooLargeError
            If there are too many.
        """
        found = self._fields() if self.plate is not None else list(self._scenes())
        if len(found) > _MOST_SERIES:
            raise TooLargeError(f"more than {_MOST_SERIES} images in one entry: choose some with scene= or axes")
        return found

    def _fields(self) -> list[ServedImage]:
        assert self.plate is not None
        table = self.plate.table
        return [
            ServedImage(path, place.scene, table.fields[place][0].scene or 0, {}, place)
            for place, path in field_paths(table).items()
        ]

    def _scenes(self) -> Iterator[ServedImage]:
        scenes = [str(s) for s in self.dataset.attrs.get("scenes", ["0"])] if self.source is not None else ["0"]
        fixed = self.source is None or getattr(self.source, "scene", None) is not None or len(scenes) < 2
        numbers = [scenes.index(scene) if (scene := self.dataset.attrs.get("scene")) in scenes else 0]
        numbers = numbers if fixed else list(range(len(scenes)))
        places = positions(Image.from_xarray(self.dataset))
        if len(numbers) == len(places) == 1:
            yield ServedImage("", scenes[numbers[0]] if scenes else "0", -1, {})
            return
        for k, (number, place) in enumerate(itertools.islice(itertools.product(numbers, places), _MOST_SERIES + 1)):
            at = ", ".join(f"{a}={n}" for a, n in place.items())
            name = " ".join(filter(None, (scenes[number] if len(numbers) > 1 else "", at)))
            yield ServedImage(str(k), name, -1 if fixed else number, place)

    def store(self, path: str = "") -> ImageStore:
        """Return the store of one image; the first for ``""``.

        Raises
        ------
        KeyError
            If there is no image of that path.
        """
        one = self.series[0] if path == "" else next((s for s in self.series if s.path == path), None)
        if one is None:
            raise KeyError(path)
        with self.lock:
            if one.path not in self.stores:
                self.stores[one.path] = self._store(one)
            return self.stores[one.path]

    def _store(self, one: ServedImage) -> ImageStore:
        options: dict[str, Any] = {} if one.scene < 0 else {"scene": one.scene}
        ds = self._dataset(one, options)
        coarser = self.coarser if self.source is None else native_levels(self.source, ds, options)
        images = [Image.from_xarray(d) for d in (ds, *coarser)]
        name = f"{self.stamp}/{one.path}"
        images = pyramid([at_position(im, one.place) for im in images], name, self.kept, self.budget)
        title = one.name if one.path else self.name
        return ImageStore(images[0], images[1:], title)

    def _dataset(self, one: ServedImage, options: Mapping[str, Any]) -> xr.Dataset:
        if one.scene < 0:
            return self.dataset
        if one.well is not None and isinstance(self._found, PlateSource):  # its index was read once
            source = self._found
            return source.field(one.well).to_xarray(order=source.output_axis_order, chunks=None)
        return imload(self.source, chunks=None, **options)

    @property
    def _found(self) -> Any:
        return self.source.found if isinstance(self.source, ImgSource) else self.source

    def resolve(self, key: str) -> tuple[ServedArray | bytes, tuple[int, ...] | None]:
        """Return the document of a key, or the array and index of a chunk.

        Raises
        ------
        KeyError
            If the store has no such key.
        """
        found, index = self._resolved(key)
        if isinstance(found, ServedArray):
            self._arrays[node(key)[0]] = found
        return found, index

    def _resolved(self, key: str) -> tuple[ServedArray | bytes, tuple[int, ...] | None]:
        if self.series[0].path == "":
            return _within(self.store(), key)
        if key in self._documents:
            return self._documents[key], None
        parts = self.series[0].path.count("/") + 1
        names = key.split("/")
        return _within(self.store("/".join(names[:parts])), "/".join(names[parts:]))

    def at_hand(self, key: str) -> tuple[ServedArray | bytes, tuple[int, ...] | None] | None:
        """Return the result of `resolve` for a chunk of an array that was resolved before; None if it needs work.

        Raises
        ------
        KeyError
            If an array has no such chunk.
        """
        array = self._arrays.get(key.rpartition("/c/")[0])
        return None if array is None else (array, node(key)[1])

    @cached_property
    def _documents(self) -> dict[str, bytes]:
        """The documents above the images of a collection, by key."""
        named: dict[str, Any] = {"intake_img": {"series": [{"path": s.path, "name": s.name} for s in self.series]}}
        if self.plate is None:
            collected = {"version": "0.5", "bioformats2raw.layout": 3}
            listed = {"ome": {"version": "0.5", "series": [s.path for s in self.series]}}
            documents: dict[str, dict[str, Any]] = {"": {"ome": collected, **named}, "OME": listed}
        else:
            paths = {s.well: s.path for s in self.series if s.well is not None}
            above = groups(self.plate.table, self.name, paths, "0.5")
            documents = {p: {"ome": {"version": "0.5", **facts}} if facts else {} for p, facts in above.items()}
            documents[""] |= named
        found = {join(p, "zarr.json"): encoded_json(group_document(a)) for p, a in documents.items()}
        return found if self.plate is not None else {**found, "OME/METADATA.ome.xml": self._names}

    @property
    def _names(self) -> bytes:
        """The names of the images, as OME-XML."""
        images = [f"<Image ID={quoteattr(f'Image:{k}')} Name={quoteattr(s.name)}/>" for k, s in enumerate(self.series)]
        return ('<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">' + "".join(images) + "</OME>").encode()


def _within(store: ImageStore, key: str) -> tuple[ServedArray | bytes, tuple[int, ...] | None]:
    path, index = node(key)
    if index is not None:
        return store.arrays[path], index
    return store.documents[key], None
