"""Significance of a correlation, and registration of channels: names, units and dask around `kernels.significance`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import aligned, inside
from intake_img.accessor.arguments import choice, integer, number
from intake_img.accessor.coloc.inputs import ChannelImage, pixels_of
from intake_img.accessor.coloc.one_pass import reduce_blocks
from intake_img.accessor.lengths import length
from intake_img.accessor.processing.moving import fill_of
from intake_img.errors import AxesError, MissingExtraError, UnitsError
from intake_img.kernels import significance as kernel
from intake_img.kernels.wide import offsets
from intake_img.model.units import PIXEL, convert, has_unit
from intake_img.storage.spill import SpillingMemory

__all__ = ["ccf", "chromatic_shift", "correct_shift", "significance"]


def significance(
    obj: Any, pairs: Any, *, block: Any, units: str | None, mask: Any, n: int, seed: int, alternative: str
) -> xr.Dataset:
    """Costes' block permutation; see `Coloc.significance`."""
    if alternative not in ("greater", "less", "two-sided"):
        raise ValueError(f"alternative={alternative!r}: expected 'greater', 'less' or 'two-sided'")
    integer("n", n, 0)
    integer("seed", seed, 0)
    scene = ChannelImage(obj)
    chosen = scene.pairs(pairs)
    companion = scene.companion(mask, "mask")
    lengths = np.maximum(1, np.rint(scene.in_pixels(block, "block", units))).astype(int)
    size = tuple(int(max(1, min(k, scene.image.sizes[a]))) for k, a in zip(lengths, scene.spatial, strict=True))
    sizes = [scene.image.sizes[a] for a in scene.lead]
    out = {name: np.full((*sizes, len(chosen)), np.nan) for name in ("pearson", "p_value", "z_score", "mean", "std")}
    permuted = np.full((*sizes, len(chosen), n), np.nan)
    for place in np.ndindex(*sizes):
        at = dict(zip(scene.lead, place, strict=True))
        for k, pair in enumerate(chosen):
            r, null = kernel.permute_blocks(*_gather_blocks(scene, at, pair, size, companion), n, seed)
            permuted[(*place, k)] = null
            found = _judge(r, null, alternative)
            for name, value in found.items():
                out[name][(*place, k)] = value
    dims = (*scene.lead, "pair")
    return xr.Dataset(
        {name: (dims, values) for name, values in out.items()} | {"permuted": ((*dims, "permutation"), permuted)},
        coords=scene.lead_coords() | scene.pair_coords(chosen),
        attrs={
            "block_pixels": list(size),
            "permutations": n,
            "seed": seed,
            "alternative": alternative,
            "p_value_formula": "(1 + number of permuted r at least as extreme) / (1 + permutations)",
        },
    )


WHOLE_PIXELS = 2**25
"""Largest number of pixels of a channel for one estimate of a chromatic shift; larger images use windows."""
HELD = 2**28
"""Two channels of at most this many bytes are kept in memory; larger ones in a temporary file, block by block."""


