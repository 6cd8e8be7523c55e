"""NumPy's own files: ``.npy`` (one array) and ``.npz`` (an archive of arrays, which keeps names).

Format: NEP 1, https://numpy.org/neps/nep-0001-npy-format.html. Pickled objects are never loaded.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.compression import codec_of, none_of
from intake_img.formats.format_source import source_of
from intake_img.formats.npy.handle import RECORD, NpyHandle
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File
from intake_img.storage.streams import write_planes

__all__ = ["Npy", "NpySource"]

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_METHODS = {None: _STORED, False: _STORED, True: _DEFLATED, "deflate": _DEFLATED}


class Npy(Format):
    """Image in a ``.npy`` or ``.npz`` file, memory-mapped where it is not compressed.

    The format knows no axes: without ``metadata={"axes": ...}`` an array has the last of the canonical ones (``yx``,
    ``zyx``, ``czyx``, ...). The arrays of an archive are variables of one image; where their lengths contradict
    each other, each is a scene.
    """

    name = "npy"
    title = "NumPy .npy/.npz"
    extensions = (".npy", ".npz")
    pixels_only = (".npy",)
    magic = ((0, b"\x93NUMPY"),)
    starts = (b"\x93NUMPY", b"PK\x03\x04")
    has_scenes = True

    def claims(self, probe: Probe) -> int:
        archive = probe.head[:4] == b"PK\x03\x04" and b".npy" in probe.head[:300]
        return 1 if archive else 2 * super().claims(probe)

    def open(self, file: File, options: NoOptions) -> Handle:
        return NpyHandle(file)

    def many_variables(self, name: str) -> bool:
        return not name.lower().endswith(".npy")

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | str | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".npz",
    ) -> None:
        """Write ``.npz`` (any image, lossless) or ``.npy`` (one array; axes and coordinates have no place in it).

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. `compress` (zip's deflate) is only for ``.npz``.
        name : str
            Name of the target: ``.npy`` or ``.npz``.
        """
        method = codec_of(compress, _METHODS, ".npz")
        if name.lower().endswith(".npy"):
            none_of(compress, ".npy files are not compressed; .npz files are")
            with open(path, "wb") as stream:
                _write_array(stream, image.only.pixels, progress)
            return
        with zipfile.ZipFile(path, "w", method) as archive:
            for key, variable in image.variables.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as stream:
                    _write_array(stream, variable.pixels, progress)
            record = zipfile.ZipInfo(RECORD)  # without the time, so that equal images are equal files
            archive.writestr(record, json.dumps(image.record()), method)


NpySource = source_of(Npy())


def _write_array(stream: Any, pixels: Pixels, progress: Callable[[int], None] | None) -> None:
    header = {"descr": pixels.dtype.str, "fortran_order": False, "shape": pixels.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    write_planes(stream, pixels, progress)
