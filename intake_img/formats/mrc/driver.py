"""The format ``mrc``: volumes, images and stacks of electron microscopy, MRC2014 and CCP4, also gzip- or bzip2-packed.

Specification: https://www.ccpem.ac.uk/mrc_format/mrc2014.php; unsigned bytes after IMOD's flag
(https://bio3d.colorado.edu/imod/doc/mrc_format.txt). Nothing is flipped: by convention, y runs upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.compression import level_of_name
from intake_img.formats.format_source import source_of
from intake_img.formats.mrc.header import HEADER, MODES, RECORD, image_of, layout_of, parsed, unsigned
from intake_img.formats.mrc.write import written
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import (
    ArrayHandle,
    packing,
    sample_volume,
    stored_array,
    unpacked,
)
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File
from intake_img.storage.limits import record_limit
from intake_img.storage.streams import write_planes

__all__ = ["Mrc", "MrcSource"]

_BARE = (".mrc", ".mrcs", ".map", ".ccp4", ".st", ".rec", ".ali")


class Mrc(Format):
    """Volume, image or stack in an MRC or CCP4 file."""

    name = "mrc"
    title = "MRC/CCP4"
    extensions = tuple(f"{e}{p}" for p in ("", ".gz", ".bz2") for e in (".mrc", ".mrcs", ".ccp4"))

    def claims(self, probe: Probe) -> int:
        head = probe.inner or probe.head
        small = not head[12:15].strip(b"\0") or not head[13:16].strip(b"\0")  # the mode, in either byte order
        if len(head) < 216 or not small or parsed(head.ljust(1024, b"\0")[:1024]) is None:
            return 0
        return 2 if head[208:212] == b"MAP " else int(probe.name.lower().endswith(_BARE))

    def open(self, file: File, options: NoOptions) -> Handle:
        source = unpacked(file.open())
        header = parsed(source.ranges([0], [1024])[0])
        if header is None:
            raise FormatError(f"{file} does not begin with a header of MRC: sizes, a mode, axes")
        mode, more = int(header["mode"]), max(int(header["nsymbt"]), 0)
        if mode not in MODES:
            raise FormatError(f"{file}: mode {mode} of MRC is not supported; {', '.join(map(str, MODES))} are")
        shape, axes = layout_of(header)
        dtype = np.dtype("u1" if mode == 0 and unsigned(header) else MODES[mode])
        dtype = dtype.newbyteorder("<" if header.dtype == HEADER.newbyteorder("<") else ">")
        stored = stored_array(source, 1024 + more, dtype, shape, alone=True)
        text = b""
        if bytes(header["exttyp"]) == RECORD and more <= record_limit(0):
            text = source.ranges([1024], [more])[0].rstrip(b"\0")
        return ArrayHandle(stored, lambda pixels: image_of(pixels, axes, header, text), source)

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        lead = [a for a in variable.axes if a not in "zyx"]
        return None if len(lead) < 2 else [a for a in variable.axes if a in "zyx"]

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | int | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".mrc",
    ) -> None:
        """Write an image, a volume, or a stack of either.

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. `compress` is the level, 1 to 9, for names that end in ``.gz`` or ``.bz2``.
        name : str
            Name of the target, which says whether and how it is compressed.
        """
        method, level = level_of_name(compress, name, {".gz": "gzip", ".bz2": "bzip2"}, 4)
        pixels, header, record = written(image)
        with packing(path, method, level) as stream:
            stream.write(header.tobytes() + record)
            write_planes(stream, pixels, progress)

    def sample(self, folder: str) -> tuple[str, Any]:
        head = np.zeros((), HEADER.newbyteorder(">"))
        head["n"], head["m"], head["mode"], head["ispg"] = (4, 3, 2), (4, 3, 2), 6, 1
        head["map_axes"], head["cella"], head["map"] = (1, 2, 3), (2, 0.75, 4), b"MAP "
        return sample_volume(f"{folder}/a.mrc", head.tobytes(), unit="Å")


MrcSource = source_of(Mrc())
