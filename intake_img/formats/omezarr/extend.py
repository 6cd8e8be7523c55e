"""Writing into an existing store: appending along an axis, or overwriting a region.

An append changes nothing that readers see before its last step: see `growth`. A region is overwritten where it is, each
chunk atomically; before the first and after the last the root's metadata are written, so that Datasets which were
opened before raise `SourceChangedError` in place of a mixture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from intake_img.errors import CannotWriteError, SourceChangedError
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.describe import StoreImages
from intake_img.formats.omezarr.growth import FILLING, GROWTH, Growth, growth_of
from intake_img.formats.omezarr.parallel import add_level, add_pixels
from intake_img.formats.omezarr.record import record_of
from intake_img.formats.omezarr.store import Halved, write_pixels
from intake_img.formats.omezarr.target import Target, array_config, folder_store, write_document
from intake_img.formats.omezarr.write import OURS, PyramidPlan, StoreLayout, join, write_coordinate
from intake_img.model.engine import Tasks
from intake_img.model.image import Image
from intake_img.model.joined import check_part, fitted, joined, region_of
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File

__all__ = ["StoredImage", "append", "fill", "stored"]

Stamp = Callable[[], Any]
Progress = Callable[[int], None] | None


@dataclass(frozen=True)
class StoredImage:
    """A store that was written by us, and the image in it.

    Parameters
    ----------
    file : File
    zarr_format : int
    image : Image
        What the store contains; unread.
    paths : mapping of str to sequence of str
        The arrays of each variable, the full resolution first.
    attributes : mapping of str to mapping
        Of the groups, by their paths.
    stamps : mapping of str to hashable
        Of the arrays, before they first grew.
    """

    file: File
    zarr_format: Literal[2, 3]
    image: Image
    paths: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, Mapping[str, Any]]
    stamps: Mapping[str, Any]

    @property
    def growth(self) -> Growth:
        return growth_of(self.attributes[""][OURS])

    def layout(self, image: Image) -> StoreLayout:
        """Return how a longer image lies in the store; what was shown of its channels is known already.

        Raises
        ------
        CannotWriteError
            If its arrays differ from those of the store.
        """
        version = "0.5" if self.zarr_format == 3 else "0.4"
        further = max(len(p) for p in self.paths.values()) - 1
        layout = StoreLayout(image, f"{self._title}.zarr", version, None, None, further, ())
        for name, plan in zip(layout.names, layout.plans, strict=True):
            if plan.paths != self.paths[name] or len(plan.variable.axes) != len(self._axes(name)):
                raise CannotWriteError(
                    f"{name!r} has the arrays {', '.join(self.paths[name])} of axes {''.join(self._axes(name))}, and "
                    f"would need {', '.join(plan.paths)} of {''.join(plan.variable.axes)}: save the image again"
                )
            if plan.extremes is not None:
                plan.extremes.seed(_windows(self.attributes[plan.paths[0].rpartition("/")[0]]))
        return layout

    @property
    def _title(self) -> str:
        images = ngff.ome_of(self.attributes[""]).get("multiscales") or [{}]
        return str(images[0].get("name") or "image")

    def _axes(self, name: str) -> tuple[str, ...]:
        facts = self.attributes[""][OURS]["record"]
        facts = (json.loads(facts) if isinstance(facts, str) else facts)["variables"][name]
        return tuple(facts.get("stored", facts["axes"]))

    def array(self, plan: PyramidPlan, level: int, shape: tuple[int, ...]) -> Any:
        """Return an array for writing, as if it had another shape; its metadata stay."""
        import zarr

        store = folder_store(self.file / plan.paths[level])
        array = zarr.open_array(store, mode="r+", zarr_format=self.zarr_format)
        metadata = array.metadata.update_shape(shape)
        config = array_config(array.dtype.kind, plan.fill)
        return zarr.Array(zarr.AsyncArray(metadata, store_path=array.store_path, config=config))


def stored(handle: StoreImages) -> StoredImage:
    """Return the image in an open store.

    Raises
    ------
    CannotWriteError
        If another program wrote it, or has changed it since.
    """
    attributes = handle.attributes("")
    found = record_of(attributes)
    if found is None:
        raise CannotWriteError(
            f"{handle.file} was not written by imsave, or its metadata were changed since: nothing is added to it; "
            "save the image again"
        )
    arrays, record = found
    image = handle.describe(0, 0)
    if image.record()["variables"].keys() != record["variables"].keys():
        raise CannotWriteError(f"{handle.file}: its arrays are not those of its record; save the image again")
    paths = {name: tuple(p) for name, p in arrays.items()}
    groups = {"", *(f for p in paths.values() for f in _folders(p[0]))}
    stamps = {p: handle.opened_stamp(p) for ps in paths.values() for p in ps}
    about = {g: handle.attributes(g) for g in groups}
    image = replace(image, header=record.get("source", {}))
    return StoredImage(handle.file, 2 if handle.zarr_format == 2 else 3, image, paths, about, stamps)


def _folders(path: str) -> list[str]:
    """Return the groups on the way to an array."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: k + 1]) for k in range(len(parts))]


