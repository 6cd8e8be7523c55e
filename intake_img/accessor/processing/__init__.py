"""The processing methods in one class, which `ds.img` inherits."""

from __future__ import annotations

from intake_img.accessor.processing.drift import Registrations
from intake_img.accessor.processing.export import Exports
from intake_img.accessor.processing.filter_methods import Filters
from intake_img.accessor.processing.geometry import Geometry
from intake_img.accessor.processing.mapping import Maps
from intake_img.accessor.processing.masks import Masks
from intake_img.accessor.processing.measure import Measures
from intake_img.accessor.processing.mosaic import Mosaics
from intake_img.accessor.processing.reductions import Reductions
from intake_img.accessor.processing.series import SeriesMethods
from intake_img.accessor.processing.splitting import Splits
from intake_img.accessor.processing.thresholds import Thresholds
from intake_img.accessor.processing.tracks import Tracks
from intake_img.accessor.progress import Pending

__all__ = ["Processing"]


class Processing(
    Maps,
    Filters,
    Reductions,
    SeriesMethods,
    Geometry,
    Registrations,
    Mosaics,
    Thresholds,
    Masks,
    Splits,
    Measures,
    Tracks,
    Exports,
):
    """Map, filters, reductions, series, geometry, registration, mosaics, masks, measurements, tracks and exports."""

    def pending(self) -> Pending:
        """Describe the computation without running it: for each variable its steps, tasks, chunks and sizes.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.zeros((9, 8), "u1"), dims=["y", "x"], name="image").chunk()
        >>> image.img.gaussian_filter(1).img.pending()
        image (y: 9, x: 8) uint8, 0.0 MB: xarray -> gaussian_filter
            2 tasks, 1 chunks of at most 0.00 MB
        """
        return Pending(self._obj)
