"""Blobs, one row each: found chunk by chunk with scikit-image, and classified by the intensity around them.

Positions are values of the coordinates, each in the unit of its axis (pixels without a coordinate); radii are lengths
in the common unit. Rows keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from intake_img.accessor.arguments import integer, number
from intake_img.accessor.channels import by_number
from intake_img.accessor.coloc import checks
from intake_img.accessor.coloc.inputs import ChannelImage, pixels_of
from intake_img.accessor.table_positions import lengths_in, on_coordinate, places_on, stated_unit
from intake_img.errors import AxesError, MissingExtraError
from intake_img.kernels import blobs as kernel

__all__ = ["checked", "colocalize", "detect", "voxels_of"]


def checked(scene: ChannelImage, blobs: pd.DataFrame, lead: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return blobs with a ``blob_id``, in the units of the image, or raise an error that names the missing column."""
    spatial = scene.spatial
    if not isinstance(blobs, pd.DataFrame):
        raise TypeError(f"blobs are {type(blobs).__name__}: expected a DataFrame with blob_id, channel, z, y, x")
    if missing := [name for name in ("channel", *spatial, *lead) if name not in blobs]:
        raise ValueError(
            f"blobs lack the column {missing[0]!r}: expected {', '.join(['blob_id', 'channel', *lead, *spatial])}; "
            f"they have {', '.join(map(str, blobs.columns))}"
        )
    for axis in spatial:
        if blobs[axis].dtype.kind not in "iuf" and len(blobs):
            raise TypeError(f"the column {axis!r} of blobs contains {blobs[axis].dtype}: expected numbers")
    blobs = _in_units_of(scene, blobs)
    if "blob_id" not in blobs:
        return blobs.assign(blob_id=np.arange(len(blobs)))
    if blobs["blob_id"].duplicated().any():
        twice = blobs["blob_id"][blobs["blob_id"].duplicated()].iloc[0]
        raise ValueError(f"blob_id {twice} occurs twice: each blob needs a number of its own")
    return blobs


def _in_units_of(scene: ChannelImage, blobs: pd.DataFrame) -> pd.DataFrame:
    """Return blobs with their positions in the units of the axes, if the table states units."""
    found = {a: on_coordinate(blobs, a, scene.image, a) for a in scene.spatial if stated_unit(blobs, a)}
    if not found:
        return blobs
    out = blobs.assign(**found)
    units = {a: scene.unit_of(a) for a in found}
    out.attrs = {**blobs.attrs, "column_units": {**blobs.attrs["column_units"], **units}}
    return out


def lead_of(scene: ChannelImage) -> tuple[str, ...]:
    """Axes that distinguish blobs: the kept axes of the image that are longer than 1."""
    return tuple(a for a in scene.lead if scene.image.sizes[a] > 1)


def voxels_of(scene: ChannelImage, blobs: pd.DataFrame) -> np.ndarray:
    """Return the voxel of each blob, shape (n, d): positions truncated to integers, as magmap does."""
    low, scale = ([f(a) for a in scene.spatial] for f in (scene.origin, scene.spacing))
    return np.floor((scene.positions(blobs) - low) / scale + 1e-6).astype(np.int64)


def positions_of(scene: ChannelImage, blobs: pd.DataFrame, axis: str) -> np.ndarray:
    """Return the index of each blob on a kept axis, found by its coordinate; -1 if there is none."""
    return places_on(scene.image, axis, scene.image.sizes[axis], blobs[axis].to_numpy())


def colocalize(obj: Any, blobs: pd.DataFrame, *, threshold: Any, footprint: Any, overlap: str) -> pd.DataFrame:
    """Classify blobs by the intensity around them; see `Coloc.blobs`."""
    if overlap not in ("share", "last"):
        raise ValueError(f"overlap={overlap!r}: expected 'share' or 'last'")
    scene = ChannelImage(obj)
    lead = lead_of(scene)
    blobs = checked(scene, blobs, lead)
    channels = np.array([scene.channel(c) for c in blobs["channel"]], dtype=int)
    voxels = voxels_of(scene, blobs)
    shape = tuple(scene.image.sizes[a] for a in scene.spatial)
    inside = ((voxels >= 0) & (voxels < shape)).all(axis=1)
    place = np.zeros((len(blobs), len(scene.lead)), int)
    for k, a in enumerate(scene.lead):
        if a in lead:
            place[:, k] = positions_of(scene, blobs, a)
    inside &= (place >= 0).all(axis=1)
    offsets = _offsets(scene, blobs, footprint)
    means = np.full((len(blobs), len(scene.channels)), np.nan)
    pooled: dict[int, list[np.ndarray]] = {c: [] for c in range(len(scene.channels))}
    rows = np.flatnonzero(inside)
    percentile = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if overlap == "share":
        means[rows] = _measure(scene, place, voxels, rows, offsets)
    if overlap == "last" or percentile:
        _by_voxel(scene, place, voxels, rows, channels, offsets, means if overlap == "last" else None, pooled)
    limits = _limits(scene, threshold, means, channels, pooled)
    out = blobs[["blob_id", "channel"]].copy()
    names = scene.channels
    with np.errstate(invalid="ignore"):
        for c, name in enumerate(names):
            out[f"mean_{name}"] = means[:, c]
        for c, name in enumerate(names):
            out[f"in_{name}"] = means[:, c] >= limits[c]
    out.attrs = {
        "thresholds": {str(n): float(t) for n, t in zip(names, limits, strict=True)},
        "threshold": str(threshold),
    }
    return out


