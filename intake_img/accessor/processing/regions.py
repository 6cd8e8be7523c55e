"""Tables of the regions of a label image: sums are computed chunk by chunk, other properties region by region.

For each chunk of labels one task finds the runs of pixels, and another sums the values of each chunk of the image in
these runs. Only sums are sent between tasks. They are integers, so the row of a region does not depend on the chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, neighbourhood, warn_of_negative
from intake_img.accessor.lengths import common_unit, step_of, unit_of
from intake_img.accessor.processing.checks import real
from intake_img.accessor.processing.halo import halo, merged
from intake_img.accessor.processing.in_memory import Held, chunked, each, is_held
from intake_img.accessor.processing.region_units import column_units
from intake_img.accessor.processing.single_regions import PixelScale, SingleRegions
from intake_img.accessor.progress import bar
from intake_img.accessor.variables import lazy
from intake_img.errors import AxesError
from intake_img.kernels import regionedges, regionshapes, regionvalues, runlengths
from intake_img.model.axes import SPATIAL, spell
from intake_img.model.datasets import spacing_of
from intake_img.model.units import PIXEL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["blocks_of", "by_channel", "measured"]

VALUES = {f"intensity_{name}": name for name in ("min", "max", "sum", "mean", "std")}
NEEDS = {"min": ("min",), "max": ("max",), "sum": ("sum",), "mean": ("sum",), "std": ("sum", "square")}
PLANAR = ("perimeter", "perimeter_crofton", "eccentricity", "orientation", "moments_hu")
EVEN = ("perimeter", "perimeter_crofton", "moments_hu")
Columns = dict[str, np.ndarray]


def measured(
    labels: xr.DataArray,
    image: xr.DataArray | None,
    names: Sequence[str],
    extra: Sequence[Any],
    units: Any,
    progress: Any,
) -> pd.DataFrame:
    """Return the table of `Measures.regionprops`."""
    import pandas as pd

    axes = neighbourhood(labels, None)
    if len(axes) < 2:
        raise AxesError(f"regions need two or three spatial axes, the labels have {spell(axes)!r}")
    if image is not None:
        real("intensity", image)
    choice("units", units, ("pixel", "physical"))
    scale = _scale(labels, axes, units == "physical")
    _check(names, len(axes), image is not None, scale.steps)
    single = SingleRegions(tuple(n for n in names if not _adds_up(n)), scale, tuple(extra))
    single.check(len(axes), image is not None)
    with bar(progress, "measuring"):
        table = pd.DataFrame(_Chunks(*_images(labels, image), axes, tuple(names), scale, single).columns())
    unit: str | None = PIXEL
    places: list[str | None] = [PIXEL] * len(axes)
    if units == "physical":
        unit, places = common_unit(labels), [unit_of(labels, a) for a in axes]
    table.attrs = {"units": unit, "column_units": column_units(table.columns, unit, places)}
    return table


def _images(labels: xr.DataArray, image: xr.DataArray | None) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Return both; if there is no image in them, images without labels: a table without rows has the same columns."""
    both = [labels] if image is None else [labels, image]
    if all(n for array in both for d, n in array.sizes.items() if str(d) not in SPATIAL):
        return labels, image
    one, *others = [xr.DataArray(np.zeros((1,) * a.ndim, a.dtype), dims=a.dims) for a in both]
    return one, others[0] if others else None


def by_channel(table: pd.DataFrame, extra: Sequence[str], names: Sequence[Any]) -> pd.DataFrame:
    """Return a table with the rows of one channel, and columns of all of them."""
    units: dict[str, str] = table.attrs["column_units"]
    found: dict[str, str] = {}
    own = [c for c in table if "intensity" in c or "weighted" in c or c.split("-")[0] in extra]
    channels = dict(iter(table.groupby("c", sort=False))) or dict.fromkeys(names, table)
    first = next(iter(channels.values()), table).reset_index(drop=True).drop(columns="c")
    out = first.drop(columns=own)
    for column in own:
        for channel, rows in channels.items():
            out[f"{column}-{channel}"] = rows[column].to_numpy()
            found |= {f"{column}-{channel}": units[column]} if column in units else {}
    out.attrs = table.attrs | {"column_units": {c: u for c, u in units.items() if c in out} | found}
    return out


