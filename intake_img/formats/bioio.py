"""Bridge to plug-ins of bioio: an installed plug-in reads files that no format of ours reads, by its extensions.

A plug-in is a module in the group of entry points ``bioio.readers``, with a class ``ReaderMetadata``; loaded when used.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Bioio", "BioioSource"]


@cache
def _plugins() -> dict[str, Any]:
    """Return the ``ReaderMetadata`` of the installed plug-ins by the extensions that they list, the longest first."""
    found: dict[str, Any] = {}
    for point in sorted(importlib.metadata.entry_points(group="bioio.readers"), key=lambda p: p.name):
        try:
            about = point.load().ReaderMetadata
            for ending in about.get_supported_extensions():
                found.setdefault(f".{ending.lower().lstrip('.')}", about)
        except Exception as exc:
            warn(f"the bioio plug-in {point.name!r} does not import: {exc}")
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


class _ReaderArray(StoredArray):
    """The pixels of one scene and level of a reader, which makes dask arrays."""

    def __init__(self, data: Any) -> None:
        self.data, self.shape, self.dtype, self.tiles = data, data.shape, data.dtype, data.chunksize

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self.data[region].compute(scheduler="synchronous")


class BioioHandle(Handle):
    """An open file. A reader is at one scene and level at a time, so that there is one for each."""

    scene_names: Sequence[str] = ()

    def __init__(self, file: File) -> None:
        if (about := next((p for e, p in _plugins().items() if file.name.lower().endswith(e)), None)) is None:
            known = ", ".join(sorted(_plugins())) or "none: pip install one, e.g. bioio-czi"
            raise FormatError(f"{file}: no installed plug-in of bioio reads its extension; plug-ins list {known}")
        self.path, self._make = file.local_path(), about.get_reader()
        self._opened: dict[tuple[int, int], Any] = {}
        self.scene_names = [str(s) for s in self._make(self.path).scenes]

    def _at(self, scene: int, level: int) -> Any:
        if (scene, level) not in self._opened:
            reader = self._make(self.path)
            reader.set_scene(scene)
            levels = list(reader.resolution_levels)
            reader.set_resolution_level(levels[check_level(level, len(levels), self.path)])
            self._opened[scene, level] = reader
        return self._opened[scene, level]

    def array(self, address: tuple[int, int]) -> StoredArray:
        return _ReaderArray(self._at(*address).xarray_dask_data.data)

    def describe(self, scene: int | str, level: int) -> Image:
        reader = self._at(int(scene), level)
        dims = [str(d) for d in reader.xarray_dask_data.dims]
        spacing = {d.lower(): float(s) for d in dims if (s := getattr(reader.scale, d, None))}
        units = {d.lower(): getattr(getattr(reader.dimension_properties, d, None), "unit", None) for d in dims}
        known = {"t": "s"} | {a: str(u) for a, u in units.items() if u is not None}
        pixels, names = self.pixels((int(scene), level)), reader.channel_names
        return Image.single(pixels, [d.lower() for d in dims], channels=names, spacing=spacing, units=known)


class Bioio(Format):
    """Image in a local file that an installed plug-in of bioio reads, and no format of this package."""

    name, title = "bioio", "plug-ins of bioio"
    bridge = has_scenes = has_levels = serial = True
    extras = {"bioio": "what the plug-ins need; install them themselves, such as bioio-czi"}

    def reads_name(self, name: str) -> bool:
        return any(name.lower().endswith(ending) for ending in _plugins())

    def open(self, file: File, options: NoOptions) -> Handle:
        return BioioHandle(file)


BioioSource = source_of(Bioio())
