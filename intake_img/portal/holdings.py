"""Open entries: a name becomes an image with its levels, scenes and facts, once, and again when its file changes."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.display import summary
from intake_img.errors import IntakeImgError
from intake_img.formats.registry import public_header
from intake_img.formats.source import ImageSource
from intake_img.io import imload
from intake_img.model.image import Image, Variable
from intake_img.portal.blocks import halved, shared_tiles
from intake_img.portal.caches import Blocks
from intake_img.portal.library import Item
from intake_img.portal.store import (
    CHUNK,
    ImageStore,
    ServedArray,
    at_position,
    chunk_lengths,
    encoded_json,
    group_document,
    node,
    positions,
)

__all__ = ["Holdings", "Opened"]

_MOST_LEVELS = 24
_MOST_SERIES = 2000


@dataclass(frozen=True)
class Series:
    """One image of an entry: which scene of the file, and where along axes that OME-Zarr lacks."""

    path: str
    name: str
    scene: int
    place: Mapping[str, int]


@dataclass(eq=False)
class Opened:
    """An entry whose file is open.

    Parameters
    ----------
    item : Item
    stamp : str
        Changes when the file does.
    dataset : xarray.Dataset
        The first scene; nothing is read.
    source : object
        The Intake source.
    kept : Blocks
    budget : int
        The most bytes of the file that one block of a computed level may need.
    """

    item: Item
    stamp: str
    dataset: xr.Dataset
    source: Any
    kept: Blocks
    budget: int
    stores: dict[str, ImageStore] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What `intake_img.accessor.display.summary` says, without places on a disk."""
        found = summary(self.dataset)
        return {k: v for k, v in found.items() if k not in ("uri",)}

    @cached_property
    def header(self) -> Any:
        """The public part of the file's own header."""
        try:
            header = json.loads(self.dataset.attrs.get("fileheader") or "{}")
        except ValueError:
            header = {}
        return public_header(header, str(self.dataset.attrs.get("driver", "")))

    @cached_property
    def series(self) -> list[Series]:
        """All images of the entry; one with the path ``""`` where the group itself is the image."""
        scenes = [str(s) for s in self.dataset.attrs.get("scenes", ["0"])]
        fixed = getattr(self.source, "scene", None) is not None or len(scenes) < 2
        numbers = [scenes.index(self.dataset.attrs["scene"]) if self.dataset.attrs["scene"] in scenes else 0]
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
        images = [Image.from_xarray(d) for d in (ds, *_native_levels(self.source, ds, options))]
        name = f"{self.stamp}/{one.path}"
        images = _pyramid([at_position(im, one.place) for im in images], name, self.kept, self.budget)
        title = one.name if one.path else self.item.name
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

    def close(self) -> None:
        self.dataset.close()
        self.source.close()


def _within(store: ImageStore, key: str) -> tuple[ServedArray | bytes, tuple[int, ...] | None]:
    path, index = node(key)
    if index is not None:
        return store.arrays[path], index
    return store.documents[key], None


def _native_levels(source: Any, ds: xr.Dataset, options: Mapping[str, Any]) -> list[xr.Dataset]:
    """The coarser levels that the file has, as long as they continue the first variable."""
    if "level" not in _options(source) or getattr(source, "level", None):
        return []
    first = next(iter(ds.data_vars))
    found: list[xr.Dataset] = []
    for level in range(1, _MOST_LEVELS):
        try:
            one = imload(source, level=level, chunks=-1, **options)
        except (IntakeImgError, LookupError, TypeError, ValueError):
            break
        last = (found or [ds])[-1]
        coarser = {a for a in one.sizes if a in last.sizes and one.sizes[a] < last.sizes[a]}
        if first not in one or one[first].dims != ds[first].dims or not coarser & set("yx"):
            break
        found.append(one)
    return found


def _options(source: Any) -> Sequence[str]:
    import inspect

    return list(inspect.signature(type(source)).parameters)


def _pyramid(images: list[Image], name: str, kept: Blocks, budget: int) -> list[Image]:
    """Return an image and its levels: native ones, then halved ones until a plane is a single chunk.

    Variables that native levels lack (labels) are halved beside them.
    """
    first = images[0]
    stack = [{k: _prepared(v, f"{name}/{k}/0", kept) for k, v in first.variables.items()}]
    while len(stack) < _MOST_LEVELS and (len(stack) < len(images) or _largest(stack[-1]) > CHUNK):
        native = images[len(stack)].variables if len(stack) < len(images) else {}
        stack.append(
            {k: _next(v, native.get(k), f"{name}/{k}/{len(stack)}", kept, budget) for k, v in stack[-1].items()}
        )
    return [_level(first, images[k] if k < len(images) else None, variables, k) for k, variables in enumerate(stack)]


def _largest(variables: Mapping[str, Variable]) -> int:
    return max(
        (n for v in variables.values() for a, n in zip(v.axes, v.pixels.shape, strict=True) if a in "yx"), default=0
    )


