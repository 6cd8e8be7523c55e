"""Images of a table: one field, or several stacked on ``i``, with the channels, times and positions of the index."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.collections.listing import list_folder
from intake_img.collections.plates.planes import gathered
from intake_img.collections.plates.plate_table import Plane, PlateTable
from intake_img.errors import FormatError, warn
from intake_img.formats.format_source import FormatSource
from intake_img.model import stacking
from intake_img.model.agreement import overruled_axes
from intake_img.model.image import Coordinate, Image
from intake_img.model.wells import Place, attrs_of, coordinates_of
from intake_img.storage.files import File

__all__ = ["Opener", "composed", "present"]

Opener = Callable[[File, Mapping[str, Any]], FormatSource]

_SHOWN = 5  # number of missing planes in a message
_FEW = 64  # up to this many files are checked one by one
_MOST_HOLES = 1000  # largest number of grid positions for each existing plane
_TOLERANCE = 1e-6  # relative tolerance of steps along z and t


def present(folder: File, names: Sequence[str]) -> list[bool]:
    """Return which files below a folder exist; for many files, and for remote ones, each folder is listed once."""
    if folder.local and len(names) <= _FEW:
        return [os.path.exists((folder / n).path) for n in names]
    listed: dict[str, frozenset[str]] = {}
    found = []
    for name in names:
        below, _, last = name.rpartition("/")
        if below not in listed:
            listed[below] = frozenset(list_folder(folder / below if below else folder))
        found.append(last in listed[below])
    return found


def composed(
    table: PlateTable,
    places: Sequence[Place],
    opener: Opener,
    *,
    stacked: bool,
    fill: bool,
    overrides: Mapping[str, Any] | None = None,
) -> Image:
    """Return fields as one image.

    Parameters
    ----------
    table : PlateTable
    places : sequence of Place
    opener : callable
        Returns the source of a file with the given driver options.
    stacked : bool
        Stack the fields along ``i``; else there is one field.
    fill : bool
        Fill missing planes, with a warning; else they are an error.
    overrides : mapping, optional
        Metadata of the axes from the user: fields may differ in them.

    Raises
    ------
    FileNotFoundError
        If none of the files exist, or some do not and `fill` is False.
    FormatError
        If the index gives two planes the same position.
    """
    planes = [table.fields[place] for place in places]
    if all(p.scene is not None for some in planes for p in some):
        image = _of_scenes(table, planes, opener, stacked, overrides or {})
    else:
        image = _of_planes(table, places, opener, stacked, fill)
    own = {k: v for k, v in image.attrs.items() if not stacked or k not in ("well", "field", "position")}
    return replace(
        image,
        attrs={**own, **_attrs(table, places, stacked)},
        coords={**image.coords, **(_along(table, places) if stacked else {})},
    )


def _of_scenes(
    table: PlateTable,
    planes: Sequence[Sequence[Plane]],
    opener: Opener,
    stacked: bool,
    overrides: Mapping[str, Any],
) -> Image:
    images = [opener(table.folder / some[0].file, {"scene": some[0].scene}).image() for some in planes]
    if not stacked:
        return images[0]
    return stacking.stacked(images, overruled_axes(overrides, ("i", *next(iter(images[0].variables.values())).axes)))


def _of_planes(table: PlateTable, places: Sequence[Place], opener: Opener, stacked: bool, fill: bool) -> Image:
    numbers = {a: table.numbers(a, _all(table, places) if a != "c" else None) for a in table.axes}
    cells = _grid(table, places, numbers)
    planes: list[Plane | None] = [None if k < 0 else p for k, p in _flat(table, places, cells)]
    names = [p.file if p else "" for p in planes]
    there = present(table.folder, names) if table.folder.local else [True] * len(names)  # each check is a request
    paths = [(table.folder / n).path if n and ok else "" for n, ok in zip(names, there, strict=True)]
    first = next((path for path in paths if path), None)
    if first is None:
        raise FileNotFoundError(
            f"{table.index or table.folder}: none of the {len(set(names))} files of {places[0].scene!r} exists, e.g. "
            f"{(table.folder / names[0]).path}; are the images beside their index?"
        )
    start = opener(table.folder.at(first), {})
    lost = _lost(table, places, cells, numbers, paths, fill)
    axes = (("i",) if stacked else ()) + table.axes
    grid = cells if stacked else cells[0]
    variable = gathered(start, grid, planes, paths, axes, tuple(table.facts.spacing), fill)
    head = start.image()
    own = {k: c for k, c in head.coords.items() if set(c.axes) <= set(variable.axes) - set(axes) and c.axes}
    even = _calibration(table, head, variable.axes)
    image = Image({"image": variable}, *even, coords=own, header={**table.facts.header, "file": head.header})
    return _with_axes(table, image, cells, planes, numbers, lost)


def _all(table: PlateTable, places: Sequence[Place]) -> list[Plane]:
    return [p for place in places for p in table.fields[place]]


def _grid(table: PlateTable, places: Sequence[Place], numbers: Mapping[str, list[int]]) -> np.ndarray:
    """Return the index of the plane, among the planes of its field, at each grid position; -1 if there is none."""
    at = {a: {n: k for k, n in enumerate(known)} for a, known in numbers.items()}
    size, count = len(places) * math.prod(map(len, numbers.values())), sum(len(table.fields[p]) for p in places)
    if size > _MOST_HOLES * (count + _FEW):
        sizes = ", ".join(f"{a} {len(known)}" for a, known in numbers.items())
        raise FormatError(
            f"{table.index or table.folder}: {count} planes of {len(places)} fields have places on a grid of {sizes}: "
            "nearly all of it would be missing, the numbers cannot be right"
        )
    cells = np.full((len(places), *map(len, numbers.values())), -1, np.intp)
    for i, place in enumerate(places):
        for k, plane in enumerate(table.fields[place]):
            cell = (i, *(at[a].get(getattr(plane, a), 0) for a in numbers))
            if cells[cell] >= 0:
                other = table.fields[place][cells[cell]]
                raise FormatError(
                    f"{table.index or table.folder}: {other.file!r} and {plane.file!r} have the same place in "
                    f"{place.scene!r}"
                )
            cells[cell] = k
    return cells


def _flat(table: PlateTable, places: Sequence[Place], cells: np.ndarray) -> list[tuple[int, Plane]]:
    fields = [table.fields[place] for place in places]
    size = cells[0].size
    return [(k, fields[n // size][k]) for n, k in enumerate(cells.ravel().tolist())]


def _lost(
    table: PlateTable,
    places: Sequence[Place],
    cells: np.ndarray,
    numbers: Mapping[str, list[int]],
    paths: Sequence[str],
    fill: bool,
) -> list[str]:
    """Return the missing planes, with a warning or an error."""
    empty = [k for k, path in enumerate(paths) if not path]
    missing = [_described(table, places, cells, numbers, k) for k in empty]
    if not missing:
        return []
    shown = "; ".join(missing[:_SHOWN]) + ("; …" if len(missing) > _SHOWN else "")
    where = table.index or table.folder
    if not fill:
        raise FileNotFoundError(f"{where}: {len(missing)} of {len(paths)} planes are missing: {shown}")
    warn(f"{where}: {len(missing)} of {len(paths)} planes are missing, zeros are in their place: {shown}")
    return missing


def _described(
    table: PlateTable, places: Sequence[Place], cells: np.ndarray, numbers: Mapping[str, list[int]], k: int
) -> str:
    i, *at = (int(n) for n in np.unravel_index(k, cells.shape))
    labels = {a: known[n] for (a, known), n in zip(numbers.items(), at, strict=True)}
    words = [f"{a}={table.channel(n).name if a == 'c' else n}" for a, n in labels.items()]
    return " ".join([places[i].scene, *words])


def _calibration(table: PlateTable, head: Image, axes: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Return spacing and units from the index, else from the files, and the origins of the fields."""
    spacing = {a: v for a, v in head.spacing.items() if a in axes}
    units = {a: u for a, u in head.units.items() if a in axes}
    known = {a: v for a, v in table.facts.spacing.items() if a in axes}
    return spacing | known, units | dict.fromkeys(known, "µm")


