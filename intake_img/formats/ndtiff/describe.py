"""Coordinates, names of channels and spacing of a dataset."""

from __future__ import annotations

import numpy as np

from intake_img.formats.ndtiff.dataset import Resolution
from intake_img.model.image import Coordinate
from intake_img.model.untrusted import finite

__all__ = ["coordinate_of", "spacing_of"]


def coordinate_of(dataset: Resolution, name: str) -> Coordinate | None:
    """Return labels, names of channels, or numbers that are not 0, 1, 2, ...; None where there is nothing to say."""
    values, axis = dataset.values[name], dataset.axes[name]
    numbers = all(isinstance(v, int) for v in values)
    if numbers and name == "channel":
        names = _channel_names(dataset)
        return Coordinate((axis,), np.array(names)) if len(set(names)) == len(names) and all(names) else None
    if numbers and values == list(range(len(values))) and axis in ("i", "t", "z"):
        return None
    return Coordinate((axis,), np.array(values if numbers else [str(v) for v in values]))


def _channel_names(dataset: Resolution) -> list[str]:
    """Return the names of numbered channels, as datasets before version 3.2 give them."""
    given = dataset.summary.get("ChNames")
    numbers = [int(v) for v in dataset.values["channel"]]
    if isinstance(given, list) and min(numbers) >= 0 and max(numbers) < len(given):
        return [str(given[k]) for k in numbers]
    return [str(dataset.about(channel=k).get("Channel", "")) for k in range(len(numbers))]


def spacing_of(dataset: Resolution, level: int) -> dict[str, float]:
    first = dataset.about()
    pixel = finite(first.get("PixelSizeUm", dataset.summary.get("PixelSize_um"))) * 2**level
    step = finite(dataset.summary.get("z-step_um"))
    count = len(dataset.values.get("z", ()))
    if not step and count > 1:
        low, high = (finite(dataset.about(z=k).get("ZPosition_um_Intended")) for k in (0, count - 1))
        step = abs(high - low) / (count - 1)
    return {"y": pixel, "x": pixel} | ({"z": step} if count else {})