def _offsets(scene: ChannelImage, blobs: pd.DataFrame, footprint: Any) -> list[np.ndarray]:
    if isinstance(footprint, str):
        if footprint != "radius":
            raise ValueError(f"footprint={footprint!r}: expected a number of voxels, 'radius', or lengths by axis")
        if "radius" not in blobs:
            raise ValueError("footprint='radius' needs a column 'radius' of the blobs")
        spacing = np.array([scene.spacing(a) for a in scene.spatial])
        own = lengths_in(blobs, "radius", scene.unit)
        if not (own >= 0).all():
            raise ValueError("the column 'radius' of blobs contains negative or undefined lengths")
        radii, index = np.unique(own, return_inverse=True)
        balls = [kernel.ball(r / spacing) for r in radii]
        return [balls[k] for k in index]
    if isinstance(footprint, Mapping):
        return [kernel.ball(scene.in_pixels(footprint, "footprint", above=False))]
    radii = np.full(len(scene.spatial), number("footprint", footprint, 0))
    return [kernel.ball(np.where([scene.image.sizes[a] > 1 for a in scene.spatial], radii, 0))]


def _measure(
    scene: ChannelImage, place: np.ndarray, voxels: np.ndarray, rows: np.ndarray, offsets: list[np.ndarray]
) -> np.ndarray:
    """Mean of each channel around each blob: each chunk is read once, with a halo as wide as the widest footprint."""
    import dask
    from dask import array as da

    order = (*scene.lead, "c", *scene.spatial)
    nlead = len(scene.lead)
    image = pixels_of(scene.image, order, whole=["c"])
    image = image.rechunk(dict.fromkeys(range(nlead), 1))
    reach = np.max([np.abs(o).max(axis=0) for o in offsets], axis=0) if offsets else np.zeros(len(scene.spatial), int)
    reach = np.minimum(reach, np.array(image.shape[nlead + 1 :]) - 1)
    depth = {nlead + 1 + k: int(r) for k, r in enumerate(reach)}
    padded = da.overlap.overlap(image, depth, boundary="none", allow_rechunk=True) if reach.any() else image
    cores = _cores(padded.chunks[nlead + 1 :], reach)
    edges = [np.concatenate([[0], np.cumsum(c)]) for c in cores]
    block = np.stack([np.searchsorted(e, voxels[rows, k], side="right") - 1 for k, e in enumerate(edges)], axis=1)
    keys = np.concatenate([place[rows], block], axis=1)
    groups, index = np.unique(keys, axis=0, return_inverse=True) if len(rows) else (keys, np.empty(0, int))
    index = np.ravel(index)
    blocks = padded.to_delayed(optimize_graph=False)
    shape = tuple(scene.image.sizes[a] for a in scene.spatial)
    tasks, members = [], []
    sequence = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[sequence], np.arange(len(groups) + 1))
    for g, key in enumerate(groups):
        own = sequence[bounds[g] : bounds[g + 1]]
        at = key[nlead:]
        origin = np.array([max(0, e[k] - r) for e, k, r in zip(edges, at, reach, strict=True)])
        part = offsets if len(offsets) == 1 else [offsets[rows[k]] for k in own]
        chunk = blocks[(*key[:nlead], 0, *at)]
        tasks.append(dask.delayed(_gather, pure=False)(chunk, nlead, origin, shape, voxels[rows[own]], part))
        members.append(own)
    out = np.full((len(rows), len(scene.channels)), np.nan)
    for own, values in zip(members, dask.compute(*tasks), strict=True):
        out[own] = values
    return out


def _cores(chunks: tuple[tuple[int, ...], ...], reach: np.ndarray) -> list[list[int]]:
    """Chunk lengths without the halo that was added on the inner sides."""
    out = []
    for lengths, r in zip(chunks, reach.tolist(), strict=True):
        last = len(lengths) - 1
        out.append([n - r * ((k > 0) + (k < last)) for k, n in enumerate(lengths)])
    return out