def _windows(attributes: Mapping[str, Any]) -> list[tuple[float, float] | None]:
    channels = (ngff.ome_of(attributes).get("omero") or {}).get("channels", [])
    return [(float(c["window"]["start"]), float(c["window"]["end"])) for c in channels]


def append(store: StoredImage, part: Image, axis: str, stamp: Stamp, progress: Progress, parallel: bool) -> None:
    """Add an image at the end of an axis.

    Parameters
    ----------
    store : StoredImage
    part : Image
    axis : str
    stamp : callable
        Returns the stamp of the store now.
    progress : callable or None
    parallel : bool
        Whether tasks of dask write.
    """
    if axis not in store.image.sizes or axis in "czyx":
        have = ", ".join(a for a in store.image.sizes if a not in "czyx")
        raise CannotWriteError(f"append_dim={axis!r}: the store grows along {have or 'none of its axes'}")
    part = fitted(part, store.image, {axis: None})
    image = joined(store.image, part, axis)
    layout = store.layout(image)
    before = stamp()
    _write(store, layout, part, {axis: store.image.sizes[axis]}, progress, parallel)
    if stamp() != before:
        raise SourceChangedError(f"{store.file} was changed by another process meanwhile: nothing was added to it")
    growth = Growth(axis, store.growth.stamps, {**store.stamps, **store.growth.arrays}).after(before)
    _write_root(store, {**store.attributes[""], OURS: {**store.attributes[""][OURS], GROWTH: growth.document()}})
    for plan in layout.plans:
        if axis in plan.variable.axes:
            for k, path in enumerate(plan.paths):
                _write_shape(store, path, _level_shape(plan, k))
    _commit(store, layout, {GROWTH: growth.after(stamp()).document()}, axis)


def fill(store: StoredImage, part: Image, region: Any, stamp: Stamp, progress: Progress, parallel: bool) -> None:
    """Overwrite a region; parameters as for `append`.

    Parameters
    ----------
    region : mapping of str to (int or slice), or "auto"
    """
    at = region_of(part, store.image, region)
    part = fitted(part, store.image, at)
    check_part(part, store.image, at)
    layout = store.layout(store.image)
    halved = {a for p in layout.plans for f in p.factors for a, n in zip(p.variable.axes, f, strict=False) if n > 1}
    if cut := sorted(halved & set(at)):
        raise CannotWriteError(
            f"region names {cut[0]!r}, along which the levels of the pyramid are halved: give all of it"
        )
    ours = {k: v for k, v in store.attributes[""][OURS].items() if k != GROWTH}
    region = {a: [s.start, s.stop] for a, s in at.items()}
    _write_root(store, {**store.attributes[""], OURS: {**ours, FILLING: region}})
    _write(store, layout, part, {a: s.start for a, s in at.items()}, progress, parallel)
    _commit(store, layout, {}, None)


def _write(
    store: StoredImage, layout: StoreLayout, part: Image, start: Mapping[str, int], progress: Progress, parallel: bool
) -> None:
    tasks = Tasks()
    for name, plan in zip(layout.names, layout.plans, strict=True):
        if name in part.variables:
            filling = _Filling(store, plan, _stored_pixels(plan, part, name), start)
            filling.add_to(tasks, name) if parallel else filling.write(progress)
    if parallel:
        written = tasks.run(lambda block: progress(block.nbytes) if progress else None)
        layout.look_back(written)


