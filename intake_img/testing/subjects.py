"""The files that a driver is tried on: its own sample, and one that it wrote for each way it has of writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from intake_img.errors import CannotWriteError, UnknownFormatError
from intake_img.formats.format_source import FormatSource
from intake_img.formats.registry import writer_for
from intake_img.io import imsave
from intake_img.storage.files import File
from intake_img.testing.datasets import all_axes, standard_datasets

__all__ = ["Subject", "about", "subjects_of", "writing_extensions"]

_RICH_FIRST = (
    "hyperstack",
    "channels",
    "movie in colour",
    "zyx uint16",
    "zyx uint8",
    "colours",
    "yx uint16",
    "yx uint8",
)


@dataclass(frozen=True)
class Subject:
    """A file and what it holds.

    Parameters
    ----------
    path : str
    expected : xarray.Dataset
    written : bool
        Whether the driver itself wrote it.
    """

    path: str
    expected: xr.Dataset
    written: bool


def writing_extensions(driver: type[FormatSource]) -> list[str]:
    """Return the endings of names with which `imsave` chooses the driver."""
    if not driver.format.writes:
        return []
    found = []
    for extension in driver.format.extensions:
        try:
            if writer_for(File.parse(f"image{extension}")) == driver.format:
                found.append(extension)
        except (CannotWriteError, UnknownFormatError):
            continue
    return found


def subjects_of(driver: type[FormatSource], folder: Path) -> list[Subject]:
    """Return the sample, and the richest image that is kept for each extension whose files are of another make."""
    found = []
    if driver.format.has_sample:
        (folder / "sample").mkdir()
        path, expected = driver.format.sample(str(folder / "sample"))
        found.append(Subject(str(path), expected, False))
    standard, makes = standard_datasets(), set()
    for extension in writing_extensions(driver):
        subject = _written(folder, extension, standard)
        if subject is not None and (make := _make(Path(subject.path))) not in makes:
            makes.add(make)
            found.append(subject)
    return found


def _written(folder: Path, extension: str, standard: dict[str, xr.Dataset]) -> Subject | None:
    for name in _RICH_FIRST:
        path = str(folder / f"written{extension}")
        try:
            files = imsave(standard[name], path, partition=all_axes(standard[name]))
        except CannotWriteError:
            continue
        except Exception:  # the law on what is kept or refused says more of it
            return None
        if files[0] == path:  # one file contains it
            return Subject(path, standard[name], True)
    return None


def _make(path: Path) -> tuple[object, ...]:
    """What is equal for files of one make: two endings of one format give the same bytes, but for dates."""
    if path.is_dir():
        return "folder", sorted(str(p.relative_to(path)) for p in path.rglob("*"))[:20].__repr__()
    return os.path.getsize(path), path.read_bytes()[:8]


@contextmanager
def about(subject: Subject) -> Iterator[Subject]:
    """Say which file it was that an error is about."""
    try:
        yield subject
    except BaseException as exc:
        exc.add_note(f"with the {'written' if subject.written else 'sample'} file {os.path.basename(subject.path)}")
        raise
