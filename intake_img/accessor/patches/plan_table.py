"""Conversion of plans to and from tables: one row per patch, with columns that CSV and Parquet support."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.sampling import Places
from intake_img.accessor.patches.sources import Source
from intake_img.accessor.table_positions import as_pixels, places_on
from intake_img.errors import AxesError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["as_table", "centers_of", "places_of", "read_table", "sizes_of"]


def as_table(plan: Plan, sources: Sequence[Source]) -> pd.DataFrame:
    """Return a plan as a DataFrame with a row for each patch, ``patch`` its index.

    Columns are ``source``, ``uri`` and ``scene``; ``t0``, ... for each axis that is iterated over; for each cut axis
    ``y0`` (first pixel), ``y_size``, ``valid_y0`` and ``valid_y1`` (the part of the patch that lies in the image),
    ``core_y0`` and ``core_y1`` (the core, the pixels of the image that are written back from it); ``epoch``, and
    ``weight`` if there is one.
    """
    import pandas as pd

    columns: dict[str, Any] = {"source": plan.source}
    for name in ("uri", "scene"):
        columns[name] = np.array([getattr(s, name) for s in sources], dtype=object)[plan.source]
    for k, a in enumerate(plan.over):
        columns[f"{a}0"] = plan.index[:, k]
    for k, a in enumerate(plan.axes):
        length = np.array([s.sizes[a] for s in sources], np.int64)[plan.source]
        low = np.clip(-plan.start[:, k], 0, plan.shape[:, k])
        columns[f"{a}0"] = plan.start[:, k]
        columns[f"{a}_size"] = plan.shape[:, k]
        columns[f"valid_{a}0"] = low
        columns[f"valid_{a}1"] = np.clip(length - plan.start[:, k], low, plan.shape[:, k])
        columns[f"core_{a}0"], columns[f"core_{a}1"] = plan.core_start[:, k], plan.core_stop[:, k]
    columns["epoch"] = np.full(len(plan), plan.epoch, np.int64)
    if plan.weight is not None:
        columns["weight"] = plan.weight
    return pd.DataFrame(columns, index=pd.RangeIndex(len(plan), name="patch"))


def read_table(table: Any) -> pd.DataFrame:
    """Return a DataFrame from a DataFrame, a path to CSV or Parquet, or anything that pandas converts."""
    import os

    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, (str, os.PathLike)):
        path = os.fspath(table)
        return pd.read_parquet(path) if path.lower().endswith((".parquet", ".pq")) else pd.read_csv(path)
    return pd.DataFrame(table)


def sizes_of(table: pd.DataFrame) -> dict[str, int]:
    """Return the size of patches from the columns ``y_size``, ... of a table; the largest if they differ."""
    found = {c[: -len("_size")]: int(table[c].max()) for c in table.columns if str(c).endswith("_size")}
    if not found:
        raise ValueError("the table says no size of patches (columns 'y_size', ...): give size=")
    return found


def _column(table: pd.DataFrame, names: Sequence[str], default: int | None, what: str) -> np.ndarray:
    for name in names:
        if name in table.columns:
            values = np.asarray(table[name], np.float64)
            if not np.isfinite(values).all():
                raise ValueError(f"the column {name!r} of the table contains values that are missing or not finite")
            return values
    if default is None:
        raise AxesError(
            f"the table has no column {' or '.join(map(repr, names))} for {what}; it has "
            f"{', '.join(map(repr, table.columns))}"
        )
    return np.full(len(table), float(default))


def _common(table: pd.DataFrame, over: Sequence[str], sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
    source = _column(table, ["source"], 0 if len(sources) == 1 else None, "the number of the source").astype(np.int64)
    if len(source) and not (source.min() >= 0 and source.max() < len(sources)):
        raise ValueError(f"the table names source {source.max()}, but there are {len(sources)}")
    index = np.zeros((len(table), len(over)), np.int64)
    for k, a in enumerate(over):
        lengths = np.array([s.sizes[a] for s in sources], np.int64)[source]
        if f"{a}0" not in table.columns and a in table.columns:
            index[:, k] = _labelled(table[a].to_numpy(), a, source, sources)
            continue
        default = 0 if (lengths == 1).all() else None
        index[:, k] = _column(table, [f"{a}0", a], default, f"the index along {a!r}").astype(np.int64)
        if (bad := np.flatnonzero((index[:, k] < 0) | (index[:, k] >= lengths))).size:
            raise ValueError(f"row {bad[0]} of the table has {a}0={index[bad[0], k]}, the axis has {lengths[bad[0]]}")
    return source, index


def _labelled(labels: np.ndarray, axis: str, source: np.ndarray, sources: Sequence[Source]) -> np.ndarray:
    """Return indices along an axis from the labels of its coordinate."""
    found = np.empty(len(labels), np.int64)
    for number, each in enumerate(sources):
        rows = source == number
        found[rows] = places_on(each.coords, axis, each.sizes[axis], labels[rows])
    if (bad := np.flatnonzero(found < 0)).size:
        raise ValueError(
            f"row {bad[0]} of the table has {axis}={labels.tolist()[bad[0]]!r}: the image has no such sample"
        )
    return found


def places_of(table: pd.DataFrame, axes: Sequence[str], over: Sequence[str], sources: Sequence[Source]) -> Places:
    """Return the positions of patches from the first pixels in a table."""
    source, index = _common(table, over, sources)
    start = np.stack(
        [_column(table, [f"{a}0"], None, f"the first pixel along {a!r}").astype(np.int64) for a in axes], 1
    )
    core = None
    if all(f"core_{a}{k}" in table.columns for a in axes for k in (0, 1)):
        core = tuple(np.stack([np.asarray(table[f"core_{a}{k}"], np.int64) for a in axes], 1) for k in (0, 1))
    weight = np.asarray(table["weight"], np.float64) if "weight" in table.columns else None
    return Places(source, index, start, core, weight)  # type: ignore[arg-type]


def centers_of(
    table: pd.DataFrame,
    axes: Sequence[str],
    over: Sequence[str],
    size: Sequence[int],
    sources: Sequence[Source],
    units: str,
) -> Places:
    """Return the positions of patches around points, given in pixels or in the units of the coordinates.

    A column is in the unit that the table states for it, whatever `units` is.
    """
    source, index = _common(table, over, sources)
    start = np.empty((len(table), len(axes)), np.int64)
    for k, a in enumerate(axes):
        _column(table, [a], None, f"the centre along {a!r}")
        points = np.empty(len(table))
        for number, each in enumerate(sources):
            points[source == number] = as_pixels(table, a, each.coords, a, units)[source == number]
        start[:, k] = np.floor(points + 0.5).astype(np.int64) - size[k] // 2
    return Places(source, index, start)
