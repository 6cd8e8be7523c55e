"""Measures of many floats, in several passes: exact sums; ranks and automatic thresholds from equal bins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from intake_img.accessor.coloc.counting import added, count_into, counters_of, packed_of, settle
from intake_img.accessor.coloc.request import Request, sums_needed, thresholds_of, valid_pixels
from intake_img.accessor.coloc.uncounted import Noting
from intake_img.kernels import exact, joint, measures, packing, tables, tally
from intake_img.kernels.tables import Table
from intake_img.kernels.wide import bound, offsets

__all__ = ["LEVELS", "first_passes", "stream"]

LEVELS = 2**11
"""Equal bins, at most, of a float channel with more pixels, and of integers with too many distinct pairs of values."""


def stream(run: Any, request: Request) -> tuple[np.ndarray, np.ndarray]:
    """Exact sums, and a histogram of equal bins for ranks and automatic thresholds; then, in a last pass, the sums that
    depend on means or thresholds."""
    size = len(request.pairs)
    ranked = {"spearman", "spearman_t", "kendall_tau", "rwc1", "rwc2"} & set(request.names)
    automatic = isinstance(request.thresholds, str) or (request.thresholds or ("",))[0] == "fraction"
    first, bins, uncounted = first_passes(run, request, bool(ranked) or automatic)
    plans = {}
    for place in np.ndindex(first.shape):
        plans[place] = [_plan(request, k, first[place][k], bins[place][k]) for k in range(size)]
    late = run(partial(_sums_late, request, plans), partial(_add_late, size), _as_it_is)
    out = np.empty(first.shape, object)
    for place in np.ndindex(first.shape):
        out[place] = [_assemble(request, plans[place][k], late[place][k]) for k in range(size)]
    return out, uncounted


@dataclass(frozen=True)
class _Bins:
    """A joint histogram of equal bins: bin k of a channel is centred at ``origin + (k + 0.5) * width``.

    Centres are rounded to integers if `whole`; the origin then consists of Python integers.
    """

    packed: packing.Packed
    origin: np.ndarray
    width: np.ndarray
    whole: bool = False

    def numbers(self, groups: np.ndarray | None = None) -> Table:
        """Return the table of bins, by number."""
        return packing.unpack(self.packed, np.dtype(np.uint16), groups)

    def centres(self, numbers: Table) -> Table:
        """Return the same table with the values at the centres of the bins."""
        a, b = (self._centre(j, c) for j, c in enumerate((numbers.a, numbers.b)))
        return Table(numbers.group, a, b, numbers.count, numbers.ngroups)

    def _centre(self, j: int, number: np.ndarray) -> np.ndarray:
        if not self.whole:
            return self.origin[j] + (number + 0.5) * self.width[j]
        distance = np.floor((number + 0.5) * self.width[j])
        origin = self.origin[j] if len(number) else 0
        kind = np.uint64 if len(number) and int(distance.max()) + origin >= 2**63 else np.int64
        return (distance.astype(np.uint64) + np.uint64(origin % 2**64)).astype(kind)


def first_passes(run: Any, request: Request, binned: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (sums, lowest, highest values) of each pair at each position, its bins (None if not requested), and labels
    that may have no valid pixel.

    Bins of integers have a power of two of grey levels, such that the full range has at most `LEVELS` bins: they are
    found in the same pass. Bins of floats divide the range, which must be known before.
    """
    size = len(request.pairs)
    small = request.dtype.kind in "iu" and request.dtype.itemsize <= 2
    first, uncounted = Noting(
        partial(_sums_first, request),
        _first_merge,
        _as_it_is,
        collect=(partial(_first_state, request, small and binned), _first_add, _first_settle),
        every=request.dtype.kind == "f",
    ).run(run)
    bins = np.empty(first.shape, object)
    packed = None
    if binned and not small:
        ranges = {place: [part[1:3] for part in first[place]] for place in np.ndindex(first.shape)}
        packed = run(
            partial(_binned, request, ranges),
            added,
            _as_it_is,
            collect=(partial(counters_of, np.dtype(np.uint16), size, None), count_into, settle),
        )
    for place in np.ndindex(first.shape):
        bins[place] = [None] * size
        for k, (_, low, high, counter) in enumerate(first[place]):
            if packed is not None:
                whole = low.dtype == object
                origin = np.array([0 if v == np.inf else v for v in low], low.dtype) if whole else low
                width = ((high - origin) / LEVELS).astype(float)
                bins[place][k] = _Bins(packed_of(packed[place][k]), origin, width, whole)
            elif counter is not None:
                lowest = packing.code_of(request.dtype)[0]
                bins[place][k] = _Bins(packed_of(counter), np.full(2, lowest - 0.5), np.exp2(counter.shifts))
    return first, bins, uncounted


def _as_it_is(value: Any, _: Any) -> Any:
    return value


def _sums_first(request: Request, planes: dict[int, np.ndarray], keep: Any, labels: Any, _: Any) -> list[Any]:
    out = []
    for a, b in request.pairs:
        x, y, index = valid_pixels(planes, a, b, keep, labels)
        sums = tally.tally_pixels(x, y, index, sums_needed(request, late=False), 0, 0, request.rules)
        kind = object if x.dtype.kind in "iu" and x.dtype.itemsize > 4 else np.float64  # Python integers
        low = np.array([v.min().item() for v in (x, y)] if len(x) else [np.inf] * 2, kind)
        high = np.array([v.max().item() for v in (x, y)] if len(x) else [-np.inf] * 2, kind)
        out.append((sums, low, high, (x, y, index)))
    return out


