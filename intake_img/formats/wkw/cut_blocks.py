"""Boxes of blocks of a cube: which a region cuts, their numbers, and the copy of what it cuts, several at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, product

import numpy as np

from intake_img.formats.chunked import Cut, copy_rows

__all__ = ["Box", "Cuts", "boxes", "joined", "numbers_in", "scatter", "within"]

Box = tuple[list[int], list[int], list[int]]
"""Blocks of a cube, by their indices along z, y and x."""
Cuts = Sequence[Mapping[int, Cut]]
"""What a region cuts of blocks, for each of the axes z, y, x and c by their index."""


def within(cuts: Cuts, cube: Sequence[int], per: int) -> list[dict[int, Cut]]:
    """Return the cuts of the blocks of one cube, `per` along each side, by their index in the cube."""
    pairs = zip(cuts, [range(k * per, k * per + per) for k in cube], strict=False)
    return [*({k - own[0]: cut for k, cut in cuts_.items() if k in own} for cuts_, own in pairs), dict(cuts[3])]


def boxes(cuts: Cuts, most: int) -> Iterator[Box]:
    """Divide the blocks of a cube into boxes of at most `most` blocks."""
    z, y, x = map(list, cuts[:3])
    for xs in _split(x, most):
        for ys in _split(y, most // len(xs)):
            for zs in _split(z, most // len(xs) // len(ys)):
                yield zs, ys, xs


def _split(blocks: list[int], most: int) -> list[list[int]]:
    most = max(1, most)
    return [blocks[k : k + most] for k in range(0, len(blocks), most)]


def numbers_in(box: Box) -> list[int]:
    """Return the numbers of the blocks in a box, which are in Morton order in their cube."""
    zs, ys, xs = ([_spread(k) << bit for k in some] for some, bit in zip(box, (2, 1, 0), strict=True))
    return [z | y | x for z in zs for y in ys for x in xs]


@cache
def _spread(k: int) -> int:
    """The bits of a number with two zeros between them."""
    return sum((k >> bit & 1) << 3 * bit for bit in range(k.bit_length()))


def scatter(blocks: np.ndarray, first: int, box: Box, cuts: Cuts, out: np.ndarray) -> None:
    """Copy what is cut of the blocks in a box into `out`: blocks of which the same is cut together.

    Parameters
    ----------
    blocks : ndarray of shape (blocks along z, along y, along x, z, y, x, c)
    first : int
        The first plane of each block that is there.
    box : tuple of list of int
    cuts : sequence of mapping
    out : ndarray of shape (z, y, x, c)
    """
    to_c, in_c = cuts[3][0]
    runs = [_alike(of_axis, some) for of_axis, some in zip(cuts, box, strict=False)]
    for (bz, in_z, to_z), (by, in_y, to_y), (bx, in_x, to_x) in product(*runs):
        planes = slice(in_z.start - first, in_z.stop - first)
        found = blocks[bz, by, bx, planes, in_y, in_x, in_c].transpose(0, 3, 1, 4, 2, 5, 6)
        copy_rows(found, out[to_z, to_y, to_x, to_c].reshape(found.shape))  # a view: axes are divided


def _alike(of_axis: Mapping[int, Cut], blocks: Sequence[int]) -> list[tuple[slice, slice, slice]]:
    """Return successive blocks along an axis, grouped by what is cut of each.

    Returns
    -------
    list of tuple of slice
        Their places in `blocks`, what is cut of each, and where they are in the array of the region.
    """
    found, at = [], 0
    for inside, group in groupby(blocks, key=lambda k: of_axis[k][1]):
        some = list(group)
        found.append((slice(at, at + len(some)), inside, joined(of_axis, some)))
        at += len(some)
    return found


def joined(of_axis: Mapping[int, Cut], blocks: Sequence[int]) -> slice:
    """Return where in the array of a region successive blocks are."""
    return slice(of_axis[blocks[0]][0].start, of_axis[blocks[-1]][0].stop)
