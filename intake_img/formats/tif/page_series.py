"""Series of pages as tifffile finds them, and pages that no description accounts for, as arrays that can be located.

What the pixels mean is not known here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intake_img.errors import FormatError
from intake_img.formats.tif.index import StoredPages
from intake_img.formats.tif.ome import OmeImage
from intake_img.storage.files import File

if TYPE_CHECKING:
    import tifffile

__all__ = [
    "axis_names",
    "found_series",
    "full_first",
    "led",
    "matched",
    "one_named",
    "plain_pages",
    "pyramids",
    "squeezed",
    "stored_series",
]


def found_series(tif: tifffile.TiffFile) -> list[tuple[Any, str]]:
    """Return tifffile's series, and the axes of each that it does not squeeze out."""
    if not callable(tif.series):  # tifffile before November 2026
        return [(s, s.axes) for s in tif.series]
    every: Any = tif.series
    pairs = zip(every(squeeze=False), every, strict=True)
    return [(s, q.axes) if len(set(s.axes)) == len(s.axes) else (q, q.axes) for s, q in pairs]


def _full(series: Any) -> tuple[str, tuple[int, ...]]:
    """Axes and shape of a series including axes of length 1, if axis names are unique."""
    if not hasattr(series, "get_axes"):
        return series.axes, series.shape
    axes = series.get_axes(False)
    return (axes, series.get_shape(False)) if len(set(axes)) == len(axes) else (series.axes, series.shape)


def pyramids(series: Sequence[tuple[Any, str]]) -> tuple[list[tuple[Any, str]], list[list[Any]]]:
    """Return the series of full resolution, and the reduced ones in their SubIFDs that tifffile does not see as levels.

    tifffile expects that z is reduced along with y and x.
    """
    bases: list[tuple[Any, str]] = []
    levels: list[list[Any]] = []
    for one, kept in series:
        key = one.keyframe
        base = bases[-1][0] if bases and key.is_subifd and key.is_reduced else None
        if (
            base is not None
            and base.keyframe.treeindex[0] == key.treeindex[0]
            and (base.axes, base.dtype) == (one.axes, one.dtype)
            and all(m <= n if a in "YX" else m == n for a, n, m in zip(one.axes, base.shape, one.shape, strict=True))
        ):
            levels[-1].append(one)
        else:
            bases.append((one, kept))
            levels.append([])
    return bases, levels


def matched(series: Sequence[Any], images: Sequence[OmeImage]) -> list[OmeImage | None]:
    """Return the OME image of each series: tifffile leaves out images without data."""
    if len(series) == len(images):
        return list(images)
    left = list(images)
    found: list[OmeImage | None] = []
    for one in series:
        sizes = dict(zip(*_full(one), strict=True))
        fits = [
            im for im in left if all(sizes.get(a.upper(), 1) == n for a, n in im.sizes.items()) and im.name == one.name
        ]
        found.append(fits[0] if fits else None)
        if fits:
            left = left[left.index(fits[0]) + 1 :]
    return found


def stored_series(series: Any, file: File) -> StoredPages:
    """Return what tifffile says of a series, without reading further pages."""
    if getattr(series, "transform", None) is not None:
        raise FormatError(f"{file}: TIFF of the kind {series.kind!r} is not known")
    pages = series._pages
    (axes, shape), key = _full(series), series.keyframe
    offset = None
    if len(pages) == 1 and math.prod(shape) > math.prod(key.shape):
        offset = series.dataoffset
        if offset is None:
            pages = list(series)
    files = None
    if any(p is not None and p.parent is not key.parent for p in pages):
        files = [file if p is None else file.at(p.parent.filehandle.path) for p in pages]
    return StoredPages(axes, shape, pages, key, files, offset)


def squeezed(levels: Sequence[StoredPages], wanted: str) -> list[StoredPages]:
    """Keep the axes `wanted` of every level; the others have length 1."""
    found = []
    for level in levels:
        sizes = dict(zip(level.axes, level.shape, strict=True))
        if len(sizes) == len(level.axes) and all(n == 1 for a, n in sizes.items() if a not in wanted):
            axes = [a for a in level.axes if a in wanted]
            level = replace(level, axes="".join(axes), shape=tuple(sizes[a] for a in axes))
        found.append(level)
    return found


def led(level: StoredPages, lead: Sequence[tuple[str, int]] | None) -> StoredPages:
    """Return an array with other axes of planes; itself where these do not count its pages."""
    count = len(level.pages)
    own = next((k for k in range(len(level.shape)) if math.prod(level.shape[:k]) == count), 0)
    if not lead or count < 2 or not own or math.prod(n for _, n in lead) != count:
        return level
    axes, shape = "".join(a for a, _ in lead), tuple(n for _, n in lead)
    return replace(level, axes=axes + level.axes[own:], shape=shape + level.shape[own:])


def one_named(ome: OmeImage) -> bool:
    """True if the image has one channel, and that a name: then it keeps its axis."""
    return ome.samples == 1 and len(ome.channel_names or ()) == 1


def axis_names(letters: str) -> tuple[str, ...]:
    """Return tifffile's letters as unique names; samples become channels if there are no other channels."""
    names = [a.lower() for a in letters]
    if "s" in names and "c" not in names:
        names[names.index("s")] = "c"
    free: Iterator[str] = itertools.chain("qpomnkjihgfedbauvwrl", (f"q{k}" for k in itertools.count()))
    for k in reversed(range(len(names))):
        if names[k] in names[k + 1 :] or not names[k].isalpha():
            names[k] = next(a for a in free if a not in names)
    return tuple(names)


def full_first(series: Sequence[tuple[Any, str]]) -> list[tuple[Any, str]]:
    """Return the series with thumbnails and other reduced images after the images of full resolution."""
    return sorted(series, key=lambda pair: bool(pair[0].keyframe.is_reduced))


def plain_pages(tif: tifffile.TiffFile, numbers: Iterable[int]) -> list[tuple[list[int], StoredPages]]:
    """Return pages without a description: pages of the same shape and dtype as one array, full resolution first.

    Returns
    -------
    list of (list of int, StoredPages)
        Numbers of the pages, and their array: the leading axis, if there are several, is ``"I"``.
    """
    groups: dict[int, list[tuple[int, tifffile.TiffPage]]] = {}
    for number in numbers:
        page: Any = tif.pages.get(number)
        if page.shape:
            groups.setdefault(page.hash, []).append((number, page))
    found = []
    for group in groups.values():
        pages = [page for _, page in group]
        axes, shape = pages[0].axes, tuple(pages[0].shape)
        if len(pages) > 1:
            axes, shape = "I" + axes, (len(pages), *shape)
        found.append(([number for number, _ in group], StoredPages(axes, shape, pages, pages[0])))
    return sorted(found, key=lambda pair: bool(pair[1].keyframe.is_reduced))
