"""The pixels of fields whose planes are pages of files: read file by file, with zeros for missing files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intake_img.collections.members import Files, Members
from intake_img.collections.plates.plate_table import Plane
from intake_img.errors import AxesError, FormatError, warn
from intake_img.formats.format_source import FormatSource
from intake_img.model.agreement import facts_of
from intake_img.model.chunks import Region
from intake_img.model.image import Variable
from intake_img.model.pixels import Pixels

__all__ = ["gathered"]

_INNER = "yxs"  # axes of one page


@dataclass(frozen=True, eq=False)
class _Pages(Members):
    """Reads planes that are complete files, or pages of files.

    Parameters
    ----------
    pages : tuple of int
        For each position of the grid the page of its file; empty if the files have a single page.
    outer : tuple of int
        Shape of the page axes of a file.
    lenient : bool
        Fill files that turn out to be missing in a remote store; for local files this is known before.
    """

    pages: tuple[int, ...] = ()
    outer: tuple[int, ...] = ()
    lenient: bool = True

    def _read_member(self, k: int, region: Region, out: np.ndarray) -> None:
        if self.pages:
            index = np.unravel_index(self.pages[k], self.outer)
            region = (*(slice(int(n), int(n) + 1) for n in index), *region)
            out = out[(*(None for _ in index), ...)]
        try:
            super()._read_member(k, region, out)
        except FileNotFoundError:
            if not self.lenient or any(self.stamps[k]):
                raise
            warn(f"{self.files.paths[k]} does not exist: its plane is filled with {self.fill}")
            out[...] = self.fill


def gathered(
    start: FormatSource,
    cells: np.ndarray,
    planes: Sequence[Plane | None],
    paths: Sequence[str],
    axes: Sequence[str],
    known: Sequence[str],
    lenient: bool,
) -> Variable:
    """Return the planes of fields as one variable.

    Parameters
    ----------
    start : FormatSource
        The file that represents all others.
    cells : ndarray of int
        The grid: only its shape is used; `planes` and `paths` are in its C order.
    planes : sequence of Plane or None
    paths : sequence of str
        Empty for a missing file.
    axes : sequence of str
        Axes of the grid.
    known : sequence of str
        Axes with a spacing in the index: files need not agree on it.
    lenient : bool
        See `_Pages`.
    """
    image = start.image()
    name, v = next(iter(image.variables.items()))
    pages, outer = _pages(planes, v, start)
    inner = v.axes[len(outer) :]
    _check_axes(axes, inner, v.pixels.shape[len(outer) :], start)
    everywhere = frozenset(v.axes)
    overruled = {
        "spacing": frozenset(known),
        "spacing_units": frozenset(known),
        "origin": everywhere,
        "coords": everywhere if "c" in axes else frozenset(),
    }
    files = Files(
        tuple(paths),
        str(start.file),
        name,
        start.format,
        v.pixels.shape,
        v.axes,
        v.pixels.dtype,
        (),
        tuple(sorted(start.storage_options.items())),
        tuple(axes),
        facts_of(image, inner),
        overruled,
        start.file.jail,
    )
    fill = np.nan if v.pixels.dtype.kind in "fc" else 0
    reader = _Pages(files, cells.shape, fill, pages=pages, outer=outer, lenient=lenient)
    n = cells.ndim
    tiles = (1,) * n + v.pixels.auto_block()[len(outer) :]
    shape = (*cells.shape, *v.pixels.shape[len(outer) :])
    pixels = Pixels(reader, shape, v.pixels.dtype, tiles, parallel=True, many_files=True)
    kept = [k for k, a in enumerate(inner) if a not in axes]
    pixels = pixels.reshape([*range(n), *(k + n for k in kept)])
    return Variable(pixels, (*axes, *(inner[k] for k in kept)), v.attrs)


def _pages(planes: Sequence[Plane | None], v: Variable, start: FormatSource) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the page of each plane, and the shape of the page axes; empty if there is a single page."""
    pages = [None if p is None else p.page for p in planes]
    if all(page is None for page in pages):
        return (), ()
    outer = tuple(n for a, n in zip(v.axes, v.pixels.shape, strict=True) if a not in _INNER)
    if v.axes[: len(outer)] != tuple(a for a in v.axes if a not in _INNER):
        raise AxesError(f"{start.file} has the axes {''.join(v.axes)}: its pages cannot be counted")
    count = math.prod(outer)
    if most := max((p for p in pages if p is not None and not 0 <= p < count), default=None):
        raise FormatError(f"{start.file} has {count} pages, but the index of the plate names page {most}")
    return tuple(page or 0 for page in pages), outer


def _check_axes(axes: Sequence[str], inner: Sequence[str], shape: Sequence[int], start: FormatSource) -> None:
    doubled = [a for a, n in zip(inner, shape, strict=True) if a in axes and n != 1]
    if doubled:
        raise AxesError(
            f"the index of the plate counts files along {doubled[0]!r}, but {start.file} itself has such an axis: "
            "the index was written for other files"
        )
