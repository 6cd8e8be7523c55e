"""Blocks of data in an SDT file: which are histograms of images, and where their bytes are."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.files import ByteReader
from intake_img.storage.inflated import Inflated

__all__ = ["HistogramBlock", "block_of", "member_of", "place_in"]


@dataclass(frozen=True)
class HistogramBlock:
    """One histogram: its offset, dtype, and axes."""

    offset: int
    stop: int
    dtype: np.dtype
    packed: bool
    shape: tuple[int, ...]
    axes: str
    step: float  # ns between bins; 0 where unknown


def place_in(block: Any, name: str) -> int:
    high = int(block[f"{name}_ext"]) if f"{name}_ext" in block.dtype.names else 0
    return (high << 32) + int(block[name])


def block_of(block: Any, measured: Any, start: int, stop: int, records: Any) -> HistogramBlock | None:
    """Return the contents of a block; None if it is not a histogram of an image."""
    kind = records.BlockType(int(block["block_type"]))
    count = int(block["block_length"]) // kind.dtype.itemsize
    bins = int(measured["adc_re"]) or 65536
    step = float(measured["tac_r"]) / (float(measured["tac_g"]) * bins) * 1e9 if measured["tac_g"] else 0.0
    step = float(f"{step:.7g}")  # of single precision
    for prefix in ("scan", "image"):
        y, x, ry, rx = (_field(measured, f"{prefix}_{a}") for a in ("y", "x", "ry", "rx"))
        for channels, axes in ((0, "yxh"), (ry * rx, "cyxh")):
            shape = (channels, y, x, bins)[4 - len(axes) :]
            if count and count == math.prod(shape):
                single = shape[0] == 1 and len(shape) == 4
                shape, axes = (shape[1:], "yxh") if single else (shape, axes)
                return HistogramBlock(start, stop, kind.dtype, kind.compress, shape, axes, step)
    return None


def _field(measured: Any, name: str) -> int:
    return int(measured[name]) if name in measured.dtype.names else 0


def member_of(source: ByteReader, block: HistogramBlock) -> ByteReader:
    """Return the bytes of a block that is a zip archive of one member."""
    head = source.ranges([block.offset], [30])[0]
    magic, method, name, extra = *struct.unpack_from("<4s4xH", head), *struct.unpack_from("<HH", head, 26)
    start = block.offset + 30 + name + extra
    if magic != b"PK\x03\x04" or method != 8 or start >= block.stop:
        raise FormatError(f"{source.file}: a block begins with {magic!r}: expected a deflated zip archive")
    size = math.prod(block.shape) * block.dtype.itemsize
    return Inflated(source, "deflate", start, block.stop - start, size=size)
