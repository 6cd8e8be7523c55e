"""Matches of blobs across channels, as a table; and their spatial statistics.

Matching is global: without blocks and borders within a time point, and never across time points. `match` in blocks and
with inner padding is here as well, for comparisons with MagellanMapper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from intake_img.accessor.arguments import choice, integer, number
from intake_img.accessor.coloc import checks
from intake_img.accessor.coloc.blobs import checked
from intake_img.accessor.coloc.inputs import ChannelImage
from intake_img.accessor.lengths import in_common, length
from intake_img.kernels import matching as kernel
from intake_img.kernels import spatial as statistics
from intake_img.model.units import convert, has_unit, power

__all__ = ["Matches", "cross_k", "match", "nearest"]


class Matches(pd.DataFrame):
    """Pairs of blobs, a row each; a DataFrame that keeps the blobs from which it was made.

    Columns: ``match_id``, the axes kept apart (``t``), ``channel1``, ``channel2``, ``blob1_id``, ``blob2_id``,
    positions
    ``z1 y1 x1``, ``z2 y2 x2`` and their mean ``z y x`` (each in the unit of its axis), ``distance`` (in the common
    unit of lengths) and ``distance_scaled`` (in units of the tolerance: below 1). ``attrs["column_units"]`` names them.
    """

    _metadata = ["source", "channel_pairs"]
    source: pd.DataFrame
    channel_pairs: list[tuple[Any, Any]]

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    @property
    def unmatched(self) -> pd.DataFrame:
        """Blobs without a match, one row for each matched pair of channels, with the ``partner`` channel."""
        parts = []
        for first, second in self.channel_pairs:
            own = self[(self["channel1"] == first) & (self["channel2"] == second)]
            for channel, partner, ids in ((first, second, own["blob1_id"]), (second, first, own["blob2_id"])):
                blobs = self.source[self.source["channel"] == channel]
                parts.append(blobs[~blobs["blob_id"].isin(ids)].assign(partner=partner))
        if not parts:
            return self.source.iloc[:0].assign(partner=None)
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """Number of blobs and matches of each pair of channels, their share, and the mean distance."""
        rows = []
        for first, second in self.channel_pairs:
            own = self[(self["channel1"] == first) & (self["channel2"] == second)]
            counts = [int((self.source["channel"] == c).sum()) for c in (first, second)]
            rows.append(
                {
                    "channel1": first,
                    "channel2": second,
                    "blobs1": counts[0],
                    "blobs2": counts[1],
                    "matches": len(own),
                    "fraction1": len(own) / counts[0] if counts[0] else np.nan,
                    "fraction2": len(own) / counts[1] if counts[1] else np.nan,
                    "mean_distance": own["distance"].mean(),
                }
            )
        return pd.DataFrame(rows)

    def mean_coords(self) -> np.ndarray:
        """Mean position of the blobs of each match, shape (n, d); empty for no matches (magmap:
        ``get_mean_coords``).
        """
        return self[[a for a in ("z", "y", "x") if a in self.columns]].to_numpy(float)

    def blobs(self, side: int) -> pd.DataFrame:
        """The blobs of one side (1 or 2), in the order of the matches (magmap: ``get_blobs``)."""
        choice("side", side, (1, 2))
        return self.source.set_index("blob_id", drop=False).loc[self[f"blob{side}_id"]].reset_index(drop=True)

    def update_blobs(self, function: Callable[..., np.ndarray], *args: Any) -> Matches:
        """Return the matches with positions changed by a function of an array of shape (n, d), applied to each side.

        Means and distances are updated; ``distance_scaled`` and the blobs themselves keep their values (magmap:
        ``update_blobs``).
        """
        if not callable(function):
            raise TypeError(f"function={function!r}: expected a function of an array of shape (n, d)")
        axes = [a for a in ("z", "y", "x") if f"{a}1" in self.columns]
        out = self.copy()
        sides = [np.asarray(function(self[[f"{a}{k}" for a in axes]].to_numpy(float), *args), float) for k in (1, 2)]
        for n, a in enumerate(axes):
            out[f"{a}1"], out[f"{a}2"] = sides[0][:, n], sides[1][:, n]
            out[a] = (sides[0][:, n] + sides[1][:, n]) / 2
        between = (sides[0] - sides[1]) * self._in_unit_of_distance([f"{a}1" for a in axes])
        out["distance"] = np.sqrt((between**2).sum(axis=1))
        return matches_of(out, self.source, self.channel_pairs)

    def _in_unit_of_distance(self, columns: list[str]) -> np.ndarray:
        """The factor from each column of positions to the unit of ``distance``."""
        units = self.attrs.get("column_units", {})
        to = units.get("distance")
        return np.array([convert(1.0, units[c], to) if to and units.get(c, to) != to else 1.0 for c in columns])


def matches_of(table: pd.DataFrame, source: pd.DataFrame, pairs: list[tuple[Any, Any]]) -> Matches:
    """Return a table as `Matches`."""
    out = Matches(table)
    out.attrs = dict(table.attrs)
    out.source, out.channel_pairs = source, pairs
    return out


def match(
    obj: Any,
    blobs: pd.DataFrame,
    *,
    tol: Any,
    units: str | None,
    channels: Any,
    roi: Any,
    method: str,
    inner_padding: Any,
    blocks: Any,
) -> Matches:
    """Match blobs across channels; see `Coloc.match`."""
    scene = ChannelImage(obj)
    if method not in kernel.METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(kernel.METHODS)}")
    blobs = checked(scene, blobs)
    tolerance = scene.lengths(tol, "tol", units)
    roi = scene.region(roi)
    blobs = within(blobs, roi, scene)
    names = _present(scene, blobs, channels)
    pairs = list(combinations(names, 2))
    kept = [a for a in scene.lead if a in blobs.columns]
    padding = None
    if inner_padding is not None:
        padding = scene.lengths(inner_padding, "inner_padding", units, above=False)
    size = None if blocks is None else scene.lengths(blocks, "blocks", units)
    box = _box(scene, roi) if padding is not None or size is not None else np.zeros((2, len(scene.spatial)))
    work = _Work(tolerance, method, padding, size, box)
    parts = []
    for key, group in _groups(blobs, kept):
        points = {c: group[group["channel"] == c] for c in names}
        for first, second in pairs:
            parts.append(
                _pairs(points[first], points[second], scene, work)
                | dict(zip(kept, key, strict=True))
                | {"channel1": first, "channel2": second}
            )
    table = _tidy(parts, kept, scene.spatial)
    own = {f"{a}{k}": scene.unit_of(a) for a in scene.spatial for k in ("", 1, 2)}
    table.attrs = {"units": scene.unit, "column_units": {**own, "distance": scene.unit}}
    return matches_of(table, blobs.reset_index(drop=True), pairs)


class _Work:
    """Parameters that are the same for every pair of channels."""

    def __init__(self, tolerance: np.ndarray, method: str, padding: Any, size: Any, box: np.ndarray) -> None:
        self.tolerance, self.method, self.padding, self.size, self.box = tolerance, method, padding, size, box

    def edges(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.size is not None:
            return self._in_blocks(a, b)
        return self._in_box(a, b, self.box)

    def _in_box(self, a: np.ndarray, b: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.padding is None:
            return kernel.match(a, b, self.tolerance, self.method)
        return _padded(a, b, self.tolerance, self.method, box, self.padding)

    def _in_blocks(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Overlapping blocks; if pairs share a blob, only the nearest is kept: first by blob 1, then by blob 2."""
        found: list[tuple[np.ndarray, ...]] = []
        for low, high in _tiles(self.box, self.size, self.tolerance):
            own_a, own_b = (np.flatnonzero(((p >= low) & (p < high)).all(axis=1)) for p in (a, b))
            i, j, d = self._in_box(a[own_a], b[own_b], np.stack([low, high]))
            found.append((own_a[i], own_b[j], d))
        i, j, d = (np.concatenate(x) for x in zip(*found, strict=True))
        for side in (0, 1):
            own = (i, j)[side]
            order = np.lexsort((d, own))
            first = np.concatenate([[True], np.diff(own[order]) != 0]) if len(order) else np.empty(0, bool)
            keep = np.sort(order[first])
            i, j, d = i[keep], j[keep], d[keep]
        order = np.lexsort((j, i))
        return i[order], j[order], d[order]


