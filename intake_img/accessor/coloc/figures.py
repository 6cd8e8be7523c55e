"""Pictures of colocalization with matplotlib; each function draws into axes and returns them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from intake_img.accessor.alignment import inside
from intake_img.accessor.arguments import choice, integer
from intake_img.accessor.coloc import checks, pixel_measures
from intake_img.accessor.coloc.inputs import ChannelImage
from intake_img.accessor.coloc.request import Request, thresholds_of
from intake_img.accessor.colors import channel_name, legible, overlaid, stated_colors, tinted, tints
from intake_img.accessor.lengths import in_common
from intake_img.kernels.measures import Conventions
from intake_img.kernels.tables import Table
from intake_img.kernels.tally import moments
from intake_img.model.packages import imported

__all__ = ["ica", "matches", "overlay", "scatter"]


def _axes(ax: Any) -> Any:
    plt = imported("matplotlib.pyplot", "plot", "drawing pictures")
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _one_place(scene: ChannelImage, at: Any) -> Any:
    """The object at one position on the kept axes; the first by default."""
    at = checks.at_places(at, {a: scene.image.sizes[a] for a in scene.lead})
    obj = scene.obj.isel(at)
    rest = [a for a in scene.lead if a not in at]
    return obj.isel(dict.fromkeys(rest, 0))


def table_at(obj: Any, a: Any, b: Any, mask: Any, at: Any) -> Table:
    """Return the table of a pair at one position."""
    scene = ChannelImage(obj)
    companion = scene.companion(mask, "mask")
    at = checks.at_places(at, {a: scene.image.sizes[a] for a in scene.lead})
    if companion is not None:
        companion = companion.isel({k: at.get(k, 0) for k in scene.lead if k in companion.dims})
    return pixel_measures.histogram(_one_place(scene, at), a, b, mask=companion).item()


def scatter(
    obj: Any,
    a: Any,
    b: Any,
    *,
    mask: Any,
    thresholds: Any,
    fit: str | None,
    bins: int,
    ax: Any,
    at: Any,
    **options: Any,
) -> Any:
    """Draw the joint histogram; see `Coloc.scatter`."""
    integer("bins", bins, 1)
    choice("fit", fit, ("orthogonal", "ols", None))
    ax = _axes(ax)
    from matplotlib.colors import LogNorm

    scene = ChannelImage(obj)
    table = table_at(obj, a, b, mask, at)
    edges = [_edges(x, bins) for x in (table.a, table.b)]
    counts = np.histogram2d(table.a, table.b, bins=edges, weights=table.count)[0]
    shown = np.ma.masked_equal(counts.T, 0)
    norm = options.pop("norm", None) or LogNorm(vmin=1, vmax=max(2.0, float(counts.max())))
    mesh = ax.pcolormesh(*edges, shown, norm=norm, **({"cmap": "viridis"} | options))
    ax.figure.colorbar(mesh, ax=ax, label="pixels")
    names = scene.channels
    ax.set_xlabel(f"{names[scene.channel(a)]} (grey value)")
    ax.set_ylabel(f"{names[scene.channel(b)]} (grey value)")
    whole = moments(table)
    if fit is not None:
        slope, intercept = (float(v[0]) for v in whole.line(fit))
        if np.isfinite(slope):
            ax.axline((0, intercept), slope=slope, color="tab:red", lw=1, label=f"{fit} fit, slope {slope:.3g}")
    if thresholds is not None:
        pair = (scene.channel(a), scene.channel(b))
        limits = pixel_measures.parse_thresholds(thresholds, scene, [pair])
        request = Request((pair,), ("n",), limits, Conventions(), False, scene.image.dtype)
        t1, t2 = thresholds_of(request, 0, table)
        if t1 is not None and t2 is not None and np.isfinite([t1[0], t2[0]]).all():
            ax.axvline(t1[0], color="0.3", ls="--", lw=1)
            ax.axhline(t2[0], color="0.3", ls=":", lw=1, label=f"thresholds {t1[0]:.4g}, {t2[0]:.4g}")
    ax.set_xlim(edges[0][0], edges[0][-1])
    ax.set_ylim(edges[1][0], edges[1][-1])
    ax.set_title(f"Pearson's r = {whole.pearson()[0]:.3f}, n = {int(whole.n[0])}")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper right", fontsize="small")
    return ax


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges of bins; for integers, bins of as few complete grey levels as give at most `bins` bins."""
    if not len(values):
        return np.linspace(0, 1, bins + 1)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        return np.linspace(low, high if high > low else low + 1, bins + 1)
    width = -(-(int(high) - int(low) + 1) // bins)
    return np.arange(int(low), int(high) + 1 + width, width) - 0.5


def ica(obj: Any, a: Any, b: Any, *, mask: Any, bins: int, ax: Any, at: Any) -> Any:
    """Draw Li's intensity correlation analysis; see `Coloc.ica`."""
    integer("bins", bins, 1)
    if ax is not None and (not hasattr(ax, "__len__") or len(ax) != 2):
        raise TypeError(f"ax={ax!r}: expected two axes of matplotlib")
    if ax is None:
        _axes(None)
        import matplotlib.pyplot as plt

        plt.close()
        ax = plt.subplots(1, 2, layout="constrained", figsize=(9, 4), sharex=True)[1]
    from matplotlib.colors import LogNorm

    scene = ChannelImage(obj)
    table = table_at(obj, a, b, mask, at)
    mean_a, mean_b = (float(m[0]) for m in moments(table).means())
    product = (table.a - mean_a) * (table.b - mean_b)
    names, pair = scene.channels, (scene.channel(a), scene.channel(b))
    for one, values, name in ((ax[0], table.a, a), (ax[1], table.b, b)):
        low, high = (float(min(0, product.min())), float(max(0, product.max()))) if len(product) else (0.0, 0.0)
        edges = [np.linspace(low, high if high > low else low + 1, bins + 1), _edges(values, bins)]
        counts = np.histogram2d(product, values, bins=edges, weights=table.count)[0]
        mesh = one.pcolormesh(*edges, np.ma.masked_equal(counts.T, 0), norm=LogNorm(1, max(2.0, float(counts.max()))))
        one.figure.colorbar(mesh, ax=one, label="pixels")
        one.axvline(0, color="0.3", lw=1)
        one.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
        one.set_xlabel(f"({names[pair[0]]} − mean)({names[pair[1]]} − mean)")
        one.set_title(f"{names[scene.channel(name)]}: right of 0 both vary together", fontsize="medium")
        one.set_ylabel(f"{names[scene.channel(name)]} (grey value)")
    return ax


def _planes(obj: Any, names: Any, at: Any) -> tuple[ChannelImage, list[np.ndarray]]:
    """Maximum projections along z of channels at one position."""
    scene = ChannelImage(_one_place(ChannelImage(obj), at))
    image = scene.image
    found = []
    for name in names:
        plane = image.isel(c=scene.channel(name))
        found.append((plane.max("z") if "z" in plane.dims else plane).transpose("y", "x").values)
    return scene, found


def _stretch(plane: np.ndarray) -> np.ndarray:
    low, high = np.nanpercentile(plane, [0.5, 99.8])
    return np.clip((plane.astype(float) - low) / (high - low if high > low else 1), 0, 1)


def _extent(scene: ChannelImage) -> list[float]:
    """Edges of the outer pixels in the common unit, for a picture with its first row on top."""
    edges = []
    for axis in ("x", "y"):
        low = scene.origin(axis) - scene.spacing(axis) / 2
        edges.append((low, low + scene.image.sizes[axis] * scene.spacing(axis)))
    return [*edges[0], edges[1][1], edges[1][0]]


def _label(ax: Any, scene: ChannelImage) -> None:
    ax.set_xlabel(f"x ({scene.unit})")
    ax.set_ylabel(f"y ({scene.unit})")


def overlay(obj: Any, a: Any, b: Any, *, thresholds: Any, mask: Any, ax: Any, at: Any) -> Any:
    """Draw two channels in their colours and the pixels above both thresholds in white; see `Coloc.overlay`."""
    if thresholds is None:
        raise ValueError("thresholds=None: expected thresholds, pixels above both of which are white; see measure")
    ax = _axes(ax)
    whole = ChannelImage(obj)
    at = checks.at_places(at, {a: whole.image.sizes[a] for a in whole.lead})
    first, second = whole.channel(a), whole.channel(b)
    scene, planes = _planes(obj, (first, second), at)
    companion = whole.companion(mask, "mask")
    if companion is not None:
        companion = companion.isel({k: at.get(k, 0) for k in whole.lead if k in companion.dims})
    found = pixel_measures.measure(
        _one_place(whole, at),
        (first, second),
        names=["threshold1", "threshold2"],
        mask=companion,
        thresholds=thresholds,
    )
    t1, t2 = (float(found[name].squeeze()) for name in ("threshold1", "threshold2"))
    image = scene.image
    both = (image.isel(c=first) > t1) & (image.isel(c=second) > t2)
    if companion is not None:
        both = both & inside(companion)
    both = both.any("z") if "z" in both.dims else both
    colors = _colors(whole, (first, second))
    mark = _WHITE if min(map(max, (np.subtract(_WHITE, c) for c in colors))) > 0.2 else _YELLOW
    rgb = overlaid([tinted(_stretch(p), (0, 1), c) for p, c in zip(planes, colors, strict=True)], colors)
    rgb[both.transpose("y", "x").values] = mark
    ax.imshow(rgb, extent=_extent(scene))
    where = "above both thresholds (at any z)" if "z" in image.dims else "above both thresholds"
    names = [channel_name(whole.channels[k]) for k in (first, second)]
    _legend(ax, [(names[0], colors[0]), (names[1], colors[1]), (where, mark)])
    _label(ax, scene)
    return ax


_WHITE, _YELLOW = (1.0, 1.0, 1.0), (1.0, 0.84, 0.04)


def _colors(scene: ChannelImage, channels: tuple[int, int]) -> list[Any]:
    """Return the colours of two channels, as every picture of the image has them; default ones if they are the same."""
    stated = tints(stated_colors(scene.image), [channel_name(c) for c in scene.channels])
    found = [stated[k] for k in channels]
    return found if found[0] != found[1] else tints(None, [f"channel {k}" for k in channels])


def _legend(ax: Any, colors: list[tuple[str, Any]]) -> None:
    """Say above a picture which colour is what; patches have an edge, so that white ones are seen."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=color, edgecolor="0.4", label=name) for name, color in colors]
    place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": len(handles), "frameon": False}
    ax.legend(handles=handles, fontsize="small", handlelength=1.2, columnspacing=1.0, **place)


def matches(obj: Any, table: pd.DataFrame, *, channel: Any, ax: Any, at: Any) -> Any:
    """Draw matched blobs over a projection; see `Coloc.plot_matches`."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"matches are {type(table).__name__}: expected the DataFrame that match returns")
    if missing := [c for c in ("channel1", "channel2", "y1", "x1", "y2", "x2") if c not in table]:
        raise ValueError(f"matches lack the column {missing[0]!r}")
    ax = _axes(ax)
    kept = ChannelImage(obj)
    at = checks.at_places(at, {a: kept.image.sizes[a] for a in kept.lead})
    scene, planes = _planes(obj, [0 if channel is None else channel], at)
    ax.imshow(_stretch(planes[0]), cmap="gray", extent=_extent(scene))
    for axis in scene.lead:
        if axis in table:
            index = at.get(axis, 0)
            value = ChannelImage(obj).image[axis].values[index] if axis in ChannelImage(obj).image.coords else index
            table = table[table[axis] == value]
    table = table.assign(**{f"{a}{k}": in_common(scene.image, a, table[f"{a}{k}"]) for a in "yx" for k in (1, 2)})
    for pair, part in table.groupby(["channel1", "channel2"], sort=False):
        first, second = (legible(c) for c in _colors(kept, (kept.channel(pair[0]), kept.channel(pair[1]))))
        line = ax.plot(part[["x1", "x2"]].T.to_numpy(), part[["y1", "y2"]].T.to_numpy(), lw=0.8, color="0.8")
        for handle in line:
            handle.set_zorder(1)
        ax.plot(part["x1"], part["y1"], "o", mfc="none", color=first, ms=6, label=f"{pair[0]} (matched with {pair[1]})")
        ax.plot(part["x2"], part["y2"], "x", color=second, ms=5, label=f"{pair[1]} (matched with {pair[0]})")
    if len(table):
        ax.legend(fontsize="small", facecolor="0.15", labelcolor="white")
    ax.set_title(f"{len(table)} matches")
    _label(ax, scene)
    return ax
