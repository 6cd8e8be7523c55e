"""Pixel measures of pairs of channels: from names and units to one pass over the chunks, and back to a labelled
Dataset.

Integers up to 16 bits (and wider ones whose values fit) are counted into joint histograms, from which all follows.
Floats are kept as pixels where they are few; where they are many, and where integers form more pairs of values than a
histogram holds, sums are exact and what needs ranks or automatic thresholds comes from a histogram of equal bins. The
result's attributes say which.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.coloc import checks
from intake_img.accessor.coloc.blocks import reduce_blocks
from intake_img.accessor.coloc.inputs import Scene
from intake_img.accessor.coloc.regions import Noting
from intake_img.kernels import conventions, exact, joint, measures, packing, tables, tally
from intake_img.kernels.costes import METHODS, costes, otsu
from intake_img.kernels.tables import Table
from intake_img.kernels.wide import bound, offsets

__all__ = ["LEVELS", "Request", "histogram", "measure", "thresholds_of"]

FEW_PIXELS = 2**23
"""Floats of at most so many pixels at a position are ranked exactly."""
LEVELS = 2**11
"""Equal bins, at most, of a float channel with more pixels, and of integers with too many distinct pairs of values."""
MOST_PAIRS = 2**23
"""A joint histogram holds at most so many distinct pairs of grey values (and labels), unless all lie within
`joint.ROOM` cells."""
MOST_CELLS = 2**25
"""Cells of the arrays that a task counts the pairs of channels of a chunk in, and hands to the next."""
_AUTOMATIC = {"costes": "simple", "costes_bisection": "bisection", "costes_cellprofiler_fast": "cellprofiler_fast",
              "costes_cellprofiler_faster": "cellprofiler_faster"}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What to measure, checked; small, and part of every task.

    Parameters
    ----------
    pairs : tuple of (int, int)
    names : tuple of str
    thresholds : object
        None, a name, ``("fraction", f)``, or a tuple of (t1, t2) for each pair.
    rules : Conventions
    labelled : bool
    dtype : dtype
        Of the image.
    shared : bool
        Automatic thresholds of the whole image for all labels, in place of each label's own.
    options : mapping
        Further options of `costes`.
    """

    pairs: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    thresholds: Any
    rules: conventions.Conventions
    labelled: bool
    dtype: np.dtype
    shared: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> tuple[float, float] | None:
        if self.dtype.kind == "b":
            return (0.0, 1.0)
        if self.dtype.kind not in "iu":
            return None
        info = np.iinfo(self.dtype)
        return float(info.min), float(info.max)


def parse_thresholds(given: Any, scene: Scene, pairs: list[tuple[int, int]]) -> Any:
    """Return thresholds as `Request` holds them."""
    if given is None or (isinstance(given, str) and given in (*_AUTOMATIC, "otsu")):
        return given
    if isinstance(given, str) and given.endswith("%"):
        try:
            return ("fraction", checks.number("thresholds", float(given[:-1]), 0, 100) / 100)
        except ValueError:
            raise ValueError(f"thresholds={given!r}: expected a share of the maximum from '0%' to '100%'") from None
    if isinstance(given, str):
        raise ValueError(
            f"thresholds={given!r}: expected a number, a pair, {{channel: number}}, or one of "
            f"{', '.join([*_AUTOMATIC, 'otsu'])}, or a share of the maximum such as '15%'"
        )
    if isinstance(given, Mapping):
        values = {scene.channel(k): _threshold(f"thresholds[{k!r}]", v) for k, v in given.items()}
        if missing := [c for pair in pairs for c in pair if c not in values]:
            raise ValueError(f"thresholds lack the channel {scene.channels[missing[0]]!r}, which is part of a pair")
        return tuple((values[a], values[b]) for a, b in pairs)
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return ((_threshold("thresholds", given[0]), _threshold("thresholds", given[1])),) * len(pairs)
    if np.ndim(given) == 0:
        return ((_threshold("thresholds", given),) * 2,) * len(pairs)
    raise TypeError(f"thresholds={given!r}: expected a number, a pair of numbers, or a mapping of channels to numbers")