def _gather_blocks(
    scene: ChannelImage, at: dict[str, int], pair: tuple[int, int], size: tuple[int, ...], mask: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Finite blocks of a pair that lie completely within the image and the mask, read slab by slab."""
    axis, count = scene.spatial[0], [scene.image.sizes[a] // s for a, s in zip(scene.spatial, size, strict=True)]
    pixels, dtype = int(np.prod(size)), scene.image.dtype
    shape = (2, int(np.prod(count)), pixels)
    rows = SpillingMemory(HELD).empty(shape, dtype)
    slab = max(1, HELD // 8 // max(1, shape[2] * int(np.prod(count[1:])) * dtype.itemsize)) * size[0]
    filled = 0
    for first in range(0, count[0] * size[0], slab):
        part = at | {axis: slice(first, min(first + slab, count[0] * size[0]))}
        image = scene.image.isel(part)
        one, two = (kernel.blocks_of(_values(image.isel(c=c), scene), size) for c in pair)
        keep = np.ones(len(one), bool)
        if dtype.kind == "f":
            keep &= np.isfinite(one).all(axis=1) & np.isfinite(two).all(axis=1)
        if mask is not None:
            within = inside(_values(mask.isel({a: k for a, k in part.items() if a in mask.dims}), scene))
            within = np.broadcast_to(within, [image.sizes[a] for a in scene.spatial])
            keep &= kernel.blocks_of(within, size).all(axis=1)
        number = int(keep.sum())
        rows[0, filled : filled + number], rows[1, filled : filled + number] = one[keep], two[keep]
        filled += number
    return rows[0, :filled], rows[1, :filled]


def _values(array: xr.DataArray, scene: ChannelImage) -> np.ndarray:
    dims = tuple(a for a in scene.spatial if a in array.dims)
    values = array.transpose(*dims).values
    return values[tuple(slice(None) if a in dims else None for a in scene.spatial)]


def _judge(r: float, null: np.ndarray, alternative: str) -> dict[str, float]:
    if np.isnan(r):
        return {}
    rounding = 1e-12
    more, less = int((null >= r - rounding).sum()), int((null <= r + rounding).sum())
    tail = {"greater": more, "less": less, "two-sided": 2 * min(more, less)}[alternative]
    extra = 2 if alternative == "two-sided" else 1
    mean, std = float(null.mean()), float(null.std(ddof=1)) if len(null) > 1 else np.nan
    return {
        "pearson": r,
        "p_value": min(1.0, (extra + tail) / (1 + len(null))),
        "z_score": (r - mean) / std if std else np.nan,
        "mean": mean,
        "std": std,
    }


def ccf(obj: Any, pairs: Any, *, axis: str, limit: Any, units: str | None, mask: Any) -> xr.DataArray:
    """Van Steensel's cross-correlation function; see `Coloc.ccf`."""
    scene = ChannelImage(obj)
    if axis not in scene.spatial:
        raise AxesError(f"axis={axis!r}: expected an axis of space of the image, {', '.join(scene.spatial)}")
    chosen = scene.pairs(pairs)
    spacing = 1.0 if choice("units", units, (None, "px")) else scene.spacing(axis)
    reach = 20 if limit is None else _reach(scene, axis, limit, spacing)
    reach = min(reach, scene.image.sizes[axis] - 1) if scene.image.size else 0
    shifts = list(range(-reach, reach + 1))
    number = scene.spatial.index(axis)
    found = reduce_blocks(
        scene,
        sorted({c for pair in chosen for c in pair}),
        partial(_shifted, tuple(chosen), number, shifts),
        _listed,
        _correlated,
        mask=scene.companion(mask, "mask"),
        halo=(axis, reach),
    )
    values = np.full((*found.shape, len(chosen), len(shifts)), np.nan)
    for place in np.ndindex(found.shape):
        values[place] = found[place]
    lag = xr.DataArray(np.array(shifts) * spacing, dims="lag")
    if unit := units or scene.unit:
        lag.attrs["units"] = unit
    return xr.DataArray(
        values,
        dims=(*scene.lead, "pair", "lag"),
        coords=scene.lead_coords() | scene.pair_coords(chosen) | {"lag": lag, "lag_pixels": ("lag", shifts)},
        name="ccf",
        attrs={"axis": axis, "convention": "Pearson's r of channel1 at x with channel2 at x + lag, over the overlap"},
    )


def _reach(scene: ChannelImage, axis: str, limit: Any, spacing: float) -> int:
    """A length along an axis in pixels, rounded down."""
    known = length("limit", limit, scene.image, axis) / scene.spacing(axis) if has_unit(limit) else None
    return int(np.floor((number("limit", limit, 0) / spacing if known is None else known) + 1e-9))


def _shifted(pairs: Any, axis: int, shifts: list[int], planes: Any, keep: Any, _: Any, place: Any) -> list[Any]:
    return [[kernel.shifted_sums(planes[a], planes[b], keep, axis, shifts, place[-2:])] for a, b in pairs]


def _listed(parts: list[Any]) -> list[Any]:
    return [[kernel.add_shifted([sums for part in parts for sums in part[k]])] for k in range(len(parts[0]))]


def _correlated(parts: list[Any], _: Any) -> np.ndarray:
    return np.array([[m.pearson()[0] for m in kernel.shifted_moments(part)] for part in parts])


def chromatic_shift(obj: Any, *, reference: Any, upsample: int, normalization: str | None) -> xr.DataArray:
    """Estimate the shift of each channel; see `Coloc.chromatic_shift`."""
    import importlib.util

    if importlib.util.find_spec("skimage") is None:
        raise MissingExtraError("scikit-image", "skimage", "estimating a chromatic shift")
    integer("upsample", upsample, 1)
    choice("normalization", normalization, (None, "phase"))
    scene = ChannelImage(obj)
    fixed = 0 if reference is None else scene.channel(reference)
    sizes = [scene.image.sizes[a] for a in scene.lead]
    channels = len(scene.channels)
    out = np.zeros((*sizes, channels, len(scene.spatial)))
    scale, unit = _scale(scene)
    windows = _windows([scene.image.sizes[a] for a in scene.spatial])
    for place in np.ndindex(*sizes):
        at = dict(zip(scene.lead, place, strict=True))
        found: list[list[np.ndarray]] = [[] for _ in range(channels)]
        for window in windows:
            part = scene.image.isel(at | dict(zip(scene.spatial, window, strict=True)))
            base = _floats(_values(part.isel(c=fixed), scene))
            for c in range(channels):
                if c == fixed or base.min() == base.max():
                    continue
                moving = _floats(_values(part.isel(c=c), scene))
                if moving.min() < moving.max():
                    found[c].append(_displacement(base, moving, upsample, normalization))
        for c in range(channels):
            if c != fixed:
                shift = np.median(found[c], axis=0) if found[c] else np.nan
                out[(*place, c)] = shift * scale
    coords = scene.lead_coords() | {"axis": list(scene.spatial)}
    if "c" in scene.image.coords:
        coords["c"] = scene.image["c"]
    return xr.DataArray(
        out,
        dims=(*scene.lead, "c", "axis"),
        coords=coords,
        name="shift",
        attrs={"units": unit, "reference": str(scene.channels[fixed]), "windows": len(windows)},
    )


def _floats(values: np.ndarray) -> np.ndarray:
    """Values as float64; the minimum is subtracted from 64-bit integers, since only differences matter later."""
    wide = values.dtype.str[1:] in ("i8", "u8") and values.size
    return offsets(values, int(values.min())).astype(float) if wide else values.astype(float)


def _scale(scene: ChannelImage) -> tuple[np.ndarray, str]:
    """The pixel size along each axis in the common unit, and that unit; pixels if an axis does not convert."""
    try:
        return np.array([scene.spacing(a) for a in scene.spatial]), scene.unit
    except UnitsError:
        return np.ones(len(scene.spatial)), PIXEL


def _windows(shape: Sequence[int]) -> list[tuple[slice, ...]]:
    """The complete image or, if it is too large, windows spread evenly over it, at most three along each axis."""
    size = list(shape)
    while np.prod(size, dtype=float) > WHOLE_PIXELS:
        longest = int(np.argmax(size))
        size[longest] = -(-size[longest] // 2)
    starts = [np.linspace(0, n - w, min(3, -(-n // w))).astype(int).tolist() for n, w in zip(shape, size, strict=True)]
    return [tuple(slice(k, k + w) for k, w in zip(place, size, strict=True)) for place in product(*starts)]


def _displacement(base: np.ndarray, moving: np.ndarray, upsample: int, normalization: str | None) -> np.ndarray:
    """Displacement of `moving` in pixels. Borders are faded out, and the estimate is refined on the image moved
    back.
    """
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    window = np.ones(base.shape)
    for axis, n in enumerate(base.shape):
        if n > 2:
            window *= np.hanning(n + 2)[1:-1].reshape([-1 if k == axis else 1 for k in range(base.ndim)])
    found = np.zeros(base.ndim)
    for _ in range(4):
        back = ndimage.shift(moving, -found, order=1, mode="nearest") if found.any() else moving
        pair = ((x - x.mean()) * window for x in (base, back))
        # scikit-image returns the shift of the second image onto the first: the opposite of the displacement
        step = phase_cross_correlation(*pair, upsample_factor=upsample, normalization=normalization)[0]
        found -= step
        if np.abs(step).max() < 1 / upsample:
            break
    return found


def correct_shift(obj: Any, shifts: xr.DataArray, *, order: int, fill: float) -> Any:
    """Move each channel back by its shift; see `Coloc.correct_shift`."""
    scene = ChannelImage(obj)
    order_of = (*scene.lead, "c", *scene.spatial)
    beyond = fill_of(scene.image, fill)
    if not isinstance(shifts, xr.DataArray):
        raise TypeError(f"shifts are {type(shifts).__name__}: expected the DataArray that chromatic_shift returns")
    if not {"c", "axis"} <= set(shifts.dims) or not {*shifts.dims} <= {*scene.lead, "c", "axis"}:
        raise AxesError(f"shifts have the axes {shifts.dims}: expected {(*scene.lead, 'c', 'axis')}")
    if lack := [a for a in scene.spatial if a not in shifts["axis"].values]:
        raise AxesError(f"shifts lack the axis {lack[0]!r}: expected one for each of {', '.join(scene.spatial)}")
    image = pixels_of(scene.image, order_of)
    shifts = shifts.sel(axis=list(scene.spatial))
    shifts = aligned("the array of shifts", shifts, scene.image, cover=True)
    shifts = shifts.expand_dims({a: scene.image.sizes[a] for a in scene.lead if a not in shifts.dims})
    amounts = shifts.transpose(*scene.lead, "c", "axis").values
    amounts = np.nan_to_num(amounts) / _voxel(scene, str(shifts.attrs.get("units") or scene.unit))
    order = 0 if scene.image.dtype == bool else order  # there is nothing between True and False
    moved = _moved(image, amounts, len(scene.lead) + 1, order, beyond)
    result = scene.image.copy(data=xr.DataArray(moved, dims=order_of).transpose(*scene.image.dims).data)
    if isinstance(obj, xr.DataArray):
        return result
    return obj.assign({scene.image.name: result})


def _voxel(scene: ChannelImage, unit: str) -> np.ndarray:
    """The pixel size along each axis in a unit."""
    if unit == PIXEL:
        return np.ones(len(scene.spatial))
    scale = np.array([scene.spacing(a) for a in scene.spatial])
    return scale if unit == scene.unit else scale * convert(1.0, scene.unit, unit)


def _moved(image: Any, amounts: np.ndarray, nlead: int, order: int, fill: float) -> Any:
    from dask import array as da

    reach = np.ceil(np.abs(amounts).max(axis=tuple(range(nlead)))).astype(int)
    image = image.rechunk(dict.fromkeys(range(nlead), 1))
    depth = dict.fromkeys(range(nlead), 0) | {nlead + k: int(r) for k, r in enumerate(reach)}
    table = da.from_array(_boxed(amounts), chunks=1)
    table = table[(..., *[None] * len(reach))]
    padded = da.overlap.overlap(image, depth, boundary=fill)
    chunks = {k: tuple(n - 2 * depth[k] for n in padded.chunks[k]) for k in range(image.ndim)}
    names = tuple(f"axis{k}" for k in range(image.ndim))
    return da.blockwise(
        _move_block,
        names,
        padded,
        names,
        table,
        (*names[:nlead], *(f"one{k}" for k in range(len(reach)))),
        depth=tuple(int(r) for r in reach),
        order=order,
        adjust_chunks={names[k]: c for k, c in chunks.items()},
        dtype=image.dtype,
        concatenate=True,
        meta=np.empty((0,) * image.ndim, image.dtype),
    )


def _boxed(amounts: np.ndarray) -> np.ndarray:
    out = np.empty(amounts.shape[:-1], object)
    for place in np.ndindex(out.shape):
        out[place] = amounts[place]
    return out


def _move_block(block: np.ndarray, table: np.ndarray, depth: tuple[int, ...], order: int) -> np.ndarray:
    amount = table.ravel()[0]
    lead = block.ndim - len(depth)
    moved = block.reshape(block.shape[lead:])
    for axis, (by, reach) in enumerate(zip(amount, depth, strict=True)):
        moved = _move_axis(moved, float(by), axis, reach, order)
    if block.dtype.kind in "iu" and moved.dtype != block.dtype:
        info = np.iinfo(block.dtype)
        moved = np.clip(np.rint(moved), info.min, info.max)
    return moved.astype(block.dtype)[(None,) * lead]


def _move_axis(block: np.ndarray, by: float, axis: int, reach: int, order: int) -> np.ndarray:
    """Value at i + by for each i of the core; weights do not depend on i, so chunks have no effect."""
    whole = int(np.floor(by + 0.5)) if order == 0 else int(np.floor(by))
    part = 0.0 if order == 0 else by - whole
    size = block.shape[axis] - 2 * reach

    def at(first: int) -> np.ndarray:
        where = [slice(None)] * block.ndim
        where[axis] = slice(reach + first, reach + first + size)
        return block[tuple(where)]

    return at(whole) if part == 0 else (1 - part) * at(whole) + part * at(whole + 1)
