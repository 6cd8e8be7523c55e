"""Neuroglancer's precomputed volumes: the format. `info` parses their metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.chunked import file_json, folder_stamp
from intake_img.formats.format_source import source_of
from intake_img.formats.precomputed.handle import INFO, PrecomputedHandle, volumes_in
from intake_img.formats.precomputed.info import is_info
from intake_img.formats.precomputed.write import WRITTEN_AXES, WrittenBlock, begin_volume
from intake_img.formats.probe import Probe
from intake_img.model.engine import Tasks
from intake_img.model.image import Image
from intake_img.model.variables import Variable
from intake_img.storage.files import File

__all__ = ["Precomputed", "PrecomputedSource"]


class Precomputed(Format):
    """Image or labels in a precomputed volume of Neuroglancer: the folder or URL of its ``info``.

    A local folder that contains nothing but volumes is one image, whose scenes they are.
    """

    name = "precomputed"
    title = "Neuroglancer precomputed"
    extensions = (".precomputed",)
    starts = ()
    folder = True
    has_scenes = True
    has_levels = True
    extras = {"codecs": "chunks in JPEG XL, and in PNG of 16 bits and several channels"}

    def claims(self, probe: Probe) -> int:
        if not probe.folder:
            return 0
        try:
            return int(is_info(file_json(probe.file / INFO)) or bool(volumes_in(probe.file)))
        except (FormatError, OSError):
            return 0

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when the folder is replaced, or its info is written again."""
        return folder_stamp(file, INFO)

    def open(self, file: File, options: NoOptions) -> Handle:
        return PrecomputedHandle(file)

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str]:
        shape = variable.pixels.shape
        return [a for a, n in zip(variable.axes, shape, strict=True) if a in WRITTEN_AXES or n == 1]

    def write(
        self,
        image: Image,
        path: str | File,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        chunks: Any = None,
        levels: Sequence[Image] = (),
    ) -> None:
        """Write a volume: one variable with the axes ``c z y x``, chunks in files of their own.

        Lengths are written in nm. A spacing that is unknown, or no length, is written as 1 nm, and an origin that is no
        integer number of voxels as 0, because the format supports no others; this package reads the true ones back.

        Parameters
        ----------
        image, path, progress
            See `Format.write`. Pixels are integers of 8 to 32 bits, uint64 or float32; bool and float16 are stored as
            uint8 and float32. Variables with ``attrs["kind"] == "labels"`` become segmentations.
        compress : bool or str, optional
            None for raw chunks, and for labels (uint32, uint64) ``"compressed_segmentation"``; False for raw; True for
            the lossless encoding that fits; ``"png"`` (uint8, or uint16 of one channel), ``"jpeg"`` (uint8 of one or
            three channels, with loss), ``"compressed_segmentation"``.
        chunks : int or mapping, optional
            Length of the chunks, for all axes or by name; by default 128 x 128 x 16, or 512 x 512 of a single plane.
        levels : sequence of Image
            The further levels, from the nodes of a DataTree.

        Raises
        ------
        CannotWriteError
            For other axes and dtypes, and encodings that do not fit.
        """
        _, finish = begin_volume(image, levels, File.parse(path), compress, chunks, progress, in_tasks=False)
        finish([])

    def write_in_tasks(
        self, image: Image, path: str | File, *, progress: Callable[[int], None] | None = None, **options: Any
    ) -> tuple[Tasks, Callable[[Sequence[WrittenBlock]], None]]:
        """Return the tasks that write the chunks into an empty folder, and what completes it with the info.

        Parameters
        ----------
        image, path, progress, options
            See `write`. Levels that are in memory are written now.

        Returns
        -------
        tasks : Tasks
            Each returns a `WrittenBlock`.
        finish : callable
        """
        settings = {"levels": (), "compress": None, "chunks": None, **options}
        return begin_volume(image, folder=File.parse(path), progress=progress, in_tasks=True, **settings)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        pixels = np.arange(2 * 3 * 5 * 7, dtype="<u2").reshape(2, 3, 5, 7)
        path = os.path.join(folder, "sample.precomputed")
        scale = {"key": "8_8_30", "size": [7, 5, 3], "resolution": [8, 8, 30], "voxel_offset": [10, 0, -1]}
        scale |= {"chunk_sizes": [[4, 5, 3]], "encoding": "raw"}
        info = {"type": "image", "data_type": "uint16", "num_channels": 2, "scales": [scale]}
        os.makedirs(f"{path}/8_8_30")
        with open(f"{path}/{INFO}", "w", encoding="utf-8") as stream:
            json.dump(info, stream)
        for start, stop in ((0, 4), (4, 7)):
            with open(f"{path}/8_8_30/{10 + start}-{10 + stop}_0-5_-1-2", "wb") as chunk:
                chunk.write(pixels[..., start:stop].tobytes())
        coords = {}
        for axis, step, first, n in (("z", 30.0, -1, 3), ("y", 8.0, 0, 5), ("x", 8.0, 10, 7)):
            coords[axis] = (axis, first * step + step * np.arange(n), {"units": "nm", "spacing": step})
        return path, xr.Dataset({"image": (tuple("czyx"), pixels.astype("u2"))}, coords=coords)


PrecomputedSource = source_of(Precomputed())
