"""Distances, peaks, watersheds, touching objects: methods on complete objects; results do not depend on the chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.alignment import aligned, inside
from intake_img.accessor.arguments import choice, flag, neighbourhood, number
from intake_img.accessor.lengths import common_unit, pixels, step_of
from intake_img.accessor.processing.by_component import by_component
from intake_img.accessor.processing.checks import real, skimage_for
from intake_img.accessor.processing.components import structure_of
from intake_img.accessor.processing.distances import distances
from intake_img.accessor.processing.local_maxima import table_of_peaks
from intake_img.accessor.processing.object_results import derived, replaced
from intake_img.accessor.processing.renumbering import renumbered
from intake_img.errors import AxesError
from intake_img.kernels import flooding, splitting
from intake_img.model.axes import spell
from intake_img.model.typed import LayerLike, Lengths, Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Splits"]

Dims = str | Sequence[str] | None


class Splits:
    """Methods on complete objects; see each of them.

    Objects are connected components of a mask; pixels that share a corner are connected. Objects within a chunk are
    processed there; objects that touch a chunk boundary are gathered, joined, and processed each in its own bounding
    box. So results are the same for any chunks. While one image (``z y x``, or `dims`) is computed, its result waits,
    beyond an eighth of the memory of the machine in an unnamed temporary file, and the objects that boundaries cut are
    in memory; other images are not.
    """

    _obj: Any

    def distance_transform(
        self,
        *,
        units: Units = "pixel",
        dims: Dims = None,
        output: str = "distance",
        overwrite: bool = False,
    ) -> Any:
        """Return the Euclidean distance of each pixel of a mask to the nearest background, lazily.

        Equal to `scipy.ndimage.distance_transform_edt` for each complete image, computed in exact passes along one axis
        after the other, over complete lines of pixels [1]_. While an image is computed, 1 or 2 bytes of each pixel wait
        for the others, and the distances in one layer of chunks; beyond an eighth of the memory of the machine in an
        unnamed temporary file.

        Parameters
        ----------
        units : {"pixel", "physical"}
            With ``"physical"`` pixels may be anisotropic, and distances are in the common unit.
        dims : str, optional
            The spatial axes of an image, ``"yx"`` for plane by plane; by default all.
        output : str
            Name of the new variable of a Dataset.
        overwrite : bool
            Allow `output` to replace a variable.

        Returns
        -------
        xarray.Dataset with a further variable, or xarray.DataArray
            float64; infinite in an image without background. Where several background pixels are equally far but for
            rounding, as with spacings of 0.3 and 0.1, this is the least distance; scipy may exceed it by the last bit.

        References
        ----------
        .. [1] P. F. Felzenszwalb, D. P. Huttenlocher, "Distance transforms of sampled functions", Theory of Computing 8
           (2012) 415-428.
        """
        choice("units", units, ("pixel", "physical"))

        def make(array: xr.DataArray) -> xr.DataArray:
            axes = neighbourhood(_mask(array), dims)
            found = distances(array, axes, _steps(array, axes, units))
            unit = common_unit(array) if units == "physical" else None
            found.attrs = {"units": unit} if unit else {}
            return found

        return derived(self._obj, make, output, overwrite, of="mask")

    def split(
        self,
        min_distance: Lengths = 5,
        *,
        units: Units = "pixel",
        dims: Dims = None,
        output: str = "labels",
        overwrite: bool = False,
    ) -> Any:
        """Label the objects of a mask and split touching objects, lazily.

        Each object is cut at the watersheds of its distance to the background, between the peaks of that distance. An
        image without background is one object.
        Powered by `skimage.segmentation.watershed`. Labels are in the order of first pixels. See `Splits` for the
        memory needed.

        Parameters
        ----------
        min_distance : int, length, sequence or mapping
            Peaks that are closer than this along every axis are merged: use about the radius of the smallest objects.
        units : {"pixel", "physical"}
            Unit of bare numbers; with ``"physical"`` distances to the background are physical too.
        dims : str, optional
            The spatial axes of an image, ``"yx"`` for plane by plane; by default all.
        output : str
            Name of the new variable of a Dataset.
        overwrite : bool
            Allow `output` to replace a variable.

        Returns
        -------
        xarray.Dataset with a further variable, or xarray.DataArray
            int32 (int64 for images of 2^31 pixels and more, as in scipy), with ``attrs["kind"] == "labels"``.
        """
        skimage_for("split")
        choice("units", units, ("pixel", "physical"))

        def make(array: xr.DataArray) -> xr.DataArray:
            axes = neighbourhood(_mask(array), dims)
            radii = _radii(min_distance, array, axes, units)
            func = partial(splitting.split, radii=radii, steps=_steps(array, axes, units))
            return renumbered(by_component(array, (), axes, func, np.int64, name="split"), axes)

        return derived(self._obj, make, output, overwrite, of="mask")

    def watershed(
        self,
        markers: LayerLike,
        mask: LayerLike,
        connectivity: int = 1,
        *,
        dims: Dims = None,
        output: str = "labels",
        overwrite: bool = False,
    ) -> Any:
        """Flood an image from markers, within a mask, lazily. Powered by `skimage.segmentation.watershed`.

        The labels are the same for every chunking, since floods do not leave an object of the mask. Without a mask
        the complete image would be one object, so a mask is required. They equal those of scikit-image if no two
        pixels of markers have the same value; the order in which scikit-image floods such pixels depends on all other
        markers, here only on those of the same object. NaN is flooded last. See `Splits` for the memory needed.

        Parameters
        ----------
        markers : str or DataArray of integers
            Seeds of the floods, with their labels; an object without a marker stays 0.
        mask : str or DataArray
            Pixels that are not 0 or NaN are inside. Markers and mask have the axes of the image and are aligned with it
            by coordinates, if both have them; pixels that they do not cover are 0.
        connectivity : int
            How many axes neighbours may differ in.
        dims : str, optional
            The spatial axes of an image, ``"yx"`` for plane by plane; by default all.
        output : str
            Name of the new variable of a Dataset.
        overwrite : bool
            Allow `output` to replace a variable.

        Returns
        -------
        xarray.Dataset with a further variable, or xarray.DataArray
            With the dtype of the markers, and ``attrs["kind"] == "labels"``.
        """
        skimage_for("watershed")

        def make(array: xr.DataArray) -> xr.DataArray:
            real("watershed", array)
            axes = neighbourhood(array, dims)
            structure_of(connectivity, axes)
            seeds, area = (_layer(self._obj, n, v, array) for n, v in (("markers", markers), ("mask", mask)))
            if seeds.dtype.kind not in "iu":
                raise TypeError(f"markers are integers, but these are {seeds.dtype}; number a mask with .img.label()")
            one, several = (partial(f, connectivity=connectivity) for f in (flooding.flooded_one, flooding.flooded))
            layers = (array, seeds)
            found = by_component(inside(area), layers, axes, one, seeds.dtype, several=several, name="watershed")
            found.attrs = {"kind": "labels"}
            return found

        return derived(self._obj, make, output, overwrite)

    def skeletonize(self, *, dims: Dims = None) -> Any:
        """Thin each object of a mask to lines. Powered by `skimage.morphology.skeletonize`.

        See `Splits` for the memory needed.

        Parameters
        ----------
        dims : str, optional
            The spatial axes of an image, ``"yx"`` for plane by plane; by default all.
        """
        skimage_for("skeletonize")

        def make(array: xr.DataArray) -> xr.DataArray:
            axes = neighbourhood(_mask(array), dims)
            found = by_component(array, (), axes, splitting.skeleton, bool, name="skeletonize")
            found.attrs = {"kind": "mask"}
            return found

        return replaced(self._obj, make, "mask")

    def relabel(self, *, dims: Dims = None) -> Any:
        """Renumber labels, without gaps, in the order of their first pixels; lazily.

        Every image is renumbered separately; regions keep their pixels, and 0 stays 0.

        Parameters
        ----------
        dims : str, optional
            The spatial axes of an image, ``"yx"`` for plane by plane; by default all.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> labels = xr.DataArray([[0, 9, 9], [4, 4, 9]], dims=["y", "x"])
        >>> labels.img.relabel().values.tolist()
        [[0, 1, 1], [2, 2, 1]]
        """

        def make(array: xr.DataArray) -> xr.DataArray:
            if array.dtype.kind not in "iu":
                raise TypeError(f"relabel: expected labels, which are integers, not {array.dtype}")
            return renumbered(array, neighbourhood(array, dims))

        return replaced(self._obj, make, "labels")

    def peaks(
        self,
        min_distance: Lengths = 1,
        threshold: float | None = None,
        *,
        exclude_border: bool = True,
        units: Units = "pixel",
        dims: Dims = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Find local maxima of every image, equal to `skimage.feature.peak_local_max` for the complete image.

        Parameters
        ----------
        min_distance : int, length, sequence or mapping
            A peak is the highest pixel in a box that extends so far on both sides. Among peaks of equal height (a
            plateau) that are closer than this along every axis, the first in C order is kept.
        threshold : float, optional
            Peaks are above it; by default above the lowest value of their image.
        exclude_border : bool
            Leave out peaks that are closer to an edge of the image than `min_distance`.
        units : {"pixel", "physical"}
            Unit of bare numbers, and whether positions are pixels or values of the coordinates.
        dims : str, optional
            The spatial axes of an image, ``"yx"`` for plane by plane; by default all.
        progress : bool, optional
            Show a progress bar; by default only in a terminal.

        Returns
        -------
        pandas.DataFrame
            For each image, the highest peak first: a column for each non-spatial axis, ``z``, ``y``, ``x``, and
            ``value``. ``attrs["column_units"]`` has the units of positions.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.array([[0, 0, 0, 0], [0, 5, 1, 7], [0, 0, 0, 0]]), dims=["y", "x"])
        >>> image.img.peaks(exclude_border=False)
           y  x  value
        0  1  3      7
        1  1  1      5
        """
        array = self._obj.img._first
        choice("units", units, ("pixel", "physical"))
        axes = neighbourhood(array, dims)
        radii = _radii(min_distance, array, axes, units)
        lowest = None if threshold is None else number("threshold", threshold)
        border = flag("exclude_border", exclude_border)
        return table_of_peaks(array, axes, radii, lowest, border, units == "physical", progress)


