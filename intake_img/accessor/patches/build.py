"""`patches`: the arguments of ``ds.img.patches``, and what they mean in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import xarray as xr

from intake_img.accessor.patches.core import Patches
from intake_img.accessor.patches.specification import Specification
from intake_img.model.typed import LayerLike, Lengths, Units

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
    paired: Mapping[str, Any] | None = None,
    levels: Sequence[Any] | None = None,
    weights: LayerLike | Sequence[LayerLike] | None = None,
    mask: LayerLike | Sequence[LayerLike] | None = None,
    labels: LayerLike | Sequence[LayerLike] | None = None,
    balance: Mapping[int, float] | None = None,
    min_coverage: float | None = None,
    where: Any = (),
    centers: Any = None,
    table: Any = None,
) -> Patches:
    """Cut images into patches, lazily.

    Parameters
    ----------
    sources : Dataset, DataArray, DataTree, or sequence of these
        What to cut from. Of several images, all must have the same axes, channels and variables.
    size : int, sequence, or mapping of str to int; or lengths with a unit
        Size of a patch: one length for all spatial axes that are longer than 1, one for each of the last spatial axes
        (two are ``y`` and ``x``), or lengths by name, of any axes.
    sample : {"grid", "random", "stratified", "weighted", "centers", "fixed"}
        How patches are placed: side by side; anywhere; one at random in each cell of a grid; in proportion to a map;
        around given points; as a table says.
    n : int, optional
        Number of patches of an epoch, for ``"random"`` and ``"weighted"``; by default as many as tile the images.
    seed : int
        A patch is a function of seed, epoch and its number, and of nothing else.
    locality : int, optional
        For ``"random"``: so many patches lie around each of the places that are drawn, within a tile of the file, so
        that it is decoded once for all of them; 16 places take turns. Every place is still equally likely, but patches
        that come soon after each other are correlated: for images of which a look-ahead meets each tile only once.
        Shuffling would undo it.
    step, overlap : as `size`, optional
        Distance from one patch of a grid to the next, or by how much neighbours overlap; the mean distance of
        stratified patches.
    halo : as `size`
        Context on every side of a patch beyond `size`, which results are trimmed by when they are written back.
    units : {"pixel", "physical"}
        Of bare numbers in `size`, `step`, `overlap`, `halo` and `centers`: pixels; or lengths in the common unit of
        the image, that of ``x``, and centres on the coordinates, each in the unit of its axis. A length with a unit
        (``"3 µm"``) is read in that unit in any case.
    edge : str or mapping of str to str
        What becomes of patches that would reach beyond the image. ``"shift"`` moves them inwards, ``"pad"`` fills them
        up, ``"drop"`` leaves them out, ``"partial"`` cuts them off, ``"error"`` refuses them; ``"balanced"`` spreads
        the patches of a grid evenly.
    pad_mode : str or mapping of str to str
        ``"constant"``, ``"edge"``, ``"reflect"``, ``"symmetric"`` or ``"wrap"``, as `numpy.pad` understands them.
    fill_value : float, or mapping of str to float
        The constant, for all variables or by name.
    over : sequence of str, optional
        Axes that are iterated over; by default all that are not cut, except ``c`` and ``s``. Others are kept whole.
    variables : sequence of str, optional
        Variables of the Datasets that are cut, the first the reference; all by default.
    paired : mapping of str to DataArray or Dataset, optional
        Further images of the same places, on grids of their own: they are cut at the same physical box. Of several
        sources a list for each.
    levels : sequence of Dataset or DataArray, optional
        Coarser levels of the same image: of each a patch of the same number of pixels around the same centre. Names
        of nodes if `sources` is a DataTree.
    weights, mask, labels : str, DataArray, or list of these, optional
        The map for ``sample="weighted"``: a variable's name or an array, of which the centre of a patch is drawn in
        proportion to its values, from where it is not 0, or such that all labels come up equally often. They are
        aligned with the image by coordinates where both have them, by shape elsewhere, and are 0 beyond their extent.
        NaN in a mask or labels counts as 0.
    balance : mapping of int to float, optional
        The share of each label; by default all above 0 alike.
    min_coverage : float, optional
        Share of a patch that must lie on `mask`.
    where : callable or sequence of these, optional
        Filters: functions of a patch (an array) that say whether it is kept; see `intake_img.accessor.patches.filters`.
        Random patches that are turned down are drawn again.
    centers : table or array, optional
        For ``sample="centers"``: columns by the names of axes, or an array with a column for each cut axis.
    table : DataFrame or path, optional
        For ``sample="fixed"``: first pixels ``y0``, ``x0``, ...; what `Patches.table` gives.

    Returns
    -------
    Patches

    Raises
    ------
    AxesError, ValueError, TypeError
        Naming the argument, what was given and what is allowed.

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
