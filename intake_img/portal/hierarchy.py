"""The images of an entry or a Dataset as groups of OME-Zarr 0.5: a single one, or one for each scene and place."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import xarray as xr

from intake_img.io import imload
from intake_img.model.image import Image
from intake_img.portal.caches import Blocks
from intake_img.portal.levels import native_levels, pyramid
from intake_img.portal.store import ImageStore, ServedArray, at_position, encoded_json, group_document, node, positions

__all__ = ["Hierarchy", "Series"]

_MOST_SERIES = 2000


@dataclass(frozen=True)
class Series:
    """One image of an entry: which scene of the file, and where along axes that OME-Zarr lacks."""

    path: str
    name: str
    scene: int
    place: Mapping[str, int]


@dataclass(eq=False)
class Hierarchy:
    """Images that are served together.

    Parameters
    ----------
    dataset : xarray.Dataset
        The first scene; nothing is read.
    name : str
        Title of the images.
    stamp : str
        Changes when the pixels do.
    kept : Blocks
    budget : int
        The most bytes of the file that one block of a computed level may need.
    source : object, optional
        The Intake source, for its other scenes and levels; without one, `dataset` is all there is.
    coarser : sequence of xarray.Dataset
        Levels of `dataset` that are there, the finest first, where there is no source.
    """

    dataset: xr.Dataset
    name: str
    stamp: str
    kept: Blocks
    budget: int
    source: Any = None
    coarser: Sequence[xr.Dataset] = ()
    stores: dict[str, ImageStore] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)

    @cached_property
    def series(self) -> list[Series]:
        """All images of the entry; one with the path ``""`` where the group itself is the image."""
        scenes = [str(s) for s in self.dataset.attrs.get("scenes", ["0"])] if self.source is not None else ["0"]
        fixed = self.source is None or getattr(self.source, "scene", None) is not None or len(scenes) < 2
        numbers = [scenes.index(scene) if (scene := self.dataset.attrs.get("scene")) in scenes else 0]
        numbers = numbers if fixed else list(range(len(scenes)))
        places = positions(Image.from_xarray(self.dataset))
        if len(numbers) == len(places) == 1:
            return [Series("", scenes[numbers[0]] if scenes else "0", -1, {})]
        found: list[Series] = []
        for number in numbers:
            for place in places:
                at = ", ".join(f"{a}={k}" for a, k in place.items())
                name = " ".join(filter(None, (scenes[number] if len(numbers) > 1 else "", at)))
                found.append(Series(str(len(found)), name, -1 if fixed else number, place))
                if len(found) > _MOST_SERIES:
                    raise ValueError(f"more than {_MOST_SERIES} images in one entry: choose some with scene= or axes")
        return found

    def store(self, path: str = "") -> ImageStore:
        """Return the store of one image; the first for ``""``.

        Raises
        ------
        KeyError
            If there is none of that path.
        """
        one = self.series[0] if path == "" else next((s for s in self.series if s.path == path), None)
        if one is None:
            raise KeyError(path)
        with self.lock:
            if one.path not in self.stores:
                self.stores[one.path] = self._store(one)
            return self.stores[one.path]

    def _store(self, one: Series) -> ImageStore:
        options: dict[str, Any] = {} if one.scene < 0 else {"scene": one.scene}
        ds = self.dataset if one.scene < 0 else imload(self.source, chunks=-1, **options)
        coarser = self.coarser if self.source is None else native_levels(self.source, ds, options)
        images = [Image.from_xarray(d) for d in (ds, *coarser)]
        name = f"{self.stamp}/{one.path}"
        images = pyramid([at_position(im, one.place) for im in images], name, self.kept, self.budget)
        title = one.name if one.path else self.name
        return ImageStore(images[0], images[1:], title)

    def resolve(self, key: str) -> tuple[ServedArray | bytes, tuple[int, ...] | None]:
        """Return the document of a key, or the array and index of a chunk.

        Raises
        ------
        KeyError
            If the store has no such key.
        """
        if self.series[0].path == "":
            return _within(self.store(), key)
        if key == "zarr.json":
            return self._root, None
        if key in ("OME/zarr.json", "OME/METADATA.ome.xml"):
            return (self._listed if key.endswith("json") else self._names), None
        path, _, rest = key.partition("/")
        return _within(self.store(path), rest)

    @cached_property
    def _root(self) -> bytes:
        named = [{"path": s.path, "name": s.name} for s in self.series]
        attributes = {"ome": {"version": "0.5", "bioformats2raw.layout": 3}, "intake_img": {"series": named}}
        return encoded_json(group_document(attributes))

    @cached_property
    def _listed(self) -> bytes:
        return encoded_json(group_document({"ome": {"version": "0.5", "series": [s.path for s in self.series]}}))

    @cached_property
    def _names(self) -> bytes:
        """The names of the images, as OME-XML."""
        from xml.sax.saxutils import quoteattr

        images = [f"<Image ID={quoteattr(f'Image:{k}')} Name={quoteattr(s.name)}/>" for k, s in enumerate(self.series)]
        return ('<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">' + "".join(images) + "</OME>").encode()


def _within(store: ImageStore, key: str) -> tuple[ServedArray | bytes, tuple[int, ...] | None]:
    path, index = node(key)
    if index is not None:
        return store.arrays[path], index
    return store.documents[key], None
