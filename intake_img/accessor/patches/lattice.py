"""The lattice of patches: sizes, steps, halos and edges along axes, in pixels, from the arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, per_axis, space
from intake_img.accessor.lengths import common_unit, pixels, step_of, unit_of
from intake_img.accessor.variables import spatial_axes
from intake_img.errors import AxesError
from intake_img.kernels.tiling import EDGES
from intake_img.model.axes import SPATIAL, spell
from intake_img.model.datasets import spacing_of
from intake_img.model.units import PIXEL, convert, differ, has_unit, quantity

__all__ = ["Lattice", "lattice"]


@dataclass(frozen=True)
class Lattice:
    """The arrangement of patches along the axes.

    Parameters
    ----------
    lengths, step, margin : dict of str to int
        Size of a patch without its halo, distance to the next patch, and halo, for each cut axis.
    edges : dict of str to str
        How to treat patches that extend beyond the image.
    axes, over : tuple of str
        Axes that are cut, and axes that are iterated over.
    """

    lengths: dict[str, int]
    step: dict[str, int]
    margin: dict[str, int]
    edges: dict[str, str]
    axes: tuple[str, ...]
    over: tuple[str, ...]

    @property
    def full(self) -> dict[str, int]:
        """Size of a patch with its halo."""
        return {a: self.lengths[a] + 2 * self.margin[a] for a in self.axes}

    @property
    def padded(self) -> bool:
        """Whether patches can contain pixels beyond the image."""
        return any(self.margin.values()) or "pad" in self.edges.values()


def lattice(
    images: Sequence[xr.DataArray],
    *,
    sample: str,
    size: Any,
    step: Any,
    overlap: Any,
    halo: Any,
    units: str,
    edge: Any,
    over: Sequence[str] | None,
) -> Lattice:
    """Return the lattice for the arguments of `intake_img.patches`.

    Parameters
    ----------
    images : sequence of xarray.DataArray
        The reference image of each source.
    sample, size, step, overlap, halo, units, edge, over
        See `intake_img.patches`.
    """
    first = images[0]
    lengths = _size(size, first, units)
    axes = tuple(str(d) for d in first.dims if d in lengths)
    physical = [a for a in axes if any(_is_physical(v, a, units) for v in (size, step, overlap, halo))]
    _one_spacing(images, physical)
    iterated = _over(over, first, axes)
    margin = pixels("halo", halo, first, axes, units=units, absent=0, whole=True)
    edges = per_axis("edge", edge, axes, "shift", lambda name, v: choice(name, v, EDGES))
    if sample != "grid" and (bad := [a for a in axes if edges[a] == "balanced"]):
        raise ValueError(f"edge='balanced' (axis {bad[0]!r}) spreads the patches of a grid; sample={sample!r} has none")
    return Lattice(lengths, _step(step, overlap, lengths, first, axes, units, sample), margin, edges, axes, iterated)


def _is_physical(value: Any, axis: str, units: str) -> bool:
    """Whether a length along an axis is not in pixels."""
    if isinstance(value, Mapping):
        value = value.get(axis)
    given = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return any(quantity(v).unit != PIXEL if has_unit(v) else units == "physical" and v not in (0, -1) for v in given)


def _one_spacing(images: Sequence[xr.DataArray], axes: Sequence[str]) -> None:
    """Raise an error if a physical length is not the same number of pixels in all sources."""
    first = images[0]
    for k, other in enumerate(images[1:], 1):
        for axis in [a for a in axes if a in other.dims]:
            known = axis in other.coords and spacing_of(other[axis]) is not None
            expected = step_of(first, axis)
            own = step_of(other, axis) if known else None
            to = common_unit(first) if axis in SPATIAL else unit_of(first, axis)
            unit = common_unit(other) if axis in SPATIAL else unit_of(other, axis)
            if own is not None and differ(unit, to):
                own = convert(own, str(unit), str(to))
            if own is None or not math.isclose(own, expected, rel_tol=1e-6):
                found = "unknown" if own is None else f"{own:.7g} {to or ''}".rstrip()
                raise ValueError(
                    f"source {k} has the spacing {found} along {axis!r}, the first {expected:.7g} {to or ''}".rstrip()
                    + ": a length is not the same number of pixels in both; give lengths in pixels, or bring the "
                    "sources to one spacing first (ds.img.rescale(spacing=...))"
                )


def _size(size: Any, array: xr.DataArray, units: str) -> dict[str, int]:
    axes_of_space = spatial_axes(array)
    if isinstance(size, Mapping):
        if not size:
            raise ValueError("size={}: name at least one axis, e.g. size={'y': 64, 'x': 64}")
        axes: tuple[str, ...] = tuple(str(d) for d in array.dims)
        if unknown := [a for a in size if a not in axes]:
            raise AxesError(f"size names the axis {unknown[0]!r}, but the image has {spell(axes)!r}")
        axes, value = tuple(size), size
    elif isinstance(size, (Sequence, np.ndarray)) and not isinstance(size, str) and np.ndim(size) == 1:
        if not 0 < len(size) <= len(space(array)):
            raise AxesError(
                f"size={size!r} has {len(size)} lengths: expected at most one for each spatial axis, "
                f"{spell(axes_of_space)!r}"
            )
        axes = axes_of_space[-len(size) :]
        value = dict(zip(axes, size, strict=True))
    else:
        axes = tuple(a for a in space(array) if array.sizes[a] > 1) or axes_of_space
        value = dict.fromkeys(axes, size)
    found = pixels("size", value, array, axes, units=units, absent=1, whole=True)
    if bad := [a for a in axes if found[a] < 1]:
        raise ValueError(f"size[{bad[0]!r}]={value[bad[0]]!r}: expected a length of at least one pixel")
    return {a: int(found[a]) for a in axes}


def _over(over: Sequence[str] | None, array: xr.DataArray, axes: Sequence[str]) -> tuple[str, ...]:
    rest = tuple(str(d) for d in array.dims if d not in axes)
    if over is None:
        return tuple(d for d in rest if d not in ("c", "s"))
    wanted = tuple(over)
    if bad := [a for a in wanted if a not in rest]:
        why = "is cut (it is named in size)" if bad[0] in axes else "is not an axis of the image"
        raise AxesError(f"over={over!r}: {bad[0]!r} {why}; expected some of {', '.join(map(repr, rest)) or 'none'}")
    if len(set(wanted)) != len(wanted):
        raise AxesError(f"over={over!r} names an axis twice")
    return tuple(d for d in rest if d in wanted)


def _step(
    step: Any, overlap: Any, size: Mapping[str, int], array: xr.DataArray, axes: Sequence[str], units: str, sample: str
) -> dict[str, int]:
    if step is not None and overlap is not None:
        raise ValueError(f"step={step!r} and overlap={overlap!r}: give one of them")
    given = "step" if step is not None else "overlap"
    if (step is not None or overlap is not None) and sample not in ("grid", "stratified"):
        raise ValueError(f"{given}= is for grids and strata; sample={sample!r} does not use it")
    if step is not None:
        found = pixels("step", step, array, axes, units=units, absent=-1, whole=True)
        found = {a: size[a] if v == -1 else v for a, v in found.items()}
    elif overlap is not None:
        found = pixels("overlap", overlap, array, axes, units=units, absent=0, whole=True)
        found = {a: size[a] - v for a, v in found.items()}
    else:
        return dict(size)
    if bad := [a for a in axes if found[a] < 1]:
        raise ValueError(
            f"{given}={step if step is not None else overlap!r}: patches of {size[bad[0]]} along {bad[0]!r} must move "
            "by at least one pixel"
        )
    return found
