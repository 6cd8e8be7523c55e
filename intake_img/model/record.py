"""The record: metadata that a format cannot express, as plain JSON that drivers store with the file.

`Image.record` writes it and `Image.restored` reads it back.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.model.axes import check_axes
from intake_img.model.units import known_spacing
from intake_img.model.variables import Coordinate, Variable

__all__ = ["coordinate_record", "plain", "recorded_coordinate", "restored_variable", "seal_of", "unsealed_record"]


def restored_variable(own: Variable, facts: Mapping[str, Any]) -> Variable:
    places = _places(own.pixels.shape, list(facts["shape"]))
    if places is None:
        raise ValueError("the record does not fit the pixels")
    pixels = own.pixels.reshape(places).astype(_dtype(facts["dtype"]))
    return Variable(pixels, check_axes(facts["axes"]), dict(facts["attrs"]))


def _dtype(said: Any) -> np.dtype:
    """Return the type that a record states: numpy makes types, also empty ones, of much that is no name of a type."""
    if not isinstance(said, str):
        raise TypeError(f"{said!r} is not the name of a type")
    return np.dtype(said)


def plain(value: Any, *, strict: bool = False) -> Any:
    """Return `value` as plain JSON types: str, int, float, bool, list, dict with str keys.

    Parameters
    ----------
    value : object
        Numpy scalars and arrays, tuples, sets, dates, enumerations, bytes and paths are translated.
    strict : bool
        Raise `CannotWriteError` for objects that JSON cannot express, instead of writing their string form.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {k if type(k) is str else str(k): plain(v, strict=strict) for k, v in value.items()}
    if kind is list:
        return [v if type(v) in _PLAIN else plain(v, strict=strict) for v in value]
    return _translated(value, strict)


_PLAIN = frozenset((type(None), bool, int, float, str))


def _translated(value: Any, strict: bool) -> Any:
    if isinstance(value, (bool, int, str)):
        return _builtin(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, np.generic):
        return plain(value.item(), strict=strict) if value.dtype.kind not in "mM" else str(value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist() if value.dtype.kind not in "mM" else value.astype(str).tolist(), strict=strict)
    if isinstance(value, Mapping):
        return {str(k): plain(v, strict=strict) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, strict=strict) for v in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError:
            return "base64:" + base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if strict:
        raise CannotWriteError(
            f"an attribute contains {value!r} of type {type(value).__name__}, which no file can keep: "
            "expected text, numbers, lists or dicts of these"
        )
    return str(value)


def _builtin(value: Any) -> Any:
    if isinstance(value, bool):
        return bool(value)
    return int(value) if isinstance(value, int) else str(value)


def _places(own: Sequence[int], wanted: Sequence[int]) -> list[int | None] | None:
    """Return the index of each wanted axis among the own axes, if they differ only by axes of length 1."""
    if [n for n in own if n != 1] != [n for n in wanted if n != 1]:
        return None
    left = [k for k, n in enumerate(own) if n != 1]
    return [left.pop(0) if n != 1 else None for n in wanted]


def seal_of(*facts: Any) -> str:
    """Return a checksum of what the metadata of a format say, which its writer puts into the record as ``"seal"``.

    Parameters
    ----------
    *facts : JSON-like
        What other programs may change: spacing, units, axes, names, as the format's reader finds them.

    Returns
    -------
    str
        8 hexadecimal digits.
    """
    return f"{zlib.crc32(json.dumps(facts, sort_keys=True, default=str).encode()):08x}"


def unsealed_record(record: Any, *facts: Any) -> Any:
    """Return a record; None if the metadata of the format were changed since it was written.

    Parameters
    ----------
    record : object
        One without a seal, of an earlier version of this package, is believed.
    *facts : JSON-like
        See `seal_of`.
    """
    seal = record.get("seal") if isinstance(record, Mapping) else None
    return record if seal is None or seal == seal_of(*facts) else None


def coordinate_record(c: Coordinate) -> dict[str, Any]:
    """Return a coordinate as plain JSON, exactly."""
    values = np.asarray(c.values)
    facts: dict[str, Any] = {"axes": list(c.axes), "dtype": values.dtype.str, "attrs": plain(c.attrs, strict=True)}
    if values.dtype.kind == "O" or values.dtype.kind == "T":
        facts["dtype"] = "text" if all(isinstance(v, str) for v in values.ravel()) else "object"
    if values.ndim == 1 and values.dtype == np.float64 and values.size > 2:
        with np.errstate(over="ignore", invalid="ignore"):
            step = known_spacing(c.attrs.get("spacing")) or float(values[1] - values[0])
            even = values[0] + step * np.arange(values.size)
        if np.isfinite(values).all() and np.array_equal(even, values) and math.isfinite(step):
            return {**facts, "start": float(values[0]), "step": float(step), "size": int(values.size)}
    if values.dtype.kind in "mM":
        values = values.astype("i8")
    if values.dtype.kind in "fc":
        return {**facts, "values": _texts(values.tolist())}
    return {**facts, "values": plain(values.tolist(), strict=True)}


def _texts(values: Any) -> Any:
    """Nested lists; numbers that JSON lacks (NaN, infinite, complex) become text that numpy reads back."""
    if isinstance(values, list):
        return [_texts(v) for v in values]
    return values if isinstance(values, float) and math.isfinite(values) else str(values)


def recorded_coordinate(facts: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> Coordinate:
    """Return the coordinate that `coordinate_record` wrote; it must fit `sizes`."""
    sizes = sizes or {}
    if "start" in facts:
        size = int(facts["size"])
        if size > sizes.get(facts["axes"][0], 2**24):  # before it is allocated
            raise ValueError("the record does not fit the pixels")
        with np.errstate(over="ignore", invalid="ignore"):
            values = float(facts["start"]) + float(facts["step"]) * np.arange(size)
        if not np.isfinite(values).all():
            raise ValueError("the record has coordinates that are not numbers")
    elif facts["dtype"] in ("text", "object"):
        values = np.asarray(facts["values"], dtype=object)
    else:
        dtype = _dtype(facts["dtype"])
        values = np.asarray(facts["values"], dtype="i8" if dtype.kind in "mM" else None)
        values = values.astype(dtype)
    if values.ndim != len(facts["axes"]):
        raise ValueError("the record does not fit the pixels")
    return Coordinate(tuple(facts["axes"]), values, dict(facts["attrs"]))
