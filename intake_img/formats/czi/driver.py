"""Zeiss CZI: mosaics of tiles (subblocks) in scenes, planes and levels of a pyramid.

Read by our own index, so that files of any number of subblocks, local or remote, open fast and a region costs only the
tiles that it meets; written by libCZI (pylibCZIrw). Format: ZEISS, "CZI image file format", DS_ZISRAW-FileFormat.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.arguments import check_level
from intake_img.formats.czi.draw import draw, draw_mask
from intake_img.formats.czi.facts import axis_facts, check_canvas, header, stacked_names
from intake_img.formats.czi.handle import CziHandle, about, layout_of
from intake_img.formats.czi.write import WRITTEN_AXES, write_czi
from intake_img.formats.faults import translated_errors
from intake_img.formats.source import ImageSource
from intake_img.model.axes import CANONICAL
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File

__all__ = ["CziSource"]

_CANVAS = "canvas"


class CziSource(ImageSource):
    """Image in a Zeiss CZI file.

    Axes are the dimensions that the file's subblocks name, in its own order, also those of length 1: ``t c z y x``, and
    phase ``h``, view ``v``, block ``b``, rotation ``r``, illumination ``u``. Colour samples become ``c`` (R, G, B), or
    ``s`` beside several channels. Channels of different pixel types are promoted to one that holds them all, grey ones
    beside colours to equal samples. Pixels that the file lacks are 0, and then there is a second variable,
    ``valid_mask``. Where a file has several scenes, the coordinates of each start at its place on the stage, in pixels
    of the file times the spacing.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    scene : int, str or None
        Number or name of the scene; None for the first (of files that `write` made from a stack of scenes: for all of
        them), ``"all"`` to stack equal ones on ``i``, ``"canvas"`` for the whole stage with all scenes in their places.
    level : int
        Level of the pyramid.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units``, ``coords`` to add to or overrule what the file says.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "czi"
    format_name = "Zeiss CZI"
    extensions = (".czi",)
    extras = {"codecs": "JPEG, LZW and faster JPEG XR"}
    magic = ((0, b"ZISRAWFILE"),)
    special_scenes = (_CANVAS,)

    def __init__(
        self,
        uri: Any,
        *,
        scene: int | str | None = None,
        level: int = 0,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            scene=scene,
            level=level,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def open(cls, file: File) -> CziHandle:
        return CziHandle(file)

    def rectangles(self) -> dict[int | None, tuple[int, int, int, int]]:
        """Return where each scene lies on the stage: its number, and x, y, width and height in pixels of the file.

        A file without scenes has one entry, whose key is None.
        """
        with translated_errors(type(self), self.file), self._file_reader().lease() as handle:
            found: list[tuple[int | None, int | None]] = list(enumerate(handle.index.scenes)) or [(None, None)]
            mosaics = {number: handle.mosaic(key, 0) for number, key in found}
            return {number: (m.x, m.y, m.width, m.height) for number, m in mosaics.items()}

    @classmethod
    def scene_names(cls, handle: CziHandle) -> Sequence[str]:
        stacked = stacked_names(handle)
        if stacked is not None:
            return stacked
        return [handle.facts.scenes.get(s, str(s)) for s in handle.index.scenes] or ["0"]

    def _describe_scene(self, handle: CziHandle, names: list[str]) -> Image:
        if self.scene is None and self.level == 0 and stacked_names(handle) is not None:
            images = [replace(self.describe_image(handle, k, 0), scene=name) for k, name in enumerate(names)]
            whole = Image.stacked(images).restored(handle.facts.record)
            return replace(whole, scene="all", scenes=tuple(names))
        return super()._describe_scene(handle, names)

    def describe_image(self, handle: CziHandle, scene: int | str, level: int) -> Image:
        check_level(level, len(handle.index.factors), self.file)
        scenes = handle.index.scenes
        key = scenes[scene] if isinstance(scene, int) and scenes else None
        layout = layout_of(handle, key, level)
        mosaic = layout.mosaic
        if scene == _CANVAS:
            check_canvas(mosaic, self.file, self.scene_names(handle))
        shape = (*layout.plane_shape, mosaic.height, mosaic.width)
        tiles = (*[1] * len(layout.plane_shape), *layout.tile)
        axes = (*layout.plane_axes, "y", "x")
        if layout.samples > 1:
            pixels = self.pixels(
                (key, level, "image"), (*shape, layout.samples), layout.dtype, (*tiles, layout.samples)
            )
        else:
            pixels = self.pixels((key, level, "image"), shape, layout.dtype, tiles)
        variables = {"image": Variable(pixels, axes + layout.sample_axis)}
        if not mosaic.complete:
            mask = self.pixels((key, level, "valid_mask"), shape, bool, tiles)
            variables["valid_mask"] = Variable(mask, axes, {"kind": "mask"})
        image = Image(variables, header=header(handle), **axis_facts(handle, layout, len(scenes)))
        if level == 0 and len(scenes) < 2:
            return image.restored(handle.facts.record)
        return image

    @classmethod
    def read_region(
        cls, handle: CziHandle, address: tuple[int | None, int, str], region: Region, out: np.ndarray
    ) -> None:
        scene, level, what = address
        layout = layout_of(handle, scene, level)
        if layout.merged is not None:
            region = (*region[: layout.merged], slice(0, 1), *region[layout.merged :])
            out = np.expand_dims(out, layout.merged)
        n = len(layout.mosaic.dims)
        drawn = draw if what == "image" else draw_mask
        for place in itertools.product(*(range(s.start, s.stop) for s in region[:n])):
            plane = 0
            for index, size in zip(place, layout.mosaic.shape, strict=True):
                plane = plane * size + index
            view = out[tuple(k - s.start for k, s in zip(place, region, strict=False))]
            with about(handle.source.file):
                drawn(handle, layout, plane, region[n:], view)

    @classmethod
    def decodes(cls, handle: CziHandle, address: tuple[int | None, int, str]) -> bool:
        scene, level, _ = address
        return bool(handle.index.compression[handle.mosaic(scene, level).blocks].any())

    @classmethod
    def file_axes(cls, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str]:
        shape = variable.pixels.shape
        return [a for a, n in zip(variable.axes, shape, strict=True) if a in WRITTEN_AXES or n == 1]

    @classmethod
    def write(cls, image: Image, path: str, *, compress: Any = None,
              progress: Callable[[int], None] | None = None) -> None:  # fmt: skip
        """Write one variable with the axes ``t c z y x`` and ``i`` (scenes, side by side on the stage).

        Further axes are kept if they are of length 1, which libCZI does not write.

        Parameters
        ----------
        image, path, progress
            See `ImageSource.write`. Pixels are uint8, uint16, float32, or bool or float16 (stored as uint8, float32).
            Three channels named R, G, B, and an axis ``s`` of three, are stored as colour pixels (integers only).
        compress : bool or str, optional
            None and False store plain pixels; True, ``"zstd1"`` and ``"zstd0"`` compress them without loss; or options
            that libCZI understands, e.g. ``"zstd1:ExplicitLevel=3"``.
        """
        write_czi(image, path, compress, progress)

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        from pylibCZIrw import czi

        path = os.path.join(folder, "sample.czi")
        values = np.arange(2 * 2 * 3 * 12 * 20, dtype="u2").reshape(2, 2, 3, 12, 20)
        with czi.create_czi(path, compression_options="zstd1:ExplicitLevel=1") as document:
            for t, c, z in np.ndindex(2, 2, 3):
                for x in (0, 10):  # two tiles to a plane
                    tile = np.ascontiguousarray(values[t, c, z, :, x : x + 10])
                    document.write(tile, location=(x, 0), plane={"T": t, "C": c, "Z": z})
            document.write_metadata(channel_names={0: "DAPI", 1: "GFP"}, scale_x=2.5e-7, scale_y=2.5e-7, scale_z=1.5e-6)
        coords = {
            a: xr.Variable(a, step * np.arange(n), {"units": "µm", "spacing": step})
            for a, n, step in (("z", 3, 1.5), ("y", 12, 0.25), ("x", 20, 0.25))
        }
        return path, xr.Dataset({"image": (("t", "c", "z", "y", "x"), values)}, {**coords, "c": ["DAPI", "GFP"]})


# what the file says of its axes


# pixels
