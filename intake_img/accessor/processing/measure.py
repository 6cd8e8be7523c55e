"""Objects of ``ds.img``: connected components of chunked images, and tables of region properties."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from intake_img.accessor.alignment import aligned
from intake_img.accessor.arguments import choice
from intake_img.accessor.processing.components import labelled
from intake_img.accessor.processing.object_results import derived
from intake_img.accessor.processing.regions import by_channel, measured
from intake_img.accessor.variables import images, native
from intake_img.errors import AxesError
from intake_img.model.axes import spell
from intake_img.model.typed import LayerLike, Units
from intake_img.model.variables import kind_of

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
        """Label the connected components of nonzero pixels, in every image separately, lazily if the image is lazy.

        The labels equal those of `scipy.ndimage.label` for the complete image, whatever the chunks are: components are
        joined across chunk boundaries. Until all chunks of an image are read, its labels are kept in memory, 1 or 2
        bytes a pixel, beyond an eighth of the memory of the machine in an unnamed temporary file. If a Dataset has
        exactly one mask (as from `threshold`), its components are labelled, else those of the image.

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
            int32 (int64 for images of 2^31 pixels and more, as in scipy), with ``attrs["kind"] == "labels"``.
        """
        return derived(self._obj, lambda array: labelled(array, connectivity, dims), output, overwrite, of="mask")

    def regionprops(
        self,
        labels: LayerLike | None = None,
        intensity: LayerLike | None = None,
        properties: Sequence[str] | None = None,
        *,
        units: Units = "pixel",
        extra_properties: Sequence[Callable[..., Any]] = (),
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Measure every region of a label image: a table like that of `skimage.measure.regionprops_table`.

        Properties that are sums over pixels are computed chunk by chunk, in parallel, and added as integers: the table
        does not depend on the chunks, and neither the labels nor the image need fit into memory. These are ``label,
        num_pixels, area, bbox, slice, area_bbox, extent, equivalent_diameter_area, centroid, centroid_local,
        inertia_tensor, inertia_tensor_eigvals, axis_major_length, axis_minor_length, eccentricity, orientation,
        moments, moments_central, moments_normalized, moments_hu, euler_number, perimeter, perimeter_crofton``, and the
        intensities ``intensity_min, intensity_max, intensity_mean, intensity_std``. Two more are ``intensity_sum`` and,
        for volumes, ``surface_area``, the area of the mesh of marching cubes [1]_. For any other property
        (``solidity``, ``feret_diameter_max``, ``intensity_median``, ...) each region is read once more, by its bounding
        box, and measured by scikit-image. A region of a volume that is flat has no convex hull, about which
        scikit-image warns: its ``area_convex`` is 0, its ``feret_diameter_max`` NaN.

        Parameters
        ----------
        labels : str or DataArray, optional
            The label image: by default the DataArray itself, or the one variable of a Dataset whose kind is ``labels``.
            As in scikit-image only numbers above 0 are regions; numbers below 0 have no row, and a warning names them.
        intensity : str, DataArray or False, optional
            The intensity image: by default the image of the Dataset, if its axes include those of the labels, or the
            DataArray itself if `labels` is given; False for none. Each of its channels has its own rows. It is aligned
            with the labels by coordinates, if both have them, and must cover them.
        properties : sequence of str, optional
            Names as in scikit-image; by default ``label``, ``area``, ``bbox``, ``centroid`` and, with an image,
            ``intensity_mean``, ``intensity_min`` and ``intensity_max``. Those with several numbers become columns
            ``bbox-0``, ``bbox-1``, ...
        units : {"pixel", "physical"}
            Whether lengths, areas, moments and centroids are in pixels or physical. Lengths, areas, volumes and moments
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
            One row for each region of each image, with a column for each non-spatial axis (its coordinate, or its
            index), and for ``label``. ``attrs["units"]`` is the common unit (``"px"`` for pixels),
            ``attrs["column_units"]`` the unit of each column that has one, e.g. ``{"area": "µm²"}``.

        See Also
        --------
        measure_objects : a table with one row for each region, and columns for each channel.

        References
        ----------
        .. [1] T. Lewiner, H. Lopes, A. W. Vieira, G. Tavares, "Efficient implementation of marching cubes' cases with
           topological guarantees", Journal of Graphics Tools 8 (2003) 1-15.
        """
        label_array, image = _pair(self._obj, labels, intensity)
        choice("progress", progress, (None, True, False))
        usual = ("label", "area", "bbox", "centroid")
        values = () if image is None else ("intensity_mean", "intensity_min", "intensity_max")
        chosen = (*usual, *values) if properties is None else _chosen("properties", properties, str)
        extra = _chosen("extra_properties", extra_properties, Callable)
        return measured(label_array, image, chosen, extra, units, progress)

    def measure_objects(
        self,
        labels: LayerLike | None = None,
        intensity: LayerLike | None = None,
        properties: Sequence[str] | None = None,
        *,
        units: Units = "pixel",
        extra_properties: Sequence[Callable[..., Any]] = (),
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Measure objects x channels: one row for each region, with a column of each intensity property for each
        channel.

        See `regionprops` for the parameters.

        Returns
        -------
        pandas.DataFrame
            The table of `regionprops`, without the column ``c``: ``intensity_mean`` of a channel ``DAPI`` is the column
            ``intensity_mean-DAPI``; channels without names, or with names that repeat, have their numbers. Labels that
            differ between channels keep a row for each channel.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.arange(12).reshape(2, 2, 3), dims=["c", "y", "x"], coords={"c": ["R", "G"]})
        >>> labels = xr.DataArray([[1, 1, 0], [0, 2, 2]], dims=["y", "x"], attrs={"kind": "labels"})
        >>> ds = xr.Dataset({"image": image, "labels": labels})
        >>> ds.img.measure_objects(properties=["area", "intensity_mean"])
           label  area  intensity_mean-R  intensity_mean-G
        0      1   2.0               0.5               6.5
        1      2   2.0               4.5              10.5
        """
        label_array, image = _pair(self._obj, labels, intensity)
        extra = _chosen("extra_properties", extra_properties, Callable)
        options: Any = {"units": units, "extra_properties": extra, "progress": progress}
        if image is None or "c" not in image.dims or "c" in label_array.dims:
            return self.regionprops(labels, intensity, properties, **options)
        if "c" in image.coords and not image["c"].to_index().is_unique:
            image = image.drop_vars("c")
        table = label_array.img.regionprops(None, image, properties, **options)
        names = image["c"].values if "c" in image.coords else range(image.sizes["c"])
        return by_channel(table, [f.__name__ for f in extra], list(names))


def _pair(obj: Any, labels: Any, intensity: Any) -> tuple[xr.DataArray, xr.DataArray | None]:
    if isinstance(obj, xr.DataArray):
        label_array = obj if labels is None else labels
        own = None if labels is None else obj
        image = own if intensity is None else None if intensity is False else intensity
    else:
        if labels is None:
            kinds = [n for n, v in obj.data_vars.items() if kind_of(v.attrs, v.dtype) == "labels"]
            if not kinds:
                raise ValueError(
                    f"labels: the Dataset has no variable whose kind is 'labels', only {', '.join(map(str, obj))}: "
                    "make one of a mask, with .img.label(), or name one"
                )
            if len(kinds) > 1:
                raise ValueError(
                    f"labels: the Dataset has {len(kinds)} variables of labels: {', '.join(kinds)}; name one"
                )
            labels = kinds[0]
        label_array, image = _variable(obj, "labels", labels), _variable(obj, "intensity", intensity)
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
        axes = spell(tuple(map(str, image.dims)))
        if missing := [d for d in label_array.dims if d not in image.dims]:
            raise AxesError(f"the labels have the axis {missing[0]!r}, which the image, {axes!r}, lacks")
        image = aligned("the image", image, label_array, cover=True, other="the label image")
    return native(label_array), image


def _variable(obj: xr.Dataset, argument: str, given: Any) -> Any:
    """Return the variable of a name; anything else as it is."""
    if isinstance(given, str) and given not in obj:
        raise KeyError(f"{argument}={given!r}: the Dataset has no such variable, only {', '.join(map(str, obj))}")
    return obj[given] if isinstance(given, str) else given


def _chosen(name: str, values: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable) or not all(isinstance(v, kind) for v in values):
        what = "names of properties" if kind is str else "functions"
        raise TypeError(f"{name}={values!r}: expected a sequence of {what}")
    return tuple(values)
