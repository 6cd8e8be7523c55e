"""YCbCr with fewer chroma samples, outside of JPEG: decoded to three channels of one shape.

Section 21 of TIFF 6.0: a unit holds the luma of `h` x `v` pixels, then one Cb and one Cr, which hold for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError

if TYPE_CHECKING:
    import tifffile

__all__ = ["chroma_decoder", "upsampled"]

_JPEG = (6, 7, 34892, 33007)


def chroma_decoder(page: tifffile.TiffPage, name: object) -> Callable[..., tuple[np.ndarray]] | None:
    """Return a decoder of the strips or tiles of a page, called as tifffile's are; None if tifffile's will do."""
    if not page.is_subsampled or (page.compression in _JPEG and page.planarconfig == 1):
        return None
    if page.planarconfig != 1 or page.samplesperpixel != 3 or page.predictor != 1 or page.fillorder != 1:
        raise FormatError(f"{name}: subsampled YCbCr is read only as three samples of each pixel, without a predictor")
    decompress = _decompressor(int(page.compression))
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    factors = page.subsampling or (2, 2)
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    whole = rows if page.is_tiled else page.imagelength  # the last strip ends with the page

    def decode(data: bytes, index: int, **_: Any) -> tuple[np.ndarray]:
        height = rows if page.is_tiled else min(rows, whole - index * rows)
        return (upsampled(np.frombuffer(decompress(data), dtype), (height, columns), factors)[None],)

    return decode


def _decompressor(codec: int) -> Callable[[bytes], Any]:
    import tifffile

    if codec == 1:
        return lambda data: data
    found: Callable[[bytes], Any] = tifffile.TIFF.DECOMPRESSORS[codec]
    return found


def upsampled(samples: np.ndarray, shape: tuple[int, int], factors: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a strip or tile.

    Parameters
    ----------
    samples : ndarray of shape (n,)
        Units in the order of rows.
    shape : (int, int)
        Rows and columns.
    factors : (int, int)
        Columns and rows of pixels that share a chroma sample, as in the tag YCbCrSubSampling.

    Returns
    -------
    ndarray of shape (rows, columns, 3)
        Y, Cb, Cr.

    Raises
    ------
    FormatError
        If there are fewer samples.
    """
    (rows, columns), (h, v) = shape, factors
    down, across, luma = -(-rows // v), -(-columns // h), h * v
    need = down * across * (luma + 2)
    if samples.size < need:
        raise FormatError(f"a strip or tile decodes to {samples.size} samples, expected {need}: it is truncated")
    units = samples[:need].reshape(down, across, luma + 2)
    out = np.empty((down, v, across, h, 3), samples.dtype.newbyteorder("="))
    out[..., 0] = units[..., :luma].reshape(down, across, v, h).transpose(0, 2, 1, 3)
    out[..., 1:] = units[:, None, :, None, luma:]
    return out.reshape(down * v, across * h, 3)[:rows, :columns]
