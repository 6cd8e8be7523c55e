"""Plates written as OME-Zarr: a group for each row and well, and a multiscale image for each field.

Metadata: https://ngff.openmicroscopy.org/0.5/#hcs-layout. Fields are written one by one into a staging folder. At the
end the metadata of the plate are written, and the folder replaces the target. An interrupted write can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from intake_img.collections.plates.hcs import field_paths, groups
from intake_img.collections.plates.plate_table import PlateTable
from intake_img.collections.plates.source import PlateSource
from intake_img.errors import CannotWriteError
from intake_img.formats.registry import check_replaced, formats
from intake_img.model.engine import Engine, Tasks, in_tasks
from intake_img.model.image import Image
from intake_img.model.machine import cpus
from intake_img.model.wells import Place
from intake_img.storage.files import File
from intake_img.storage.renames import remove_tree
from intake_img.storage.shared import SharedFolder
from intake_img.storage.staging import begin

__all__ = ["write_plate"]

_VERSIONS = {"0.5": "zarr.json", "0.4": ".zattrs"}


def write_plate(
    source: PlateSource,
    name: str,
    target: File,
    *,
    compress: Any,
    overwrite: bool,
    resume: bool,
    jobs: int | None,
    engine: Engine | None,
    progress: Callable[[int], None] | None,
    options: Mapping[str, Any],
) -> list[str]:
    """Write all fields of a plate; see `intake_img.collections.plates.plate.Plate.save`."""
    table, version = source.table, str(options.get("version", "0.5"))
    target = target.followed()
    if target.name.lower().endswith((".zip", ".ozx")) or version not in _VERSIONS:
        raise CannotWriteError(
            f"{target}: a plate is written as a folder of OME-Zarr, version {' or '.join(_VERSIONS)}"
        )
    if overwrite:
        check_replaced(target)
    if lost := next((p.scene for p in table.fields if p.row < 0), None):
        raise CannotWriteError(f"{lost!r} is in no well: only plates are written, save such positions one by one")
    paths = field_paths(table)
    settings = {"compress": compress, **options}
    with begin(target, overwrite=overwrite, resume=resume, token=_token(source, paths, settings)) as staging:
        if not staging.completed:
            if staging.noted is None:
                staging.note({})
            root = File(staging.local(target.name)) if target.local else staging.place(target.name)
            left = {p: path for p, path in paths.items() if not (root / path / _VERSIONS[version]).exists()}
            store, step = _Store(root, settings), progress or _silent
            if in_tasks(engine):
                _in_tasks(source, store, left, step)
            else:
                _in_threads(source, store, left, step, jobs)
            _finish(root, table, name, paths, version)
            staging.commit([target.name])
    return [str(target)]


def _token(source: PlateSource, paths: Mapping[Place, str], settings: Mapping[str, Any]) -> str:
    origin = repr(source.table.index) if source.table.index else repr(list(source.table.fields.values()))  # the files
    facts = [origin, list(paths.values()), {k: repr(v) for k, v in settings.items()}]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _Store:
    """The store of the fields; it is picklable."""

    root: File
    settings: Mapping[str, Any]

    def write(self, image: Image, scene: str, path: str, _: Any = None) -> int:
        """Write one field, and return the number of bytes of its pixels."""
        write: Any = formats()["omezarr"].write  # the metadata of an image are written last and mark it as complete
        settings = {"name": scene.replace("/", "_"), **self.settings}
        folder, _, last = path.rpartition("/")
        within = self.root / folder
        if within.local:
            os.makedirs(within.path, exist_ok=True)
            with SharedFolder(within).member(last, folder=True) as place:
                write(image, place, **settings)
        else:
            write(image, within / last, **settings)
        return sum(v.pixels.nbytes for v in image.variables.values())


def _image(source: PlateSource, place: Place) -> Image:
    """Return a field in the form for `imsave`."""
    return Image.from_xarray(source.field(place).to_xarray(order=source.output_axis_order, chunks=None))


def _in_tasks(source: PlateSource, store: _Store, left: Mapping[Place, str], step: Callable[[int], None]) -> None:
    graph = Tasks()
    writes = {(k,): partial(store.write, _image(source, p), p.scene, path) for k, (p, path) in enumerate(left.items())}
    graph.add("write-plate", {key: (write, []) for key, write in writes.items()})
    graph.run(step)


def _in_threads(
    source: PlateSource, store: _Store, left: Mapping[Place, str], step: Callable[[int], None], jobs: int | None
) -> None:
    def one(place: Place) -> int:
        return store.write(_image(source, place), place.scene, left[place])

    with ThreadPoolExecutor(jobs or cpus(), thread_name_prefix="intake_img-plate") as pool:
        running = [pool.submit(one, place) for place in left]
        try:
            for future in running:
                step(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _silent(_: int) -> None:
    """Ignore progress."""


def _finish(root: File, table: PlateTable, name: str, paths: Mapping[Place, str], version: str) -> None:
    """Write the metadata of wells, rows and, last, of the plate, and remove leftovers of killed writers."""
    for path, facts in groups(table, name, paths, version).items():
        if "well" in facts:
            _sweep(root / path)
        _group(root / path if path else root, facts, version)


def _sweep(folder: File) -> None:
    for name in os.listdir(folder.path) if folder.local else ():
        if name.startswith(".~"):
            remove_tree(os.path.join(folder.path, name))


def _group(folder: File, facts: Mapping[str, Mapping[str, Any]], version: str) -> None:
    """Write the metadata of a group."""
    if version == "0.5":
        attributes = {"ome": {"version": version, **facts}} if facts else {}
        contents = {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": attributes}}
    else:
        contents = {".zattrs": dict(facts), ".zgroup": {"zarr_format": 2}}
    shared = SharedFolder(folder)
    for name, content in contents.items():
        shared.put(name, json.dumps(content, indent=2, ensure_ascii=False).encode())
