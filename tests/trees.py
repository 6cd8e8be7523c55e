"""Folders as a whole: the bytes of all files, and copies on a server."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec

__all__ = ["content", "to_memory"]


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder by their relative paths."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def to_memory(path: Path) -> str:
    """Copy a folder into fsspec's memory; return its URL."""
    url = f"memory://{uuid.uuid4().hex}/{path.name}"
    fsspec.filesystem("memory").put(str(path), url, recursive=True)
    return url
