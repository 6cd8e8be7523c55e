"""Reading regions of a file by name, through the pool of open files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from intake_img.errors import RemoteError, SourceChangedError
from intake_img.formats.base import Format, Handle, StoredArray
from intake_img.formats.faults import translated_errors
from intake_img.model.chunks import Region
from intake_img.model.pixels import Pixels
from intake_img.storage.byte_readers import closed_on_error
from intake_img.storage.files import File
from intake_img.storage.handles import POOL
from intake_img.storage.remote import noted_failures

__all__ = ["FileReader", "Glance"]

_SMALL = 2**20  # bytes of a region up to which it is copied from a memory map of the file


@dataclass(frozen=True)
class FileReader:
    """Reads regions of one array in a file. It has only names, so it is picklable; the pool opens the file on demand.

    Parameters
    ----------
    format : Format
    file : File
    stamp : tuple
        The stamp of the file when it was opened; see `Format.stamp`.
    address : hashable
        The address of the array in the file, for `Handle.array`.
    options : object
        An instance of `Format.options`.
    """

    format: Format
    file: File
    stamp: tuple[Any, ...]
    address: Any = None
    options: Any = None

    @cached_property
    def key(self) -> tuple[Any, ...]:
        place = self.file.path, repr(self.file.storage_options), self.file.jail  # also refuse what a jail refuses
        return (type(self.format).__qualname__, *place, self.stamp, self.options)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "key"}

    def __dask_tokenize__(self) -> Any:
        *others, options = self.key
        found = (*others, _plain(options), repr(self.address))
        return found if found[-2] is options or self.file.jail is not None else repr(found)  # a text is hashed sooner

    def pixels(self, address: Hashable, array: StoredArray) -> Pixels:
        """Return the unread pixels of an array of the file, which stays open as long as they are used."""
        reader = replace(self, address=address)
        POOL.use(reader.key, reader)
        return Pixels(reader, array.shape, array.dtype, array.tiles, array.parallel and not self.format.serial)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 in out.shape:
            return
        with translated_errors(self.format, self.file):
            if self.file.local:
                self.check()
            with self.lease() as handle:
                array = handle.array(self.address)
                scattered = self.file.local and out.nbytes <= _SMALL and _scattered(out.shape, array.shape)
                view = array.mapped() if scattered else None
                if view is None:
                    array.read_into(region, out)
                else:
                    out[...] = view[region]
            if self.file.local and (self.format.folder or self.format.series):
                self.check()  # it may have been replaced meanwhile, and the files of a folder are opened one by one

    def mapped(self) -> np.ndarray | None:
        """Return the array of the file, memory-mapped and read-only.

        None if it is compressed, remote or not contiguous. Call `check` before reading from it.
        """
        if not self.file.local:
            return None
        with translated_errors(self.format, self.file), self.lease() as handle:
            return handle.array(self.address).mapped()

    def view(self) -> np.ndarray | None:
        """Return the array of `mapped`, after a check of the file, for immediate use."""
        if not self.file.local:
            return None
        with translated_errors(self.format, self.file):
            self.check()
            with self.lease() as handle:
                return handle.array(self.address).mapped()

    def shards(self) -> tuple[int, ...] | None:
        """Return the shape of the shards of the array, if it has shards."""
        with translated_errors(self.format, self.file), self.lease() as handle:
            return handle.array(self.address).shards

    def check(self) -> None:
        """Raise `SourceChangedError` if the file has changed since it was opened."""
        if not self.format.same(self.file, self.stamp):
            raise SourceChangedError(f"{self.file} was changed or replaced since it was opened: load it again")

    def decodes(self) -> bool:
        """Whether parts of tiles cost as much as complete tiles; always true for remote files. See
        `StoredArray.decodes`."""
        if not self.file.local:
            return True
        with translated_errors(self.format, self.file):
            self.check()
            with self.lease() as handle:
                return handle.array(self.address).decodes

    def lease(self) -> contextlib.AbstractContextManager[Handle]:
        """Yield the open file within a ``with``, to one thread at a time if the format requires it."""
        return _InTurn(POOL.lease(self.key, self.opened))

    def first_lease(self) -> contextlib.AbstractContextManager[Handle]:
        """Yield the same of a file whose stamp was taken just now: before it is opened, it is not looked at again."""
        return _InTurn(POOL.lease(self.key, self._checked))

    def opened(self) -> Handle:
        """Return the file, open, past the pool: the caller closes it."""
        self.check()
        return self._checked()

    def _checked(self) -> Handle:
        handle = self.opened_now()
        try:
            if self.file.local:
                self.check()  # it is the file that was found, not one that replaced it before it was opened
        except BaseException:
            handle.close()
            raise
        return handle

    def opened_now(self) -> Handle:
        """Return the same of a file whose stamp was taken just now."""
        with noted_failures() as met, closed_on_error():
            handle = self.format.open(self.file, self.options)
        if met:  # a library ignored a failed read
            handle.close()
            raise RemoteError(met[0])
        handle.reader = replace(self, address=None)  # a copy: the file stays open for as long as `self` lives
        handle.turn = threading.RLock() if self.format.serial else contextlib.nullcontext()
        return handle


class Glance(FileReader):
    """Reader of a file that is open only while its header is looked at.

    Pixels that are read all the same open the file again.
    """

    def pixels(self, address: Hashable, array: StoredArray) -> Pixels:
        reader = replace(self, address=address)
        return Pixels(reader, array.shape, array.dtype, array.tiles, array.parallel and not self.format.serial)


class _InTurn:
    """The lease of a handle, and its turn."""

    __slots__ = ("_lease", "_turn")

    def __init__(self, lease: contextlib.AbstractContextManager[Handle]) -> None:
        self._lease = lease

    def __enter__(self) -> Handle:
        handle = self._lease.__enter__()
        try:
            self._turn = handle.turn
            self._turn.__enter__()
        except BaseException:
            self._lease.__exit__(None, None, None)
            raise
        return handle

    def __exit__(self, *_: object) -> None:
        self._turn.__exit__(None, None, None)
        self._lease.__exit__(None, None, None)


def _scattered(part: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a region of an array in C order is not in one piece."""
    complete = True
    for n, whole in zip(reversed(part), reversed(shape), strict=True):
        if not complete and n > 1:
            return True
        complete = complete and n == whole
    return False


def _plain(options: Any) -> Any:
    """Return options for dask's tokens: their values if these are plain, which are hashed sooner."""
    values = getattr(options, "__dict__", None)
    if values is None or not all(v is None or type(v) in (bool, int, float, str) for v in values.values()):
        return options
    return type(options).__module__, type(options).__qualname__, *values.items()
