"""Objects of ``ds.img``: connected components of chunked images, and tables of what regions measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import aligned
from intake_img.accessor.arguments import choice, neighbourhood, warn_of_negative
from intake_img.accessor.lengths import common_unit, step_of, unit_of
from intake_img.accessor.processing.checks import skimage_for
from intake_img.accessor.processing.components import labelled
from intake_img.accessor.processing.region_units import column_units
from intake_img.accessor.processing.results import derived
from intake_img.accessor.progress import bar
from intake_img.accessor.variables import images, lazy
from intake_img.errors import AxesError
from intake_img.kernels import labelling
from intake_img.model.axes import spell
from intake_img.model.datasets import spacing_of
from intake_img.model.typed import LayerLike, Units
from intake_img.model.units import PIXEL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Measures"]


class Measures:
    """Methods on objects; see each of them."""

    _obj: Any
    _first: Any

    def label(
        self,
        connectivity: int = 1,
        *,
        dims: str | Sequence[str] | None = None,
        output: str = "labels",
        overwrite: bool = False,
    ) -> Any:
        """Number the connected components of what is not 0, in every image by itself, lazily.

        The numbers are those of `scipy.ndimage.label` for the whole image, however it is cut into chunks. While one
        image is computed its labels are held in memory; the planes at the cuts are compared to join what they separate.
        Of a Dataset with one mask (`threshold` makes one) its components are numbered, else those of the image.

        Parameters
        ----------
        connectivity : int
            How many axes neighbours may differ in: 1 for pixels that share a side, up to the number of axes for all.
        dims : str, optional
            The spatial axes of an image; by default all.
        output : str
            Name of the new variable of a Dataset.
        overwrite : bool
            Allow `output` to replace a variable.

        Returns
        -------
        xarray.Dataset with a further variable, or xarray.DataArray
            int64, with ``attrs["kind"] == "labels"``.
        """
        return derived(self._obj, lambda array: labelled(array, connectivity, dims), output, overwrite, of="mask")

    def regionprops(
        self,
        labels: LayerLike | None = None,
        intensity: LayerLike | None = None,
        properties: Sequence[str] | None = None,
        *,
        units: Units = "pixel",
        extra_properties: Sequence[Any] = (),
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Measure every region of a label image. Powered by `skimage.measure.regionprops`.

        Chunks are measured one by one, in parallel; a region that is cut by chunks is read again, by itself. So neither
        the labels nor the image need fit into memory.

        Parameters
        ----------
        labels : str or DataArray, optional
            The label image: by default the DataArray itself, or the one variable of a Dataset whose kind is ``labels``.
            As in scikit-image only numbers above 0 are regions; numbers below 0 have no row, and a warning names them.
        intensity : str, DataArray or False, optional
            The image whose values are measured: by default the image of the Dataset, if its axes include those of the
            labels; False for none. Each of its channels has rows of its own. It is aligned with the labels by
            coordinates, where both have them, and must cover them.
        properties : sequence of str, optional
            Names as in scikit-image; by default ``label``, ``area``, ``bbox``, ``centroid`` and, with an image,
            ``intensity_mean``,
            ``intensity_min`` and ``intensity_max``. Those with several numbers become columns ``bbox-0``, ``bbox-1``,
            ...
        units : {"pixel", "physical"}
            Whether lengths, areas, moments and centroids are in pixels or physical. Lengths and what is made of them
            are in the common unit of the image, that of ``x``; positions (``centroid``, ``centroid_weighted``,
            ``coords_scaled``) are values of the coordinates, each in the unit of its axis. ``bbox``, ``slice`` and
            ``coords`` are always pixels.
        extra_properties : sequence of callable
            See scikit-image.
        progress : bool, optional
            Show a progress bar; by default only in a terminal.

        Returns
        -------
        pandas.DataFrame
            One row for each region of each image, with a column for each axis that is not space (its coordinate, or its
            number), and for ``label``. ``attrs["units"]`` is the common unit (``"px"`` for pixels),
            ``attrs["column_units"]`` the unit of each column that has one, e.g. ``{"area": "µm²"}``.
        """
        import pandas as pd

        skimage_for("regionprops")
        choice("progress", progress, (None, True, False))
        label_array, image = _pair(self._obj, labels, intensity)
        usual = ("label", "area", "bbox", "centroid")
        values = () if image is None else ("intensity_mean", "intensity_min", "intensity_max")
        chosen = (*usual, *values) if properties is None else _chosen("properties", properties, str)
        extra_properties = _chosen("extra_properties", extra_properties, Callable)
        axes = neighbourhood(label_array, None)
        if len(axes) < 2:
            raise AxesError(f"regions need two or three spatial axes, the labels have {spell(axes)!r}")
        choice("units", units, ("pixel", "physical"))
        steps = tuple(step_of(label_array, a) for a in axes) if units == "physical" else (1.0,) * len(axes)
        extra = {f.__name__: f for f in extra_properties}
        origin = tuple(float(label_array[a].values[0]) if units == "physical" else 0.0 for a in axes)
        own = tuple(spacing_of(label_array[a]) or 1.0 for a in axes) if units == "physical" else steps
        measure = _Measure(chosen, steps, own, origin, tuple(extra_properties), tuple(extra))
        measure.check(len(axes), image is not None)
        rows: list[dict[str, Any]] = []
        with bar(progress, "measuring"):
            for where, part, pixels_of in _label_images(label_array, image, axes):
                rows += [{**where, **row} for row in _regions(part, pixels_of, measure)]
        table = pd.DataFrame(rows)
        unit, places = (
            (common_unit(label_array), [unit_of(label_array, a) for a in axes])
            if units == "physical"
            else (PIXEL, [PIXEL] * len(axes))
        )
        table.attrs = {"units": unit, "column_units": column_units(table.columns, unit, places)}
        return table


