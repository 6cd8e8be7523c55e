"""OME-Zarr 0.1 to 0.5, and any other Zarr group or array: folders, zip files and remote stores.

What is recognised, and how it is opened: `handle` keeps a store open; `scenes`, `contents` and `plain_arrays` know what
it contains; `describe` makes images of that; `metadata` spells the metadata; `store` reads chunks. `saving` writes.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from intake_img.formats.base import Handle, NoOptions
from intake_img.formats.format_source import source_of
from intake_img.formats.omezarr.describe import StoreImages
from intake_img.formats.omezarr.keys import METADATA_FILES
from intake_img.formats.omezarr.saving import WritesStores
from intake_img.formats.omezarr.stamps import root_stamp
from intake_img.formats.probe import Probe
from intake_img.storage.files import File

__all__ = ["OmeZarr", "OmeZarrSource"]


class OmeZarr(WritesStores):
    """Image in an OME-Zarr store, or any Zarr group or array: folder, ``.zarr.zip`` or ``.ozx`` file, or URL.

    The URI may also name a group or array inside a store.
    """

    name = "omezarr"
    title = "OME-Zarr"
    extensions = (".ome.zarr", ".zarr", ".zarr.zip", ".ome.zarr.zip", ".ozx")
    starts = (b"PK\x03\x04",)
    folder = True
    archives = (".zarr.zip", ".ome.zarr.zip", ".ozx")
    has_scenes = True
    has_levels = True
    option_docs = {
        "scene": 'Which image, by number or name: a field of a plate (``"B/03/0"``), a series, a multiscale image, a '
        'label image of another resolution (``"labels/nuclei"``); None for the first, ``"all"`` stacks equal ones '
        "on ``i``.",
    }

    def claims(self, probe: Probe) -> int:
        if probe.folder:
            return int(any(probe.holds(name) for name in METADATA_FILES))
        if not probe.head.startswith(b"PK\x03\x04"):
            return 0
        named = probe.name.lower().endswith(self.archives)
        first = probe.head[30 : 30 + int.from_bytes(probe.head[26:28], "little")]
        return int(named or first.rpartition(b"/")[2] in [name.encode() for name in METADATA_FILES])

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when the metadata at the root of the store are written again."""
        return root_stamp(file)

    def open(self, file: File, options: NoOptions) -> Handle:
        return StoreImages(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from intake_img.formats.omezarr.sample import write_sample

        return write_sample(folder)


OmeZarrSource = source_of(OmeZarr())
