"""The handle of a picture, animation or video."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np

from intake_img.formats.base import Handle, PlaneArray, StoredArray
from intake_img.formats.imageio.containers import ContainerFacts
from intake_img.formats.imageio.frames import Film, Frames, Plain
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image
from intake_img.storage.files import File
from intake_img.storage.raw import read_raw

__all__ = ["PictureHandle"]

_MICROSCOPE = 10.0  # µm; coarser pixels come from screens, printers and scanners


class _Decoded(PlaneArray):
    """Frames that are decoded completely."""

    parallel = False

    def __init__(self, picture: Frames | Film) -> None:
        super().__init__(picture.shape, picture.dtype, len(picture.shape) - (picture.facts.frames > 1))
        self.picture = picture

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        return self.picture.frame(*(index or (0,)))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        with self.picture.lock:  # frames of a region follow each other, whoever else is reading
            super().read_into(region, out)


class _Netpbm(StoredArray):
    """Images whose samples lie in the file as they are."""

    def __init__(self, picture: Plain) -> None:
        self.picture = picture
        self.shape, self.dtype = tuple(picture.shape), picture.dtype
        self.tiles = (1, *self.shape[1:])

    def read_into(self, region: Region, out: np.ndarray) -> None:
        raws = self.picture.raws
        several = len(raws) > 1
        for raw, place in zip(raws[region[0]] if several else raws, out if several else [out], strict=True):
            inner = region[-len(raw.shape) :]
            read_raw(self.picture.source, raw.offset, np.dtype(raw.dtype), raw.shape, inner, place)


class PictureHandle(Handle):
    """An open picture, animation or video."""

    def __init__(self, picture: Frames | Film | Plain) -> None:
        self.picture = picture

    def array(self, address: None) -> StoredArray:
        return _Netpbm(self.picture) if isinstance(self.picture, Plain) else _Decoded(self.picture)

    def describe(self, scene: int | str, level: int) -> Image:
        picture, facts = self.picture, self.picture.facts
        stack = isinstance(picture, Plain) and len(picture.raws) > 1
        axes = ("t",) * (facts.frames > 1) + ("i",) * stack + ("y", "x") + ("c",) * bool(picture.bands)
        pitch = _pitch(picture)
        spacing = {"y": pitch[0], "x": pitch[1]} if pitch else {}
        units = dict.fromkeys(spacing, "µm")
        coords = {}
        if facts.frames > 1 and (times := _times(facts)) is not None:
            units["t"] = "s"
            if (step := _even(times)) is not None:
                spacing["t"] = step
            else:
                coords["t"] = Coordinate(("t",), times, {"units": "s"})
        image = Image.single(
            self.pixels(),
            axes,
            channels=picture.bands or None,
            variable_attrs=picture.attrs,
            spacing=spacing,
            units=units,
            coords=coords,
            header=picture.header,
        )
        return image.restored(facts.record)

    def reuse_for(self, file: File) -> PictureHandle | None:
        found = self.picture.reuse_for(file) if isinstance(self.picture, Frames) else None
        return None if found is None else PictureHandle(found)

    def close(self) -> None:
        self.picture.close()


def _pitch(handle: Any) -> tuple[float, float] | None:
    pitch = handle.facts.pitch
    if pitch is None and handle.header.get("format") in ("JPEG", "BMP") and "dpi" in handle.header:
        with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
            x, y = (25400 / float(v) for v in handle.header["dpi"])
            pitch = (y, x)
    return pitch if pitch and all(0 < p < _MICROSCOPE for p in pitch) else None


def _times(facts: ContainerFacts) -> np.ndarray | None:
    """When each frame is shown, in seconds; None where the file does not say so for every one."""
    steps = facts.durations[: facts.frames - 1]
    if len(steps) < facts.frames - 1 or not all(step > 0 for step in steps):
        return None
    return np.asarray([0.0, *itertools.accumulate(steps)]) / 1000


def _even(times: np.ndarray) -> float | None:
    step = float(times[-1] - times[0]) / (len(times) - 1)
    even = np.abs(np.diff(times) - step).max() <= 1e-9 * max(1.0, float(times[-1]))
    return float(f"{step:.12g}") if even else None
