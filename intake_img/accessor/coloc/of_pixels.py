"""``ds.img.coloc``: measures of pixels, their significance, and the shift between channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack

import xarray as xr

from intake_img.model.typed import (
    Channel,
    ConventionOptions,
    LayerLike,
    Length,
    Lengths,
    Mask,
    MeasureOptions,
    OverlapOptions,
    Pairs,
    RegionOptions,
    Thresholds,
)

__all__ = ["PixelColoc"]


class PixelColoc:
    """Colocalization of pixels; see each method."""

    _obj: Any

    def measure(
        self,
        pairs: Pairs = None,
        *,
        measures: Iterable[str] | str | None = None,
        mask: Mask = None,
        labels: LayerLike | None = None,
        thresholds: Thresholds = None,
        thresholds_from: str = "label",
        costes_options: Mapping[str, Any] | None = None,
        **conventions: Unpack[ConventionOptions],
    ) -> xr.Dataset:
        """Measure pairs of channels in one pass over the pixels.

        Parameters
        ----------
        pairs : optional
            Channels; see the class.
        measures : str or iterable of str, optional
            Some of the variables below; all by default.
        mask, labels : optional
            The pixels to measure; each label is a separate region, all are measured in the same pass.
        thresholds : optional
            None; ``"costes"``, ``"costes_bisection"``, ``"costes_cellprofiler_fast"``,
            ``"costes_cellprofiler_faster"``;
            ``"otsu"``; ``"15%"`` of each channel's maximum; a number; ``(a, b)``; or ``{channel: value}``.
        thresholds_from : {"label", "image"}
            Whether automatic thresholds are computed for each label, or from all labelled pixels of the image.
        costes_options : mapping, optional
            ``scale`` and ``ties`` of CellProfiler's variants.
        **conventions
            Differences between tools, see `intake_img.kernels.conventions.Conventions`: ``above``, ``below``,
            ``manders_denominator``, ``manders_comparison``, ``icq_zero``, ``overlap_region``, ``rwc_ranks``, ``fit``.

        Returns
        -------
        xarray.Dataset
            Axes: the kept axes, ``pair``, and ``label`` if there are labels; ``channel1`` and ``channel2`` along
            ``pair``. Variables: ``pearson, pearson_above, pearson_below, spearman, kendall_tau, manders_m1, manders_m2,
            manders_tm1, manders_tm2, overlap, overlap_k1, overlap_k2, li_icq, rwc1, rwc2, slope, intercept, threshold1,
            threshold2, n``; on request ``spearman_t, intersection1, intersection2, n_above, fraction_above``. The
            attributes state how ranks were computed and which conventions were used. ``.to_dataframe()`` is tidy.

        Examples
        --------
        >>> import numpy as np, xarray as xr, intake_img
        >>> a = np.arange(100, dtype="uint8").reshape(10, 10)
        >>> ds = xr.Dataset({"image": (("c", "y", "x"), np.stack([a, a // 2]))}, coords={"c": ["A", "B"]})
        >>> found = ds.img.coloc.measure(("A", "B"), measures=["pearson", "n"])
        >>> round(float(found.pearson[0]), 3), int(found.n[0])
        (1.0, 100)
        """
        from intake_img.accessor.coloc.pixel_measures import measure

        return measure(
            self._obj,
            pairs,
            names=measures,
            mask=mask,
            labels=labels,
            thresholds=thresholds,
            thresholds_from=thresholds_from,
            options=costes_options,
            **conventions,
        )

    def _one(self, name: str, pairs: Pairs, **options: Unpack[MeasureOptions]) -> xr.DataArray:
        return self.measure(pairs, measures=[name], **options)[name]

    def pearson(self, pairs: Pairs = None, **options: Unpack[MeasureOptions]) -> xr.DataArray:
        """Pearson's r: cov(A, B) / (sd A sd B). Not for images with saturation or much empty background."""
        return self._one("pearson", pairs, **options)

    def spearman(self, pairs: Pairs = None, **options: Unpack[MeasureOptions]) -> xr.DataArray:
        """Spearman's rho: Pearson's r of mid-ranks."""
        return self._one("spearman", pairs, **options)

    def kendall_tau(self, pairs: Pairs = None, **options: Unpack[MeasureOptions]) -> xr.DataArray:
        """Kendall's tau-b: (concordant - discordant) / sqrt((pairs - ties in A)(pairs - ties in B))."""
        return self._one("kendall_tau", pairs, **options)

    def manders(
        self,
        pairs: Pairs = None,
        *,
        thresholds: Thresholds = None,
        denominator: Literal["total", "above"] = "total",
        **options: Unpack[OverlapOptions],
    ) -> xr.Dataset:
        """Manders' M1 = sum(A where B > 0) / sum(A), M2 mirrored; thresholded as tM1, tM2.

        Parameters
        ----------
        pairs : optional
        thresholds : optional
            See `measure`; without, only M1 and M2 are returned.
        denominator : {"total", "above"}
            For thresholded coefficients: all intensity (Coloc 2), or intensity above the own threshold (JACoP,
            CellProfiler).
        """
        names = ["manders_m1", "manders_m2"]
        if thresholds is not None:
            names += ["manders_tm1", "manders_tm2", "threshold1", "threshold2"]
        return self.measure(pairs, measures=names, thresholds=thresholds, manders_denominator=denominator, **options)

    def overlap(self, pairs: Pairs = None, **options: Unpack[MeasureOptions]) -> xr.Dataset:
        """Manders' overlap coefficient sum(AB) / sqrt(sum(AA) sum(BB)), k1 = sum(AB) / sum(AA), k2 = sum(AB) /
        sum(BB).
        """
        return self.measure(pairs, measures=["overlap", "overlap_k1", "overlap_k2"], **options)

    def li_icq(
        self,
        pairs: Pairs = None,
        *,
        zero: Literal["positive", "negative", "excluded"] = "positive",
        **options: Unpack[RegionOptions],
    ) -> xr.DataArray:
        """Li's ICQ: share of pixels with (A - mean A)(B - mean B) > 0, minus 0.5.

        Parameters
        ----------
        pairs : optional
        zero : {"positive", "negative", "excluded"}
            How products of exactly 0 count, as in Coloc 2, JACoP, and napari-colocalization.
        """
        return self._one("li_icq", pairs, icq_zero=zero, **options)

    def rwc(
        self, pairs: Pairs = None, *, thresholds: Thresholds = None, **options: Unpack[OverlapOptions]
    ) -> xr.Dataset:
        """Rank-weighted colocalization (Singan et al. 2011), as CellProfiler computes it."""
        return self.measure(pairs, measures=["rwc1", "rwc2"], thresholds=thresholds, **options)

    def intersection(self, pairs: Pairs = None, **options: Unpack[MeasureOptions]) -> xr.Dataset:
        """Share of the pixels above 0 of one channel that are above 0 in the other: |A & B| / |A|, |A & B| / |B|."""
        return self.measure(pairs, measures=["intersection1", "intersection2"], **options)

    def linear_fit(
        self, pairs: Pairs = None, *, fit: Literal["orthogonal", "ols"] = "orthogonal", **options: Unpack[RegionOptions]
    ) -> xr.Dataset:
        """Slope and intercept of channel 2 over channel 1: ``"orthogonal"`` (total least squares) or ``"ols"``."""
        return self.measure(pairs, measures=["slope", "intercept"], fit=fit, **options)

    def costes_threshold(
        self, a: Channel, b: Channel, *, mask: Mask = None, method: str = "simple", **options: Any
    ) -> Any:
        """Costes' automatic thresholds of two channels.

        Parameters
        ----------
        a, b : str or int
            Channels.
        mask : optional
        method : {"simple", "bisection", "cellprofiler_fast", "cellprofiler_faster"}
            See `intake_img.kernels.costes.costes`.
        **options
            ``scale`` and ``ties`` of CellProfiler's variants.

        Returns
        -------
        (float, float)
            The thresholds of one position; DataArrays along the kept axes if an image has several positions.
        """
        from intake_img.kernels.costes import METHODS

        if method not in METHODS:
            raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
        name = "costes" if method == "simple" else f"costes_{method}"
        found = self.measure(
            (a, b), measures=["threshold1", "threshold2"], mask=mask, thresholds=name, costes_options=options
        )
        both = found["threshold1"].squeeze("pair", drop=True), found["threshold2"].squeeze("pair", drop=True)
        return tuple(float(t.item()) for t in both) if both[0].size == 1 else both

    def histogram(self, a: Channel, b: Channel, *, mask: Mask = None) -> xr.DataArray:
        """Joint histogram of two integer channels, one bin for each grey value between minimum and maximum.

        Returns
        -------
        xarray.DataArray
            Number of pixels with axes ``value1`` and ``value2``; for the first position if an image has several.
        """
        import numpy as np

        from intake_img.accessor.coloc.figures import table_at

        table = table_at(self._obj, a, b, mask, {})
        if table.a.dtype.kind == "f" or not len(table):
            raise TypeError("a joint histogram needs whole grey values, and at least one pixel")
        low = [int(x.min()) for x in (table.a, table.b)]
        size = [int(x.max()) - k + 1 for x, k in zip((table.a, table.b), low, strict=True)]
        counts = np.zeros(size, np.int64)
        counts[table.a - low[0], table.b - low[1]] = table.count
        coords = {f"value{k + 1}": np.arange(low[k], low[k] + size[k]) for k in (0, 1)}
        return xr.DataArray(counts, dims=("value1", "value2"), coords=coords, name="pixels")

    def significance(
        self,
        pairs: Pairs = None,
        *,
        block: Lengths,
        units: str | None = None,
        mask: Mask = None,
        n: int = 200,
        seed: int = 0,
        alternative: str = "greater",
    ) -> xr.Dataset:
        """Costes' randomisation: is r larger than with the blocks of channel 1 randomly permuted?

        Parameters
        ----------
        pairs : optional
        block : float, str, quantity, or mapping of str to these
            Edge of a block, about the width of the point spread function; a bare number is in the common unit.
        units : {None, "px"}
        mask : optional
            Only blocks that lie completely inside are used.
        n : int
            Number of permutations.
        seed : int
        alternative : {"greater", "less", "two-sided"}

        Returns
        -------
        xarray.Dataset
            ``pearson`` (over the used blocks), ``p_value`` = (1 + permutations at least as extreme) / (1 + n), so that
            small is significant, ``z_score``, ``mean`` and ``std`` of the permutations, and ``permuted``, their values.
            Large channels are kept block by block in a temporary file.
        """
        from intake_img.accessor.coloc.significance import significance

        return significance(
            self._obj, pairs, block=block, units=units, mask=mask, n=n, seed=seed, alternative=alternative
        )

    def ccf(
        self,
        pairs: Pairs = None,
        *,
        axis: str = "x",
        limit: Length | None = None,
        units: str | None = None,
        mask: Mask = None,
    ) -> xr.DataArray:
        """Van Steensel's cross-correlation function: r of channel 1 at x with channel 2 at x + lag.

        Parameters
        ----------
        pairs : optional
        axis : str
            Spatial axis along which to shift.
        limit : float, str or quantity, optional
            Largest shift; a bare number is in the common unit. 20 pixels by default.
        units : {None, "px"}
        mask : optional
            Both pixels must lie inside.

        Returns
        -------
        xarray.DataArray
            Along ``lag`` (its unit is in its attributes), without wrapping; means are over the overlap.
        """
        from intake_img.accessor.coloc.significance import ccf

        return ccf(self._obj, pairs, axis=axis, limit=limit, units=units, mask=mask)

    def chromatic_shift(
        self, reference: Channel | None = None, *, upsample: int = 100, normalization: str | None = None
    ) -> xr.DataArray:
        """Estimate the displacement of each channel from a reference channel by phase correlation, with subpixel
        accuracy.

        Powered by `skimage.registration.phase_cross_correlation`. If a channel has more than 2**25 pixels, only windows
        are read, at most three along each axis, spread evenly; the result is the median of their estimates.

        Parameters
        ----------
        reference : str or int
        upsample : int
            The accuracy of the estimate is 1/upsample of a pixel.
        normalization : {None, "phase"}
            None for plain cross-correlation, better for noisy images; ``"phase"`` for correlation of only the phases.

        Returns
        -------
        xarray.DataArray
            Displacement along ``axis`` of each channel ``c``, in the common unit; NaN for a constant channel. The
            attribute ``units`` names the unit: ``"px"`` if the axes do not share one. The attribute ``windows`` is the
            number of windows.
        """
        from intake_img.accessor.coloc.significance import chromatic_shift

        return chromatic_shift(self._obj, reference=reference, upsample=upsample, normalization=normalization)

    def correct_shift(self, shifts: xr.DataArray, *, order: int = 1, fill: float = 0) -> Any:
        """Move each channel back by its displacement, lazily.

        Parameters
        ----------
        shifts : DataArray
            As returned by `chromatic_shift`: in ``attrs["units"]``, or else in the common unit.
        order : {0, 1}
            Nearest pixel, or linear interpolation; integers are rounded.
        fill : float
            Value beyond the border.

        Returns
        -------
        Dataset or DataArray
            The same type as the input, with the image moved.
        """
        from intake_img.accessor.coloc.significance import correct_shift

        if order not in (0, 1):
            raise ValueError(f"order={order!r}: expected 0 or 1; wider splines would depend on the chunks")
        return correct_shift(self._obj, shifts, order=order, fill=fill)
