"""From rows of a plan to arrays: boxes in the pixels of a variable, with padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any

import numpy as np

from intake_img.accessor.patches.box_reading import CHECK_SECONDS, Gatherer
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.sources import Layer, Source
from intake_img.storage.cache import CACHE

__all__ = ["MODES", "Padding", "Reading", "own_boxes"]

MODES = ("constant", "edge", "reflect", "symmetric", "wrap")
"""Supported modes of `numpy.pad`: those whose values are single pixels of the image."""

One = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Padding:
    """Padding beyond the image.

    Parameters
    ----------
    modes : mapping of str to str
        One of `MODES` for each axis.
    fill : float, or mapping of str to float
        The constant, or one for each variable.
    """

    modes: Mapping[str, str]
    fill: Any = 0

    def value(self, variable: str) -> Any:
        return self.fill.get(variable, 0) if isinstance(self.fill, Mapping) else self.fill


def own_boxes(plan: Plan, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last pixels (n, cut axes) of patches, in pixels of a layer."""
    start = np.empty((len(plan), len(layer.cut)), np.int64)
    stop = np.empty_like(start)
    for k, a in enumerate(layer.cut):
        place, fit = plan.axes.index(a), layer.fits[a]
        full, shape = plan.size[place], plan.shape[:, place]
        start[:, k] = fit.start(plan.start[:, place], full)
        if fit.same or fit.centred or (shape == full).all():
            stop[:, k] = start[:, k] + (shape if fit.same else fit.size)
        else:
            stop[:, k] = start[:, k] + np.maximum(1, np.floor(shape * fit.scale + 0.5).astype(np.int64))
    return start, stop


