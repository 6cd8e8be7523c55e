"""The columns of a table of images, and conditions of searches: one row per image, one condition per column."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from intake_img.catalog.spelling import SCANNED
from intake_img.catalog.template import fill
from intake_img.errors import CatalogError
from intake_img.model.axes import spell
from intake_img.model.units import LENGTH, TIME, convert
from intake_img.model.wells import well_name

__all__ = ["COLUMNS", "JSON", "OF_PATH", "REPEATED", "Condition", "condition", "row_of", "spec_of"]

JSON = ("options", "shape", "channels", "units")
"""Columns that contain JSON."""
OF_PATH = ("plate", "well", "field")
"""Columns that are found in the path, or given."""
_SPACINGS = tuple(f"spacing_{a}" for a in "tzyx")
COLUMNS: Mapping[str, type] = {
    **dict.fromkeys(("name", "uri", "driver", "scene", "options", "description", "axes", "shape", "dtype"), str),
    **dict.fromkeys(_SPACINGS, float),
    "units": str,
    "channels": str,
    "size": int,
    "modified": str,
    "checksum": str,
    **dict.fromkeys(OF_PATH, str),
    "text": str,
}
"""The columns that every table has, besides free ones. Spacings are in µm and s; ``text`` is for searching by words."""
REPEATED = ("driver", "scene", "options", "axes", "shape", "dtype", "units", "channels", *OF_PATH)
"""Columns of few different values."""
_HERE = "{{ CATALOG_DIR }}/"
_WELL = re.compile(r"(?<![A-Za-z0-9])((?:[A-P]|A[A-F])\d{1,2})(?![A-Za-z0-9])")
_ROW_AND_COLUMN = re.compile(r"(?<![A-Za-z0-9])r(\d\d)c(\d\d)(?=f[\d{]|[_\-. ]|$)", re.I)
_FIELD = re.compile(r"(?<![A-Za-z])(?:fld|field|f|site|s)[ _\-]?(\d+)", re.I)
_PLATE = re.compile(r"(?:^|[/_\-. ])plate[ _\-]*([A-Za-z0-9]+)", re.I)
_COMPARED = re.compile(r"\s*(<=|>=|!=|==|<|>)\s*(.*)")


@dataclass(frozen=True)
class Condition:
    """A condition of a search on a column.

    Parameters
    ----------
    column : str
    operator : str
        ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``, ``in``, or ``has``: all texts are contained.
    value : object
    """

    column: str
    operator: str
    value: Any


def condition(column: str, value: Any, kinds: Mapping[str, type]) -> Condition:
    """Return the condition for a keyword of a search.

    Raises
    ------
    CatalogError
        If there is no such column, or its values cannot be compared with the value.
    """
    if column not in kinds:
        raise CatalogError(f"the table has no column {column!r}; it has {', '.join(kinds)}")
    if kinds[column] is str and COLUMNS.get(column, str) is not str:
        raise CatalogError(f"the column {column!r} of the table has texts: write it again with numbers")
    value = value.tolist() if hasattr(value, "tolist") else value  # of numpy, pandas
    many = isinstance(value, Iterable) and not isinstance(value, str)
    if column == "text":
        said = " ".join(map(str, value)) if many else str(_given(column, value))
        return Condition(column, "has", tuple(said.casefold().split()))
    if column == "channels":
        names = value if many else [_given(column, value)]
        return Condition(column, "has", tuple(json.dumps(str(n), ensure_ascii=False) for n in names))
    if column in JSON:
        return Condition(column, "==", _as_json(column, value))
    if many:
        values = [_compared(column, "==", v, kinds[column]) for v in value]
        return Condition(column, "in", tuple(one.value for one in values if one.operator == "=="))
    parts = _COMPARED.fullmatch(value) if isinstance(value, str) else None
    return _compared(column, *((parts[1], parts[2]) if parts else ("==", value)), kinds[column])


def _given(column: str, value: Any) -> Any:
    if value is None:
        raise CatalogError(f"{column}=None: expected a value")
    return value


def _as_json(column: str, value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(_given(column, value), ensure_ascii=False)
    except (TypeError, ValueError):
        raise CatalogError(f"{column}={value!r}: expected JSON") from None


def _compared(column: str, operator: str, value: Any, kind: type) -> Condition:
    if kind is str:
        said = _given(column, value)
        return Condition(column, operator, said.isoformat() if hasattr(said, "isoformat") else str(said))
    try:
        number = _number(value)
        return Condition(column, operator, float(number)) if kind is float else _of_integers(column, operator, number)
    except (TypeError, ValueError, OverflowError):
        raise CatalogError(f"{column}={value!r}: expected a number, or a comparison such as '<0.5'") from None


def _number(value: Any) -> int | float:
    try:
        return int(value) if isinstance(value, (str, int)) else _that_is_one(float(value))
    except ValueError:
        return _that_is_one(float(value))


def _that_is_one(number: float) -> float:
    if math.isnan(number):
        raise ValueError("not a number")
    return number


def _of_integers(column: str, operator: str, number: int | float) -> Condition:
    """Return a condition on a column of 64-bit integers, for any number."""
    least, most = -(2**63), 2**63 - 1
    if least <= number <= most and number == (whole := math.floor(number)):
        return Condition(column, operator, whole)
    if operator == "!=":
        return Condition(column, ">=", least)
    if operator in ("<", "<=") and number >= least:
        return Condition(column, "<=", most if number > most else math.floor(number))
    if operator in (">", ">=") and number <= most:
        return Condition(column, ">=", least if number < least else math.ceil(number))
    return Condition(column, "in", ())


def row_of(name: str, entry: Mapping[str, Any], folder: str, free: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row for an entry of a YAML catalog.

    Parameters
    ----------
    name : str
    entry : mapping
        With ``driver``, ``args`` and ``metadata``.
    folder : str
        The folder of the table, to find the file and its size and time.
    free : mapping of str to str, int or float
        Further columns.
    """
    arguments = dict(entry["args"])
    uri = _plain_uri(arguments.pop("uri"))
    scene = arguments.pop("scene", None)
    metadata = dict(entry.get("metadata") or {})
    facts = metadata.pop(SCANNED, None) or {}
    options = {**arguments, **({"metadata": metadata} if metadata else {})}
    row = dict.fromkeys(COLUMNS) | {
        "name": name,
        "uri": uri,
        "driver": entry["driver"],
        "scene": None if scene is None else json.dumps(scene),
        "options": _json(options),
        "description": entry.get("description"),
        "axes": facts.get("axes"),
        "shape": _json(facts.get("shape")),
        "dtype": facts.get("dtype"),
        "units": _json(facts.get("units")),
        "channels": _json(facts.get("channels")),
        **_spacings(facts),
        **_of_file(os.path.join(folder, uri)),
        **_of_name(uri),
        **free,
    }
    said = [name, uri, row["description"], row["channels"], *(v for v in free.values() if isinstance(v, str))]
    row["text"] = "\n".join(str(s) for s in said if s).casefold()
    if isinstance(row["axes"], list):
        row["axes"] = spell(row["axes"])
    return row