def _with_axes(
    table: PlateTable,
    image: Image,
    cells: np.ndarray,
    planes: Sequence[Plane | None],
    numbers: Mapping[str, list[int]],
    lost: Sequence[str],
) -> Image:
    """Return the image with channels, times and heights, and the list of missing planes."""
    coords = dict(image.coords)
    if "c" in numbers:
        coords["c"] = _channels(table, numbers["c"])
    image = replace(image, coords=coords, attrs={**image.attrs, **({"missing": list(lost)} if lost else {})})
    if "z" in numbers:
        image = _measured(image, "z", "µm", _profile(cells, planes, numbers, "z", "height"))
    if "t" in numbers:
        image = _measured(image, "t", "s", _profile(cells, planes, numbers, "t", "seconds"))
    return image


def _channels(table: PlateTable, numbers: Sequence[int]) -> Coordinate:
    channels = [table.channel(n) for n in numbers]
    attrs = {}
    for key in ("color", "emission_wavelength", "excitation_wavelength"):
        values = [getattr(c, key) for c in channels]
        if all(v is not None for v in values):
            attrs[key] = values
    return Coordinate(("c",), np.asarray([c.name for c in channels]), attrs)


def _profile(
    cells: np.ndarray, planes: Sequence[Plane | None], numbers: Mapping[str, list[int]], axis: str, fact: str
) -> np.ndarray:
    """Return the values of each field along an axis, of shape (fields, length): the minimum over channels; NaN if
    unknown."""
    values = np.array([math.nan if p is None else getattr(p, fact) for p in planes]).reshape(cells.shape)
    others = tuple(k + 1 for k, a in enumerate(numbers) if a != axis)
    return np.fmin.reduce(values, axis=others) if others else values  # unlike nanmin, without warnings


