"""Registration of ``ds.img``: how far images along an axis are shifted, and images moved back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr

from intake_img.accessor.arguments import choice, flag, integer
from intake_img.accessor.processing.checks import real, skimage_for
from intake_img.accessor.processing.moving import fill_of, moved, shifts_in_pixels
from intake_img.accessor.processing.shifts import chosen_images, measured_shifts
from intake_img.accessor.variables import gridded, is_categorical, joined, spatial_axes
from intake_img.model.typed import Units

__all__ = ["Registrations"]


class Registrations:
    """Methods on shifts; see each of them."""

    _obj: Any
    _first: Any

    def measure_shifts(
        self,
        along: str = "t",
        reference: int | float | str | None = None,
        *,
        upsample: int = 10,
        normalization: str | None = None,
        window: bool = True,
        dims: str | Sequence[str] | None = None,
        units: Units = "pixel",
        progress: bool | None = None,
        **place: int | float | str,
    ) -> xr.DataArray:
        """Measure how far the images along an axis have to be moved to lie on a reference, by their correlation.

        Drift over ``t`` by default; ``along="c"`` measures how channels lie to each other. Powered by
        `skimage.registration.phase_cross_correlation` [1]_; each image is transformed as a whole. A few images for
        each worker are in memory: measure large ones on a projection, a coarser level or a crop. Shifts of more than
        half of an image are not found.

        Parameters
        ----------
        along : str
            An axis that is not space.
        reference : int, float or str, optional
            The image to move onto: an index along the axis (int), or a coordinate, or a channel by name or number; by
            default the first. With ``"previous"`` each image is compared with the one before, and their shifts are
            added up.
        upsample : int
            Shifts are found to a fraction ``1 / upsample`` of a pixel.
        normalization : {None, "phase"}
            The cross-correlation itself, or phase correlation: all frequencies count alike. That suits sharp images
            with much detail and little noise, and fails on smooth ones, such as of stained cells.
        window : bool
            Subtract the mean of an image and let it fade towards its edges, with a Hann window; then measure the part
            that overlaps once more. Without, transforms see the edges of an image as its strongest feature, which does
            not move. False for images that are periodic.
        dims : str, optional
            The axes along which images are shifted; by default all spatial axes. Where one is left out, each of its
            places has shifts of its own.
        units : {"pixel", "physical"}
            What the shifts are in; with ``"physical"`` in the common unit of the image, that of ``x``.
        progress : bool, optional
            Show a progress bar; by default only in a terminal.
        **place : int, float or str
            Where to measure on other axes, as an index or a coordinate: ``c="DAPI"``; shifts then hold for all of the
            axis. Along other axes each place has shifts of its own. Of several channels one has to be named.

        Returns
        -------
        xarray.DataArray of float64
            With the axis `along`, ``axis`` (``"y"``, ``"x"``, ...), and the axes whose places have shifts of their own.
            What to add to positions, as in `scipy.ndimage.shift`; ``attrs["units"]`` says in what. NaN for images of
            one value, which have no shift. The coordinate ``correlation`` is Pearson's, of the pixels that overlap
            after moving by whole pixels: where it is low, a shift was not found. Save it as any DataArray
            (`to_netcdf`, `to_zarr`).

        Raises
        ------
        AxesError
            If an axis or a place is not there, or several channels are.
        ValueError
            If pixels are NaN or infinite.
        MissingExtraError
            If scikit-image is not installed.

        See Also
        --------
        apply_shifts : move images by what was measured, here or in another image.
        register : both in one step.

        References
        ----------
        .. [1] M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup, "Efficient subpixel image registration algorithms",
           Optics Letters 33 (2008) 156-158.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> frame = np.random.default_rng(0).random((32, 32))
        >>> movie = xr.DataArray([frame, np.roll(frame, (3, -2), (0, 1))], dims=["t", "y", "x"])
        >>> movie.img.measure_shifts().values.tolist()
        [[0.0, 0.0], [-3.0, 2.0]]
        """
        array = self._first
        real("measure_shifts", array)
        integer("upsample", upsample, 1)
        choice("normalization", normalization, ("phase", None))
        choice("units", units, ("pixel", "physical"))
        choice("progress", progress, (None, True, False))
        flag("window", window)
        skimage_for("measure_shifts")
        images = chosen_images(array, along, reference, dims, place)
        options = (upsample, normalization, window)
        return measured_shifts(images, options, units == "physical", progress)

    def apply_shifts(self, shifts: xr.DataArray, *, order: int = 1, fill: float | None = None) -> Any:
        """Move images by shifts, lazily; the size and the coordinates stay.

        Shifts of whole pixels only select: values stay as they are. Others are interpolated as by
        `scipy.ndimage.shift`; with ``order=1``, linearly, each chunk reads what it needs of its neighbours, and results
        are the same for every chunking. Splines of a higher order depend on all pixels: an image is then moved as a
        whole, and has to fit into memory. Labels and masks of a Dataset are moved to the nearest pixel.

        Parameters
        ----------
        shifts : xarray.DataArray
            As of `measure_shifts`: an axis named ``axis`` with the names of spatial axes as coordinate, and axes of the
            image, aligned with it by coordinates where both have them. ``attrs["units"]`` is ``"px"`` or a unit of
            length: physical shifts can be applied to another level or image.
        order : int
            0 for the nearest pixel, 1 for linear, up to 5. Shifts closer than 1e-6 pixels to whole pixels are whole.
        fill : float, optional
            What comes in from outside; by default NaN in floats, 0 in all else. Labels and masks get 0.

        Returns
        -------
        xarray.Dataset or xarray.DataArray
            Of the same dtype; interpolated integers are rounded.

        Raises
        ------
        AxesError
            If the image lacks an axis of the shifts, or they do not cover it.
        ValueError
            If shifts are NaN, or do not say their unit.
        OverflowError
            On computing, if integers beyond 2**53 are to be interpolated.
        """
        integer("order", order, 0)
        choice("order", order, range(6))
        if isinstance(self._obj, xr.DataArray):
            return self._changed(self._obj, shifts, order, fill)
        found = {n: v for n, v in gridded(self._obj).items() if not is_categorical(v) or spatial_axes(v)}
        return joined(self._obj, {n: self._changed(v, shifts, order, fill) for n, v in found.items()})

    @staticmethod
    def _changed(array: xr.DataArray, shifts: Any, order: int, fill: Any) -> xr.DataArray:
        real("apply_shifts", array)
        labels = is_categorical(array)
        pixels = shifts_in_pixels(shifts, array)
        return moved(
            array, pixels, 0 if labels or array.dtype == bool else order, fill_of(array, None if labels else fill)
        )

    def register(
        self,
        along: str = "t",
        reference: int | float | str | None = None,
        *,
        upsample: int = 10,
        normalization: str | None = None,
        window: bool = True,
        dims: str | Sequence[str] | None = None,
        order: int = 1,
        fill: float | None = None,
        progress: bool | None = None,
        **place: int | float | str,
    ) -> Any:
        """Move the images along an axis onto a reference: `measure_shifts` now, then `apply_shifts` lazily.

        Parameters
        ----------
        along, reference, upsample, normalization, window, dims, progress, **place
            See `measure_shifts`.
        order, fill
            See `apply_shifts`.

        Returns
        -------
        xarray.Dataset or xarray.DataArray

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> frame = np.random.default_rng(0).integers(1, 99, (32, 32))
        >>> movie = xr.DataArray([frame, np.roll(frame, 3, 1)], dims=["t", "y", "x"])
        >>> still = movie.img.register()
        >>> bool((still[1, :, :-3] == still[0, :, :-3]).all()), int(still[1, :, -3:].max())
        (True, 0)
        """
        shifts = self.measure_shifts(
            along,
            reference,
            upsample=upsample,
            normalization=normalization,
            window=window,
            dims=dims,
            units="pixel",
            progress=progress,
            **place,
        )
        return self.apply_shifts(shifts, order=order, fill=fill)