# measurements


def _pair(obj: Any, labels: Any, intensity: Any) -> tuple[xr.DataArray, xr.DataArray | None]:
    if isinstance(obj, xr.DataArray):
        label_array = obj if labels is None else labels
        image = None if intensity is None or intensity is False else intensity
    else:
        if labels is None:
            kinds = [n for n, v in obj.data_vars.items() if v.attrs.get("kind") == "labels"]
            if len(kinds) != 1:
                raise ValueError(
                    f"labels: the Dataset has {len(kinds)} variables of labels; name one of {', '.join(obj.data_vars)}"
                )
            labels = kinds[0]
        label_array = obj[labels] if isinstance(labels, str) else labels
        image = obj[intensity] if isinstance(intensity, str) else intensity
        if intensity is None:
            rest = [v for n, v in images(obj).items() if n != label_array.name]
            fits = [v for v in rest if set(label_array.dims) <= set(v.dims)]
            image = fits[0] if fits else None
        elif intensity is False:
            image = None
    for what, array in (("labels", label_array), ("intensity", image)):
        if array is not None and not isinstance(array, xr.DataArray):
            raise TypeError(f"{what}={array!r}: expected the name of a variable, or a DataArray")
    if label_array.dtype.kind not in "iu":
        raise TypeError(f"labels are integers, but these are {label_array.dtype}; number a mask with .img.label()")
    if image is not None:
        if missing := [d for d in label_array.dims if d not in image.dims]:
            raise AxesError(f"the labels have the axis {missing[0]!r}, which the image, {spell(image.dims)!r}, lacks")
        image = aligned("the image", image, label_array, cover=True, other="the label image")
    return label_array, image


def _chosen(name: str, values: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable) or not all(isinstance(v, kind) for v in values):
        what = "names of properties" if kind is str else "functions"
        raise TypeError(f"{name}={values!r}: expected a sequence of {what}")
    return tuple(values)


