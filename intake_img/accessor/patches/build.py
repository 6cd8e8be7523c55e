"""From the arguments of ``ds.img.patches`` to `Patches`: everything wrong is refused here, before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, integer, number, per_axis, space
from intake_img.accessor.lengths import common_unit, pixels, step_of, unit_of
from intake_img.accessor.patches.core import Patches
from intake_img.accessor.patches.filters import as_filter
from intake_img.accessor.patches.reading import MODES, Padding
from intake_img.accessor.patches.sampling import SAMPLES, Law
from intake_img.accessor.patches.sources import Layer, Source, aligned_layer, as_datasets, checked, make_sources
from intake_img.accessor.patches.table import centers_of, places_of, read_table
from intake_img.accessor.variables import spatial_axes
from intake_img.errors import AxesError
from intake_img.kernels.tiling import EDGES
from intake_img.model.axes import SPATIAL, spell
from intake_img.model.datasets import spacing_of
from intake_img.model.typed import LayerLike, Lengths, Units
from intake_img.model.units import PIXEL, convert, differ, has_unit, quantity

__all__ = ["patches"]


def patches(
    sources: xr.Dataset | xr.DataArray | xr.DataTree | Sequence[xr.Dataset | xr.DataArray | xr.DataTree],
    size: Lengths,
    *,
    sample: Literal["grid", "random", "stratified", "weighted", "centers", "fixed"] = "grid",
    n: int | None = None,
    seed: int = 0,
    locality: int | None = None,
    step: Lengths | None = None,
    overlap: Lengths | None = None,
    halo: Lengths = 0,
    units: Units = "pixel",
    edge: str | Mapping[str, str] = "shift",
    pad_mode: str | Mapping[str, str] = "constant",
    fill_value: float | Mapping[str, float] = 0,
    over: Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
    paired: Mapping[str, Any] | None = None,
    levels: Sequence[Any] | None = None,
    weights: LayerLike | Sequence[LayerLike] | None = None,
    mask: LayerLike | Sequence[LayerLike] | None = None,
    labels: LayerLike | Sequence[LayerLike] | None = None,
    balance: Mapping[int, float] | None = None,
    min_coverage: float | None = None,
    where: Any = (),
    centers: Any = None,
    table: Any = None,
) -> Patches:
    """Cut images into patches, lazily.

    Parameters
    ----------
    sources : Dataset, DataArray, DataTree, or sequence of these
        What to cut from. Of several images, all must have the same axes, channels and variables.
    size : int, sequence, or mapping of str to int; or lengths with a unit
        Size of a patch: one length for all spatial axes that are longer than 1, one for each of the last spatial axes
        (two are ``y`` and ``x``), or lengths by name, of any axes.
    sample : {"grid", "random", "stratified", "weighted", "centers", "fixed"}
        How patches are placed: side by side; anywhere; one at random in each cell of a grid; in proportion to a map;
        around given points; as a table says.
    n : int, optional
        Number of patches of an epoch, for ``"random"`` and ``"weighted"``; by default as many as tile the images.
    seed : int
        A patch is a function of seed, epoch and its number, and of nothing else.
    locality : int, optional
        For ``"random"``: so many patches lie around each of the places that are drawn, within a tile of the file, so
        that it is decoded once for all of them; 16 places take turns. Every place is still equally likely, but patches
        that come soon after each other are correlated: for images of which a look-ahead meets each tile only once.
        Shuffling would undo it.
    step, overlap : as `size`, optional
        Distance from one patch of a grid to the next, or by how much neighbours overlap; the mean distance of
        stratified patches.
    halo : as `size`
        Context on every side of a patch beyond `size`, which results are trimmed by when they are written back.
    units : {"pixel", "physical"}
        Of bare numbers in `size`, `step`, `overlap`, `halo` and `centers`: pixels; or lengths in the common unit of
        the image, that of ``x``, and centres on the coordinates, each in the unit of its axis. A length with a unit
        (``"3 µm"``) is read in that unit in any case.
    edge : str or mapping of str to str
        What becomes of patches that would reach beyond the image. ``"shift"`` moves them inwards, ``"pad"`` fills them
        up, ``"drop"`` leaves them out, ``"partial"`` cuts them off, ``"error"`` refuses them; ``"balanced"`` spreads
        the patches of a grid evenly.
    pad_mode : str or mapping of str to str
        ``"constant"``, ``"edge"``, ``"reflect"``, ``"symmetric"`` or ``"wrap"``, as `numpy.pad` understands them.
    fill_value : float, or mapping of str to float
        The constant, for all variables or by name.
    over : sequence of str, optional
        Axes that are iterated over; by default all that are not cut, except ``c`` and ``s``. Others are kept whole.
    variables : sequence of str, optional
        Variables of the Datasets that are cut, the first the reference; all by default.
    paired : mapping of str to DataArray or Dataset, optional
        Further images of the same places, on grids of their own: they are cut at the same physical box. Of several
        sources a list for each.
    levels : sequence of Dataset or DataArray, optional
        Coarser levels of the same image: of each a patch of the same number of pixels around the same centre. Names
        of nodes if `sources` is a DataTree.
    weights, mask, labels : str, DataArray, or list of these, optional
        The map for ``sample="weighted"``: a variable's name or an array, of which the centre of a patch is drawn in
        proportion to its values, from where it is not 0, or such that all labels come up equally often. They are
        aligned with the image by coordinates where both have them, by shape elsewhere, and are 0 beyond their extent.
        NaN in a mask or labels counts as 0.
    balance : mapping of int to float, optional
        The share of each label; by default all above 0 alike.
    min_coverage : float, optional
        Share of a patch that must lie on `mask`.
    where : callable or sequence of these, optional
        Filters: functions of a patch (an array) that say whether it is kept; see `intake_img.accessor.patches.filters`.
        Random patches that are turned down are drawn again.
    centers : table or array, optional
        For ``sample="centers"``: columns by the names of axes, or an array with a column for each cut axis.
    table : DataFrame or path, optional
        For ``sample="fixed"``: first pixels ``y0``, ``x0``, ...; what `Patches.table` gives.

    Returns
    -------
    Patches

    Raises
    ------
    AxesError, ValueError, TypeError
        Naming the argument, what was given and what is allowed.

    Examples
    --------
    >>> import numpy as np, xarray as xr, intake_img
    >>> image = xr.DataArray(np.arange(100.0).reshape(10, 10), dims=["y", "x"])
    >>> p = intake_img.patches(image, 4)
    >>> len(p), p[8].image.values[0, 0]
    (9, np.float64(66.0))
    """
    datasets, coarser = as_datasets(sources, levels)
    first = datasets[0][checked(datasets[0], variables)[0]]
    choice("sample", sample, SAMPLES)
    lengths = _size(size, first, units)
    axes = tuple(str(d) for d in first.dims if d in lengths)
    physical = [a for a in axes if any(_is_physical(v, a, units) for v in (size, step, overlap, halo))]
    _one_spacing([ds[checked(ds, variables)[0]] for ds in datasets], physical)
    iterated = _over(over, first, axes)
    made = make_sources(datasets, {a: lengths[a] for a in axes}, iterated, variables, paired, coarser)
    margin = pixels("halo", _by_name(halo, axes), first, axes, units=units, absent=0, whole=True)
    edges = per_axis("edge", edge, axes, "shift", lambda name, v: choice(name, v, EDGES))
    if sample != "grid" and (bad := [a for a in axes if edges[a] == "balanced"]):
        raise ValueError(f"edge='balanced' (axis {bad[0]!r}) spreads the patches of a grid; sample={sample!r} has none")
    law_step = _step(step, overlap, lengths, first, axes, units, sample)
    if any(margin.values()):
        full = {a: lengths[a] + 2 * margin[a] for a in axes}
        made = make_sources(datasets, full, iterated, variables, paired, coarser)
    _refuse_unused(
        sample, n=n, locality=locality, weights=weights, labels=labels, balance=balance, centers=centers, table=table
    )
    chosen, meaning = _map(sample, datasets, made, weights, mask, labels, lengths, iterated)
    share, cover = _coverage(
        sample,
        datasets,
        made,
        mask,
        min_coverage,
        lengths,
        iterated,
        "weights" if weights is not None else "" if labels is None else "labels",
    )
    order = tuple(lengths[a] for a in axes)
    halos = tuple(margin[a] for a in axes)
    law = Law(
        sample,
        axes,
        order,
        tuple(law_step[a] for a in axes),
        halos,
        tuple(edges[a] for a in axes),
        iterated,
        None if n is None else integer("n", n, 1),
        integer("seed", seed),
        chosen,
        meaning,
        balance,
        _places(sample, centers, table, axes, iterated, order, halos, made, units),
        1 if locality is None else integer("locality", locality, 1),
    )
    modes = per_axis("pad_mode", pad_mode, axes, "constant", lambda name, v: choice(name, v, MODES))
    fill = _fill(fill_value)
    if not (any(margin.values()) or "pad" in edges.values() or paired or coarser):
        _refuse_padding(pad_mode, fill, edges)
    filters = (where,) if callable(where) else tuple(where)
    found = Patches(made, law, Padding(modes, fill), [as_filter(f) for f in filters], cover, share)
    for f in found.where:
        found._layer(f.variable)
    return found


def _is_physical(value: Any, axis: str, units: str) -> bool:
    """Whether a length along an axis is not in pixels."""
    if isinstance(value, Mapping):
        value = value.get(axis)
    given = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return any(quantity(v).unit != PIXEL if has_unit(v) else units == "physical" and v not in (0, -1) for v in given)


def _one_spacing(images: Sequence[xr.DataArray], axes: Sequence[str]) -> None:
    """Refuse sources in which a physical length is not the same number of pixels."""
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
                f"size={size!r} has {len(size)} lengths: expected at most one for each spatial axis ({axes_of_space})"
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


def _by_name(value: Any, axes: Sequence[str]) -> Any:
    """Let a mapping name only axes that are cut, and a sequence have one for each."""
    return value


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


def _refuse_unused(sample: str, **given: Any) -> None:
    """Refuse arguments that the way of sampling does not use."""
    users = {
        "n": ("random", "weighted"),
        "locality": ("random",),
        "weights": ("weighted",),
        "labels": ("weighted",),
        "balance": ("weighted",),
        "centers": ("centers",),
        "table": ("fixed",),
    }
    for name, value in given.items():
        if value is not None and sample not in users[name]:
            raise ValueError(
                f"{name}= is for sample={' or '.join(map(repr, users[name]))}; sample={sample!r} ignores it"
            )
    if given["balance"] is not None and given["labels"] is None:
        raise ValueError("balance= gives shares of labels: say which labels (labels=)")
    for needs, name in (("centers", "centers"), ("fixed", "table")):
        if sample == needs and given[name] is None:
            raise ValueError(f"sample={sample!r} needs {name}=")


def _refuse_padding(pad_mode: Any, fill_value: Any, edges: Mapping[str, str]) -> None:
    """Refuse what fills pixels beyond the image where no patch reaches beyond it."""
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


def _layers(
    what: str,
    value: Any,
    datasets: Sequence[xr.Dataset],
    sources: Sequence[Source],
    size: Mapping[str, int],
    over: Sequence[str],
) -> tuple[Layer, ...]:
    """Return a map for each source, aligned with its pixels."""
    many = list(value) if isinstance(value, (list, tuple)) else [value] * len(datasets)
    if len(many) != len(datasets):
        raise ValueError(f"{what} is a list of {len(many)}, but there are {len(datasets)} sources")
    found = []
    for ds, source, one in zip(datasets, sources, many, strict=True):
        reference = ds[source.reference.name]
        array = one
        if isinstance(one, str):
            if one not in ds.data_vars:
                raise ValueError(f"{what}={one!r}: source {source.number} has {', '.join(map(str, ds.data_vars))}")
            array = ds[one]
        elif isinstance(one, np.ndarray):
            axes = tuple(size)
            if one.shape != tuple(reference.sizes[a] for a in axes):
                raise ValueError(
                    f"{what} has the shape {one.shape}, the image {tuple(reference.sizes[a] for a in axes)} along "
                    f"{', '.join(axes)}; name its axes with xarray.DataArray"
                )
            array = xr.DataArray(one, dims=axes)
        elif not isinstance(one, xr.DataArray):
            raise TypeError(f"{what} is {type(one).__name__}: expected the name of a variable, a DataArray or an array")
        found.append(aligned_layer(what, array, reference, size, over, centred=False, cover=False))
    return tuple(found)


def _map(
    sample: str,
    datasets: Sequence[xr.Dataset],
    sources: Sequence[Source],
    weights: Any,
    mask: Any,
    labels: Any,
    size: Mapping[str, int],
    over: Sequence[str],
) -> tuple[tuple[Layer, ...] | None, str]:
    if sample != "weighted":
        return None, "weights"
    given = {k: v for k, v in (("weights", weights), ("labels", labels)) if v is not None}
    if len(given) > 1:
        raise ValueError("weights= and labels=: give one of them")
    if not given:
        if mask is None:
            raise ValueError("sample='weighted' needs a map: weights=, mask= or labels=")
        given = {"mask": mask}
    ((what, value),) = given.items()
    return _layers(what, value, datasets, sources, size, over), what


def _coverage(
    sample: str,
    datasets: Sequence[xr.Dataset],
    sources: Sequence[Source],
    mask: Any,
    min_coverage: float | None,
    size: Mapping[str, int],
    over: Sequence[str],
    mapped: str,
) -> tuple[float, tuple[Layer, ...] | None]:
    if mask is None:
        if min_coverage is not None:
            raise ValueError(f"min_coverage={min_coverage!r}: of what? give mask=")
        return 0.0, None
    if min_coverage is None and sample == "weighted":
        if mapped:
            raise ValueError(
                f"mask= and {mapped}=: give one map, or say how much of a patch the mask must cover (min_coverage=)"
            )
        return 0.0, None
    share = number("min_coverage", 0.25 if min_coverage is None else min_coverage, 0, 1)
    return share, _layers("mask", mask, datasets, sources, size, over)


def _places(
    sample: str,
    centers: Any,
    table: Any,
    axes: Sequence[str],
    over: Sequence[str],
    size: Sequence[int],
    halo: Sequence[int],
    sources: Sequence[Source],
    units: str,
) -> Any:
    import pandas as pd

    if sample == "fixed":
        places = places_of(read_table(table), axes, over, size, sources)
        return places
    if sample == "centers":
        if isinstance(centers, (np.ndarray, list, tuple)) and np.ndim(centers) == 2:
            if np.shape(centers)[1] != len(axes):
                raise ValueError(
                    f"centers has {np.shape(centers)[1]} columns: expected one for each of {', '.join(axes)}"
                )
            centers = pd.DataFrame(np.asarray(centers), columns=list(axes))
        return centers_of(read_table(centers), axes, over, size, sources, units)
    return None
