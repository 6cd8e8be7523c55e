"""Olympus cellSens VSI, through slideio: a file of metadata, and a folder of ``.ets`` files that contain the pixels.

The VSI itself is a TIFF that shows a small overview or the label of the slide; this is never taken for the image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.vsi.ets import check_ets, find_ets, folder_of
from intake_img.formats.vsi.levels import SceneLevel
from intake_img.formats.vsi.tree_guard import check_tree
from intake_img.model.image import Coordinate, Image
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["Vsi", "VsiSource"]


class _VsiHandle(Handle):
    """An open file; an array is called by its scene and level."""

    def __init__(self, file: File) -> None:
        slideio = imported("slideio", "vsi", "reading Olympus VSI")
        if not file.local:
            raise FormatError(f"{file}: a VSI is read from local files only: download it with the folder beside it")
        file.check()
        check_tree(file)
        for part in find_ets(file):
            part.check()
            check_ets(part)
        self.file = file
        self.slide = slideio.open_slide(file.path, "VSI")
        self.scenes = [self.slide.get_scene(k) for k in range(self.slide.num_scenes)]
        if not self.scenes:
            raise FormatError(f"{file} contains no image that slideio reads: export it from cellSens as OME-TIFF")

    @property
    def scene_names(self) -> Sequence[str]:
        return [scene.name or str(k) for k, scene in enumerate(self.scenes)]

    def array(self, address: tuple[int, int]) -> StoredArray:
        scene, level = address
        return SceneLevel(self.scenes[scene], level)

    def describe(self, scene: int | str, level: int) -> Image:
        assert isinstance(scene, int)
        found = self.scenes[scene]
        check_level(level, found.num_zoom_levels, self.file)
        names = _channels(found)
        pixels = self.pixels((scene, level))
        kept = [k for k, n in enumerate(pixels.shape) if n > 1 or k > 2 or (k == 1 and names)]
        axes = tuple("tczyx"[k] for k in kept)
        factor = found.get_zoom_level_info(level).scale or 1
        x, y = (1e6 * step / factor for step in found.resolution)
        spacing = {"z": 1e6 * found.z_resolution, "y": y, "x": x}
        coords = {}
        if "t" in axes and found.has_plane_timestamps:
            times = np.array([found.get_plane_timestamp(k, 0, 0) for k in range(found.num_t_frames)])
            coords["t"] = Coordinate(("t",), times - times[0], {"units": "s"})
        spacing = {a: float(f"{v:.12g}") for a, v in spacing.items() if a in axes}
        units = dict.fromkeys(spacing, "µm")
        header = {"magnification": found.magnification, "compression": found.compression.name, "name": found.name}
        return Image.single(
            pixels.reshape(kept), axes, channels=names, spacing=spacing, units=units, coords=coords, header=header
        )

    def close(self) -> None:
        for scene in self.scenes:
            scene.close()
        self.slide.close()


def _channels(scene: Any) -> list[str] | None:
    """Return the names of the channels; R, G, B for colours; None where there is nothing to say."""
    names = [scene.get_channel_name(k) for k in range(scene.num_channels)]
    if len(names) == 3 and not any(names):
        return ["R", "G", "B"]
    return names if len(set(names)) == len(names) and all(names) else None


class Vsi(Format):
    """Image of Olympus cellSens: a ``.vsi`` file and the folder ``_<name>_`` beside it. Local files only.

    Each image of the document is a scene. The overview in the ``.vsi`` itself, and labels, are not scenes.
    """

    name = "vsi"
    title = "Olympus cellSens VSI"
    extensions = (".vsi",)
    starts = (b"II*\0", b"MM\0*")
    extras = {"vsi": "reading"}
    has_scenes = True
    has_levels = True
    serial = True

    def claims(self, probe: Probe) -> int:
        """Claim TIFF files by their name, and by the header that cellSens puts behind that of TIFF.

        Cameras of Olympus put that header into TIFF files, too: where these are named as such, the folder decides.
        """
        name = probe.name.lower()
        if probe.folder or probe.head[:4] not in (b"II*\0", b"MM\0*"):
            return 0
        marked = probe.head[8:12] == b"\x18\0\x49\x53"
        if marked and name.endswith((".tif", ".tiff")):
            return 2 * os.path.isdir(folder_of(probe.file).path)
        return 2 * (marked or name.endswith(".vsi"))

    def open(self, file: File, options: NoOptions) -> Handle:
        return _VsiHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from intake_img.formats.vsi.sample import write_sample

        return write_sample(folder)


VsiSource = source_of(Vsi())
