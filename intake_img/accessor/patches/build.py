"""`patches`: the arguments of ``ds.img.patches`` and their documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import xarray as xr
from numpy.typing import ArrayLike

from intake_img.accessor.patches.core import Patches
from intake_img.accessor.patches.specification import Specification
from intake_img.model.typed import ImageLike, LayerLike, Lengths, Units, Uri

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["patches"]


def patches(
    sources: xr.Dataset | xr.DataArray | xr.DataTree | Sequence[xr.Dataset | xr.DataArray | xr.DataTree],
    size: Lengths,
    *,
    sample: Literal["grid", "random", "stratified", "weighted", "centers", "fixed"] = "grid",
    n: int | None = None,
    seed: int = 0,
    locality: int | None = None,
    step: Lengths | None = None,
    overlap: Lengths | None = None,
    halo: Lengths = 0,
    units: Units = "pixel",
    edge: str | Mapping[str, str] = "shift",
    pad_mode: str | Mapping[str, str] = "constant",
    fill_value: float | Mapping[str, float] = 0,
    over: Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
    paired: Mapping[str, ImageLike | Sequence[ImageLike]] | None = None,
    levels: Sequence[ImageLike | str] | None = None,
    weights: LayerLike | Sequence[LayerLike] | None = None,
    mask: LayerLike | Sequence[LayerLike] | None = None,
    labels: LayerLike | Sequence[LayerLike] | None = None,
    balance: Mapping[int, float] | None = None,
    min_coverage: float | None = None,
    where: Callable[..., bool] | Sequence[Callable[..., bool]] = (),
    centers: ArrayLike | Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    table: pd.DataFrame | Uri | None = None,
) -> Patches:
    """Cut images into patches, lazily.

    Parameters
    ----------
    sources : Dataset, DataArray, DataTree, or sequence of these
        The images. Several images must have the same axes, channels and variables.
    size : int, sequence, or mapping of str to int; or lengths with a unit
        Size of a patch: one length for all spatial axes that are longer than 1, one for each of the last spatial axes
        (two lengths for ``y`` and ``x``), or lengths of any axes by name.
    sample : {"grid", "random", "stratified", "weighted", "centers", "fixed"}
        How patches are placed: side by side; anywhere; one at random in each cell of a grid; in proportion to a map;
        around given points; by a table.
    n : int, optional
        Number of patches of an epoch, for ``"random"`` and ``"weighted"``; by default as many as tile the images.
    seed : int
        A patch depends only on the seed, the epoch and its number.
    locality : int, optional
        For ``"random"``: neighbourhoods are drawn first, and this many patches lie around each of them, within a tile
        of the file, which is decoded once for all of them; 16 neighbourhoods take turns. Every position is still
        equally likely, but consecutive patches are correlated. Use it for images in which a look-ahead touches each
        tile only once, and do not shuffle.
    step, overlap : as `size`, optional
        Distance from one patch of a grid to the next, or the overlap of neighbours; for stratified patches, the mean
        distance.
    halo : as `size`
        Context on every side of a patch beyond `size`; it is cut off when results are written back.
    units : {"pixel", "physical"}
        Unit of bare numbers in `size`, `step`, `overlap`, `halo` and `centers`: pixels; or the common unit of the
        image, that of ``x``, for lengths, and the unit of each coordinate for centres. A length with a unit (``"3
        µm"``) is always read in that unit.
    edge : str or mapping of str to str
        How to treat patches that extend beyond the image. ``"shift"`` moves them inwards, ``"pad"`` pads them,
        ``"drop"`` leaves them out, ``"partial"`` cuts them off, ``"error"`` raises an error; ``"balanced"`` spreads the
        patches of a grid evenly.
    pad_mode : str or mapping of str to str
        ``"constant"``, ``"edge"``, ``"reflect"``, ``"symmetric"`` or ``"wrap"``, as in `numpy.pad`.
    fill_value : float, or mapping of str to float
        The constant, for all variables or by name.
    over : sequence of str, optional
        Axes that are iterated over; by default all axes that are not cut, except ``c`` and ``s``. Other axes keep their
        full length.
    variables : sequence of str, optional
        Variables of the Datasets to cut; the first is the reference. All by default.
    paired : mapping of str to DataArray or Dataset, optional
        Further images of the same area, on their own grids: they are cut at the same physical box. For several sources,
        a list for each.
    levels : sequence of Dataset or DataArray, optional
        Coarser levels of the same image: each is cut with the same number of pixels around the same centre. Names of
        nodes if `sources` is a DataTree.
    weights, mask, labels : str, DataArray, or list of these, optional
        The map for ``sample="weighted"``, a variable's name or an array. The centre of a patch is drawn in proportion
        to the `weights`, from the pixels where the `mask` is not 0, or such that all `labels` are equally frequent.
        Maps are aligned with the image by coordinates if both have them, else by shape, and are 0 beyond their extent.
        NaN in a mask or labels counts as 0.
    balance : mapping of int to float, optional
        The share of each label; by default all labels above 0 have the same share.
    min_coverage : float, optional
        Share of a patch that must lie on `mask`.
    where : callable or sequence of these, optional
        Filters: functions of a patch (an array) that return whether to keep it; see
        `intake_img.accessor.patches.filters`. Rejected random patches are drawn again.
    centers : table or array, optional
        For ``sample="centers"``: columns by the names of axes, or an array with a column for each cut axis. Columns
        whose unit a table states (``attrs["column_units"]``) are in that, others in `units`; along axes that are not
        cut they are labels of the coordinate, or indices without one or if they are named ``t0``.
    table : DataFrame or path, optional
        For ``sample="fixed"``: first pixels ``y0``, ``x0``, ..., as in `Patches.table`.

    Returns
    -------
    Patches

    Raises
    ------
    AxesError, ValueError, TypeError
        The message names the argument, the given value and the allowed values.

    Examples
    --------
    >>> import numpy as np, xarray as xr, intake_img
    >>> image = xr.DataArray(np.arange(100.0).reshape(10, 10), dims=["y", "x"])
    >>> p = intake_img.patches(image, 4)
    >>> len(p), p[8].image.values[0, 0]
    (9, np.float64(66.0))
    """
    specification = Specification(
        sources,
        size,
        sample=sample,
        n=n,
        seed=seed,
        locality=locality,
        step=step,
        overlap=overlap,
        halo=halo,
        units=units,
        edge=edge,
        pad_mode=pad_mode,
        fill_value=fill_value,
        over=over,
        variables=variables,
        paired=paired,
        levels=levels,
        weights=weights,
        mask=mask,
        labels=labels,
        balance=balance,
        min_coverage=min_coverage,
        where=where,
        centers=centers,
        table=table,
    )
    return Patches.of(specification.recipe())
