"""The record that `imsave` puts into HDF5 files, and the names of variables as paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np

from intake_img.formats.h5.arrays import dtype_of
from intake_img.formats.h5.tree import dataset_at
from intake_img.storage.limits import record_limit

__all__ = ["RECORD", "lines_of", "read_record", "sealed_facts", "variable_name", "variable_path", "write_record"]

RECORD = "intake_img_record"
"""The dataset at the root that contains the record: JSON text, as bytes."""
_SEALED = ("axistags", "axis_units", "element_size_um", "DIMENSION_LABELS")


def variable_path(name: str) -> str:
    """Return the path of a variable: its name, with what means something in paths escaped.

    Examples
    --------
    >>> variable_path("nuclei/raw µ"), variable_name("nuclei%2Fraw µ")
    ('nuclei%2Fraw µ', 'nuclei/raw µ')
    """
    escaped = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return "%2E" + escaped[1:] if escaped.startswith(".") else escaped


def sealed_facts(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the attributes of an array state about its axes; other programs may change it."""
    return {name: attributes[name] for name in _SEALED if name in attributes}


def variable_name(path: str) -> str:
    """Return the name of the variable at a path."""
    return unquote(path)


def write_record(f: Any, record: dict[str, Any]) -> None:
    f.create_dataset(RECORD, data=np.frombuffer(json.dumps(record).encode(), np.uint8), track_times=False)


def lines_of(f: Any, record: Mapping[str, Any]) -> list[str]:
    """Return the paths of recorded variables with less than two axes: in other files these are no images."""
    found = {path: dataset_at(f, path) for path in map(variable_path, record.get("variables", ()))}
    there = {path: d for path, d in found.items() if d is not None and d.shape is not None}
    return [path for path, d in there.items() if d.ndim < 2 and dtype_of(d) is not None]


def read_record(f: Any) -> dict[str, Any] | None:
    """Return the record of a file, None if it has none that can be read."""
    try:
        found = f.get(RECORD)
        if found is None or found.dtype != np.uint8 or found.size > record_limit(0):
            return None
        record = json.loads(found[()].tobytes())
        return record if isinstance(record["variables"], dict) else None
    except (KeyError, OSError, RuntimeError, TypeError, ValueError, AttributeError, RecursionError):
        return None