def _gather(
    block: np.ndarray, nlead: int, origin: np.ndarray, shape: tuple[int, ...], centres: np.ndarray, offsets: Any
) -> np.ndarray:
    return kernel.gather(block[(0,) * nlead], origin, shape, centres, offsets)


def _by_voxel(
    scene: ChannelImage,
    place: np.ndarray,
    voxels: np.ndarray,
    rows: np.ndarray,
    channels: np.ndarray,
    offsets: list[np.ndarray],
    means: np.ndarray | None,
    pooled: dict[int, list[np.ndarray]],
) -> None:
    """Values at the distinct voxels around the blobs of each channel: pooled, and with owners as magmap has them."""
    image = pixels_of(scene.image, (*scene.lead, "c", *scene.spatial))
    shape = tuple(scene.image.sizes[a] for a in scene.spatial)
    for where in np.unique(place[rows], axis=0) if len(rows) else []:
        here = rows[(place[rows] == where).all(axis=1)]
        for c in np.unique(channels[here]):
            own = here[channels[here] == c]
            part = offsets if len(offsets) == 1 else [offsets[k] for k in own]
            flat, owner = kernel.own_voxels(voxels[own], part, shape)
            at = np.unravel_index(flat, shape)
            wanted = range(len(scene.channels)) if means is not None else [c]
            for channel in wanted:
                values = image[(*where, channel)].vindex[at].compute().astype(np.float64)
                if channel == c:
                    pooled[int(c)].append(values)
                if means is not None:
                    count = np.bincount(owner, minlength=len(own))
                    with np.errstate(invalid="ignore"):
                        means[own, channel] = np.bincount(owner, weights=values, minlength=len(own)) / count


def _limits(scene: ChannelImage, threshold: Any, means: np.ndarray, channels: np.ndarray, pooled: Any) -> np.ndarray:
    """Threshold of each channel; NaN for a channel without blobs."""
    size = len(scene.channels)
    limits = np.full(size, np.nan)
    if isinstance(threshold, Mapping):
        named = {name: number(f"threshold[{name!r}]", value) for name, value in threshold.items()}
        given = by_number("threshold", named, scene.image)
        if missing := [name for k, name in enumerate(scene.channels) if k not in given]:
            raise ValueError(f"threshold lacks a value for the channel {missing[0]!r}")
        limits[list(given)] = list(given.values())
    elif isinstance(threshold, str):
        if threshold != "min":
            raise ValueError(f"threshold={threshold!r}: expected 'min', a percentile, or {{channel: value}}")
        for c in range(size):
            own = means[channels == c, c]
            own = own[~np.isnan(own)]
            limits[c] = own.min() if len(own) else np.nan
    else:
        number("threshold", threshold, 0, 100)
        for c in range(size):
            if pooled[c]:
                limits[c] = np.percentile(np.concatenate(pooled[c]), float(threshold))
    return limits


def detect(
    obj: Any,
    *,
    channels: Any,
    min_radius: Any,
    max_radius: Any,
    units: str | None,
    threshold: float,
    method: str,
    num_sigma: int,
    sigma_ratio: float,
    overlap: float,
) -> pd.DataFrame:
    """Find blobs; see `ImgAccessor.detect_blobs`."""
    _check_detection(threshold, method, num_sigma, sigma_ratio, overlap)
    image = obj.img._first
    if "c" not in image.dims:
        obj = image.expand_dims("c")
    scene = ChannelImage(obj)
    if "c" not in image.dims and channels is not None:
        raise AxesError("the image has no channel axis: leave channels out")
    names = scene.channels
    chosen = range(len(names)) if channels is None else [scene.channel(c) for c in checks.listed("channels", channels)]
    spatial = tuple(a for a in scene.spatial if scene.image.sizes[a] > 1)
    spread = np.sqrt(len(spatial))
    low, high = (
        _sigmas(scene, r, what, units, spatial) / spread
        for r, what in ((min_radius, "min_radius"), (max_radius, "max_radius"))
    )
    if (low > high).any():
        raise ValueError(f"min_radius={min_radius!r} is larger than max_radius={max_radius!r}")
    options: dict[str, Any] = {"min_sigma": low.tolist(), "max_sigma": high.tolist(), "threshold": threshold}
    options |= {"num_sigma": num_sigma} if method == "log" else {"sigma_ratio": sigma_ratio}
    depth = kernel.halo(method, high, sigma_ratio)
    tables = []
    for place in product(*(range(scene.image.sizes[a]) for a in scene.lead)):
        at = dict(zip(scene.lead, place, strict=True))
        for c in chosen:
            plane = scene.image.isel(at | {"c": c} | {a: 0 for a in scene.spatial if a not in spatial})
            found = _peaks(pixels_of(plane, spatial), method, options, depth)
            found = kernel.prune(found, overlap, len(spatial))
            tables.append(_table(scene, found, at, names[c] if "c" in image.dims else 0, spatial, spread))
    return _joined(tables, scene, method)


