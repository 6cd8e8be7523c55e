"""The channels that an image is written as."""

from __future__ import annotations

from intake_img.errors import CannotWriteError
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels

__all__ = ["names_of", "planes_of"]

_DTYPES = ("f2", "f4", "u4")


def planes_of(image: Image) -> tuple[Pixels, tuple[str, ...]]:
    """Return the pixels as channels of planes, and the axes of the image in the order in which they are stored."""
    variable = image.only
    sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    spare = [a for a, n in sizes.items() if a not in "cyx" and n != 1]
    if spare or not {"y", "x"} <= set(sizes) or 0 in sizes.values():
        raise CannotWriteError(
            f"OpenEXR stores channels of planes 'cyx', the image has {sizes}: select a plane of it, "
            "or save as .tif or .zarr"
        )
    dtype = variable.pixels.dtype
    if f"{dtype.kind}{dtype.itemsize}" not in _DTYPES:
        raise CannotWriteError(
            f"OpenEXR stores float16, float32 and uint32, the image is {dtype}: cast it with .astype, or save as .tif, "
            "which keeps it"
        )
    order = (*(a for a in sizes if a not in "cyx"), *(a for a in "cyx" if a in sizes))
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order])
    places: list[int | None] = [order.index(a) if a in order else None for a in "cyx"]
    return pixels.astype(dtype.newbyteorder("=")).reshape(places), order


def names_of(image: Image, count: int) -> list[str]:
    names = image.channels if "c" in image.only.axes else None
    if names and len(set(names)) == count and all(n and "\0" not in n and len(n.encode()) < 255 for n in names):
        return list(names)
    return ["Y"] if count == 1 else [f"c{k}" for k in range(count)]