def _json(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None


def _plain_uri(uri: Any) -> str:
    if isinstance(uri, list):
        return json.dumps([_plain_uri(u) for u in uri], ensure_ascii=False)
    return fill(uri.removeprefix(_HERE), {"CATALOG_DIR": ""})


def _spacings(facts: Mapping[str, Any]) -> dict[str, float]:
    units = facts.get("units") or {}
    found = {}
    for axis, spacing in (facts.get("spacing") or {}).items():
        unit = units.get(axis, "")
        base = "s" if axis == "t" else "µm"
        known = TIME if axis == "t" else LENGTH
        if f"spacing_{axis}" in COLUMNS:
            found[f"spacing_{axis}"] = convert(spacing, unit, base) if unit in known else float(spacing)
    return found


def _of_file(path: str) -> dict[str, Any]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a URL, a pattern
        return {}
    changed = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="microseconds")
    return {"size": None if os.path.isdir(path) else found.st_size, "modified": changed}


def _of_name(uri: str) -> dict[str, str]:
    found = {"plate": _PLATE.search(uri), "well": _WELL.search(uri), "field": _FIELD.search(uri.rsplit("/", 1)[-1])}
    if found["well"] is None and (place := _ROW_AND_COLUMN.search(uri)) is not None and "00" not in place.groups():
        return _of_name(uri.replace(place[0], f"{well_name(int(place[1]) - 1, int(place[2]) - 1)}_", 1))
    return {column: match[1] for column, match in found.items() if match}


def spec_of(row: Mapping[str, Any], escape: Any) -> dict[str, Any]:
    """Return a row as an entry of a YAML catalog, so that the same checks apply.

    Parameters
    ----------
    row : mapping
    escape : callable
        Quotes template syntax.

    Raises
    ------
    CatalogError
        If a cell has an invalid value for its column.
    """
    try:
        many = row["driver"] == "imagelist"
        uris = [_placed(u, escape) for u in (json.loads(row["uri"]) if many else [row["uri"]])]
        options = _mapping(json.loads(row.get("options") or "{}"), "options")
        scene = {} if row.get("scene") in (None, "") else {"scene": json.loads(row["scene"])}
        metadata = _mapping(options.pop("metadata", {}), "metadata")
    except (ValueError, TypeError, AttributeError, KeyError) as exc:
        raise CatalogError(f"the row {str(row.get('name'))[:80]!r} cannot be understood: {str(exc)[:200]}") from None
    arguments = escape({"uri": "", **scene, **options}) | {"uri": uris if many else uris[0]}
    return {
        "driver": row["driver"],
        "description": row.get("description") or "",
        "args": arguments,
        "metadata": {**metadata, "columns": _free(row)},
    }


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its {what} are not a JSON object")
    return value


def _placed(uri: str, escape: Any) -> str:
    inside = not re.match(r"[/\\~]|[A-Za-z][\w+.\-]*::?", uri)
    return (_HERE if inside else "") + escape(uri)


def _free(row: Mapping[str, Any]) -> dict[str, Any]:
    known: Iterable[str] = ("name", "uri", "driver", "scene", "options", "description", "text")
    return {k: v for k, v in row.items() if k not in known and v is not None and v == v}
