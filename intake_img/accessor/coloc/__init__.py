"""``ds.img.coloc``: colocalization by names and physical units, of pixels, of blobs and of objects.

Each method is a few lines over the module that does the work; what measures mean, and what tools do differently, is in
``docs/explanation/colocalization.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    import pandas as pd

    from intake_img.accessor.coloc.matching import Matches

__all__ = ["Coloc", "detect_blobs"]


class Coloc:
    """Colocalization of the channels of an image.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
        With an axis ``c`` and axes of space.

    Notes
    -----
    Pixels are pooled over ``z``, ``y`` and ``x``; every other axis (``t``, ``i``, ...) stays apart. `pairs` is None for
    all pairs of channels, one pair ``("actin", "DNA")``, or a list of pairs, by name or number. `mask` and `labels` are
    DataArrays, plain arrays with the axes of space, or names of variables of the Dataset. Along axes for which both
    have coordinates they are aligned with the image by these, along others by shape; pixels that they do not cover are
    outside. Any value but 0 and NaN is inside a mask; 0 and less is outside every label. Undefined is NaN. Pixels that
    are not finite in both channels are left out.

    Lengths are in the common unit of the image, that of ``x``, unless they say their own (``"300 nm"``); positions are
    values of the coordinates. See `intake_img.accessor.lengths`.
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self._obj = obj

    # pixels

    def measure(
        self,
        pairs: Any = None,
        *,
        measures: Iterable[str] | str | None = None,
        mask: Any = None,
        labels: Any = None,
        thresholds: Any = None,
        thresholds_from: str = "label",
        costes_options: Mapping[str, Any] | None = None,
        **conventions: Any,
    ) -> xr.Dataset:
        """Measure pairs of channels in one pass over the pixels.

        Parameters
        ----------
        pairs : optional
            Channels; see the class.
        measures : str or iterable of str, optional
            Some of the variables below; all by default.
        mask, labels : optional
            Where to measure; with labels, each is a region of its own, all in the same pass.
        thresholds : optional
            None; ``"costes"``, ``"costes_bisection"``, ``"costes_cellprofiler_fast"``,
            ``"costes_cellprofiler_faster"``;
            ``"otsu"``; ``"15%"`` of each channel's maximum; a number; ``(a, b)``; or ``{channel: value}``.
        thresholds_from : {"label", "image"}
            Whether automatic thresholds are each label's own, or those of all labelled pixels of the image.
        costes_options : mapping, optional
            ``scale`` and ``ties`` of CellProfiler's variants.
        **conventions
            What tools do differently, see `intake_img.kernels.conventions.Conventions`: ``above``, ``below``,
            ``manders_denominator``, ``manders_comparison``, ``icq_zero``, ``overlap_region``, ``rwc_ranks``, ``fit``.

        Returns
        -------
        xarray.Dataset
            Axes: those kept, ``pair``, and ``label`` if there are labels; ``channel1`` and ``channel2`` along ``pair``.
            Variables: ``pearson, pearson_above, pearson_below, spearman, kendall_tau, manders_m1, manders_m2,
            manders_tm1, manders_tm2, overlap, overlap_k1, overlap_k2, li_icq, rwc1, rwc2, slope, intercept, threshold1,
            threshold2, n``; on request ``spearman_t, intersection1, intersection2, n_above, fraction_above``. The
            attributes say how ranks were taken and which conventions held. ``.to_dataframe()`` is tidy.

        Examples
        --------
        >>> import numpy as np, xarray as xr, intake_img
        >>> a = np.arange(100, dtype="uint8").reshape(10, 10)
        >>> ds = xr.Dataset({"image": (("c", "y", "x"), np.stack([a, a // 2]))}, coords={"c": ["A", "B"]})
        >>> found = ds.img.coloc.measure(("A", "B"), measures=["pearson", "n"])
        >>> round(float(found.pearson[0]), 3), int(found.n[0])
        (1.0, 100)
        """
        from intake_img.accessor.coloc.pixels import measure

        return measure(
            self._obj, pairs, names=measures, mask=mask, labels=labels, thresholds=thresholds,
            thresholds_from=thresholds_from, options=costes_options, **conventions,
        )  # fmt: skip

    def _one(self, name: str, pairs: Any, **options: Any) -> xr.DataArray:
        return self.measure(pairs, measures=[name], **options)[name]

    def pearson(self, pairs: Any = None, **options: Any) -> xr.DataArray:
        """Pearson's r: cov(A, B) / (sd A sd B). Not for images that saturate or hold much empty background."""
        return self._one("pearson", pairs, **options)

    def spearman(self, pairs: Any = None, **options: Any) -> xr.DataArray:
        """Spearman's rho: Pearson's r of mid-ranks."""
        return self._one("spearman", pairs, **options)

    def kendall_tau(self, pairs: Any = None, **options: Any) -> xr.DataArray:
        """Kendall's tau-b: (concordant - discordant) / sqrt((pairs - ties in A)(pairs - ties in B))."""
        return self._one("kendall_tau", pairs, **options)

    def manders(
        self, pairs: Any = None, *, thresholds: Any = None, denominator: str = "total", **options: Any
    ) -> xr.Dataset:
        """Manders' M1 = sum(A where B > 0) / sum(A), M2 mirrored; thresholded as tM1, tM2.

        Parameters
        ----------
        pairs : optional
        thresholds : optional
            See `measure`; without, only M1 and M2 are returned.
        denominator : {"total", "above"}
            Thresholded: over all intensity (Coloc 2), or that above the own threshold (JACoP, CellProfiler).
        """
        names = ["manders_m1", "manders_m2"]
        if thresholds is not None:
            names += ["manders_tm1", "manders_tm2", "threshold1", "threshold2"]
        return self.measure(pairs, measures=names, thresholds=thresholds, manders_denominator=denominator, **options)

    def overlap(self, pairs: Any = None, **options: Any) -> xr.Dataset:
        """Manders' overlap coefficient sum(AB) / sqrt(sum(AA) sum(BB)), k1 = sum(AB) / sum(AA), k2 = sum(AB) /
        sum(BB).
        """
        return self.measure(pairs, measures=["overlap", "overlap_k1", "overlap_k2"], **options)

    def li_icq(self, pairs: Any = None, *, zero: str = "positive", **options: Any) -> xr.DataArray:
        """Li's ICQ: share of pixels with (A - mean A)(B - mean B) > 0, minus 0.5.

        Parameters
        ----------
        pairs : optional
        zero : {"positive", "negative", "excluded"}
            Where products of exactly 0 count: Coloc 2, JACoP, napari-colocalization.
        """
        return self._one("li_icq", pairs, icq_zero=zero, **options)

    def rwc(self, pairs: Any = None, *, thresholds: Any = None, **options: Any) -> xr.Dataset:
        """Rank-weighted colocalization (Singan et al. 2011), as CellProfiler computes it."""
        return self.measure(pairs, measures=["rwc1", "rwc2"], thresholds=thresholds, **options)

    def intersection(self, pairs: Any = None, **options: Any) -> xr.Dataset:
        """Share of the pixels above 0 of one channel that are above 0 in the other: |A & B| / |A|, |A & B| / |B|."""
        return self.measure(pairs, measures=["intersection1", "intersection2"], **options)

    def linear_fit(self, pairs: Any = None, *, fit: str = "orthogonal", **options: Any) -> xr.Dataset:
        """Slope and intercept of channel 2 over channel 1: ``"orthogonal"`` (total least squares) or ``"ols"``."""
        return self.measure(pairs, measures=["slope", "intercept"], fit=fit, **options)

    def costes_threshold(self, a: Any, b: Any, *, mask: Any = None, method: str = "simple", **options: Any) -> Any:
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
            Of one position; DataArrays along the kept axes where an image has several.
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

    def histogram(self, a: Any, b: Any, *, mask: Any = None) -> xr.DataArray:
        """Joint histogram of two channels of whole numbers, one bin for each grey value between minimum and maximum.

        Returns
        -------
        xarray.DataArray
            Number of pixels with axes ``value1`` and ``value2``; of the first position where an image has several.
        """
        import numpy as np

        from intake_img.accessor.coloc.pictures import table_at

        table = table_at(self._obj, a, b, mask, {})
        if table.a.dtype.kind == "f" or not len(table):
            raise TypeError("a joint histogram needs whole grey values, and at least one pixel")
        low = [int(x.min()) for x in (table.a, table.b)]
        size = [int(x.max()) - k + 1 for x, k in zip((table.a, table.b), low, strict=True)]
        counts = np.zeros(size, np.int64)
        counts[table.a - low[0], table.b - low[1]] = table.count
        coords = {f"value{k + 1}": np.arange(low[k], low[k] + size[k]) for k in (0, 1)}
        return xr.DataArray(counts, dims=("value1", "value2"), coords=coords, name="pixels")

    # significance and shift

    def significance(
        self, pairs: Any = None, *, block: Any, units: str | None = None, mask: Any = None, n: int = 200, seed: int = 0,
        alternative: str = "greater",
    ) -> xr.Dataset:  # fmt: skip
        """Costes' randomisation: is r larger than with the blocks of channel 1 exchanged at random?

        Parameters
        ----------
        pairs : optional
        block : float, str, quantity, or mapping of str to these
            Edge of a block, about the width of the point spread function; a bare number is in the common unit.
        units : {None, "px"}
        mask : optional
            Only blocks that lie whole inside take part.
        n : int
            Number of arrangements.
        seed : int
        alternative : {"greater", "less", "two-sided"}

        Returns
        -------
        xarray.Dataset
            ``pearson`` (over the blocks that take part), ``p_value`` = (1 + arrangements at least as extreme) / (1 +
            n),
            so that small is significant, ``z_score``, ``mean`` and ``std`` of the arrangements, and ``permuted``
            itself. Channels that are larger than some memory are kept block by block in a temporary file.
        """
        from intake_img.accessor.coloc.significance import significance

        return significance(
            self._obj, pairs, block=block, units=units, mask=mask, n=n, seed=seed, alternative=alternative
        )

    def ccf(
        self, pairs: Any = None, *, axis: str = "x", limit: Any = None, units: str | None = None, mask: Any = None
    ) -> xr.DataArray:
        """Van Steensel's cross-correlation function: r of channel 1 at x with channel 2 at x + lag.

        Parameters
        ----------
        pairs : optional
        axis : str
            Axis of space along which to shift.
        limit : float, str or quantity, optional
            Largest shift; a bare number is in the common unit. 20 pixels by default.
        units : {None, "px"}
        mask : optional
            Both pixels must lie inside.

        Returns
        -------
        xarray.DataArray
            Along ``lag`` (its unit is in its attributes); nothing wraps around, means are over the overlap.
        """
        from intake_img.accessor.coloc.significance import ccf

        return ccf(self._obj, pairs, axis=axis, limit=limit, units=units, mask=mask)

    def chromatic_shift(
        self, reference: Any = 0, *, upsample: int = 100, normalization: str | None = None
    ) -> xr.DataArray:
        """Estimate by phase correlation how far each channel is displaced from a reference channel, below a pixel.

        Powered by `skimage.registration.phase_cross_correlation`. Of images of more than 2**25 pixels a channel only
        windows are read, at most three along each axis, spread evenly; the median of what they give is returned.

        Parameters
        ----------
        reference : str or int
        upsample : int
            The estimate is to 1/upsample of a pixel.
        normalization : {None, "phase"}
            Plain cross-correlation, better for noisy images, or that of the phases alone.

        Returns
        -------
        xarray.DataArray
            Displacement along ``axis`` of each channel ``c``, in the common unit; NaN for a constant channel. The
            attribute ``units`` names the unit: ``"px"`` where the axes do not share one.
            The attribute ``windows`` says from how many windows.
        """
        from intake_img.accessor.coloc.significance import chromatic_shift

        return chromatic_shift(self._obj, reference=reference, upsample=upsample, normalization=normalization)

    def correct_shift(self, shifts: xr.DataArray, *, order: int = 1, fill: float = 0) -> Any:
        """Move each channel back by its displacement, lazily.

        Parameters
        ----------
        shifts : DataArray
            As `chromatic_shift` returns it: in ``attrs["units"]``, or else in the common unit.
        order : {0, 1}
            Nearest pixel, or linear interpolation; integers are rounded.
        fill : float
            Value beyond the border.

        Returns
        -------
        Dataset or DataArray
            As was given, with the image moved.
        """
        from intake_img.accessor.coloc.significance import correct_shift

        if order not in (0, 1):
            raise ValueError(f"order={order!r}: expected 0 or 1; wider splines would depend on the chunks")
        return correct_shift(self._obj, shifts, order=order, fill=fill)

    # blobs

    def blobs(
        self, blobs: pd.DataFrame, threshold: Any = "min", footprint: Any = 2, *, overlap: str = "share"
    ) -> pd.DataFrame:
        """Judge blobs by the intensity of every channel around them (MagellanMapper's colocalize_blobs).

        Parameters
        ----------
        blobs : DataFrame
            ``blob_id, channel, z, y, x`` and ``t`` as on the coordinates, and ``radius``, in the common unit, where
            known.
        threshold : "min", float or mapping
            A blob is in a channel if its mean there is at least the channel's threshold: the lowest mean of the
            channel's
            own blobs, a percentile of all voxels around them, or given values. Thresholds are those of the whole image.
        footprint : float, "radius" or mapping
            A ball of so many voxels, of each blob's own radius, or an ellipsoid of physical semi-axes.
        overlap : {"share", "last"}
            Whether blobs share voxels, so that no blob changes another, or (MagellanMapper) later ones take them.

        Returns
        -------
        DataFrame
            A row for each blob, in the order given: ``blob_id, channel, mean_<channel>, in_<channel>``; blobs
            outside the
            image have NaN and False. ``attrs["thresholds"]``.
        """
        from intake_img.accessor.coloc.blobs import colocalize

        return colocalize(self._obj, blobs, threshold=threshold, footprint=footprint, overlap=overlap)

    def match(
        self, blobs: pd.DataFrame, tol: Any, *, units: str | None = None, channels: Any = None, roi: Any = None,
        method: str = "gated", inner_padding: Any = None, blocks: Any = None,
    ) -> Matches:  # fmt: skip
        """Pair the blobs of channels that lie within a tolerance of each other, each blob at most once for each pair.

        Parameters
        ----------
        blobs : DataFrame
            ``blob_id, channel, z, y, x`` and ``t`` where known: positions on the coordinates, each in the unit of its
            axis.
        tol : float, str, quantity, or mapping of str to these
            Semi-axes of the ellipsoid; a bare number is in the common unit. A distance equal to it does not match.
        units : {None, "px"}
            ``"px"``: bare numbers are pixels.
        channels : list, optional
            Channels to match, in any order; all by default.
        roi : mapping, optional
            ``{axis: (low, high)}``, half open: blobs outside are left out.
        method : {"gated", "max_pairs", "greedy", "mutual_nearest", "assign_then_cut"}
            See `intake_img.kernels.matching.match`.
        inner_padding, blocks : optional
            Lengths as `tol`: MagellanMapper's two rounds with an inner region, and its blocks of this size. Both lose
            pairs and are for comparison.

        Returns
        -------
        Matches
            A tidy DataFrame with ``.unmatched``, ``.summary()``, ``.mean_coords()``, ``.blobs(side)`` and
            ``.update_blobs(function)``.
        """
        from intake_img.accessor.coloc.matching import match

        return match(
            self._obj, blobs, tol=tol, units=units, channels=channels, roi=roi, method=method,
            inner_padding=inner_padding, blocks=blocks,
        )  # fmt: skip

    def nearest(self, blobs: pd.DataFrame, channel1: Any, channel2: Any) -> pd.DataFrame:
        """Nearest blob of channel 2 to each blob of channel 1: ``blob_id, nearest_id, distance``, per time point.

        Distances are in the common unit, ``attrs["units"]``.
        """
        from intake_img.accessor.coloc.matching import nearest

        return nearest(self._obj, blobs, channel1, channel2)

    def cross_k(
        self, blobs: pd.DataFrame, channel1: Any, channel2: Any, *, radii: Any, edges: str = "translation",
        n: int = 199, seed: int = 0,
    ) -> xr.Dataset:  # fmt: skip
        """Ripley's cross-K of two channels in the box of the image, with a random-label null.

        Parameters
        ----------
        blobs : DataFrame
        channel1, channel2 : str or int
        radii : array, or sequence of str or quantities
            Bare numbers are in the common unit.
        edges : {"translation", "none"}
        n : int
            Number of random exchanges of labels.
        seed : int

        Returns
        -------
        xarray.Dataset
            ``k``, ``expected`` (the volume of the ball), ``low`` and ``high`` (95 % of the null), ``p_value``.
        """
        from intake_img.accessor.coloc.matching import cross_k

        return cross_k(self._obj, blobs, channel1, channel2, radii=radii, edges=edges, n=n, seed=seed)

    # objects

    def objects(self, labels1: Any, labels2: Any, *, max_distance: Any = None) -> pd.DataFrame:
        """Relate the objects of two label images.

        Parameters
        ----------
        labels1, labels2 : str or DataArray
            Label images, or names of variables of the Dataset. Where both have coordinates they are aligned by these;
            objects outside of the other image are counted with all of their voxels. Only numbers above 0 are objects;
            a warning names those below 0.
        max_distance : float, str or quantity, optional
            Objects that do not overlap are listed if their surfaces are within this distance; a bare number is in the
            common unit.

        Returns
        -------
        DataFrame
            ``label1, label2, size1, size2, overlap`` (voxels), ``fraction1, fraction2, iou, centre_distance,
            edge_distance`` (between the centres of the nearest surface voxels; 0 if they overlap).
        """
        from intake_img.accessor.coloc.objects import objects

        for k, x in enumerate((labels1, labels2)):
            if isinstance(x, str) and (not isinstance(self._obj, xr.Dataset) or x not in self._obj):
                raise KeyError(f"labels{k + 1}={x!r}: the Dataset has no such variable")
        found = [self._obj[x] if isinstance(x, str) else x for x in (labels1, labels2)]
        for k, x in enumerate(found):
            if not isinstance(x, xr.DataArray):
                raise TypeError(f"labels{k + 1} are {type(x).__name__}: expected a DataArray or the name of a variable")
        return objects(found[0], found[1], max_distance=max_distance)

    # storage

    def insert_matches(
        self, target: Any, matches: pd.DataFrame | None, blobs: pd.DataFrame | None = None, *, experiment: str = ""
    ) -> None:
        """Put blobs and matches into a database, in one transaction; what is there already is updated.

        Parameters
        ----------
        target : path, str or sqlalchemy.Engine
            A file of SQLite, or any URL of SQLAlchemy.
        matches : Matches, DataFrame or None
        blobs : DataFrame, optional
            Those the matches were made of by default.
        experiment : str
            Name under which they are kept.
        """
        import pandas

        from intake_img.accessor.coloc import store

        if matches is not None and not isinstance(matches, pandas.DataFrame):
            raise TypeError(f"matches are {type(matches).__name__}: expected a DataFrame")
        if blobs is None:
            blobs = getattr(matches, "source", None)
            if blobs is None:
                raise ValueError("blobs are needed: give the DataFrame that the matches were made of")
        store.insert(target, blobs, matches, experiment=experiment)

    def select_matches(
        self, target: Any, *, experiment: str = "", channels: Any = None, roi: Mapping[str, Any] | None = None
    ) -> tuple[pd.DataFrame, Matches]:
        """Return (blobs, matches) from a database.

        Parameters
        ----------
        target : path, str or sqlalchemy.Engine
        experiment : str
        channels : list, optional
        roi : mapping, optional
            ``{axis: (low, high)}``, half open; both blobs of a match must lie inside.
        """
        from intake_img.accessor.coloc import store

        return store.select(target, experiment=experiment, channels=channels, roi=roi)

    def from_magmap(self, path: Any, target: Any = None) -> dict[str, tuple[pd.DataFrame, Matches]]:
        """Read a database of MagellanMapper (schema version 4).

        Parameters
        ----------
        path : path
        target : optional
            A database to put everything into, in one transaction.

        Returns
        -------
        dict of str to (DataFrame, Matches)
            Blobs (positions in voxels) and matches of each experiment.
        """
        from intake_img.accessor.coloc import store

        return store.from_magmap(path, target)

    # pictures

    def scatter(
        self, a: Any, b: Any, *, mask: Any = None, thresholds: Any = None, fit: str | None = "orthogonal",
        bins: int = 256, ax: Any = None, at: Mapping[str, int] | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Draw the cytofluorogram: the joint histogram with thresholds and the fitted line.

        Parameters
        ----------
        a, b : str or int
        mask, thresholds : optional
            See `measure`.
        fit : {"orthogonal", "ols", None}
        bins : int
            At most so many along each axis; whole grey levels for integers.
        ax : matplotlib axes, optional
        at : mapping, optional
            Index on the kept axes; the first by default.
        **options
            Of `matplotlib.axes.Axes.pcolormesh`.

        Returns
        -------
        matplotlib axes
        """
        from intake_img.accessor.coloc import pictures

        return pictures.scatter(
            self._obj, a, b, mask=mask, thresholds=thresholds, fit=fit, bins=bins, ax=ax, at=at, **options
        )

    def ica(
        self, a: Any, b: Any, *, mask: Any = None, bins: int = 128, ax: Any = None, at: Mapping[str, int] | None = None
    ) -> Any:
        """Draw Li's intensity correlation analysis: each channel over (A - mean A)(B - mean B); returns two axes."""
        from intake_img.accessor.coloc import pictures

        return pictures.ica(self._obj, a, b, mask=mask, bins=bins, ax=ax, at=at)

    def overlay(
        self, a: Any, b: Any, *, thresholds: Any = "costes", mask: Any = None, ax: Any = None,
        at: Mapping[str, int] | None = None,
    ) -> Any:  # fmt: skip
        """Draw two channels (maximum along z) in magenta and green, and pixels above both thresholds in white."""
        from intake_img.accessor.coloc import pictures

        return pictures.overlay(self._obj, a, b, thresholds=thresholds, mask=mask, ax=ax, at=at)

    def plot_matches(
        self, matches: pd.DataFrame, *, channel: Any = None, ax: Any = None, at: Mapping[str, int] | None = None
    ) -> Any:
        """Draw matched blobs, joined by lines, over the maximum along z of a channel (the first by default)."""
        from intake_img.accessor.coloc import pictures

        return pictures.matches(self._obj, matches, channel=channel, ax=ax, at=at)

    def report(
        self, path: Any, pairs: Any = None, *, images: Mapping[str, Any] | None = None, **options: Any
    ) -> pd.DataFrame:
        """Write a table and a page of figures, HTML or PDF; see `intake_img.accessor.coloc.report.report`.

        Parameters
        ----------
        path : path
            ``.html`` or ``.pdf``.
        pairs : optional
        images : mapping of str to Dataset, optional
            Further images of the batch, by name.
        **options
            ``thresholds``, ``mask``, ``overwrite``, and conventions.
        """
        from intake_img.accessor.coloc.report import report

        if images is not None and not isinstance(images, Mapping):
            raise TypeError(f"images are {type(images).__name__}: expected a mapping of names to Datasets")
        name = str(self._obj.attrs.get("uri") or "image").rsplit("/", 1)[-1]
        return report({name: self._obj, **(images or {})}, path, pairs=pairs, **options)


def detect_blobs(
    obj: xr.Dataset | xr.DataArray, *, min_radius: Any, max_radius: Any, channels: Any = None, units: str | None = None,
    threshold: float = 0.1, method: str = "log", num_sigma: int = 10, sigma_ratio: float = 1.6, overlap: float = 0.5,
) -> pd.DataFrame:  # fmt: skip
    """Find round spots, chunk by chunk; the result does not depend on the chunks.

    Powered by `skimage.feature.blob_log` and `skimage.feature.blob_dog`.

    Parameters
    ----------
    obj : Dataset or DataArray
    min_radius, max_radius : float, str, quantity, or mapping of str to these
        Bare numbers are in the common unit: anisotropic voxels, and anisotropic blobs by axis. Sigma is the radius over
        the square root of the number of axes.
    channels : list, optional
    units : {None, "px"}
        ``"px"``: bare numbers are pixels.
    threshold : float
        Lowest response; integers are scaled to 0..1 by the range of their dtype.
    method : {"log", "dog"}
        Laplacian of Gaussians at `num_sigma` scales, or differences of Gaussians at scales that grow by `sigma_ratio`.
    num_sigma : int
    sigma_ratio : float
    overlap : float
        Of blobs that overlap by more than this share, the larger stays.

    Returns
    -------
    DataFrame
        ``blob_id, channel``, kept axes, axes of space (positions on the coordinates) and ``radius`` (along the last
        axis, in the common unit); sorted by place.
    """
    from intake_img.accessor.coloc.blobs import detect

    return detect(
        obj, channels=channels, min_radius=min_radius, max_radius=max_radius, units=units, threshold=threshold,
        method=method, num_sigma=num_sigma, sigma_ratio=sigma_ratio, overlap=overlap,
    )  # fmt: skip
