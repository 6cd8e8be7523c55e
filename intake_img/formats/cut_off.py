"""What is left of files that were cut off, for formats that store planes one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from intake_img.errors import FormatError
from intake_img.model.image import Coordinate, Image

__all__ = ["leading_part", "shortened"]


def leading_part(shape: Sequence[int], held: int) -> tuple[int, ...]:
    """Return the shape of the largest part of an array of which only the first elements are there.

    The part begins where the array does, and has complete steps of its outermost axes.

    Parameters
    ----------
    shape : sequence of int
        Of the array, whose elements (such as planes) follow each other in C order.
    held : int
        Number of elements that are there.

    Raises
    ------
    FormatError
        If there are none.

    Examples
    --------
    >>> leading_part((4, 2, 5), 38), leading_part((4, 2, 5), 9), leading_part((4, 2, 5), 3)
    ((3, 2, 5), (1, 1, 5), (1, 1, 3))
    """
    if held < 1:
        raise FormatError("nothing of it is there: it is truncated")
    inner = math.prod(shape)
    ones: list[int] = []
    for k, size in enumerate(shape):
        inner //= max(size, 1)
        if steps := min(held // inner, size) if inner else 0:
            return (*ones, steps, *shape[k + 1 :])
        ones.append(1)
    return tuple(ones)


def shortened(image: Image, sizes: Mapping[str, int]) -> Image:
    """Return the first `sizes` samples of an image along some of its axes; pixels stay unread."""

    def part(axes: Sequence[str]) -> tuple[slice, ...]:
        return tuple(slice(sizes.get(a)) for a in axes)

    variables = {name: replace(v, pixels=v.pixels.select(part(v.axes))) for name, v in image.variables.items()}
    coords = {name: Coordinate(c.axes, c.values[part(c.axes)], c.attrs) for name, c in image.coords.items()}
    return replace(image, variables=variables, coords=coords)