class Reading:
    """Reads the patches of one variable, from all sources.

    Parameters
    ----------
    sources : sequence of Source
    variable : str
    padding : Padding
    """

    def __init__(self, sources: Sequence[Source], variable: str, padding: Padding) -> None:
        self.layers = [s.layers[variable] for s in sources]
        self.padding, self.variable = padding, variable
        self.gatherers = [Gatherer(layer.pixels, layer.dims) for layer in self.layers]

    @property
    def dtype(self) -> np.dtype:
        return self.layers[0].pixels.dtype

    @property
    def decoded_nbytes(self) -> float:
        """Bytes of all tiles in the cache: 0 for uncompressed data, infinite if tiles cannot be cached."""
        total = 0.0
        for g in self.gatherers:
            if g.view() is None:
                tile = math.prod(g.pixels.tiles) * g.pixels.dtype.itemsize
                total += math.inf if g.lazy is not None or tile * 4 > CACHE.limit else g.pixels.nbytes
        return total

    def read(self, plan: Plan, empty: Callable[[tuple[int, ...], np.dtype], np.ndarray] = np.empty) -> np.ndarray:
        """Return the pixels of all patches of a plan, (n, kept axes, cut axes), in an array from `empty`.

        Raises
        ------
        ValueError
            If partial patches differ in shape.
        """
        first = self.layers[0]
        shape = first.patch_shape
        if not len(plan):
            return np.empty((0, *shape), self.dtype)
        boxes = [own_boxes(plan, layer) if k == 0 else None for k, layer in enumerate(self.layers)]
        if not (plan.shape == plan.size).all():
            lengths = np.unique(boxes[0][1] - boxes[0][0], axis=0)  # type: ignore[index]
            if len(lengths) > 1:
                raise ValueError(
                    f"patches of {len(lengths)} different shapes (edge='partial') do not fit into one array: read them "
                    "one by one (p[k]), in batches (p.batches groups equal shapes), or use edge='pad'"
                )
            shape = (*shape[: len(first.kept)], *lengths[0].tolist())
        out = empty((len(plan), *shape), self.dtype)
        single = len(self.layers) == 1
        for k, layer in enumerate(self.layers):
            rows = np.arange(len(plan)) if single else np.flatnonzero(plan.source == k)
            if len(rows):
                part = plan if single else plan.take(rows)
                self._fill(self.gatherers[k], layer, part, out, rows)
        return out

    def reader(self, plan: Plan) -> One:
        """Return a function that reads one patch by its number, with the least overhead."""
        if len(self.layers) > 1 or not len(plan) or not (plan.shape == plan.size).all():
            return lambda k: self.read(plan.take([k]))[0]
        layer, gatherer = self.layers[0], self.gatherers[0]
        start, stop = own_boxes(plan, layer)
        lengths = np.array([layer.pixels.shape[layer.dims.index(a)] for a in layer.cut])
        inside: Any = ((start >= 0) & (stop <= lengths)).all(axis=1)
        over = [a for a in plan.over if a in layer.dims]
        keys = np.concatenate([plan.index[:, [plan.over.index(a) for a in over]], start], axis=1)
        view = gatherer.view()
        gatherer.check()
        if view is not None:
            fast = _one_of_view(_windowed(view, layer, over), keys, self.dtype, gatherer)
        elif gatherer.lazy is None:
            fast = _one_of_tiles(gatherer, layer, over, keys)
        else:
            return lambda k: self.read(plan.take([k]))[0]
        if inside.all():
            return fast
        return lambda k: fast(k) if inside[k] else self.read(plan.take([k]))[0]

    def _fill(self, gatherer: Gatherer, layer: Layer, plan: Plan, out: np.ndarray, rows: np.ndarray) -> None:
        view = _in_data_order(out, layer)
        low = np.zeros((len(plan), len(layer.dims)), np.int64)
        high = low + np.array(layer.pixels.shape, np.int64)
        for k, a in enumerate(plan.over):
            if a in layer.dims:
                low[:, layer.dims.index(a)] = plan.index[:, k]
                high[:, layer.dims.index(a)] = plan.index[:, k] + 1
        places = [layer.dims.index(a) for a in layer.cut]
        low[:, places], high[:, places] = own_boxes(plan, layer)
        inner_low = np.clip(low, 0, layer.pixels.shape)
        inner_high = np.clip(high, 0, layer.pixels.shape)
        padded = ((inner_low != low) | (inner_high != high)).any(axis=1)
        if not padded.any():
            gatherer.gather(low, high, view, rows, np.zeros_like(low))
            return
        if any(self.padding.modes.get(a, "constant") != "constant" for a in layer.cut):
            self._pad(gatherer, layer, low[padded], high[padded], view, rows[padded])
            wanted = ~padded
        else:
            view[rows[padded]] = self.padding.value(self.variable)
            wanted = (inner_high > inner_low).all(axis=1)
        gatherer.gather(inner_low[wanted], inner_high[wanted], view, rows[wanted], inner_low[wanted] - low[wanted])

    def _pad(
        self, gatherer: Gatherer, layer: Layer, low: np.ndarray, high: np.ndarray, view: np.ndarray, rows: np.ndarray
    ) -> None:
        """Fill patches whose padding mirrors or repeats pixels of the image, possibly from outside the patch."""
        maps = [
            [
                _index(n, int(a), int(b), self.padding.modes.get(d, "constant"))
                for d, n, a, b in zip(layer.dims, layer.pixels.shape, lows, highs, strict=True)
            ]
            for lows, highs in zip(low, high, strict=True)
        ]
        span = [
            [
                (int(m[m >= 0].min(initial=0 if (m < 0).all() else np.iinfo(np.int64).max)), int(m.max()) + 1)
                for m in per
            ]
            for per in maps
        ]
        first = np.array([[a for a, _ in s] for s in span], np.int64)
        last = np.array([[b for _, b in s] for s in span], np.int64)
        seen: Any = (last > first).all(axis=1)  # other patches contain only the constant
        held = np.empty((len(rows), *np.maximum(last - first, 1).max(axis=0)), self.dtype)
        gatherer.gather(first[seen], last[seen], held, np.flatnonzero(seen), np.zeros_like(first[seen]))
        fill = self.padding.value(self.variable)
        for k, row in enumerate(rows):
            if not seen[k]:
                view[row] = fill
                continue
            view[row] = held[k][np.ix_(*[np.maximum(m - a, 0) for m, a in zip(maps[k], first[k], strict=True)])]
            for axis, m in enumerate(maps[k]):
                if (m < 0).any():
                    view[row][(slice(None),) * axis + (m < 0,)] = fill


