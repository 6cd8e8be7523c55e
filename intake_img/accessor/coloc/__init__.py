"""``ds.img.coloc``: colocalization by names and physical units, of pixels, of blobs and of objects.

Each method calls the module that does the work. ``docs/explanation/colocalization.md`` explains the measures and the
differences between tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from intake_img.accessor.coloc.drawn import ColocPictures
from intake_img.accessor.coloc.of_objects import ObjectColoc
from intake_img.accessor.coloc.of_pixels import PixelColoc
from intake_img.accessor.picture_planes import names_of, variable_of
from intake_img.model.text import escaped
from intake_img.model.typed import Channel, Lengths

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Coloc", "detect_blobs"]


class Coloc(PixelColoc, ObjectColoc, ColocPictures):
    """Colocalization of the channels of an image.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
        It needs an axis ``c`` and spatial axes.

    Notes
    -----
    Pixels are pooled over ``z``, ``y`` and ``x``; every other axis (``t``, ``i``, ...) is kept. `pairs` is None for all
    pairs of channels, one pair ``("actin", "DNA")``, or a list of pairs, by name or number. `mask` and `labels` are
    DataArrays, plain arrays with the spatial axes, or names of variables of the Dataset. They are aligned with the
    image by coordinates along axes for which both have them, and by shape along others; pixels that they do not cover
    are outside. Any value except 0 and NaN is inside a mask; values of 0 and below are outside of all labels. Undefined
    results are NaN. Pixels that are not finite in both channels are left out.

    Lengths are in the common unit of the image, the unit of ``x``, unless they have their own (``"300 nm"``); positions
    are values of the coordinates. See `intake_img.accessor.lengths`.
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self._obj = obj

    def _rows(self) -> list[tuple[str, str]]:
        array = variable_of(self._obj, None)
        names = names_of(array, array.sizes.get("c", 1))
        space = [str(a) for a in array.dims if a in ("z", "y", "x")]
        apart = [f"{a} ({n})" for a, n in array.sizes.items() if a not in ("c", *space)]
        count = len(names) * (len(names) - 1) // 2
        return [
            ("channels", f"{len(names)}: {', '.join(names)}"),
            ("pairs", f"{count}" + (f", such as {names[0]} with {names[1]}" if count else ": two channels are needed")),
            ("pooled over", ", ".join(space)),
            *([("one result for each", ", ".join(apart))] if apart else []),
            ("methods", ", ".join(name for name in dir(type(self)) if not name.startswith("_"))),
        ]

    def __repr__(self) -> str:
        rows = self._rows()
        widest = max(len(key) for key, _ in rows)
        return "\n".join(["<Coloc>", *(f"  {key:<{widest}}  {escaped(text)}" for key, text in rows)])

    def _repr_html_(self) -> str:
        from intake_img.accessor.cards import card, picture_of, table

        return card(table(self._rows()), picture_of(self._obj))


def detect_blobs(
    obj: xr.Dataset | xr.DataArray,
    *,
    min_radius: Lengths,
    max_radius: Lengths,
    channels: Sequence[Channel] | None = None,
    units: str | None = None,
    threshold: float = 0.1,
    method: str = "log",
    num_sigma: int = 10,
    sigma_ratio: float = 1.6,
    overlap: float = 0.5,
) -> pd.DataFrame:
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
        Smallest response; integers are scaled to 0..1 by the range of their dtype.
    method : {"log", "dog"}
        Laplacian of Gaussians at `num_sigma` scales, or differences of Gaussians at scales that grow by `sigma_ratio`.
    num_sigma : int
    sigma_ratio : float
    overlap : float
        If blobs overlap by more than this share, only the larger one is kept.

    Returns
    -------
    DataFrame
        ``blob_id, channel``, kept axes, axes of space (positions on the coordinates) and ``radius`` (along the last
        axis, in the common unit); sorted by position.
    """
    from intake_img.accessor.coloc.blobs import detect

    return detect(
        obj,
        channels=channels,
        min_radius=min_radius,
        max_radius=max_radius,
        units=units,
        threshold=threshold,
        method=method,
        num_sigma=num_sigma,
        sigma_ratio=sigma_ratio,
        overlap=overlap,
    )