def _threshold(name: str, value: Any) -> float | int:
    """A finite number; whole numbers that a float does not hold stay as they are."""
    found = checks.number(name, value)
    return int(value) if abs(found) >= 2**53 and isinstance(value, (int, np.integer)) else found


def measure(
    obj: Any,
    pairs: Any = None,
    *,
    names: Iterable[str] | None = None,
    mask: Any = None,
    labels: Any = None,
    thresholds: Any = None,
    thresholds_from: str = "label",
    options: Mapping[str, Any] | None = None,
    **rules_by_name: Any,
) -> xr.Dataset:
    """Measure pairs of channels; see `Coloc.measure`."""
    scene = Scene(obj)
    chosen = scene.pairs(pairs)
    names_of = [f.name for f in fields(conventions.Conventions)]
    rules = conventions.Conventions(**checks.known("the call", rules_by_name, names_of))
    if names is not None and not isinstance(names, str) and not isinstance(names, Iterable):
        raise TypeError(f"measures={names!r}: expected names among {', '.join(conventions.ALL + conventions.EXTRA)}")
    wanted = tuple(dict.fromkeys([names] if isinstance(names, str) else conventions.ALL if names is None else names))
    if not wanted:
        raise ValueError(
            f"measures={names!r}: expected at least one of {', '.join(conventions.ALL + conventions.EXTRA)}"
        )
    limits = parse_thresholds(thresholds, scene, chosen)
    conventions.fields(wanted, rules, limits is not None)
    if thresholds_from not in ("label", "image"):
        raise ValueError(f"thresholds_from={thresholds_from!r}: expected 'label' or 'image'")
    options = _costes_options(options)
    _refuse_unused(wanted, rules, limits, labels is not None, thresholds_from, options)
    mask, labels = scene.companion(mask, "mask"), scene.companion(labels, "labels")
    if labels is not None and labels.dtype.kind not in "iub":
        raise TypeError(
            f"labels are {labels.dtype}: expected integers, one number for each region; of floats with NaN outside, "
            "give labels.fillna(0).astype(int)"
        )
    request = Request(tuple(chosen), wanted, limits, rules, labels is not None, scene.image.dtype,
                      thresholds_from == "image", options)  # fmt: skip
    results, method, uncounted = _run(scene, request, mask, labels)
    return _dataset(scene, request, results, method, uncounted)


def _refuse_unused(
    names: tuple[str, ...], rules: conventions.Conventions, limits: Any, labelled: bool, source: str, options: Any
) -> None:
    """Refuse options that would change nothing."""
    if limits is not None and not conventions.needs_thresholds(names, rules):
        raise ValueError(f"thresholds={limits!r}: {', '.join(names)} do not depend on thresholds; leave them out")
    automatic = isinstance(limits, str) or (limits is not None and limits[0] == "fraction")
    if source == "image" and not (automatic and labelled):
        raise ValueError(
            "thresholds_from='image' is for automatic thresholds (such as 'costes') of labels; leave it out"
        )
    if options and not (isinstance(limits, str) and limits.startswith("costes_cellprofiler")):
        raise ValueError(
            f"costes_options: {', '.join(options)} belong to CellProfiler's variants, "
            "thresholds='costes_cellprofiler_fast' or 'costes_cellprofiler_faster'; leave them out"
        )
    if unused := conventions.unused(names, rules, limits is not None, labelled):
        needs = "labels, " if unused[0] == "rwc_ranks" else ""
        raise ValueError(
            f"{unused[0]}={getattr(rules, unused[0])!r} changes none of {', '.join(names)} without {needs}thresholds "
            "or a measure that depends on it; leave it out"
        )


def _costes_options(given: Any) -> dict[str, Any]:
    options = checks.known("costes_options", {} if given is None else given, ("scale", "ties"))
    if "scale" in options:
        checks.number("scale", options["scale"], 0, above=True)
    if "ties" in options:
        checks.choice("ties", options["ties"], ("above", "below"))
    return options


