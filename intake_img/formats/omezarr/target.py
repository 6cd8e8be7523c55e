"""Stores that are being written: folders and zip files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.omezarr.zips import overwrite_document
from intake_img.storage.files import File
from intake_img.storage.replacing import replace
from intake_img.storage.uploads import upload

__all__ = ["Target", "array_config", "folder_store", "write_document"]

_BLOSC_LIMIT = 2**31 - 17


class Target:
    """A store that is being written: an empty folder, or a zip file.

    In a folder the metadata of groups come last, the root's at the very end: until then nothing takes it for a whole
    store. A zip file cannot be read before it is closed; the root's metadata are its first member (RFC 9 of NGFF).

    Parameters
    ----------
    path : str or File
        An empty folder, the name of a new zip file, or a remote place that is filled where it is.
    zarr_format : int
        2 or 3.
    groups : mapping of str to mapping
        Attributes of every group by its path; ``""`` is the root. Those of a zip file, which come first in it, are
        written again at the end if `groups` changed meanwhile; they may not become longer.
    """

    def __init__(self, path: str | File, zarr_format: Literal[2, 3], groups: Mapping[str, Mapping[str, Any]]) -> None:
        from zarr import storage

        self.file, self.zarr_format = File.parse(path), zarr_format
        self.groups = self._written = groups
        in_place = not self.file.local or os.path.isdir(self.file.path)
        self._zip = None if in_place else storage.ZipStore(self.file.path, mode="w")

    @property
    def in_folder(self) -> bool:
        """Whether several threads may write concurrently: into a folder, not into a zip file."""
        return self._zip is None

    def __enter__(self) -> Target:
        import zarr

        if self._zip is not None:
            for path, attributes in self._sorted():
                zarr.create_group(self._zip, path=path, attributes=dict(attributes), zarr_format=self.zarr_format)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._zip is not None:
            self._zip.close()
            if kind is None and self.groups != self._written:
                self._write_again()
        elif kind is None:
            self._write_groups()

    def create(
        self,
        path: str,
        shape: Sequence[int],
        dtype: Any,
        axes: Sequence[str],
        chunks: tuple[int, ...],
        shards: tuple[int, ...] | None = None,
        compress: Any = None,
        attributes: Mapping[str, Any] | None = None,
        fill: int | None = 0,
        overwrite: bool = False,
    ) -> Any:
        """Return a new array; with `overwrite` in place of one that is there."""
        import zarr

        attributes = dict(attributes or {})
        if self.zarr_format == 3:
            specific: dict[str, Any] = {"dimension_names": tuple(axes)}
        else:
            attributes["_ARRAY_DIMENSIONS"] = list(axes)
            specific = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        kind = np.dtype(dtype).kind
        nbytes = math.prod(chunks) * np.dtype(dtype).itemsize
        # a store for each array: zarr would immediately write the groups between the array and the store's root
        own = None if self._zip else folder_store(self.file / path)
        place: dict[str, Any] = {"store": own or self._zip, **({} if own else {"name": path})}
        return zarr.create_array(
            **place,
            shape=tuple(shape),
            dtype=str if kind in "UTO" else dtype,
            chunks=chunks,
            shards=shards,
            compressors=_compressors(compress, np.dtype(dtype), self.zarr_format, nbytes),
            zarr_format=self.zarr_format,  # type: ignore[arg-type]
            attributes=attributes,
            fill_value=_fill_value(kind, fill, self.zarr_format),
            config=array_config(kind, fill),
            overwrite=overwrite,
            **specific,
        )

    def _sorted(self) -> list[tuple[str, Mapping[str, Any]]]:
        return sorted(self.groups.items(), key=lambda g: (g[0].count("/") + bool(g[0]), g[0]))

    def _write_again(self) -> None:
        for path, attributes in self.groups.items():
            if attributes != self._written[path]:
                name = "/".join(filter(None, (path, "zarr.json" if self.zarr_format == 3 else ".zattrs")))
                overwrite_document(self.file.path, name, partial(self._document, attributes))

    def _document(self, attributes: Mapping[str, Any], old: Any) -> Any:
        return {**old, "attributes": attributes} if self.zarr_format == 3 else attributes

    def _write_groups(self) -> None:
        for path, attributes in reversed(self._sorted()):
            if self.zarr_format == 3:
                files = {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": attributes}}
            else:
                files = {".zattrs": attributes, ".zgroup": {"zarr_format": 2}}
            for name, content in files.items():
                write_document(self.file / path / name if path else self.file / name, content)


def array_config(kind: str, fill: int | None) -> Any:
    """Return how zarr writes an array of a kind of dtype."""
    return {"write_empty_chunks": kind in "fc" or fill is None}  # -0.0 would count as empty


def folder_store(folder: File) -> Any:
    """Return zarr's store of a folder, for writing."""
    from zarr import storage

    if folder.local:
        return storage.LocalStore(folder.path)
    from intake_img.formats.omezarr.remote_store import store_at

    return store_at(storage.FsspecStore, folder)


def write_document(file: File, document: Any) -> None:
    """Write JSON into a store, atomically."""
    content = json.dumps(document, indent=2, ensure_ascii=False).encode()
    if not file.local:
        upload(file, content)
        return
    os.makedirs(file.parent.path, exist_ok=True)
    temporary = f"{file.path}.partial"
    with open(temporary, "wb") as stream:
        stream.write(content)
    replace(temporary, file.path)


def _fill_value(kind: str, fill: int | None, zarr_format: int) -> Any:
    if kind in "UTO":
        return ""
    return None if fill is None and zarr_format == 2 else 0  # format 3 always has one


def _compressors(compress: Any, dtype: np.dtype, zarr_format: int, nbytes: int) -> Any:
    import numcodecs
    import zarr
    import zarr.codecs

    if dtype.kind in "UTO":
        return None
    name = "blosc" if compress is None or compress is True else compress
    if name is False or name == "none":
        return None
    if name == "gzip":
        return zarr.codecs.GzipCodec(level=5) if zarr_format == 3 else numcodecs.GZip(level=5)
    if name == "zstd":
        return zarr.codecs.ZstdCodec(level=3, checksum=True) if zarr_format == 3 else numcodecs.Zstd(3, True)
    inner = {"blosc": "zstd", "lz4": "lz4", "lz4hc": "lz4hc", "zlib": "zlib", "blosclz": "blosclz"}.get(str(name))
    if inner is None:
        raise CannotWriteError(
            f"compress={compress!r}: expected True or 'blosc' (zstd with bit shuffling), False, 'zstd', 'gzip', 'lz4', "
            "'lz4hc', 'zlib' or 'blosclz'"
        )
    if nbytes > _BLOSC_LIMIT:
        raise CannotWriteError(f"a chunk of {nbytes / 2**30:.1f} GiB is too large for blosc: pass smaller chunks=")
    if zarr_format == 3:
        return zarr.codecs.BloscCodec(
            cname=inner,  # type: ignore[arg-type]
            clevel=3,
            shuffle="bitshuffle",
            typesize=dtype.itemsize,
        )
    return numcodecs.Blosc(
        cname=inner,  # type: ignore[arg-type]
        clevel=3,
        shuffle=numcodecs.Blosc.BITSHUFFLE,
    )
