"""``ds.img.coloc``: pictures and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from intake_img.model.typed import Channel, Mask, Pairs, Thresholds, Uri

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


__all__ = ["ColocPictures"]


class ColocPictures:
    """Pictures and reports of colocalization; see each method."""

    _obj: Any

    def scatter(
        self,
        a: Channel,
        b: Channel,
        *,
        mask: Mask = None,
        thresholds: Thresholds = None,
        fit: str | None = "orthogonal",
        bins: int = 256,
        ax: Axes | None = None,
        at: Mapping[str, int] | None = None,
        **options: Any,
    ) -> Any:
        """Draw the cytofluorogram: the joint histogram with thresholds and the fitted line.

        Parameters
        ----------
        a, b : str or int
        mask, thresholds : optional
            See `measure`.
        fit : {"orthogonal", "ols", None}
        bins : int
            The largest number of bins along each axis; integer images use complete grey levels.
        ax : matplotlib axes, optional
        at : mapping, optional
            Index on the kept axes; the first by default.
        **options
            Options of `matplotlib.axes.Axes.pcolormesh`.

        Returns
        -------
        matplotlib axes
        """
        from intake_img.accessor.coloc import figures

        return figures.scatter(
            self._obj, a, b, mask=mask, thresholds=thresholds, fit=fit, bins=bins, ax=ax, at=at, **options
        )

    def ica(
        self,
        a: Channel,
        b: Channel,
        *,
        mask: Mask = None,
        bins: int = 128,
        ax: Axes | None = None,
        at: Mapping[str, int] | None = None,
    ) -> Any:
        """Draw Li's intensity correlation analysis: each channel over (A - mean A)(B - mean B); returns two axes."""
        from intake_img.accessor.coloc import figures

        return figures.ica(self._obj, a, b, mask=mask, bins=bins, ax=ax, at=at)

    def overlay(
        self,
        a: Channel,
        b: Channel,
        *,
        thresholds: Thresholds = "costes",
        mask: Mask = None,
        ax: Axes | None = None,
        at: Mapping[str, int] | None = None,
    ) -> Any:
        """Draw two channels (maximum along z) in their colours, and pixels above both thresholds in white.

        The colours are those of `plot`: of the file, else by name; yellow marks the pixels if a channel is white.
        """
        from intake_img.accessor.coloc import figures

        return figures.overlay(self._obj, a, b, thresholds=thresholds, mask=mask, ax=ax, at=at)

    def plot_matches(
        self,
        matches: pd.DataFrame,
        *,
        channel: Channel | None = None,
        ax: Axes | None = None,
        at: Mapping[str, int] | None = None,
    ) -> Any:
        """Draw matched blobs, joined by lines, over the maximum along z of a channel (the first by default)."""
        from intake_img.accessor.coloc import figures

        return figures.matches(self._obj, matches, channel=channel, ax=ax, at=at)

    def report(
        self, path: Uri, pairs: Pairs = None, *, images: Mapping[str, Any] | None = None, **options: Any
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
        if name in (images or {}):
            raise ValueError(f"images[{name!r}] has the name of this image: name it otherwise")
        return report({name: self._obj, **(images or {})}, path, pairs=pairs, **options)
