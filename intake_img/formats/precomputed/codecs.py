"""The encodings of chunks: raw, jpeg, png, jxl and compressed_segmentation, as arrays of shape (c, z, y, x)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.chunked import values_in
from intake_img.formats.compression import codec_of
from intake_img.formats.precomputed import segmentation
from intake_img.model.packages import imported

__all__ = ["ENCODINGS", "decoded", "encoder", "encodings_for"]

ENCODINGS = ("raw", "jpeg", "png", "jxl", "compressed_segmentation")
Encode = Callable[[np.ndarray], bytes]
_BLOCK = (8, 8, 8)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def decoded(data: bytes, scale: Mapping[str, Any], dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return a chunk.

    Parameters
    ----------
    data : bytes
    scale : mapping
        What the info says of the scale.
    dtype : numpy.dtype
    shape : tuple of int
        Of the chunk: c, z, y, x.

    Raises
    ------
    FormatError
        If it is damaged.
    """
    encoding = scale["encoding"]
    if data[:2] == b"\x1f\x8b":  # stored as the answer of a web server
        data = _gunzipped(data)
    if encoding == "raw":
        return values_in(data, dtype.newbyteorder("<"), shape, "a chunk")
    if encoding == "compressed_segmentation":
        return segmentation.decode(data, dtype, shape, scale["compressed_segmentation_block_size"][::-1])
    picture = _jxl(data) if encoding == "jxl" else _picture(data, shape)
    if picture.dtype != dtype or picture.size != np.prod(shape):
        raise FormatError(f"a chunk is a picture of {picture.shape} {picture.dtype} where {shape} {dtype} is expected")
    channels = picture.reshape(-1, shape[0]).T  # the picture contains the rows of all planes
    return channels.reshape(shape)


def _gunzipped(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def _picture(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
        if picture.width * picture.height * shape[0] != np.prod(shape):
            raise FormatError(f"a chunk is a picture of {picture.width} x {picture.height}: it does not fit {shape}")
        if data[24:25] == b"\x10" and picture.mode != "I;16":  # Pillow makes 8 bits of 16 in colour
            return _deep_png(data)
        return np.asarray(picture).astype(np.uint16 if picture.mode == "I;16" else np.uint8, copy=False)


def _deep_png(data: bytes) -> np.ndarray:
    imagecodecs = imported("imagecodecs", "codecs", "reading PNG of 16 bits and several channels")
    return imagecodecs.png_decode(data)


def _jxl(data: bytes) -> np.ndarray:
    imagecodecs = imported("imagecodecs", "codecs", "reading JPEG XL")
    return imagecodecs.jpegxl_decode(data)


def encodings_for(dtype: np.dtype, channels: int) -> list[str]:
    """Return the encodings in which pixels are written."""
    found = ["raw"]
    if dtype in (np.uint32, np.uint64):
        found.append("compressed_segmentation")
    if (dtype == np.uint8 and channels in _MODES) or (dtype == np.uint16 and channels == 1):
        found.append("png")
    if dtype == np.uint8 and channels in (1, 3):
        found.append("jpeg")
    return found


def encoder(compress: Any, dtype: np.dtype, channels: int, labels: bool) -> tuple[dict[str, Any], Encode]:
    """Return what the info says of an encoding, and the function that encodes a chunk.

    Raises
    ------
    CannotWriteError
        If the pixels cannot be encoded so.
    """
    able = encodings_for(dtype, channels)
    smaller = able[1] if len(able) > 1 else None
    default = "compressed_segmentation" if labels and "compressed_segmentation" in able else "raw"
    codecs: dict[Any, Any] = {None: default, False: "raw"}
    codecs |= ({True: smaller} if smaller else {}) | {n: n for n in able}
    name = codec_of(compress, codecs, f"{channels} channels of {dtype}; other codecs are in .zarr")
    about = {"encoding": name}
    if name == "compressed_segmentation":
        return {**about, "compressed_segmentation_block_size": list(_BLOCK)}, _encode_labels
    return about, {"raw": _encode_raw, "png": _encode_png, "jpeg": _encode_jpeg}[name]


def _encode_raw(chunk: np.ndarray) -> bytes:
    return chunk.astype(chunk.dtype.newbyteorder("<"), copy=False).tobytes()


def _encode_labels(chunk: np.ndarray) -> bytes:
    return segmentation.encode(chunk, _BLOCK)


def _encode_png(chunk: np.ndarray) -> bytes:
    return _saved(chunk, "PNG")


def _encode_jpeg(chunk: np.ndarray) -> bytes:
    return _saved(chunk, "JPEG", quality=90)


def _saved(chunk: np.ndarray, kind: str, **options: Any) -> bytes:
    from PIL import Image

    rows = np.ascontiguousarray(np.moveaxis(chunk, 0, -1)).reshape(-1, chunk.shape[3], chunk.shape[0])
    stream = io.BytesIO()
    Image.fromarray(rows[..., 0] if chunk.shape[0] == 1 else rows).save(stream, kind, **options)
    return stream.getvalue()
