"""An open file of any format in HDF5."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from intake_img.formats.base import Handle, StoredArray
from intake_img.formats.h5.arrays import stored_array
from intake_img.formats.h5.file import H5File
from intake_img.formats.handover import taken
from intake_img.storage.files import File

__all__ = ["H5Handle"]

_OPEN = 16  # datasets that stay open, with their decoded chunks


class H5Handle(Handle):
    """An open HDF5 file. A subclass defines `look`, `scene_names` and `describe`; an address is a path in the file.

    Parameters
    ----------
    file : File
    """

    def __init__(self, file: File) -> None:
        self.h5: H5File = taken(file) or H5File(file)
        self._arrays: OrderedDict[str, StoredArray] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self.look()
        except BaseException:
            self.close()
            raise

    def look(self) -> None:
        """Find out what the file holds."""
        raise NotImplementedError

    def stored(self, path: str) -> StoredArray:
        """Return the array at a path, the same one while it is in use."""
        return self.stored_in(self.h5, path, path)

    def stored_in(self, h5: H5File, path: str, key: str) -> StoredArray:
        """Return the array at a path of another file; `key` distinguishes it from others of this handle."""
        with self._lock:
            found = self._arrays.get(key)
            if found is None:
                found = self._arrays[key] = stored_array(h5, path)
            self._arrays.move_to_end(key)
            while len(self._arrays) > _OPEN:
                self._arrays.popitem(last=False)
        return found

    def array(self, address: Any) -> StoredArray:
        return self.stored(address)

    def close(self) -> None:
        self._arrays.clear()
        self.h5.close()
