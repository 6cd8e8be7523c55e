"""Keller Lab Block: the contract of the format. `handle` reads the blocks of a file, `write` makes them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import xarray as xr

from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.compression import codec_of
from intake_img.formats.format_source import source_of
from intake_img.formats.klb.handle import KlbHandle
from intake_img.formats.klb.header import BZIP2, PLAIN, VERSION, ZLIB, KlbHeader
from intake_img.formats.klb.write import write
from intake_img.formats.probe import Probe
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File

__all__ = ["Klb", "KlbSource"]

_CODECS = {None: BZIP2, True: BZIP2, False: PLAIN, "bzip2": BZIP2, "zlib": ZLIB}


class Klb(Format):
    """Image in a Keller Lab Block file. Axes ``t``, ``c`` and ``z`` of length 1 are left out."""

    name = "klb"
    title = "Keller Lab Block"
    extensions = (".klb",)
    starts = (bytes([VERSION]),)

    def claims(self, probe: Probe) -> int:
        """Claim files of the name alone whose header is possible: the format has no magic bytes."""
        return 2 * (probe.name.lower().endswith(".klb") and probe.head[:1] == bytes([VERSION]))

    def open(self, file: File, options: NoOptions) -> Handle:
        return KlbHandle(file)

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        inner = [a for a in variable.axes if a in "tczyx"]
        return None if len(inner) == len(variable.axes) else inner

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write an image of up to five axes, in blocks that are compressed in threads.

        Other programs find the pixels, and the spacing in µm; the other metadata follow the last block.

        Parameters
        ----------
        image, path, progress
            See `Format.write`.
        compress : bool or {"bzip2", "zlib"}, optional
            ``"bzip2"`` by default, as in the format's own library. ``"zlib"`` is much faster.
        """
        write(image, path, codec_of(compress, _CODECS, "Keller Lab Block"), progress)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(3 * 10 * 13, dtype="<u2").reshape(3, 10, 13) % 50
        blocks = [
            zlib.compress(values[z : z + 2, y : y + 6, x : x + 8].tobytes())
            for z, y, x in product((0, 2), (0, 6), (0, 8))
        ]
        ends = np.cumsum([len(b) for b in blocks]).astype("<u8")
        head = KlbHeader((13, 10, 3, 1, 1), (0.5, 0.5, 2.0, 1.0, 1.0), 1, ZLIB, (8, 6, 2, 1, 1)).pack()
        path = os.path.join(folder, "sample.klb")
        with open(path, "wb") as stream:
            stream.write(head + ends.tobytes() + b"".join(blocks))
        steps = {"z": (3, 2.0), "y": (10, 0.5), "x": (13, 0.5)}
        coords = {a: (a, d * np.arange(n), {"units": "µm", "spacing": d}) for a, (n, d) in steps.items()}
        return path, xr.Dataset({"image": (tuple("zyx"), values)}, coords)


KlbSource = source_of(Klb())
