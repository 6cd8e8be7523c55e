"""A short description of patches, and a picture of their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.accessor.arguments import choice, integer
from intake_img.accessor.display import byte_size
from intake_img.errors import AxesError
from intake_img.model.packages import imported
from intake_img.model.text import escaped

if TYPE_CHECKING:
    from intake_img.accessor.patches.core import Patches

__all__ = ["as_html", "as_text", "plot", "rows"]


def rows(p: Patches) -> list[tuple[str, str]]:
    """Return a description of patches, without reading pixels, as pairs of key and text."""
    rule = p.rule
    if p.known:
        number = f"{len(p)}, {byte_size(p.patch_nbytes)} each, {byte_size(len(p) * p.patch_nbytes)} in all"
    else:
        number = f"chosen by pixels when they are first asked for, {byte_size(p.patch_nbytes)} each"
    found = [("patches", number)]
    for v in p.variables:
        shape = ", ".join(f"{d}: {n}" for d, n in zip(p.dims(v)[1:], p.shape(v), strict=True))
        found.append((v, f"({shape}) {p.dtype(v)}"))
    how = [rule.sample + (f" around places of {rule.locality}" if rule.locality > 1 else "")]
    for name, values, plain in (("step", rule.step, rule.size), ("halo", rule.halo, (0,) * len(rule.axes))):
        if values != plain:
            how.append(f"{name} {' × '.join(map(str, values))}")
    how.append(f"edge {'/'.join(dict.fromkeys(rule.edge))}")
    if rule.sample not in ("grid", "centers", "fixed"):
        how.append(f"seed {rule.seed}, epoch {p.epoch}")
    found.append(("sampling", ", ".join(how)))
    if p.where:
        found.append(("where", ", ".join(map(repr, p.where))))
    if rule.over:
        found.append(("over", ", ".join(rule.over)))
    first = p.sources[0]
    place = ", ".join(f"{a}: {n}" for a, n in first.sizes.items())
    more = f", and {len(p.sources) - 1} more" if len(p.sources) > 1 else ""
    found.append(("source", f"({place})" + (f" {first.uri}" if first.uri else "") + more))
    return [(escaped(key), escaped(text)) for key, text in found]


def as_text(p: Patches) -> str:
    """Return patches as lines of text."""
    pairs = rows(p)
    widest = max(len(key) for key, _ in pairs)
    return "\n".join(["<Patches>", *(f"  {key:<{widest}}  {text}" for key, text in pairs)])


def as_html(p: Patches) -> str:
    """Return patches as HTML for notebooks, beside a picture of the first image; everything in it is escaped."""
    from intake_img.accessor.cards import card, picture_of, table

    return card(table(rows(p)), picture_of(p.sources[0].original))


def plot(
    p: Patches, source: int, projection: str | None, most: int, image: bool, core: bool, ax: Any, **indexers: Any
) -> Any:
    """Draw patches over a plane of their source; see `Patches.plot`."""
    plt = imported("matplotlib.pyplot", "plot", "drawing")
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    if not {"y", "x"} <= set(p.axes):
        raise AxesError(f"patches are cut along {', '.join(p.axes)}: only those with y and x can be drawn")
    if integer("source", source, 0) >= len(p.sources):
        raise ValueError(f"source={source}: there are {len(p.sources)}")
    choice("projection", projection, (None, "max", "min", "mean", "sum"))
    own = p.sources[source]
    place = {a: integer(a, indexers.pop(a, 0), 0) for a in p.over}
    if indexers:
        raise AxesError(f"{next(iter(indexers))!r} is not iterated over, only {', '.join(p.over) or 'nothing'} is")
    wanted = p.plan.source == source
    for k, a in enumerate(p.over):
        wanted &= p.plan.index[:, k] == place[a]
    plan = p.plan.take(np.flatnonzero(wanted)[:most])
    if ax is None:
        _, ax = plt.subplots()
    y, x = p.axes.index("y"), p.axes.index("x")
    if image:
        _background(own, place, projection, ax)
    begin, end = (plan.core_start, plan.core_stop) if core else (plan.start, plan.stop)
    boxes = [Rectangle((a[x] - 0.5, a[y] - 0.5), b[x] - a[x], b[y] - a[y]) for a, b in zip(begin, end, strict=True)]
    ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor="tab:orange", linewidth=0.8))
    ax.set_xlim(min(-0.5, begin[:, x].min(initial=0) - 0.5), max(own.sizes["x"], end[:, x].max(initial=0)) - 0.5)
    ax.set_ylim(max(own.sizes["y"], end[:, y].max(initial=0)) - 0.5, min(-0.5, begin[:, y].min(initial=0) - 0.5))
    ax.set_aspect("equal")
    ax.set_xlabel("x (pixels)")
    ax.set_ylabel("y (pixels)")
    ax.set_title(f"{len(plan)} of {len(p)} patches" + (f", source {source}" if len(p.sources) > 1 else ""))
    return ax


def _background(own: Any, place: dict[str, int], projection: str | None, ax: Any) -> None:
    layer = own.reference
    keys: list[Any] = []
    for a in layer.dims:
        n = own.sizes[a]
        if a in place:
            keys.append(slice(place[a], place[a] + 1))
        elif a == "z" and projection is None:
            keys.append(slice(n // 2, n // 2 + 1))
        elif a in ("y", "x", "z"):
            keys.append(slice(0, n))
        else:
            keys.append(slice(0, 1))
    pixels = layer.pixels.select(keys).read()
    order = [layer.dims.index(a) for a in layer.dims if a not in ("z", "y", "x")]
    order += [layer.dims.index(a) for a in ("z", "y", "x") if a in layer.dims]
    planes = pixels.transpose(order).reshape(-1, *[own.sizes[a] for a in ("y", "x")])
    shown = getattr(planes, projection or "max")(axis=0)
    low, high = np.percentile(shown, (0.5, 99.8))
    ax.imshow(shown, cmap="gray", vmin=low, vmax=max(high, low + 1e-9))
