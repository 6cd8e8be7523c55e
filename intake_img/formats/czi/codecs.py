"""Decoding of the tiles of Zeiss CZI: zstd with and without separated bytes, JPEG-XR, JPEG, LZW."""

from __future__ import annotations

import math

import numpy as np

from intake_img.errors import FormatError

__all__ = ["decoded"]


def decoded(
    data: bytes, compression: int, dtype: np.dtype, shape: tuple[int, ...], out: np.ndarray | None = None
) -> np.ndarray:
    """Return the array that `data` contain; it is `out` where that could be filled at no cost."""
    count = math.prod(shape)
    if compression in (5, 6):
        skip, packed = _zstd1_header(data) if compression == 6 else (0, False)
        raw = _unzstd(data[skip:] if skip else data, count * dtype.itemsize)
        if not packed or dtype.itemsize != 2:
            return raw.view(dtype).reshape(shape)
        low, high = raw[:count].reshape(shape), raw[count:].reshape(shape)
        array = np.empty(shape, dtype) if out is None else out
        np.left_shift(high, 8, out=array, dtype=dtype)
        return np.bitwise_or(array, low, out=array)
    import imagecodecs

    if compression == 4:
        array = imagecodecs.jpegxr_decode(data)
    elif compression == 1:
        array = imagecodecs.jpeg_decode(data)
    else:
        array = np.frombuffer(imagecodecs.lzw_decode(data), dtype)[:count].reshape(shape)
    if array.dtype != dtype or array.size != count:
        raise FormatError(f"a tile contains {array.dtype} {array.shape}, where the directory states {dtype} {shape}")
    array = array.reshape(shape)
    if compression in (1, 4) and array.ndim == 3:
        return array[..., ::-1]  # these decode to RGB
    return array


def _zstd1_header(data: bytes) -> tuple[int, bool]:
    """Return the length of the header that precedes the frame, and whether low and high bytes were separated."""
    if data[:1] == b"\1":
        return 1, False
    if len(data) >= 3 and data[0] == 3 and data[1] == 1:
        return 3, bool(data[2] & 1)
    raise FormatError("the header of a zstd1 compressed tile is unknown: it is damaged")


def _unzstd(data: bytes, size: int) -> np.ndarray:
    from numcodecs import zstd

    stated = _zstd_content(data)
    if stated not in (None, size):
        raise FormatError(f"a tile unpacks to {stated} bytes, where the directory states {size}: it is damaged")
    raw = np.frombuffer(zstd.decompress(data), np.uint8)
    if len(raw) != size:
        raise FormatError(f"a tile unpacks to {len(raw)} bytes, where the directory states {size}: it is damaged")
    return raw


def _zstd_content(data: bytes) -> int | None:
    """Return the length of the content as a frame states it (RFC 8878, 3.1.1.1), None where it does not."""
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 6:
        raise FormatError("a tile does not begin with a zstd frame: it is damaged")
    flag, single, dictionary = data[4] >> 6, data[4] >> 5 & 1, (0, 1, 2, 4)[data[4] & 3]
    if flag == 0 and not single:
        return None
    at, n = 5 + (not single) + dictionary, (1, 2, 4, 8)[flag]
    return int.from_bytes(data[at : at + n], "little") + (256 if flag == 1 else 0)
