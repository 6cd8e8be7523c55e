"""Values of an image in regions: exact sums, bit-identical for any chunks, and extrema.

Integers are added as integers. Floats are cut into slices of 30 bits below the largest exponent of a chunk; the sums
of each slice are exact, and totals are Python integers in units of ``2**LOWEST`` (see `intake_img.kernels.exact`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from intake_img.kernels.exact import LOWEST, products
from intake_img.kernels.runlengths import Runs, added

__all__ = ["Values", "statistics", "values_in", "values_merged"]

Values = tuple[np.ndarray, dict[str, np.ndarray]]
"""Labels, and for each of them ``sum`` and ``square`` (exact), ``plain`` (of floats: not finite where the sum is not),
``min`` and ``max``."""
_BITS = 30


def values_in(runs: Runs, image: np.ndarray, wanted: Collection[str]) -> Values:
    """Return the sums and extrema over the pixels of regions.

    Parameters
    ----------
    runs : Runs
    image : ndarray of bool, integers or floats, of the shape of the label image
    wanted : collection of {"sum", "square", "min", "max"}
    """
    if not len(runs.ids):
        names = [*wanted, "plain"] if image.dtype.kind == "f" and "sum" in wanted else wanted
        dtypes = {"min": image.dtype, "max": image.dtype, "plain": float}
        return runs.ids, {name: np.empty(0, dtypes.get(name, object)) for name in names}
    pixels = np.ascontiguousarray(image).reshape(-1)
    if runs.length.sum() < pixels.size:
        pixels = pixels[runs.mask()]
    pixels = pixels.view(np.uint8) if pixels.dtype == bool else pixels
    starts = np.concatenate([[0], np.cumsum(runs.length)[:-1]])
    found = {name: _extreme(name, runs, pixels, starts) for name in ("min", "max") if name in wanted}
    if "sum" in wanted:
        found |= (_whole if pixels.dtype.kind in "iu" else _real)(runs, pixels, starts, "square" in wanted)
    return runs.ids, found


def _extreme(name: str, runs: Runs, pixels: np.ndarray, starts: np.ndarray) -> np.ndarray:
    ufunc = np.minimum if name == "min" else np.maximum
    of_runs = ufunc.reduceat(pixels, starts)
    order = np.argsort(runs.index, kind="stable")
    return ufunc.reduceat(of_runs[order], np.searchsorted(runs.index[order], np.arange(len(runs.ids))))


def _whole(runs: Runs, pixels: np.ndarray, starts: np.ndarray, square: bool) -> dict[str, np.ndarray]:
    def total(values: np.ndarray) -> np.ndarray:
        return added(runs.index, np.add.reduceat(values, starts, dtype=np.int64), len(runs.ids)).astype(object)

    half = pixels.dtype.itemsize * 4
    if half < 16:
        found = {"sum": total(pixels)}
        return found | {"square": total(pixels.astype(np.int64) ** 2)} if square else found
    high, low = pixels >> pixels.dtype.type(half), pixels & pixels.dtype.type((1 << half) - 1)
    found = {"sum": (total(high) << half) + total(low)}
    if square and half == 16:
        upper, lower = high.astype(np.int64), low.astype(np.int64)
        cross = total(upper * lower)
        found["square"] = (total(upper * upper) << 32) + (cross << 17) + total(lower * lower)
    elif square:
        found["square"] = added(runs.index, np.add.reduceat(pixels.astype(object) ** 2, starts), len(runs.ids))
    return found


def _real(runs: Runs, pixels: np.ndarray, starts: np.ndarray, square: bool) -> dict[str, np.ndarray]:
    wide = pixels.astype(np.float64)
    finite = np.isfinite(wide)
    plain = np.zeros(len(runs.ids))
    if not finite.all():
        with np.errstate(invalid="ignore"):
            np.add.at(plain, runs.index, np.add.reduceat(np.where(finite, 0.0, wide), starts))
        wide = np.where(finite, wide, 0.0)
    found = {"sum": _sliced(runs, wide, starts), "plain": plain}
    if square:
        with np.errstate(over="ignore", invalid="ignore"):
            terms = (wide * wide,) if pixels.dtype.itemsize <= 4 else products(wide, wide)
        found["square"] = np.zeros(len(runs.ids), object)
        for term in terms:
            found["square"] += _sliced(runs, np.where(np.isfinite(term), term, 0.0), starts)
    return found


def _sliced(runs: Runs, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    total = np.zeros(len(runs.ids), object)
    while (largest := float(np.abs(values).max())) > 0:
        exponent = max(int(np.frexp(largest)[1]) - _BITS, LOWEST)
        units = np.rint(np.ldexp(values, -exponent))
        sums = added(runs.index, np.add.reduceat(units, starts).astype(np.int64), len(runs.ids))
        total += sums.astype(object) << (exponent - LOWEST)
        values = values - np.ldexp(units, exponent)
    return total


def values_merged(parts: Sequence[Values], ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return the values of all chunks of an image for the sorted labels `ids`, each of which occurs in some chunk."""
    index = np.searchsorted(ids, np.concatenate([p[0] for p in parts]))
    found = {}
    for name in parts[0][1]:
        values = np.concatenate([p[1][name] for p in parts])
        if name in ("min", "max"):
            ufunc = np.minimum if name == "min" else np.maximum
            order = np.argsort(index, kind="stable")
            found[name] = ufunc.reduceat(values[order], np.searchsorted(index[order], np.arange(len(ids))))
        elif name == "plain":
            found[name] = np.zeros(len(ids))
            np.add.at(found[name], index, values.astype(float))
        else:
            found[name] = added(index, values, len(ids))
    return found


def statistics(name: str, values: dict[str, np.ndarray], count: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a statistic of each region, float64.

    Parameters
    ----------
    name : {"min", "max", "sum", "mean", "std"}
    values : dict
        See `values_merged`.
    count : ndarray of shape (K,)
        Number of pixels.
    dtype : numpy.dtype
        Dtype of the image.
    """
    if name in ("min", "max"):
        return values[name].astype(np.float64)
    unit = 1 << -LOWEST if dtype.kind == "f" else 1
    if name == "std":
        found = _deviation(values, count, unit)
    else:
        found = _divided(values["sum"], count if name == "mean" else np.ones_like(count), unit)
    if "plain" not in values:
        return found
    broken = ~np.isfinite(values["plain"])
    return np.where(broken, np.nan if name == "std" else values["plain"], found)


def _divided(sums: np.ndarray, by: np.ndarray, unit: int) -> np.ndarray:
    if unit == 1 and len(sums) and max(sums.max(), -sums.min()) < 2**53:
        return sums.astype(float) / by
    return np.array([s / (n * unit) for s, n in zip(sums.tolist(), by.tolist(), strict=True)], float)


def _deviation(values: dict[str, np.ndarray], count: np.ndarray, unit: int) -> np.ndarray:
    """Return roots of ``(n * square - sum**2) / n**2``, of exact integers."""
    rows = zip(values["sum"].tolist(), values["square"].tolist(), count.tolist(), strict=True)
    return np.sqrt(np.array([(n * q * unit - s * s) / (n * unit) ** 2 for s, q, n in rows], float))
