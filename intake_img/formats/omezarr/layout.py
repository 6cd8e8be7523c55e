"""Layout of the chunk files of a local Zarr array, from its metadata; None if only zarr can read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.inflating import inflated_quickly
from intake_img.formats.omezarr.chunk_files import ChunkFiles, Inflate, checksum
from intake_img.storage.files import File

__all__ = ["chunk_files"]

_ENDIAN = {"little": "<", "big": ">", None: "="}


def chunk_files(array: Any, folder: File) -> ChunkFiles | None:
    """Return the chunks of a Zarr array as files, or None if only zarr knows how to read them.

    Parameters
    ----------
    array : zarr.Array
    folder : File
        The local folder of the array.
    """
    try:
        facts = array.metadata.to_dict()
        make = _format_3 if facts["zarr_format"] == 3 else _format_2
        return make(array, facts, folder)
    except (ImportError, KeyError, TypeError, ValueError, AttributeError, NotImplementedError):
        return None


def _format_3(array: Any, facts: Mapping[str, Any], folder: File) -> ChunkFiles | None:
    grid = _named(facts["chunk_grid"])
    if grid[0] != "regular" or facts.get("storage_transformers"):
        return None
    outer = tuple(int(n) for n in grid[1]["chunk_shape"])
    codecs = [_named(c) for c in facts["codecs"]]
    shard, first = None, False
    chunk = outer
    if len(codecs) == 1 and codecs[0][0] == "sharding_indexed":
        options = codecs[0][1]
        index = [_named(c)[0] for c in options["index_codecs"]]
        if index != ["bytes", "crc32c"]:
            return None
        shard, chunk = outer, tuple(int(n) for n in options["chunk_shape"])
        place = options.get("index_location", "end")
        first = str(getattr(place, "value", place)) == "start"
        codecs = [_named(c) for c in options["codecs"]]
    if not codecs or codecs[0][0] != "bytes" or array.dtype.kind not in "biufc":
        return None
    endian = codecs[0][1].get("endian")
    stored = array.dtype.newbyteorder(_ENDIAN[getattr(endian, "value", endian)])
    want = math.prod(chunk) * stored.itemsize
    steps = [step for name, _ in reversed(codecs[1:]) if (step := _inflate(name, want)) is not None]
    if len(steps) < len(codecs) - 1:
        return None
    inflate = None if not steps else steps[0] if len(steps) == 1 else partial(_inflated, steps)
    return ChunkFiles(
        folder, array.metadata.encode_chunk_key, array.shape, chunk, stored, inflate, array.fill_value, shard, first
    )


def _format_2(array: Any, facts: Mapping[str, Any], folder: File) -> ChunkFiles | None:
    compressor = array.metadata.compressor
    if facts.get("order", "C") != "C" or array.metadata.filters or array.dtype.kind not in "biufc":
        return None
    inflate = None
    if compressor is not None:
        inflate = _inflate(compressor.codec_id, math.prod(array.chunks) * array.dtype.itemsize)
        if inflate is None:
            return None
    fill = array.fill_value
    return ChunkFiles(
        folder,
        array.metadata.encode_chunk_key,
        array.shape,
        tuple(array.chunks),
        np.dtype(facts["dtype"]),
        inflate,
        0 if fill is None else fill,
    )


def _named(codec: Any) -> tuple[str, Mapping[str, Any]]:
    return codec["name"], codec.get("configuration") or {}


def _inflated(steps: Sequence[Inflate], data: Any) -> Any:
    for step in steps:
        data = step(data)
    return data


def _checked(data: Any) -> memoryview:
    """Return bytes without the checksum that ends them, after a look whether it is right."""
    view = memoryview(data).cast("B")
    if view.nbytes < 4 or checksum(bytes(view[:-4])) != view[-4:]:
        raise FormatError("the checksum of a chunk is wrong; it is damaged")
    return view[:-4]


def _inflate(name: str, want: int) -> Inflate | None:
    """Return the function that undoes a codec; `want` is the size of a chunk in bytes."""
    import numcodecs

    from intake_img.formats.omezarr.codecs import checked_blosc

    known: Mapping[str, Inflate] = {
        "blosc": checked_blosc,
        "crc32c": _checked,
        "zstd": numcodecs.zstd.decompress,  # without the checks of `Zstd.decode`, which take a twentieth as long
        "gzip": partial(_deflated, "gzip", numcodecs.GZip().decode, want),
        "zlib": partial(_deflated, "zlib", numcodecs.Zlib().decode, want),
    }
    return known.get(name)


def _deflated(method: str, usual: Inflate, want: int, data: Any) -> Any:
    found = inflated_quickly(data, want, method)
    return usual(data) if found is None else found
