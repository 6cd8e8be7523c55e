"""Opening Zarr arrays with a check of Blosc chunks, since the decoder reads beyond the end of truncated chunks.

Imported where an array is opened, as it imports zarr.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numcodecs
import numcodecs.registry
import zarr
from zarr import codecs, registry

from intake_img.model.process_state import Overlapping, quiet

__all__ = ["CheckedBlosc", "checked_blosc", "opening"]

_HEADER = 16


def _check(chunk: Any) -> None:
    """Compare the length that a chunk states in its header (bytes 12 to 15) with the one that it has."""
    data = memoryview(chunk).cast("B")
    stated = int.from_bytes(data[12:_HEADER], "little")
    if data.nbytes < _HEADER or stated > data.nbytes:
        raise ValueError(
            f"a chunk compressed with Blosc has {data.nbytes} of {stated} bytes: it is truncated or damaged"
        )


def checked_blosc(chunk: Any) -> bytes:
    """Decompress a chunk whose length has been checked."""
    _check(chunk)
    return numcodecs.blosc.decompress(chunk)


class CheckedBlosc(codecs.BloscCodec):
    """The codec ``blosc`` of Zarr format 3, with the length of each chunk checked."""

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        _check(chunk_bytes.as_numpy_array())
        return super()._decode_sync(chunk_bytes, chunk_spec)


class _CheckedNumcodec(numcodecs.Blosc):
    """The compressor ``blosc`` of Zarr format 2, with the length of each chunk checked."""

    codec_id = "blosc"

    def decode(self, buf: Any, out: Any = None) -> Any:
        _check(buf)
        return super().decode(buf, out)


registry.register_codec("blosc", CheckedBlosc)  # beside zarr's own, which stays the default


@contextlib.contextmanager
def _checked_codecs() -> Iterator[None]:
    table = numcodecs.registry.codec_registry
    with zarr.config.set({"codecs.blosc": f"{__name__}.{CheckedBlosc.__qualname__}"}):
        before = table.get("blosc", numcodecs.Blosc)
        table["blosc"] = _CheckedNumcodec
        try:
            yield
        finally:
            table["blosc"] = before


_CHECKED = Overlapping(_checked_codecs)


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """Choose the checked codecs, and silence zarr's warnings about others' dtypes and metadata, while a node is opened.

    Codec tables are global to the process: they are changed while any thread opens a node. No thread waits for another,
    which may wait for a server.
    """
    with _CHECKED, quiet():
        yield
