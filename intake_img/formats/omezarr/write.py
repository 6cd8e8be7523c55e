"""Layout of an image in a Zarr store: its arrays and groups, and their metadata.

`metadata` spells the metadata, `store` reads and writes stores and chunks.
"""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.chunk_writer import chunk_writer
from intake_img.formats.omezarr.parallel import Filling, Written, add_level, add_together
from intake_img.formats.omezarr.store import Halved, chunk_shape, shard_shape, write_pixels
from intake_img.formats.omezarr.target import Target
from intake_img.formats.omezarr.windows import LONGEST, Extremes, Window
from intake_img.model.blocks import is_computed
from intake_img.model.datasets import spacing_of
from intake_img.model.engine import Tasks
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels
from intake_img.model.record import plain
from intake_img.model.units import parse_unit
from intake_img.storage.files import File

__all__ = ["OURS", "PACKED", "Empty", "StoreLayout", "join", "lay_out", "write_coordinate"]

OURS = "intake_img"
"""Attribute of the root group that contains the record."""
PACKED = ("scale_factor", "add_offset", "_Unsigned")
"""Attributes of packed numbers in CF."""
_RESERVED = ("ome", "multiscales", "omero", "plate", "well", "labels", "bioformats2raw.layout", "coordinates")


def join(*parts: str) -> str:
    """Return the path of a node of a store; empty parts are left out."""
    return "/".join(p for p in parts if p)


