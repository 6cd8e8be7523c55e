"""Flat binary files: bytes of pixels and nothing else, with their shape and type beside them or given by the caller.

The layout of thunder's ``tobinary`` (files ``image-00000.bin`` and one ``conf.json``) is read and written; a file saved
by `imsave` has its own description, ``name.bin.json``, beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.source import ImageSource
from intake_img.model.axes import CANONICAL
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.storage.files import ByteReader, File
from intake_img.storage.journal import resolve
from intake_img.storage.raw import map_raw, read_raw
from intake_img.storage.streams import iter_planes

__all__ = ["BinarySource"]


@dataclass(frozen=True)
class _Handle:
    source: ByteReader
    shape: tuple[int, ...]
    dtype: np.dtype
    order: str
    offset: int
    conf: Mapping[str, Any]

    def close(self) -> None:
        self.source.close()


class BinarySource(ImageSource):
    """Image in a flat binary file, memory-mapped.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    shape : sequence of int, optional
        Shape of the array; by default what the description beside the file says.
    dtype : str or numpy.dtype, optional
        Its type, with byte order, e.g. ``">u2"``; by default that of the description.
    order : "C" or "F", optional
        Whether the last (C, the default) or the first axis varies fastest.
    offset : int, optional
        Number of bytes before the pixels; 0 by default.
    conf : str
        Name of the description in the file's folder, JSON with the keys ``shape`` and ``dtype``, and optionally
        ``order``, ``offset`` and ``axes``. A file ``<name>.json`` comes first. What it says must not
        contradict the arguments.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units``, ``coords``.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Raises
    ------
    FormatError
        If the shape is unknown, or the size of the file is not that of the array.
    """

    name = "binary"
    format_name = "flat binary"
    extensions = (".bin", ".raw")

    def __init__(
        self,
        uri: Any,
        *,
        shape: Sequence[int] | None = None,
        dtype: Any = None,
        order: str | None = None,
        offset: int | None = None,
        conf: str = "conf.json",
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if order not in (None, "C", "F"):
            raise ValueError(f"order={order!r}: expected 'C' or 'F'")
        super().__init__(
            uri,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
            shape=None if shape is None else tuple(int(n) for n in shape),
            dtype=None if dtype is None else np.dtype(dtype).str,
            order=order,
            offset=None if offset is None else int(offset),
            conf=conf,
        )

    @classmethod
    def open(cls, file: File, *, shape: tuple[int, ...] | None, dtype: str | None,  # type: ignore[override]
             order: str | None,
             offset: int | None, conf: str) -> _Handle:  # fmt: skip
        stated = _description(file, conf)
        file = resolve(file)
        facts: dict[str, Any] = {"shape": shape, "dtype": dtype, "order": order, "offset": offset}
        for key, given in facts.items():
            said = stated.get(key)
            if key == "shape" and said is None and isinstance(stated.get("dims"), list):
                said = stated["dims"]  # thunder's older key
            if said is None:
                continue
            said = tuple(said) if key == "shape" else np.dtype(said).str if key == "dtype" else said
            if given is not None and given != said:
                raise FormatError(f"{file}: {key}={given!r} was given, but its description says {said!r}")
            facts[key] = said
        if facts["shape"] is None:
            raise FormatError(
                f"{file}: flat binary files do not tell their shape: pass shape=, or put {conf} beside it"
            )
        full = tuple(int(n) for n in facts["shape"])
        kind = np.dtype(facts["dtype"] or "int16")
        if not full or any(n < 0 for n in full) or kind.kind not in "biufc":
            raise FormatError(f"{file}: shape {full} and dtype {kind} describe no image")
        handle = _Handle(file.open(), full, kind, facts["order"] or "C", int(facts["offset"] or 0), stated)
        need = handle.offset + math.prod(full) * kind.itemsize
        if need != handle.source.size:
            handle.close()
            raise FormatError(
                f"{file} has {handle.source.size} bytes, but shape {full} of {kind} at offset {handle.offset} "
                f"needs {need}"
            )
        return handle

    def describe_image(self, handle: _Handle, scene: int | str, level: int) -> Image:
        stored = handle.shape[::-1] if handle.order == "F" else handle.shape
        tiles = (1,) * (len(stored) - 1) + stored[-1:]
        pixels = self.pixels(0, stored, handle.dtype, tiles)
        if handle.order == "F":
            pixels = pixels.transpose(range(len(stored))[::-1])
        axes = handle.conf.get("axes")
        if not isinstance(axes, (str, list)) or len(axes) != pixels.ndim:
            axes = CANONICAL[-pixels.ndim :] if pixels.ndim <= len(CANONICAL) else "abdefghjkl"[: pixels.ndim]
        header = {k: v for k, v in handle.conf.items() if k != "record"}
        image = Image({"image": Variable(pixels, tuple(axes))}, header={"conf": header})
        return image.restored(handle.conf.get("record"))

    @classmethod
    def read_region(cls, handle: _Handle, address: Any, region: Region, out: np.ndarray) -> None:
        shape = handle.shape[::-1] if handle.order == "F" else handle.shape
        read_raw(handle.source, handle.offset, handle.dtype, shape, region, out)

    @classmethod
    def mapped(cls, handle: _Handle, address: Any) -> np.ndarray | None:
        shape = handle.shape[::-1] if handle.order == "F" else handle.shape
        return map_raw(handle.source, handle.offset, handle.dtype, shape)

    @classmethod
    def companions(cls, image: Image, name: str) -> Mapping[str, bytes]:
        v = image.only
        conf = {"shape": list(v.pixels.shape), "dtype": thunder_dtype(v.pixels.dtype), "axes": list(v.axes),
                "record": image.record()}  # fmt: skip
        return {f"{name}.json": json.dumps(conf, indent=2).encode()}

    @classmethod
    def write(
        cls, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write the pixels, C-ordered; their description goes beside them (`companions`).

        Parameters
        ----------
        image, path, compress, progress
            See `ImageSource.write`. Flat binary files are not compressed.
        """
        if compress:
            raise CannotWriteError(
                "flat binary files are not compressed: leave out compress=, or save as .npz or .zarr"
            )
        pixels = image.only.pixels
        if pixels.dtype.kind not in "biufc":
            raise CannotWriteError(f"dtype {pixels.dtype} is no image")
        with open(path, "wb") as stream:
            for plane in iter_planes(pixels, min(2, pixels.ndim)):
                stream.write(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data)
                if progress is not None:
                    progress(plane.nbytes)


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
