"""Flat binary files: only the bytes of pixels, with shape and dtype in a file beside them or given by the caller.

The layout of thunder's ``tobinary`` (files ``image-00000.bin`` and one ``conf.json``) is read and written; a file saved
by `imsave` has its own description, ``name.bin.json``, beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, RawArray
from intake_img.formats.compression import none_of
from intake_img.formats.format_source import source_of
from intake_img.formats.options import option
from intake_img.model.axes import default_axes
from intake_img.model.image import Image, Variable
from intake_img.storage.files import File
from intake_img.storage.journal import resolve
from intake_img.storage.streams import write_planes

__all__ = ["Binary", "BinarySource"]


@dataclass(frozen=True)
class BinaryOptions:
    """How the bytes are to be understood."""

    shape: Sequence[int] | None = option(
        None,
        "sequence of int, optional",
        "Shape of the array; by default that of the description beside the file.",
    )
    dtype: Any = option(
        None,
        "str or numpy.dtype, optional",
        'Its type, with byte order, e.g. ``">u2"``; by default that of the description.',
    )
    order: Literal["C", "F"] | None = option(
        None, '"C" or "F", optional', "Whether the last (C, the default) or the first axis varies fastest."
    )
    offset: int | None = option(None, "int, optional", "Number of bytes before the pixels; 0 by default.")
    conf: str = option(
        "conf.json",
        "str",
        "Name of the description in the file's folder, JSON with the keys ``shape`` and ``dtype``, and optionally "
        "``order``, ``offset`` and ``axes``. A file ``<name>.json`` comes first. What it says must not contradict the "
        "arguments.",
    )

    def __post_init__(self) -> None:
        if self.order not in (None, "C", "F"):
            raise ValueError(f"order={self.order!r}: expected 'C' or 'F'")
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.dtype is not None:
            object.__setattr__(self, "dtype", np.dtype(self.dtype).str)
        if self.offset is not None:
            object.__setattr__(self, "offset", int(self.offset))


class _BinaryHandle(Handle):
    """An open file and the array in it, as its description and the options say."""

    def __init__(self, file: File, options: BinaryOptions) -> None:
        self.conf = _description(file, options.conf)
        facts = _agreed(file, self.conf, options)
        if facts["shape"] is None:
            raise FormatError(
                f"{file}: flat binary files do not tell their shape: pass shape=, or put {options.conf} beside it"
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
        return image.restored(self.conf.get("record"))

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

    def companions(self, image: Image, name: str) -> Mapping[str, bytes]:
        v = image.only
        conf = {
            "shape": list(v.pixels.shape),
            "dtype": thunder_dtype(v.pixels.dtype),
            "axes": list(v.axes),
            "record": image.record(),
        }
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
        with open(path, "wb") as stream:
            write_planes(stream, image.only.pixels, progress)


BinarySource = source_of(Binary())


def _agreed(file: File, stated: Mapping[str, Any], options: BinaryOptions) -> dict[str, Any]:
    """Return what the options or the description say, and refuse what they contradict each other in."""
    facts: dict[str, Any] = {k: getattr(options, k) for k in ("shape", "dtype", "order", "offset")}
    stated = {"shape": stated.get("dims"), **stated}  # thunder's older key
    spelling: dict[str, Callable[[Any], Any]] = {"shape": tuple, "dtype": lambda said: np.dtype(said).str}
    for key, given in facts.items():
        if (said := stated.get(key)) is None:
            continue
        said = spelling.get(key, lambda value: value)(said)
        if given is not None and given != said:
            raise FormatError(f"{file}: {key}={given!r} was given, but its description has {said!r}")
        facts[key] = said
    return facts


def thunder_dtype(dtype: np.dtype) -> str:
    return dtype.name if dtype.isnative else dtype.str


def _description(file: File, conf: str) -> dict[str, Any]:
    for candidate in (file.sibling(f"{file.name}.json"), file.sibling(conf)):
        try:
            text = resolve(candidate).read(2**24)
        except FileNotFoundError:
            continue
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise FormatError(f"{candidate}: expected a JSON object with 'shape' and 'dtype'")
        return facts
    return {}