def _label_images(
    labels: xr.DataArray, image: xr.DataArray | None, axes: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Any, Any]]:
    """Iterate over single label images, each with the image to measure."""
    whole = labels if image is None else image
    outer = [str(d) for d in whole.dims if d not in axes]
    label_data = lazy(labels.transpose(*[d for d in outer if d in labels.dims], *axes))
    image_data = None if image is None else lazy(image.transpose(*outer, *axes))
    for place in product(*[range(whole.sizes[d]) for d in outer]):
        here = dict(zip(outer, place, strict=True))
        where = {d: whole[d].values[k] if d in whole.coords else k for d, k in here.items()}
        part = label_data[tuple(here[d] for d in outer if d in labels.dims)]
        yield where, part, None if image_data is None else image_data[place].rechunk(part.chunks)


def _regions(labels: Any, image: Any, measure: _Measure) -> list[dict[str, Any]]:
    """Measure the regions of one label image."""
    import dask

    tasks, starts = [], [np.concatenate([[0], np.cumsum(c)[:-1]]) for c in labels.chunks]
    job = dask.delayed(measure.chunk, pure=False)
    blocks = _delayed(labels)
    pictures = None if image is None else _delayed(image)
    for k in np.ndindex(*labels.numblocks):
        start = tuple(int(s[i]) for s, i in zip(starts, k, strict=True))
        tasks.append(job(blocks[k], None if pictures is None else pictures[k], start, labels.shape))
    found = dask.compute(*tasks)
    warn_of_negative("labels", np.concatenate([f[2] for f in found]) if found else np.empty(0))
    boxes = labelling.merge_extents([f[0] for f in found])
    seen: dict[int, int] = {}
    for f in found:
        for label in f[0]:
            seen[label] = seen.get(label, 0) + 1
    rows = {label: row for f in found for label, row in f[1].items() if seen[label] == 1}
    cut = []
    for part in _neighbours({label: boxes[label] for label in set(boxes) - set(rows)}, labels.chunks):
        around = tuple(
            slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*part.values(), strict=True)
        )
        again = dask.delayed(partial(measure.cut, boxes=part, around=around), pure=False)  # dask looks into no partial
        cut.append(again(labels[around], None if image is None else image[around]))
    for more in dask.compute(*cut):
        rows |= more
    return [rows[label] for label in sorted(rows)]


def _neighbours(
    boxes: Mapping[int, tuple[slice, ...]], chunks: Sequence[Sequence[int]]
) -> list[dict[int, tuple[slice, ...]]]:
    """Group the boxes of labels by the chunks that they span, so that what they share is read and sent once."""
    stops = [np.cumsum(c) for c in chunks]
    groups: dict[Any, dict[int, tuple[slice, ...]]] = {}
    for label, box in boxes.items():
        spanned = tuple(
            (int(np.searchsorted(e, s.start, "right")), int(np.searchsorted(e, s.stop)))
            for e, s in zip(stops, box, strict=True)
        )
        groups.setdefault(spanned, {})[label] = box
    return list(groups.values())


def _delayed(array: Any) -> Any:
    """The chunks of an array, one by one."""
    if hasattr(array, "to_delayed"):
        return array.to_delayed()
    starts = [np.concatenate([[0], np.cumsum(c)]).tolist() for c in array.chunks]  # planned as an expression
    out = np.empty(array.numblocks, object)
    for k in np.ndindex(*array.numblocks):
        out[k] = array[tuple(slice(s[i], s[i + 1]) for s, i in zip(starts, k, strict=True))]
    return out


