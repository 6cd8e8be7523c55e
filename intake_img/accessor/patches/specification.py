"""From the arguments of ``ds.img.patches`` to a `Recipe` for `Patches`.

Invalid arguments raise an error here, before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, integer, number, per_axis
from intake_img.accessor.patches.cutting import MODES, Padding
from intake_img.accessor.patches.filters import Filter, as_filter
from intake_img.accessor.patches.lattice import Lattice, lattice
from intake_img.accessor.patches.plan_table import centers_of, places_of, read_table
from intake_img.accessor.patches.sampling import SAMPLES, SamplingRule
from intake_img.accessor.patches.sources import Layer, Source, aligned_layer, as_datasets, checked, make_sources

__all__ = ["Recipe", "Specification"]


@dataclass(frozen=True)
class Recipe:
    """The constructor arguments of `Patches`; see there."""

    sources: Sequence[Source]
    rule: SamplingRule
    padding: Padding
    where: Sequence[Filter] = ()
    cover: Sequence[Layer] | None = None
    min_coverage: float = 0.0


@dataclass(frozen=True)
class Specification:
    """The arguments of `intake_img.patches`; see there."""

    sources: Any
    size: Any
    sample: Any = "grid"
    n: int | None = None
    seed: int = 0
    locality: int | None = None
    step: Any = None
    overlap: Any = None
    halo: Any = 0
    units: Any = "pixel"
    edge: Any = "shift"
    pad_mode: Any = "constant"
    fill_value: Any = 0
    over: Any = None
    variables: Any = None
    paired: Any = None
    levels: Any = None
    weights: Any = None
    mask: Any = None
    labels: Any = None
    balance: Any = None
    min_coverage: float | None = None
    where: Any = ()
    centers: Any = None
    table: Any = None

    def recipe(self) -> Recipe:
        """Check the arguments and return the recipe of the patches.

        Raises
        ------
        AxesError, ValueError, TypeError
            The message names the argument, the given value and the allowed values.
        """
        datasets, coarser = as_datasets(self.sources, self.levels)
        images = [ds[checked(ds, self.variables)[0]] for ds in datasets]
        choice("sample", self.sample, SAMPLES)
        shape = self._lattice(images)
        made = make_sources(datasets, shape.full, shape.over, self.variables, self.paired, coarser)
        self._refuse_unused()
        maps = _Maps(datasets, made, shape)
        weights, meaning = self._map(maps)
        share, cover = self._coverage(maps)
        rule = self._rule(shape, weights, meaning, made)
        padding = self._padding(shape, bool(self.paired or coarser))
        filters = [as_filter(f) for f in ((self.where,) if callable(self.where) else tuple(self.where))]
        return Recipe(made, rule, padding, filters, cover, share)

    def _lattice(self, images: Sequence[xr.DataArray]) -> Lattice:
        return lattice(
            images,
            sample=self.sample,
            size=self.size,
            step=self.step,
            overlap=self.overlap,
            halo=self.halo,
            units=self.units,
            edge=self.edge,
            over=self.over,
        )

    def _rule(
        self, shape: Lattice, weights: tuple[Layer, ...] | None, meaning: str, sources: Sequence[Source]
    ) -> SamplingRule:
        return SamplingRule(
            self.sample,
            shape.axes,
            tuple(shape.lengths[a] for a in shape.axes),
            tuple(shape.step[a] for a in shape.axes),
            tuple(shape.margin[a] for a in shape.axes),
            tuple(shape.edges[a] for a in shape.axes),
            shape.over,
            None if self.n is None else integer("n", self.n, 1),
            integer("seed", self.seed),
            weights,
            meaning,
            self.balance,
            self._places(shape, sources),
            1 if self.locality is None else integer("locality", self.locality, 1),
        )

    def _padding(self, shape: Lattice, further: bool) -> Padding:
        """Return the padding beyond the image; `further` images may need it in any case."""
        modes = per_axis("pad_mode", self.pad_mode, shape.axes, "constant", lambda name, v: choice(name, v, MODES))
        fill = _fill(self.fill_value)
        if not (shape.padded or further):
            _refuse_padding(self.pad_mode, fill, shape.edges)
        return Padding(modes, fill)

    def _refuse_unused(self) -> None:
        """Raise an error for arguments that the sampling method does not use."""
        for name, users in _USERS.items():
            if getattr(self, name) is not None and self.sample not in users:
                raise ValueError(
                    f"{name}= is for sample={' or '.join(map(repr, users))}; sample={self.sample!r} ignores it"
                )
        if self.balance is not None and self.labels is None:
            raise ValueError("balance= gives shares of labels: say which labels (labels=)")
        for needs, name in (("centers", "centers"), ("fixed", "table")):
            if self.sample == needs and getattr(self, name) is None:
                raise ValueError(f"sample={self.sample!r} needs {name}=")

    def _map(self, maps: _Maps) -> tuple[tuple[Layer, ...] | None, str]:
        """Return the map for weighted sampling, and its kind."""
        if self.sample != "weighted":
            return None, "weights"
        given = {k: v for k, v in (("weights", self.weights), ("labels", self.labels)) if v is not None}
        if len(given) > 1:
            raise ValueError("weights= and labels=: give one of them")
        if not given:
            if self.mask is None:
                raise ValueError("sample='weighted' needs a map: weights=, mask= or labels=")
            given = {"mask": self.mask}
        ((what, value),) = given.items()
        return maps.layers(what, value), what

    def _coverage(self, maps: _Maps) -> tuple[float, tuple[Layer, ...] | None]:
        """Return the minimal coverage of a patch by the mask, and the mask."""
        if self.mask is None:
            if self.min_coverage is not None:
                raise ValueError(f"min_coverage={self.min_coverage!r} needs mask=")
            return 0.0, None
        if self.min_coverage is None and self.sample == "weighted":
            if mapped := "weights" if self.weights is not None else "labels" if self.labels is not None else "":
                raise ValueError(
                    f"mask= and {mapped}=: give one map, or say how much of a patch the mask must cover (min_coverage=)"
                )
            return 0.0, None
        share = number("min_coverage", 0.25 if self.min_coverage is None else self.min_coverage, 0, 1)
        return share, maps.layers("mask", self.mask)

    def _places(self, shape: Lattice, sources: Sequence[Source]) -> Any:
        """Return the positions from a table or a list of centres; None for other sampling methods."""
        size = tuple(shape.lengths[a] for a in shape.axes)
        if self.sample == "fixed":
            return places_of(read_table(self.table), shape.axes, shape.over, sources)
        if self.sample == "centers":
            table = read_table(_with_columns(self.centers, shape.axes))
            return centers_of(table, shape.axes, shape.over, size, sources, self.units)
        return None


_USERS = {
    "n": ("random", "weighted"),
    "locality": ("random",),
    "weights": ("weighted",),
    "labels": ("weighted",),
    "balance": ("weighted",),
    "centers": ("centers",),
    "table": ("fixed",),
}
"""The ways of sampling that use an argument."""


@dataclass(frozen=True)
class _Maps:
    """Makes a layer for each source from a map given by name or as an array."""

    datasets: Sequence[xr.Dataset]
    sources: Sequence[Source]
    shape: Lattice

    def layers(self, what: str, value: Any) -> tuple[Layer, ...]:
        """Return a map for each source, aligned with its pixels."""
        many = list(value) if isinstance(value, (list, tuple)) else [value] * len(self.datasets)
        if len(many) != len(self.datasets):
            raise ValueError(f"{what} is a list of {len(many)}, but there are {len(self.datasets)} sources")
        each = zip(self.datasets, self.sources, many, strict=True)
        return tuple(self._layer(what, one, ds, source) for ds, source, one in each)

    def _layer(self, what: str, value: Any, ds: xr.Dataset, source: Source) -> Layer:
        reference, lengths = ds[source.reference.name], self.shape.lengths
        if isinstance(value, str):
            if value not in ds.data_vars:
                raise ValueError(f"{what}={value!r}: source {source.number} has {', '.join(map(str, ds.data_vars))}")
            value = ds[value]
        elif isinstance(value, np.ndarray):
            value = _named(what, value, {a: reference.sizes[a] for a in lengths})
        elif not isinstance(value, xr.DataArray):
            raise TypeError(
                f"{what} is {type(value).__name__}: expected the name of a variable, a DataArray or an array"
            )
        return aligned_layer(what, value, reference, lengths, self.shape.over, centred=False, cover=False)


def _named(what: str, array: np.ndarray, sizes: Mapping[str, int]) -> xr.DataArray:
    """Return an array with the names of axes that it must have the shape of."""
    if array.shape != tuple(sizes.values()):
        raise ValueError(
            f"{what} has the shape {array.shape}, the image {tuple(sizes.values())} along {', '.join(sizes)}; name its "
            "axes with xarray.DataArray"
        )
    return xr.DataArray(array, dims=tuple(sizes))


def _with_columns(centers: Any, axes: Sequence[str]) -> Any:
    """Return an array of centres as a table with a column for each axis; other objects are returned unchanged."""
    import pandas as pd

    if not (isinstance(centers, (np.ndarray, list, tuple)) and np.ndim(centers) == 2):
        return centers
    if np.shape(centers)[1] != len(axes):
        raise ValueError(f"centers has {np.shape(centers)[1]} columns: expected one for each of {', '.join(axes)}")
    return pd.DataFrame(np.asarray(centers), columns=list(axes))


def _refuse_padding(pad_mode: Any, fill_value: Any, edges: Mapping[str, str]) -> None:
    """Raise an error for padding options if no patch extends beyond the image."""
    for name, value, default in (("pad_mode", pad_mode, "constant"), ("fill_value", fill_value, 0)):
        if isinstance(value, Mapping) or value != default:
            raise ValueError(
                f"{name}={value!r} fills what lies beyond the image, but no patch reaches there with "
                f"edge={'/'.join(dict.fromkeys(edges.values()))!r}: pass edge='pad' or halo="
            )


def _fill(fill: Any) -> Any:
    if isinstance(fill, Mapping):
        return dict(fill)
    return fill if isinstance(fill, (bool, np.bool_, np.generic, int, float, complex)) else number("fill_value", fill)
