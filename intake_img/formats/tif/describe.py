"""The handle of a TIFF file: describes and reads its images through its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.arguments import check_level
from intake_img.formats.base import StoredArray
from intake_img.formats.palettes import Expanded, colours_of
from intake_img.formats.tif.calibration import calibrated
from intake_img.formats.tif.encoding import MINISWHITE
from intake_img.formats.tif.file import TiffHandle, TiffScene
from intake_img.formats.tif.index import SegmentLayout
from intake_img.formats.tif.levels import factors
from intake_img.formats.tif.read import read_layout
from intake_img.model.axes import RGB
from intake_img.model.chunks import Region
from intake_img.model.datasets import spacing_of
from intake_img.model.image import Coordinate, Image
from intake_img.model.wells import Place
from intake_img.storage.files import ByteReader
from intake_img.storage.raw import map_raw

__all__ = ["TiffImages"]


class _TiffArray(StoredArray):
    """One level of one image."""

    def __init__(self, source: ByteReader, layout: SegmentLayout) -> None:
        self.source, self.layout = source, layout
        self.shape, self.dtype, self.tiles = tuple(layout.shape), layout.dtype, tuple(layout.tiles)
        self.decodes = layout.raw is None

    def read_into(self, region: Region, out: np.ndarray) -> None:
        read_layout(self.source, self.layout, region, out)

    def mapped(self) -> np.ndarray | None:
        layout = self.layout
        if layout.offset is None or layout.raw is None:
            return None
        return map_raw(self.source, layout.offset, layout.raw, layout.shape)


class TiffImages(TiffHandle):
    """An open file; arrays are called by the number of the image and the level."""

    @property
    def scene_names(self) -> Sequence[str]:
        return [scene.name for scene in self.scenes]

    @property
    def places(self) -> Sequence[Place]:
        found = [scene.place for scene in self.scenes]
        return [place for place in found if place] if all(found) else ()

    def array(self, address: tuple[int, int]) -> StoredArray:
        number, level = address
        found = _TiffArray(self.source, self.scenes[number].levels[level])
        colours = self._expanded(self.scenes[number])
        return found if colours is None else Expanded(found, colours)

    def _expanded(self, scene: TiffScene) -> np.ndarray | None:
        """Return the colours in which the values of an image are wanted, if they are."""
        return colours_of(scene.attrs) if self.rgb and "c" not in scene.axes else None

    def describe(self, scene: int | str, level: int) -> Image:
        number = int(scene)
        found = self.scenes[number]
        check_level(level, len(found.levels), self.source.file)
        native = self._native(found, number, 0)
        image = native if found.record is None else native.restored(found.record)
        if level == 0:
            return image
        small, shapes = self._native(found, number, level), [la.shape for la in found.levels]
        ratios = dict(zip(found.axes, factors(found.axes, shapes)[level], strict=True))
        if image is native:
            return replace(small, spacing={a: v * ratios[a] for a, v in small.spacing.items()})
        return _restored_level(small, image, found.record, shapes[0], ratios)

    def _native(self, scene: TiffScene, number: int, level: int) -> Image:
        layout, facts = scene.levels[level], scene.facts
        pixels = self.pixels((number, level))
        if self.scaled and "imagej" in scene.header:
            pixels = calibrated(pixels, scene.header["imagej"], str(self.source.file))
        known = set(scene.axes)
        every = {**facts.coords, **({"t": facts.times} if facts.times is not None else {})}
        coords = {a: c for a, c in every.items() if _fits(c, scene.axes, layout.shape)}
        names = facts.channels
        if names is not None and ("c" not in known or len(names) != layout.shape[scene.axes.index("c")]):
            names = None
        attrs = dict(facts.channel_attrs) if names is not None else {}
        inverted = scene.header["tags"].get("Photometric") == "MINISWHITE"
        together = {"set": sorted({file.name for file in layout.files})} if layout.files else {}
        axes, about = scene.axes, {**scene.attrs, **({"photometric": MINISWHITE} if inverted else {})}
        if (colours := self._expanded(scene)) is not None:
            axes, names, about = (*axes, "c"), RGB[: colours.shape[1]], {}
        return Image.single(
            pixels,
            axes,
            channels=names,
            channel_attrs=attrs,
            variable_attrs=about,
            spacing={a: v for a, v in facts.spacing.items() if a in known},
            units={a: u for a, u in facts.units.items() if a in known},
            origin={a: o for a, o in facts.origin.items() if a in known},
            coords=coords,
            header={**scene.header, **together},
        )


def _fits(coord: Coordinate, axes: Sequence[str], shape: Sequence[int]) -> bool:
    return all(a in axes and shape[axes.index(a)] == n for a, n in zip(coord.axes, coord.values.shape, strict=True))


def _restored_level(
    native: Image, image: Image, record: Mapping[str, Any], full: Sequence[int], ratios: Mapping[str, float]
) -> Image:
    """Return a level with what the record says of full resolution, its coordinates made coarser.

    Parameters
    ----------
    native : Image
        The level as the file describes it.
    image : Image
        Full resolution, restored from the record.
    full : sequence of int
        Shape in which full resolution is stored.
    ratios : mapping
        By how much the level is smaller along each axis of the file.
    """
    name, facts = next(iter(record["variables"].items()))
    small = iter([n for n, whole in zip(native.only.pixels.shape, full, strict=True) if whole != 1])
    shape = [next(small) if n != 1 else 1 for n in facts["shape"]]
    sizes = dict(zip(facts["axes"], shape, strict=True))
    whole = image.sizes
    changed = {a: ratios.get(a, whole[a] / n) for a, n in sizes.items() if whole[a] != n or ratios.get(a, 1) != 1}
    coords = {k: c for k, c in record["coords"].items() if not changed.keys() & {k, *c["axes"]}}
    level = native.restored({**record, "variables": {name: {**facts, "shape": shape}}, "coords": coords})
    spacing, units, origin = {}, {}, {}
    for axis, ratio in changed.items():
        coord = image.coords.get(axis)
        if coord is None or coord.axes != (axis,):
            continue
        step = spacing_of(xr.DataArray(coord.values, dims=axis, name=axis, attrs=dict(coord.attrs)))
        if step is None:
            continue
        spacing[axis], origin[axis] = step * ratio, float(coord.values[0])
        if "units" in coord.attrs:
            units[axis] = coord.attrs["units"]
    return replace(level, spacing=spacing, units=units, origin=origin)
