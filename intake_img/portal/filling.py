"""Index data of an entry from its catalog, without opening it: column values, words, and its version."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from intake_img.catalog.columns import COLUMNS
from intake_img.model.privacy import public
from intake_img.portal.library import LibraryItem, RowEntry

__all__ = ["channel_names", "mark_of", "row_of", "with_parts", "words_of"]

_ROW = json.JSONEncoder(default=str).encode
_ENTRY = json.JSONEncoder(default=str, sort_keys=True).encode
_TEXT = json.JSONEncoder(default=str, ensure_ascii=False).encode
_PARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|_|(?<=\d)(?=[A-Za-z])")
_LONGEST, _MOST_CHANNELS, _LONGEST_NAME = 100_000, 256, 100


def mark_of(item: LibraryItem) -> str:
    """Return a text that changes with the catalog's description of an entry."""
    entry = item.entry
    if isinstance(entry, RowEntry):
        return _ROW(dict(entry.row))
    return _ENTRY([item.name, item.description, item.driver, dict(entry.args), dict(entry.metadata)])


def row_of(item: LibraryItem) -> dict[str, Any]:
    """Return values of columns of the index."""
    day, plate = _day_and_plate(item)
    return {
        "id": item.id,
        "name": item.name,
        "folder": item.folder,
        "description": item.description,
        "format": item.driver,
        "date": day[:10],
        "plate": plate,
        "year": day[:4],
    }


def _day_and_plate(item: LibraryItem) -> tuple[str, str]:
    """Return the day and the plate."""
    if isinstance(item.entry, RowEntry):
        row = item.entry.row
        return str(row.get("modified") or ""), str(row.get("plate") or "")
    about = public(dict(item.entry.metadata))
    scanned = about.get("scanned")
    places = [about, *([scanned] if isinstance(scanned, Mapping) else [])]
    days = (m.get("date") or m.get("acquired") or m.get("modified") for m in places)
    return str(next(filter(None, days), "")), str(about.get("plate") or "")


def words_of(item: LibraryItem) -> tuple[str, str, str]:
    """Return the searchable text: the name, the description, and all other public texts."""
    if isinstance(item.entry, RowEntry):
        row = item.entry.row
        free = {k: v for k, v in row.items() if k not in COLUMNS}
        text = f"{row.get('well') or ''} {_TEXT(public(free)) if free else ''}"
    else:
        text = _TEXT(public(dict(item.entry.metadata)))
    return with_parts(item.name), with_parts(item.description), with_parts(text)


def with_parts(text: Any) -> str:
    """Return a text with the parts of its compound words added."""
    text = str(text or "")[:_LONGEST]
    apart = _PARTS.sub(" ", text)
    return text if apart == text else f"{text} {apart}"


def channel_names(facts: Mapping[str, Any]) -> list[str]:
    """Return the names of channels in the form of the index."""
    return [str(c)[:_LONGEST_NAME] for c in facts.get("channels", ())][:_MOST_CHANNELS]
