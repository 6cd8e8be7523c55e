"""Columns of Parquet files as tables of images have them: texts, integers and floats.

Other programs write other types: integers of other widths, lists of channels, times.
"""

from __future__ import annotations

import json
from typing import Any

from intake_img.model.packages import imported

__all__ = ["as_texts", "cell", "kind_of", "plain"]


def kind_of(type_: Any) -> type:
    """Return the type of the values of a column: int (also for bool), float or str."""
    types = _types()
    if types.is_integer(type_) or types.is_boolean(type_):
        return int
    return float if types.is_floating(type_) or types.is_decimal(type_) else str


def plain(column: Any) -> Any:
    """Return an array as int64, float64, string, or a dictionary of strings.

    Texts of other encodings are converted; times become ISO 8601, lists and other values JSON.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
    """
    import pyarrow as pa

    column = _in_one(column)
    if pa.types.is_dictionary(column.type):
        values = plain(column.dictionary)
        return (
            pa.DictionaryArray.from_arrays(column.indices, values)
            if pa.types.is_string(values.type)
            else values.take(column.indices)
        )
    wanted = {int: pa.int64(), float: pa.float64(), str: pa.string()}[kind_of(column.type)]
    if column.type == wanted:
        return column
    if wanted != pa.string() or _is_text(column.type):
        return column.cast(wanted)
    return pa.array([None if value is None else _told(value) for value in column.to_pylist()], wanted)


def as_texts(column: Any) -> Any:
    """Return a plain array as strings."""
    import pyarrow as pa

    return column.cast(pa.string())  # also a dictionary


def _types() -> Any:
    return imported("pyarrow", "parquet", "tables of images in Parquet").types


def _is_text(type_: Any) -> bool:
    types = _types()
    return any(is_one(type_) for is_one in (types.is_large_string, types.is_binary, types.is_large_binary)) or str(
        type_
    ) in ("string_view", "binary_view")


def _in_one(column: Any) -> Any:
    """Return the array of a column; it is copied only if it is in several chunks."""
    if not hasattr(column, "num_chunks"):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def cell(value: Any, kind: type) -> Any:
    """Return a value of a column of a kind as `plain` has it: as a text, integer or float, or None."""
    if value is None or isinstance(value, str):
        return value
    if kind is str:
        return _told(value)
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, (int, float)) else float(value)


def _told(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value.isoformat()) if hasattr(value, "isoformat") else json.dumps(value, ensure_ascii=False, default=str)
