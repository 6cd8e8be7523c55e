"""Scan of a folder for images: single files and stores, or several files that form one image by their names.

Names suggest which files belong together, headers confirm it: files that do not fit stay single images.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from intake_img.catalog.entry_names import unique_names
from intake_img.catalog.facts import sentence
from intake_img.catalog.grouping import AcrossFolders, Found, InFolder
from intake_img.catalog.inspections import default_workers, in_threads, source_of
from intake_img.catalog.inspector import Inspector
from intake_img.catalog.jail import jail_of
from intake_img.catalog.listed import places_on_server
from intake_img.catalog.memory import ScanMemory
from intake_img.catalog.places import ScannedFolder, places_in
from intake_img.catalog.plates import plates_in, without
from intake_img.catalog.remembered import context_of, remember, remembered, state_of
from intake_img.catalog.scanned import Scan
from intake_img.catalog.unused import Unused
from intake_img.collections.file_names import natural_key
from intake_img.formats.source import ImageSource
from intake_img.model.engine import Engine, in_tasks
from intake_img.model.typed import Uri
from intake_img.storage.files import File

__all__ = ["Scan", "scan"]


def scan(
    folder: Uri,
    *,
    recursive: bool = True,
    exclude: Iterable[str] = (),
    progress: Callable[[str], None] | None = None,
    memory: Uri | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Scan:
    """Find the images in a folder.

    Files of ``imsave(..., partition=)`` and numbered series (``a_t001.tif``, ``a_t002.tif``, also in numbered folders:
    ``pos_1/t_01.tif``, ``pos_2/t_01.tif``) become one image each, if their grid is complete and their headers agree.
    The header of each image is read, and some headers of a series; no pixels. A plate with an index is one image.

    Parameters
    ----------
    folder : str or os.PathLike
        A local folder, or the URL of one on a server that lists its files (``s3://...``, ``https://...``).
    recursive : bool
        Search the subfolders. Hidden ones, and symbolic links to folders, are left out.
    exclude : sequence of str
        Paths relative to `folder` to leave out; ``*`` matches anything, as in ``"old/*"``.
    progress : callable, optional
        Called with each path that is opened, by one thread at a time.
    memory : str or os.PathLike, optional
        A local SQLite file, created if absent, that keeps the results. With it, the next scan opens only files whose
        size, time or ETag changed, and an interrupted scan resumes. Files that failed for another reason than their
        content, and files on servers that state no time, are opened each time.
    workers : int, optional
        Number of threads that open files: by default the number of processors, at most 8, and 16 for servers.
    engine : "threads" or "dask", optional
        ``"dask"`` opens single files on the workers of the dask client, which must see the same paths; the default if
        there is a client.
    storage_options : mapping, optional
        Options of the fsspec file system of a URL.

    Returns
    -------
    Scan
        A mapping of names to sources; `write_catalog` writes it as a catalog.

    Raises
    ------
    NotADirectoryError, FileNotFoundError
        If there is no such folder.
    ValueError
        If `workers` is less than 1.
    CatalogError
        If `memory` is a file of another kind.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> folder = tempfile.mkdtemp()
    >>> for t in range(3):
    ...     np.save(os.path.join(folder, f"cells_t{t}.npy"), np.zeros((4, 5), "uint8"))
    >>> scan(folder)["cells"].description
    '3 files: t 3, y 4, x 5, uint8'
    """
    root = _root(folder, storage_options)
    left_out = [exclude] if isinstance(exclude, str) else list(exclude)
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers!r}: expected 1 or more")
    in_tasks(engine)  # refuses an engine that there is none of
    inspector = Inspector(root, Unused(), workers or default_workers(root), engine, progress)
    if memory is None:
        return _scanned(inspector, recursive, left_out)
    with contextlib.closing(ScanMemory(os.fspath(memory), context_of(root, recursive, left_out))) as inspector.memory:
        return remembered(inspector.memory, root, recursive, left_out) or _scanned(inspector, recursive, left_out)


def _root(folder: Any, storage_options: Mapping[str, Any] | None) -> File:
    """Return the folder with the jail that a catalog of it has."""
    root = File.parse(folder, storage_options)
    if not root.local:
        jail = None if "::" in root.path else jail_of([root.path], (), storage_options)
        return File(root.path.rstrip("/"), root.storage_options, jail)
    if not os.path.isdir(root.path):
        raise NotADirectoryError(f"{folder} is not a folder: expected one that contains images")
    return File(root.path, {}, jail_of([root.path], (), None))


def _scanned(inspector: Inspector, recursive: bool, exclude: Sequence[str]) -> Scan:
    root, unused = inspector.root, inspector.unused
    stamped = inspector.memory is not None
    if root.local:
        places = list(places_in(root.path, recursive, exclude, unused, stamped))
    else:
        places = list(places_on_server(root, recursive, exclude, unused))
    inspector.stamps = {f"{p.path}/{n}": s for p in places for n, s in p.stamps.items()} if stamped else {}
    state = state_of(inspector, places) if stamped else None
    plates = plates_in(places, root)
    others = [replace(p, names=without(p.names, p.path, plates.taken)) for p in places]
    found = plates.images + _grouped(inspector, others)
    found.sort(key=lambda f: natural_key(os.path.relpath(f[0], root.path)))
    names = unique_names([os.path.relpath(path, root.path) for path, _, _ in found])
    sources: dict[str, ImageSource] = {}
    for name, (_, source, facts) in zip(names, found, strict=True):
        source.name, source.description = name, sentence(facts)  # type: ignore[misc]
        sources[name] = source
    rest = unused.explained([path for path, _, _ in found], [source.uri for _, source, _ in plates.images])
    facts_by_name = {n: f[2] for n, f in zip(names, found, strict=True)}
    result = Scan(root.path, sources, rest.skipped, facts_by_name, plates.notes, rest.others)
    return result if inspector.memory is None else remember(inspector, result, state)


def _grouped(inspector: Inspector, places: Sequence[ScannedFolder]) -> list[Found]:
    """Return the images of files that belong together, and of all others."""
    across = AcrossFolders(places, inspector.root.path, inspector)
    found = list(across.images())
    inside = [InFolder(place, inspector) for place in across.rest()]
    for images in in_threads(InFolder.images, inside, inspector.workers):
        found += images
    singles = [path for one in inside for path in one.singles()]
    for path, seen in inspector.singles(singles):
        found.append((path, source_of(seen, inspector.file(path)), dict(seen.facts)))
    return found
