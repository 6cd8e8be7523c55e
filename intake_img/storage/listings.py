"""Listings of folders: the names in one, and the files below one of an object store, if that is cheap."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Sequence
from typing import Any

from intake_img.errors import IntakeImgError
from intake_img.storage.files import File
from intake_img.storage.remote import retried

__all__ = ["LEAST", "is_object_store", "names_in", "present"]

LEAST = 16
"""This many files are worth a listing: if all of them exist, it is one request more for 16 or more."""
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
_PAGE = 1000  # names in one answer of a store
_REFUSED: set[str] = set()
"""Buckets that refused to be listed."""


def is_object_store(fs: Any) -> bool:
    """Return whether a file system of fsspec is an object store, which lists all files below a prefix in one go."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return bool(protocols & _OBJECT_STORES)


def names_in(folder: File, *, fresh: bool = True) -> list[str]:
    """Return the names directly inside a folder; none if there is no such folder.

    Parameters
    ----------
    folder : File
    fresh : bool
        Ignore what the file system of a server remembers.
    """
    try:
        if folder.local:
            return os.listdir(folder.path)
        fs, path = folder.filesystem()
        if fresh:
            fs.invalidate_cache(path)
        return [str(p).rstrip("/").rsplit("/", 1)[-1] for p in retried(folder.path, lambda: fs.ls(path, detail=False))]
    except (FileNotFoundError, NotADirectoryError):
        return []


def present(folder: File, names: Sequence[str], grid: Sequence[int]) -> set[str] | None:
    """Return those of some files that exist, by a listing made now; None if asking for each is cheaper.

    It is cheaper for fewer than 16 files, on servers that are not object stores, in buckets that refuse to be listed,
    and where a listing would take more than one request for 16 files.

    Parameters
    ----------
    folder : File
    names : sequence of str
        Paths below the folder, with slashes: those of a box in a grid, from its first to its last place.
    grid : sequence of int
        How many places the grid has along each of its axes, the axis of the last component of the names last.
    """
    if len(names) < LEAST or folder.local or folder.web:
        return None
    shared = posixpath.commonpath([posixpath.dirname(name) for name in (names[0], names[-1])])
    lead = shared.split("/") if shared else []
    parts = names[0].count("/") + 1
    inside = grid[len(lead) - parts :] if parts >= len(grid) else grid  # one folder for all places
    if math.prod(inside) > _PAGE * (len(names) // LEAST):
        return None
    found = _below(folder, lead)
    return None if found is None else found & set(names)


def _below(folder: File, lead: Sequence[str]) -> set[str] | None:
    """Return the paths of all files below a folder in a folder, relative to the outer one."""
    folder.check()
    place = folder.within(*lead)
    fs, path = place.filesystem()
    bucket = f"{place.path.partition('://')[0]}://{fs._strip_protocol(path).lstrip('/').partition('/')[0]}"
    if bucket in _REFUSED or not is_object_store(fs):
        return None
    fs.invalidate_cache(path)  # what others wrote since counts
    try:
        found = retried(place.path, lambda: fs.find(path))
    except FileNotFoundError:
        return set()
    except (OSError, NotImplementedError, IntakeImgError):
        _REFUSED.add(bucket)
        return None
    root = fs._strip_protocol(path).rstrip("/") + "/"
    return {"/".join((*lead, str(name)[len(root) :])) for name in found}