@dataclass(frozen=True)
class _Measure:
    """What is measured of regions, and how: `steps` are in the common unit, `own_steps` in that of each coordinate."""

    properties: tuple[str, ...]
    steps: tuple[float, ...]
    own_steps: tuple[float, ...]
    origin: tuple[float, ...]
    extra: tuple[Any, ...]
    extra_names: tuple[str, ...]

    def check(self, ndim: int, image: bool) -> None:
        """Raise if scikit-image does not know a property."""
        from skimage.measure import regionprops

        ones = np.ones((3,) * ndim, int)
        (region,) = regionprops(ones, ones if image else None)
        for name in self.properties:
            if not hasattr(type(region), name) and not hasattr(region, name):
                raise ValueError(f"properties: scikit-image measures no {name!r}")
            if name.startswith(("intensity_", "image_intensity", "mean_intensity")) and not image:
                raise ValueError(f"properties: {name!r} needs intensity=")

    def chunk(
        self, labels: np.ndarray, image: np.ndarray | None, start: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[dict[int, tuple[slice, ...]], dict[int, dict[str, Any]], np.ndarray]:
        """Return the bounding boxes of all labels of a chunk, rows of those that no cut touches, numbers below 0."""
        from scipy import ndimage

        values, index = np.unique(labels, return_inverse=True)
        found = ndimage.find_objects(index.reshape(labels.shape) + 1)
        boxes = {
            int(v): tuple(slice(s.start + o, s.stop + o) for s, o in zip(box, start, strict=True))
            for v, box in zip(values, found, strict=True)
            if v > 0 and box is not None
        }
        stops = [s + n for s, n in zip(start, labels.shape, strict=True)]
        inside = [
            v
            for v, box in boxes.items()
            if all(
                (b.start > s or s == 0) and (b.stop < e or e == n)
                for b, s, e, n in zip(box, start, stops, shape, strict=True)
            )
        ]
        kept = np.where(np.isin(labels, inside), labels, 0)
        return boxes, self.rows(kept, image, start) if inside else {}, values[values < 0]

    def cut(
        self,
        labels: np.ndarray,
        image: np.ndarray | None,
        *,
        boxes: Mapping[int, tuple[slice, ...]],
        around: tuple[slice, ...],
    ) -> dict[int, dict[str, Any]]:
        """Return rows of the labels with these bounding boxes, of the part `around` of the image."""
        found: dict[int, dict[str, Any]] = {}
        for label, box in boxes.items():
            start = tuple(s.start for s in box)
            here = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True))
            alone = np.where(labels[here] == label, label, 0)
            found |= self.rows(alone, None if image is None else image[here], start)
        return found

    def rows(self, labels: np.ndarray, image: np.ndarray | None, start: tuple[int, ...]) -> dict[int, dict[str, Any]]:
        """Return a row for each label of an array that lies at `start` in the image."""
        from skimage.measure import regionprops

        small, values = _compact(labels)
        spacing = None if set(self.steps) == {1.0} else self.steps
        regions = regionprops(small, image, spacing=spacing, extra_properties=self.extra or None)
        return {int(values[r.label]): self._row(r, int(values[r.label]), start) for r in regions}

    def _row(self, region: Any, label: int, start: tuple[int, ...]) -> dict[str, Any]:
        row: dict[str, Any] = {"label": label}
        for name in (*self.properties, *self.extra_names):
            if name == "label":
                continue
            try:
                value = region[name]
            except (AttributeError, KeyError) as exc:
                raise ValueError(f"properties: scikit-image measures no {name!r}, or it needs intensity=") from exc
            value = self._placed(name, value, start)
            array = np.asarray(value)
            if array.ndim == 0:
                row[name] = array.item()
            elif array.dtype.kind in "biuf" and array.size <= 64:
                for place in np.ndindex(array.shape):
                    row["-".join([name, *map(str, place)])] = array[place].item()
            else:
                row[name] = value
        return row

    def _placed(self, name: str, value: Any, start: tuple[int, ...]) -> Any:
        """Return a position within the whole image (scikit-image's own `offset` leaves some of them out)."""
        if name == "bbox":
            return tuple(v + start[k % len(start)] for k, v in enumerate(value))
        if name == "slice":
            return tuple(slice(v.start + s, v.stop + s) for v, s in zip(value, start, strict=True))
        if name == "coords":
            return value + np.asarray(start)
        if name in ("centroid", "centroid_weighted", "coords_scaled", "weighted_centroid"):
            own = np.asarray(value) if self.own_steps == self.steps else np.asarray(value) / self.steps * self.own_steps
            return own + np.asarray(start) * self.own_steps + self.origin
        return value


def _compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels renumbered without gaps, and the old label of each: find_objects is slow with large numbers."""
    values, index = np.unique(labels, return_inverse=True)
    if values.size == 0 or values[0] != 0:
        return index.reshape(labels.shape) + 1, np.concatenate([[0], values])
    return index.reshape(labels.shape), values
