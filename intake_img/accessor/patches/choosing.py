"""Selection of patches: by their share of a mask, and by filters of their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from intake_img.accessor.alignment import inside
from intake_img.accessor.patches.cutting import Reading
from intake_img.accessor.patches.filters import Filter
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.sampling import SamplingRule
from intake_img.accessor.patches.sources import Layer, Source
from intake_img.kernels.sampling import box_sums

__all__ = ["covered", "foreground", "passing"]

_FILTER_BYTES = 2**26


def passing(accepts: Filter, plan: Plan, good: np.ndarray, reading: Reading) -> np.ndarray:
    """Return which of the `good` patches a filter accepts too; some MiB are read at a time."""
    good = good.copy()
    rows = np.flatnonzero(good)
    step = max(1, _FILTER_BYTES // max(1, math.prod(reading.layers[0].patch_shape) * reading.dtype.itemsize))
    order = rows[np.lexsort(plan.shape[rows].T)]  # partial patches of equal shape together
    kinds = np.flatnonzero((np.diff(plan.shape[order], axis=0) != 0).any(axis=1)) + 1
    for lot in np.split(order, kinds):
        for k in range(0, len(lot), step):
            part = lot[k : k + step]
            good[part] = accepts(reading.read(plan.take(part)))
    return good


def covered(
    plan: Plan,
    rule: SamplingRule,
    sources: Sequence[Source],
    layers: Sequence[Layer],
    sums: Sequence[np.ndarray],
    least: float,
) -> np.ndarray:
    """Return whether at least a share of each patch, of its part inside the image, is foreground.

    Parameters
    ----------
    plan : Plan
    rule : SamplingRule
    sources : sequence of Source
    layers : sequence of Layer
        The mask of each source.
    sums : sequence of ndarray
        The running sums of `foreground` for each source.
    least : float
        The share. A patch without a pixel in the mask has none.
    """
    good = np.zeros(len(plan), bool)
    for k, (layer, table) in enumerate(zip(layers, sums, strict=True)):
        rows = np.flatnonzero(plan.source == k)
        low, high = _boxes(plan, rows, rule, sources[k], layer)
        shape = _lengths(layer, rule)
        found = box_sums(table, low.clip(0, shape), high.clip(0, shape))
        good[rows] = found >= np.maximum(least * (high - low).prod(axis=1), 1e-9 * (least > 0))
    return good


def _lengths(layer: Layer, rule: SamplingRule) -> np.ndarray:
    """Lengths of the axes of a mask, in the order of `foreground`; beyond its extent a mask is 0."""
    sizes = dict(zip(layer.dims, layer.pixels.shape, strict=True))
    return np.array([sizes[d] for d in _order(layer, rule)])


def _boxes(
    plan: Plan, rows: np.ndarray, rule: SamplingRule, source: Source, layer: Layer
) -> tuple[np.ndarray, np.ndarray]:
    """First and last mask pixels of the part of each patch that lies in the image."""
    low, high = [], []
    for d in _order(layer, rule):
        if d in rule.axes:
            place, n = rule.axes.index(d), source.sizes[d]
            a, b = layer.fits[d].box(*(e[rows, place].clip(0, n) for e in (plan.start, plan.stop)))
        else:
            a = plan.index[rows, rule.over.index(d)]
            b = a + 1
        low.append(a)
        high.append(b)
    return np.stack(low, 1), np.stack(high, 1)


def _order(layer: Layer, rule: SamplingRule) -> list[str]:
    return [d for d in (*rule.over, *rule.axes) if d in layer.dims]


def foreground(layer: Layer, rule: SamplingRule) -> np.ndarray:
    """Return where a mask is set, with the iterated axes first and then the cut axes.

    Raises
    ------
    ValueError
        If it has other axes.
    """
    order = _order(layer, rule)
    if lost := [d for d in layer.dims if d not in order]:
        raise ValueError(
            f"the mask {layer.name!r} has an axis {lost[0]!r} that is neither cut nor iterated over: select one of it"
        )
    return inside(layer.pixels.read().transpose([layer.dims.index(d) for d in order]))
