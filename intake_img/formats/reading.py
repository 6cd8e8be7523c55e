"""What is seen of a file before a driver is chosen, and how regions are read through pooled handles."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import RemoteError, SourceChangedError
from intake_img.formats.faults import translated_errors
from intake_img.model.chunks import Region
from intake_img.storage.files import File
from intake_img.storage.handles import POOL
from intake_img.storage.remote import noted_failures

__all__ = ["FileReader", "Probe"]


@dataclass(frozen=True)
class Probe:
    """What is seen of a file before a driver is chosen: its name, its first bytes, whether it is a folder."""

    file: File
    head: bytes
    folder: bool

    @property
    def name(self) -> str:
        return self.file.name

    def holds(self, name: str) -> bool:
        """True if the folder holds a file of that name."""
        return self.folder and (self.file / name).exists()


@dataclass(frozen=True)
class FileReader:
    """Reads regions of one array in a file: names only, so that it pickles; the pool opens the file when it is needed.

    Parameters
    ----------
    driver : type
        Subclass of `ImageSource`.
    file : File
    stamp : tuple
        What the file looked like when it was opened; see `ImageSource.stamp`.
    address : hashable
        Which array of the file: whatever the driver's `read_region` understands.
    options : tuple of (str, object)
        Options of the driver's `open`.
    """

    driver: Any
    file: File
    stamp: tuple[Any, ...]
    address: Any
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> Hashable:
        place = self.file.path, repr(self.file.storage_options), self.file.jail  # what a jail refuses stays refused
        return (self.driver.__qualname__, *place, self.stamp, self.options)

    def __dask_tokenize__(self) -> Any:
        return (self.key, repr(self.address))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 in out.shape:
            return
        with translated_errors(self.driver, self.file):
            if self.file.local:
                self.check()
            with self.lease() as handle:
                self.driver.read_region(handle, self.address, region, out)

    def mapped(self) -> np.ndarray | None:
        """Return the array as it lies in the file, memory-mapped and read-only.

        None where it is compressed, remote or in pieces. Whoever reads from it calls `check` before.
        """
        if not self.file.local:
            return None
        with translated_errors(self.driver, self.file), self.lease() as handle:
            return self.driver.mapped(handle, self.address)

    def shards(self) -> tuple[int, ...] | None:
        """Return the shape of the shards that the array is stored in, if it is."""
        with translated_errors(self.driver, self.file), self.lease() as handle:
            return self.driver.shards(handle, self.address)

    def check(self) -> None:
        """Raise `SourceChangedError` if the file is not the one that was opened."""
        if self.driver.stamp(self.file) != self.stamp:
            raise SourceChangedError(f"{self.file} was changed or replaced since it was opened: load it again")

    def decodes(self) -> bool:
        """Whether parts of tiles cost as much as whole ones; remote bytes always do. See `ImageSource.decodes`."""
        if not self.file.local:
            return True
        with translated_errors(self.driver, self.file):
            self.check()
            with self.lease() as handle:
                return self.driver.decodes(handle, self.address)

    def lease(self) -> contextlib.AbstractContextManager[Any]:
        return POOL.lease(self.key, self._open)

    def _open(self) -> Any:
        self.check()
        with noted_failures() as met:
            handle = self.driver.open(self.file, **dict(self.options))
        if met:  # a library went on without what it could not read
            if hasattr(handle, "close"):
                handle.close()
            raise RemoteError(met[0])
        return handle
