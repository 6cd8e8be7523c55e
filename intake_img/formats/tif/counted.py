"""Check of the number of planes in a description (ImageJ, tifffile's JSON, Micro-Manager) against existing planes.

tifffile trusts the description. Where it counts more planes than the file contains, the slowest axis becomes shorter;
where it counts fewer, the user is warned of further pages. Either way the pixels are right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.formats.tif.index import StoredPages

if TYPE_CHECKING:
    import tifffile

__all__ = ["Count", "counted", "interrupted", "planes_held", "shortened", "stack_of", "whole_pages"]


@dataclass(frozen=True)
class Count:
    """The planes that a description counts: tifffile's letters of the axes before those of a page, slowest first."""

    kind: str
    axes: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        sizes = " x ".join(f"{n} {a.lower()}" for a, n in zip(self.axes, self.shape, strict=True) if n > 1)
        return f"{math.prod(self.shape)} planes" + (f" ({sizes})" if sizes else "")


def counted(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> Count | None:
    """Return what the description of `page` counts; None if there is none, or it makes no sense."""
    if page.shaped_description:
        return _shaped(page)
    return _imagej(tif, page) if page is tif.pages.first and tif.is_imagej else None


def _shaped(page: tifffile.TiffPage) -> Count | None:
    try:
        facts = json.loads(str(page.shaped_description))
        shape = tuple(int(n) for n in facts["shape"])
        axes = str(facts.get("axes", ""))
    except (ValueError, TypeError, KeyError):
        return None
    planes, rest = divmod(math.prod(shape), max(math.prod(page.shape), 1))
    if rest or planes < 1 or min(shape) < 1:
        return None
    lead = len(shape) - len(page.shape)
    if lead < 0 or shape[lead:] != tuple(page.shape) or len(axes) != len(shape):
        return Count("shaped", "I", (planes,))
    return Count("shaped", axes[:lead], shape[:lead])


def _imagej(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> Count | None:
    """ImageJ's order of dimensions; colours of a page may be declared as channels."""
    facts = tif.imagej_metadata or {}
    sizes = {"t": facts.get("frames", 1), "z": facts.get("slices", 1), "c": facts.get("channels", 1)}
    if not all(isinstance(n, int) and n > 0 for n in sizes.values()):
        return None
    if sizes["c"] > 1 and sizes["c"] == page.samplesperpixel:
        sizes["c"] = 1
    order = str(facts.get("order", "czt")).lower()[::-1]
    order = order if sorted(order) == ["c", "t", "z"] else "tzc"
    shape = tuple(sizes[a] for a in order)
    return Count("imagej", order.upper(), shape) if math.prod(shape) > 1 else None


def planes_held(tif: tifffile.TiffFile, page: tifffile.TiffPage, need: int, pages: int) -> tuple[int, bool]:
    """Return how many of the planes that a description counts are there.

    Parameters
    ----------
    page : tifffile.TiffPage
        The first page of the stack.
    need : int
        Number of planes that the description counts.
    pages : int
        Number of pages from `page` on.

    Returns
    -------
    planes : int
    piece : bool
        True if they lie in one piece behind the first page's, whatever the further pages say.
    """
    if page.is_final and not page.is_tiled and page.nbytes:
        alone = pages == 1
        end = tif.filehandle.size if alone else int(tif.pages.get(page.index + 1).offset)
        room = max(end - page.dataoffsets[0], 0) // page.nbytes
        if alone or room >= need:
            return min(room, need), True
    return pages, False


def stack_of(tif: tifffile.TiffFile, page: tifffile.TiffPage, count: Count, planes: int, piece: bool) -> StoredPages:
    """Return the first `planes` planes of a stack that begins at `page`: fewer where later pages differ from it."""
    if piece:
        axes, shape = shortened(count.axes, count.shape, planes)
        return StoredPages(axes + page.axes, shape + tuple(page.shape), [page], page, offset=int(page.dataoffsets[0]))
    pages: list[Any] = [page]
    for number in range(page.index + 1, page.index + planes):
        further: Any = tif.pages.get(number)
        if further.hash != page.hash:
            break
        pages.append(further)
    axes, shape = shortened(count.axes, count.shape, len(pages))
    return StoredPages(axes + page.axes, shape + tuple(page.shape), pages, page)


def shortened(axes: str, shape: Sequence[int], planes: int) -> tuple[str, tuple[int, ...]]:
    """Return axes and lengths of a stack cut to its first planes: one axis of planes if the slowest does not divide.

    Examples
    --------
    >>> shortened("TZC", (1, 9, 2), 12)
    ('TZC', (1, 6, 2))
    >>> shortened("TZC", (1, 9, 2), 7)
    ('I', (7,))
    """
    slowest = next((k for k, n in enumerate(shape) if n > 1), 0)
    each = math.prod(shape[slowest + 1 :])
    if not shape or planes % each or planes > math.prod(shape):
        return "I", (planes,)
    return axes, (*shape[:slowest], planes // each, *shape[slowest + 1 :])


def interrupted(tif: tifffile.TiffFile, pages: int) -> StoredPages | None:
    """Return what an interrupted run of Micro-Manager wrote, from what each of its first `pages` pages says of itself.

    None if they do not state it. A plane that is missing in between is None among the pages.
    """
    found: dict[tuple[int, ...], Any] = {}
    for number in range(pages):
        page: Any = tif.pages.get(number)
        facts = page.tags.valueof(51123)
        if not isinstance(facts, dict) or page.hash != tif.pages.first.hash:
            return None
        place = tuple(facts.get(f"{name}Index", 0) for name in ("Frame", "Position", "Slice", "Channel"))
        if not all(isinstance(n, int) and 0 <= n < 10**6 for n in place) or place in found:
            return None
        found[place] = page
    shape = tuple(int(n) + 1 for n in np.max(list(found), axis=0)) if found else ()
    if not found or math.prod(shape) > 100 * len(found):
        return None
    planes = [found.get(place) for place in np.ndindex(shape)]
    key = tif.pages.first
    return StoredPages("TRZC" + key.axes, shape + tuple(key.shape), planes, key)


def whole_pages(tif: tifffile.TiffFile, pages: int) -> int:
    """Return how many of the first `pages` pages, uncompressed, are there to their last byte."""
    for number in range(pages):
        page: Any = tif.pages.get(number)
        if (
            max((a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
            > page.parent.filehandle.size
        ):
            return number
    return pages
