"""Translation of catalogs of Intake's version 2 to version 1; other contents are refused.

Only this package's own reader of version 2 is supported. Readers and data types are never imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from intake_img.errors import CatalogError

__all__ = ["as_version_1"]

_READER = re.compile(r"intake_img\.[\w.]+:ImgReader")
_DATA = re.compile(r"\{data\((\w+)\)\}")


def as_version_1(top: Mapping[str, Any]) -> dict[str, Any]:
    """Return a catalog of version 2 as one of version 1.

    Raises
    ------
    CatalogError
        If an entry uses another reader, or something other than a path or URL.
    """
    entries, data = top.get("entries") or {}, top.get("data") or {}
    if not isinstance(entries, Mapping) or not isinstance(data, Mapping):
        raise CatalogError("version 2: expected mappings 'entries' and 'data'")
    aliases = top.get("aliases") or {}
    names = {str(token): str(name) for name, token in aliases.items()} if isinstance(aliases, Mapping) else {}
    sources = {names.get(token, token): _source(entry, data, token) for token, entry in entries.items()}
    return {"metadata": {"version": 1}, "sources": sources}


def _source(entry: Any, data: Mapping[str, Any], name: str) -> dict[str, Any]:
    reader = entry.get("reader") if isinstance(entry, Mapping) else None
    if not isinstance(reader, str) or not _READER.fullmatch(reader):
        raise CatalogError(
            f"version 2, entry {name!r}: the reader {str(reader)[:80]!r} is refused, because a reader given by its "
            "path imports code; expected this package's ImgReader"
        )
    kwargs = dict(entry.get("kwargs") or {})
    token = _DATA.fullmatch(str(kwargs.pop("data", "")))
    described = data.get(token[1]) if token else None
    about = described.get("kwargs") if isinstance(described, Mapping) else None
    if not isinstance(about, Mapping) or not isinstance(about.get("url"), str) or about.get("storage_options"):
        raise CatalogError(f"version 2, entry {name!r}: expected data with a url, and without storage_options")
    return {"driver": "img", "args": {"uri": about["url"], **kwargs}, "metadata": entry.get("metadata") or {}}