def _run(scene: Scene, request: Request, mask: Any, labels: Any) -> tuple[np.ndarray, str, np.ndarray]:
    """One result at each position, a list over pairs of (labels, measures); the method; labels without results."""
    channels = sorted({c for pair in request.pairs for c in pair})
    run = partial(reduce_blocks, scene, channels, mask=mask, labels=labels)
    if request.dtype.kind in "biu":
        with contextlib.suppress(_TooManyPairs):
            found, uncounted = Noting(
                partial(_select, request),
                _added,
                partial(_finish_counts, request),
                collect=(partial(_counters, request.dtype, len(request.pairs), MOST_PAIRS), _count, _settle),
            ).run(run)
            return found, "joint histogram of grey levels: exact", uncounted
    elif request.dtype.kind != "f":
        raise TypeError(f"the image is {request.dtype}: expected integers or floats")
    if np.prod([scene.image.sizes[a] for a in scene.spatial]) <= FEW_PIXELS:
        found, uncounted = Noting(
            partial(_gather, request), partial(_concatenate, len(request.pairs)), partial(_finish_pixels, request),
            every=request.dtype.kind == "f",
        ).run(run)  # fmt: skip
        return found, "all pixels: exact", uncounted
    method = f"exact sums; ranks and automatic thresholds from at most {LEVELS} equal bins of each channel"
    found, uncounted = _stream(run, request)
    return found, method, uncounted


# integers: joint histograms


def _select(request: Request, planes: dict[int, np.ndarray], keep: Any, labels: Any, _: Any) -> list[packing.Pixels]:
    return [packing.select(planes[a], planes[b], labels, keep) for a, b in request.pairs]


class _TooManyPairs(Exception):
    """There are more distinct pairs of values than a histogram holds, or values that do not fit into its keys.

    As a part of an image has no more of them than the whole, chunks do not matter.
    """

    def __str__(self) -> str:
        return "too many pairs of values for a histogram: the image is read again, for sums and bins"


