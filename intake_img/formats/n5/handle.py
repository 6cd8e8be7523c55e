"""An open N5 container and its images. `n5blocks` reads blocks, `metadata` parses attributes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intake_img.errors import FormatError, SourceChangedError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Handle
from intake_img.formats.chunked import digest_of, file_json
from intake_img.formats.n5.metadata import channel_names, facts_of, is_labels, level_paths
from intake_img.formats.n5blocks import ATTRIBUTES, N5Dataset, folders_in, is_dataset
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["N5Handle"]

_DEPTH, _MOST_GROUPS, _MOST_LEVELS = 6, 2000, 64


@dataclass(frozen=True)
class N5Image:
    """An image in a container: the group of its levels, or a dataset by itself, and the paths of the levels in it."""

    path: str
    levels: tuple[str, ...]


class N5Handle(Handle):
    """An open container; attributes are read once, until an image is described again."""

    def __init__(self, file: File) -> None:
        self.file = file
        self._attributes: dict[str, dict[str, Any] | None] = {}
        self._scenes: list[N5Image] | None = None
        self._arrays: dict[tuple[str, str], N5Dataset] = {}
        if file.local and not os.path.isdir(file.path):
            raise FormatError(f"{file} is a file, but N5 is a folder: give the folder of its attributes.json")

    def renew(self) -> None:
        if self._scenes is not None:
            self._attributes.clear()
            self._arrays.clear()
            self._scenes = None

    @property
    def scene_names(self) -> Sequence[str]:
        return [s.path or "0" for s in self.scenes()]

    def scenes(self) -> list[N5Image]:
        """Return the images in the container, each named by its path."""
        if self._scenes is None:
            found = list(self._found("", 0))
            if not found:
                raise FormatError(f"{self.file} contains no N5 dataset, down to {_DEPTH} folders below it")
            self._scenes = found
        return self._scenes

    def _found(self, path: str, depth: int) -> Iterator[N5Image]:
        attributes = self.attributes(path)
        if attributes is not None and is_dataset(attributes):
            yield N5Image(path, ("",))
        elif levels := self._levels(path, attributes or {}):
            yield N5Image(path, tuple(levels))
        elif depth < _DEPTH and len(self._attributes) < _MOST_GROUPS:
            for name in folders_in(self._at(path)):
                yield from self._found(f"{path}/{name}".lstrip("/"), depth + 1)

    def _levels(self, path: str, attributes: Mapping[str, Any]) -> list[str]:
        """Return the paths of the levels that are there."""
        wanted = level_paths(attributes) or [f"s{k}" for k in range(_MOST_LEVELS)]
        found = []
        for level in wanted[:_MOST_LEVELS]:
            if not is_dataset(self.attributes(f"{path}/{level}".lstrip("/")) or {}):
                break
            found.append(level)
        return found

    def describe(self, scene: int | str, level: int) -> Image:
        entry = self.scenes()[int(scene)]
        check_level(level, len(entry.levels), self.file)
        inner = entry.levels[level]
        place = "/".join(filter(None, (entry.path, inner)))
        group = self.attributes(entry.path) or {} if inner else {}
        own = self.attributes(place) or {}
        pixels = self.pixels((place, digest_of(own)))
        facts = facts_of(group, own, inner, pixels.ndim)
        labels = pixels.dtype.kind in "iu" and is_labels(group, own, self.attributes(_parent(entry.path)) or {})
        return Image.single(
            pixels,
            list(facts.axes),
            spacing=facts.spacing,
            units=facts.units,
            origin=facts.origin,
            channels=channel_names({**group, **own}, facts.axes, pixels.shape),
            variable_attrs={"kind": "labels"} if labels else {},
            header={"path": entry.path, "attributes": group, "dataset": own},
        )

    def array(self, address: tuple[str, str]) -> N5Dataset:
        if address not in self._arrays:
            path, digest = address
            attributes = self.attributes(path)
            if attributes is None or digest_of(attributes) != digest:
                raise SourceChangedError(f"{self.file}: the dataset {path!r} was changed since it was opened")
            self._arrays[address] = N5Dataset(self._at(path), attributes)
        return self._arrays[address]

    def attributes(self, path: str) -> dict[str, Any] | None:
        """Return the attributes of a group or dataset; None if there are none."""
        if path not in self._attributes:
            self._attributes[path] = file_json(self._at(path) / ATTRIBUTES)
        return self._attributes[path]

    def _at(self, path: str) -> File:
        file = self.file
        for part in filter(None, path.split("/")):
            file = file / part
        return file


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
