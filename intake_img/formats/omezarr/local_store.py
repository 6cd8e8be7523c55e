"""Zarr's store of a local folder, with the checks for opening files.

A module of its own because it needs zarr, which is imported only when a store is opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zarr import storage

from intake_img.formats.omezarr.keys import is_document
from intake_img.storage.files import File
from intake_img.storage.jail import METADATA_BYTES

__all__ = ["GuardedStore"]


class GuardedStore(storage.LocalStore):
    """A folder that reads only regular files, in the jail of its `file`, and metadata up to a size limit.

    Parameters
    ----------
    file : File
    read_only : bool
    """

    def __init__(self, file: File, *, read_only: bool = True) -> None:
        super().__init__(file.path, read_only=read_only)
        self.file = file

    def with_read_only(self, read_only: bool = False) -> GuardedStore:
        return GuardedStore(self.file, read_only=read_only)

    def _check(self, key: str) -> None:
        (self.file / key).check(METADATA_BYTES if is_document(key) else None)

    def document(self, key: str) -> bytes:
        """Return a metadata file, read without zarr's event loop."""
        return (self.file / key).read(METADATA_BYTES)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        self._check(key)
        return await super().get(key, *args, **kwargs)

    def get_sync(self, key: str, **kwargs: Any) -> Any:
        self._check(key)
        return super().get_sync(key, **kwargs)  # type: ignore[misc, unused-ignore]  # not in every zarr

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> Any:
        ranges = list(key_ranges)
        for key, _ in ranges:
            self._check(key)
        return await super().get_partial_values(prototype, ranges)
