"""Writing of Keller Lab Block files: blocks are compressed in threads, the record follows the last one."""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from intake_img.formats.klb.header import BZIP2, PLAIN, ZLIB, fixed_part, header_of
from intake_img.formats.volumes import sealed
from intake_img.model.chunks import regions_of
from intake_img.model.image import Image
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels
from intake_img.storage.streams import Once

__all__ = ["write"]

_BLOCK = (1, 1, 1, 256, 256)
"""Shape of written blocks: in one plane, so that a plane is read without its neighbours."""
_PACK: dict[int, Callable[[bytes], bytes]] = {PLAIN: bytes, BZIP2: bz2.compress, ZLIB: zlib.compress}


def write(image: Image, path: str, packing: int, progress: Callable[[int], None] | None) -> None:
    """Write an image into a file, with a compression of the header's numbers."""
    header = header_of(image, packing, _BLOCK)
    pixels = _five_axes(image, header.dtype.newbyteorder("="))
    axes = [a for a in "tczyx" if a in image.only.axes]
    record = sealed(image.record(axes), fixed_part(header.pack())).encode()
    head = header.pack(len(record))
    ends: list[int] = []
    with open(path, "wb") as stream:
        count = math.prod(-(-n // b) for n, b in zip(pixels.shape, _BLOCK, strict=True))
        stream.write(head + bytes(8 * count))
        for block in _packed(pixels, packing, progress):
            stream.write(block)
            ends.append(len(block) + (ends[-1] if ends else 0))
        stream.write(record)
        stream.seek(len(head))
        stream.write(np.array(ends, "<u8").tobytes())


def _five_axes(image: Image, dtype: np.dtype) -> Pixels:
    """Return the pixels in the order t, c, z, y, x, as values of a type."""
    variable = image.only
    order = [a for a in "tczyx" if a in variable.axes]
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order]).astype(dtype)
    return pixels.reshape([order.index(a) if a in order else None for a in "tczyx"])


def _packed(pixels: Pixels, packing: int, progress: Callable[[int], None] | None) -> Iterator[bytes]:
    """Yield the blocks in their order. Each row of blocks is read at one time, and its blocks are packed in threads."""
    lengths = [tuple(min(b, n - a) for a in range(0, n, b)) for n, b in zip(pixels.shape, _BLOCK, strict=True)]
    cuts = [slice(a, a + _BLOCK[4]) for a in range(0, pixels.shape[4], _BLOCK[4])]
    once = Once(pixels)
    try:
        with ThreadPoolExecutor(cpus(), "intake_img-klb") as pool:
            for region in regions_of((*lengths[:4], pixels.shape[4:])):
                row = np.empty([s.stop - s.start for s in region], pixels.dtype)
                once.read_into(region, row)
                stored = row.astype(row.dtype.newbyteorder("<"), copy=False)
                yield from pool.map(_PACK[packing], [stored[..., cut].tobytes() for cut in cuts])
                if progress is not None:
                    progress(row.nbytes)
    finally:
        once.close()
