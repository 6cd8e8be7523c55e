"""The measures of channel pairs, their thresholds, and the valid pixels of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.accessor.arguments import number
from intake_img.accessor.channels import by_number
from intake_img.accessor.coloc.inputs import ChannelImage
from intake_img.kernels import conventions, packing, tables
from intake_img.kernels.costes import costes, otsu
from intake_img.kernels.tables import Table

__all__ = ["AUTOMATIC", "Request", "parse_thresholds", "sums_needed", "thresholds_of", "valid_pixels"]

AUTOMATIC = {
    "costes": "simple",
    "costes_bisection": "bisection",
    "costes_cellprofiler_fast": "cellprofiler_fast",
    "costes_cellprofiler_faster": "cellprofiler_faster",
}


@dataclass(frozen=True)
class Request:
    """What to measure, validated; small, since every task contains it.

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
        Automatic thresholds of the complete image for all labels, instead of thresholds for each label.
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


def parse_thresholds(given: Any, scene: ChannelImage, pairs: list[tuple[int, int]]) -> Any:
    """Return thresholds in the form of `Request`."""
    if given is None or (isinstance(given, str) and given in (*AUTOMATIC, "otsu")):
        return given
    if isinstance(given, str) and given.endswith("%"):
        try:
            return ("fraction", number("thresholds", float(given[:-1]), 0, 100) / 100)
        except ValueError:
            raise ValueError(f"thresholds={given!r}: expected a share of the maximum from '0%' to '100%'") from None
    if isinstance(given, str):
        raise ValueError(
            f"thresholds={given!r}: expected a number, a pair, {{channel: number}}, or one of "
            f"{', '.join([*AUTOMATIC, 'otsu'])}, or a share of the maximum such as '15%'"
        )
    if isinstance(given, Mapping):
        named = {k: _threshold(f"thresholds[{k!r}]", v) for k, v in given.items()}
        values = by_number("thresholds", named, scene.image)
        if missing := [c for pair in pairs for c in pair if c not in values]:
            raise ValueError(f"thresholds lack the channel {scene.channels[missing[0]]!r}, which is part of a pair")
        return tuple((values[a], values[b]) for a, b in pairs)
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return ((_threshold("thresholds", given[0]), _threshold("thresholds", given[1])),) * len(pairs)
    if np.ndim(given) == 0:
        return ((_threshold("thresholds", given),) * 2,) * len(pairs)
    raise TypeError(f"thresholds={given!r}: expected a number, a pair of numbers, or a mapping of channels to numbers")


def _threshold(name: str, value: Any) -> float | int:
    """A finite number; integers that a float cannot represent stay integers."""
    found = number(name, value)
    return int(value) if abs(found) >= 2**53 and isinstance(value, (int, np.integer)) else found


def thresholds_of(request: Request, k: int, table: Table) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return the thresholds of each group of a table, or (None, None) if none are requested."""
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
    """Thresholds as float64; for 64-bit integers as Python numbers, since floats cannot represent all of them."""
    wide = request.dtype.kind in "iu" and request.dtype.itemsize > 4
    return np.array(values, object if wide else np.float64)


def _automatic(request: Request, table: Table) -> tuple[float, float]:
    if request.thresholds == "otsu":
        return otsu(table.a, table.count), otsu(table.b, table.count)
    return costes(table, AUTOMATIC[request.thresholds], limits=request.limits, **request.options)


def _pooled(table: Table) -> Table:
    if table.a.dtype.kind == "f":
        return tables.table_of(table.a, table.b)
    order = np.lexsort((table.b, table.a))
    a, b, w = table.a[order], table.b[order], table.count[order]
    return Table(np.zeros(len(a), np.int64), a, b, w, 1)


def valid_pixels(planes: dict[int, np.ndarray], a: int, b: int, keep: Any, labels: Any) -> tuple[np.ndarray, ...]:
    """The valid pixels of a pair: in the mask, finite in both channels, and labelled if there are labels."""
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


def sums_needed(request: Request, late: bool) -> dict[str, tuple[str, ...]]:
    """Sums of the last pass (they depend on means or thresholds), or of the first."""
    need = conventions.fields(request.names, request.rules, request.thresholds is not None)
    early = {"all", "a_lit", "b_lit", "both_lit"}
    return {region: sums for region, sums in need.items() if (region not in early) == late}
