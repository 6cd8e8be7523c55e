"""Small pictures of images, for lists, pages and the terminal, with the plane and the colours of `plot`."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.colors import label_colors, limits_of, of_layers, overlaid, stated_colors, tinted, tints
from intake_img.accessor.picture_planes import is_labels, layers_of, names_of, pick_channels, plane_of, variable_of

__all__ = ["data_url", "png", "thumbnail"]

_PERCENTILES = (0.5, 99.8)
_READ = 4  # pixels that are read for each drawn pixel


def thumbnail(
    obj: xr.Dataset | xr.DataArray,
    size: int = 256,
    *,
    channel: Any = None,
    variable: str | None = None,
    projection: str | None = None,
) -> np.ndarray:
    """Return a small picture of an image: the middle of ``z``, the first of all other axes, channels in their colours.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    size : int
        The longer side in pixels; smaller images are not enlarged.
    channel : int, str or sequence of these, optional
        Channels to show; all by default.
    variable : str, optional
    projection : {"max", "min", "mean", "sum"}, optional
        Along ``z``.

    Returns
    -------
    ndarray of uint8, of shape (height, width, 3)

    Raises
    ------
    AxesError
        If the image has no ``y`` or ``x``, or no pixels.
    """
    array = variable_of(obj, variable)
    picked, numbers = pick_channels(array, channel)
    plane, _ = plane_of(picked, projection, {}, side=_READ * size)
    layers = layers_of(plane)
    if is_labels(array):
        shown = label_colors(layers[0])
        return _shrunk(shown[..., :3] * shown[..., 3:], size, smooth=False)
    names = names_of(plane, len(layers))
    tinge = tints(of_layers(stated_colors(array), numbers), names)
    limits = limits_of(layers, names, None, _PERCENTILES)
    pictures = [tinted(*each) for each in zip(layers, limits, tinge, strict=True)]
    return _shrunk(overlaid(pictures, tinge), size)


def _shrunk(picture: np.ndarray, size: int, smooth: bool = True) -> np.ndarray:
    """Return an RGB picture of 0 to 1 as bytes, at most `size` pixels long."""
    from PIL import Image

    bytes_ = np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    height, width = bytes_.shape[:2]
    scale = size / max(height, width)
    if scale >= 1:
        return bytes_
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    kind = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(bytes_).resize(small, kind))


def png(picture: np.ndarray) -> bytes:
    """Return a picture of bytes as a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "png")
    return stream.getvalue()


def data_url(picture: np.ndarray) -> str:
    """Return a picture as a data URL, for pages without files."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
