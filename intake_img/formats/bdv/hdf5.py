"""Views in HDF5: ``t00000/s00/0/cells``.

Arrays of int16 mean uint16. They may be links to further files, ``partitions``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from intake_img.formats.base import StoredArray
from intake_img.formats.h5.file import H5File
from intake_img.formats.h5.handle import H5Handle
from intake_img.formats.h5.tree import dataset_at, numbered
from intake_img.storage.files import File

__all__ = ["H5Views"]


class H5Views(H5Handle):
    """Views in an open file. A view's array is called by its path, with the file it is in behind it.

    Attributes
    ----------
    file : File
    present : mapping of (int, int)
        Time points and setups of the views that are there.
    """

    parallel = False

    def __init__(self, file: File) -> None:
        self.file, self.parts = file, dict[str, H5File]()
        super().__init__(file)

    def look(self) -> None:
        self.present = self.h5.run(_groups)

    def factors(self, setup: int) -> list[tuple[float, ...]]:
        """Return of each level how many voxels of the first one it averages, along x, y and z."""
        return self.h5.run(lambda f: _factors(f, setup))

    def meaning(self, stored: np.dtype) -> np.dtype:
        """Return what numbers of a type mean."""
        return np.dtype("u2") if stored == "i2" else stored

    def path(self, time: int, setup: int, level: int) -> str | None:
        """Return how an array is called; None where it is missing."""
        found = self.present.get((time, setup))
        return None if found is None else f"{found[1]}/{level}/cells\0{found[0]}"

    def stored(self, path: str) -> StoredArray:
        inner, _, name = path.partition("\0")
        with self._lock:
            if name and name not in self.parts:
                self.parts[name] = H5File(self.file.sibling(name))
            h5 = self.parts[name] if name else self.h5
        return self.stored_in(h5, inner, path)

    def close(self) -> None:
        super().close()
        for part in self.parts.values():
            part.close()


def _groups(f: Any) -> dict[tuple[int, int], tuple[str, str]]:
    """File ("" for this one) and path of the group of each time point and setup."""
    found = {}
    for t, time in numbered(f, "t"):
        group = f.get(time)
        for s, setup in numbered(group, "s") if hasattr(group, "keys") else []:
            link = group.get(setup, getlink=True)
            external = type(link).__name__ == "ExternalLink"
            found[t, s] = (link.filename, link.path.strip("/")) if external else ("", f"{time}/{setup}")
    return found


def _factors(f: Any, setup: int) -> list[tuple[float, ...]]:
    stated = dataset_at(f, f"s{setup:02d}/resolutions")
    shape = [] if stated is None else list(stated.shape or ())
    if len(shape) != 2 or shape[1] != 3 or shape[0] > 64:
        return [(1.0, 1.0, 1.0)]
    return [tuple(map(float, row)) for row in stated[()].tolist()]
