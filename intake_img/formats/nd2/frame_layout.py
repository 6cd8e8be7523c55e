"""The layout of a frame of an ND2, from the attributes that the library nd2 parses."""

from __future__ import annotations

from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.nd2.file_chunks import Frame

__all__ = ["frame_of"]


def frame_of(attributes: Any, colours: bool = True) -> Frame:
    """Return the layout of a frame, or raise `FormatError` if it is not supported.

    Parameters
    ----------
    attributes : nd2.structures.Attributes
    colours : bool
        Whether three components of a channel are colours; else each component is a channel.
    """
    a = attributes
    if a.compressionType == "lossy":
        raise FormatError("its frames are compressed with loss (JPEG 2000), which is not supported: save it without")
    channels = a.channelCount or 1
    samples, rest = divmod(a.componentCount, channels)
    if rest or samples != 3 or not colours:  # as nd2 does: anything but colours is a channel
        channels, samples = a.componentCount, 1
    kind = "f" if a.pixelDataType == "float" else "u"
    bits = a.bitsPerComponentInMemory
    dtype = np.dtype(f"<{kind}{bits // 8}") if bits in (8, 16, 32, 64) and (kind, bits) != ("f", 8) else None
    width = a.widthPx or 0
    if dtype is None or min(channels, a.heightPx, width) < 1:
        raise FormatError(
            f"frames of {width} x {a.heightPx} pixels of {a.componentCount} components ({a.pixelDataType}{bits}) "
            "are not supported: is the header damaged?"
        )
    row = a.widthBytes or width * a.componentCount * dtype.itemsize
    if row < width * a.componentCount * dtype.itemsize or row % dtype.itemsize:
        raise FormatError(f"rows of {row} bytes do not fit {width} pixels of {a.componentCount} x {dtype}: damaged")
    return Frame(a.heightPx, width, row, channels, samples, dtype)
