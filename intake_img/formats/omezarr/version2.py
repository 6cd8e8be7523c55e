"""Conversion of array metadata from Zarr format 3 to format 2, for readers that support only format 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError

__all__ = ["array_of_version_3"]

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def array_of_version_3(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``.zarray`` of an array; the bytes of its chunks mean the same.

    Parameters
    ----------
    document : mapping
        Its ``zarr.json``.

    Raises
    ------
    CannotWriteError
        If format 2 has no such array, e.g. one with shards; the message says what it has.
    """
    if document["chunk_grid"]["name"] != "regular":
        raise CannotWriteError(f"has chunks of the grid {document['chunk_grid']['name']!r}")
    ndim, codecs = len(document["shape"]), [_plain(c) for c in document["codecs"]]
    array: dict[str, Any] = {
        "zarr_format": 2,
        "shape": document["shape"],
        "chunks": document["chunk_grid"]["configuration"]["chunk_shape"],
        "order": "C",
        "compressor": None,
        "filters": None,
        "fill_value": document["fill_value"],
    }
    if codecs and codecs[0]["name"] == "transpose":
        if list(codecs.pop(0)["configuration"]["order"]) != list(range(ndim))[::-1]:
            raise CannotWriteError("has its axes transposed in chunks")
        array["order"] = "F"
    array |= _type(document["data_type"], codecs.pop(0) if codecs else None)
    if len(codecs) > 1:
        raise CannotWriteError(f"has the codecs {_names(codecs)} one after the other")
    return {**array, "compressor": _compressor(codecs[0])} if codecs else array


def _plain(codec: Any) -> dict[str, Any]:
    return {"configuration": {}, **({"name": codec} if isinstance(codec, str) else codec)}


def _type(data_type: Any, codec: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return dtype and filters, by the codec that makes bytes of the samples."""
    name = codec["name"] if codec else None
    if data_type == "string" and name == "vlen-utf8":
        return {"dtype": "|O", "filters": [{"id": "vlen-utf8"}]}
    if name != "bytes" or codec is None:
        raise CannotWriteError("has shards" if name == "sharding_indexed" else f"has the codec {name!r}")
    try:
        dtype = np.dtype(data_type)
    except TypeError:
        raise CannotWriteError(f"has the data type {data_type!r}") from None
    big = codec["configuration"].get("endian") == "big"
    return {"dtype": dtype.newbyteorder(">" if big else "<").str}


def _compressor(codec: Mapping[str, Any]) -> dict[str, Any]:
    name, given = codec["name"], codec["configuration"]
    if name == "blosc":
        shuffle = _SHUFFLES[given["shuffle"]]
        kept = {k: given[k] for k in ("cname", "clevel", "blocksize")}
        return {"id": "blosc", "shuffle": shuffle, **kept}
    if name == "gzip":
        return {"id": "gzip", "level": given["level"]}
    if name == "zstd":
        return {"id": "zstd", "level": given["level"], "checksum": given.get("checksum", False)}
    raise CannotWriteError(f"has the codec {name!r}")


def _names(codecs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(repr(c["name"]) for c in codecs)