def _scale(labels: xr.DataArray, axes: Sequence[str], physical: bool) -> PixelScale:
    if not physical:
        return PixelScale((1.0,) * len(axes), (1.0,) * len(axes), (0.0,) * len(axes))
    return PixelScale(
        tuple(step_of(labels, a) for a in axes),
        tuple(spacing_of(labels[a]) or 1.0 for a in axes),
        tuple(float(labels[a].values[0]) for a in axes),
    )


def _adds_up(name: str) -> bool:
    return name in VALUES or name in regionshapes.SHAPES


def _check(names: Sequence[str], ndim: int, image: bool, steps: Sequence[float]) -> None:
    for name in names:
        if name in PLANAR and ndim > 2:
            advice = "measure 'surface_area'" if name.startswith("perimeter") else "measure planes, with ds.isel(z=...)"
            raise NotImplementedError(
                f"properties: {name!r} is of planes, but these labels have {ndim} spatial axes: {advice}"
            )
        if name == "surface_area" and ndim != 3:
            raise NotImplementedError(f"properties: {name!r} is of volumes; of planes measure 'perimeter'")
        if name in EVEN and (len(set(steps)) > 1 or (name == "moments_hu" and steps[0] != 1)):
            raise NotImplementedError(
                f"properties: {name!r} is not defined for pixels of {' x '.join(f'{s:g}' for s in steps)}: give "
                "units='pixel', or rescale the image first"
            )
        if name in VALUES and not image:
            raise ValueError(f"properties: {name!r} needs intensity=")


