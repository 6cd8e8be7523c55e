"""Sampling of patches: from a `SamplingRule` and the sizes of the sources to a `Plan`.

A patch is a pure function of (seed, epoch, index): a rejected patch is drawn again from its own block of the counter,
independently of the other patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.accessor.alignment import inside
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.sources import Layer, Source
from intake_img.kernels import sampling as kernel
from intake_img.kernels.tiling import cores, count, starts

__all__ = ["SAMPLES", "Places", "SamplingRule", "draw"]

SAMPLES = ("grid", "random", "stratified", "weighted", "centers", "fixed")
_TRIES, _HOPELESS = 400, 50
_TURNS = 16
"""Places that take turns, where patches lie around places."""
_STREAM = 2
"""Of the counter, for places."""

Accept = Callable[[Plan], np.ndarray]


@dataclass(frozen=True, eq=False)
class Places:
    """Positions given by the user: one row for each patch.

    Parameters
    ----------
    source : ndarray of int64, shape (n,)
    index : ndarray of int64, shape (n, over)
    start : ndarray of int64, shape (n, axes)
    core : (ndarray, ndarray), optional
        Begin and end of the cores, if they differ from the patches.
    weight : ndarray, optional
    """

    source: np.ndarray
    index: np.ndarray
    start: np.ndarray
    core: tuple[np.ndarray, np.ndarray] | None = None
    weight: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class SamplingRule:
    """How patches are placed.

    Parameters
    ----------
    sample : str
        One of `SAMPLES`.
    axes : tuple of str
    size, step, halo : tuple of int
        For each axis, in pixels; `size` without the halo.
    edge : tuple of str
        For each axis.
    over : tuple of str
    n : int, optional
        Number of patches in an epoch; by default as many as tile the images.
    seed : int
    weights : sequence of Layer, optional
        A map for each source, for `sample` ``"weighted"``.
    meaning : str
        The kind of the maps: ``"weights"``, ``"mask"`` or ``"labels"``.
    balance : mapping of int to float, optional
        The share of each label.
    places : Places, optional
    locality : int
        How many random patches lie in each neighbourhood; 1: patches are independent.
    """

    sample: str
    axes: tuple[str, ...]
    size: tuple[int, ...]
    step: tuple[int, ...]
    halo: tuple[int, ...]
    edge: tuple[str, ...]
    over: tuple[str, ...]
    n: int | None = None
    seed: int = 0
    weights: tuple[Layer, ...] | None = None
    meaning: str = "weights"
    balance: Mapping[int, float] | None = None
    places: Places | None = None
    locality: int = 1

    @property
    def full(self) -> tuple[int, ...]:
        """Size of a patch with its halo."""
        return tuple(s + 2 * h for s, h in zip(self.size, self.halo, strict=True))


def draw(rule: SamplingRule, sources: Sequence[Source], epoch: int, accept: Accept | None = None) -> Plan:
    """Return the plan of an epoch.

    Parameters
    ----------
    rule : SamplingRule
    sources : sequence of Source
    epoch : int
    accept : callable, optional
        Returns for each patch of a plan whether to keep it. Rejected patches are drawn again, up to 400 times, and then
        left out; rejected patches of a grid or table are left out immediately.
    """
    lengths = np.array([[s.sizes[a] for a in rule.axes] for s in sources], np.int64)
    for s in sources:
        _check_sizes(rule, s)
    if rule.sample == "grid":
        plan = _grid(rule, sources, epoch)
        return plan if accept is None else plan.take(accept(plan))
    if rule.sample in ("centers", "fixed"):
        places = rule.places
        if places is None:
            raise ValueError(f"sample={rule.sample!r} without a table")
        plan, inside = _finished(rule, lengths, epoch, places)
        wanted = inside if accept is None else inside & accept(plan)
        return plan.take(wanted)
    make = {"random": _random, "stratified": _stratified, "weighted": _weighted}[rule.sample](rule, sources, epoch)
    plan, wanted = _finished(rule, lengths, epoch, make(0))
    if accept is not None:
        wanted = wanted & accept(plan)
    for attempt in range(1, _TRIES):
        rows = np.flatnonzero(~wanted)
        if not rows.size or (attempt > _HOPELESS and not wanted.any()):
            break
        fresh, good = _finished(rule, lengths, epoch, make(attempt))
        fresh, good = fresh.take(rows), good[rows]
        if accept is not None:
            good = good & accept(fresh)
        for name in ("source", "index", "start", "shape", "core_start", "core_stop", "weight"):
            if (new := getattr(fresh, name)) is not None:
                getattr(plan, name)[rows] = new
        wanted[rows] = good
    return plan if wanted.all() else plan.take(wanted)


def _check_sizes(rule: SamplingRule, source: Source) -> None:
    for a, size, edge in zip(rule.axes, rule.size, rule.edge, strict=True):
        n = source.sizes[a]
        if size > n and edge in ("shift", "error", "balanced"):
            raise ValueError(
                f"size[{a!r}]={size}: source {source.number} has only {n} pixels along {a!r}; take a smaller size, or "
                f"edge='pad' (fill up), 'partial' (smaller patches) or 'drop' (no patch)"
            )


def _finished(rule: SamplingRule, lengths: np.ndarray, epoch: int, places: Places) -> tuple[Plan, np.ndarray]:
    """Return the plan of positions after the treatment of edges, and which of them are possible."""
    start = places.start.copy()
    size = np.array(rule.size, np.int64)
    n = lengths[places.source]
    shape = np.broadcast_to(size, start.shape).copy()
    inside = np.ones(len(start), bool)
    for k, edge in enumerate(rule.edge):
        if edge == "shift":
            start[:, k] = np.clip(start[:, k], 0, n[:, k] - size[k])
        elif edge in ("drop", "error"):
            fits = (start[:, k] >= 0) & (start[:, k] + size[k] <= n[:, k])
            if edge == "error" and rule.sample in ("centers", "fixed") and not fits.all():
                row = int(np.flatnonzero(~fits)[0])
                raise ValueError(
                    f"edge='error': patch {row} reaches from {start[row, k]} to {start[row, k] + size[k]} along "
                    f"{rule.axes[k]!r}, the image from 0 to {n[row, k]}; allow edge='shift', 'pad', 'drop' or 'partial'"
                )
            inside &= fits
        elif edge == "partial":
            stop = np.minimum(start[:, k] + size[k], n[:, k])
            start[:, k] = np.maximum(start[:, k], 0)
            shape[:, k] = np.maximum(stop - start[:, k], 0)
            inside &= shape[:, k] > 0
    halo = np.array(rule.halo, np.int64)
    core = (np.clip(start, 0, n), np.clip(start + shape, 0, n)) if places.core is None else places.core
    plan = Plan(
        rule.axes,
        rule.full,
        rule.over,
        places.source,
        places.index,
        start - halo,
        shape + 2 * halo,
        core[0],
        core[1],
        epoch,
        places.weight,
    )
    return plan, inside


# grids


def _indices(rule: SamplingRule, source: Source) -> np.ndarray:
    """All indices along the iterated axes, in C order."""
    lengths = [source.sizes[a] for a in rule.over]
    return (
        np.stack(np.unravel_index(np.arange(int(np.prod(lengths))), lengths), 1).astype(np.int64)
        if lengths
        else (np.zeros((1, 0), np.int64))
    )


def _product(parts: Sequence[np.ndarray]) -> np.ndarray:
    """All combinations of rows, in C order."""
    return np.stack([g.ravel() for g in np.meshgrid(*parts, indexing="ij")], 1).astype(np.int64)


def _grid(rule: SamplingRule, sources: Sequence[Source], epoch: int) -> Plan:
    plans = []
    for s in sources:
        first, begin, end = [], [], []
        for a, size, step, edge in zip(rule.axes, rule.size, rule.step, rule.edge, strict=True):
            try:
                row = starts(s.sizes[a], size, step, edge)
            except ValueError as exc:
                raise ValueError(
                    f"edge='error', source {s.number}, axis {a!r}: {exc}; allow edge='shift', 'pad', "
                    "'drop', 'partial' or 'balanced'"
                ) from exc
            first.append(row)
            b, e = cores(row, size, s.sizes[a]) if row.size else (row, row)
            begin.append(b)
            end.append(e)
        where, index = _product(first), _indices(rule, s)
        places = Places(
            np.full(len(where) * len(index), s.number, np.int64),
            np.repeat(index, len(where), axis=0),
            np.tile(where, (len(index), 1)),
            (np.tile(_product(begin), (len(index), 1)), np.tile(_product(end), (len(index), 1))),
        )
        lengths = np.zeros((s.number + 1, len(rule.axes)), np.int64)
        lengths[s.number] = [s.sizes[a] for a in rule.axes]
        plans.append(_finished(rule, lengths, epoch, places)[0])
    return Plan.joined(plans)


# random places


def _reach(rule: SamplingRule, source: Source) -> list[tuple[int, int]]:
    """Return for each axis the lowest possible start, and the number of starts.

    If patches may extend beyond the edge, or are shifted back inside, starts extend symmetrically outside of the image,
    so that no pixel at the border is sampled less often than a pixel in the middle.
    """
    found = []
    for a, size, edge in zip(rule.axes, rule.size, rule.edge, strict=True):
        n = source.sizes[a]
        found.append((0, max(0, n - size + 1)) if edge in ("drop", "error") else (1 - size, n + size - 1))
    return found


def _random(rule: SamplingRule, sources: Sequence[Source], epoch: int) -> Callable[[int], Places]:
    reach = [_reach(rule, s) for s in sources]
    low = np.array([[first for first, _ in r] for r in reach], np.int64)
    many = np.array([[n for _, n in r] for r in reach], np.int64)
    indices = [_indices(rule, s) for s in sources]
    tiles = [np.prod([count(s.sizes[a], n, n) for a, n in zip(rule.axes, rule.size, strict=True)]) for s in sources]
    shares = np.array([t * len(i) * (m > 0).all() for t, i, m in zip(tiles, indices, many, strict=True)], np.int64)
    n = int(shares.sum()) if rule.n is None else rule.n
    if not shares.any():
        return lambda attempt: _nowhere(rule)
    cumulated = np.cumsum(shares)
    offsets = np.concatenate([[0], np.cumsum([len(i) for i in indices])])
    every = np.concatenate(indices)

    spread = np.array([_spread(rule, s) for s in sources], np.int64)
    group = kernel.turns(n, _TURNS, rule.locality)
    groups = int(group.max(initial=-1)) + 1

    def make(attempt: int) -> Places:
        around, own = rule.locality > 1, np.zeros((0, 0))
        if around:  # a rejected patch is first drawn again in the same neighbourhood
            u = kernel.uniforms(rule.seed, epoch, groups, 2 + len(rule.axes), attempt // _TURNS, _STREAM)[group]
            own = kernel.uniforms(rule.seed, epoch, n, len(rule.axes), attempt)
        else:
            u = kernel.uniforms(rule.seed, epoch, n, 2 + len(rule.axes), attempt)
        source = kernel.weighted(u[:, 0], cumulated)
        place = (u[:, 1] * np.diff(offsets)[source]).astype(np.int64)
        first = np.minimum((u[:, 2:] * many[source]).astype(np.int64), many[source] - 1)
        if around:  # wraps around at the end, so that all starts are equally likely
            first = (first + (own * spread[source]).astype(np.int64)) % many[source]
        return Places(source, every[offsets[source] + place], low[source] + first)

    return make


def _spread(rule: SamplingRule, source: Source) -> list[int]:
    """Return the size of a neighbourhood along each axis, in starts: a tile of the file, or a patch."""
    layer = next(iter(source.layers.values()))
    tiles = dict(zip(layer.dims, layer.pixels.tiles, strict=True))
    return [max(tiles.get(a, 1), size) for a, size in zip(rule.axes, rule.size, strict=True)]


def _nowhere(rule: SamplingRule) -> Places:
    return Places(
        np.zeros(0, np.int64), np.zeros((0, len(rule.over)), np.int64), np.zeros((0, len(rule.axes)), np.int64)
    )


def _stratified(rule: SamplingRule, sources: Sequence[Source], epoch: int) -> Callable[[int], Places]:
    source, index, cell, cells, low, many = [], [], [], [], [], []
    for s in sources:
        reach = _reach(rule, s)
        number = [-(-n // step) for (_, n), step in zip(reach, rule.step, strict=True)]
        where, over = _product([np.arange(m) for m in number]), _indices(rule, s)
        k = len(where) * len(over)
        source.append(np.full(k, s.number, np.int64))
        index.append(np.repeat(over, len(where), axis=0))
        cell.append(np.tile(where, (len(over), 1)))
        cells.append(np.broadcast_to(np.array(number, np.int64), (k, len(number))))
        low.append(np.broadcast_to(np.array([first for first, _ in reach], np.int64), (k, len(number))))
        many.append(np.broadcast_to(np.array([n for _, n in reach], np.int64), (k, len(number))))
    parts = [np.concatenate(p) for p in (source, index, cell, cells, low, many)]

    def make(attempt: int) -> Places:
        u = kernel.uniforms(rule.seed, epoch, len(parts[0]), len(rule.axes), attempt)
        start = parts[4] + kernel.strata(u, parts[2], parts[3], parts[5])
        return Places(parts[0].copy(), parts[1].copy(), start)

    return make


def _weighted(rule: SamplingRule, sources: Sequence[Source], epoch: int) -> Callable[[int], Places]:
    maps = [_Map(rule, s, w) for s, w in zip(sources, rule.weights or (), strict=True)]
    if rule.meaning == "labels":
        _balance(rule, maps)
    totals = np.cumsum([m.prepare() for m in maps])
    if not totals[-1] > 0:
        raise ValueError(f"nothing can be drawn: the map ({rule.meaning}=) is 0 everywhere")
    tiles = [
        len(_indices(rule, s)) * np.prod([count(s.sizes[a], m, m) for a, m in zip(rule.axes, rule.size, strict=True)])
        for s in sources
    ]
    n = int(sum(tiles)) if rule.n is None else rule.n

    def make(attempt: int) -> Places:
        u = kernel.uniforms(rule.seed, epoch, n, 2 + len(rule.axes) + len(rule.over), attempt)
        source = kernel.weighted(u[:, 0], totals)
        index = np.zeros((n, len(rule.over)), np.int64)
        centre = np.zeros((n, len(rule.axes)), np.int64)
        weight = np.zeros(n)
        for k, m in enumerate(maps):
            rows = np.flatnonzero(source == k)
            index[rows], centre[rows], weight[rows] = m.draw(u[rows, 1], u[rows, 2:])
        return Places(source, index, centre - np.array(rule.size, np.int64) // 2, None, weight)

    return make


class _Map:
    """The weights of a source; they are read when the first plan is drawn."""

    def __init__(self, rule: SamplingRule, source: Source, layer: Layer) -> None:
        self.rule, self.source, self.layer = rule, source, layer
        self.dims = tuple(d for d in (*rule.over, *rule.axes) if d in layer.dims)
        if lost := [d for d in layer.dims if d not in self.dims]:
            raise ValueError(
                f"the map {layer.name!r} has an axis {lost[0]!r}, neither cut nor iterated over: select one of it"
            )
        values = layer.pixels.read()
        self.values = values.transpose([layer.dims.index(d) for d in self.dims])
        self.given = self.values
        if rule.meaning == "mask":
            self.values = inside(self.values)
        elif rule.meaning == "labels":
            self.values = np.where(inside(self.values), self.values, self.values.dtype.type(0))
        self.ends = {
            a: layer.fits[a].own_ends(n, source.sizes[a])
            for a, n in zip(self.dims, self.values.shape, strict=True)
            if a in layer.fits and not (layer.fits[a].same and n == source.sizes[a])
        }

    def share(self) -> Any:
        """The part of each pixel of the map that lies in the image."""
        share: Any = 1
        for k, a in enumerate(self.dims):
            if a in self.ends:
                first, last = self.ends[a]
                part = ((last - first) * self.layer.fits[a].scale).clip(0, 1)
                share = share * part.reshape([-1 if j == k else 1 for j in range(len(self.dims))])
        return share

    def prepare(self) -> float:
        weights = np.ascontiguousarray(self.values).ravel()
        if weights.dtype.kind == "b":
            weights = weights.view(np.uint8)
        if weights.dtype.kind == "f" and (not np.isfinite(weights).all() or (weights < 0).any()):
            raise ValueError(f"the map {self.layer.name!r} contains negative or not finite weights")
        if self.ends:
            weights = (self.values * self.share()).ravel()
        self.cumulated = np.cumsum(weights, dtype=np.float64)
        return float(self.cumulated[-1]) if len(self.cumulated) else 0.0

    def draw(self, u: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return index, centre and weight for numbers in [0, 1)."""
        flat = kernel.weighted(u, self.cumulated) if len(u) else np.zeros(0, np.int64)
        at = dict(zip(self.dims, np.unravel_index(flat, self.values.shape), strict=True))
        columns = []
        for k, a in enumerate((*self.rule.axes, *self.rule.over)):
            n = self.source.sizes[a]
            if a in at and a in self.layer.fits:
                place = at[a].astype(float)
                if a in self.ends:
                    first, last = (e[at[a]] for e in self.ends[a])
                    place = first + fine[:, k] * (last - first)
                columns.append(np.clip(np.floor(place), 0, n - 1).astype(np.int64))
            else:
                columns.append(at[a].astype(np.int64) if a in at else (fine[:, k] * n).astype(np.int64))
        d = len(self.rule.axes)
        over = np.stack(columns[d:], 1) if columns[d:] else np.zeros((len(u), 0), np.int64)
        return over, np.stack(columns[:d], 1), self.given.ravel()[flat].astype(np.float64)


def _balance(rule: SamplingRule, maps: Sequence[_Map]) -> None:
    """Turn labels into weights: the sum over a label is its share, and all of its pixels have equal weight."""
    counts: dict[int, float] = {}
    for m in maps:
        found, inverse = np.unique(m.values, return_inverse=True)
        weights = np.broadcast_to(m.share(), m.values.shape).ravel() if m.ends else None
        times = np.bincount(inverse.ravel(), weights=weights)
        for label, k in zip(found.tolist(), times.tolist(), strict=True):
            counts[label] = counts.get(label, 0) + k
    counts = {label: k for label, k in counts.items() if k > 0}
    shares = {k: 1.0 for k in counts if k > 0} if rule.balance is None else dict(rule.balance)
    if absent := [k for k in shares if k not in counts]:
        raise ValueError(
            f"balance names the label {absent[0]!r}, which the images do not contain; they have "
            f"{', '.join(map(str, sorted(counts)[:20]))}"
        )
    for m in maps:
        found, inverse = np.unique(m.values, return_inverse=True)
        per_pixel = np.array([shares.get(k, 0.0) / counts.get(k, 1) for k in found.tolist()])
        m.values = per_pixel[inverse].reshape(m.values.shape)
