"""Differences of two images: axes, data types, coordinates, values, metadata; computed chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.model.axes import spell

__all__ = ["Difference", "differences"]

_PROVENANCE = {"uri", "driver", "scene", "scenes", "original_axes", "original_shape", "fileheader"}
_SHOWN = 60  # characters of a value


@dataclass(frozen=True)
class Difference:
    """One difference.

    Parameters
    ----------
    what : {"variables", "axes", "dtype", "coordinate", "values", "metadata"}
    where : str
        The variable, the axis, or the name of the attribute.
    a, b : str
        What the first and the second image have.
    """

    what: str
    where: str
    a: str
    b: str

    def facts(self) -> dict[str, str]:
        """Return the difference as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.what} of {self.where}: {self.a} | {self.b}"


def differences(
    a: xr.Dataset, b: xr.Dataset, *, rtol: float = 0.0, atol: float = 0.0, metadata: bool = True
) -> list[Difference]:
    """Return the differences of two images.

    The origin of an image (file, driver, the format's own header) is not compared.

    Parameters
    ----------
    a, b : xarray.Dataset
    rtol, atol : float
        Values that satisfy ``abs(a - b) <= atol + rtol * abs(b)`` are equal, and NaN equals NaN.
    metadata : bool
        Compare names and attributes as well: of the Dataset, its variables and coordinates.

    Returns
    -------
    list of Difference
        Empty if there is none.

    Examples
    --------
    >>> import xarray as xr
    >>> a = xr.Dataset({"image": ("x", [1, 2, 3])})
    >>> print(*differences(a, a + 2 * (a == 2)))
    values of image: 1 of 3 differ, by at most 2 | first at x=1: 2 and 4
    """
    found = list(_variables(a, b))
    for name in (n for n in a.data_vars if n in b.data_vars):
        found += _of_variable(str(name), a[name], b[name], rtol, atol)
    for axis in (c for c in a.coords if c in b.coords):
        found += _coordinate(str(axis), a[axis], b[axis])
    if metadata:
        found += _lacking("coordinate", a.coords, b.coords)
        found += _metadata(a, b)
    return found


def _variables(a: xr.Dataset, b: xr.Dataset) -> Iterator[Difference]:
    if set(a.data_vars) != set(b.data_vars):
        yield Difference("variables", "the image", ", ".join(map(str, a.data_vars)), ", ".join(map(str, b.data_vars)))


def _of_variable(name: str, a: xr.DataArray, b: xr.DataArray, rtol: float, atol: float) -> Iterator[Difference]:
    if a.dtype != b.dtype:
        yield Difference("dtype", name, str(a.dtype), str(b.dtype))
    if set(a.dims) != set(b.dims) or dict(a.sizes) != dict(b.sizes):
        yield Difference("axes", name, _shape(a), _shape(b))
        return
    if a.dims != b.dims:
        yield Difference("axes", name, _shape(a), _shape(b))
    yield from _values(name, a, b.transpose(*a.dims), rtol, atol)


def _shape(array: xr.DataArray) -> str:
    return f"{spell(tuple(map(str, array.dims)))} {' × '.join(map(str, array.shape))}"


def _values(name: str, a: xr.DataArray, b: xr.DataArray, rtol: float, atol: float) -> Iterator[Difference]:
    """Compare values in one pass over the chunks of both images."""
    import dask
    from dask import array as da

    left, right = da.asarray(a.data), da.asarray(b.data)
    if not left.size or left.dtype.kind not in "biufc" or right.dtype.kind not in "biufc":
        return
    right = right.rechunk(left.chunks)
    starts = product(*(np.cumsum((0, *sizes[:-1])).tolist() for sizes in left.chunks))
    blocks = zip(left.to_delayed().ravel(), right.to_delayed().ravel(), starts, strict=True)
    compare = dask.delayed(_compared)
    found = dask.compute(*(compare(x, y, at, left.shape, rtol, atol) for x, y, at in blocks))
    if not (count := sum(n for n, *_ in found)):
        return
    _, _, place, pair = min((one for one in found if one[0]), key=lambda one: one[2])
    most = max(one[1] for one in found)
    where = ", ".join(f"{axis}={k}" for axis, k in zip(a.dims, place, strict=True))
    by = f", by at most {most:.6g}" if most > 0 else ""
    yield Difference("values", name, f"{count} of {left.size} differ{by}", f"first at {where}: {pair[0]} and {pair[1]}")


def _compared(
    a: np.ndarray, b: np.ndarray, start: tuple[int, ...], shape: tuple[int, ...], rtol: float, atol: float
) -> tuple[int, float, tuple[int, ...], tuple[Any, Any]]:
    """Return how many values of a chunk differ, by how much at most, where first, and these two values."""
    unequal = _unequal(a, b, rtol, atol)
    if not unequal.any():
        return 0, 0.0, shape, (None, None)
    inside = np.unravel_index(int(unequal.argmax()), a.shape)
    apart = _distance(a[unequal], b[unequal])
    finite = apart[np.isfinite(apart)]
    place = tuple(int(s + k) for s, k in zip(start, inside, strict=True))
    return int(unequal.sum()), float(finite.max(initial=0.0)), place, (a[inside], b[inside])


def _unequal(a: np.ndarray, b: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    if not rtol and not atol:
        return (a != b) & ~((a != a) & (b != b))  # NaN equals NaN
    return ~np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide = complex if "c" in (a.dtype.kind, b.dtype.kind) else float
    with np.errstate(invalid="ignore"):
        return np.abs(a.astype(wide) - b.astype(wide))


def _coordinate(axis: str, a: xr.DataArray, b: xr.DataArray) -> Iterator[Difference]:
    if a.shape != b.shape:  # the axes say so
        return
    same = _close(a.values, b.values) if a.dtype.kind in "iuf" and b.dtype.kind in "iuf" else np.array_equal(a, b)
    if not same:
        yield Difference("coordinate", axis, _shown(a.values), _shown(b.values))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """True if coordinates differ only by rounding, as in files that store a spacing as decimals."""
    return bool(np.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True))


def _lacking(what: str, a: Mapping[Any, Any], b: Mapping[Any, Any]) -> Iterator[Difference]:
    for key in sorted({*map(str, a)} ^ {*map(str, b)}):
        pair = [_shown(side[key].values) if key in side else "none" for side in (a, b)]
        yield Difference(what, key, *pair)


def _metadata(a: xr.Dataset, b: xr.Dataset) -> Iterator[Difference]:
    yield from _attributes("the image", a.attrs, b.attrs, _PROVENANCE)
    for name in dict.fromkeys([*a.data_vars, *a.coords]):
        if name in b.variables:
            yield from _attributes(str(name), a[name].attrs, b[name].attrs)


def _attributes(
    where: str,
    a: Mapping[Any, Any],
    b: Mapping[Any, Any],
    ignored: set[str] = frozenset(),  # type: ignore[assignment]
) -> Iterator[Difference]:
    for key in sorted({*map(str, a), *map(str, b)} - ignored):
        pair = [side.get(key) for side in (a, b)]
        if not _same(*pair):
            yield Difference("metadata", f"{where}, {key}", *(_shown(v) for v in pair))


def _same(a: Any, b: Any) -> bool:
    try:
        return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True))
    except TypeError:
        return bool(np.array_equal(np.asarray(a, object), np.asarray(b, object)))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = np.array2string(value, threshold=6, separator=", ") if isinstance(value, np.ndarray) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