def _windowed(view: np.ndarray, layer: Layer, over: Sequence[str]) -> np.ndarray:
    """Return a view of all patches of an array by position: (iterated axes, first pixels, kept axes, patch)."""
    sizes = dict(zip(layer.dims, zip(view.shape, view.strides, strict=True), strict=True))
    shape = [sizes[a][0] for a in over] + [sizes[a][0] - layer.fits[a].size + 1 for a in layer.cut]
    strides = [sizes[a][1] for a in (*over, *layer.cut)]
    shape += [sizes[a][0] for a in layer.kept] + [layer.fits[a].size for a in layer.cut]
    strides += [sizes[a][1] for a in (*layer.kept, *layer.cut)]
    if any(n < 1 for n in shape):
        return np.empty((0,) * len(shape), view.dtype)
    return np.lib.stride_tricks.as_strided(view, shape, strides, writeable=False)


def _one_of_view(
    windows: np.ndarray, keys: np.ndarray, dtype: np.dtype, gatherer: Gatherer
) -> Callable[[int], np.ndarray]:
    checked = [monotonic()]
    files = bool(gatherer.files)

    def get(k: int) -> np.ndarray:
        if files and (now := monotonic()) - checked[0] > CHECK_SECONDS:
            gatherer.check()
            checked[0] = now
        return windows[tuple(keys[k].tolist())].astype(dtype)

    return get


def _one_of_tiles(
    gatherer: Gatherer, layer: Layer, over: Sequence[str], keys: np.ndarray
) -> Callable[[int], np.ndarray]:
    sizes = dict(zip(layer.dims, layer.pixels.shape, strict=True))
    order = (*over, *layer.cut)
    places = [order.index(a) if a in order else None for a in layer.dims]
    spans = [1 if a in over else layer.fits[a].size if a in layer.fits else sizes[a] for a in layer.dims]
    checked = [monotonic()]

    def get(k: int) -> np.ndarray:
        if (now := monotonic()) - checked[0] > CHECK_SECONDS:
            gatherer.check()
            checked[0] = now
        key = keys[k].tolist()
        low = [0 if p is None else key[p] for p in places]
        high = [a + n for a, n in zip(low, spans, strict=True)]
        out = np.empty((1, *layer.patch_shape), gatherer.pixels.dtype)
        gatherer.single(low, high, _in_data_order(out, layer)[0])
        return out[0]

    return get


@lru_cache(maxsize=4096)
def _index(n: int, start: int, stop: int, mode: str) -> np.ndarray:
    """Return the pixel of an axis for each position in a patch; -1 for the constant."""
    before, after = max(0, -start), max(0, stop - n)
    options: dict[str, Any] = {"constant_values": -1} if mode == "constant" else {}
    padded = np.pad(np.arange(n), (before, after), mode, **options)  # type: ignore[call-overload]
    return padded[start + before : stop + before]


def _in_data_order(out: np.ndarray, layer: Layer) -> np.ndarray:
    """Return a view of (n, kept axes, cut axes) with the axes of the data."""
    patch = (*layer.kept, *layer.cut)
    inner = [d for d in layer.dims if d in patch]
    view = out.transpose(0, *[1 + patch.index(d) for d in inner])
    missing = tuple(1 + k for k, d in enumerate(layer.dims) if d not in patch)
    return np.expand_dims(view, missing) if missing else view