def _first_state(request: Request, binned: bool, size: int) -> list[Any]:
    npairs = len(request.pairs)
    counters = [joint.Counter(request.dtype, size, levels=LEVELS) if binned else None for _ in range(npairs)]
    return [[None, np.full(2, np.inf), np.full(2, -np.inf), counter] for counter in counters]


def _first_add(state: list[Any], parts: list[list[Any]]) -> None:
    """Add the sums, ranges and pixels of a few chunks to the state of each pair."""
    for k, own in enumerate(state):
        for sums, low, high, pixels in (part[k] for part in parts):
            _put(own, sums, low, high)
            if own[3] is not None:
                own[3].add([pixels])


def _put(own: list[Any], sums: Any, low: np.ndarray, high: np.ndarray) -> None:
    own[0] = sums if own[0] is None else _add_sums([own[0], sums])
    own[1], own[2] = np.minimum(own[1], low), np.maximum(own[2], high)


def _first_settle(state: list[Any]) -> None:
    for own in state:
        if own[3] is not None:
            own[3].settle()


def _first_merge(parts: list[list[Any]]) -> list[Any]:
    state, *others = parts
    for other in others:
        for own, (sums, low, high, counter) in zip(state, other, strict=True):
            if counter is not None:
                own[3].absorb(counter)
            _put(own, sums, low, high)
    return state


def _add_sums(parts: list[dict[Any, Any]]) -> dict[Any, Any]:
    return {key: exact.add([p[key] for p in parts]) for key in parts[0]}


def _binned(
    request: Request, ranges: Any, planes: dict[int, np.ndarray], keep: Any, labels: Any, place: Any
) -> list[Any]:
    out = []
    for k, (a, b) in enumerate(request.pairs):
        low, high = ranges[place][k]
        x, y, index = valid_pixels(planes, a, b, keep, labels)
        codes = [_code(v, low[j], high[j]) for j, v in enumerate((x, y))]
        out.append((codes[0], codes[1], index))
    return out


def _code(values: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Numbers of the bins of pixels."""
    if isinstance(low, int):
        distance = offsets(values, low).astype(float)
    else:
        distance = values.astype(float) - low if len(values) else values.astype(float)
    return np.clip(distance * (LEVELS / max(high - low, 1e-300)), 0, LEVELS - 1).astype(np.uint16)


@dataclass(frozen=True)
class _Plan:
    """Results of the earlier passes for one pair at one position."""

    groups: np.ndarray
    sums: Any
    means: Any
    t1: np.ndarray | None
    t2: np.ndarray | None
    ranked: dict[str, np.ndarray]


def _plan(request: Request, k: int, first: Any, bins: _Bins | None) -> _Plan:
    parts = first[0]
    counted = parts["all", "n"]
    groups = counted[0] if request.labelled else np.zeros(1, np.int64)
    sums = tally.as_integers(parts, groups)
    if request.dtype.kind == "f":
        means: Any = measures.means_of(sums, len(groups), exact.LOWEST)
    else:
        means = tally.around(sums, (request.dtype, request.dtype), exact.LOWEST)
    t1 = t2 = None
    ranked: dict[str, np.ndarray] = {}
    table = numbers = None
    if bins is not None:
        numbers = bins.numbers(groups if request.labelled else None)
        table = bins.centres(numbers)
    if request.thresholds is not None:
        empty = tables.table_of(np.empty(0), np.empty(0), ngroups=len(groups))
        t1, t2 = thresholds_of(request, k, empty if table is None else table)
    if table is not None and numbers is not None:
        by_order = {"spearman", "spearman_t", "kendall_tau"} & set(request.names)
        ranked = measures.ranked(numbers, by_order, None, None, request.rules)  # integers: looked up
        ranked |= measures.ranked(table, set(request.names) - by_order, t1, t2, request.rules)
    return _Plan(groups, sums, means, t1, t2, ranked)


def _sums_late(
    request: Request, plans: Any, planes: dict[int, np.ndarray], keep: Any, labels: Any, place: Any
) -> list[Any]:
    need = sums_needed(request, late=True)
    out: list[Any] = []
    for k, (a, b) in enumerate(request.pairs):
        plan = plans[place][k]
        x, y, index = valid_pixels(planes, a, b, keep, labels)
        row = np.searchsorted(plan.groups, index) if index is not None else np.zeros(1, np.int64)
        low = np.full(len(plan.groups), -np.inf)
        t1, t2 = (bound(low if t is None else t, request.dtype)[row] for t in (plan.t1, plan.t2))
        floats = request.dtype.kind == "f"
        means = tuple(m[row] for m in plan.means) if floats else tally.around_rows(plan.means, row)
        out.append(tally.tally_pixels(x, y, index, need, t1, t2, request.rules, means))
    return out


def _add_late(npairs: int, parts: list[list[Any]]) -> list[Any]:
    return [_add_sums([p[k] for p in parts]) for k in range(npairs)]


def _assemble(request: Request, plan: _Plan, late: Any) -> Any:
    sums = plan.sums | tally.as_integers(late, plan.groups)
    found = measures.conclude(sums, request.names, plan.t1, plan.t2, request.rules, exact.LOWEST) | plan.ranked
    return (plan.groups if request.labelled else None), {n: found[n] for n in request.names}
