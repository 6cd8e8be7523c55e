"""The picture of a view in a notebook, drawn in the kernel from the state of the front end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.portal.levels import ratio
from intake_img.portal.picture import Light, added, overlaid, plane
from intake_img.portal.virtual_store import ImageStore, ServedArray

__all__ = ["Camera", "drawn"]

_COARSE = 1.42  # largest size of a sample in screen pixels before the next finer level is used, as in the viewer
_GROUND = np.array([22, 22, 24], np.uint8)  # around the image


@dataclass(frozen=True)
class Camera:
    """The camera: the centre in image pixels, and the screen pixels per image pixel."""

    y: float
    x: float
    ky: float
    kx: float
    height: int
    width: int

    @classmethod
    def from_state(cls, camera: Mapping[str, float], screen: Mapping[str, float], aspect: float) -> Camera:
        """Return the camera of the viewer, in the pixels of its canvas."""
        of = screen["ratio"]
        size = [max(1, round(screen[side] * of)) for side in "hw"]
        return cls(camera["y"], camera["x"], camera["k"] * aspect * of, camera["k"] * of, *size)

    @classmethod
    def whole(cls, rows: int, columns: int, aspect: float, side: int = 640) -> Camera:
        """Return the camera that shows an image without a margin, its longer side `side` pixels long."""
        k = side / max(rows * aspect, columns)
        height, width = max(1, round(rows * aspect * k)), max(1, round(columns * k))
        return cls(rows / 2, columns / 2, height / rows, width / columns, height, width)

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Top, bottom, left and right edge of the screen, in pixels of the image."""
        tall, wide = self.height / self.ky / 2, self.width / self.kx / 2
        return self.y - tall, self.y + tall, self.x - wide, self.x + wide

    @property
    def rows(self) -> np.ndarray:
        """The position in the image of the middle of each screen row."""
        return (np.arange(self.height) + 0.5 - self.height / 2) / self.ky + self.y

    @property
    def columns(self) -> np.ndarray:
        return (np.arange(self.width) + 0.5 - self.width / 2) / self.kx + self.x


def drawn(store: ImageStore, key: str, camera: Camera, state: Mapping[str, Any]) -> np.ndarray:
    """Return the picture of a variable, as RGB bytes of shape (height, width, 3).

    Parameters
    ----------
    store : ImageStore
    key : str
        Name of the variable.
    camera : Camera
    state : mapping
        ``index`` (a number, or ``"max"``, for each axis with a slider), ``channels`` and ``labels`` from the viewer.
    """
    lights = []
    for k, channel in enumerate(state["channels"]):
        if channel["on"] and channel["lo"] is not None:
            light = Light(channel["lo"], channel["hi"], tuple(channel["stops"]), channel["gamma"])
            lights.append((_seen(store.levels[key], camera, {**state["index"], "c": k}), light))
    picture = added(lights) if lights else np.zeros((camera.height, camera.width, 3), np.uint8)
    for label in state["labels"]:
        if label["on"]:
            values = _seen(store.levels[label["name"]], camera, state["index"])
            picture = overlaid(picture, values, label["opacity"], label["outline"])
    picture[~_inside(store.levels[key][0], camera)] = _GROUND
    return picture


def _inside(array: ServedArray, camera: Camera) -> np.ndarray:
    rows, columns = _size(array)
    down, across = camera.rows, camera.columns
    return np.outer((down >= 0) & (down < rows), (across >= 0) & (across < columns))


def _size(array: ServedArray) -> tuple[int, int]:
    sizes = dict(zip(array.axes, array.pixels.shape, strict=True))
    return sizes.get("y", 1), sizes.get("x", 1)


def _seen(levels: Sequence[ServedArray], camera: Camera, place: Mapping[str, Any]) -> np.ndarray:
    """Return the sample at each screen pixel, from the matching level; edge samples are repeated around the image."""
    factors = [[_ratio(full, n) for full, n in zip(_size(levels[0]), _size(one), strict=True)] for one in levels]
    fits = [k for k, (_, fx) in enumerate(factors) if fx * camera.kx <= _COARSE]
    level = fits[-1] if fits else 0
    array = levels[level]
    at = [
        np.clip(np.floor(middles / f), 0, n - 1).astype(int)
        for middles, f, n in zip((camera.rows, camera.columns), factors[level], _size(array), strict=True)
    ]
    region = {axis: slice(int(k.min()), int(k.max()) + 1) for axis, k in zip("yx", at, strict=True)}
    values = _projected(lambda where: plane(array, region, where), array, place)
    return values[np.ix_(*(k - k.min() for k in at))]


def _ratio(full: int, n: int) -> float:
    return ratio(full, n, None) if full > n else 1.0


def _projected(
    read: Callable[[dict[str, Any]], np.ndarray], array: ServedArray, place: Mapping[str, Any]
) -> np.ndarray:
    """Return a plane, or the maximum along an axis whose index is ``"max"``."""
    axis = next((a for a, where in place.items() if where == "max" and a in array.axes), None)
    if axis is None:
        return read({**place})
    n = array.pixels.shape[array.axes.index(axis)]
    total = read({**place, axis: 0})
    for k in range(1, n):
        total = np.maximum(total, read({**place, axis: k}))
    return total
