"""Numbers and JSON objects in the metadata of others: what is none of these is replaced by a default."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["finite", "json_object"]


def finite(value: object, default: float = 0.0) -> float:
    """Return a finite number, also from a text; `default` for anything else.

    Examples
    --------
    >>> finite("0.5"), finite("inf"), finite(None, -1.0)
    (0.5, 0.0, -1.0)
    """
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return default
    return found if math.isfinite(found) else default


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for anything else.

    Examples
    --------
    >>> json_object('{"a": 1}'), json_object("[1]"), json_object("{")
    ({'a': 1}, {}, {})
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
