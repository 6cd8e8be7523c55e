"""An open volume, or a folder of volumes: description, and reading of chunks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from intake_img.errors import FormatError, SourceChangedError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Handle
from intake_img.formats.chunked import ChunkedArray, Place, digest_of, file_json
from intake_img.formats.precomputed.codecs import decoded
from intake_img.formats.precomputed.info import Scale, VolumeInfo, is_info
from intake_img.formats.precomputed.shards import Shards, UnshardedChunks
from intake_img.model.image import Image
from intake_img.model.record import unsealed_record
from intake_img.storage.files import File

__all__ = ["INFO", "RECORD", "PrecomputedHandle", "volumes_in"]

INFO = "info"
"""Name of the metadata file of a volume."""
RECORD = "intake_img"
"""The key of the info file that contains the record."""
_MOST_ENTRIES = 64
_BESIDE = (".json", ".md", ".txt", "provenance")


class ScaleArray(ChunkedArray):
    """The array of a scale, in the order c, z, y, x."""

    def __init__(self, folder: File, volume: VolumeInfo, scale: Scale) -> None:
        self.scale, self.channels = scale, volume.channels
        place = folder
        for part in scale.key.split("/"):
            place = place / part
        super().__init__(
            place, (volume.channels, *scale.size[::-1]), volume.dtype, (volume.channels, *scale.chunk[::-1])
        )
        sharding = scale.about.get("sharding")
        if sharding is None:
            self.chunks: UnshardedChunks | Shards = UnshardedChunks(place, scale.size, scale.chunk, scale.offset)
        else:
            grid = [-(-n // m) for n, m in zip(scale.size, scale.chunk, strict=True)]
            self.chunks = Shards(place, grid, sharding)

    def present(self, spans: Sequence[range]) -> list[Place]:
        return [(0, *place[::-1]) for place in self.chunks.present(list(product(*spans[:0:-1])))]

    def read_chunk(self, place: Place) -> np.ndarray | None:
        data = self.chunks.read(place[:0:-1])
        return None if data is None else decoded(data, self.scale.about, self.dtype, self.extent(place))


class PrecomputedHandle(Handle):
    """An open volume; the info is read once, until an image is described again."""

    def __init__(self, file: File) -> None:
        self.file = file
        self._infos: dict[str, dict[str, Any]] = {}
        self._arrays: dict[tuple[str, int, str], ScaleArray] = {}
        self._described = False
        if file.local and not os.path.isdir(file.path):
            raise FormatError(f"{file} is a file, but a precomputed volume is a folder: give the folder of its info")
        self.names = [""] if is_info(file_json(file / INFO)) else volumes_in(file)
        if not self.names:
            raise FormatError(f"{file} contains no info of a precomputed volume with data_type and scales")

    @property
    def scene_names(self) -> Sequence[str]:
        return [name or "0" for name in self.names]

    def renew(self) -> None:
        if self._described:
            self._infos.clear()
        self._described = True

    def info(self, name: str) -> dict[str, Any]:
        """Return the info of a volume."""
        if name not in self._infos:
            found = file_json((self.file / name if name else self.file) / INFO)
            if found is None or not is_info(found):
                raise FormatError(f"{self.file}: the info of volume {name!r} is missing or has no scales")
            self._infos[name] = found
        return self._infos[name]

    def describe(self, scene: int | str, level: int) -> Image:
        name = self.names[int(scene)]
        info = self.info(name)
        volume = VolumeInfo.of(info)
        check_level(level, len(volume.scales), self.file)
        scale = volume.scales[level]
        known = {a: s for a, s in zip("xyz", scale.resolution, strict=True) if s}
        places = {a: o * known[a] for a, o in zip("xyz", scale.offset, strict=True) if a in known}
        image = Image.single(
            self.pixels((name, level, digest_of(info))),
            "czyx",
            spacing=known,
            units=dict.fromkeys(known, "nm"),
            origin=places,
            variable_attrs={"kind": "labels"} if volume.labels else {},
            header={k: v for k, v in info.items() if k != RECORD},
        )
        return image if level else image.restored(unsealed_record(info.get(RECORD), *volume.sealed_facts()))

    def array(self, address: tuple[str, int, str]) -> ScaleArray:
        if address not in self._arrays:
            name, level, digest = address
            if digest_of(info := self.info(name)) != digest:
                raise SourceChangedError(f"{self.file}: the info was changed since it was opened: load it again")
            volume = VolumeInfo.of(info)
            folder = self.file / name if name else self.file
            self._arrays[address] = ScaleArray(folder, volume, volume.scales[level])
        return self._arrays[address]

    def close(self) -> None:
        for array in self._arrays.values():
            array.chunks.close()


def volumes_in(folder: File) -> list[str]:
    """Return the names of the volumes in a local folder that contains volumes and nothing else; else none."""
    if not folder.local:
        return []
    folder.check()
    found = []
    with os.scandir(folder.path) as entries:
        for n, entry in enumerate(e for e in entries if not e.name.startswith(".")):
            if n == _MOST_ENTRIES or not (entry.is_dir() or entry.name.endswith(_BESIDE)):
                return []
            found.append(entry.name)
    return sorted(name for name in found if _holds_volume(folder / name))


def _holds_volume(folder: File) -> bool:
    try:
        return is_info(file_json(folder / INFO))
    except (FormatError, OSError):
        return False
