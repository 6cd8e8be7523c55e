"""YCbCr outside of JPEG: chroma with fewer samples is spread over its pixels, and colours become RGB.

Section 21 of TIFF 6.0: a unit holds the luma of `h` x `v` pixels, then one Cb and one Cr, which hold for all of them.
Values become RGB in the integer arithmetic of libtiff (tif_color.c), so that they are equal to those it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError

if TYPE_CHECKING:
    import tifffile

__all__ = ["becomes_rgb", "colour_decoder", "rgb_tables", "to_rgb", "upsampled"]

_JPEG = (6, 7, 34892, 33007)
_BYTES = {1, 5, 8, 32773, 32946, 34925, 50000}  # codecs that know bytes alone, and nothing of colours
_LUMA, _BLACK_WHITE = (0.299, 0.587, 0.114), (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)  # as TIFF 6.0 has them


def becomes_rgb(page: tifffile.TiffPage) -> bool:
    """Whether the pixels of a page are converted: 8-bit YCbCr, three samples of each pixel, in a codec of bytes.

    Deeper or planar YCbCr keeps the values that are stored.
    """
    return (
        page.photometric == 6
        and page.compression in _BYTES
        and page.planarconfig == 1
        and page.samplesperpixel == 3
        and page.bitspersample == 8
    )


def colour_decoder(page: tifffile.TiffPage, name: object) -> Callable[..., Any]:
    """Return the decoder of a page's strips or tiles, called as tifffile's are."""
    chroma = _chroma_decoder(page, name)
    if chroma is None and hasattr(page, "init_decode"):
        page.init_decode()
    decode: Callable[..., Any] = chroma or page.decode
    if not becomes_rgb(page):
        return decode
    tables = rgb_tables(_numbers(page, 529, _LUMA), _numbers(page, 532, _BLACK_WHITE))

    def decode_rgb(data: bytes, index: int, **options: Any) -> tuple[Any, ...]:
        found, *others = decode(data, index, **options)
        return (to_rgb(found, tables), *others)

    return decode_rgb


def _numbers(page: tifffile.TiffPage, code: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """Return the rational numbers of a tag; the default where it is absent or damaged."""
    value = page.tags.valueof(code)
    flat = np.asarray(value if value is not None else (), dtype=float).ravel()
    if flat.size != 2 * len(default):
        return default
    with np.errstate(all="ignore"):
        found = flat[::2] / flat[1::2]
    usable = np.isfinite(found).all() and not (code == 529 and (found <= 0).any())
    return tuple(found.tolist()) if usable else default


def rgb_tables(luma: tuple[float, ...] = _LUMA, black_white: tuple[float, ...] = _BLACK_WHITE) -> np.ndarray:
    """Return what each of 256 values of Y, Cb and Cr adds to the colours.

    Parameters
    ----------
    luma : (float, float, float)
        Coefficients of red, green and blue (tag YCbCrCoefficients).
    black_white : tuple of 6 floats
        Codes of no and of full Y, Cb and Cr (tag ReferenceBlackWhite).

    Returns
    -------
    ndarray of int64, shape (5, 256)
        Y; Cr in red; Cr and Cb in green, times 2**16; Cb in blue.
    """
    red, green, blue = luma
    factors = (2 - 2 * red, red * (2 - 2 * red) / green, 2 - 2 * blue, blue * (2 - 2 * blue) / green)
    of_red, of_green, of_blue, of_green_too = (int(np.float32(min(max(f, 0), 2)) * 2**16 + 0.5) for f in factors)
    code = np.arange(256)
    y = _scaled(code, black_white[0], black_white[1], 255)
    cb = _scaled(code - 128, black_white[2] - 128, black_white[3] - 128, 127)
    cr = _scaled(code - 128, black_white[4] - 128, black_white[5] - 128, 127)
    half = 2**15
    return np.stack(
        [y, (of_red * cr + half) >> 16, -of_green * cr, -of_green_too * cb + half, (of_blue * cb + half) >> 16]
    )


def _scaled(code: np.ndarray, black: float, white: float, span: int) -> np.ndarray:
    black, white = int(black), int(white)
    return np.clip((code - black) * span / ((white - black) or 1), -4096, 4096).astype(np.int64)


def to_rgb(ycc: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Return the colours of YCbCr values.

    Parameters
    ----------
    ycc : ndarray of uint8, shape (..., 3)
    tables : ndarray
        From `rgb_tables`.

    Returns
    -------
    ndarray of uint8, shape (..., 3)
    """
    luma, red, green, green_too, blue = tables
    y, cb, cr = luma[ycc[..., 0]], ycc[..., 1], ycc[..., 2]
    out = np.empty(ycc.shape, np.uint8)
    out[..., 0] = np.clip(y + red[cr], 0, 255)
    out[..., 1] = np.clip(y + ((green[cr] + green_too[cb]) >> 16), 0, 255)
    out[..., 2] = np.clip(y + blue[cb], 0, 255)
    return out


def _chroma_decoder(page: tifffile.TiffPage, name: object) -> Callable[..., tuple[np.ndarray]] | None:
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