def _counters(dtype: np.dtype, npairs: int, most: int | None, size: int) -> list[joint.Counter]:
    return [joint.Counter(dtype, size, most, MOST_CELLS // npairs) for _ in range(npairs)]


def _count(counters: list[joint.Counter], parts: list[list[packing.Pixels]]) -> None:
    for k, counter in enumerate(counters):
        counter.add([part[k] for part in parts])
        if counter.failed:
            raise _TooManyPairs


def _settle(counters: list[joint.Counter]) -> None:
    for counter in counters:
        counter.settle()


def _added(parts: list[list[joint.Counter]]) -> list[joint.Counter]:
    first, *others = parts
    for other in others:
        for mine, its in zip(first, other, strict=True):
            mine.absorb(its)
            if mine.failed:
                raise _TooManyPairs
    return first


def _packed(counter: joint.Counter) -> packing.Packed:
    packed = counter.packed()
    if packed is None:
        raise _TooManyPairs
    return packed


def _finish_counts(request: Request, counters: list[joint.Counter], _: Any) -> list[Any]:
    out = []
    for k in range(len(counters)):
        p = _packed(counters.pop(0))  # what was counted is not held longer than it is needed
        groups = packing.labels_of(p, request.dtype) if request.labelled else None
        out.append((groups, _of_table(request, k, packing.unpack(p, request.dtype, groups))))
    return out


def _of_table(request: Request, k: int, table: Table) -> dict[str, np.ndarray]:
    t1, t2 = thresholds_of(request, k, table)
    return measures.measure(table, request.names, t1, t2, request.rules)


def thresholds_of(request: Request, k: int, table: Table) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return the thresholds of each group of a table, or (None, None) where none are asked for."""
    given = request.thresholds
    if given is None:
        return None, None
    size = table.ngroups
    if not isinstance(given, str) and given[0] != "fraction":
        return _numbers(request, [given[k][0]] * size), _numbers(request, [given[k][1]] * size)
    shared = request.shared and request.labelled
    source = _pooled(table) if shared else table
    if given[0] == "fraction":
        found = np.full((source.ngroups, 2), -np.inf)
        if len(source):
            for j, values in enumerate((source.a, source.b)):
                found[source.group[source.starts], j] = np.maximum.reduceat(values, source.starts)
        pairs = np.where(np.isfinite(found), found * given[1], np.nan).tolist()
    else:
        pairs = [_automatic(request, source.of_group(g)) for g in range(source.ngroups)]
    if shared:
        pairs = pairs * size
    return _numbers(request, [p[0] for p in pairs]), _numbers(request, [p[1] for p in pairs])


def _numbers(request: Request, values: list[Any]) -> np.ndarray:
    """Thresholds as float64; those of 64-bit integers as Python numbers, since floats do not hold all of them."""
    wide = request.dtype.kind in "iu" and request.dtype.itemsize > 4
    return np.array(values, object if wide else np.float64)


def _automatic(request: Request, table: Table) -> tuple[float, float]:
    if request.thresholds == "otsu":
        return otsu(table.a, table.count), otsu(table.b, table.count)
    return costes(table, _AUTOMATIC[request.thresholds], limits=request.limits, **request.options)


def _pooled(table: Table) -> Table:
    if table.a.dtype.kind == "f":
        return tables.table_of(table.a, table.b)
    order = np.lexsort((table.b, table.a))
    a, b, w = table.a[order], table.b[order], table.count[order]
    return Table(np.zeros(len(a), np.int64), a, b, w, 1)


# floats and wide integers: pixels


def _valid(planes: dict[int, np.ndarray], a: int, b: int, keep: Any, labels: Any) -> tuple[np.ndarray, ...]:
    """Pixels of a pair that are kept, finite in both channels, and labelled if there are labels."""
    x, y = planes[a], planes[b]
    if x.dtype.kind != "f":
        x, y, labels = packing.select(x, y, labels, keep)
        return x, y, None if labels is None else labels.astype(np.int64)  # type: ignore[return-value]
    chosen = np.isfinite(x) & np.isfinite(y)
    if keep is not None:
        chosen &= keep
    if labels is None:
        return x[chosen], y[chosen], None  # type: ignore[return-value]
    chosen &= labels > 0
    return x[chosen], y[chosen], labels[chosen].astype(np.int64)


def _gather(request: Request, planes: dict[int, np.ndarray], keep: Any, labels: Any, _: Any) -> list[Any]:
    return [_valid(planes, a, b, keep, labels) for a, b in request.pairs]


def _concatenate(npairs: int, parts: list[list[Any]]) -> list[Any]:
    return [
        tuple(None if part[0][k][j] is None else np.concatenate([p[k][j] for p in parts]) for j in range(3))
        for k in range(npairs)
        for part in [parts]
    ]


def _finish_pixels(request: Request, pixels: list[Any], _: Any) -> list[Any]:
    out = []
    for k, (a, b, labels) in enumerate(pixels):
        if labels is None:
            groups, table = None, tables.table_of(a, b)
        else:
            groups, index = np.unique(labels, return_inverse=True)
            table = tables.table_of(a, b, index, len(groups))
        out.append((groups, _of_table(request, k, table)))
    return out


# many floats: passes


def _stream(run: Any, request: Request) -> tuple[np.ndarray, np.ndarray]:
    """Exact sums, and a histogram of equal bins for ranks and automatic thresholds; then, in a last pass, the sums that
    depend on means or thresholds."""
    size = len(request.pairs)
    ranked = {"spearman", "spearman_t", "kendall_tau", "rwc1", "rwc2"} & set(request.names)
    automatic = isinstance(request.thresholds, str) or (request.thresholds or ("",))[0] == "fraction"
    first, bins, uncounted = _first_passes(run, request, bool(ranked) or automatic)
    plans = {}
    for place in np.ndindex(first.shape):
        plans[place] = [_plan(request, k, first[place][k], bins[place][k]) for k in range(size)]
    late = run(partial(_sums_late, request, plans), partial(_add_late, size), _as_it_is)
    out = np.empty(first.shape, object)
    for place in np.ndindex(first.shape):
        out[place] = [_assemble(request, plans[place][k], first[place][k], late[place][k]) for k in range(size)]
    return out, uncounted


@dataclass(frozen=True)
class _Bins:
    """A joint histogram of equal bins: bin k of a channel is centred at ``origin + (k + 0.5) * width``.

    Centres are rounded to whole numbers if `whole`; the origin then consists of Python integers.
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


def _first_passes(run: Any, request: Request, binned: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (sums, lowest, highest values) of each pair at each position, its bins, None where not wanted, and labels
    of which no pixel may count.

    Bins of integers are so many grey levels, a power of two, as make at most `LEVELS` bins of the whole range: they are
    found in the same pass. Those of floats are parts of the range, which must be known before.
    """
    size = len(request.pairs)
    small = request.dtype.kind in "iu" and request.dtype.itemsize <= 2
    first, uncounted = Noting(
        partial(_sums_first, request), _first_merge, _as_it_is,
        collect=(partial(_first_state, request, small and binned), _first_add, _first_settle),
        every=request.dtype.kind == "f",
    ).run(run)  # fmt: skip
    bins = np.empty(first.shape, object)
    packed = None
    if binned and not small:
        ranges = {place: [part[1:3] for part in first[place]] for place in np.ndindex(first.shape)}
        packed = run(
            partial(_binned, request, ranges), _added, _as_it_is,
            collect=(partial(_counters, np.dtype(np.uint16), size, None), _count, _settle),
        )  # fmt: skip
    for place in np.ndindex(first.shape):
        bins[place] = [None] * size
        for k, (_, low, high, counter) in enumerate(first[place]):
            if packed is not None:
                whole = low.dtype == object
                origin = np.array([0 if v == np.inf else v for v in low], low.dtype) if whole else low
                width = ((high - origin) / LEVELS).astype(float)
                bins[place][k] = _Bins(_packed(packed[place][k]), origin, width, whole)
            elif counter is not None:
                lowest = packing.code_of(request.dtype)[0]
                bins[place][k] = _Bins(_packed(counter), np.full(2, lowest - 0.5), np.exp2(counter.shifts))
    return first, bins, uncounted


def _as_it_is(value: Any, _: Any) -> Any:
    return value


def _need(request: Request, late: bool) -> dict[str, tuple[str, ...]]:
    """Sums of the last pass (they depend on means or thresholds), or of the first."""
    need = conventions.fields(request.names, request.rules, request.thresholds is not None)
    early = {"all", "a_lit", "b_lit", "both_lit"}
    return {region: sums for region, sums in need.items() if (region not in early) == late}


def _sums_first(request: Request, planes: dict[int, np.ndarray], keep: Any, labels: Any, _: Any) -> list[Any]:
    out = []
    for a, b in request.pairs:
        x, y, index = _valid(planes, a, b, keep, labels)
        sums = tally.tally_pixels(x, y, index, _need(request, late=False), 0, 0, request.rules)
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
    """Put the sums, ranges and pixels of a few chunks into the state of each pair."""
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
        x, y, index = _valid(planes, a, b, keep, labels)
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
    """What the passes before found out for one pair at one position."""

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
    need = _need(request, late=True)
    out: list[Any] = []
    for k, (a, b) in enumerate(request.pairs):
        plan = plans[place][k]
        x, y, index = _valid(planes, a, b, keep, labels)
        row = np.searchsorted(plan.groups, index) if index is not None else np.zeros(1, np.int64)
        low = np.full(len(plan.groups), -np.inf)
        t1, t2 = (bound(low if t is None else t, request.dtype)[row] for t in (plan.t1, plan.t2))
        floats = request.dtype.kind == "f"
        means = tuple(m[row] for m in plan.means) if floats else tally.around_rows(plan.means, row)
        out.append(tally.tally_pixels(x, y, index, need, t1, t2, request.rules, means))
    return out


def _add_late(npairs: int, parts: list[list[Any]]) -> list[Any]:
    return [_add_sums([p[k] for p in parts]) for k in range(npairs)]


def _assemble(request: Request, plan: _Plan, first: Any, late: Any) -> Any:
    sums = plan.sums | tally.as_integers(late, plan.groups)
    found = measures.conclude(sums, request.names, plan.t1, plan.t2, request.rules, exact.LOWEST) | plan.ranked
    return (plan.groups if request.labelled else None), {n: found[n] for n in request.names}


# the result


def _dataset(scene: Scene, request: Request, results: np.ndarray, method: str, uncounted: np.ndarray) -> xr.Dataset:
    pairs, names = request.pairs, request.names
    dims: tuple[str, ...] = (*scene.lead, "pair")
    coords = scene.lead_coords() | scene.pair_coords(pairs)
    shape = (*results.shape, len(pairs))
    labels = None
    if request.labelled:
        found = [groups for r in results.ravel() for groups, _ in r]
        labels = np.unique(np.concatenate([uncounted, *found]))
        dims, shape = (*dims, "label"), (*shape, len(labels))
        coords["label"] = labels
    arrays = {name: np.full(shape, np.nan) for name in names}
    if "n" in arrays:
        arrays["n"][...] = 0
    for place in np.ndindex(results.shape):
        for k, (groups, values) in enumerate(results[place]):
            where: Any = (*place, k) if labels is None else (*place, k, np.searchsorted(labels, groups))
            for name in names:
                arrays[name][where] = values[name] if labels is not None else values[name][0]
    for name in ("n", "n_above"):
        if name in arrays and not np.isnan(arrays[name]).any():
            arrays[name] = arrays[name].astype(np.int64)
    given = request.thresholds
    attrs = {
        "method": method,
        "thresholds": "none" if given is None else given if isinstance(given, str) else repr(given),
        **{k: "default" if v is None else v for k, v in asdict(request.rules).items()},
    }
    return xr.Dataset({name: (dims, arrays[name]) for name in names}, coords=coords, attrs=attrs)


# the joint histogram itself


def histogram(obj: Any, a: Any, b: Any, *, mask: Any = None) -> np.ndarray:
    """Return the `Table` of a pair at every position, an object array of the shape of the kept axes: of grey values,
    of pixels where they are few, or of bins.
    """
    scene = Scene(obj)
    pair = (scene.channel(a), scene.channel(b))
    request = Request((pair,), ("n",), None, conventions.Conventions(), False, scene.image.dtype)
    run = partial(reduce_blocks, scene, sorted(set(pair)), mask=scene.companion(mask, "mask"))
    if request.dtype.kind in "biu":
        with contextlib.suppress(_TooManyPairs):
            return run(
                partial(_select, request),
                _added,
                partial(_table_of_counts, request.dtype),
                collect=(partial(_counters, request.dtype, 1, MOST_PAIRS), _count, _settle),
            )
    if np.prod([scene.image.sizes[a] for a in scene.spatial]) <= FEW_PIXELS:
        return run(partial(_gather, request), partial(_concatenate, 1), _table_of_pixels)
    _, bins, _ = _first_passes(run, request, True)
    tables = np.empty(bins.shape, object)
    for place in np.ndindex(bins.shape):
        tables[place] = bins[place][0].centres(bins[place][0].numbers())
    return tables


def _table_of_counts(dtype: np.dtype, counters: list[joint.Counter], _: Any) -> Table:
    return packing.unpack(_packed(counters[0]), dtype)


def _table_of_pixels(pixels: list[Any], _: Any) -> Table:
    return tables.table_of(pixels[0][0].astype(float), pixels[0][1].astype(float))


def costes_methods() -> tuple[str, ...]:
    """Names of the variants of Costes' method."""
    return METHODS
