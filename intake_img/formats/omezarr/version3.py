"""Conversion of array metadata from Zarr format 2 to format 3, for readers that support only format 3."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.model.process_state import quiet

__all__ = ["array_of_version_2"]

_TYPES = ("bool", *(f"{k}int{n}" for k in ("", "u") for n in (8, 16, 32, 64)), "float16", "float32", "float64")
_COMPLEX = ("complex64", "complex128")
_SHUFFLES = {-1: "shuffle", 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


def array_of_version_2(array: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``zarr.json`` of an array; the bytes of its chunks mean the same.

    Parameters
    ----------
    array : mapping
        Its ``.zarray``.
    attributes : mapping
        Its ``.zattrs``; ``_ARRAY_DIMENSIONS`` become the names of the dimensions.

    Raises
    ------
    CannotWriteError
        If format 3 has no such data type or codec, or no installed package provides the codec.
    """
    dtype = np.dtype(array["dtype"]) if isinstance(array["dtype"], str) else None
    if dtype is None or dtype.name not in _TYPES + _COMPLEX:
        raise CannotWriteError(f"has the data type {array['dtype']!r}")
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": array["shape"],
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": array["chunks"]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill_value(array["fill_value"], dtype),
        "codecs": _codecs(array, dtype),
        "attributes": {k: v for k, v in attributes.items() if k != "_ARRAY_DIMENSIONS"},
    }
    names = attributes.get("_ARRAY_DIMENSIONS")
    return document | ({"dimension_names": names} if names else {})


def _fill_value(value: Any, dtype: np.dtype) -> Any:
    if value is None:
        value = [0.0, 0.0] if dtype.kind == "c" else 0
    return {"b": bool, "i": int, "u": int}.get(dtype.kind, lambda v: v)(value)


def _codecs(array: Mapping[str, Any], dtype: np.dtype) -> list[dict[str, Any]]:
    """Return the codecs in the order of encoding: array to array, array to bytes, bytes to bytes."""
    found: dict[str, list[dict[str, Any]]] = {"ArrayArrayCodec": [], "ArrayBytesCodec": [], "BytesBytesCodec": []}
    for codec in (*(array["filters"] or ()), *([array["compressor"]] if array["compressor"] else ())):
        kind, document = _codec(codec, dtype)
        if kind != "BytesBytesCodec" and (found["BytesBytesCodec"] or found["ArrayBytesCodec"]):
            raise CannotWriteError(f"has the codec {codec['id']!r} after one that makes bytes")
        found[kind].append(document)
    if array["order"] == "F":
        if found["ArrayArrayCodec"] or found["ArrayBytesCodec"]:
            raise CannotWriteError("has filters on chunks in Fortran order")
        turned = list(range(len(array["shape"])))[::-1]
        found["ArrayArrayCodec"].append({"name": "transpose", "configuration": {"order": turned}})
    endian = {"endian": "big" if dtype.byteorder == ">" else "little"} if dtype.itemsize > 1 else {}
    found["ArrayBytesCodec"] = found["ArrayBytesCodec"] or [{"name": "bytes", "configuration": endian}]
    return [codec for kind in found.values() for codec in kind]


def _codec(codec: Mapping[str, Any], dtype: np.dtype) -> tuple[str, dict[str, Any]]:
    """Return what a codec is, and its document in format 3."""
    name = codec["id"]
    if name in ("zstd", "imagecodecs_zstd"):
        given = {"level": int(codec.get("level") or 0), "checksum": bool(codec.get("checksum", False))}
        return "BytesBytesCodec", {"name": "zstd", "configuration": given}
    if name == "gzip":
        level = codec["level"] if codec.get("level", -1) in range(10) else 6  # -1: the default of zlib
        return "BytesBytesCodec", {"name": "gzip", "configuration": {"level": level}}
    if name == "blosc":
        given = {k: codec[k] for k in ("cname", "clevel")} | {"blocksize": codec.get("blocksize", 0)}
        shuffle = {"shuffle": _SHUFFLES[codec["shuffle"]], "typesize": dtype.itemsize}
        return "BytesBytesCodec", {"name": "blosc", "configuration": given | shuffle}
    return _found(name, {k: v for k, v in codec.items() if k != "id"})


def _found(name: str, configuration: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Look a codec up among those that zarr-python and imagecodecs bring."""
    from zarr import registry

    key = name
    if name.startswith("imagecodecs_"):
        try:
            module = importlib.import_module("imagecodecs.zarr")
        except ImportError:
            raise CannotWriteError(
                f"has the codec {name!r}, which needs an imagecodecs with codecs for Zarr format 3 (2026.10 or later)"
            ) from None
        module.register_codecs([name.removeprefix("imagecodecs_")], verbose=False)
    else:
        key = f"numcodecs.{name}"
    try:
        with quiet():  # that the names of such codecs are not in the specification
            made = registry.get_codec_class(key).from_dict({"name": key, "configuration": configuration})
    except Exception as exc:  # of a package that may not know the codec, or not with these settings
        raise CannotWriteError(f"has the codec {name!r}: {exc}") from exc
    kinds = {c.__name__ for c in type(made).__mro__}
    kind = next(k for k in ("ArrayArrayCodec", "ArrayBytesCodec", "BytesBytesCodec") if k in kinds)
    return kind, {"configuration": {}, **made.to_dict()}