def _tiles(box: np.ndarray, size: np.ndarray, overlap: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    starts = [np.arange(low, max(high, low + 1e-9), step) for low, high, step in zip(*box, size, strict=True)]
    for low in product(*starts):
        yield np.array(low) - overlap, np.array(low) + size + overlap


def _padded(
    a: np.ndarray, b: np.ndarray, tolerance: np.ndarray, method: str, box: np.ndarray, padding: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MagellanMapper's two rounds: inner blobs of the second channel with all blobs of the first, then outer blobs with
    the remaining inner blobs of the first. Pairs of two blobs in the outer ring are not found."""
    shrink = np.clip(padding, 0, np.maximum(0, np.ceil((box[1] - box[0]) / 2 - 1)))
    inner_a, inner_b = (((p >= box[0] + shrink) & (p < box[1] - shrink)).all(axis=1) for p in (a, b))
    rows_b = np.flatnonzero(inner_b)
    i, j, d = kernel.match(a, b[rows_b], tolerance, method)
    free = inner_a.copy()
    free[i] = False
    rows_a, outer = np.flatnonzero(free), np.flatnonzero(~inner_b)
    i2, j2, d2 = kernel.match(a[rows_a], b[outer], tolerance, method)
    return np.concatenate([i, rows_a[i2]]), np.concatenate([rows_b[j], outer[j2]]), np.concatenate([d, d2])


def _present(scene: ChannelImage, blobs: pd.DataFrame, channels: Any) -> list[Any]:
    """Channels to match, with or without blobs, named as in the blobs or else as in the image, in its order."""
    found: dict[int, Any] = {}
    for name in blobs["channel"].unique():
        value = name.item() if isinstance(name, np.generic) else name
        found[scene.channel(value)] = value
    texts = all(isinstance(name, str) for name in scene.channels)
    numbered = texts and bool(found) and all(isinstance(v, int) for v in found.values())
    wanted = range(len(scene.channels)) if channels is None else map(scene.channel, checks.listed("channels", channels))
    return [found.get(k, k if numbered else scene.channels[k]) for k in sorted(set(wanted))]


def within(blobs: pd.DataFrame, roi: Any, scene: ChannelImage | None = None) -> pd.DataFrame:
    """Return the blobs in a region: ``{axis: (low, high)}`` or slices, half open."""
    if roi is None:
        return blobs
    keep = np.ones(len(blobs), bool)
    axes = [str(c) for c in blobs.columns if not scene or c in scene.spatial + scene.lead]
    for axis, (low, high) in checks.region(roi, axes).items():
        values = blobs[axis].to_numpy()
        if low is not None:
            keep &= values >= low
        if high is not None:
            keep &= values < high
    return blobs[keep]


def _box(scene: ChannelImage, roi: Any) -> np.ndarray:
    """Lower and upper corner of the region in the common unit, shape (2, d)."""
    low = np.array([scene.origin(a) for a in scene.spatial])
    high = low + [scene.image.sizes[a] * scene.spacing(a) for a in scene.spatial]
    for k, a in enumerate(scene.spatial):
        if isinstance(roi, Mapping) and a in roi:
            bounds = checks.bounds_of(f"roi[{a!r}]", roi[a])
            low[k] = low[k] if bounds[0] is None else in_common(scene.image, a, bounds[0])
            high[k] = high[k] if bounds[1] is None else in_common(scene.image, a, bounds[1])
    return np.stack([low, high])


def _groups(blobs: pd.DataFrame, kept: list[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    if not kept or not len(blobs):
        yield (np.nan,) * len(kept), blobs
        return
    for key, group in blobs.groupby(kept, sort=True):
        yield (key if isinstance(key, tuple) else (key,)), group


def _finite(blobs: pd.DataFrame, spatial: tuple[str, ...]) -> None:
    if not np.isfinite(blobs[list(spatial)].to_numpy(float)).all():
        raise ValueError("blobs contain positions that are not finite: leave them out first")


def _pairs(one: pd.DataFrame, two: pd.DataFrame, scene: ChannelImage, work: _Work) -> dict[str, Any]:
    spatial = scene.spatial
    for table in (one, two):
        _finite(table, spatial)
    a, b = (t[list(spatial)].to_numpy(float) for t in (one, two))
    points1, points2 = scene.positions(one), scene.positions(two)
    i, j, distance = work.edges(points1, points2)
    out: dict[str, Any] = {"blob1_id": one["blob_id"].to_numpy()[i], "blob2_id": two["blob_id"].to_numpy()[j]}
    for k, axis in enumerate(spatial):
        out[f"{axis}1"], out[f"{axis}2"] = a[i, k], b[j, k]
        out[axis] = (a[i, k] + b[j, k]) / 2
    out["distance"] = np.sqrt(((points1[i] - points2[j]) ** 2).sum(axis=1))
    out["distance_scaled"] = distance
    return out


def _tidy(parts: list[dict[str, Any]], kept: list[str], spatial: tuple[str, ...]) -> pd.DataFrame:
    columns = [
        *kept,
        "channel1",
        "channel2",
        "blob1_id",
        "blob2_id",
        *(f"{a}1" for a in spatial),
        *(f"{a}2" for a in spatial),
        *spatial,
        "distance",
        "distance_scaled",
    ]
    if parts:
        tables = [pd.DataFrame({c: p[c] for c in columns}, index=range(len(p["distance"]))) for p in parts]
        filled = [t for t in tables if len(t)] or tables[:1]
        table = pd.concat(filled, ignore_index=True)
    else:
        table = pd.DataFrame({c: [] for c in columns})
    table.insert(0, "match_id", np.arange(len(table)))
    return table


# statistics in space


def nearest(obj: Any, blobs: pd.DataFrame, channel1: Any, channel2: Any) -> pd.DataFrame:
    """Nearest neighbour of each blob of one channel in another; see `Coloc.nearest`."""
    scene = ChannelImage(obj)
    blobs = checked(scene, blobs)
    kept = [a for a in scene.lead if a in blobs.columns]
    parts = []
    _finite(blobs, scene.spatial)
    for _, group in _groups(blobs, kept):
        one, two = (_of_channel(scene, group, c) for c in (channel1, channel2))
        distance, row = statistics.nearest(scene.positions(one), scene.positions(two))
        ids = two["blob_id"].to_numpy()
        partner = pd.array(
            [ids[r] if r >= 0 else None for r in row], dtype="Int64" if ids.dtype.kind in "iu" else object
        )
        parts.append(one[["blob_id", *kept]].assign(nearest_id=partner, distance=distance))
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {"units": scene.unit, "column_units": {"distance": scene.unit}}
    return table


def _of_channel(scene: ChannelImage, blobs: pd.DataFrame, channel: Any) -> pd.DataFrame:
    number = scene.channel(channel)
    own = {c: scene.channel(c.item() if isinstance(c, np.generic) else c) == number for c in blobs["channel"].unique()}
    return blobs[blobs["channel"].map(own).astype(bool)]


def cross_k(
    obj: Any, blobs: pd.DataFrame, channel1: Any, channel2: Any, *, radii: Any, edges: str, n: int, seed: int
) -> xr.Dataset:
    """Ripley's cross-K with a random-label null; see `Coloc.cross_k`."""
    scene = ChannelImage(obj)
    blobs = checked(scene, blobs)
    kept = [a for a in scene.lead if a in blobs.columns]
    spatial = tuple(a for a in scene.spatial if scene.image.sizes[a] > 1)
    low = np.array([scene.origin(a) - scene.spacing(a) / 2 for a in spatial])
    box = np.array([scene.image.sizes[a] * scene.spacing(a) for a in spatial])
    radii = _radii(radii, scene)
    choice("edges", edges, ("translation", "none"))
    integer("n", n, 0)
    integer("seed", seed, 0)
    _finite(blobs, scene.spatial)
    results: dict[tuple[Any, ...], xr.Dataset] = {}
    for key, group in _groups(blobs, kept):
        a, b = (scene.positions(_of_channel(scene, group, c), spatial) - low for c in (channel1, channel2))
        results[key] = _with_null(
            statistics.cross_k(a, b, radii, box, edges),
            statistics.random_labels(a, b, radii, box, n, seed, edges),
            _without_relation(radii, len(spatial)),
            xr.Variable("radius", radii, {"units": scene.unit}),
        )
    out = _side_by_side(results, kept)
    if kept and not len(blobs):
        out = out.isel({d: slice(0) for d in out.dims if d != "radius"})
    for name in ("k", "expected", "low", "high") if scene.unit else ():
        out[name].attrs["units"] = power(scene.unit, len(spatial))
    out.attrs = {
        "edges": edges,
        "null": "random labels",
        "permutations": n,
        "seed": seed,
        "low_high": "2.5 % and 97.5 % of the null",
    }
    return out


def _radii(given: Any, scene: ChannelImage) -> np.ndarray:
    """Return radii in the common unit of lengths."""
    each = [given] if np.ndim(given) == 0 else list(given)
    if not each:
        raise ValueError("radii=[]: expected at least one length")
    lengths = (length("radii", r, scene.image) if has_unit(r) else r for r in each)
    return np.array([number("radii", r, 0, above=True) for r in lengths])


def _without_relation(radii: np.ndarray, ndim: int) -> np.ndarray:
    """Return the K of independent points: the length, area or volume within a radius."""
    return (2 * radii, np.pi * radii**2, 4 / 3 * np.pi * radii**3)[ndim - 1]


def _with_null(observed: np.ndarray, null: np.ndarray, expected: np.ndarray, radius: xr.Variable) -> xr.Dataset:
    """Compare the observed K with those of `n` permutations, of shape ``(n, radius)``."""
    n = len(null)
    more = (null >= observed - 1e-12 * np.abs(observed)).sum(axis=0)
    p_value = np.where(np.isnan(observed), np.nan, (1 + more) / (1 + n))
    low, high = np.quantile(null, [0.025, 0.975], axis=0) if n else np.full((2, len(observed)), np.nan)
    columns = {"k": observed, "expected": expected, "low": low, "high": high, "p_value": p_value}
    return xr.Dataset({k: ("radius", v) for k, v in columns.items()}, coords={"radius": radius})


def _side_by_side(results: dict[tuple[Any, ...], xr.Dataset], kept: list[str]) -> xr.Dataset:
    """Join the results of all positions along the axes that are kept apart."""
    if not kept:
        return next(iter(results.values()))
    if len(kept) == 1:
        return xr.concat(results.values(), dim=pd.Index([key[0] for key in results], name=kept[0]))
    out = xr.concat(results.values(), dim=xr.Variable("position", np.arange(len(results))))
    return out.assign_coords({a: ("position", [key[k] for key in results]) for k, a in enumerate(kept)})
