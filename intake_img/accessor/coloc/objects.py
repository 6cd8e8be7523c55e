"""Overlap and distance of the objects of two label images, in physical units, from one pass over the chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from intake_img.accessor.alignment import aligned_both
from intake_img.accessor.arguments import space, warn_of_negative
from intake_img.accessor.coloc.inputs import pixels_of
from intake_img.accessor.lengths import common_unit, length, voxel_size
from intake_img.errors import AxesError
from intake_img.kernels import objects as kernel
from intake_img.model.axes import SPATIAL
from intake_img.model.units import PIXEL

__all__ = ["objects"]

_COLUMNS = [
    *("label1", "label2", "size1", "size2", "overlap", "fraction1", "fraction2", "iou"),
    *("centre_distance", "edge_distance"),
]


def objects(one: xr.DataArray, two: xr.DataArray, *, max_distance: Any) -> pd.DataFrame:
    """Relate the objects of two label images; see `Coloc.objects`."""
    for name, labels in (("labels1", one), ("labels2", two)):
        if labels.dtype.kind not in "iub":
            raise TypeError(f"{name} are {labels.dtype}: expected integers, one number for each object")
    if set(one.dims) != set(two.dims):
        raise AxesError(f"the label images differ: {dict(one.sizes)} and {dict(two.sizes)}")
    one, two = aligned_both(("labels1", "labels2"), one, two.transpose(*one.dims))
    if max_distance is not None:
        max_distance = length("max_distance", max_distance, one)
    space(one)
    spatial = tuple(str(a) for a in one.dims if str(a) in SPATIAL)
    lead = tuple(str(a) for a in one.dims if str(a) not in SPATIAL)
    tables = []
    for place in np.ndindex(*(one.sizes[a] for a in lead)):
        at = dict(zip(lead, place, strict=True))
        table = _relate(one.isel(at), two.isel(at), spatial, max_distance)
        for n, (a, k) in enumerate(at.items()):
            table.insert(n, a, one[a].values[k] if a in one.coords else k)
        tables.append(table)
    filled = [t for t in tables if len(t)] or tables[:1]
    return pd.concat(filled, ignore_index=True)


def _relate(one: xr.DataArray, two: xr.DataArray, spatial: tuple[str, ...], max_distance: float | None) -> pd.DataFrame:
    first, second = (pixels_of(x, spatial) for x in (one, two))
    arrays = [first, second.rechunk(first.chunks)]
    keys, sums = _counted(*arrays)
    scale = np.array([voxel_size(one, a) for a in spatial])
    near = {} if max_distance is None else _near(arrays, scale, float(max_distance))
    table = pd.DataFrame(_rows(keys, sums, scale, near), columns=_COLUMNS)
    unit = common_unit(one) or PIXEL
    table.attrs = {
        "voxel_size": dict(zip(spatial, scale.tolist(), strict=True)),
        "units": unit,
        "column_units": {"centre_distance": unit, "edge_distance": unit, "size1": PIXEL, "size2": PIXEL},
    }
    return table


def _counted(one: Any, two: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of labels that share pixels, and their sums: pixels, then positions along each axis."""
    import dask

    starts = [np.concatenate([[0], np.cumsum(c)[:-1]]) for c in one.chunks]
    blocks = [a.to_delayed(optimize_graph=False) for a in (one, two)]
    tasks = [
        dask.delayed(kernel.count_objects, pure=False)(
            blocks[0][k], blocks[1][k], tuple(int(s[n]) for s, n in zip(starts, k, strict=True))
        )
        for k in np.ndindex(blocks[0].shape)
    ]
    keys, sums = kernel.add_counts(list(dask.compute(*tasks)))
    for k, name in enumerate(("labels1", "labels2")):
        warn_of_negative(name, keys[:, k])
    return keys, sums


def _rows(
    keys: np.ndarray, sums: np.ndarray, scale: np.ndarray, near: dict[tuple[int, int], float]
) -> list[dict[str, Any]]:
    """Return a row for each pair of objects that overlap or are near."""
    size1, centre1 = _sizes(keys[:, 0], sums, scale)
    size2, centre2 = _sizes(keys[:, 1], sums, scale)
    overlap = {(p, q): n for (p, q), n in zip(keys.tolist(), sums[:, 0].tolist(), strict=True) if p > 0 and q > 0}
    distances = near | dict.fromkeys(overlap, 0.0)
    rows = []
    for p, q in sorted(distances):
        common = overlap.get((p, q), 0)
        rows.append(
            {
                "label1": p,
                "label2": q,
                "size1": size1[p],
                "size2": size2[q],
                "overlap": common,
                "fraction1": common / size1[p],
                "fraction2": common / size2[q],
                "iou": common / (size1[p] + size2[q] - common),
                "centre_distance": float(np.sqrt(((centre1[p] - centre2[q]) ** 2).sum())),
                "edge_distance": distances[p, q],
            }
        )
    return rows


def _sizes(labels: np.ndarray, sums: np.ndarray, scale: np.ndarray) -> tuple[dict[int, int], dict[int, np.ndarray]]:
    names, index = np.unique(labels, return_inverse=True)
    total = np.zeros((len(names), sums.shape[1]), np.int64)
    np.add.at(total, index, sums)
    centres = total[:, 1:] / np.maximum(total[:, :1], 1) * scale
    return dict(zip(names.tolist(), total[:, 0].tolist(), strict=True)), dict(zip(names.tolist(), centres, strict=True))


def _near(arrays: list[Any], scale: np.ndarray, limit: float) -> dict[tuple[int, int], float]:
    """Distances between the surfaces of objects within the limit; surfaces are gathered chunk by chunk."""
    import dask
    from dask import array as da

    sides = []
    for array in arrays:
        depth = {k: 1 for k in range(array.ndim) if array.numblocks[k] > 1}
        padded = da.overlap.overlap(array, depth, boundary="none") if depth else array
        blocks = padded.to_delayed(optimize_graph=False)
        lengths = [np.cumsum([0, *c]) for c in array.chunks]
        tasks = []
        for k in np.ndindex(blocks.shape):
            trim = tuple(
                (1 if n in depth and k[n] > 0 else 0, 1 if n in depth and k[n] < blocks.shape[n] - 1 else 0)
                for n in range(array.ndim)
            )
            start = tuple(int(e[n]) for e, n in zip(lengths, k, strict=True))
            tasks.append(dask.delayed(_surface_points, pure=False)(blocks[k], trim, start, scale))
        found = dask.compute(*tasks)
        sides.append(tuple(np.concatenate(x) for x in zip(*found, strict=True)))
    (labels1, points1), (labels2, points2) = sides
    pairs, distances = kernel.edge_distances(labels1, points1, labels2, points2, limit)
    return {(p, q): d for (p, q), d in zip(pairs.tolist(), distances.tolist(), strict=True)}


def _surface_points(
    block: np.ndarray, trim: tuple[tuple[int, int], ...], start: tuple[int, ...], scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    edge = kernel.surface(block)
    inside = np.zeros(block.shape, bool)
    inside[tuple(slice(low, n - high) for (low, high), n in zip(trim, block.shape, strict=True))] = True
    places = np.nonzero(edge & inside)
    offset = np.array(start) - [low for low, _ in trim]
    return block[places].astype(np.int64), (np.stack(places, axis=1) + offset) * scale