def _measured(image: Image, axis: str, unit: str, profiles: np.ndarray) -> Image:
    """Return the image with a coordinate along an axis: the exact values if all fields agree, else their step."""
    units = {**image.units, axis: unit}
    if not np.isfinite(profiles).all():
        return image
    steps = np.diff(profiles, axis=1)
    step = float(steps.mean()) if steps.size else 0.0
    close = _TOLERANCE * abs(step)
    even = step > 0 and bool((np.abs(steps - step) <= close).all())
    same = bool((np.ptp(profiles, axis=0) <= close).all())
    if even:
        origin = {**image.origin, axis: float(profiles[0, 0])} if same else image.origin
        clean = float(f"{step:.9g}")
        return replace(image, spacing={**image.spacing, axis: clean}, units=units, origin=origin)
    if same and profiles.shape[1] > 1 and len(np.unique(profiles[0])) == profiles.shape[1]:
        coords = {**image.coords, axis: Coordinate((axis,), profiles[0], {"units": unit})}
        return replace(image, coords=coords, units=units)
    return image


def _attrs(table: PlateTable, places: Sequence[Place], stacked: bool) -> dict[str, Any]:
    """Return the attributes of a field: its plate, well and position on the stage (µm)."""
    rows, columns = table.shape
    attrs: dict[str, Any] = {"instrument": table.facts.instrument}
    if table.facts.name:
        attrs["plate"] = table.facts.name
    if rows:
        attrs |= {"plate_rows": rows, "plate_columns": columns}
    if stacked:
        return attrs
    attrs |= attrs_of(places[0])
    x, y = table.position(places[0])
    return attrs if math.isnan(x) or math.isnan(y) else {**attrs, "position": [x, y]}


def _along(table: PlateTable, places: Sequence[Place]) -> dict[str, Coordinate]:
    """Return the coordinates along ``i`` of stacked fields."""
    found = {"i": Coordinate(("i",), np.asarray([p.scene for p in places])), **coordinates_of(places)}
    x, y = np.array([table.position(p) for p in places]).T
    if np.isfinite(x).all() and np.isfinite(y).all():
        found |= {f"stage_{a}": Coordinate(("i",), v, {"units": "µm"}) for a, v in (("x", x), ("y", y))}
    return found