@dataclass(frozen=True)
class PyramidPlan:
    """The arrays of one variable: one for each level."""

    variable: Variable
    paths: tuple[str, ...]
    factors: tuple[tuple[int, ...], ...]
    given: tuple[Pixels, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    attributes: Mapping[str, Any]
    fill: int | None
    extremes: Extremes | None = None

    def write(self, target: Target, compress: Any, progress: Callable[[int], None] | None) -> None:
        array = None
        with ThreadPoolExecutor(cpus(), "intake_img-write") as pool:
            for k, _ in enumerate(self.paths):
                halved = None if array is None or k <= len(self.given) else Halved(array, self.factors[k], self.labels)
                pixels = self._stored(k) if halved is None else halved.pixels()
                array = self._create(target, k, pixels, compress)
                writer = chunk_writer(array, self.fill)
                write = None if writer is None else partial(writer.write, pool=pool)
                if halved is not None:  # each block is made of one several times as large
                    write_pixels(array, pixels, share=2, write=write)
                else:
                    look = self.extremes.look if self.extremes and k == 0 else None
                    write_pixels(array, pixels, progress, look=look, write=write)

    def add_to(self, tasks: Tasks, name: str, target: Target, compress: Any) -> None:
        """Make the empty arrays, and add the tasks that fill them."""
        fillings = []
        for k, path in enumerate(self.paths[: 1 + len(self.given)]):
            pixels = self._stored(k)
            array = self._create(target, k, pixels, compress)
            extremes, writer = None if k else self.extremes, chunk_writer(array, self.fill)
            fillings.append(Filling(join(name, path) if k else name, array, pixels, extremes, writer))
        layer = add_together(tasks, fillings)[-1]
        for k, path in enumerate(self.paths[len(fillings) :], len(fillings)):
            halved = Halved(layer.array, self.factors[k], self.labels)
            array = self._create(target, k, halved.pixels(), compress)
            writer = chunk_writer(array, self.fill)
            layer = add_level(tasks, f"{name}/{path}", array, layer, halved, writer=writer)

    @property
    def related(self) -> bool:
        """Whether dask computes further levels, most likely from the same pixels as the first."""
        return any(is_computed(pixels) for pixels in self.given)

    @property
    def in_memory(self) -> bool:
        """Whether there is nothing to compute or to read, or hardly anything: it is written faster than sent."""
        return all(p.in_memory or p.ndim == 0 or p.size == 0 for p in (self.variable.pixels, *self.given))

    @property
    def labels(self) -> bool:
        return self.variable.kind == "labels"

    def _stored(self, k: int) -> Pixels:
        """Return the pixels of a level that is not made of the one above, as they are stored."""
        pixels = self.given[k - 1] if k else self.variable.pixels
        return pixels.astype("i8") if pixels.dtype.kind in "mM" else pixels

    def create(self, target: Target, compress: Any) -> None:
        """Make the array of full resolution and leave it empty."""
        self._create(target, 0, self.variable.pixels, compress)

    def _create(self, target: Target, k: int, pixels: Pixels, compress: Any) -> Any:
        chunks = tuple(
            max(1, min(c, n)) if self.shards is None else c for c, n in zip(self.chunks, pixels.shape, strict=True)
        )
        return target.create(
            self.paths[k],
            pixels.shape,
            pixels.dtype,
            self.variable.axes,
            chunks,
            self.shards,
            compress,
            self.attributes,
            self.fill,
        )


class StoreLayout:
    """Where in a store everything of an image goes: arrays (`plans`), `coordinates`, and attributes of `groups`."""

    def __init__(
        self,
        image: Image,
        name: str,
        version: str,
        chunks: Any,
        shards: Any,
        pyramid: bool | int,
        levels: tuple[Image, ...],
    ) -> None:
        self.version, self.chunks, self.shards, self.pyramid = version, chunks, shards, pyramid
        self.title = re.sub(r"(\.ome)?\.(zarr|ozx|zip)$", "", name.removesuffix(".zip"), flags=re.I) or "image"
        self.image = replace(image, variables={n: _stored(n, v) for n, v in image.variables.items()})
        self.levels = tuple(replace(lv, variables={n: _stored(n, v) for n, v in lv.variables.items()}) for lv in levels)
        self.facts = _facts(self.image)
        self._omes: dict[str, dict[str, Any]] = {}  # NGFF metadata of groups, without windows
        self._titles: dict[str, str] = {}
        self._shown: dict[str, str] = {}  # variables with channels, by their groups
        self.plans: list[PyramidPlan] = []
        self.names: list[str] = []
        self.coordinates: dict[str, Coordinate] = {}
        self._places: dict[str, list[str]] = {}
        for what, asked in (("chunks", chunks), ("shards", shards)):
            if isinstance(asked, Mapping) and (unknown := [a for a in asked if a not in self.image.sizes]):
                raise CannotWriteError(
                    f"{what} name the axis {unknown[0]!r}, but the image has {', '.join(image.sizes)}"
                )
        fit = [n for n, v in self.image.variables.items() if ngff.stored_order(v.axes) is not None]
        images = [n for n in fit if not _is_label(self.image.variables[n])] or fit[:1]
        labels = [n for n in fit if n not in images and _is_label(self.image.variables[n])]
        if images:
            self._images(images)
        if labels:
            self._labels(labels)
        for key in self.image.variables:
            if key not in images and key not in labels:
                self._plan(key, [_slug(key)], [()], plain_group=not images)
        self._plain = {} if "" in self._omes else self._plain_attributes()
        record = _record(image, self.image)
        self._recorded = record if _strict_json(record) else json.dumps(record)

    def groups(self, windows: Mapping[str, Sequence[Window | None]] | None = None) -> dict[str, dict[str, Any]]:
        """Return the attributes of every group by its path.

        Parameters
        ----------
        windows : mapping of str to sequence of (float, float) or None, optional
            What is shown of the channels of variables; by default what was seen while they were written.
        """
        seen = {n: p.extremes.windows() for n, p in zip(self.names, self.plans, strict=True) if p.extremes}
        omes = dict(self._omes)
        for folder, key in self._shown.items():
            omes[folder] = {**omes[folder], "omero": self._omero(key, (windows or seen)[key])}
        found = {folder: ngff.wrapped(ome, self.version) for folder, ome in omes.items()}
        attributes = found.get("", self._plain)
        ours = {"version": 1, "arrays": self._places, "of": ngff.digest(attributes), "record": self._recorded}
        return {**found, "": {**attributes, OURS: ours}}

    def fill(self, target: Target, compress: Any, progress: Callable[[int], None] | None) -> None:
        """Make the arrays and fill them."""
        if not target.in_folder or not any(plan.related for plan in self.plans):
            for plan in self.plans:
                plan.write(target, compress, progress)
            return
        tasks = self.tasks(target, compress, progress)
        self.look_back(tasks.run(None if progress is None else lambda written: progress(written.nbytes)))

    def tasks(self, target: Target, compress: Any, progress: Callable[[int], None] | None) -> Tasks:
        """Make the arrays; fill those whose pixels are in memory, and return the tasks that fill the others."""
        tasks = Tasks()
        for name, plan in zip(self.names, self.plans, strict=True):
            if plan.in_memory:
                plan.write(target, compress, progress)
            else:
                plan.add_to(tasks, name, target, compress)
        return tasks

    def look_back(self, written: Sequence[Written]) -> None:
        """Take into account what the tasks saw."""
        extremes = {n: p.extremes for n, p in zip(self.names, self.plans, strict=True)}
        for block in written:
            if block.extremes is not None and (of_all := extremes[block.array]) is not None:
                of_all.add(block.extremes)

    def without_pixels(self) -> StoreLayout:
        """Return a layout that knows all but the pixels, to be sent elsewhere."""
        lean = copy(self)
        lean.image = replace(self.image, variables={n: _unread(v) for n, v in self.image.variables.items()})
        lean.levels = ()
        lean.plans = [replace(p, variable=_unread(p.variable), given=()) for p in self.plans]
        return lean

    def room(self) -> dict[str, dict[str, Any]]:
        """Return `groups` with windows that take as much room as any can."""
        return self.groups({key: [LONGEST] * len(self.image.coords["c"].values) for key in self._shown.values()})

    def _omero(self, key: str, windows: Sequence[Window | None]) -> dict[str, Any]:
        c, dtype = self.image.coords["c"], self.image.variables[key].pixels.dtype
        return ngff.omero_json([str(v) for v in c.values], c.attrs, dtype, self._titles[key], windows)

    def _images(self, names: Sequence[str]) -> None:
        """Plan multiscale images: the first is the root group itself, others have groups of their own in it."""
        for k, key in enumerate(names):
            variable, folder = self.image.variables[key], _slug(key) if k else ""
            self._titles[key] = self.title if len(names) == 1 else key
            if (c := self.image.coords.get("c")) is not None and "c" in variable.axes and c.axes == ("c",):
                self._shown[folder] = key
            ome: dict[str, Any] = {"multiscales": [self._multiscale(key, folder, self._titles[key])]}
            self._omes[folder] = {**ome, "image-label": {}} if _is_label(variable) else ome

    def _labels(self, names: Sequence[str]) -> None:
        """Plan label images in the group ``labels``."""
        self._omes["labels"] = {"labels": [_slug(n) for n in names]}
        for key in names:
            folder = f"labels/{_slug(key)}"
            entry = self._multiscale(key, folder, key)
            self._omes[folder] = {"multiscales": [entry], "image-label": {"source": {"image": "../../"}}}

    def _multiscale(self, key: str, folder: str, title: str) -> dict[str, Any]:
        """Plan the arrays of a variable in the group `folder`; return its metadata."""
        variable = self.image.variables[key]
        described = [{**level, "path": str(k)} for k, level in enumerate(self._described_levels(key, variable))]
        self._plan(key, [join(folder, d["path"]) for d in described], [d["step"] for d in described])
        method = None if self.levels else ("mode" if variable.kind == "labels" else "mean")
        return ngff.multiscale_json(title, variable.axes, described, method)

    def _plan(self, key: str, paths: list[str], steps: Sequence[tuple[int, ...]], plain_group: bool = False) -> None:
        variable = self.image.variables[key]
        item = variable.pixels.dtype.itemsize
        chunks = chunk_shape(self.chunks, variable.axes, variable.pixels.shape, item)
        shards = shard_shape(self.shards, variable.axes, variable.pixels.shape, chunks, item) if chunks else None
        attrs = _public(variable.attrs) if plain_group else {}
        fill = None if plain_group and self.version == "0.4" else 0  # xarray takes 0 there for "missing"
        given = tuple(lv.variables[key].pixels for lv in self.levels) if len(paths) > 1 else ()
        self._places[key] = paths
        self.names.append(key)
        shown = key in self._shown.values()
        extremes = Extremes(variable.axes, variable.pixels.shape, variable.pixels.dtype) if shown else None
        self.plans.append(
            PyramidPlan(variable, tuple(paths), tuple(steps), given, chunks, shards, attrs, fill, extremes)
        )

    def _described_levels(self, key: str, variable: Variable) -> list[dict[str, Any]]:
        """What is known of each level: factor relative to the first and to the one before, spacing, units, origin."""
        axes, spacing, origin = variable.axes, self.facts["spacing"], self.facts["origin"]
        ones = (1,) * len(axes)
        described: list[dict[str, Any]] = [{**self.facts, "factor": {}, "step": ones}]
        shape = variable.pixels.shape
        if self.levels:
            for n, lv in enumerate(self.levels, 1):
                other = lv.variables.get(key)
                if other is None or other.axes != axes:
                    found = "lacks it" if other is None else f"has axes {', '.join(other.axes)}"
                    raise CannotWriteError(f"level {n} of the DataTree does not continue {key!r}: it {found}")
                ratio = {a: m / max(1, k) for a, m, k in zip(axes, shape, other.pixels.shape, strict=True)}
                own = _facts(lv)
                steps = {a: own["spacing"].get(a, s * ratio.get(a, 1)) for a, s in spacing.items()}
                described.append(
                    {
                        **self.facts,
                        "factor": ratio,
                        "step": ones,
                        "spacing": steps,
                        "origin": {**origin, **own["origin"]},
                    }
                )
            return described
        factor = dict.fromkeys(axes, 1)
        while self._another(len(described) - 1, dict(zip(axes, shape, strict=True))):
            step = self._step(axes, shape, factor)
            shape = tuple(n // f for n, f in zip(shape, step, strict=True))
            factor = {a: factor[a] * f for a, f in zip(axes, step, strict=True)}
            described.append(
                {
                    **self.facts,
                    "factor": dict(factor),
                    "step": step,
                    "spacing": {a: s * factor.get(a, 1) for a, s in spacing.items()},
                    "origin": {a: origin.get(a, 0.0) + s * (factor.get(a, 1) - 1) / 2 for a, s in spacing.items()},
                }
            )
        return described

    def _another(self, made: int, sizes: Mapping[str, int]) -> bool:
        plane = [sizes.get(a, 1) for a in "yx"]
        if max(plane) < 2:
            return False
        return max(plane) > 256 if self.pyramid is True else made < int(self.pyramid)

    def _step(self, axes: Sequence[str], shape: Sequence[int], factor: Mapping[str, int]) -> tuple[int, ...]:
        spacing = {a: s * factor.get(a, 1) for a, s in self.facts["spacing"].items()}
        deep = "z" in spacing and "y" in spacing and self._ratio(spacing) <= 1 + 1e-9
        halved = ("y", "x", "z") if deep else ("y", "x")
        return tuple(2 if a in halved and n > 1 else 1 for a, n in zip(axes, shape, strict=True))

    def _ratio(self, spacing: Mapping[str, float]) -> float:
        """Spacing of z in that of y; numbers are compared where one of them has no unit."""
        z, y = (parse_unit(self.facts["units"].get(a)) for a in "zy")
        return spacing["z"] / spacing["y"] * (z.factor / y.factor if z and y else 1.0)

    def _plain_attributes(self) -> dict[str, Any]:
        """Attributes of a group without multiscales; coordinates are planned as arrays, as xarray writes them."""
        taken = {p for paths in self._places.values() for p in paths}
        for key, c in self.image.coords.items():
            if _slug(key) == key and key not in taken and _zarr_values(c.values) is not None:
                self.coordinates[key] = c
        beside = [k for k, c in self.coordinates.items() if c.axes != (k,)]
        attributes = {k: v for k, v in _public(self.image.attrs).items() if k not in _RESERVED}
        return {**attributes, **({"coordinates": " ".join(beside)} if beside else {})}


@dataclass(frozen=True)
class Empty:
    """A store whose arrays are there and whose metadata are not: nothing takes it for an image yet.

    Parameters
    ----------
    arrays : mapping of str to (str, tuple of str)
        For each variable the path of its array in the store, and the axes as they are stored.
    groups : mapping of str to mapping
        Attributes of the groups, by their path in the store.
    """

    arrays: Mapping[str, tuple[str, tuple[str, ...]]]
    groups: Mapping[str, Mapping[str, Any]]

    def finish(self, path: str | File) -> None:
        """Write the metadata into the store at `path`: it is an image from now on."""
        with Target(path, 3, self.groups):
            pass


def lay_out(
    image: Image, path: str | File, *, compress: Any = None, name: str = ".zarr", chunks: Any = None, shards: Any = None
) -> Empty:
    """Make the arrays of an image in an OME-Zarr 0.5 store, for others to fill; its pixels are not read.

    Parameters
    ----------
    image : Image
    path : str or File
        An existing folder, or one on a server.
    compress, name, chunks, shards
        As for `OmeZarr.write`.
    """
    layout = StoreLayout(image, name, "0.5", chunks, shards, False, ())
    target = Target(path, 3, layout.groups())
    for plan in layout.plans:
        plan.create(target, compress)
    for key, c in layout.coordinates.items():
        write_coordinate(target, key, c, compress)
    arrays = {v: (plan.paths[0], plan.variable.axes) for v, plan in zip(layout.names, layout.plans, strict=True)}
    return Empty(arrays, layout.groups())


def _unread(variable: Variable) -> Variable:
    """Return a variable whose pixels nobody can read."""
    nothing: Any = None
    return replace(variable, pixels=replace(variable.pixels, reader=nothing))


def _stored(name: str, variable: Variable) -> Variable:
    """Return a variable with its axes in the order in which they are stored."""
    pixels = variable.pixels
    if pixels.dtype.kind not in "biufcmM" or pixels.dtype.itemsize > (16 if pixels.dtype.kind == "c" else 8):
        hint = f"; make it a coordinate (ds.set_coords({name!r}))" if pixels.dtype.kind in "USTO" else ""
        raise CannotWriteError(f"{name!r} has dtype {pixels.dtype}, which OME-Zarr cannot store as pixels{hint}")
    axes = ngff.stored_order(variable.axes)
    if axes is None:  # NGFF has no place for further axes; if they are of length 1, the record alone knows them
        lean = tuple(a for a, n in zip(variable.axes, pixels.shape, strict=True) if a in "tczyx" or n > 1)
        axes = ngff.stored_order(lean) if set(lean) <= set("tczyx") else None
        if axes is not None:
            pixels = pixels.reshape([variable.axes.index(a) for a in lean])
            return replace(variable, pixels=pixels.transpose([lean.index(a) for a in axes]), axes=axes)
        axes = variable.axes
    return replace(variable, pixels=pixels.transpose([variable.axes.index(a) for a in axes]), axes=axes)


def _record(image: Image, stored: Image) -> dict[str, Any]:
    """Return the record of an image, with the stored axes of variables that are stored without some."""
    record = stored.record()
    for name, v in stored.variables.items():
        if left_out := [a for a in image.variables[name].axes if a not in v.axes]:
            facts = record["variables"][name]
            facts["stored"] = facts["axes"]
            facts["axes"] = [*left_out, *facts["axes"]]
            facts["shape"] = [*[1] * len(left_out), *facts["shape"]]
    return record


def _facts(image: Image) -> dict[str, dict[str, Any]]:
    """Spacing, units and origin of evenly spaced axes, from the image's own facts and its coordinates."""
    facts: dict[str, dict[str, Any]] = {k: dict(getattr(image, k)) for k in ("spacing", "units", "origin")}
    for name, c in image.coords.items():
        if c.axes != (name,):
            continue
        step = spacing_of(xr.DataArray(c.values, dims=(name,), name=name, attrs=dict(c.attrs)))
        if step is None:
            facts["spacing"].pop(name, None)
            continue
        facts["spacing"][name] = step
        facts["origin"][name] = float(c.values[0]) if len(c.values) else 0.0
        if c.attrs.get("units"):
            facts["units"][name] = str(c.attrs["units"])
    finite = {a for a, o in facts["origin"].items() if math.isfinite(o)}
    facts["origin"] = {a: o for a, o in facts["origin"].items() if a in finite}
    return facts


def _is_label(variable: Variable) -> bool:
    return variable.kind == "labels" and variable.pixels.dtype.kind in "iu"


def _slug(name: str) -> str:
    """Return a name as that of a node in a store: itself where it may be one."""
    plain_name = re.fullmatch(r"[^\W\d_][\w .+-]*", name) and name.lower() not in ("labels", "ome", "zarr.json")
    if plain_name and not name.endswith((".", " ")):
        return name
    return "var_" + urllib.parse.quote(name, safe="").replace("%", "~")


def _public(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as other readers can take them; those that would change what the numbers mean are left out."""
    meaning = ("_FillValue", "missing_value", "dtype", "coordinates", "_ARRAY_DIMENSIONS", "calendar", *PACKED)
    return {
        k: v for k, v in plain(attrs).items() if k not in meaning and " since " not in str(v)[:200] and _strict_json(v)
    }


def _encoded(c: Coordinate) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a coordinate as numbers or text with the attributes that say what they mean, as xarray writes them."""
    variable = xr.conventions.encode_cf_variable(xr.Variable(c.axes, _zarr_values(c.values), _public(c.attrs)))
    attrs = {k: v for k, v in plain(variable.attrs).items() if _strict_json(v)}
    return np.asarray(variable.values), attrs


def write_coordinate(target: Target, key: str, c: Coordinate, compress: Any, overwrite: bool = False) -> None:
    data, attrs = _encoded(c)
    whole = tuple(max(1, n) for n in data.shape)
    array = target.create(
        key, data.shape, data.dtype, c.axes, whole, None, compress, attrs, fill=None, overwrite=overwrite
    )
    if data.size:
        array[...] = data


def _zarr_values(values: np.ndarray) -> Any:
    """Return the values of a coordinate as an array that Zarr stores, None if it cannot."""
    values = np.asarray(values)
    if values.dtype.kind in "UT" or (values.dtype.kind == "O" and all(isinstance(v, str) for v in values.ravel())):
        return values.astype(object)
    return values if values.dtype.kind in "biufcmM" else None


def _strict_json(value: Any) -> bool:
    """True for what other readers of JSON accept: they know no NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
