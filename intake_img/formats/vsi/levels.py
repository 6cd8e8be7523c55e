"""Levels of a scene of a VSI, read through slideio."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from intake_img.formats.base import StoredArray
from intake_img.model.chunks import Region

__all__ = ["SceneLevel"]


class SceneLevel(StoredArray):
    """One level of a scene, in the order t, c, z, y, x."""

    parallel = False

    def __init__(self, scene: Any, level: int) -> None:
        self.scene, self.level = scene, level
        about = scene.get_zoom_level_info(level)
        width, height = about.size.width, about.size.height
        kinds = {np.dtype(scene.get_channel_data_type(k)) for k in range(scene.num_channels)}
        self.shape = (scene.num_t_frames, scene.num_channels, scene.num_z_slices, height, width)
        self.dtype = np.result_type(*kinds)
        tile = about.tile_size
        self.tiles = (1, 1, 1, min(tile.height or height, height), min(tile.width or width, width))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        *outer, y, x = region
        rectangle = (x.start, y.start, x.stop - x.start, y.stop - y.start)
        # a call for each plane: slideio takes three times as long for several together
        for frame, channel, section in product(*(range(s.start, s.stop) for s in outer)):
            block = self.scene.read_block_from_level(
                self.level,
                rectangle,
                channel_indices=[channel],
                slices=(section, section + 1),
                frames=(frame, frame + 1),
            )
            place = tuple(k - s.start for k, s in zip((frame, channel, section), outer, strict=True))
            out[place] = block.reshape(out.shape[3:])
