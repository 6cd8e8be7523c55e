"""Flat binary files: only the bytes of pixels, with shape and dtype in a file beside them or given by the caller.

The layout of thunder's ``tobinary`` (files ``image-00000.bin`` and one ``conf.json``) is read and written; a file saved
by `imsave` has its own description, ``name.bin.json``, beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.base import Format, Handle, RawArray
from intake_img.formats.binary.conf import BinaryOptions, agreed, description, thunder_dtype
from intake_img.formats.compression import none_of
from intake_img.formats.format_source import source_of
from intake_img.model.axes import default_axes
from intake_img.model.image import Image, Variable
from intake_img.model.record import seal_of, unsealed_record
from intake_img.storage.files import File
from intake_img.storage.journal import resolve
from intake_img.storage.streams import write_planes

__all__ = ["Binary", "BinarySource"]


class _BinaryHandle(Handle):
    """An open file and the array in it, as its description and the options say."""

    def __init__(self, file: File, options: BinaryOptions) -> None:
        self.conf = description(file, options.conf)
        facts = agreed(file, self.conf, options)
        if facts["shape"] is None:
            raise FormatError(
                f"{file}: flat binary files do not store their shape: pass shape=, or put {options.conf} beside it"
            )
        shape, dtype = tuple(int(n) for n in facts["shape"]), np.dtype(facts["dtype"] or "int16")
        if not shape or any(n < 0 for n in shape) or dtype.kind not in "biufc":
            raise FormatError(f"{file}: shape {shape} and dtype {dtype} describe no image")
        self.fortran = facts["order"] == "F"
        offset = int(facts["offset"] or 0)
        self.source = resolve(file).open()
        need = offset + math.prod(shape) * dtype.itemsize
        if need != self.source.size:
            raise FormatError(
                f"{file} has {self.source.size} bytes, but shape {shape} of {dtype} at offset {offset} needs {need}"
            )
        self.stored = RawArray(self.source, offset, dtype, shape[::-1] if self.fortran else shape)

    def describe(self, scene: int | str, level: int) -> Image:
        pixels = self.pixels()
        if self.fortran:
            pixels = pixels.transpose(range(pixels.ndim)[::-1])
        axes = self.conf.get("axes")
        if not isinstance(axes, (str, list)) or len(axes) != pixels.ndim:
            axes = default_axes(pixels.ndim)
        header = {k: v for k, v in self.conf.items() if k != "record"}
        image = Image({"image": Variable(pixels, tuple(axes))}, header={"conf": header})
        facts = {key: self.conf.get(key) for key in ("shape", "dtype", "axes")}
        return image.restored(unsealed_record(self.conf.get("record"), facts))

    def array(self, address: None) -> RawArray:
        return self.stored

    def close(self) -> None:
        self.source.close()


class Binary(Format):
    """Image in a flat binary file, memory-mapped.

    Raises
    ------
    FormatError
        If the shape is unknown, or the size of the file is not that of the array.
    """

    name = "binary"
    title = "flat binary"
    extensions = (".bin", ".raw")
    options = BinaryOptions

    def open(self, file: File, options: BinaryOptions) -> Handle:
        return _BinaryHandle(file, options)

    def companions(self, image: Image, name: str, options: Mapping[str, Any]) -> Mapping[str, bytes]:
        v = image.only
        conf: dict[str, Any] = {
            "shape": list(v.pixels.shape),
            "dtype": thunder_dtype(v.pixels.dtype),
            "axes": list(v.axes),
        }
        conf["record"] = {"seal": seal_of(conf), **image.record()}
        return {f"{name}.json": json.dumps(conf, indent=2).encode()}

    def write(
        self, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write the pixels, C-ordered; their description goes beside them (`companions`).

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. Flat binary files are not compressed.
        """
        none_of(compress, "flat binary files are not compressed; .npz and .zarr are")
        if not image.only.axes:
            raise CannotWriteError("flat binary files store arrays, the image is one number: save as .zarr")
        with open(path, "wb") as stream:
            write_planes(stream, image.only.pixels, progress)


BinarySource = source_of(Binary())