@dataclass
class _Chunks:
    """A label image and an image with the same chunks, and the properties to measure."""

    labels: xr.DataArray
    image: xr.DataArray | None
    axes: Sequence[str]
    names: tuple[str, ...]
    scale: PixelScale
    single: SingleRegions

    def __post_init__(self) -> None:
        whole = self.labels if self.image is None else self.image
        self.outer = [str(d) for d in whole.dims if d not in self.axes]
        self.own = [d for d in self.outer if d in self.labels.dims]
        self.edges = [n for n in self.names if n in regionedges.MARGINS]
        self.statistics = sorted({part for n in self.names if n in VALUES for part in NEEDS[VALUES[n]]})
        margin = max((regionedges.MARGINS[n] for n in self.edges), default=0)
        held = is_held(self.labels) and (self.image is None or is_held(self.image))
        cut = chunked if held else lazy
        data = cut(self.labels.transpose(*self.own, *self.axes))
        lead = len(self.own)
        self.data = data.rechunk({lead + k: merged(data.chunks[lead + k], margin) for k in range(len(self.axes))})
        self.depth = {lead + k: (margin, margin) for k in range(len(self.axes)) if margin}
        self.pixels = None
        if self.image is not None:
            chunks = dict(zip([*self.own, *self.axes], self.data.chunks, strict=True))
            turned = self.image.transpose(*self.outer, *self.axes)
            self.pixels = cut(turned).rechunk({k: chunks[d] for k, d in enumerate(turned.dims) if d in chunks})

    def columns(self) -> Columns:
        """Return the columns of the table."""
        geometry, values = self._held() if isinstance(self.data, Held) else self._computed()
        below = [part[2] for cell in geometry.values() for part in cell.flat]
        warn_of_negative("labels", np.concatenate(below) if below else np.empty(0))
        shapes = {place: self._shapes(found) for place, found in _by_image(geometry, len(self.own)).items()}
        measured_values = _by_image(values, len(self.outer))
        rows = [self._rows(place, shapes, measured_values) for place in np.ndindex(*self._sizes(self.outer))]
        return _stacked(rows)

    def _computed(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Return what is found in each chunk, of the labels and of the values of the image."""
        import dask

        parts = blocks_of(self._parts())
        geometry = {k: dask.delayed(_geometry, pure=False)(b) for k, b in np.ndenumerate(parts)}
        found: tuple[dict[Any, Any], dict[Any, Any]] = dask.compute(geometry, self._values(parts))
        return found

    def _held(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Return what `_computed` does, of arrays in memory."""
        made = self._parts()
        parts = {k: made[tuple(slice(i, i + 1) for i in k)] for k in np.ndindex(made.shape)}
        geometry = {k: _geometry(b) for k, b in parts.items()}
        if self.pixels is None or not self.statistics:
            return geometry, {}
        own = [k for k, d in enumerate(self.outer) if d in self.own]
        lead, pixels = len(self.outer), self.pixels

        def measure(k: tuple[int, ...]) -> np.ndarray:
            return _values(own, lead, self.statistics, parts[tuple(k[i] for i in own) + k[lead:]], pixels.block(k))

        places = list(np.ndindex(*map(len, pixels.chunks)))
        return geometry, dict(zip(places, each(measure, places), strict=True))

    def _sizes(self, dims: Sequence[str]) -> list[int]:
        whole = self.labels if self.image is None else self.image
        return [whole.sizes[d] for d in dims]

    def _parts(self) -> Any:
        """Return what is found in each chunk as an array of objects, one for each chunk."""
        powers = regionshapes.powers_for([n for n in self.names if n in regionshapes.SHAPES], len(self.axes))
        measure = partial(_part, len(self.own), powers, self.edges, self.scale.steps, self.data.shape)
        return halo(
            self.data,
            measure,
            self.depth,
            pad={"mode": "constant"},
            chunks=lambda spans: [(1,) * len(s) for s in spans],
            dtype=object,
            name="regions",
            positions=True,
        )

    def _values(self, parts: np.ndarray) -> dict[tuple[int, ...], Any]:
        import dask

        if self.pixels is None or not self.statistics:
            return {}
        own = [k for k, d in enumerate(self.outer) if d in self.own]
        job = dask.delayed(partial(_values, own, len(self.outer), self.statistics), pure=False)
        return {
            k: job(parts[tuple(k[i] for i in own) + k[len(self.outer) :]], block)
            for k, block in np.ndenumerate(blocks_of(self.pixels))
        }

    def _shapes(self, found: Sequence[Any]) -> regionshapes.Shapes:
        sums = runlengths.merged([sums for sums, _, _ in found])
        edges = {n: regionedges.edges_merged([e[n] for _, e, _ in found], sums.ids) for n in self.edges}
        return regionshapes.Shapes(sums, self.scale.steps, edges)

    def _rows(self, place: tuple[int, ...], shapes: dict[Any, regionshapes.Shapes], values: dict[Any, Any]) -> Columns:
        """Return the columns of one image."""
        where = dict(zip(self.outer, place, strict=True))
        here = shapes[tuple(where[d] for d in self.own)]
        found: Columns = {d: np.repeat(self._at(d, k), len(here.sums.ids)) for d, k in where.items()}
        found["label"] = here.sums.ids
        sums = regionvalues.values_merged(values[place], here.sums.ids) if self.statistics else {}
        alone = self._alone(where, here) if self.single.wanted else {}
        for name in self.names:
            if name in VALUES:
                assert self.image is not None
                found[name] = regionvalues.statistics(VALUES[name], sums, here.count, self.image.dtype)
            elif name in regionshapes.SHAPES:
                found |= _split(name, self._placed(name, regionshapes.SHAPES[name][1](here)))
            else:
                found |= {c: v for c, v in alone.items() if c == name or c.startswith(f"{name}-")}
        return found | {c: v for c, v in alone.items() if c not in found}

    def _at(self, dim: str, k: int) -> np.ndarray:
        whole = self.labels if self.image is None else self.image
        return whole[dim].values[k : k + 1] if dim in whole.coords else np.array([k])

    def _placed(self, name: str, values: np.ndarray) -> np.ndarray:
        return values * self.scale.own_steps + self.scale.origin if name == "centroid" else values

    def _alone(self, where: dict[str, int], here: regionshapes.Shapes) -> Columns:
        labels = _image_at(self.data, tuple(where[d] for d in self.own))
        image = None if self.pixels is None else _image_at(self.pixels, tuple(where.values()))
        return self.single.columns(labels, image, here.sums)


def _image_at(data: Any, place: tuple[int, ...]) -> Any:
    return Held(data.array[place], data.chunks[len(place) :]) if isinstance(data, Held) else data[place]


def _part(
    lead: int,
    powers: Sequence[runlengths.Powers],
    edges: Sequence[str],
    steps: Sequence[float],
    shape: Sequence[int],
    piece: np.ndarray,
    inner: tuple[slice, ...],
    start: tuple[int, ...],
) -> np.ndarray:
    """Return the sums of each image of a chunk, in an array of one object."""
    cores = piece[inner]
    last = [s + n == whole for s, n, whole in zip(start, cores.shape, shape, strict=True)][lead:]
    found = np.empty(cores.shape[:lead], object)
    for place in np.ndindex(found.shape):
        runs = runlengths.find_runs(cores[place])
        sums = runlengths.region_sums(runs, start[lead:], powers)
        around = {n: regionedges.edges_in(n, _trimmed(piece[place], inner[lead:], n), last, steps) for n in edges}
        found[place] = (runs, sums, around, runlengths.negative(cores[place]))
    out = np.empty((1,) * piece.ndim, object)
    out[(0,) * piece.ndim] = found
    return out


def _trimmed(piece: np.ndarray, inner: Sequence[slice], name: str) -> np.ndarray:
    margin = regionedges.MARGINS[name]
    return piece[tuple(slice(s.start - margin, s.stop + margin) for s in inner)]


def _geometry(block: np.ndarray) -> np.ndarray:
    """Return the sums of each image of a chunk, without its runs."""
    found = np.empty_like(block.item())
    for place, (_, *rest) in np.ndenumerate(block.item()):
        found[place] = tuple(rest)
    return found


def _values(own: Sequence[int], lead: int, wanted: Sequence[str], block: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    found = np.empty(pixels.shape[:lead], object)
    for place in np.ndindex(found.shape):
        runs = block.item()[tuple(place[k] for k in own)][0]
        found[place] = regionvalues.values_in(runs, pixels[place], wanted)
    return found


def _by_image(cells: dict[tuple[int, ...], np.ndarray], lead: int) -> dict[tuple[int, ...], list[Any]]:
    """Return the sums of the chunks of each image."""
    lengths: list[dict[int, int]] = [{} for _ in range(lead)]
    for k, cell in cells.items():
        for axis in range(lead):
            lengths[axis][k[axis]] = cell.shape[axis]
    starts = [np.cumsum([0, *(length[k] for k in sorted(length))]) for length in lengths]
    found: dict[tuple[int, ...], list[Any]] = {}
    for k, cell in cells.items():
        for place, value in np.ndenumerate(cell):
            image = tuple(int(s[i]) + p for s, i, p in zip(starts, k, place, strict=False))
            found.setdefault(image, []).append(value)
    return found


def _split(name: str, values: np.ndarray) -> Columns:
    """Return a column for each number of a property."""
    if values.ndim == 1:
        return {name: values}
    return {"-".join([name, *map(str, k)]): values[:, *k] for k in np.ndindex(values.shape[1:])}


def _stacked(rows: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([r[name] for r in rows]) for name in rows[0]} if rows else {}


def blocks_of(array: Any, fused: bool = True) -> np.ndarray:
    """Return the chunks of a dask array, one by one; without fusion, so that arrays share common tasks."""
    if hasattr(array, "to_delayed"):
        return array.to_delayed(optimize_graph=fused)
    starts = [np.concatenate([[0], np.cumsum(c)]).tolist() for c in array.chunks]  # a dask array expression
    out = np.empty(array.numblocks, object)
    for k in np.ndindex(*array.numblocks):
        out[k] = array[tuple(slice(s[i], s[i + 1]) for s, i in zip(starts, k, strict=True))]
    return out
