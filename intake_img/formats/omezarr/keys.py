"""Keys of a Zarr store: which of them name documents of metadata."""

from __future__ import annotations

__all__ = ["METADATA_FILES", "is_document"]

METADATA_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
"""Names of the files that make a folder a Zarr group or array."""


def is_document(key: str) -> bool:
    """True for the key of a metadata document."""
    return key.rpartition("/")[2] in METADATA_FILES
