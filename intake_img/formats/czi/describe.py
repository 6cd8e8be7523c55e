"""The handle of a CZI file: describes and reads its images through its index."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from intake_img.formats.arguments import check_level
from intake_img.formats.base import StoredArray
from intake_img.formats.czi.ahead import Fetched, batches
from intake_img.formats.czi.draw import draw, draw_mask, spans_of
from intake_img.formats.czi.facts import axis_facts, check_canvas, header, stacked_names
from intake_img.formats.czi.handle import CziHandle, CziLayout, about, layout_of
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.model.stacking import stacked

__all__ = ["CANVAS", "CziImages"]

CANVAS = "canvas"
"""The scene of the complete stage, with all scenes at their positions."""

_MASK = "valid_mask"


class _CziArray(StoredArray):
    """The pixels of one scene and level, or the mask of the pixels that the file holds."""

    def __init__(self, handle: CziHandle, layout: CziLayout, mask: bool) -> None:
        self.handle, self.layout, self.mask = handle, layout, mask
        mosaic, lead = layout.mosaic, layout.plane_shape
        colour = () if mask or layout.samples == 1 else (layout.samples,)
        self.shape = (*lead, mosaic.height, mosaic.width, *colour)
        self.dtype = np.dtype(bool) if mask else layout.dtype
        self.tiles = (*[1] * len(lead), *layout.tile, *colour)
        self.parallel = handle.source.file.local or self.decodes  # one call merges the requests of all planes

    @property
    def decodes(self) -> bool:  # type: ignore[override]
        return bool(self.handle.index.compression[self.layout.mosaic.blocks].any())

    def read_into(self, region: Region, out: np.ndarray) -> None:
        layout = self.layout
        if layout.merged is not None:
            region = (*region[: layout.merged], slice(0, 1), *region[layout.merged :])
            out = np.expand_dims(out, layout.merged)
        n = len(layout.mosaic.dims)
        planes: list[tuple[int, np.ndarray]] = []
        for place in itertools.product(*(range(s.start, s.stop) for s in region[:n])):
            plane = 0
            for index, size in zip(place, layout.mosaic.shape, strict=True):
                plane = plane * size + index
            planes.append((plane, out[tuple(k - s.start for k, s in zip(place, region, strict=False))]))
        with about(self.handle.source.file):
            if self.mask:
                for plane, view in planes:
                    draw_mask(self.handle, layout, plane, region[n:], view)
            else:
                self._draw(planes, region[n:])

    def _draw(self, planes: Sequence[tuple[int, np.ndarray]], region: Region) -> None:
        handle, layout = self.handle, self.layout
        if handle.source.file.local:
            for plane, view in planes:
                draw(handle, layout, plane, region, view)
            return
        spans = [spans_of(handle, layout, plane, region) for plane, _ in planes]
        for batch in batches(spans):
            fetched = Fetched(handle.source, list(dict.fromkeys(span for needed in spans[batch] for span in needed)))
            for plane, view in planes[batch]:
                draw(handle, layout, plane, region, view, fetched)


class CziImages(CziHandle):
    """An open file; arrays are called by the scene, the level, and ``"image"`` or ``"valid_mask"``."""

    @property
    def scene_names(self) -> Sequence[str]:
        if (names := stacked_names(self)) is not None:
            return names
        return [self.facts.scenes.get(s, str(s)) for s in self.index.scenes] or ["0"]

    def unasked(self, level: int) -> Image | None:
        """Return all scenes of files that were written from a stack of scenes."""
        names = stacked_names(self)
        if level or names is None:
            return None
        images = [replace(self.describe(k, 0), scene=name) for k, name in enumerate(names)]
        return replace(stacked(images).restored(self.facts.record), scene="all")

    def array(self, address: tuple[int | None, int, str]) -> _CziArray:
        scene, level, what = address
        return _CziArray(self, layout_of(self, scene, level), what == _MASK)

    def describe(self, scene: int | str, level: int) -> Image:
        file = self.source.file
        check_level(level, len(self.index.factors), file)
        scenes = self.index.scenes
        key = scenes[scene] if isinstance(scene, int) and scenes else None
        layout = layout_of(self, key, level)
        if scene == CANVAS:
            check_canvas(layout.mosaic, file, self.scene_names)
        axes = (*layout.plane_axes, "y", "x")
        variables = {"image": Variable(self.pixels((key, level, "image")), axes + layout.sample_axis)}
        if not layout.mosaic.complete:
            variables[_MASK] = Variable(self.pixels((key, level, _MASK)), axes, {"kind": "mask"})
        image = Image(variables, header=header(self), **axis_facts(self, layout, len(scenes)))
        return image.restored(self.facts.record) if level == 0 and len(scenes) < 2 else image

    def rectangles(self) -> dict[int | None, tuple[int, int, int, int]]:
        """Return where each scene lies on the stage: its number, and x, y, width and height in pixels of the file.

        A file without scenes has one entry, whose key is None.
        """
        found: list[tuple[int | None, int | None]] = list(enumerate(self.index.scenes)) or [(None, None)]
        mosaics = {number: self.mosaic(key, 0) for number, key in found}
        return {number: (m.x, m.y, m.width, m.height) for number, m in mosaics.items()}