def _stored_pixels(plan: PyramidPlan, part: Image, name: str) -> Pixels:
    """Return the pixels of a variable with the axes, in the order, in which they are stored."""
    v = part.variables[name]
    pixels = v.pixels.astype("i8") if v.pixels.dtype.kind in "mM" else v.pixels
    kept = [a for a in v.axes if a in plan.variable.axes]
    pixels = pixels.reshape([v.axes.index(a) for a in kept])
    return pixels.transpose([kept.index(a) for a in plan.variable.axes])


def _level_shape(plan: PyramidPlan, level: int) -> tuple[int, ...]:
    shape = plan.variable.pixels.shape
    for factors in plan.factors[1 : level + 1]:
        shape = tuple(n // f for n, f in zip(shape, factors, strict=True))
    return shape


@dataclass(frozen=True)
class _Filling:
    """The pixels of a variable, and where in its arrays they go."""

    store: StoredImage
    plan: PyramidPlan
    pixels: Pixels
    start: Mapping[str, int]

    @property
    def offset(self) -> tuple[int, ...]:
        return tuple(self.start.get(a, 0) for a in self.plan.variable.axes)

    def write(self, progress: Progress) -> None:
        array, extremes = self._array(0), self.plan.extremes
        write_pixels(array, self.pixels, progress, look=extremes.look if extremes else None, offset=self.offset)
        for k in range(1, len(self.plan.paths)):
            halved, array = Halved(array, self.plan.factors[k], self.plan.labels), self._array(k)
            write_pixels(array, halved.pixels().select(self._part(k)), share=2, offset=self.offset)

    def add_to(self, tasks: Tasks, name: str) -> None:
        layer = add_pixels(tasks, name, self._array(0), self.pixels, self.plan.extremes, self.offset)
        for k in range(1, len(self.plan.paths)):
            halved = Halved(layer.array, self.plan.factors[k], self.plan.labels)
            level = f"{name}/{self.plan.paths[k]}"
            layer = add_level(tasks, level, self._array(k), layer, halved, self._part(k), self.offset)

    def _array(self, level: int) -> Any:
        return self.store.array(self.plan, level, _level_shape(self.plan, level))

    def _part(self, level: int) -> tuple[slice, ...]:
        """Return the part of a level that is made again: it is halved along no axis that has a beginning."""
        axes, shape = self.plan.variable.axes, _level_shape(self.plan, level)
        lengths = [m if a in self.start else n for a, m, n in zip(axes, self.pixels.shape, shape, strict=True)]
        return tuple(slice(o, o + n) for o, n in zip(self.offset, lengths, strict=True))


# metadata


def _commit(store: StoredImage, layout: StoreLayout, beside: Mapping[str, Any], axis: str | None) -> None:
    """Write what has changed of the metadata, the root's last."""
    with_coordinates = Target(store.file, store.zarr_format, {})
    for key, c in layout.coordinates.items():
        if axis in c.axes:
            write_coordinate(with_coordinates, key, c, None, overwrite=True)
    groups = layout.groups()
    for path, attributes in groups.items():
        if path and path in store.attributes and attributes != store.attributes[path]:
            _write_attributes(store, path, {**store.attributes[path], **attributes})
    root = groups[""]
    _write_root(store, {**store.attributes[""], **root, OURS: {**root[OURS], **beside}})


def _write_root(store: StoredImage, attributes: Mapping[str, Any]) -> None:
    _write_attributes(store, "", attributes)


def _write_attributes(store: StoredImage, path: str, attributes: Mapping[str, Any]) -> None:
    group = store.file / path if path else store.file
    if store.zarr_format == 2:
        write_document(group / ".zattrs", attributes)
    else:
        write_document(group / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _write_shape(store: StoredImage, path: str, shape: tuple[int, ...]) -> None:
    file = store.file / join(path, "zarr.json" if store.zarr_format == 3 else ".zarray")
    write_document(file, {**json.loads(file.read()), "shape": list(shape)})
