"""The images of an HDF5 file: its arrays, or the labels of a project of ilastik."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from intake_img.errors import FormatError
from intake_img.formats.base import StoredArray
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.file import item_at
from intake_img.formats.h5.handle import H5Handle
from intake_img.formats.h5.tree import attributes_of, image_paths
from intake_img.formats.hdf5.describe import axis_facts, is_labels, palette_of
from intake_img.formats.hdf5.ilastik import Labels, label_sets, links_of
from intake_img.formats.hdf5.record import lines_of, read_record, sealed_facts, variable_name
from intake_img.formats.palettes import palette_attrs
from intake_img.model.image import Image
from intake_img.model.record import unsealed_record

__all__ = ["Hdf5Handle"]


class Hdf5Handle(H5Handle):
    """An open HDF5 file; an address is the path of an array, or of a set of labels."""

    def look(self) -> None:
        self.paths, self.header, self.labels = self.h5.run(_contents)
        self.record = self.h5.run(read_record)
        lines = self.h5.run(lambda f: lines_of(f, self.record or {}))
        self.recorded = [p for p in self.paths if self.record and variable_name(p) in self.record["variables"]] + lines
        self.scenes = self.recorded[:1] + [p for p in self.paths if p not in self.recorded]
        if not self.scenes:
            raise FormatError(f"{self.h5.file}: {self._empty()}")

    def _empty(self) -> str:
        if links := self.header.get("raw data"):
            lane, path = next(iter(links.items()))
            return f"this project of ilastik has no labels, and its raw data are elsewhere ({lane}: {path}): open those"
        reasons = [f"{path or '/'} is {reason}" for path, reason in self.header.get("skipped", {}).items()]
        return "it contains no array of numbers with at least two axes" + "".join(f"; {r}" for r in reasons[:3])

    @property
    def scene_names(self) -> Sequence[str]:
        return self.scenes

    def array(self, address: str) -> StoredArray:
        return Labels(self, self.labels[address]) if address in self.labels else self.stored(address)

    def describe(self, scene: int | str, level: int) -> Image:
        path = self.scenes[int(scene)]
        if path in self.labels:
            return self._labels(path)
        image = self._image(path)
        if path not in self.recorded:
            return image
        images = {variable_name(p): image if p == path else self._image(p) for p in self.recorded}
        written = self.record["variables"] if self.record else ()
        facts = [sealed_facts(images[name].header["attributes"]) for name in written if name in images]
        variables = {name: found.only for name, found in images.items()}
        return replace(image, variables=variables).restored(unsealed_record(self.record, *facts))

    def _image(self, path: str) -> Image:
        name = os.path.splitext(self.h5.file.name)[0]
        facts, attrs, header = self.h5.run(lambda f: _facts(f, path, name))
        return Image.single(
            self.pixels(path), facts.axes, variable_attrs=attrs, header={**self.header, **header}, **facts.facts
        )

    def _labels(self, path: str) -> Image:
        labels = self.labels[path]
        attrs = {"kind": "labels", "label_names": list(labels.names)} if labels.names else {"kind": "labels"}
        return Image.single(
            self.pixels(path), labels.facts.axes, variable_attrs=attrs, header=self.header, **labels.facts.facts
        )


def _contents(f: Any) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Paths of the images, what the file says of itself, and the labels by path."""
    header: dict[str, Any] = {"file": attributes_of(f)}
    if "ilastikVersion" in f:
        labels = label_sets(f)
        stored = [p for p in image_paths(f)[0] if p.startswith("Input Data/local_data/")]
        return [*labels, *stored], {**header, "raw data": links_of(f)}, labels
    paths, skipped = image_paths(f)
    return paths, {**header, "skipped": skipped} if skipped else header, {}


def _facts(f: Any, path: str, name: str) -> tuple[AxisFacts, dict[str, Any], dict[str, Any]]:
    """Axes, attributes and header of a dataset in a file called `name`."""
    dataset = item_at(f, path)
    attrs: dict[str, Any] = {"kind": "labels"} if is_labels(dataset, name) else {}
    attrs |= palette_attrs(palette_of(f, dataset))
    header = {"path": path, "attributes": attributes_of(dataset)}
    if dataset.compression:
        header["compression"] = dataset.compression
    return axis_facts(f, dataset), attrs, header