def _check_detection(threshold: float, method: str, num_sigma: int, sigma_ratio: float, overlap: float) -> None:
    import importlib.util

    if importlib.util.find_spec("skimage") is None:
        raise MissingExtraError("scikit-image", "skimage", "detecting blobs")
    if method not in ("log", "dog"):
        raise ValueError(f"method={method!r}: expected 'log' or 'dog'")
    number("threshold", threshold)
    integer("num_sigma", num_sigma, 1)
    number("sigma_ratio", sigma_ratio, 1, above=True)
    number("overlap", overlap, 0, 1)
    if method == "log" and sigma_ratio != 1.6:
        raise ValueError(f"sigma_ratio={sigma_ratio!r} is for method='dog'; method='log' uses num_sigma scales")
    if method == "dog" and num_sigma != 10:
        raise ValueError(f"num_sigma={num_sigma!r} is for method='log'; method='dog' uses sigma_ratio")


def _joined(tables: list[pd.DataFrame], scene: ChannelImage, method: str) -> pd.DataFrame:
    """Return the blobs of all places and channels, numbered, with the units of the columns."""
    columns = ["channel", *scene.lead, *scene.spatial, "radius"]
    tables = [t for t in tables if len(t)]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    table = table[columns]
    table.insert(0, "blob_id", np.arange(len(table)))
    own = {a: scene.unit_of(a) for a in scene.spatial}
    table.attrs = {"units": scene.unit, "column_units": {**own, "radius": scene.unit}, "method": method}
    return table


def _sigmas(scene: ChannelImage, radius: Any, what: str, units: str | None, spatial: tuple[str, ...]) -> np.ndarray:
    if isinstance(radius, Mapping):
        radius = {a: radius.get(a, 1.0) for a in scene.spatial} if set(spatial) <= set(radius) else radius
    values = scene.in_pixels(radius, what, units)
    values = np.array([v for a, v in zip(scene.spatial, values, strict=True) if a in spatial])
    if not (values > 0).all():
        raise ValueError(f"{what}={radius!r}: expected a positive length")
    return values


def _peaks(image: Any, method: str, options: dict[str, Any], depth: np.ndarray) -> np.ndarray:
    """Maxima of the complete image, sorted: each chunk, with a halo, yields the maxima in its own core."""
    import dask
    from dask import array as da

    reach = np.minimum(depth, np.array(image.shape) - 1)
    single = np.array([len(c) == 1 for c in image.chunks])
    around = {k: 0 if single[k] else int(r) for k, r in enumerate(reach)}
    padded = da.overlap.overlap(image, around, boundary="none", allow_rechunk=True) if not single.all() else image
    halo = np.array([around[k] for k in range(image.ndim)])
    cores = _cores(padded.chunks, halo)
    edges = [np.concatenate([[0], np.cumsum(c)]) for c in cores]
    blocks = padded.to_delayed(optimize_graph=False)
    tasks = []
    for at in np.ndindex(blocks.shape):
        low = np.array([e[k] for e, k in zip(edges, at, strict=True)])
        high = np.array([e[k + 1] for e, k in zip(edges, at, strict=True)])
        origin = np.maximum(0, low - halo)
        tasks.append(dask.delayed(_core_peaks, pure=False)(blocks[at], method, options, low, high, origin))
    found = np.concatenate(dask.compute(*tasks))
    return found[np.lexsort(found.T[::-1])]


def _core_peaks(
    block: np.ndarray, method: str, options: dict[str, Any], low: np.ndarray, high: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    found = kernel.peaks(block, method, options)
    ndim = block.ndim
    found[:, :ndim] += origin
    return found[((found[:, :ndim] >= low) & (found[:, :ndim] < high)).all(axis=1)]


def _table(
    scene: ChannelImage, found: np.ndarray, at: Any, channel: Any, spatial: tuple[str, ...], spread: float
) -> pd.DataFrame:
    columns: dict[str, Any] = {"channel": [channel] * len(found)}
    for a, k in at.items():
        columns[a] = [scene.image[a].values[k] if a in scene.image.coords else k] * len(found)
    for a in scene.spatial:
        index = found[:, spatial.index(a)] if a in spatial else np.zeros(len(found))
        columns[a] = scene.place(a, index)
    last = spatial[-1]
    columns["radius"] = found[:, 2 * len(spatial) - 1] * spread * scene.spacing(last) if len(found) else []
    return pd.DataFrame(columns)