def _prepared(variable: Variable, name: str, kept: Blocks) -> Variable:
    chunk = chunk_lengths(variable.axes, variable.pixels)
    return replace(variable, pixels=shared_tiles(variable.pixels, chunk, name, kept))


def _next(finer: Variable, native: Variable | None, name: str, kept: Blocks, budget: int) -> Variable:
    if native is not None and native.axes == finer.axes:
        return _prepared(native, name, kept)
    planar = [k for k, a in enumerate(finer.axes) if a in "yx"]
    chunk = chunk_lengths(finer.axes, finer.pixels)
    labels = finer.attrs.get("kind") == "labels"
    pixels = halved(finer.pixels, planar, chunk, name, kept, labels=labels, budget=budget)
    return replace(finer, pixels=pixels)


def _level(first: Image, native: Image | None, variables: Mapping[str, Variable], level: int) -> Image:
    """Return the image of a level: the coordinates of halved axes follow from spacing and origin."""
    if level == 0:
        return replace(first, variables=variables)
    sizes = {a: n for v in variables.values() for a, n in zip(v.axes, v.pixels.shape, strict=True)}
    coords = {k: c for k, c in first.coords.items() if all(sizes.get(a) == first.sizes.get(a) for a in c.axes)}
    factor = {a: _ratio(first.sizes[a], n, native) for a, n in sizes.items() if n != first.sizes[a]}
    spacing = {a: s * factor.get(a, 1) for a, s in first.spacing.items()}
    origin = {a: o + first.spacing.get(a, 0.0) * (factor.get(a, 1) - 1) / 2 for a, o in first.origin.items()}
    return replace(first, variables=variables, coords=coords, spacing=spacing, origin=origin)


def _ratio(full: int, n: int, native: Image | None) -> float:
    """How many samples of the full image one of a level stands for; a power of two where levels were halved."""
    ratio = full / n
    power = 2.0 ** round(np.log2(ratio))
    return power if native is None or abs(-(-full // power) - n) <= 1 or abs(full // power - n) <= 1 else ratio


def stamp_of(source: ImageSource) -> str:
    """Return a text that changes when the file of a source does."""
    try:
        told = repr(source.stamp())
    except (OSError, IntakeImgError):  # whoever opens it is told why
        told = ""
    text = f"{source.arguments()}|{told}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:20]


class Holdings:
    """The entries that are open, a bounded number; each is opened once, however many ask for it.

    Parameters
    ----------
    kept : Blocks
    most : int
        Entries that are held open.
    budget : int
        See `Opened`.
    """

    def __init__(self, kept: Blocks, most: int, budget: int) -> None:
        self.kept, self.most, self.budget = kept, most, budget
        self._open: OrderedDict[str, tuple[float, Opened]] = OrderedDict()
        self._opening: dict[str, Future[Opened]] = {}
        self._failed: dict[str, tuple[float, Exception]] = {}
        self._lock = threading.Lock()

    def get(self, item: Item) -> Opened:
        """Return an entry, opened; called in a thread.

        Raises
        ------
        Exception
            Whatever the file does. It is raised again for some seconds without looking at the file.
        """
        with self._lock:
            now = time.monotonic()
            if item.id in self._failed and now - self._failed[item.id][0] < 10:
                raise self._failed[item.id][1]
            checked, held = self._open.get(item.id, (0.0, None))
            if held is not None and held.item.entry is item.entry and now - checked < 2:
                self._open.move_to_end(item.id)
                return held
            mine = item.id not in self._opening
            future = self._opening.setdefault(item.id, Future())
        if not mine:
            return future.result(timeout=120)
        try:
            opened = self._renewed(item, held)
            with self._lock:
                self._failed.pop(item.id, None)
                self._open[item.id] = time.monotonic(), opened
                self._open.move_to_end(item.id)
                while len(self._open) > self.most:
                    self._open.popitem(last=False)
            future.set_result(opened)
            return opened
        except Exception as exc:
            with self._lock:
                self._failed[item.id] = time.monotonic(), exc
                self._open.pop(item.id, None)
            future.set_exception(exc)
            raise
        finally:
            with self._lock:
                self._opening.pop(item.id, None)

    def _renewed(self, item: Item, held: Opened | None) -> Opened:
        source = item.entry()
        stamp = stamp_of(source)
        if held is not None and held.stamp == stamp and held.item.entry is item.entry:
            return held
        ds = imload(source, chunks=-1)
        return Opened(item, stamp, ds, source, self.kept, self.budget)

    def forget(self, item: Item) -> None:
        """Open an entry anew when it is wanted again: its file changed."""
        with self._lock:
            self._open.pop(item.id, None)
            self._failed.pop(item.id, None)

    def close(self) -> None:
        with self._lock:
            held, self._open = list(self._open.values()), OrderedDict()
        for _, opened in held:
            opened.close()
