"""Pixel measures of pairs of channels: from names and units to one pass over the chunks, and back to a labelled
Dataset.

Integers of up to 16 bits (and wider integers of a small enough range) are counted into joint histograms, from which all
measures are computed. Small numbers of float pixels are kept in memory. For many floats, and for integers with more
pairs of values than a histogram can store, sums are exact, and ranks and automatic thresholds come from a histogram of
equal bins. The attributes of the result name the method.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, number
from intake_img.accessor.coloc import checks
from intake_img.accessor.coloc.counting import TooManyPairs, added, count_into, counters_of, packed_of, settle
from intake_img.accessor.coloc.float_passes import LEVELS, first_passes, stream
from intake_img.accessor.coloc.inputs import ChannelImage
from intake_img.accessor.coloc.one_pass import reduce_blocks
from intake_img.accessor.coloc.request import Request, parse_thresholds, thresholds_of, valid_pixels
from intake_img.accessor.coloc.uncounted import Noting
from intake_img.kernels import conventions, joint, measures, packing, tables
from intake_img.kernels.tables import Table

__all__ = ["histogram", "measure"]

FEW_PIXELS = 2**23
"""Floats of at most this many pixels at a position are ranked exactly."""
MOST_PAIRS = 2**23
"""A joint histogram contains at most this many distinct pairs of grey values (and labels), unless all lie within
`joint.DENSE_CELLS` cells."""


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
    scene = ChannelImage(obj)
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
    request = Request(
        tuple(chosen), wanted, limits, rules, labels is not None, scene.image.dtype, thresholds_from == "image", options
    )
    results, method, uncounted = _run(scene, request, mask, labels)
    return _dataset(scene, request, results, method, uncounted)


def _refuse_unused(
    names: tuple[str, ...], rules: conventions.Conventions, limits: Any, labelled: bool, source: str, options: Any
) -> None:
    """Raise an error for options without effect."""
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
        number("scale", options["scale"], 0, above=True)
    if "ties" in options:
        choice("ties", options["ties"], ("above", "below"))
    return options


def _run(scene: ChannelImage, request: Request, mask: Any, labels: Any) -> tuple[np.ndarray, str, np.ndarray]:
    """One result at each position, a list over pairs of (labels, measures); the method; labels without results."""
    channels = sorted({c for pair in request.pairs for c in pair})
    run = partial(reduce_blocks, scene, channels, mask=mask, labels=labels)
    if request.dtype.kind in "biu":
        with contextlib.suppress(TooManyPairs):
            found, uncounted = Noting(
                partial(_select, request),
                added,
                partial(_finish_counts, request),
                collect=(partial(counters_of, request.dtype, len(request.pairs), MOST_PAIRS), count_into, settle),
            ).run(run)
            return found, "joint histogram of grey levels: exact", uncounted
    elif request.dtype.kind != "f":
        raise TypeError(f"the image is {request.dtype}: expected integers or floats")
    if np.prod([scene.image.sizes[a] for a in scene.spatial]) <= FEW_PIXELS:
        found, uncounted = Noting(
            partial(_gather, request),
            partial(_concatenate, len(request.pairs)),
            partial(_finish_pixels, request),
            every=request.dtype.kind == "f",
        ).run(run)
        return found, "all pixels: exact", uncounted
    method = f"exact sums; ranks and automatic thresholds from at most {LEVELS} equal bins of each channel"
    found, uncounted = stream(run, request)
    return found, method, uncounted


# integers: joint histograms


def _select(request: Request, planes: dict[int, np.ndarray], keep: Any, labels: Any, _: Any) -> list[packing.Pixels]:
    return [packing.select(planes[a], planes[b], labels, keep) for a, b in request.pairs]


def _finish_counts(request: Request, counters: list[joint.Counter], _: Any) -> list[Any]:
    out = []
    for k in range(len(counters)):
        p = packed_of(counters.pop(0))  # what was counted is not held longer than it is needed
        groups = packing.labels_of(p, request.dtype) if request.labelled else None
        out.append((groups, _of_table(request, k, packing.unpack(p, request.dtype, groups))))
    return out


def _of_table(request: Request, k: int, table: Table) -> dict[str, np.ndarray]:
    t1, t2 = thresholds_of(request, k, table)
    return measures.measure(table, request.names, t1, t2, request.rules)


# floats and wide integers: pixels


def _gather(request: Request, planes: dict[int, np.ndarray], keep: Any, labels: Any, _: Any) -> list[Any]:
    return [valid_pixels(planes, a, b, keep, labels) for a, b in request.pairs]


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


# the result


def _dataset(
    scene: ChannelImage, request: Request, results: np.ndarray, method: str, uncounted: np.ndarray
) -> xr.Dataset:
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
    """Return the `Table` of a pair at every position, an object array of the shape of the kept axes: a table of grey
    values, of (few) pixels, or of bins.
    """
    scene = ChannelImage(obj)
    pair = (scene.channel(a), scene.channel(b))
    request = Request((pair,), ("n",), None, conventions.Conventions(), False, scene.image.dtype)
    run = partial(reduce_blocks, scene, sorted(set(pair)), mask=scene.companion(mask, "mask"))
    if request.dtype.kind in "biu":
        with contextlib.suppress(TooManyPairs):
            return run(
                partial(_select, request),
                added,
                partial(_table_of_counts, request.dtype),
                collect=(partial(counters_of, request.dtype, 1, MOST_PAIRS), count_into, settle),
            )
    if np.prod([scene.image.sizes[a] for a in scene.spatial]) <= FEW_PIXELS:
        return run(partial(_gather, request), partial(_concatenate, 1), _table_of_pixels)
    _, bins, _ = first_passes(run, request, True)
    tables = np.empty(bins.shape, object)
    for place in np.ndindex(bins.shape):
        tables[place] = bins[place][0].centres(bins[place][0].numbers())
    return tables


def _table_of_counts(dtype: np.dtype, counters: list[joint.Counter], _: Any) -> Table:
    return packing.unpack(packed_of(counters[0]), dtype)


def _table_of_pixels(pixels: list[Any], _: Any) -> Table:
    return tables.table_of(pixels[0][0].astype(float), pixels[0][1].astype(float))
