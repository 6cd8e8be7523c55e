"""Clean-up of masks and labels: holes, small objects, edges, morphology; the result does not depend on the chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, named, neighbourhood, number
from intake_img.accessor.lengths import length, pixels, step_of
from intake_img.accessor.processing.components import selected, structure_of
from intake_img.accessor.processing.halo import halo
from intake_img.accessor.processing.in_memory import chunked
from intake_img.accessor.processing.object_results import replaced
from intake_img.accessor.processing.renumbering import chosen
from intake_img.accessor.variables import with_data
from intake_img.kernels import labelling, morphology
from intake_img.kernels.each_image import EachImage
from intake_img.model.units import PIXEL, Quantity, has_unit, quantity
from intake_img.model.variables import kind_of

__all__ = ["Masks"]

Units = Literal["pixel", "physical"]
Dims = str | Sequence[str] | None
Radius = float | str | Sequence[float] | Mapping[str, float | str]


class Masks:
    """Methods that change masks and labels; see each of them.

    In a Dataset they change the masks (variables whose kind is ``mask``); `expand_labels` changes the labels, and
    `clear_border` and `remove_small` change them where there is no mask. All are
    lazy (masks in memory are changed immediately), and process every image (``z y x``, or `dims`) separately.
    """

    _obj: Any

    def fill_holes(self, *, dims: Dims = None) -> Any:
        """Fill background that does not reach an edge of the image.

        Equal to `scipy.ndimage.binary_fill_holes` for each complete image.

        Parameters
        ----------
        dims : str, optional
            The spatial axes of an image, ``"yx"`` for plane by plane; by default all.
        """

        def make(array: xr.DataArray) -> xr.DataArray:
            axes = neighbourhood(_mask(array), dims)
            return selected(array, axes, structure_of(1, axes), labelling.at_edges, _zero, holes=True)

        return replaced(self._obj, make, "mask")

    def clear_border(self, *, dims: Dims = None) -> Any:
        """Remove objects of a mask, or labels, that touch an edge of the image.

        Equal to `skimage.segmentation.clear_border` for each complete image: pixels of a mask that share a corner are
        connected. Labels (integers of kind ``labels``) keep their numbers; a label in several places is removed as a
        whole, where scikit-image takes it for several objects.

        Parameters
        ----------
        dims : str, optional
            See `fill_holes`.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> labels = xr.DataArray(np.pad([[0, 7], [4, 0]], ((1, 0), (1, 1))), dims=["y", "x"], attrs={"kind": "labels"})
        >>> labels.img.clear_border().values.tolist()
        [[0, 0, 0, 0], [0, 0, 7, 0], [0, 0, 0, 0]]
        """

        def make(array: xr.DataArray) -> xr.DataArray:
            axes = neighbourhood(array, dims)
            if _are_labels(array):
                return chosen(array, axes, labelling.at_edges, _zero, "clear_border")
            return selected(array, axes, structure_of(len(axes), axes), labelling.at_edges, _zero)

        return replaced(self._obj, make, "mask", "labels")

    def remove_small(
        self,
        size: float,
        what: Literal["objects", "holes"] = "objects",
        *,
        units: Units = "pixel",
        connectivity: int = 1,
        dims: Dims = None,
    ) -> Any:
        """Remove objects of a mask, or labels, that are smaller than `size`; or fill holes that are smaller.

        Equal to `skimage.morphology.remove_small_objects` and `remove_small_holes` for each complete image. Labels
        (integers of kind ``labels``) keep their numbers; the pixels of a label count together, wherever they are.

        Parameters
        ----------
        size : float
            Components with fewer pixels are removed; with ``units="physical"`` an area or volume in the common unit of
            the image (µm² or µm³ if ``x`` is in µm).
        what : {"objects", "holes"}
            As in scikit-image, background at an edge of the image is a hole too. Labels have no holes to fill.
        units : {"pixel", "physical"}
        connectivity : int
            How many axes neighbours in a mask may differ in.
        dims : str, optional
            See `fill_holes`.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> mask = xr.DataArray(np.array([[1, 0, 1, 1], [0, 0, 1, 1]], bool), dims=["y", "x"])
        >>> mask.img.remove_small(2).values.astype(int).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
        """
        given = number("size", size, 0)
        choice("what", what, ("objects", "holes"))
        choice("units", units, ("pixel", "physical"))

        def make(array: xr.DataArray) -> xr.DataArray:
            axes, holes = neighbourhood(array, dims), what == "holes"
            pixel = math.prod(step_of(array, a) for a in axes) if units == "physical" else 1.0
            large = partial(_large, given / pixel * (1 - 1e-12), holes)
            structure = structure_of(connectivity, axes)
            if not _are_labels(array):
                return selected(array, axes, structure, labelling.sizes, large, holes=holes)
            if holes or connectivity != 1:
                raise ValueError(
                    f"what={what!r}, connectivity={connectivity!r}: labels are objects, whose pixels need not touch; "
                    "take the mask, labels > 0"
                )
            return chosen(array, axes, labelling.sizes, large, "remove_small")

        return replaced(self._obj, make, "mask", "labels")

    def binary_erosion(self, radius: Radius = 1, *, units: Units = "pixel", dims: Dims = None) -> Any:
        """Erode masks with a ball. Powered by `scipy.ndimage.binary_erosion`.

        Pixels beyond the edge of the image do not count, as in `skimage.morphology.binary_erosion`.

        Parameters
        ----------
        radius : float, sequence or mapping
            Radius of the ball in pixels, or with ``units="physical"`` or a unit (``"0.5 µm"``) a length, which can be a
            different number of pixels along each axis. A pixel belongs to the ball if its centre does. An axis that a
            mapping does not name is not processed. The computing time grows with the volume of the ball.
        units : {"pixel", "physical"}
            What bare numbers are.
        dims : str, optional
            See `fill_holes`.
        """
        return _morphed(self._obj, "binary_erosion", radius, units, dims)

    def binary_dilation(self, radius: Radius = 1, *, units: Units = "pixel", dims: Dims = None) -> Any:
        """Dilate masks with a ball; see `binary_erosion` for the parameters."""
        return _morphed(self._obj, "binary_dilation", radius, units, dims)

    def binary_opening(self, radius: Radius = 1, *, units: Units = "pixel", dims: Dims = None) -> Any:
        """Erode, then dilate: remove parts into which the ball does not fit; see `binary_erosion` for the
        parameters."""
        return _morphed(self._obj, "binary_opening", radius, units, dims)

    def binary_closing(self, radius: Radius = 1, *, units: Units = "pixel", dims: Dims = None) -> Any:
        """Dilate, then erode: close gaps that the ball does not fit into; see `binary_erosion` for the parameters."""
        return _morphed(self._obj, "binary_closing", radius, units, dims)

    def expand_labels(self, distance: float | str = 1, *, units: Units = "pixel", dims: Dims = None) -> Any:
        """Grow labels by a distance, without growing into each other.

        Equal to `skimage.segmentation.expand_labels` for each complete image.

        Parameters
        ----------
        distance : float, str or quantity
            In pixels, or with ``units="physical"`` or a unit (``"0.5 µm"``) a length.
        units : {"pixel", "physical"}
        dims : str, optional
            See `fill_holes`.
        """
        choice("units", units, ("pixel", "physical"))
        given = quantity(distance) if has_unit(distance) else Quantity(distance, None)  # type: ignore[arg-type]
        physical = given.unit != PIXEL and (units == "physical" or given.unit is not None)

        def make(array: xr.DataArray) -> xr.DataArray:
            if array.dtype.kind not in "iu":
                raise TypeError(f"expand_labels: expected labels, which are integers, not {array.dtype}")
            axes = neighbourhood(array, dims)
            far = length("distance", distance, array) if physical else number("distance", given.value, 0)
            spacing = [step_of(array, a) if physical else 1.0 for a in axes]
            depth = [int(far / s + 1e-9) + 1 for s in spacing]
            func = partial(morphology.expand, distance=far, spacing=spacing)
            return _near(array, func, axes, depth, array.dtype, "expand_labels")

        return replaced(self._obj, make, "labels")


def _mask(array: xr.DataArray) -> xr.DataArray:
    if array.dtype != bool:
        raise TypeError(f"expected a mask, which is bool, not {array.dtype}: compare an image, or labels > 0")
    return array


def _are_labels(array: xr.DataArray) -> bool:
    """Return whether an array is labels, not a mask; integers must say that they are."""
    if array.dtype == bool:
        return False
    if array.dtype.kind not in "iu" or kind_of(array.attrs, array.dtype) != "labels":
        raise TypeError(
            f"expected a mask, which is bool, or labels, not {array.dtype}: compare an image, or say of integers that "
            "they are labels, .assign_attrs(kind='labels')"
        )
    return True


def _zero(found: np.ndarray) -> np.ndarray:
    return found == 0


def _large(least: float, holes: bool, sizes: np.ndarray) -> np.ndarray:
    return sizes < least if holes else sizes >= least


def _near(
    array: xr.DataArray, func: Any, axes: Sequence[str], depth: Sequence[int], dtype: Any, name: str, passes: int = 1
) -> xr.DataArray:
    places = [array.get_axis_num(a) for a in axes]
    each = EachImage(func, places, np.dtype(dtype), roomy=False)
    far = {k: (n, n) for k, n in zip(places, depth, strict=True)}
    return with_data(array, halo(chunked(array), each, far, passes=passes, dtype=np.dtype(dtype), name=name))


def _morphed(obj: Any, name: str, radius: Any, units: Any, dims: Any) -> Any:
    def make(array: xr.DataArray) -> xr.DataArray:
        axes = neighbourhood(_mask(array), named(dims, "radius", radius))
        radii = pixels("radius", radius, array, axes, units=units, absent=0.0, whole=False)
        structure = morphology.ellipsoid([radii[a] for a in axes])
        passes = len(morphology.STEPS[name])
        depth = [passes * (n // 2) for n in structure.shape]
        return _near(array, partial(morphology.morph, name=name, structure=structure), axes, depth, bool, name, passes)

    return replaced(obj, make, "mask")
