"""Properties of regions that are not sums over chunks: each region is read and passed to scikit-image."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from intake_img.accessor.processing.checks import skimage_for
from intake_img.accessor.processing.in_memory import Held
from intake_img.kernels.runlengths import Sums

__all__ = ["PixelScale", "SingleRegions"]

_OF_ANY_SIZE = ("coords", "image", "slice")  # of scikit-image's properties, also "filled_image" and its like
_MOST_NUMBERS = 64


@dataclass(frozen=True)
class PixelScale:
    """Size and position of pixels.

    Parameters
    ----------
    steps : tuple of float
        In the common unit of lengths.
    own_steps : tuple of float
        In the unit of the coordinate of each axis.
    origin : tuple of float
        First value of each coordinate.
    """

    steps: tuple[float, ...]
    own_steps: tuple[float, ...]
    origin: tuple[float, ...]


@dataclass(frozen=True)
class SingleRegions:
    """Properties of single regions that scikit-image measures.

    Parameters
    ----------
    properties : tuple of str
    scale : PixelScale
    extra : tuple of callable
    """

    properties: tuple[str, ...]
    scale: PixelScale
    extra: tuple[Any, ...]

    @property
    def wanted(self) -> bool:
        return bool(self.properties or self.extra)

    def check(self, ndim: int, image: bool) -> None:
        """Raise an error if scikit-image is missing, or does not know a property."""
        if not self.wanted:
            return
        skimage_for("regionprops")
        from skimage.measure import regionprops

        ones = np.ones((3,) * ndim, int)
        (region,) = regionprops(ones, ones if image else None)
        for name in self.properties:
            if not hasattr(type(region), name) and not hasattr(region, name):
                raise ValueError(f"properties: scikit-image measures no {name!r}{_meant(name, region)}")
            if name.startswith(("intensity_", "image_intensity", "mean_intensity")) and not image:
                raise ValueError(f"properties: {name!r} needs intensity=")

    def columns(self, labels: Any, image: Any, sums: Sums) -> dict[str, np.ndarray]:
        """Return a column for each number, with a row for each of the regions `sums`.

        Parameters
        ----------
        labels, image : dask.array.Array or Held
            Arrays of one image, with the same chunks.
        sums : Sums
            With the bounding boxes.
        """
        import dask

        jobs = []
        for chosen in _groups(sums, labels.chunks):
            low, high = sums.low[chosen].min(axis=0).tolist(), sums.high[chosen].max(axis=0).tolist()
            jobs.append((tuple(map(slice, low, high)), partial(self._rows, ids=sums.ids[chosen], start=tuple(low))))
        if isinstance(labels, Held):
            pixels = None if image is None else image.array
            computed = [job(labels.array[around], None if pixels is None else pixels[around]) for around, job in jobs]
        else:
            computed = dask.compute(
                *[
                    dask.delayed(job, pure=False)(labels[around], None if image is None else image[around])
                    for around, job in jobs
                ]
            )
        rows: dict[int, dict[str, Any]] = {}
        for found in computed:
            rows |= found
        ordered = [rows[label] for label in sums.ids.tolist()]
        columns: dict[str, np.ndarray] = {}
        for name in self._names:
            any_size = name in self.properties and (name.startswith(_OF_ANY_SIZE) or name.endswith("_image"))
            columns |= _columns(name, [row[name] for row in ordered], any_size)
        return columns

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.properties, *[f.__name__ for f in self.extra])

    def _rows(
        self, labels: np.ndarray, image: np.ndarray | None, *, ids: np.ndarray, start: tuple[int, ...]
    ) -> dict[int, dict[str, Any]]:
        """Return a row for each of some labels of an array that lies at `start` in the image."""
        from skimage.measure import regionprops

        place = np.minimum(np.searchsorted(ids, labels), len(ids) - 1)
        small = np.where(ids[place] == labels, place + 1, 0)  # find_objects is slow with large numbers
        spacing = None if set(self.scale.steps) == {1.0} else self.scale.steps
        regions = regionprops(small, image, spacing=spacing, extra_properties=self.extra or None)
        return {int(ids[r.label - 1]): self._row(r, start) for r in regions}

    def _row(self, region: Any, start: tuple[int, ...]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name in self._names:
            try:
                row[name] = self._placed(name, _value(region, name), start)
            except (AttributeError, KeyError) as exc:
                raise ValueError(f"properties: scikit-image measures no {name!r}, or it needs intensity=") from exc
        return row

    def _placed(self, name: str, value: Any, start: tuple[int, ...]) -> Any:
        """Return a position within the complete image (scikit-image's own `offset` does not cover all properties)."""
        scale = self.scale
        if name == "coords":
            return value + np.asarray(start)
        if name == "slice":
            return tuple(slice(s.start + low, s.stop + low) for s, low in zip(value, start, strict=True))
        if name in ("centroid_weighted", "coords_scaled", "weighted_centroid"):
            own = (
                np.asarray(value)
                if scale.own_steps == scale.steps
                else np.asarray(value) / scale.steps * scale.own_steps
            )
            return own + np.asarray(start) * scale.own_steps + scale.origin
        return value


def _value(region: Any, name: str) -> Any:
    """Return a property; NaN for the diameter of an empty hull, of which scikit-image raises an error."""
    if name == "feret_diameter_max" and not region.image_convex.any():
        return math.nan
    return region[name]


def _columns(name: str, values: Sequence[Any], any_size: bool) -> dict[str, np.ndarray]:
    """Return the columns of one property: one for each number of short arrays, else one of the values themselves."""
    if not any_size:
        arrays = [np.asarray(v) for v in values]
        shapes, kinds = {a.shape for a in arrays}, {a.dtype.kind for a in arrays}
        if kinds <= set("biuf") and len(shapes) == 1 and math.prod(shape := shapes.pop()) <= _MOST_NUMBERS:
            whole = np.stack(arrays)
            return {"-".join([name, *map(str, k)]): whole[:, *k] for k in np.ndindex(shape)}
    out = np.empty(len(values), object)
    for k, value in enumerate(values):
        out[k] = value
    return {name: out}


def _meant(name: str, region: Any) -> str:
    known = ["intensity_sum", "surface_area", *(n for n in dir(type(region)) if not n.startswith("_"))]
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _groups(sums: Sums, chunks: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Group regions by the chunks that they span, so that common chunks are read and sent once."""
    spans = []
    for axis, sizes in enumerate(chunks):
        stops = np.cumsum(sizes)
        spans += [np.searchsorted(stops, sums.low[:, axis], "right"), np.searchsorted(stops, sums.high[:, axis])]
    if not len(sums.ids):
        return []
    _, group = np.unique(np.stack(spans, axis=1), axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1)
