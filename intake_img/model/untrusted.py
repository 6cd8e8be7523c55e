"""Numbers, JSON objects and XML in metadata that other programs wrote."""

from __future__ import annotations

import json
import math
from typing import Any
from xml.etree import ElementTree

from intake_img.errors import FormatError

__all__ = ["finite", "json_object", "xml_root"]


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


def xml_root(text: str | bytes, name: str = "the XML") -> ElementTree.Element:
    """Return the root of an XML text.

    Parameters
    ----------
    text : str or bytes
    name : str
        What it is, for errors.

    Raises
    ------
    FormatError
        If it is not well-formed, or declares entities, which may expand to any size.
    """
    if ("<!ENTITY" if isinstance(text, str) else b"<!ENTITY") in text:  # type: ignore[operator]
        raise FormatError(f"{name} declares entities: refused")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as exc:
        raise FormatError(f"{name} is damaged: {exc}") from exc
