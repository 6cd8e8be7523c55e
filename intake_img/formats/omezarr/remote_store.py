"""Zarr's stores of remote folders and zip files: further tries after passing failures, and servers without ranges.

A module of its own because it needs zarr, which is imported only when a store is opened.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from fsspec.implementations.zip import ZipFileSystem
from zarr.abc.store import OffsetByteRequest, RangeByteRequest
from zarr.storage import FsspecStore

from intake_img.storage.files import File
from intake_img.storage.remote import retried_async

__all__ = ["RemoteStore", "RemoteZip"]

_KEPT = 2**27  # bytes of complete shards that are kept where there are no ranges


class RemoteStore(FsspecStore):
    """A store that asks again, and cuts ranges out of complete answers where a server ignores ranges."""

    _ranged: bool | None = None  # whether the server answers ranges, once that is known

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if byte_range is None or await self._answers_ranges(key):
            return await self._asked(key, prototype, byte_range)
        whole = await self._kept(key, prototype)
        return None if whole is None else whole[_span(byte_range, len(whole))]

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> Any:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def _asked(self, key: str, prototype: Any, byte_range: Any) -> Any:
        place = f"{self.path.rstrip('/')}/{key}"
        return await retried_async(place, lambda: super(RemoteStore, self).get(key, prototype, byte_range))

    async def _answers_ranges(self, key: str) -> bool:
        if self._ranged is None and not self.path.startswith(("http://", "https://")):
            self._ranged = True
        if self._ranged is None:
            from zarr.core.buffer import default_buffer_prototype

            found = await self._asked(key, default_buffer_prototype(), RangeByteRequest(0, 1))
            if found is None:  # there is no such file
                return True
            self._ranged = len(found) == 1
        return self._ranged

    async def _kept(self, key: str, prototype: Any) -> Any:
        """Return a complete file: the inner chunks of a shard are asked for one after the other."""
        kept: OrderedDict[str, Any] = self.__dict__.setdefault("_whole", OrderedDict())
        if key not in kept:
            kept[key] = await self._asked(key, prototype, None)
            while len(kept) > 1 and sum(len(v) for v in kept.values() if v is not None) > _KEPT:
                kept.popitem(last=False)
        return kept[key]


def _span(byte_range: Any, size: int) -> slice:
    if isinstance(byte_range, RangeByteRequest):
        return slice(byte_range.start, byte_range.end)
    if isinstance(byte_range, OffsetByteRequest):
        return slice(byte_range.offset, size)
    return slice(max(0, size - byte_range.suffix), size)


class RemoteZip(FsspecStore):
    """A zip file on a server."""

    def __init__(self, file: File) -> None:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        self._source = file.open()
        archive = ZipFileSystem(fo=self._source.stream(), skip_instance_cache=True)
        super().__init__(AsyncFileSystemWrapper(archive, asynchronous=True), read_only=True, path="")

    def close(self) -> None:
        super().close()
        self._source.close()
