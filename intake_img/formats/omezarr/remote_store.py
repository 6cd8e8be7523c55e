"""Zarr's stores of remote folders and zip files: retries after transient failures, and servers without ranges.

A module of its own because it needs zarr, which is imported only when a store is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import zarr
import zarr.abc.store
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.zip import ZipFileSystem
from zarr import storage

from intake_img.formats.omezarr.keys import is_document
from intake_img.storage.files import File
from intake_img.storage.jail import METADATA_BYTES
from intake_img.storage.locks import ProcessLock
from intake_img.storage.remote import retried_async

__all__ = ["RemoteStore", "RemoteZip", "store_at"]

_TURN = ProcessLock()
_KEPT = 2**27  # bytes of complete shards to cache if ranges are not supported


def store_at(kind: type[storage.FsspecStore], folder: File, read_only: bool = False) -> storage.FsspecStore:
    """Return zarr's store of a remote folder.

    ``from_url`` passes an option on that file systems without asynchronous methods may refuse: these are wrapped here.
    """
    fs, path = folder.filesystem()  # a missing package raises our own error
    if fs.async_impl:
        return kind.from_url(folder.path, storage_options=folder.fsspec_options, read_only=read_only)
    return kind(AsyncFileSystemWrapper(fs, asynchronous=True), path=path, read_only=read_only)


class RemoteStore(storage.FsspecStore):
    """A store that asks again, and cuts ranges out of complete answers where a server ignores ranges.

    Of a metadata document no more than the limit is asked for.
    """

    @contextlib.contextmanager
    def lacking(self, keys: Collection[str]) -> Iterator[None]:
        """Answer without a request within a ``with`` that these files do not exist."""
        counts: Counter[str] = self.__dict__.setdefault("_lacking", Counter())
        with _TURN:
            counts.update(keys)
        try:
            yield
        finally:
            with _TURN:
                counts.subtract(keys)
                for key in keys:
                    if counts[key] <= 0:
                        del counts[key]

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if key in self.__dict__.get("_lacking", ()):
            return None
        if byte_range is None and is_document(key):
            return await self._document(key, prototype)
        kept: OrderedDict[str, Any] = self.__dict__.setdefault("_kept", OrderedDict())
        whole = kept.get(key) if byte_range is not None else None
        if whole is None:
            if isinstance(byte_range, zarr.abc.store.OffsetByteRequest):  # how long its answer should be is not known
                await self.get(key, prototype, zarr.abc.store.RangeByteRequest(0, 1))
            whole = kept.get(key) if key in kept and byte_range else await self._asked(key, prototype, byte_range)
            if whole is None or len(whole) <= _length(byte_range):
                return whole
            kept[key] = whole  # the inner chunks of a shard are asked for one after the other
            while len(kept) > 1 and sum(map(len, kept.values())) > _KEPT:
                kept.popitem(last=False)
        return whole[_span(byte_range, len(whole))]

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> Any:
        return list(await asyncio.gather(*(self.get(key, prototype, byte_range) for key, byte_range in key_ranges)))

    async def _document(self, key: str, prototype: Any) -> Any:
        found = await self._asked(key, prototype, zarr.abc.store.RangeByteRequest(0, METADATA_BYTES + 1))
        if found is not None:
            File(f"{self.path.rstrip('/')}/{key}").check_size(len(found), METADATA_BYTES)
        return found

    async def _asked(self, key: str, prototype: Any, byte_range: Any) -> Any:
        place = f"{self.path.rstrip('/')}/{key}"
        return await retried_async(place, lambda: super(RemoteStore, self).get(key, prototype, byte_range))


def _length(byte_range: Any) -> float:
    """Length of the longest proper answer."""
    if isinstance(byte_range, zarr.abc.store.RangeByteRequest):
        return byte_range.end - byte_range.start
    return byte_range.suffix if isinstance(byte_range, zarr.abc.store.SuffixByteRequest) else math.inf


def _span(byte_range: Any, size: int) -> slice:
    if isinstance(byte_range, zarr.abc.store.RangeByteRequest):
        return slice(byte_range.start, byte_range.end)
    if isinstance(byte_range, zarr.abc.store.OffsetByteRequest):
        return slice(byte_range.offset, size)
    return slice(max(0, size - byte_range.suffix), size)


class RemoteZip(storage.FsspecStore):
    """A zip file on a server."""

    def __init__(self, file: File) -> None:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        self._source = file.open()
        archive = ZipFileSystem(fo=self._source.stream(), skip_instance_cache=True)
        super().__init__(AsyncFileSystemWrapper(archive, asynchronous=True), read_only=True, path="")

    def close(self) -> None:
        super().close()
        self._source.close()
