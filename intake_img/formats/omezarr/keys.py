"""Keys of the metadata documents of a Zarr store."""

from __future__ import annotations

__all__ = ["METADATA_FILES", "is_document"]

METADATA_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
"""Names of the files that identify a Zarr group or array."""


def is_document(key: str) -> bool:
    """True for the key of a metadata document."""
    return key.rpartition("/")[2] in METADATA_FILES