def _mask(array: xr.DataArray) -> xr.DataArray:
    if array.dtype != bool:
        raise TypeError(f"expected a mask, which is bool, not {array.dtype}: compare an image, or labels > 0")
    return array


def _layer(obj: Any, name: str, given: Any, array: xr.DataArray) -> xr.DataArray:
    found = obj[given] if isinstance(given, str) and isinstance(obj, xr.Dataset) and given in obj else given
    if not isinstance(found, xr.DataArray):
        raise TypeError(f"{name}={given!r}: expected the name of a variable, or a DataArray")
    if set(found.dims) != set(array.dims):
        raise AxesError(f"{name} has the axes {_axes(found)}, the image {_axes(array)}; expected the same")
    return aligned(name, found, array).transpose(*array.dims)


def _axes(array: xr.DataArray) -> str:
    return repr(spell(tuple(map(str, array.dims))))


def _steps(array: xr.DataArray, axes: Sequence[str], units: str) -> tuple[float, ...]:
    return tuple(step_of(array, a) if units == "physical" else 1.0 for a in axes)


def _radii(value: Any, array: xr.DataArray, axes: Sequence[str], units: str) -> tuple[int, ...]:
    found = pixels("min_distance", value, array, axes, units=units, absent=1, whole=True)
    return tuple(max(1, found[a]) for a in axes)
