"""Untrusted catalogs: read by a strict schema, only with our drivers, and without running code from them.

Intake's own `open_catalog` can run code from a YAML file (templates, classes, plug-ins, dotted drivers). This reader
supports the part of version 1 that describes images, and refuses a catalog with anything else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from intake_img.catalog.entries import MAX_LOADS, NESTED
from intake_img.catalog.jail import jail_of
from intake_img.catalog.schema import CatalogReader, Problem, load, read
from intake_img.errors import CatalogError
from intake_img.model.typed import Uri
from intake_img.storage.files import File
from intake_img.storage.jail import CACHES, Jail

__all__ = ["open_catalog", "validate"]


def open_catalog(
    path: Uri,
    trusted: bool = False,
    *,
    roots: Iterable[Uri] | None = None,
    schemes: Iterable[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Open a YAML catalog of version 1 without running code from it.

    It refuses, with the reason: tags, aliases that multiply data, files of more than 32 MiB; ``cls``, ``plugins``,
    drivers that are not for images; templates other than ``{{ CATALOG_DIR }}``, ``{{ name }}``, ``{{ name |
    default('text') }}`` and ``{{ 'text' }}``; the environment and the shell; files outside of `roots`, also by ``..``
    or symbolic links; URLs whose scheme is not allowed; options of file systems except ``anon``. Paths are checked
    again when an entry is used; someone who can change the folder between this check and the reading can still replace
    a file.

    Parameters
    ----------
    path : str or os.PathLike
        Path or URL of the catalog.
    trusted : bool
        Use ``intake.open_catalog``, which has all features and may run code from the catalog.
    roots : sequence of str, optional
        Folders and URL prefixes that the catalog may name; its own folder by default.
    schemes : sequence of str
        Schemes of which it may name any URL, e.g. ``["https"]``.
    storage_options : mapping, optional
        Options of the fsspec file system of the catalog and of the URLs that it names. URLs such as
        ``simplecache::https://...`` are read through a cache on disk: ``{"simplecache": {"cache_storage": "folder"}}``
        says where it is, else it is a temporary folder.

    Returns
    -------
    SafeCatalog
        Only the catalog has been opened. For trusted catalogs, Intake's catalog.

    Raises
    ------
    CatalogError
        If the catalog is refused. The message gives the reason; `validate` returns all problems.
    FileNotFoundError
        If there is no such catalog.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "a.npy", np.zeros((4, 5)))
    >>> _ = (folder / "all.yml").write_text('''
    ... sources:
    ...   a: {driver: npy, args: {uri: "{{ CATALOG_DIR }}/a.npy"}}
    ... ''')
    >>> dict(open_catalog(folder / "all.yml").a.to_dask().sizes)
    {'y': 4, 'x': 5}
    """
    if trusted:
        import intake

        if roots is not None or tuple(schemes):
            raise ValueError("roots and schemes limit catalogs that are not trusted: leave them out, or trusted=True")
        extra = {"storage_options": dict(storage_options)} if storage_options else {}
        return intake.open_catalog(os.fspath(path), **extra)
    file, jail = _start(path, roots, schemes, storage_options)
    return load(file, jail, ())


def validate(
    path: Uri,
    *,
    roots: Iterable[Uri] | None = None,
    schemes: Iterable[str] = (),
    storage_options: Mapping[str, Any] | None = None,
    open_images: bool = False,
    unopened: dict[str, str] | None = None,
) -> list[Problem]:
    """Return the problems for which `open_catalog` would refuse a catalog, or one nested in it; empty if there are
    none.

    Parameters
    ----------
    path, roots, schemes, storage_options
        As in `open_catalog`.
    open_images : bool
        Open each image too, with the defaults of its parameters: missing and unreadable files are then problems as
        well. No pixels are read.
    unopened : dict of str to str, optional
        With `open_images`, receives the names of the entries that were not opened, and the reasons: entries that need
        the value of a parameter, and all entries of a refused catalog.
    """
    file, jail = _start(path, roots, schemes, storage_options)
    problems: list[Problem] = []
    seen: set[str] = set()
    waiting: list[tuple[File, tuple[str, ...], tuple[CatalogReader, str] | None]] = [(file, (), None)]
    while waiting:
        at, chain, origin = waiting.pop(0)
        key = at.identity
        if key in seen and key not in chain:
            continue
        seen.add(key)
        if len(seen) > MAX_LOADS:
            problems.append(Problem(str(at), 1, "", f"more than {MAX_LOADS} catalogs are nested in all"))
            break
        try:
            reader = read(at, jail, chain)
        except (CatalogError, OSError) as exc:
            if origin is None and isinstance(exc, FileNotFoundError):
                raise
            if origin is None:
                problems.append(Problem(str(at), 1, "", _plain_reason(exc)))
            else:
                problems.append(origin[0].problem_of(origin[1], _plain_reason(exc)))
            continue
        problems += reader.problems
        if open_images and not reader.problems:
            problems += reader.opened()
        if open_images and unopened is not None:
            inside = "" if origin is None else f"{at}: "
            unopened |= {inside + name: why for name, why in reader.unopened().items()}
        for name, entry in reader.entries.items():
            if entry.driver == NESTED:
                try:
                    waiting.append((entry.resolved({}), entry.chain, (reader, name)))
                except CatalogError:
                    continue  # a problem of the entry that is already listed
    return problems


def _plain_reason(exc: Exception) -> str:
    return f"there is no file {exc.filename or exc}" if isinstance(exc, FileNotFoundError) else str(exc)


def _start(
    path: Any, roots: Iterable[Uri] | None, schemes: Iterable[str], storage_options: Mapping[str, Any] | None
) -> tuple[File, Jail]:
    file = File.parse(path, {k: v for k, v in (storage_options or {}).items() if k not in CACHES})
    return file, jail_of([file.parent.path] if roots is None else roots, schemes, storage_options)
