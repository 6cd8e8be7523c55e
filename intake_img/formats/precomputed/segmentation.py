"""Neuroglancer's ``compressed_segmentation``: blocks of labels as tables and packed numbers of their entries.

Specification: ``src/sliceview/compressed_segmentation/README.md`` of https://github.com/google/neuroglancer. A chunk is
a row of little-endian uint32: for each channel where its data begin; then, for each block with x fastest, two words
(place of its table and number of bits; place of its packed numbers), then tables and packed numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from intake_img.errors import CannotWriteError, FormatError

__all__ = ["decode", "encode"]

_BITS = (0, 1, 2, 4, 8, 16, 32)
_MOST_WORDS = 2**24  # the place of a table is written with this many bits


def decode(data: bytes | memoryview, dtype: np.dtype, shape: Sequence[int], block: Sequence[int]) -> np.ndarray:
    """Return the labels of a chunk.

    Parameters
    ----------
    data : bytes-like
    dtype : numpy.dtype
        uint32 or uint64.
    shape : sequence of int
        Of the chunk: c, z, y, x.
    block : sequence of int
        Shape of the blocks: z, y, x.

    Raises
    ------
    FormatError
        If a place lies outside of the data.
    """
    words = np.frombuffer(data, "<u4", memoryview(data).nbytes // 4)
    if len(words) < shape[0]:
        raise FormatError("compressed_segmentation: there are fewer words than channels: it is truncated")
    out = np.empty(tuple(shape), dtype)
    for channel, start in enumerate(words[: shape[0]].tolist()):
        out[channel] = _decode_channel(words[start:], dtype, shape[1:], block)
    return out


def _decode_channel(words: np.ndarray, dtype: np.dtype, shape: Sequence[int], block: Sequence[int]) -> np.ndarray:
    grid, voxels = _grid(shape, block), math.prod(block)
    count = math.prod(grid)
    if len(words) < 2 * count:
        raise FormatError("compressed_segmentation: the headers of its blocks are cut: it is truncated")
    headers = words[: 2 * count].reshape(count, 2)
    tables, bits, places = headers[:, 0] & 0xFFFFFF, headers[:, 0] >> 24, headers[:, 1]
    blocks = np.empty((count, voxels), dtype)
    for b in np.unique(bits).tolist():
        if b not in _BITS:
            raise FormatError(f"compressed_segmentation: numbers of {b} bits: it is damaged")
        of = np.flatnonzero(bits == b)
        entries = _unpacked(words, places[of].astype(np.int64), b, voxels)
        blocks[of] = _looked_up(words, tables[of].astype(np.int64)[:, None], entries, dtype)
    parts = blocks.reshape(*grid, *block).transpose(0, 3, 1, 4, 2, 5)
    whole = parts.reshape(tuple(g * b for g, b in zip(grid, block, strict=True)))
    return whole[tuple(slice(0, n) for n in shape)]


def _unpacked(words: np.ndarray, places: np.ndarray, bits: int, voxels: int) -> np.ndarray:
    """Return the packed numbers at some positions, an array of shape (positions, voxels)."""
    if bits == 0:
        return np.zeros((len(places), voxels), np.int64)
    packed = _taken(words, places[:, None] + np.arange(-(-voxels * bits // 32)))
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    numbers = packed[:, :, None] >> shifts & np.uint32(2**bits - 1)
    return numbers.reshape(len(places), -1)[:, :voxels].astype(np.int64)


def _looked_up(words: np.ndarray, tables: np.ndarray, entries: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.itemsize == 4:
        return _taken(words, tables + entries)
    low, high = _taken(words, tables + 2 * entries), _taken(words, tables + 2 * entries + 1)
    return low | high.astype(np.uint64) << np.uint64(32)


def _taken(words: np.ndarray, places: np.ndarray) -> np.ndarray:
    if places.size and places.max() >= len(words):
        raise FormatError("compressed_segmentation: a block points beyond the end: it is truncated or damaged")
    return words[places]


def _grid(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-n // b) for n, b in zip(shape, block, strict=True))


def encode(chunk: np.ndarray, block: Sequence[int]) -> bytes:
    """Return a chunk of uint32 or uint64 labels, of shape (c, z, y, x), encoded in blocks of shape (z, y, x)."""
    channels = [_encode_channel(channel, block) for channel in chunk]
    starts = np.cumsum([len(chunk), *map(len, channels)])[:-1].astype("<u4")
    return b"".join([starts.tobytes(), *(words.tobytes() for words in channels)])


def _encode_channel(chunk: np.ndarray, block: Sequence[int]) -> np.ndarray:
    grid = _grid(chunk.shape, block)
    ends = [(0, g * b - n) for g, b, n in zip(grid, block, chunk.shape, strict=True)]
    whole = np.pad(chunk, ends, mode="edge")
    split = whole.reshape([n for pair in zip(grid, block, strict=True) for n in pair])
    blocks = split.transpose(0, 2, 4, 1, 3, 5).reshape(math.prod(grid), -1)
    headers = np.empty((len(blocks), 2), "<u4")
    parts, at, known = [], headers.size, {}
    for n, labels in enumerate(blocks):
        table, entries = np.unique(labels, return_inverse=True)
        bits = next(b for b in _BITS if len(table) <= 2**b)
        text = table.astype(table.dtype.newbyteorder("<")).tobytes()
        packed = _packed(entries.reshape(-1), bits)
        if text not in known:
            known[text] = at
            parts.append(np.frombuffer(text, "<u4"))
            at += len(parts[-1])
        headers[n] = known[text] | bits << 24, at
        parts.append(packed)
        at += len(packed)
        if known[text] >= _MOST_WORDS:
            raise CannotWriteError("chunks are too large for compressed_segmentation: pass smaller chunks=")
    return np.concatenate([headers.reshape(-1), *parts])


def _packed(entries: np.ndarray, bits: int) -> np.ndarray:
    if bits == 0:
        return np.empty(0, "<u4")
    each = 32 // bits
    words = np.pad(entries.astype(np.uint32), (0, -len(entries) % each)).reshape(-1, each)
    return np.bitwise_or.reduce(words << np.arange(0, 32, bits, dtype=np.uint32), axis=1).astype("<u4")
