"""``ds.img.coloc``: blobs, objects, and their storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from intake_img.model.typed import Channel, Length, Lengths, Region, Uri

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sqlalchemy import Engine

    from intake_img.accessor.coloc.matching import Matches

__all__ = ["ObjectColoc"]


class ObjectColoc:
    """Colocalization of blobs and objects; see each method."""

    _obj: Any

    def blobs(
        self,
        blobs: pd.DataFrame,
        threshold: float | str | Mapping[Channel, float] = "min",
        footprint: float | str | Mapping[str, Length] = 2,
        *,
        overlap: str = "share",
    ) -> pd.DataFrame:
        """Classify blobs by the intensity of every channel around them (MagellanMapper's colocalize_blobs).

        Parameters
        ----------
        blobs : DataFrame
            ``blob_id, channel, z, y, x`` and ``t`` as values of the coordinates, and ``radius``, if known, in the
            common unit; or in the units that ``attrs["column_units"]`` states.
        threshold : "min", float or mapping
            A blob is in a channel if its mean there is at least the channel's threshold: the lowest mean of the
            channel's own blobs, a percentile of all voxels around them, or given values. Thresholds apply to the
            complete image.
        footprint : float, "radius" or mapping
            A ball with a radius in voxels or with each blob's own radius, or an ellipsoid with physical semi-axes.
        overlap : {"share", "last"}
            Whether blobs share voxels, so that no blob affects another, or (MagellanMapper) later blobs take them.

        Returns
        -------
        DataFrame
            A row for each blob, in the given order: ``blob_id, channel, mean_<channel>, in_<channel>``; blobs outside
            the image have NaN and False. ``attrs["thresholds"]`` has the thresholds.
        """
        from intake_img.accessor.coloc.blobs import colocalize

        return colocalize(self._obj, blobs, threshold=threshold, footprint=footprint, overlap=overlap)

    def match(
        self,
        blobs: pd.DataFrame,
        tol: Lengths,
        *,
        units: str | None = None,
        channels: Sequence[Channel] | None = None,
        roi: Region | None = None,
        method: str = "gated",
        inner_padding: Lengths | None = None,
        blocks: Lengths | None = None,
    ) -> Matches:
        """Pair blobs of two channels that lie within a tolerance of each other; each blob has at most one partner.

        Parameters
        ----------
        blobs : DataFrame
            ``blob_id, channel, z, y, x`` and, if known, ``t``: values of the coordinates, each in the unit of its axis,
            or in the unit that ``attrs["column_units"]`` states.
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
            Lengths like `tol`: MagellanMapper's two rounds with an inner region, and its blocks of this size. Both lose
            pairs; they are for comparison.

        Returns
        -------
        Matches
            A tidy DataFrame with ``.unmatched``, ``.summary()``, ``.mean_coords()``, ``.blobs(side)`` and
            ``.update_blobs(function)``.
        """
        from intake_img.accessor.coloc.matching import match

        return match(
            self._obj,
            blobs,
            tol=tol,
            units=units,
            channels=channels,
            roi=roi,
            method=method,
            inner_padding=inner_padding,
            blocks=blocks,
        )

    def nearest(self, blobs: pd.DataFrame, channel1: Channel, channel2: Channel) -> pd.DataFrame:
        """Find the nearest blob of channel 2 for each blob of channel 1, for each time point: ``blob_id, nearest_id,
        distance``.

        Distances are in the common unit, ``attrs["units"]``.
        """
        from intake_img.accessor.coloc.matching import nearest

        return nearest(self._obj, blobs, channel1, channel2)

    def cross_k(
        self,
        blobs: pd.DataFrame,
        channel1: Channel,
        channel2: Channel,
        *,
        radii: Sequence[Length] | np.ndarray,
        edges: str = "translation",
        n: int = 199,
        seed: int = 0,
    ) -> xr.Dataset:
        """Compute Ripley's cross-K of two channels in the box of the image, with random labels as the null model.

        Parameters
        ----------
        blobs : DataFrame
        channel1, channel2 : str or int
        radii : array, or sequence of str or quantities
            Bare numbers are in the common unit.
        edges : {"translation", "none"}
        n : int
            Number of random permutations of the labels.
        seed : int

        Returns
        -------
        xarray.Dataset
            ``k``, ``expected`` (the volume of the ball), ``low`` and ``high`` (95 % of the null), ``p_value``.
        """
        from intake_img.accessor.coloc.matching import cross_k

        return cross_k(self._obj, blobs, channel1, channel2, radii=radii, edges=edges, n=n, seed=seed)

    def objects(
        self, labels1: xr.DataArray | str, labels2: xr.DataArray | str, *, max_distance: Length | None = None
    ) -> pd.DataFrame:
        """Relate the objects of two label images.

        Parameters
        ----------
        labels1, labels2 : str or DataArray
            Label images, or names of variables of the Dataset. They are aligned by coordinates if both have them;
            objects outside of the other image are counted with all of their voxels. Only numbers above 0 are objects; a
            warning names numbers below 0.
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

    def insert_matches(
        self,
        target: Uri | Engine,
        matches: pd.DataFrame | None,
        blobs: pd.DataFrame | None = None,
        *,
        experiment: str = "",
    ) -> None:
        """Insert blobs and matches into a database, in one transaction; existing rows are updated.

        Parameters
        ----------
        target : path, str or sqlalchemy.Engine
            An SQLite file, or any URL of SQLAlchemy.
        matches : Matches, DataFrame or None
        blobs : DataFrame, optional
            By default the blobs from which the matches were made.
        experiment : str
            Name of the experiment in the database.
        """
        import pandas

        from intake_img.accessor.coloc import database

        if matches is not None and not isinstance(matches, pandas.DataFrame):
            raise TypeError(f"matches are {type(matches).__name__}: expected a DataFrame")
        if blobs is None:
            blobs = getattr(matches, "source", None)
            if blobs is None:
                raise ValueError("blobs are needed: give the DataFrame that the matches were made of")
        database.insert(target, blobs, matches, experiment=experiment)

    def select_matches(
        self,
        target: Uri | Engine,
        *,
        experiment: str = "",
        channels: Sequence[Channel] | None = None,
        roi: Region | None = None,
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
        from intake_img.accessor.coloc import database

        return database.select(target, experiment=experiment, channels=channels, roi=roi)

    def from_magmap(self, path: Uri, target: Uri | Engine | None = None) -> dict[str, tuple[pd.DataFrame, Matches]]:
        """Read a database of MagellanMapper (schema version 4).

        Parameters
        ----------
        path : path
        target : optional
            A database into which everything is inserted, in one transaction.

        Returns
        -------
        dict of str to (DataFrame, Matches)
            Blobs (positions in voxels) and matches of each experiment.
        """
        from intake_img.accessor.coloc import database

        return database.from_magmap(path, target)
