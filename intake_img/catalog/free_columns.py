"""Free columns of tables of images: values of users by image name, as texts, 64-bit integers or floats."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from intake_img.catalog.cells import cell
from intake_img.catalog.columns import COLUMNS, OF_PATH
from intake_img.catalog.sqlite_words import ROW

__all__ = ["checked_columns", "kind_of_values"]


def checked_columns(columns: Mapping[str, Mapping[str, Any]], names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the values of free columns for each image.

    Parameters
    ----------
    columns : mapping of str to mapping
        Values by image name; numbers of numpy and pandas are taken as numbers, missing ones as none, times as ISO 8601,
        and lists as JSON.
    names : collection of str
        Of all images.

    Raises
    ------
    ValueError
        If a column has the name of another one, no value for any image, or integers of more than 64 bits.
    """
    taken = {c.lower() for c in COLUMNS if c not in OF_PATH} | {ROW}
    found = {}
    for column, given in columns.items():
        if column.lower() in taken:
            raise ValueError(f"columns: {column!r} is a column of every table: choose another name")
        if column not in OF_PATH:
            taken.add(column.lower())
        if names and len(given) and not any(name in given for name in names):
            raise ValueError(f"columns: {column!r} has no value for any image; its first key is {next(iter(given))!r}")
        found[column] = _of_one_kind(column, {name: _number_or_other(given.get(name)) for name in names})
    return found


def _number_or_other(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value  # of numpy
    missing = type(value).__name__ in ("NaTType", "NAType") or (isinstance(value, float) and math.isnan(value))
    return None if missing else value


def _of_one_kind(column: str, values: Mapping[str, Any]) -> dict[str, Any]:
    kind = str if column in OF_PATH else kind_of_values(values.values())
    if kind is int and any(v is not None and not -(2**63) <= v < 2**63 for v in values.values()):
        raise ValueError(f"columns: {column!r} has integers of more than 64 bits: give texts")
    return {name: cell(value, kind) for name, value in values.items()}


def kind_of_values(values: Iterable[Any]) -> type:
    """Return the type of the values of a column: int (also for bool), float or str; of nothing, str."""
    kinds = {type(v) for v in values if v is not None}
    if not kinds:
        return str
    if kinds <= {int, bool}:
        return int
    return float if kinds <= {int, float, bool} else str
