"""Files and folders of a dataset: its resolutions, its TIFF stacks, and what changes when one is replaced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from intake_img.formats.ndtiff.dataset import INDEX
from intake_img.storage.files import File

__all__ = ["FULL", "levels_in", "stacks_of", "stamps_in"]

FULL = "Full resolution"


def levels_in(folder: File) -> list[File]:
    """Return the folders of the resolutions, the full one first."""
    if not (folder / FULL / INDEX).exists():
        return [folder]
    found = [folder / FULL]
    while ((place := folder / f"Downsampled_x{2 ** len(found)}") / INDEX).exists():
        found.append(place)
    return found


def stacks_of(file: File) -> list[File]:
    """Return the TIFF files of the dataset that a file belongs to: ``NDTiffStack.tif``, ``NDTiffStack_1.tif``, ..."""
    stem = file.name.rpartition(".")[0]
    head, _, number = stem.rpartition("_")
    first = file.sibling(f"{head}.tif")
    if not number.isdigit() or not first.exists():
        first, head = file, stem
    found = [first]
    while (following := file.sibling(f"{head}_{len(found)}.tif")).exists():
        found.append(following)
    return found


def stamps_in(folders: Sequence[str]) -> list[tuple[Any, ...]]:
    return [
        (entry.path, about.st_mtime_ns, about.st_size, about.st_ino)
        for folder in folders
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
        if entry.name == INDEX or entry.name.endswith(".tif")
        for about in [entry.stat()]
    ]
